"""What a tagger gives out, and how it is made of a graph's scores."""

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy
from numpy.typing import NDArray

from ldnet_runtime import decoding
from ldnet_runtime.decoding import Floats, Integers, Scores
from ldnet_runtime.tag_schemes import OUTSIDE, UnreadableTag, canonical_encoding, spans_from_tags


@dataclass(frozen=True)
class Options:
    """
    What a call wants to know beside tags and spans.

    # Parameters

    n_best : `int`, optional (default = `0`)
        How many of the best tag sequences; fewer where fewer are allowed.
    marginals : `bool`, optional (default = `False`)
        Whether the probability of each label for each word is wanted.
    confidences : `bool`, optional (default = `True`)
        Whether spans have a confidence: their probability, see `decoding.span_probabilities`.

    Raises `ValueError` if `n_best` is negative.
    """

    n_best: int = 0
    marginals: bool = False
    confidences: bool = True

    def __post_init__(self) -> None:
        if self.n_best < 0:
            raise ValueError(f"n_best is {self.n_best}; expected 0 or more.")


class Ranked(NamedTuple):
    """One of the best tag sequences."""

    tags: list[str]
    score: float
    probability: float


@dataclass(frozen=True)
class Decoded:
    """The tags of one sentence: its spans as (label, first word, word after the last, confidence)."""

    tags: list[str]
    spans: list[tuple[str, int, int, float | None]]
    n_best: list[Ranked] = field(default_factory=list)
    marginals: list[dict[str, float]] = field(default_factory=list)


class Span(NamedTuple):
    """
    An entity: its text and label, the words [start, end), the characters [start_char, end_char) of the prediction's
    text, and its probability, where confidences were asked for.
    """

    text: str
    label: str
    start: int
    end: int
    start_char: int
    end_char: int
    confidence: float | None = None


@dataclass(frozen=True)
class Prediction:
    """
    The tags of a text or of a list of words. Iterating gives its spans.

    # Parameters

    text : `str`
        The text; of words, these with blanks between them.
    words, tags : `list[str]`
        One tag a word.
    starts, ends : `list[int]`
        Where each word stands in the text.
    spans : `list[Span]`
    sentences : `list[tuple[int, int]]`
        The words [start, end) of each sentence.
    n_best : `list[Ranked]`
        If asked for, the best tag sequences of the whole text, best first.
    marginals : `list[dict[str, float]]`
        If asked for, a probability for each label, for each word.
    has_text : `bool`
        Whether a text was given, and not words.
    """

    text: str
    words: list[str]
    tags: list[str]
    starts: list[int]
    ends: list[int]
    spans: list[Span]
    sentences: list[tuple[int, int]]
    n_best: list[Ranked] = field(default_factory=list)
    marginals: list[dict[str, float]] = field(default_factory=list)
    has_text: bool = True

    def __iter__(self) -> Iterator[Span]:
        return iter(self.spans)

    def to_json(self, options: Options | None = None) -> dict[str, Any]:
        """The JSON form; `options` say which entries there are."""
        options = options or Options()
        output: dict[str, Any] = {"text": self.text} if self.has_text else {}
        output.update(words=self.words, tags=self.tags, spans=[_span_json(span) for span in self.spans])
        if len(self.sentences) > 1:
            output["sentences"] = [list(sentence) for sentence in self.sentences]
        if options.n_best:
            output["n_best"] = [ranked._asdict() for ranked in self.n_best]
        if options.marginals:
            output["marginals"] = self.marginals
        return output


class SentenceDecoder:
    """
    Makes tags, spans and probabilities of emissions.

    # Parameters

    labels : `Sequence[str]`
        The N labels in the order of their ids.
    label_encoding : `str`, optional
        Their span encoding; without one there are no spans.
    scores : `Scores`
        Of transitions, without the constraints.
    allowed : `NDArray[numpy.bool_]`, optional
        (N + 2, N + 2), see `Scores.restricted`.
    never_spans : `Sequence[str]`, optional
        Labels that are no part of a span: boundary tags, which a word may have.
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
        self._never_spans = frozenset(never_spans)
        self._continues = self._continuations()

    def spans(self, tags: Sequence[str]) -> list[tuple[str, int, int]]:
        """The label, first and last word of each span of a tag sequence."""
        if self.label_encoding is None:
            return []
        if self._never_spans:
            tags = [OUTSIDE if tag in self._never_spans else tag for tag in tags]
        return list(spans_from_tags(tags, self.label_encoding))

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
        """Whether the column's label after the row's label belongs to the same span, (N, N)."""
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
    """Whether a span is open after a label, and whether the label may go on with an open one."""
    if len(of_two) == 1:  # I, M, or a bare type
        return True, True
    letter = "" if encoding == "BARE" else label.partition("-")[0]
    return letter == "B", letter in ("E", "L")


def prediction(
    words: list[str],
    decoded: Sequence[Decoded],
    text: str | None = None,
    offsets: tuple[list[int], list[int]] | None = None,
    n_best: int = 0,
) -> Prediction:
    """
    Puts the sentences of one input together again.

    # Parameters

    words : `list[str]`
        Of all sentences.
    decoded : `Sequence[Decoded]`
    text : `str`, optional
        Of which `offsets` are the words' starts and ends.
    n_best : `int`, optional (default = `0`)
        How many tag sequences of the whole input to give.
    """
    has_text = text is not None and offsets is not None
    if text is None or offsets is None:
        text, offsets = " ".join(words), _joined_offsets(words)
    starts, ends = offsets
    tags: list[str] = []
    spans, marginals, sentences = [], [], []
    for sentence in decoded:
        shift = len(tags)
        for label, start, end, confidence in sentence.spans:
            place = starts[start + shift], ends[end + shift - 1]
            surface = text[place[0] : place[1]]
            spans.append(Span(surface, label, start + shift, end + shift, *place, confidence))
        tags += sentence.tags
        marginals += sentence.marginals
        sentences.append((shift, len(tags)))
    ranked = _best_combinations([sentence.n_best for sentence in decoded], n_best)
    return Prediction(text, words, tags, starts, ends, spans, sentences, ranked, marginals, has_text)


def _joined_offsets(words: Sequence[str]) -> tuple[list[int], list[int]]:
    starts, ends, position = [], [], 0
    for word in words:
        starts.append(position)
        ends.append(position + len(word))
        position += len(word) + 1
    return starts, ends


def _best_combinations(of_sentences: Sequence[list[Ranked]], k: int) -> list[Ranked]:
    """The k best tag sequences of a text whose sentences are independent of each other."""
    if k == 0 or not of_sentences:
        return []
    best = of_sentences[0][:k]
    for ranked in of_sentences[1:]:
        pairs = ((one, other) for one in best for other in ranked)
        highest = heapq.nlargest(k, pairs, key=lambda pair: pair[0].score + pair[1].score)
        best = [
            Ranked(one.tags + other.tags, one.score + other.score, one.probability * other.probability)
            for one, other in highest
        ]
    return best


def _span_json(span: Span) -> Mapping[str, Any]:
    output = {
        "type": span.label,
        "start": span.start,
        "end": span.end,
        "start_char": span.start_char,
        "end_char": span.end_char,
        "text": span.text,
    }
    if span.confidence is not None:
        output["confidence"] = span.confidence
    return output
