"""The mistakes of a tagger, counted by hand."""

import random
from html.parser import HTMLParser

import pytest

from ldnet_allennlp.commands.report.error_page import error_page
from ldnet_allennlp.commands.report.errors import Span, TaggedSentence, find_errors
from tests.conlleval import conlleval

WORDS = ["Ada", "Lovelace", "saw", "<Paris>", "and", "New", "York"]


def report(gold, predicted):
    return find_errors(
        [TaggedSentence(WORDS, [Span(*span) for span in gold], [Span(*span) for span in predicted])]
    )


class TestKinds:
    @pytest.mark.parametrize(
        "gold, predicted, kinds",
        [
            ([("PER", 0, 1)], [("PER", 0, 1, 0.9)], []),
            ([("PER", 0, 1)], [("LOC", 0, 1, 0.9)], ["type"]),
            ([("PER", 0, 1)], [("PER", 0, 0, 0.9)], ["boundary"]),
            ([("PER", 0, 1)], [("LOC", 1, 2, 0.9)], ["type and boundary"]),
            ([("PER", 0, 1)], [("PER", 3, 3, 0.9)], ["spurious", "missed"]),
            # The larger overlap is the pair; the other one is spurious.
            ([("LOC", 3, 6)], [("LOC", 3, 3, 0.2), ("LOC", 4, 6, 0.3)], ["boundary", "spurious"]),
            # The same place comes before a larger overlap of another.
            ([("PER", 0, 0), ("LOC", 0, 1)], [("ORG", 0, 0, 0.5)], ["type", "missed"]),
        ],
    )
    def test_pairs(self, gold, predicted, kinds):
        assert [mistake.kind for mistake in report(gold, predicted).mistakes] == kinds

    def test_how_boundaries_differ(self):
        gold = [("LOC", 1, 4)]
        for start, end, text in [
            (0, 4, "starts too early"),
            (2, 5, "starts too late, ends too late"),
            (1, 3, "ends too early"),
        ]:
            assert dict(report(gold, [("LOC", start, end)]).boundaries) == {text: 1}

    def test_confusion(self):
        found = report(
            [("PER", 0, 1), ("LOC", 3, 3), ("LOC", 5, 6)], [("PER", 0, 1), ("ORG", 3, 3), ("ORG", 2, 2)]
        )
        assert dict(found.confusion) == {
            ("PER", "PER"): 1,
            ("LOC", "ORG"): 1,
            ("", "ORG"): 1,
            ("LOC", ""): 1,
        }
        assert found.scores["LOC"] == (0, 0, 2) and found.scores[""] == (1, 3, 3)

    def test_the_most_confident_come_first(self):
        found = report([("LOC", 5, 6)], [("PER", 0, 0, 0.3), ("PER", 1, 1, 0.8), ("PER", 2, 2)])
        assert [mistake.confidence for mistake in found.mistakes] == [0.8, 0.3, -1.0, -1.0]


def test_scores_are_those_of_conlleval():
    """On random spans; each mistake is counted once."""
    generator = random.Random(3)
    sentences, gold_tags, predicted_tags = [], [], []
    for _ in range(200):
        spans = [[], []]
        tags = [["O"] * 12, ["O"] * 12]
        for side in (0, 1):
            start = 0
            while start < 12:
                length = generator.randint(1, 3)
                if generator.random() < 0.5 and start + length <= 12:
                    kind = generator.choice(["A", "B"])
                    spans[side].append(Span(kind, start, start + length - 1))
                    tags[side][start : start + length] = [f"B-{kind}"] + [f"I-{kind}"] * (length - 1)
                start += length
        sentences.append(TaggedSentence(["w"] * 12, *spans))
        gold_tags.append(tags[0])
        predicted_tags.append(tags[1])
    found = find_errors(sentences)
    expected = conlleval(zip(gold_tags, predicted_tags))
    for name, scores in found.scores.items():
        reference = expected.types[name] if name else expected.overall
        assert (scores.precision, scores.recall, scores.f1) == pytest.approx(reference)
    total = found.scores[""]
    wrong = sum(mistake.predicted is not None for mistake in found.mistakes)
    missed = sum(mistake.gold is not None for mistake in found.mistakes)
    assert (wrong, missed) == (total.predicted - total.correct, total.gold - total.correct)
    assert sum(found.confusion.values()) == total.correct + len(found.mistakes)


class TestCalibration:
    def test_a_calibrated_tagger(self):
        """Of those with 0.75, three in four are correct."""
        gold = [("A", place, place) for place in range(3)]
        found = report(gold, [("A", place, place, 0.75) for place in range(4)])
        assert found.calibration == [(0.7, 0.8, 4, 0.75, 0.75)] and found.calibration_error == 0.0

    def test_a_tagger_that_is_too_sure(self):
        found = report([("A", 0, 0)], [("A", 0, 0, 1.0), ("A", 1, 1, 0.95), ("A", 2, 2, 0.1)])
        assert [part[:3] for part in found.calibration] == [(0.1, 0.2, 1), (0.9, 1.0, 2)]
        assert found.calibration_error == pytest.approx((1 * 0.1 + 2 * (0.975 - 0.5)) / 3)

    def test_without_confidences(self):
        assert report([("A", 0, 0)], [("A", 0, 0)]).calibration_error is None


class Page(HTMLParser):
    """Collects tags and text, and fails on tags that are not closed."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.text = [], [], ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_the_page():
    found = report([("LOC", 3, 3), ("PER", 0, 1)], [("<b>", 3, 3, 0.9), ("PER", 0, 0, 0.5)])
    page = error_page("<script>ner", "a & b.conll", found)
    parsed = Page(page)
    assert "Errors of <script>ner" in parsed.text and "1 sentences of a & b.conll" in parsed.text
    for text in ("Confusion of types", "ends too early", "Calibration", "Ada Lovelace", "<Paris>", "<b>"):
        assert text in parsed.text
    assert not {"script", "img", "link"} & set(parsed.tags) and "http://" not in page
    assert "prefers-color-scheme: dark" in page and parsed.text.rindex("0.900") < parsed.text.rindex("0.500")
    assert "<th>&lt;b&gt;</th>" in page and '<th class="text">sentence</th>' in page


def test_a_page_without_mistakes():
    assert "Most confident" not in Page(error_page("x", "y", report([("A", 0, 0)], [("A", 0, 0)]))).text
    assert "F1 0.00" in Page(error_page("x", "y", find_errors([]))).text
