"""Align character spans with words: boundaries within words, overlapping spans, spans across sentences."""

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Sequence

from ldnet_allennlp.common.lines import excerpt
from ldnet_allennlp.data.annotated.documents import CharSpan, DocumentError
from ldnet_runtime.tag_schemes import Span
from ldnet_runtime.text import Sentence

ON_UNALIGNED = ("move", "drop", "error")
ON_OVERLAPPING = ("longest", "shortest", "drop", "error")

MOVED = "spans moved to word boundaries"
UNALIGNED = "spans that are not at word boundaries"
OVERLAPPING = "overlapping spans"
JOINED = "sentences joined, as a span crosses their border"


class SpanAligner:
    """
    Converts character spans to spans of words, and counts moved, dropped and joined spans in `counts`. The options are
    those of the "annotated_jsonl" reader. If one is "error", `align` raises `DocumentError`.
    """

    def __init__(self, on_unaligned_spans: str, on_overlapping_spans: str, counts: Counter) -> None:
        self._on_unaligned = on_unaligned_spans
        self._on_overlapping = on_overlapping_spans
        self._counts = counts

    def align(
        self, text: str, sentences: Sequence[Sentence], spans: Sequence[CharSpan]
    ) -> list[tuple[Sentence, list[Span]]]:
        """
        Sentences, joined where a span crosses their border, with their spans in words (end inclusive), in order,
        without overlap. Spans that touch no word are dropped, or an error.
        """
        joined = self._joined(sentences, spans)
        starts = [sentence.starts[0] for sentence in joined]
        aligned: list[list[Span]] = [[] for _ in joined]
        for span in spans:
            # No span crosses a border, so it is in the last sentence that starts before its end.
            number = bisect_left(starts, span.end) - 1
            if number >= 0 and _words(joined[number], span):
                aligned[number] += self._align(text, joined[number], span)
            elif self._on_unaligned == "error":
                raise DocumentError(f"found the span {tuple(span)} without a word, expected spans of words")
            else:
                self._counts[UNALIGNED] += 1
        spans_of = [self._without_overlap(text, *pair) for pair in zip(joined, aligned, strict=True)]
        return list(zip(joined, spans_of, strict=True))

    def _joined(self, sentences: Sequence[Sentence], spans: Sequence[CharSpan]) -> list[Sentence]:
        firsts = [sentence.starts[0] for sentence in sentences]
        lasts = [sentence.ends[-1] for sentence in sentences]
        crossed = {
            number
            for span in spans
            for number in range(bisect_right(lasts, span.start) + 1, bisect_left(firsts, span.end))
        }
        joined: list[Sentence] = []
        for number, sentence in enumerate(sentences):
            if number in crossed:
                words, starts, ends = joined[-1]
                joined[-1] = Sentence(words + sentence.words, starts + sentence.starts, ends + sentence.ends)
            else:
                joined.append(sentence)
        self._counts[JOINED] += len(crossed)
        return joined

    def _align(self, text: str, sentence: Sentence, span: CharSpan) -> list[Span]:
        words = _words(sentence, span)
        first, last = words[0], words[-1]
        start, end = sentence.starts[first], sentence.ends[last]
        if text[span.start : span.end].strip() != text[start:end]:
            if self._on_unaligned == "error":
                raise DocumentError(
                    f"found the span {tuple(span)} at {excerpt(text[span.start : span.end])}, expected word boundaries "
                    f"such as {excerpt(text[start:end])} ({start} to {end}); on_unaligned_spans 'move' or 'drop'"
                )
            self._counts[MOVED if self._on_unaligned == "move" else UNALIGNED] += 1
            if self._on_unaligned == "drop":
                return []
        return [(span.label, first, last)]

    def _without_overlap(self, text: str, sentence: Sentence, spans: list[Span]) -> list[Span]:
        sign = -1 if self._on_overlapping == "longest" else 1
        free: list[Span] = []
        for span in sorted(dict.fromkeys(spans), key=lambda span: sign * (span[2] - span[1])):
            rivals = [other for other in free if _overlap(span, other)]
            if not rivals:
                free.append(span)
                continue
            if self._on_overlapping == "error":
                places = [
                    excerpt(text[sentence.starts[first] : sentence.ends[last]])
                    for _, first, last in (rivals[0], span)
                ]
                raise DocumentError(
                    f"found overlapping spans, {rivals[0][0]} at {places[0]} and {span[0]} at {places[1]}, expected "
                    f"none; on_overlapping_spans 'longest', 'shortest' or 'drop'"
                )
            self._counts[OVERLAPPING] += 1
        if self._on_overlapping == "drop":
            lone = [span for span in free if sum(_overlap(span, other) for other in set(spans)) == 1]
            self._counts[OVERLAPPING] += len(free) - len(lone)
            free = lone
        return sorted(free, key=lambda span: span[1])


def _words(sentence: Sentence, span: CharSpan) -> range:
    """The words that a span touches."""
    return range(bisect_right(sentence.ends, span.start), bisect_left(sentence.starts, span.end))


def _overlap(one: Span, other: Span) -> bool:
    return one[1] <= other[2] and other[1] <= one[2]
