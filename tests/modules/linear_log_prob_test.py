import pytest
import torch

from ldnet_allennlp.modules import linear_log_prob
from ldnet_allennlp.modules.linear_log_prob import LinearLogProb


def arguments(rows=7, classes=11, dim=5, bias=True, dtype=torch.float64):
    generator = torch.Generator().manual_seed(4)
    inputs, weight, offset = (
        torch.randn(shape, generator=generator, dtype=dtype, requires_grad=True)
        for shape in ((rows, dim), (classes, dim), (classes,))
    )
    targets = torch.randint(classes, (rows,), generator=generator)
    return inputs, weight, offset if bias else None, targets


def expected(inputs, weight, bias, targets):
    logits = torch.nn.functional.linear(inputs, weight, bias)
    return torch.log_softmax(logits, dim=1).gather(1, targets.unsqueeze(1)).squeeze(1)


class TestLinearLogProb:
    @pytest.mark.parametrize("bias", [True, False])
    @pytest.mark.parametrize("block", [1, 24, 1 << 18])  # one row, two rows, and all rows at a time
    def test_values_and_gradients(self, bias, block, monkeypatch):
        monkeypatch.setattr(linear_log_prob, "BLOCK", block)
        given = arguments(bias=bias)
        differentiable = [tensor for tensor in given[:3] if tensor is not None]
        weights = torch.linspace(-1, 2, 7, dtype=torch.float64)
        found, wanted = LinearLogProb.apply(*given), expected(*given)
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)
        gradients = torch.autograd.grad((found * weights).sum(), differentiable, retain_graph=True)
        for gradient, other in zip(
            gradients, torch.autograd.grad((wanted * weights).sum(), differentiable, retain_graph=True)
        ):
            torch.testing.assert_close(gradient, other, rtol=0, atol=1e-12)
        again = torch.autograd.grad((found * weights).sum(), differentiable)  # nothing was overwritten
        assert all(torch.equal(gradient, other) for gradient, other in zip(gradients, again))

    def test_large_logits(self):
        inputs, weight, bias, targets = arguments()
        given = (inputs * 300, weight, bias, targets)
        found = LinearLogProb.apply(*given)
        torch.testing.assert_close(found, expected(*given), rtol=1e-12, atol=1e-9)
        assert found.min() < -800  # exp of it is 0
        (gradient,) = torch.autograd.grad(found.sum(), inputs)
        assert gradient.isfinite().all()

    def test_no_rows(self):
        given = arguments(rows=0)
        found = LinearLogProb.apply(*given)
        assert found.shape == (0,)
        found.sum().backward()
        assert given[1].grad.shape == (11, 5) and not given[1].grad.any()

    def test_vectors_of_low_precision(self):
        """The products are bfloat16's, the result and the weights' gradient are float32."""
        inputs, weight, bias, targets = arguments(rows=40, classes=30, dtype=torch.float32)
        low = inputs.detach().bfloat16().requires_grad_()
        found, wanted = (
            LinearLogProb.apply(low, weight, bias, targets),
            expected(inputs, weight, bias, targets),
        )
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, wanted, rtol=0, atol=0.1)
        probabilities = torch.stack(
            [LinearLogProb.apply(low, weight, bias, torch.full((40,), number)) for number in range(30)]
        ).exp()
        torch.testing.assert_close(probabilities.sum(0), torch.ones(40), rtol=0, atol=1e-5)
        for gradient, other in zip(
            torch.autograd.grad(found.sum(), (low, weight, bias)),
            torch.autograd.grad(wanted.sum(), (inputs, weight, bias)),
        ):
            assert gradient.dtype == (torch.bfloat16 if gradient.shape == low.shape else torch.float32)
            torch.testing.assert_close(gradient.float(), other, rtol=0, atol=0.05 * other.abs().max().item())

    def test_keeps_the_logits_and_nothing_else_of_that_size(self):
        inputs, weight, bias, targets = arguments(rows=50, classes=60)
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
            LinearLogProb.apply(inputs, weight, bias, targets)
        assert sizes.count(50 * 60) == 1 and max(sizes) == 50 * 60
