"""Gaps, chunks and loss beside an enumeration of all tag sequences."""

import itertools
import math
import random

import pytest
import torch
from torch.testing import assert_close

from ldnet_allennlp.commands.annotate.dictionary import Entry, Match
from ldnet_allennlp.commands.annotate.formats import Labeled, ck_rows, conll_rows
from ldnet_allennlp.modules.chunks.tie_or_break_loss import BREAK, TIE, UNKNOWN, TieOrBreakLoss
from ldnet_runtime.decoding.chunks import num_chunk_scores
from ldnet_runtime.tag_schemes import spans_from_tags, tags_from_spans, validate

ENCODINGS = ["BIO", "BIOUL", "IOBES", "BMES"]
CODES = {(TIE,): TIE, (BREAK,): BREAK}


def all_labels(encoding):
    spans = [("A", 0, 2), ("A", 3, 3), ("B", 4, 6), ("B", 7, 7)]
    return sorted({*tags_from_spans(spans, 9, encoding)})


def sequences(choices, encoding):
    """All well-formed tag sequences of the allowed tags."""
    return [tags for tags in itertools.product(*choices) if not validate(tags, encoding)]


def chunks_of(tags, encoding):
    """(start, end, type) of all chunks; words outside are chunks of one."""
    spans = {start: (start, end + 1, kind) for kind, start, end in spans_from_tags(tags, encoding)}
    chunks, place = [], 0
    while place < len(tags):
        chunks.append(spans.get(place, (place, place + 1, None)))
        place = chunks[-1][1]
    return chunks


def known(choices, encoding, labels):
    """The gaps by definition, and the types of each chunk whose gaps are known."""
    size = len(choices)
    found = [chunks_of(tags, encoding) for tags in sequences(choices, encoding)]
    breaks = [{start for start, _, _ in chunks} | {size} for chunks in found]
    gaps = [
        CODES.get(tuple({BREAK if place in of_one else TIE for of_one in breaks}), UNKNOWN)
        for place in range(size + 1)
    ]
    for place in range(1, size):
        pair = sorted([len(choices[place - 1]), len(choices[place])])
        if ["O"] in (choices[place - 1], choices[place]) and pair == [1, len(labels)]:
            gaps[place] = UNKNOWN
    places = [place for place in range(size + 1) if gaps[place] != TIE]
    pairs = [(a, b) for a, b in zip(places, places[1:]) if gaps[a] == gaps[b] == BREAK]
    types = {pair: {k for chunks in found for s, e, k in chunks if (s, e) == pair} for pair in pairs}
    return gaps, types


def random_choices(labels, encoding, generator, size):
    """Full labels, alternative types and free words, around a well-formed sequence."""
    while True:
        tags = [generator.choice(labels) for _ in range(size)]
        if not validate(tags, encoding):
            break
    choices = [[tag] for tag in tags]
    for kind, start, end in spans_from_tags(tags, encoding):
        if generator.random() < 0.3:  # its type is open
            other = "B" if kind == "A" else "A"
            for place in range(start, end + 1):
                choices[place].append(tags[place][:-1] + other)
    return [labels if generator.random() < 0.3 else tags for tags in choices]


def mask_of(sentences, labels, size):
    allowed = torch.zeros(len(sentences), size, len(labels), dtype=torch.bool)
    mask = torch.zeros(len(sentences), size, dtype=torch.bool)
    for row, choices in enumerate(sentences):
        mask[row, : len(choices)] = True
        for step, tags in enumerate(choices):
            allowed[row, step, [labels.index(tag) for tag in tags]] = True
    return allowed, mask


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_gaps_chunks_and_loss_equal_an_enumeration(encoding):
    labels = all_labels(encoding)
    generator = random.Random(encoding)
    sentences = [
        random_choices(labels, encoding, generator, size) for size in (1, 1, 2, 2, 3, 3, 3, 4, 4, 4, 4)
    ]
    allowed, mask = mask_of(sentences, labels, 5)
    loss = TieOrBreakLoss(labels, encoding)
    torch.manual_seed(1)
    scores = torch.randn(len(sentences), 5, num_chunk_scores(labels), dtype=torch.float64)
    gaps = loss.gaps(allowed & mask.unsqueeze(-1), mask)
    chunks = loss.chunks(allowed, gaps)
    expected_loss, num_unknown, num_open = 0.0, 0, 0
    for row, choices in enumerate(sentences):
        size = len(choices)
        expected, types = known(choices, encoding, labels)
        assert gaps[row, : size + 1].tolist() == expected and not gaps[row, size + 1 :].any()
        of_row = (chunks.rows == row).nonzero()[:, 0].tolist()
        found = {
            (int(chunks.starts[n]), int(chunks.ends[n])): {
                kind for kind, is_allowed in zip((None, "A", "B"), chunks.types[n]) if is_allowed
            }
            for n in of_row
        }
        assert found == types
        of_gaps = [
            (scores[row, place, :7] if place < size else 0) + (scores[row, place - 1, 7:] if place else 0)
            for place in range(size + 1)
        ]
        for place in range(1, size):
            if expected[place] != UNKNOWN:
                p = 1 / (1 + math.exp(-of_gaps[place][0]))
                expected_loss -= math.log(p if expected[place] == BREAK else 1 - p)
        for (start, end), kinds in types.items():
            logits = [of_gaps[start][1 + k] + of_gaps[end][4 + k] for k in range(3)]
            total = sum(math.exp(x) for x in logits)
            chosen = sum(math.exp(x) for x, kind in zip(logits, (None, "A", "B")) if kind in kinds)
            expected_loss -= math.log(chosen / total)
            num_open += len(kinds) == 2
        num_unknown += expected.count(UNKNOWN)
    assert num_unknown > 0 and num_open > 0
    assert float(loss(scores, allowed, mask)) == pytest.approx(expected_loss, rel=1e-9)


def test_gradients_are_those_of_the_papers_soft_labels():
    labels = all_labels("BIOUL")
    allowed, mask = mask_of([[["B-A", "B-B"], ["L-A", "L-B"], ["O"]], [["U-A"], ["O"]]], labels, 3)
    loss = TieOrBreakLoss(labels, "BIOUL")
    torch.manual_seed(2)
    scores = torch.randn(2, 3, num_chunk_scores(labels), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: loss(x, allowed, mask), scores)

    def soft(x):
        words = torch.where(mask.unsqueeze(-1), x, torch.zeros_like(x))
        gaps = torch.zeros(2, 4, 7, dtype=x.dtype)
        gaps = gaps.index_add(1, torch.arange(3), words[..., :7]).index_add(
            1, torch.arange(1, 4), words[..., 7:]
        )
        total = 0.0
        for row, place, is_break in [(0, 1, 0.0), (0, 2, 1.0), (1, 1, 1.0)]:
            target = torch.tensor(is_break, dtype=x.dtype)
            total = total + torch.nn.functional.binary_cross_entropy_with_logits(gaps[row, place, 0], target)
        for row, start, end, kinds in [(0, 0, 2, [1, 2]), (0, 2, 3, [0]), (1, 0, 1, [1]), (1, 1, 2, [0])]:
            log_p = (gaps[row, start, 1:4] + gaps[row, end, 4:]).log_softmax(-1)
            target = torch.zeros(3, dtype=x.dtype)
            target[kinds] = log_p.detach().exp()[kinds]
            total = total - (target / target.sum() * log_p).sum()
        return total

    assert_close(
        *(
            torch.autograd.grad(function(scores), scores)[0]
            for function in (lambda x: loss(x, allowed, mask), soft)
        )
    )


@pytest.mark.parametrize(
    "choices", [[["B-A"], ["L-B"], ["I-A"]], [["B-A"], ["I-A", "I-B"], ["L-B"]]], ids=["gap", "type"]
)
def test_contradictory_labels_give_a_finite_loss(choices):
    labels = all_labels("BIOUL")
    allowed, mask = mask_of([choices], labels, 3)
    scores = torch.randn(1, 3, num_chunk_scores(labels), requires_grad=True)
    loss = TieOrBreakLoss(labels, "BIOUL")(scores, allowed, mask)
    loss.backward()
    assert math.isfinite(loss) and scores.grad.isfinite().all()


def test_an_unknown_phrase_leaves_the_gaps_around_it_open():
    """AutoNER's rule, except at the end of another match."""
    labels = all_labels("BIOUL")
    sentence = [["O"], labels, labels, ["O"], ["O"], labels, ["B-A"], ["L-A"], labels, ["O"]]
    allowed, mask = mask_of([sentence], labels, 10)
    u = UNKNOWN
    gaps = TieOrBreakLoss(labels, "BIOUL").gaps(allowed, mask)
    assert gaps[0].tolist() == [1, u, u, u, 1, u, 1, 0, 1, u, 1]


def test_a_gap_next_to_an_unknown_word_is_a_break_if_the_other_word_may_be_a_chunk():
    labels = all_labels("BIOUL")
    sentence = [labels, ["O", "U-A"], labels]
    gaps = TieOrBreakLoss(labels, "BIOUL").gaps(*mask_of([sentence], labels, 3))
    assert gaps[0].tolist() == known(sentence, "BIOUL", labels)[0] == [BREAK] * 4


def test_gaps_are_those_that_autoners_file_format_has():
    """Columns with tags and AutoNER's .ck rows are two forms of the same labels."""
    labels = all_labels("BIOUL")
    entries = [Entry("x", frozenset(kinds)) for kinds in (["A"], ["B"], ["A", "B"], [])]
    generator = random.Random(7)
    codes = {("I", "S"): BREAK, ("O", "S"): TIE, ("O", "D"): UNKNOWN}
    counts = [0, 0, 0]
    for _ in range(60):
        cuts = sorted(generator.sample(range(11), 6))
        pairs = [pair for pair in zip(cuts, cuts[1:]) if generator.random() < 0.7]
        sentence = Labeled(["w"] * 10, [Match(*pair, generator.choice(entries)) for pair in pairs])
        tags = [row.split("\t")[1] for row in conll_rows(sentence, "O")]
        allowed, mask = mask_of([[labels if tag == "?" else tag.split("|") for tag in tags]], labels, 10)
        gaps = TieOrBreakLoss(labels, "BIOUL").gaps(allowed, mask)[0, 1:-1].tolist()
        rows = [row.split() for row in ck_rows(sentence)][2:-1]  # those of the gaps between words
        assert gaps == [codes[gap, known] for _, gap, _, known in rows]
        counts = [one + gaps.count(code) for code, one in enumerate(counts)]
    assert min(counts) > 20
