"""
Decoding of tie-or-break scores in numpy (AutoNER; Shang et al. 2018, arXiv 1809.03599).

A sentence of T words has T + 1 gaps, including those before its first and after its last word, which are always breaks.
A chunk is a run of words between two breaks. It has one of K types, or none (type 0).

The scores (B, T, M) of words are those of gaps, split into the parts of the words on both sides. M = 2 (1 + 2 (K + 1)):
the part of the word after the gap, and that of the word before it. Each part is the log-odds of a break, the scores of
the types of the chunk that begins at the gap, and those of the chunk that ends at the gap. The scores of a chunk's
types are the sum of those of its two gaps.
"""

from collections.abc import Sequence

import numpy
from numpy.typing import NDArray

from ldnet_runtime.decoding.scores import Floats, Integers
from ldnet_runtime.errors import InputError
from ldnet_runtime.prediction import Decoded, Options
from ldnet_runtime.tag_schemes import (
    OUTSIDE,
    canonical_encoding,
    join_tag,
    letter_of,
    split_tag,
    tags_from_spans,
)

CHUNK_ENCODINGS = ("BIO", "BIOUL", "IOBES", "BMES")
"""Encodings in which every sequence of chunks has its own tags."""

_ROLES = "BIES"
_MAX_CELLS = 2**22  # of the chunks of a sentence and their types


def chunk_types(labels: Sequence[str]) -> list[str]:
    """The K types of labels, in the order of their first occurrence."""
    parts = [split_tag(label) for label in labels]
    return list(dict.fromkeys(part[1] for part in parts if part is not None and part[0] != OUTSIDE))


def num_chunk_scores(labels: Sequence[str]) -> int:
    """The number of scores of a word."""
    return 2 * (1 + 2 * (len(chunk_types(labels)) + 1))


class ChunkDecoder:
    """
    Decodes the scores of a "tie_or_break_tagger". A gap whose log-odds are above 0 is a break, and a chunk has its most
    probable type. The confidence of a span is the product of the probabilities of its gaps and of its type.

    # Parameters

    labels : `Sequence[str]`
        All tags in the order of their ids.
    label_encoding : `str`
        One of `CHUNK_ENCODINGS`.

    Raises `ValueError` for another encoding.
    """

    def __init__(self, labels: Sequence[str], label_encoding: str) -> None:
        self.labels = list(labels)
        self.label_encoding = canonical_encoding(label_encoding)
        if self.label_encoding not in CHUNK_ENCODINGS:
            raise ValueError(
                f"The label encoding of a tie-or-break tagger is {label_encoding}; expected one of "
                f"{', '.join(CHUNK_ENCODINGS)}."
            )
        self.types = chunk_types(labels)

    @property
    def span_types(self) -> list[str]:
        """The types of all spans."""
        return sorted(self.types)

    def decode(self, emissions: Floats, lengths: Integers, options: Options) -> list[Decoded]:
        """
        # Parameters

        emissions : `Floats`
            (B, T, M), see the module.
        lengths : `Integers`
            (B,)
        options : `Options`

        # Returns

        `list[Decoded]`
            One for each sentence.

        Raises `InputError` if the options ask for the n best sequences, or for the marginals of a very long sentence.
        """
        if options.n_best:
            raise InputError("n_best is for taggers with a CRF, but this is a tie-or-break tagger.")
        lengths = numpy.asarray(lengths)
        gaps = gap_scores(emissions, lengths)
        rows, starts, ends = chunks(gaps, lengths)
        types = self._type_scores(gaps[rows, starts], gaps[rows, ends])
        best = types.argmax(-1)
        confidences: list[float | None] = [None] * len(best)
        if options.confidences:
            log_break, ties = _log_probabilities(gaps, lengths)
            total = (
                log_break[rows, starts] + log_break[rows, ends] + ties[rows, ends] - ties[rows, starts + 1]
            )
            confidences = numpy.exp(total + types[numpy.arange(len(best)), best]).tolist()
        spans: list[list[tuple[str, int, int, float | None]]] = [[] for _ in lengths]
        for number in best.nonzero()[0].tolist():
            name = self.types[best[number] - 1]
            span = name, int(starts[number]), int(ends[number]), confidences[number]
            spans[rows[number]].append(span)
        return [
            Decoded(
                tags_from_spans(
                    [(name, start, end - 1) for name, start, end, _ in of_one],
                    int(length),
                    self.label_encoding,
                ),
                of_one,
                marginals=self._marginals(gaps[row, : length + 1]) if options.marginals else [],
            )
            for row, (of_one, length) in enumerate(zip(spans, lengths))
        ]

    def _type_scores(self, start: Floats, end: Floats) -> Floats:
        """The log-probabilities (..., K + 1) of the types of chunks between gaps with these scores (..., G)."""
        size = len(self.types) + 1
        scores = start[..., 1 : 1 + size] + end[..., 1 + size :]
        scores = scores - scores.max(-1, keepdims=True)
        return scores - numpy.log(numpy.exp(scores).sum(-1, keepdims=True))

    def _marginals(self, gaps: Floats) -> list[dict[str, float]]:
        """The probability of each tag for each word of a sentence with the gaps (T + 1, G), over all its chunks."""
        size = len(gaps) - 1
        cells = size * size * (len(self.types) + 1)
        if cells > _MAX_CELLS:
            raise InputError(
                f"the marginals of a sentence of {size:,} words need {cells:,} probabilities; the limit is "
                f"{_MAX_CELLS:,}."
            )
        log_break, ties = (part[0] for part in _log_probabilities(gaps[None], numpy.array([size])))
        # Of a chunk from word s to word e and its type, (T, T, K + 1). Cells with s > e are not part of any sum below;
        # the minimum keeps them from overflowing.
        of_chunks = log_break[:-1, None] + log_break[None, 1:] + ties[None, 1:] - ties[1:, None]
        types = self._type_scores(gaps[:-1, None], gaps[None, 1:])
        chunk = numpy.exp(numpy.minimum(of_chunks, 0.0)[..., None] + types)
        around = chunk[:, ::-1].cumsum(1)[:, ::-1].cumsum(0)  # begins at s or before and ends at e or later
        word = numpy.arange(size)
        roles = {role: numpy.zeros((size, len(self.types) + 1)) for role in _ROLES}
        roles["S"] = chunk[word, word]
        roles["B"][:-1] = numpy.cumsum(chunk[:, ::-1], 1)[:, ::-1][word[:-1], word[1:]]
        roles["E"][1:] = numpy.cumsum(chunk, 0)[word[:-1], word[1:]]
        roles["I"][1:-1] = around[word[:-2], word[2:]] if size > 2 else 0.0
        table = {label: numpy.zeros(size) for label in self.labels}
        table[OUTSIDE] = around[word, word, 0]
        for number, name in enumerate(self.types, 1):
            for role, probabilities in roles.items():
                table[join_tag(letter_of(role, self.label_encoding), name)] += probabilities[:, number]
        return [{label: float(table[label][step]) for label in self.labels} for step in range(size)]


def gap_scores(emissions: Floats, lengths: Integers) -> NDArray[numpy.float64]:
    """The scores (B, T + 1, M / 2) of the gaps, 0 beyond a sentence's last gap."""
    rows, steps, size = emissions.shape
    exists = numpy.arange(steps) < lengths[:, None]
    words = numpy.where(exists[..., None], emissions, 0.0).astype(numpy.float64)
    gaps = numpy.zeros((rows, steps + 1, size // 2))
    gaps[:, :-1] += words[..., : size // 2]
    gaps[:, 1:] += words[..., size // 2 :]
    return gaps


def chunks(gaps: Floats, lengths: Integers) -> tuple[Integers, Integers, Integers]:
    """The sentence, first gap and last gap of each chunk, in order."""
    places = numpy.arange(gaps.shape[1])
    is_break = gaps[..., 0] > 0
    is_break[:, 0] = True
    is_break |= places == lengths[:, None]
    rows, breaks = is_break.nonzero()
    same = rows[:-1] == rows[1:]
    return rows[:-1][same], breaks[:-1][same], breaks[1:][same]


def _log_probabilities(gaps: Floats, lengths: Integers) -> tuple[Floats, Floats]:
    """The log-probability of a break at each gap, and the sums of those of ties at the gaps before it, (B, T + 1)."""
    odds = gaps[..., 0]
    places = numpy.arange(odds.shape[1])
    inside = (places > 0) & (places < lengths[:, None])
    log_break = numpy.where(inside, -numpy.logaddexp(0.0, -odds), 0.0)
    log_tie = numpy.where(inside, -numpy.logaddexp(0.0, odds), 0.0)
    return log_break, numpy.cumsum(log_tie, 1) - log_tie
