"""Every function against an enumeration of all label sequences, and against the torch CRF."""

import itertools

import numpy
import pytest

from ldnet_runtime import decoding
from ldnet_runtime.decoding import Scores

SIZE = 3
LENGTHS = numpy.array([4, 1, 3, 0, 2])


def random_problem(seed, constrained=True, scale=1.0):
    generator = numpy.random.default_rng(seed)
    emissions = (scale * generator.normal(size=(len(LENGTHS), LENGTHS.max(), SIZE))).astype(numpy.float32)
    scores = Scores(*(scale * generator.normal(size=shape) for shape in ((SIZE, SIZE), (SIZE,), (SIZE,))))
    allowed = generator.random((SIZE + 2, SIZE + 2)) < 0.7 if constrained else None
    for row, length in enumerate(LENGTHS):
        emissions[row, length:] = numpy.nan
    return emissions, scores, allowed


def enumerate_paths(emissions, length, scores):
    """All sequences with their scores, the best first."""
    paths = []
    for tags in itertools.product(range(SIZE), repeat=int(length)):
        score = sum(float(emissions[t, tag]) for t, tag in enumerate(tags))
        score += sum(scores.transitions[pair] for pair in itertools.pairwise(tags))
        if tags:
            score += scores.start[tags[0]] + scores.end[tags[-1]]
        paths.append((score, tags))
    return sorted((path for path in paths if path[0] > -numpy.inf), reverse=True)


@pytest.mark.parametrize("seed", range(12))
def test_best_and_k_best(seed):
    emissions, scores, allowed = random_problem(seed, constrained=seed % 2 == 0)
    scores = scores.restricted(allowed)
    tags, best = decoding.best_paths(emissions, LENGTHS, scores)
    ranked_tags, ranked = decoding.k_best_paths(emissions, LENGTHS, scores, k=7)
    for row, length in enumerate(LENGTHS):
        expected = enumerate_paths(emissions[row], length, scores)
        if not expected:
            assert best[row] == -numpy.inf and (ranked[row] == -numpy.inf).all()
            continue
        assert tuple(tags[row, :length]) == expected[0][1]
        assert best[row] == pytest.approx(expected[0][0], abs=1e-4)
        number = min(7, len(expected))
        numpy.testing.assert_allclose(ranked[row, :number], [score for score, _ in expected[:7]], atol=1e-4)
        assert (ranked[row, number:] == -numpy.inf).all()
        found = [tuple(path[:length]) for path in ranked_tags[row, :number]]
        assert len(set(found)) == number and set(found) <= {path for _, path in expected}
        assert not tags[row, length:].any() and not ranked_tags[row, :, length:].any()


@pytest.mark.parametrize("scale", [1.0, 40.0, 400.0])  # by matrix products, and by log-sum-exp
@pytest.mark.parametrize("seed", range(8))
def test_probabilities(seed, scale):
    emissions, scores, allowed = random_problem(seed, constrained=seed % 2 == 0, scale=scale)
    scores = scores.restricted(allowed)
    log_partition = decoding.log_partition(emissions, LENGTHS, scores)
    marginals = decoding.marginals(emissions, LENGTHS, scores)
    tags, _ = decoding.best_paths(emissions, LENGTHS, scores)
    of_paths = decoding.path_scores(emissions, LENGTHS, scores, tags)
    sequences = decoding.sequence_probabilities(of_paths, log_partition)
    for row, length in enumerate(LENGTHS):
        expected = enumerate_paths(emissions[row], length, scores)
        if not expected:
            assert log_partition[row] == -numpy.inf and sequences[row] == 0 and not marginals[row].any()
            continue
        values = numpy.array([score for score, _ in expected])
        total = numpy.logaddexp.reduce(values)
        assert log_partition[row] == pytest.approx(total, rel=1e-9, abs=1e-9)
        probabilities = numpy.exp(values - total)
        assert sequences[row] == pytest.approx(probabilities[0], abs=1e-6)
        of_labels = numpy.zeros((LENGTHS.max(), SIZE))
        for probability, (_, path) in zip(probabilities, expected):
            of_labels[range(length), path] += probability
        numpy.testing.assert_allclose(marginals[row], of_labels, atol=1e-9)


@pytest.mark.parametrize("seed", range(12))
def test_span_probabilities(seed):
    """All spans of all sentences, each against the sum over the sequences that have it."""
    emissions, scores, allowed = random_problem(seed, constrained=seed % 2 == 0)
    scores = scores.restricted(allowed)
    generator = numpy.random.default_rng(100 + seed)
    continues = generator.random((SIZE, SIZE)) < 0.5
    tags = generator.integers(0, SIZE, (len(LENGTHS), LENGTHS.max()))
    spans = [[(s, e) for s in range(length) for e in range(s, length)] for length in LENGTHS]
    found = decoding.span_probabilities(emissions, LENGTHS, scores, tags, spans, continues)
    for row, length in enumerate(LENGTHS):
        paths = enumerate_paths(emissions[row], length, scores)
        total = numpy.logaddexp.reduce([score for score, _ in paths]) if paths else 0.0
        for (start, end), probability in zip(spans[row], found[row]):
            expected = sum(
                numpy.exp(score - total)
                for score, path in paths
                if path[start : end + 1] == tuple(tags[row, start : end + 1])
                and not (start > 0 and continues[path[start - 1], path[start]])
                and not (end + 1 < length and continues[path[end], path[end + 1]])
            )
            assert probability == pytest.approx(expected, abs=1e-9)


def test_the_first_of_equal_sequences():
    emissions = numpy.zeros((2, 3, SIZE), numpy.float32)
    scores = Scores(numpy.zeros((SIZE, SIZE)), numpy.zeros(SIZE), numpy.zeros(SIZE))
    assert not decoding.best_paths(emissions, numpy.array([3, 2]), scores)[0].any()


def test_a_sentence_without_an_allowed_sequence_pays_for_each_forbidden_transition():
    emissions, scores, _ = random_problem(3, constrained=False)
    allowed = numpy.zeros((SIZE + 2, SIZE + 2), bool)
    allowed[:, 1] = allowed[1, :] = True  # everything by way of label 1, which cannot begin a sentence
    allowed[SIZE, 1] = False
    for k in (1, 4):
        tags, values = decoding.decode(emissions, LENGTHS, scores, allowed, k)
        penalized = scores.restricted(allowed, -10000.0)
        for row, length in enumerate(LENGTHS):
            (score, path), *_ = enumerate_paths(emissions[row], length, penalized)
            assert tuple(tags[row, 0, :length]) == path
            assert values[row, 0] == pytest.approx(score, rel=1e-5)


def test_a_label_that_nothing_allows_is_never_decoded():
    """Not even in a sentence without an allowed sequence."""
    emissions, scores, _ = random_problem(3, constrained=False)
    allowed = numpy.zeros((SIZE + 2, SIZE + 2), bool)
    allowed[1, 2] = allowed[SIZE, 1] = True  # no sequence ends
    emissions[:, :, 0] = 1e3
    tags, values = decoding.decode(emissions, LENGTHS, scores, allowed)
    for row, length in enumerate(LENGTHS):
        assert 0 not in tags[row, 0, :length] and numpy.isfinite(values[row, 0])


@pytest.mark.parametrize("seed", range(4))
def test_equals_the_torch_crf(seed):
    """Labels bit by bit and scores, in sizes that are not small."""
    torch = pytest.importorskip("torch")
    from allennlp.modules.conditional_random_field import allowed_transitions

    from ldnet_allennlp.modules.crf.conditional_random_field import FastConditionalRandomField
    from ldnet_allennlp.modules.crf.log_partition import log_partition

    labels = ["O", *(f"{letter}-{kind}" for kind in "XYZ" for letter in "BILU")]
    size = len(labels)
    constraints = allowed_transitions("BIOUL", dict(enumerate(labels))) if seed % 2 else None
    crf = FastConditionalRandomField(size, constraints)
    generator = numpy.random.default_rng(seed)
    # Coarse numbers, so that there are many ties.
    emissions = generator.integers(-2, 3, (17, 23, size)).astype(numpy.float32)
    lengths = generator.integers(1, 24, 17)
    with torch.no_grad():
        for parameter in (crf.transitions, crf.start_transitions, crf.end_transitions):
            parameter.copy_(torch.from_numpy(generator.integers(-1, 2, tuple(parameter.shape))))
    mask = torch.from_numpy(numpy.arange(23) < lengths[:, None])
    scores = Scores(*(part.detach().numpy() for part in crf.scores(constrained=True)))
    expected = crf.viterbi_tags(torch.from_numpy(emissions), mask)
    tags, values = decoding.best_paths(emissions, lengths, scores)
    found = [(row[:length].tolist(), value) for row, length, value in zip(tags, lengths, values.tolist())]
    assert found == expected
    best = crf.viterbi_tags(torch.from_numpy(emissions), mask, top_k=4)
    _, ranked = decoding.k_best_paths(emissions, lengths, scores, 4)
    assert ranked.tolist() == [[score for _, score in row] for row in best]
    expected = log_partition(
        torch.from_numpy(emissions).double(), crf.scores(constrained=True), torch.from_numpy(lengths)
    )
    numpy.testing.assert_allclose(
        decoding.log_partition(emissions, lengths, scores), expected.detach().numpy(), rtol=1e-5
    )


def test_no_sentence_and_no_step():
    scores = Scores(numpy.zeros((SIZE, SIZE)), numpy.zeros(SIZE), numpy.zeros(SIZE))
    for shape in ((0, 2, SIZE), (2, 0, SIZE)):
        emissions, lengths = numpy.zeros(shape, numpy.float32), numpy.zeros(shape[0], int)
        tags, _ = decoding.decode(emissions, lengths, scores, None)
        assert tags.shape == (shape[0], 1, shape[1])
        assert decoding.marginals(emissions, lengths, scores).shape == shape
