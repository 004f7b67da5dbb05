"""Error analysis: compare predicted spans with gold spans, with counts and confidences per kind of mistake."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

TYPE, BOUNDARY, BOTH, SPURIOUS, MISSED = "type", "boundary", "type and boundary", "spurious", "missed"
KINDS = (TYPE, BOUNDARY, BOTH, SPURIOUS, MISSED)
_NUM_BINS = 10


class Span(NamedTuple):
    """A span of words; `end` is the position of its last word."""

    type: str
    start: int
    end: int
    confidence: float | None = None

    @property
    def place(self) -> tuple[int, int]:
        """Start and end."""
        return self.start, self.end

    def overlap(self, other: "Span") -> int:
        """The number of shared words of two spans."""
        return max(0, min(self.end, other.end) - max(self.start, other.start) + 1)


class TaggedSentence(NamedTuple):
    """A sentence with gold and predicted spans."""

    words: list[str]
    gold: list[Span]
    predicted: list[Span]


class Mistake(NamedTuple):
    """A wrong predicted span, a missed gold span, or an overlapping pair of both."""

    kind: str
    words: list[str]
    gold: Span | None
    predicted: Span | None

    @property
    def confidence(self) -> float:
        """Confidence of the predicted span; -1 without one."""
        return (
            -1.0 if self.predicted is None or self.predicted.confidence is None else self.predicted.confidence
        )


class Bin(NamedTuple):
    """The predicted spans in a range of confidences."""

    low: float
    high: float
    num_spans: int
    mean_confidence: float
    precision: float


class Scores(NamedTuple):
    """Counts of spans, of one type or all types."""

    correct: int
    predicted: int
    gold: int

    @property
    def precision(self) -> float:
        """The share of the predicted spans that are correct."""
        return self.correct / self.predicted if self.predicted else 0.0

    @property
    def recall(self) -> float:
        """The share of the gold spans that are predicted."""
        return self.correct / self.gold if self.gold else 0.0

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall."""
        return 2 * self.correct / (self.predicted + self.gold) if self.predicted + self.gold else 0.0


class ErrorReport(NamedTuple):
    """The result of `find_errors`."""

    num_sentences: int
    scores: dict[str, Scores]
    """By type, in alphabetical order, and under "" of all types together."""
    confusion: Counter[tuple[str, str]]
    """Counts of (gold type, predicted type) for spans with the same boundaries or an overlap. "" means no span."""
    boundaries: Counter[str]
    """Of boundary errors: how the predicted span differs from the gold one."""
    mistakes: list[Mistake]
    """The most confident first; missed spans last."""
    calibration: list[Bin]
    """Without empty bins."""

    @property
    def calibration_error(self) -> float | None:
        """The expected calibration error; `None` without confidences."""
        total = sum(bin.num_spans for bin in self.calibration)
        if not total:
            return None
        return (
            sum(bin.num_spans * abs(bin.precision - bin.mean_confidence) for bin in self.calibration) / total
        )

    def kinds(self) -> dict[str, int]:
        """The number of mistakes per kind."""
        counts = Counter(mistake.kind for mistake in self.mistakes)
        return {kind: counts[kind] for kind in KINDS}


def find_errors(sentences: Sequence[TaggedSentence]) -> ErrorReport:
    """
    Classify the mistakes of a tagger. Each wrong predicted span is paired with a missed gold span: with the same
    boundaries, or else with the largest overlap. All others are spurious or missed.
    """
    counts: dict[str, list[int]] = {}
    confusion: Counter[tuple[str, str]] = Counter()
    boundaries: Counter[str] = Counter()
    mistakes: list[Mistake] = []
    rated: list[tuple[float, bool]] = []
    for sentence in sentences:
        correct = {span[:3] for span in sentence.gold} & {span[:3] for span in sentence.predicted}
        for column, spans in enumerate((correct, sentence.predicted, sentence.gold)):
            for span in spans:
                for name in (str(span[0]), ""):
                    counts.setdefault(name, [0, 0, 0])[column] += 1
        confusion.update((span[0], span[0]) for span in correct)
        rated += [
            (span.confidence, span[:3] in correct)
            for span in sentence.predicted
            if span.confidence is not None
        ]
        for mistake in _mistakes(sentence, correct):
            mistakes.append(mistake)
            gold, predicted = mistake.gold, mistake.predicted
            confusion[gold.type if gold else "", predicted.type if predicted else ""] += 1
            if mistake.kind == BOUNDARY and gold and predicted:
                boundaries[_boundary_error(gold, predicted)] += 1
    mistakes.sort(key=lambda mistake: -mistake.confidence)
    scores = {name: Scores(*counts[name]) for name in sorted(counts)}
    scores.setdefault("", Scores(0, 0, 0))
    return ErrorReport(len(sentences), scores, confusion, boundaries, mistakes, _calibration(rated))


def _mistakes(sentence: TaggedSentence, correct: set[tuple]) -> list[Mistake]:
    missed = [span for span in sentence.gold if span[:3] not in correct]
    wrong = [span for span in sentence.predicted if span[:3] not in correct]
    pairs = sorted(
        (gold.place != span.place, -gold.overlap(span), g, w)
        for g, gold in enumerate(missed)
        for w, span in enumerate(wrong)
        if gold.overlap(span)
    )
    mistakes: list[Mistake] = []
    paired_gold: set[int] = set()
    paired_wrong: set[int] = set()
    for differs, _, g, w in pairs:
        if g in paired_gold or w in paired_wrong:
            continue
        paired_gold.add(g)
        paired_wrong.add(w)
        same_type = missed[g].type == wrong[w].type
        kind = TYPE if not differs else BOUNDARY if same_type else BOTH
        mistakes.append(Mistake(kind, sentence.words, missed[g], wrong[w]))
    mistakes += [
        Mistake(SPURIOUS, sentence.words, None, span) for w, span in enumerate(wrong) if w not in paired_wrong
    ]
    mistakes += [
        Mistake(MISSED, sentence.words, span, None) for g, span in enumerate(missed) if g not in paired_gold
    ]
    return mistakes


def _boundary_error(gold: Span, predicted: Span) -> str:
    starts = {-1: "starts too early", 0: "", 1: "starts too late"}
    ends = {-1: "ends too early", 0: "", 1: "ends too late"}
    start = starts[(predicted.start > gold.start) - (predicted.start < gold.start)]
    end = ends[(predicted.end > gold.end) - (predicted.end < gold.end)]
    return ", ".join(part for part in (start, end) if part)


def _calibration(rated: list[tuple[float, bool]]) -> list[Bin]:
    """Bins of equal width."""
    bins = []
    for number in range(_NUM_BINS):
        members = [
            (confidence, is_correct)
            for confidence, is_correct in rated
            if min(int(confidence * _NUM_BINS), _NUM_BINS - 1) == number
        ]
        if members:
            bins.append(
                Bin(
                    number / _NUM_BINS,
                    (number + 1) / _NUM_BINS,
                    len(members),
                    sum(confidence for confidence, _ in members) / len(members),
                    sum(is_correct for _, is_correct in members) / len(members),
                )
            )
    return bins
