import itertools
from functools import partial

import pytest
import torch
from allennlp.modules.conditional_random_field import allowed_transitions

from ldnet_allennlp.models.tag_decoding import DecodingOptions, decode_tags
from ldnet_allennlp.modules.crf.boundary_tag_crf import BoundaryTagCrf
from ldnet_allennlp.modules.crf.conditional_random_field import FastConditionalRandomField
from ldnet_runtime.tag_schemes import spans_from_tags
from tests.modules.crf.oracle import enumerate_paths, random_batch, randomize

LABELS = {
    "BIO": ["O", "B-X", "I-X", "B-Y", "I-Y"],
    "IOB1": ["I-X", "O", "B-X", "I-Y"],
    "BIOUL": ["O", "B-X", "I-X", "L-X", "U-X"],
    "BMES": ["B-X", "M-X", "E-X", "S-X"],
}


def build(encoding, constrained=True, seed=0, scale=1.0, **options):
    labels = dict(enumerate(LABELS[encoding]))
    constraints = allowed_transitions(encoding, labels) if constrained else None
    crf = FastConditionalRandomField(len(labels), constraints, **options)
    randomize(crf, seed, scale)
    return crf


def decoder_of(crf, labels, encoding):
    return partial(decode_tags, crf, labels, lambda tags: spans_from_tags(tags, encoding))


def confidences(decoder, logits, mask):
    """The tags and the probabilities of their spans."""
    output = decoder(logits, mask, DecodingOptions(confidences=True))
    return output["tags"], output["confidences"]


def check(crf, encoding, logits, mask, tolerance=1e-9):
    """Against the sum over all allowed sequences that have the span, spelt with these tags."""
    labels = LABELS[encoding]
    best, found = confidences(decoder_of(crf, labels, encoding), logits, mask)
    assert best == [tags for tags, _ in crf.viterbi_tags(logits, mask)]
    spans = [spans_from_tags([labels[tag] for tag in tags], encoding) for tags in best]
    assert [len(of_sentence) for of_sentence in found] == [len(of_sentence) for of_sentence in spans]
    values = []
    for row, of_sentence in enumerate(spans):
        sentence = enumerate_paths(crf, logits[row], mask[row], constrained=True)
        probabilities = torch.softmax(sentence.scores, 0)
        for number, (kind, start, end) in enumerate(of_sentence):
            expected = 0.0
            for path, probability in zip(sentence.paths, probabilities.tolist()):
                same_tags = list(path[start : end + 1]) == best[row][start : end + 1]
                if same_tags and (kind, start, end) in spans_from_tags(
                    [labels[tag] for tag in path], encoding
                ):
                    expected += probability
            assert found[row][number] == pytest.approx(expected, abs=tolerance), (row, number)
            values.append(found[row][number])
    return values


@pytest.mark.parametrize("encoding", list(LABELS))
@pytest.mark.parametrize("constrained", [True, False])
@pytest.mark.parametrize("start_end", [True, False])
def test_equals_the_enumeration_of_all_sequences(encoding, constrained, start_end):
    values = []
    for seed in range(3):
        crf = build(encoding, constrained, seed, include_start_end_transitions=start_end)
        logits, _, mask = random_batch(6, 4, crf.num_tags, seed)
        values += check(crf.double(), encoding, logits, mask)
    assert len(values) > 15 and max(values) - min(values) > 0.3


def test_in_float32_with_anything_in_the_padding():
    crf = build("BIO")
    logits, _, mask = random_batch(6, 4, crf.num_tags, 3, torch.float32)
    logits[~mask] = float("nan")
    assert check(crf, "BIO", logits, mask, 1e-6)


@pytest.mark.parametrize("scale", [50.0, 2000.0])
def test_scores_far_apart(scale):
    crf = build("BIOUL", seed=6, scale=scale).double()
    logits, _, mask = random_batch(5, 4, crf.num_tags, 6)
    assert check(crf, "BIOUL", scale * logits, mask)


def test_boundary_tags():
    labels = ["O", "B-X", "I-X", "S-X", "O", "O"]  # a boundary tag of a word is no span
    crf = BoundaryTagCrf(6, (4, 5)).double()
    randomize(crf, 7)
    crf.transitions.data[4:, :] -= 1.0
    logits, _, mask = random_batch(8, 4, 6, 7)
    logits[:, :, 4:] -= 30.0  # as good as no tags of words
    best, found = confidences(decoder_of(crf, labels, "IOBES"), logits, mask)
    named = [[labels[tag] for tag in tags] for tags in best]
    spans = [[span[1:] for span in spans_from_tags(tags, "IOBES")] for tags in named]
    start, end = crf.transitions[4], crf.transitions[:, 5]
    for row, of_sentence in enumerate(spans):
        length = len(best[row])
        scores, paths = [], list(itertools.product(range(4), repeat=length))
        for path in paths:
            score = start[path[0]] + end[path[-1]] + sum(logits[row, t, tag] for t, tag in enumerate(path))
            scores.append(score + sum(crf.transitions[a, b] for a, b in zip(path, path[1:])))
        probabilities = torch.softmax(torch.stack(scores), 0).tolist()
        for number, (first, last) in enumerate(of_sentence):
            expected = sum(
                probability
                for path, probability in zip(paths, probabilities)
                if list(path[first : last + 1]) == best[row][first : last + 1]
                and (first, last)
                in [span[1:] for span in spans_from_tags([labels[tag] for tag in path], "IOBES")]
            )
            assert found[row][number] == pytest.approx(expected, abs=1e-6)
    assert sum(map(len, spans)) > 2


def test_a_sentence_without_an_allowed_sequence():
    """One tag that may not end a sentence: decoding gives it nevertheless."""
    crf = FastConditionalRandomField(2, [(2, 0), (2, 1), (0, 0), (0, 1), (1, 0), (0, 3)])
    crf._constraint_mask[:, 3] = 0.0
    logits = torch.tensor([[[0.0, 9.0], [9.0, 0.0], [9.0, 0.0]], [[9.0, 0.0]] * 3])
    tags, found = confidences(decoder_of(crf, ["O", "B-X"], "BIO"), logits, torch.ones(2, 3).bool())
    assert tags == [[1, 0, 0], [0, 0, 0]] and found == [[0.0], []]


def test_a_long_sentence_is_exact():
    """A span's probability does not depend on a part that is cut off by certain tags."""
    crf = build("BIO", seed=8).double()
    logits, _, _ = random_batch(1, 5, crf.num_tags, 8)
    outside = torch.zeros(1, 3000, crf.num_tags, dtype=torch.float64)
    outside[:, :, 0] = 500.0  # "O", without doubt
    decoder = decoder_of(crf, LABELS["BIO"], "BIO")
    results = [
        confidences(
            decoder, torch.cat([around, logits, around], 1), torch.ones(1, 5 + 2 * around.size(1)).bool()
        )
        for around in (outside[:, :1], outside)
    ]
    assert results[1][0][0][3000:-3000] == results[0][0][0][1:-1]
    assert results[1][1][0] == pytest.approx(results[0][1][0], rel=1e-7) and results[0][1][0]
