import math

import pytest
import torch
from torch.testing import assert_close

from ldnet_allennlp.modules.crf.viterbi import best_sequences
from tests.modules.crf.oracle import random_batch


def arguments(batch_size, num_steps, num_tags, seed=0, dtype=torch.float32):
    logits, _, mask = random_batch(batch_size, num_steps, num_tags, seed, dtype)
    generator = torch.Generator().manual_seed(seed)
    sizes = (num_tags, num_tags), num_tags, num_tags
    lengths = mask.sum(1)
    lengths[-1] = 0
    scores = tuple(torch.randn(size, generator=generator, dtype=dtype) for size in sizes)
    return logits, scores, lengths


def score_of(inputs, row, path):
    """The definition."""
    logits, (transitions, start, end), lengths = inputs
    path = path[: int(lengths[row])].tolist()
    if not path:
        return 0.0
    score = start[path[0]] + end[path[-1]] + sum(logits[row, step, tag] for step, tag in enumerate(path))
    return (score + sum(transitions[pair] for pair in zip(path, path[1:]))).item()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [(1, 1, 3), (5, 7, 4), (40, 9, 19), (128, 3, 19), (6, 4, 105)], ids=str)
class TestBestSequences:
    def test_score_is_that_of_the_sequence(self, size, dtype):
        inputs = arguments(*size, dtype=dtype)
        tags, scores = best_sequences(*inputs)
        expected = torch.tensor(
            [score_of(inputs, row, path) for row, path in enumerate(tags[:, 0])], dtype=dtype
        )
        assert_close(scores[:, 0], expected)

    def test_is_the_first_of_the_k_best(self, size, dtype):
        logits, scores, lengths = arguments(*size, dtype=dtype)
        scores[0][0, -1] = -math.inf
        for some in (lengths, torch.full_like(lengths, size[1])):
            tags, best = best_sequences(logits, scores, some)
            ranked_tags, ranked = best_sequences(logits, scores, some, 3)
            assert tags.equal(ranked_tags[:, :1]) and best.equal(ranked[:, :1])


def test_k_best_are_distinct_sorted_and_scored_right():
    inputs = arguments(20, 7, 9, seed=3, dtype=torch.float64)
    tags, scores = best_sequences(*inputs, 25)
    assert (scores[:-1, :-1] >= scores[:-1, 1:]).all()
    lengths = inputs[-1]
    for b in range(20):
        count = min(25, 9 ** int(lengths[b]))
        assert (scores[b, :count] > -math.inf).all() and (scores[b, count:] == -math.inf).all()
        assert len({tuple(path) for path in tags[b, :count].tolist()}) == count
        for path, score in zip(tags[b, :count], scores[b, :count].tolist()):
            assert score == pytest.approx(score_of(inputs, b, path))
