"""Predictions of a tagger."""

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple


@dataclass(frozen=True)
class Options:
    """
    Options of a call: results besides tags and spans.

    # Parameters

    n_best : `int`, optional (default = `0`)
        The number of best tag sequences; fewer if constraints allow fewer.
    marginals : `bool`, optional (default = `False`)
        Whether to compute the probability of each label for each word.
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
    text, and its probability, if confidences are requested.
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
        The text, or the words joined by blanks.
    words, tags : `list[str]`
        The words and their tags.
    starts, ends : `list[int]`
        The offsets of the words in the text.
    spans : `list[Span]`
    sentences : `list[tuple[int, int]]`
        The words [start, end) of each sentence.
    n_best : `list[Ranked]`
        If requested, the best tag sequences of the whole text, best first.
    marginals : `list[dict[str, float]]`
        If requested, the probability of each label, for each word.
    has_text : `bool`
        Whether the input was a text, not words.
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
        """The JSON form; `options` select the entries."""
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


def prediction(
    words: list[str],
    decoded: Sequence[Decoded],
    text: str | None = None,
    offsets: tuple[list[int], list[int]] | None = None,
    n_best: int = 0,
) -> Prediction:
    """
    Merge the sentences of one input.

    # Parameters

    words : `list[str]`
        The words of all sentences.
    decoded : `Sequence[Decoded]`
    text : `str`, optional
        The text; `offsets` are the starts and ends of the words.
    n_best : `int`, optional (default = `0`)
        The number of tag sequences of the whole input.
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
    best: list[tuple[Any, float, float]] = [((), 0.0, 1.0)]
    for ranked in of_sentences:
        # The pair (i, j), counted from 1, is not among the best k if i * j > k.
        pairs = ((one, other) for i, one in enumerate(best, 1) for other in ranked[: k // i])
        highest = heapq.nlargest(k, pairs, key=lambda pair: pair[0][1] + pair[1].score)
        best = [
            ((chain, other.tags), score + other.score, probability * other.probability)
            for (chain, score, probability), other in highest
        ]
    return [Ranked(_joined(chain), score, probability) for chain, score, probability in best]


def _joined(chain: Any) -> list[str]:
    """The tags of a chain: the chain of the sentences before, and the tags of the last one."""
    parts = []
    while chain:
        chain, tags = chain
        parts.append(tags)
    return [tag for tags in reversed(parts) for tag in tags]


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
