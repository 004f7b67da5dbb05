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
    """The number of tag sequences, best first; whether to compute probabilities of spans, and of each tag."""

    top_k: int = 1
    confidences: bool = False
    marginals: bool = False


@torch.no_grad()
def decode_tags(
    crf: FastConditionalRandomField,
    labels: Sequence[str],
    to_spans: Callable[[list[str]], list[Span]],
    emissions: torch.Tensor,
    mask: torch.Tensor,
    options: DecodingOptions,
) -> dict[str, Any]:
    """
    Decode emissions (B, T, N) with a mask (B, T), the words of each sentence in front. `labels` are all tags in the
    order of their ids, `to_spans` gives the spans of a tag sequence. All probabilities are relative to the tag
    sequences that the constraints allow.

    Returns a list entry for each sentence: "tags", the ids of its best tags; with `top_k` above 1 "top_k_tags", pairs
    of tag ids and score, and "top_k_probabilities"; "confidences", the probabilities of its spans; "marginals", the
    probability of each tag for each word.
    """
    ranked = crf.viterbi_tags(emissions, cast(torch.BoolTensor, mask), top_k=options.top_k)
    tags: list[list[int]] = [paths[0][0] for paths in cast(Any, ranked)]
    output: dict[str, Any] = {"tags": tags}
    if not (options.top_k > 1 or options.confidences or options.marginals):
        return output
    lengths = mask.sum(1).cpu().numpy()
    arrays = emissions.detach().double().cpu().numpy()
    parts = crf.scores(constrained=True)
    scores = decoding.Scores(*(part.detach().double().cpu().numpy() for part in parts))
    messages = decoding.pass_messages(arrays, lengths, scores)
    if options.top_k > 1:
        output["top_k_tags"] = ranked
        probabilities: list[list[float]] = [[] for _ in tags]
        output["top_k_probabilities"] = probabilities
        for rank in range(max(map(len, ranked), default=0)):
            path = [paths[rank][0] if rank < len(paths) else [] for paths in cast(Any, ranked)]
            exact = decoding.path_scores(arrays, lengths, scores, _padded(path, arrays.shape[1]))
            values = decoding.sequence_probabilities(exact, messages.log_partition).tolist()
            for row, value in enumerate(values):
                probabilities[row] += [value][: len(ranked[row]) - rank]
    if options.marginals:
        marginals = decoding.marginals(arrays, lengths, scores, messages).tolist()
        output["marginals"] = [rows[:length] for rows, length in zip(marginals, lengths)]
    if options.confidences:
        spans = [[(start, end) for _, start, end in to_spans([labels[tag] for tag in row])] for row in tags]
        pairs = [[to_spans([first, second]) for second in labels] for first in labels]
        # Whether the column's tag after the row's tag belongs to the same span, (N, N).
        continues = numpy.array([[(0, 1) in [span[1:] for span in found] for found in row] for row in pairs])
        output["confidences"] = decoding.span_probabilities(
            arrays, lengths, scores, _padded(tags, arrays.shape[1]), spans, continues, messages
        )
    return output


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


def label_encoding_of(tagger: Any) -> str | None:
    """The span encoding of a tagger, if any. AllenNLP's `SimpleTagger` passes it to its metric only."""
    metric = getattr(tagger, "_f1_metric", None)
    return getattr(tagger, "label_encoding", getattr(metric, "_label_encoding", None))


def _padded(rows: Sequence[Sequence[int]], length: int) -> numpy.ndarray:
    """(rows, length), 0 behind the end of each row."""
    tags = numpy.zeros((len(rows), length), numpy.int64)
    for row, values in enumerate(rows):
        tags[row, : len(values)] = values
    return tags
