"""
Log-partition function of a linear-chain CRF, with a closed-form gradient (forward-backward).

Automatic differentiation through the T steps of the forward recursion stores and walks a graph over (B, N, N) tensors.
Instead, the gradient (the marginal probabilities) costs one more recursion of the same kind, in probability space: one
(B, N) x (N, N) matrix product per step, scores relative to the step's highest and probabilities renormalized at every
step. Numbers below the smallest positive one, u, are lost. Let M be the smallest exp(transition), relative to the
largest. The flow into a tag is at least M, and the loss before it at most N * u / M: a relative error of N * u / M^2,
for any scores. The data type is used if this is below its rounding error, and float64 if it is below that of float64.
Other transitions, -inf (forbidden) included, take a slower recursion by logsumexp.
"""

import math
from typing import Any

import torch

# Transitions (N, N), from the row's tag to the column's, start transitions (N,) and end transitions (N,).
Scores = tuple[torch.Tensor, torch.Tensor, torch.Tensor]

# Stands for -inf in the recursion by logsumexp, whose gradient would be NaN.
_IMPOSSIBLE = -1e30

# torch's exp() on the CPU takes three times as long as exp2(), and 20 to 40 times as long where it underflows.
_LN_2 = math.log(2.0)


def step_mask(lengths: torch.Tensor, num_steps: int) -> torch.Tensor:
    """The mask (T, B) of the first `lengths` (B,) steps."""
    return torch.arange(num_steps, device=lengths.device).unsqueeze(1) < lengths


def last_steps(lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The index of the sentences' last steps in a tensor (T, B, ...); step T - 1 for a sentence without steps."""
    return lengths - 1, torch.arange(lengths.size(0), device=lengths.device)


def log_partition(
    emissions: torch.Tensor,
    scores: Scores,
    lengths: torch.Tensor,
    step_weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """
    Log Z (B,) for emissions (B, T, N), T at least 1, in float32 or float64, and sentences of `lengths` (B,) steps, 0
    for one without steps. Emissions of -inf forbid a tag; cells beyond a sentence's length are arbitrary.

    Log Z is a sum over the steps t of log Z_t - log Z_(t-1), where Z_t sums over the tag sequences of the steps up to
    t. `step_weights` (B, T), which get no gradient, multiply these summands.
    """
    transitions, start, end = (part.to(emissions.dtype) for part in scores)
    steps = emissions.transpose(0, 1).clone(memory_format=torch.contiguous_format)  # (T, B, N)
    steps[0] += start
    steps[last_steps(lengths)] += end
    exists = step_mask(lengths, steps.size(0))  # (T, B)
    steps.masked_fill_(~exists.unsqueeze(2), 0.0)
    weights = exists.to(steps.dtype)
    if step_weights is not None:
        weights = weights * step_weights.t()
    dtype = _scaled_dtype(steps.detach(), transitions.detach())
    if dtype is None:
        return _by_logsumexp(steps, transitions, weights)
    result: torch.Tensor = _Scaled.apply(steps, transitions, weights, dtype)
    return result


def _scaled_dtype(steps: torch.Tensor, transitions: torch.Tensor) -> torch.dtype | None:
    """The type in which the scaled form is exact for scores (T, B, N) and transitions (N, N), or `None`."""
    # NaN, which takes the logarithmic form, if no score of some step is finite.
    spread = float(transitions.max() - transitions.min() + 0.0 * steps.amax(2).sum())
    # Apple's GPUs have no float64.
    for dtype in [steps.dtype] if steps.device.type == "mps" else [steps.dtype, torch.float64]:
        info = torch.finfo(dtype)
        if 2 * spread < math.log(info.eps) - math.log(info.tiny) - math.log(steps.size(2)):  # False for NaN.
            return dtype
    return None


class _Scaled(torch.autograd.Function):
    """The recursion in probability space, for steps (T, B, N), transitions (N, N) and weights (T, B)."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, steps: torch.Tensor, transitions: torch.Tensor, weights: torch.Tensor, dtype: torch.dtype
    ) -> torch.Tensor:
        highest, highest_transition = steps.amax(2, keepdim=True), transitions.max()
        factors = steps.to(dtype).sub(highest).div_(_LN_2).exp2_()  # (T, B, N), at most 1
        moves = (transitions.to(dtype) - highest_transition).exp_()  # (N, N), at most 1
        # forward[t, b, j]: probability of tag j at step t given steps 0 to t; the scales make them sum to 1.
        forward, scales = factors.clone(), torch.empty_like(highest, dtype=dtype)
        product = torch.empty_like(factors[0])  # autocast ignores products into preallocated memory
        states = forward.unbind(0)
        for t, (state, scale) in enumerate(zip(states, scales.unbind(0))):
            if t > 0:
                state.mul_(torch.mm(states[t - 1], moves, out=product))
            torch.sum(state, 1, keepdim=True, out=scale)
            state.mul_(scale.reciprocal_())
        factors.mul_(scales)
        increments = highest.squeeze(2) - scales.squeeze(2).log()
        increments[1:] += highest_transition
        ctx.save_for_backward(steps, transitions, weights, forward, factors, moves)
        return (increments * weights).sum(0).to(steps.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # type: ignore[override]
        steps, transitions, weights, forward, factors, moves = ctx.saved_tensors
        if torch.is_grad_enabled():  # a gradient with a graph is asked for
            log_z = _by_logsumexp(steps, transitions, weights)
            gradients = torch.autograd.grad(log_z, (steps, transitions), gradient, create_graph=True)
            return (*gradients, None, None)
        weights = (gradient * weights).to(forward.dtype)
        seeds = weights.clone()  # the derivative with respect to each log Z_t
        seeds[:-1] -= weights[1:]
        # backward[t, b, i]: the derivative by score (t, b, i), divided by forward[t, b, i]. The summand of log Z_t is
        # the same for all tags. passed[t]: backward[t] with the factors of step t, for step t - 1.
        backward = seeds.unsqueeze(2).expand_as(forward).contiguous()
        passed = torch.empty_like(backward)
        from_to = moves.t()
        rows, messages, step_factors = backward.unbind(0), passed.unbind(0), factors.unbind(0)
        for t in range(len(rows) - 1, 0, -1):
            torch.mul(rows[t], step_factors[t], out=messages[t])
            rows[t - 1].addmm_(messages[t], from_to)
        by_transition = torch.zeros_like(moves)
        by_transition.addmm_(forward[:-1].flatten(0, 1).t(), passed[1:].flatten(0, 1)).mul_(moves)
        return backward.mul_(forward).to(gradient.dtype), by_transition.to(gradient.dtype), None, None


def _by_logsumexp(steps: torch.Tensor, transitions: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Log Z (B,), like `_Scaled`."""
    # Relative to the step's highest: scores of very different size would lose digits in the sums. In base 2.
    highest = steps.detach().amax(2, keepdim=True).clamp(min=_IMPOSSIBLE)  # (T, B, 1)
    steps = ((steps - highest) / _LN_2).clamp(min=_IMPOSSIBLE)
    transitions = (transitions / _LN_2).clamp(min=_IMPOSSIBLE)
    increments: list[torch.Tensor] = []
    state = torch.zeros(())  # the log-probability of each tag given the steps so far, (B, N)
    for step in steps.unbind(0):
        if increments:
            step = step + _log2_sum_exp2(state.unsqueeze(2) + transitions)
        increments.append(_log2_sum_exp2(step))  # (B,)
        state = step - increments[-1].unsqueeze(1)
    # The transitions are in the graph of batches of single words, too.
    log_z = ((torch.stack(increments) * _LN_2 + highest.squeeze(2)) * weights).sum(
        0
    ) + 0.0 * transitions.sum()
    return log_z.masked_fill(log_z < 0.1 * _IMPOSSIBLE, -math.inf)


def _log2_sum_exp2(scores: torch.Tensor) -> torch.Tensor:
    """Over dimension 1. Many scores underflow, and its gradient does not repeat exp2(), unlike torch.logsumexp's."""
    highest = scores.detach().amax(1, keepdim=True)
    return (scores - highest).exp2().sum(1).log2() + highest.squeeze(1)
