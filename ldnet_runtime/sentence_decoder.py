"""Decode label scores into tags, spans and probabilities."""

import contextlib
from collections.abc import Sequence

import numpy
from numpy.typing import NDArray

from ldnet_runtime import decoding
from ldnet_runtime.decoding import Floats, Integers, Scores
from ldnet_runtime.prediction import Decoded, Options, Ranked
from ldnet_runtime.tag_schemes import OUTSIDE, UnreadableTag, canonical_encoding, spans_from_tags


class SentenceDecoder:
    """
    Decodes emissions into tags, spans and probabilities.

    # Parameters

    labels : `Sequence[str]`
        The N labels in the order of their ids.
    label_encoding : `str`, optional
        The span encoding of the labels; without one there are no spans.
    scores : `Scores`
        Transition scores, without the constraints.
    allowed : `NDArray[numpy.bool_]`, optional
        (N + 2, N + 2), see `Scores.restricted`.
    never_spans : `Sequence[str]`, optional
        Labels that are never part of a span, such as boundary tags.
    """

    def __init__(
        self,
        labels: Sequence[str],
        label_encoding: str | None,
        scores: Scores,
        allowed: NDArray[numpy.bool_] | None = None,
        never_spans: Sequence[str] = (),
    ) -> None:
        self.labels = list(labels)
        self.label_encoding = label_encoding
        self._scores = scores
        self._allowed = allowed
        self._restricted = scores.restricted(allowed)
        # AllenNLP adds the last two to some label vocabularies.
        self._never_spans = frozenset(never_spans) | {"@@PADDING@@", "@@UNKNOWN@@"}
        self._continues = self._continuations()

    def spans(self, tags: Sequence[str]) -> list[tuple[str, int, int]]:
        """The label, first and last word of each span of a tag sequence."""
        if self.label_encoding is None:
            return []
        if not self._never_spans.isdisjoint(tags):
            tags = [OUTSIDE if tag in self._never_spans else tag for tag in tags]
        return list(spans_from_tags(tags, self.label_encoding))

    @property
    def span_types(self) -> list[str]:
        """The types of all spans that the labels can form."""
        types: set[str] = set()
        for label in self.labels:
            with contextlib.suppress(UnreadableTag):  # a label that is never predicted
                types.update(span[0] for span in self.spans([label]))
        return sorted(types)

    def decode(self, emissions: Floats, lengths: Integers, options: Options) -> list[Decoded]:
        """
        # Parameters

        emissions : `Floats`
            (B, T, N)
        lengths : `Integers`
            (B,)
        options : `Options`

        # Returns

        `list[Decoded]`
            One for each sentence.
        """
        ranks = max(options.n_best, 1)
        ids, path_scores = decoding.decode(emissions, lengths, self._scores, self._allowed, ranks)
        of_sentences = [row[:length].tolist() for row, length in zip(ids[:, 0], lengths)]
        tags = [[self.labels[number] for number in row] for row in of_sentences]
        spans = [self.spans(row) for row in tags]
        wanted = options.confidences and any(spans)
        messages = None
        if wanted or options.marginals or options.n_best:
            messages = decoding.pass_messages(emissions, lengths, self._restricted)
        confidences: list[list[float | None]] = [[None] * len(row) for row in spans]
        if wanted:
            places = [[(start, last) for _, start, last in row] for row in spans]
            found = decoding.span_probabilities(
                emissions, lengths, self._restricted, ids[:, 0], places, self._continues, messages
            )
            confidences = [list(row) for row in found]
        n_best: list[list[Ranked]] = [[] for _ in tags]
        if options.n_best and messages is not None:
            n_best = self._ranked(emissions, lengths, ids, path_scores, messages.log_partition)
        marginals: list[list[dict[str, float]]] = [[] for _ in tags]
        if options.marginals:
            table = decoding.marginals(emissions, lengths, self._restricted, messages)
            marginals = [
                [dict(zip(self.labels, word)) for word in row[:length].tolist()]
                for row, length in zip(table, lengths)
            ]
        return [
            Decoded(
                tags[row],
                [
                    (label, start, last + 1, confidence)
                    for (label, start, last), confidence in zip(spans[row], confidences[row])
                ],
                n_best[row],
                marginals[row],
            )
            for row in range(len(tags))
        ]

    def _ranked(
        self,
        emissions: Floats,
        lengths: Integers,
        ids: Integers,
        path_scores: Floats,
        log_partition: NDArray[numpy.float64],
    ) -> list[list[Ranked]]:
        ranked: list[list[Ranked]] = [[] for _ in ids]
        for rank in range(ids.shape[1]):
            exact = decoding.path_scores(emissions, lengths, self._scores, ids[:, rank])
            probabilities = decoding.sequence_probabilities(exact, log_partition).tolist()
            for row, score in enumerate(path_scores[:, rank].tolist()):
                if rank == 0 or score != -numpy.inf:
                    tags = [self.labels[number] for number in ids[row, rank, : lengths[row]]]
                    ranked[row].append(Ranked(tags, score, probabilities[row]))
        return ranked

    def _continuations(self) -> NDArray[numpy.bool_]:
        """Return whether the column's label after the row's label belongs to the same span, (N, N)."""
        size = len(self.labels)
        if self.label_encoding is None:
            return numpy.zeros((size, size), numpy.bool_)
        opens, goes_on, kinds = (
            numpy.zeros(size, bool),
            numpy.zeros(size, bool),
            numpy.zeros(size, numpy.int64),
        )
        numbers: dict[str, int] = {}
        for number, label in enumerate(self.labels):
            try:
                of_one = self.spans([label])
                of_two = self.spans([label, label])
            except UnreadableTag:
                continue  # a label that is never predicted
            if of_one:
                kinds[number] = numbers.setdefault(of_one[0][0], len(numbers))
                opens[number], goes_on[number] = _role(label, of_two, canonical_encoding(self.label_encoding))
        return opens[:, None] & goes_on & (kinds[:, None] == kinds)


def _role(label: str, of_two: list[tuple[str, int, int]], encoding: str) -> tuple[bool, bool]:
    """Return whether a span is open after a label, and whether the label can continue an open span."""
    if len(of_two) == 1:  # I, M, or a bare type
        return True, True
    letter = "" if encoding == "BARE" else label.partition("-")[0]
    return letter == "B", letter in ("E", "L")
