import math

import pytest
import torch
from torch.testing import assert_close

import ldnet_allennlp.modules.crf.log_partition as module
from tests.modules.crf.oracle import random_batch

WAYS = {"scaled": torch.float64, "logarithmic": None}


def force(monkeypatch, way):
    monkeypatch.setattr(module, "_scaled_dtype", lambda *_: WAYS[way])


def log_partition(emissions, transitions, start, end, lengths=None, step_weights=None):
    if lengths is None:
        lengths = torch.full(emissions.size()[:1], emissions.size(1))
    return module.log_partition(emissions, (transitions, start, end), lengths, step_weights)


def arguments(batch_size, num_steps, num_tags, ragged, seed=0, dtype=torch.float64):
    logits, _, mask = random_batch(batch_size, num_steps, num_tags, seed, dtype)
    generator = torch.Generator().manual_seed(seed)
    parameters = [
        torch.randn(size, generator=generator, dtype=dtype)
        for size in ((num_tags, num_tags), num_tags, num_tags)
    ]
    lengths = None
    if ragged:
        lengths = mask.sum(1)
        lengths[-1] = 0
    inputs = [tensor.requires_grad_() for tensor in (logits, *parameters)]
    return inputs, lengths


@pytest.mark.parametrize("way", sorted(WAYS))
@pytest.mark.parametrize("ragged", [True, False])
@pytest.mark.parametrize("size", [(1, 1, 2), (3, 1, 4), (3, 4, 3), (17, 3, 2)], ids=str)
class TestGradient:
    def test_numerical_derivative(self, monkeypatch, way, ragged, size):
        force(monkeypatch, way)
        inputs, lengths = arguments(*size, ragged)
        weights = torch.rand(size[:2], dtype=torch.float64) - 0.3
        for some in (None, weights):
            assert torch.autograd.gradcheck(lambda *x, some=some: log_partition(*x, lengths, some), inputs)

    def test_second_derivative(self, monkeypatch, way, ragged, size):
        force(monkeypatch, way)
        inputs, lengths = arguments(*size, ragged)
        total = log_partition(*inputs, lengths).sum()
        first = torch.autograd.grad(total, inputs, retain_graph=True)
        assert_close(first, torch.autograd.grad(total, inputs, retain_graph=True), rtol=0, atol=0)
        assert_close(first, torch.autograd.grad(total, inputs, create_graph=True))
        assert torch.autograd.gradgradcheck(lambda *x: log_partition(*x, lengths), inputs)


@pytest.mark.parametrize("ragged", [True, False])
@pytest.mark.parametrize("batch_size", [2, 15, 16, 33, 64])
def test_both_ways_agree(monkeypatch, batch_size, ragged):
    results = []
    for way in sorted(WAYS):
        force(monkeypatch, way)
        inputs, lengths = arguments(batch_size, 9, 6, ragged)
        weights = torch.linspace(-1, 2, batch_size * 9, dtype=torch.float64).view(batch_size, 9)
        log_z = log_partition(*inputs, lengths, weights)
        results.append((log_z, torch.autograd.grad(log_z.sum(), inputs)))
    assert_close(results[0], results[1], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "spread, expected", [(20, "float32"), (200, "float64"), (2000, None), (math.nan, None)]
)
def test_the_way_follows_the_spread_of_the_transitions(spread, expected):
    transitions = torch.zeros(300, 300)
    transitions[1, 2] = spread
    dtype = module._scaled_dtype(torch.zeros(2, 3, 300), transitions)
    assert dtype == (expected and getattr(torch, expected))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("num_tags", [2, 30])
@pytest.mark.parametrize("flush_denormal", [True, False])
def test_nothing_that_matters_underflows(dtype, num_tags, flush_denormal, request):
    """
    The hardest case for probabilities that may underflow: tag 0 is all but certain, then all but impossible,
    by a factor of exp(-score), then certain again, and the way around that step through tag 1 takes two
    transitions.
    """
    if flush_denormal and not torch.set_flush_denormal(True):
        pytest.skip("this processor does not flush denormal numbers")
    request.addfinalizer(lambda: torch.set_flush_denormal(False))
    size = len(SCORES)
    logits = torch.zeros(size, 4, num_tags, dtype=dtype)
    logits[:, 0, 1:] = logits[:, 2, 1:] = -5000.0
    logits[:, 1, 0] = -torch.tensor(SCORES, dtype=dtype)
    logits[:, 3, 0] = 3.0
    for spread in SPREADS:
        transitions = torch.full((num_tags, num_tags), -0.5 * spread, dtype=dtype)
        transitions[0, 1:] = transitions[1:, 0] = -spread
        transitions[0, 0] = 0.0
        parameters = [transitions, torch.zeros(num_tags, dtype=dtype), torch.zeros(num_tags, dtype=dtype)]
        inputs = [tensor.requires_grad_() for tensor in (logits, *parameters)]
        log_z = log_partition(*inputs)
        oracle_inputs = [tensor.detach().double().requires_grad_() for tensor in inputs]
        expected = _log_partition_by_autograd(*oracle_inputs)
        tolerance = 2e-5 if dtype == torch.float32 else 1e-9
        assert_close(log_z.double(), expected, rtol=tolerance, atol=tolerance)
        gradients = torch.autograd.grad(log_z.sum(), inputs)
        for gradient, oracle in zip(gradients, torch.autograd.grad(expected.sum(), oracle_inputs)):
            assert_close(gradient.double(), oracle, rtol=tolerance, atol=tolerance)


SCORES = [0, 20, 50, 80, 86, 88, 100, 105, 200, 600, 690, 709, 730, 760, 2000]
SPREADS = [1, 20, 30, 33, 36, 40, 45, 52, 60, 90, 200, 320, 340, 360, 400, 3000]


def _log_partition_by_autograd(logits, transitions, start, end):
    """log Z (B,), step by step."""
    score = logits[:, 0] + start
    for step in logits[:, 1:].unbind(1):
        score = torch.logsumexp(score.unsqueeze(2) + transitions, 1) + step
    return torch.logsumexp(score + end, 1)


@pytest.mark.parametrize("batch_size", [3, 20])
def test_forbidden_tags_and_transitions(batch_size):
    """Scores of -inf equal leaving the tag out."""
    inputs, lengths = arguments(batch_size, 5, 4, ragged=True)
    logits, transitions, start, end = (tensor.detach() for tensor in inputs)
    logits[:, :, 3] = -math.inf
    transitions[3] = transitions[:, 3] = -math.inf
    full = [tensor.requires_grad_() for tensor in (logits, transitions, start, end)]
    without = [tensor.detach()[..., :3].clone() for tensor in full]
    without[1] = without[1][:3]
    without = [tensor.requires_grad_() for tensor in without]
    log_z = log_partition(*full, lengths)
    expected = log_partition(*without, lengths)
    assert_close(log_z, expected)
    gradients = torch.autograd.grad(log_z.sum(), full)
    for gradient, oracle in zip(gradients, torch.autograd.grad(expected.sum(), without)):
        kept = gradient[:3, :3] if gradient.dim() == 2 else gradient[..., :3]
        assert_close(kept, oracle)
        assert not gradient[..., 3].any()


def test_a_step_without_a_possible_tag():
    inputs, _ = arguments(3, 4, 5, ragged=False)
    expected = log_partition(*inputs)
    logits = inputs[0].detach().clone()
    logits[1, 2] = -math.inf
    logits.requires_grad_()
    result = log_partition(logits, *inputs[1:])
    assert_close(result[[0, 2]], expected[[0, 2]])
    assert result[1] == -math.inf
    gradients = torch.autograd.grad(result[[0, 2]].sum(), [logits, *inputs[1:]])
    for gradient, oracle in zip(gradients, torch.autograd.grad(expected[[0, 2]].sum(), inputs)):
        assert_close(gradient, oracle)


def test_memory_of_padded_cells_is_never_read():
    inputs, lengths = arguments(18, 6, 5, ragged=True)
    expected = log_partition(*inputs, lengths)
    gradients = torch.autograd.grad(expected.sum(), inputs)
    padded = (torch.arange(6) >= lengths.unsqueeze(1)).unsqueeze(2)
    for filler in (math.nan, math.inf, -math.inf, 1e30):
        spoilt = [inputs[0].detach().masked_fill(padded, filler).requires_grad_(), *inputs[1:]]
        result = log_partition(*spoilt, lengths)
        assert_close(result, expected, rtol=0, atol=0)
        assert_close(torch.autograd.grad(result.sum(), spoilt), gradients, rtol=0, atol=0)
