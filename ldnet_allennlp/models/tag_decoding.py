"""Decode emission scores into tags and their probabilities."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy
import torch

from ldnet_allennlp.modules.crf.conditional_random_field import FastConditionalRandomField
from ldnet_runtime import decoding
from ldnet_runtime.tag_schemes import Span


@dataclass(frozen=True)
class DecodingOptions:
    """
    Options of the decoding besides the best tags.

    # Parameters

    top_k : `int`, optional (default = `1`)
        The number of tag sequences, best first.
    confidences : `bool`, optional (default = `False`)
        Whether to compute the probability of each span of the best tags.
    marginals : `bool`, optional (default = `False`)
        Whether to compute the probability of each tag for each word.
    """

    top_k: int = 1
    confidences: bool = False
    marginals: bool = False


class TagDecoder:
    """
    Decodes the emissions of a CRF. All probabilities are relative to the tag sequences that the constraints allow.

    # Parameters

    crf : `FastConditionalRandomField`
    labels : `Sequence[str]`
        All tags in the order of their ids.
    spans : `Callable[[list[str]], list[Span]]`
        The spans of a tag sequence.
    """

    def __init__(
        self,
        crf: FastConditionalRandomField,
        labels: Sequence[str],
        spans: Callable[[list[str]], list[Span]],
    ) -> None:
        self._crf = crf
        self._labels = labels
        self._spans = spans

    @torch.no_grad()
    def decode(self, emissions: torch.Tensor, mask: torch.Tensor, options: DecodingOptions) -> dict[str, Any]:
        """
        # Parameters

        emissions : `torch.Tensor`
            (B, T, N)
        mask : `torch.Tensor`
            (B, T), the words of each sentence in front.

        # Returns

        `dict[str, Any]`
            A list entry for each sentence: "tags", the ids of its best tags; with `top_k` above 1 "top_k_tags", pairs
            of tag ids and score, and "top_k_probabilities"; "confidences", the probabilities of its spans;
            "marginals", the probability of each tag for each word.
        """
        ranked = self._crf.viterbi_tags(emissions, cast(torch.BoolTensor, mask), top_k=options.top_k)
        tags: list[list[int]] = [paths[0][0] for paths in cast(Any, ranked)]
        output: dict[str, Any] = {"tags": tags}
        if not (options.top_k > 1 or options.confidences or options.marginals):
            return output
        lengths = mask.sum(1).cpu().numpy()
        arrays = emissions.detach().double().cpu().numpy()
        parts = self._crf.scores(constrained=True)
        scores = decoding.Scores(*(part.detach().double().cpu().numpy() for part in parts))
        messages = decoding.pass_messages(arrays, lengths, scores)
        if options.top_k > 1:
            output["top_k_tags"] = ranked
            output["top_k_probabilities"] = self._sequence_probabilities(
                ranked, arrays, lengths, scores, messages.log_partition
            )
        if options.marginals:
            marginals = decoding.marginals(arrays, lengths, scores, messages).tolist()
            output["marginals"] = [rows[:length] for rows, length in zip(marginals, lengths)]
        if options.confidences:
            spans = [
                [(start, end) for _, start, end in self._spans([self._labels[tag] for tag in row])]
                for row in tags
            ]
            output["confidences"] = decoding.span_probabilities(
                arrays, lengths, scores, _padded(tags, arrays.shape[1]), spans, self.continues(), messages
            )
        return output

    def continues(self) -> numpy.ndarray:
        """Return whether the column's tag after the row's tag belongs to the same span, (N, N)."""
        labels = self._labels
        return numpy.array(
            [[(0, 1) in [span[1:] for span in self._spans([a, b])] for b in labels] for a in labels]
        )

    @staticmethod
    def _sequence_probabilities(
        ranked: Sequence[Any],
        emissions: numpy.ndarray,
        lengths: numpy.ndarray,
        scores: decoding.Scores,
        log_partition: numpy.ndarray,
    ) -> list[list[float]]:
        probabilities: list[list[float]] = [[] for _ in ranked]
        for rank in range(max(map(len, ranked), default=0)):
            rows = [row for row, paths in enumerate(ranked) if rank < len(paths)]
            tags = _padded([ranked[row][rank][0] for row in rows], emissions.shape[1])
            path_scores = decoding.path_scores(emissions[rows], lengths[rows], scores, tags)
            values = decoding.sequence_probabilities(path_scores, log_partition[rows])
            for row, value in zip(rows, values.tolist()):
                probabilities[row].append(value)
        return probabilities


def add_labels_to_probabilities(output: dict[str, Any], labels: Sequence[str]) -> None:
    """
    Make the probabilities in a tagger's output readable, in place: `marginals` become a dictionary from tag to
    probability a word, and the sequences of `top_k_tags` get their "probability".
    """
    if "marginals" in output:
        output["marginals"] = [
            [dict(zip(labels, probabilities)) for probabilities in sentence]
            for sentence in output["marginals"]
        ]
    if "top_k_tags" in output:
        for ranked, probabilities in zip(output["top_k_tags"], output.pop("top_k_probabilities")):
            for entry, probability in zip(ranked, probabilities):
                entry["probability"] = probability


def _padded(rows: Sequence[Sequence[int]], length: int) -> numpy.ndarray:
    """(rows, length), 0 behind the end of each row."""
    tags = numpy.zeros((len(rows), length), numpy.int64)
    for row, values in enumerate(rows):
        tags[row, : len(values)] = values
    return tags
