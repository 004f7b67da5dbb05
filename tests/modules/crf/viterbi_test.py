import math

import pytest
import torch
from torch.testing import assert_close

from ldnet_allennlp.modules.crf import viterbi as crf_viterbi
from ldnet_allennlp.modules.crf.layout import by_tag
from ldnet_allennlp.modules.crf.viterbi import (
    best_sequences,
    k_best_sequences,
    maximise_in_numpy,
    maximise_in_torch,
    sequence_scores,
    trace_back_in_numpy,
    trace_back_in_torch,
)
from tests.modules.crf.oracle import random_batch


def arguments(batch_size, num_steps, num_tags, seed=0, dtype=torch.float32):
    logits, _, mask = random_batch(batch_size, num_steps, num_tags, seed, dtype)
    generator = torch.Generator().manual_seed(seed)
    sizes = (num_tags, num_tags), num_tags, num_tags
    lengths = mask.sum(1)
    lengths[-1] = 0
    return (logits, *(torch.randn(size, generator=generator, dtype=dtype) for size in sizes), lengths)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [(1, 1, 3), (5, 7, 4), (40, 9, 19), (128, 3, 19), (6, 4, 105)], ids=str)
class TestBestSequences:
    def test_score_is_that_of_the_sequence(self, size, dtype):
        inputs = arguments(*size, dtype=dtype)
        tags, scores = best_sequences(*inputs)
        assert_close(scores, sequence_scores(*inputs, tags))

    def test_is_the_first_of_the_k_best(self, size, dtype):
        *scores, lengths = arguments(*size, dtype=dtype)
        for some in (lengths, None):
            tags, best = best_sequences(*scores, some)
            ranked_tags, ranked = k_best_sequences(*scores, some, 3)
            assert tags.equal(ranked_tags[:, 0]) and best.equal(ranked[:, 0])

    def test_maximising_in_torch_and_in_numpy_is_the_same(self, size, dtype):
        logits, transitions, *_ = arguments(*size, dtype=dtype)
        transitions[0, -1] = -math.inf
        logits = logits.nan_to_num(0.0)
        in_torch, in_numpy = by_tag(logits), by_tag(logits)
        maximise_in_torch(in_torch, transitions)
        maximise_in_numpy(in_numpy, transitions)
        assert in_torch.equal(in_numpy)
        # The definition, at the second step.
        if size[1] > 1:
            expected = (logits[:, 0].unsqueeze(1) + transitions).max(2)[0] + logits[:, 1]
            assert in_torch[1, :, : size[0]].t().equal(expected)

    def test_tracing_back_in_torch_and_in_numpy_is_the_same(self, size, dtype):
        logits, transitions, start, _, lengths = arguments(*size, dtype=dtype)
        best = logits.transpose(0, 1).contiguous()
        last_tags = (best[-1] + start).argmax(1)
        for some in (lengths, None):
            in_torch = trace_back_in_torch(best, transitions, last_tags, some)
            assert trace_back_in_numpy(best, transitions, last_tags, some).equal(in_torch)


@pytest.mark.parametrize("k", [1, 2, 5, 30])
@pytest.mark.parametrize("forbidden", [0.0, 0.5])
def test_k_best_predecessors_in_two_rounds_are_those_of_one(monkeypatch, k, forbidden):
    inputs = arguments(4, 6, 105, seed=1)
    inputs[1].masked_fill_(
        torch.rand(105, 105, generator=torch.Generator().manual_seed(2)) < forbidden, -math.inf
    )
    results = []
    for threshold in (0, 10**12):
        monkeypatch.setattr(crf_viterbi, "_MIN_CANDIDATES_FOR_TWO_ROUNDS", threshold)
        results.append(k_best_sequences(*inputs, k))
    assert results[0][1].equal(results[1][1])
    exists = results[0][1] > -math.inf
    assert results[0][0][exists].equal(results[1][0][exists])
    assert exists[:3].all()


def test_k_best_are_distinct_sorted_and_scored_right():
    inputs = arguments(20, 7, 9, seed=3, dtype=torch.float64)
    tags, scores = k_best_sequences(*inputs, 25)
    assert (scores[:-1, :-1] >= scores[:-1, 1:]).all()
    lengths = inputs[-1]
    for b in range(20):
        count = min(25, 9 ** int(lengths[b]))
        assert (scores[b, :count] > -math.inf).all() and (scores[b, count:] == -math.inf).all()
        assert len({tuple(path) for path in tags[b, :count].tolist()}) == count
    for rank in range(9):
        exists = scores[:, rank] > -math.inf
        assert_close(sequence_scores(*inputs, tags[:, rank])[exists], scores[:, rank][exists])
