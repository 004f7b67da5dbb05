"""Error analysis: compare predicted spans with gold spans, with counts and confidences per kind of mistake."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from allennlp.common.checks import ConfigurationError
from allennlp.models.archival import Archive

from ldnet_allennlp.commands.sentences import labeled_sentences
from ldnet_allennlp.models.tag_decoding import label_encoding_of
from ldnet_allennlp.predictors.ldnet_tagger import LdnetTaggerPredictor
from ldnet_runtime.tag_schemes import spans_from_tags

TYPE, BOUNDARY, BOTH, SPURIOUS, MISSED = "type", "boundary", "type and boundary", "spurious", "missed"
KINDS = (TYPE, BOUNDARY, BOTH, SPURIOUS, MISSED)
_NUM_BINS = 10
_AT_ONCE = 1024  # sentences


class Span(NamedTuple):
    """A span of words; `end` is the position of its last word."""

    type: str
    start: int
    end: int
    confidence: float | None = None

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
        confidence = None if self.predicted is None else self.predicted.confidence
        return -1.0 if confidence is None else confidence


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
        gaps = (bin.num_spans * abs(bin.precision - bin.mean_confidence) for bin in self.calibration)
        return sum(gaps) / total if total else None

    def kinds(self) -> dict[str, int]:
        """The number of mistakes per kind."""
        counts = Counter(mistake.kind for mistake in self.mistakes)
        return {kind: counts[kind] for kind in KINDS}


def tagged_sentences(archive: Archive, path: str, source: str) -> list[TaggedSentence]:
    """
    Tag the sentences of a file with gold tags, read by the tagger's reader. `source` is the path of the archive.

    Raises `ConfigurationError` if the model has no spans, or if the file has no tags.
    """
    model = archive.model
    encoding = label_encoding_of(model)
    if encoding is None:
        raise ConfigurationError(
            f"--errors compares spans, but the {type(model).__name__} of '{source}' has no label_encoding."
        )
    labeled = labeled_sentences(archive, path, "--errors")
    predictor = LdnetTaggerPredictor(model, archive.validation_dataset_reader)
    sentences = []
    for start in range(0, len(labeled), _AT_ONCE):
        batch = labeled[start : start + _AT_ONCE]
        outputs = predictor.predict_batch_json([{"tokens": words} for words, _ in batch])
        for (words, tags), output in zip(batch, outputs):
            gold = [Span(*span) for span in spans_from_tags(tags, encoding)]
            predicted = [
                Span(span["type"], span["start"], span["end"] - 1, span.get("confidence"))
                for span in output["spans"]
            ]
            sentences.append(TaggedSentence(words, gold, predicted))
    return sentences


def find_errors(sentences: Sequence[TaggedSentence]) -> ErrorReport:
    """
    Classify the mistakes of a tagger. Each wrong predicted span is paired with a missed gold span: with the same
    boundaries, or else with the largest overlap. All others are spurious or missed.
    """
    counts: dict[str, Counter[str]] = {part: Counter() for part in Scores._fields}
    confusion: Counter[tuple[str, str]] = Counter()
    boundaries: Counter[str] = Counter()
    mistakes: list[Mistake] = []
    rated: list[tuple[float, bool]] = []
    for sentence in sentences:
        correct = {span[:3] for span in sentence.gold} & {span[:3] for span in sentence.predicted}
        parts: tuple[Iterable[tuple], ...] = (correct, sentence.predicted, sentence.gold)
        for counter, spans in zip(counts.values(), parts):
            for span in spans:
                counter.update([span[0], ""])
        confusion.update((span[0], span[0]) for span in correct)
        rated += [(s.confidence, s[:3] in correct) for s in sentence.predicted if s.confidence is not None]
        for mistake in _mistakes(sentence, correct):
            mistakes.append(mistake)
            gold, predicted = mistake.gold, mistake.predicted
            confusion[gold.type if gold else "", predicted.type if predicted else ""] += 1
            if mistake.kind == BOUNDARY and gold and predicted:
                boundaries[_boundary_error(gold, predicted)] += 1
    mistakes.sort(key=lambda mistake: -mistake.confidence)
    names = sorted({"", *(name for counter in counts.values() for name in counter)})
    scores = {name: Scores(*(counter[name] for counter in counts.values())) for name in names}
    return ErrorReport(len(sentences), scores, confusion, boundaries, mistakes, _calibration(rated))


def _mistakes(sentence: TaggedSentence, correct: set[tuple]) -> list[Mistake]:
    missed: list[Span | None] = [span for span in sentence.gold if span[:3] not in correct]
    wrong: list[Span | None] = [span for span in sentence.predicted if span[:3] not in correct]
    pairs = sorted(
        (gold[1:3] != span[1:3], -gold.overlap(span), g, w)
        for g, gold in enumerate(missed)
        for w, span in enumerate(wrong)
        if gold and span and gold.overlap(span)
    )
    mistakes: list[Mistake] = []
    for differs, _, g, w in pairs:
        gold, span = missed[g], wrong[w]
        if gold and span:
            kind = TYPE if not differs else BOUNDARY if gold.type == span.type else BOTH
            mistakes.append(Mistake(kind, sentence.words, gold, span))
            missed[g] = wrong[w] = None
    mistakes += [Mistake(SPURIOUS, sentence.words, None, span) for span in wrong if span]
    mistakes += [Mistake(MISSED, sentence.words, span, None) for span in missed if span]
    return mistakes


def _boundary_error(gold: Span, predicted: Span) -> str:
    parts = []
    for verb, expected, position in (
        ("starts", gold.start, predicted.start),
        ("ends", gold.end, predicted.end),
    ):
        if position != expected:
            parts.append(f"{verb} too {'early' if position < expected else 'late'}")
    return ", ".join(parts)


def _calibration(rated: list[tuple[float, bool]]) -> list[Bin]:
    """Bins of equal width."""
    members: dict[int, list[tuple[float, bool]]] = {}
    for confidence, is_correct in rated:
        number = min(int(confidence * _NUM_BINS), _NUM_BINS - 1)
        members.setdefault(number, []).append((confidence, is_correct))
    return [
        Bin(
            number / _NUM_BINS,
            (number + 1) / _NUM_BINS,
            len(pairs),
            *(sum(part) / len(pairs) for part in zip(*pairs)),
        )
        for number, pairs in sorted(members.items())
    ]
