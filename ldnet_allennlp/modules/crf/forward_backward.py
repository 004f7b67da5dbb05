"""
Log-partition function of a linear-chain CRF, with a closed-form gradient (forward-backward).

Automatic differentiation through the T steps of the forward recursion stores and walks a graph over (B, N, N) tensors.
Instead, the gradient (the marginal probabilities) costs one more recursion of the same kind. Both recursions exist in
two forms:

* *Scaled*: in probability space, one (B, N) x (N, N) matrix product per step, scores relative to the step's highest and
  probabilities renormalized at every step. Numbers below the smallest positive one, u, are lost. Let M be the smallest
  exp(transition), relative to the largest. The flow into a tag is at least M, and the loss before it at most N * u / M:
  a relative error of N * u / M^2, for any scores. The data type is used if this is below its rounding error, and
  float64 if it is below that of float64.
* *Logarithmic*: logsumexp over (B, N, N). Slower, but right for any transitions, -inf (forbidden) included.
"""

import math
from typing import Any

import torch

from ldnet_allennlp.modules.crf.steps import last_step, step_mask

_Tensors = tuple[torch.Tensor, ...]


def log_partition(
    emissions: torch.Tensor,
    transitions: torch.Tensor,
    start: torch.Tensor,
    end: torch.Tensor,
    lengths: torch.Tensor | None = None,
    step_weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """
    log Z (B,) of each sentence, 0 for one without steps. Differentiable once: a second derivative raises a
    `RuntimeError`.

    # Parameters

    emissions : `torch.Tensor`
        Scores (B, T, N), B and T at least 1, in float32 or float64; -inf forbids a tag. Cells beyond a sentence's
        length are arbitrary.
    transitions : `torch.Tensor`
        (N, N), from the row's tag to the column's tag, of the same type as the emissions, like `start` and `end`.
    start, end : `torch.Tensor`
        (N,), scores of the first and of the last tag.
    lengths : `torch.Tensor`
        (B,), the number of steps of each sentence, `None` if all have T.
    step_weights : `torch.Tensor`
        (B, T). Log Z is a sum over the steps t of log Z_t - log Z_(t-1), where Z_t sums over the tag sequences of the
        steps up to t; the weights multiply these summands. `None` means 1 for each. They get no gradient.
    """
    result: torch.Tensor = _LogPartition.apply(emissions, transitions, start, end, lengths, step_weights)
    return result


class _LogPartition(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        emissions: torch.Tensor,
        transitions: torch.Tensor,
        start: torch.Tensor,
        end: torch.Tensor,
        lengths: torch.Tensor | None,
        step_weights: torch.Tensor | None,
    ) -> torch.Tensor:
        scores = emissions.transpose(0, 1).clone(memory_format=torch.contiguous_format)  # (T, B, N)
        scores[0] += start
        exists = None if lengths is None else step_mask(lengths, scores.size(0))  # (T, B)
        if lengths is None or exists is None:
            scores[-1] += end
        else:
            scores[last_step(lengths)] += end
            scores.masked_fill_(~exists.unsqueeze(2), 0.0)
        dtype = _scaled_dtype(scores, transitions)
        ctx.backward_recursion = _backward_logarithmic if dtype is None else _backward_scaled
        if dtype is None:
            increments, state = _forward_logarithmic(scores, transitions)
        else:
            increments, state = _forward_scaled(scores, transitions, dtype)
        if exists is not None:
            increments = increments.masked_fill(~exists, 0.0)
        if step_weights is not None:
            increments = increments * step_weights.t()
        ctx.save_for_backward(emissions, transitions, lengths, step_weights, *state)
        return increments.sum(0).to(emissions.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # type: ignore[override]
        emissions, transitions, lengths, step_weights, *state = ctx.saved_tensors
        with torch.no_grad():
            weights = gradient.expand(emissions.size(1), -1)  # (T, B)
            if lengths is not None:
                weights = weights.masked_fill(~step_mask(lengths, emissions.size(1)), 0.0)
            if step_weights is not None:
                weights = weights * step_weights.t()
            seeds = weights.to(state[0].dtype, copy=True)  # the derivative with respect to each log Z_t
            seeds[:-1] -= weights[1:]
            by_score, by_transition = ctx.backward_recursion(seeds, *state)
            by_score, by_transition = by_score.to(gradient.dtype), by_transition.to(gradient.dtype)
            by_end = by_score[-1] if lengths is None else by_score[last_step(lengths)]  # (B, N)
            gradients = by_score.transpose(0, 1), by_transition, by_score[0].sum(0), by_end.sum(0)
        if torch.is_grad_enabled():
            gradients = _NotDifferentiable.apply(emissions, transitions, *gradients)
        return (*gradients, None, None)


class _NotDifferentiable(torch.autograd.Function):
    """Raises an error on second derivatives of closed-form gradients, which autograd would treat as zero."""

    @staticmethod
    def forward(
        ctx: Any, emissions: torch.Tensor, transitions: torch.Tensor, *gradients: torch.Tensor
    ) -> _Tensors:  # type: ignore[override]
        return tuple(gradient.clone() for gradient in gradients)

    @staticmethod
    def backward(ctx: Any, *_: torch.Tensor) -> _Tensors:  # type: ignore[override]
        raise RuntimeError(
            "The CRF's log-likelihood was differentiated twice, but its gradient has no graph. AllenNLP's "
            "ConditionalRandomField has second derivatives."
        )


def _scaled_dtype(scores: torch.Tensor, transitions: torch.Tensor) -> torch.dtype | None:
    """The type in which the scaled form is exact for scores (T, B, N) and transitions (N, N), or `None`."""
    # NaN, which takes the logarithmic form, if no score of some step is finite.
    spread = float(transitions.max() - transitions.min() + 0.0 * scores.amax(2).sum())
    # Apple's GPUs have no float64.
    for dtype in [scores.dtype] if scores.device.type == "mps" else [scores.dtype, torch.float64]:
        info = torch.finfo(dtype)
        if 2 * spread < math.log(info.eps) - math.log(info.tiny) - math.log(scores.size(2)):  # False for NaN.
            return dtype
    return None


def _forward_scaled(
    scores: torch.Tensor, transitions: torch.Tensor, dtype: torch.dtype
) -> tuple[torch.Tensor, _Tensors]:
    """The increments of log Z (T, B) of scores (T, B, N), and the inputs of the backward recursion."""
    highest, highest_transition = scores.amax(2, keepdim=True), transitions.max()
    # exp2() on the CPU takes half the time of torch's exp(), and a fraction of it where that underflows.
    factors = scores.to(dtype).sub_(highest).mul_(1.0 / math.log(2.0)).exp2_()  # (T, B, N), at most 1
    moves = (transitions.to(dtype) - highest_transition).exp_()  # (N, N), at most 1
    # The matrix products write to preallocated memory, so autocast ignores them.
    forward = torch.empty_like(factors)  # forward[t, b, j]: probability of tag j at step t given steps 0 to t
    scales = factors.new_empty(
        factors.size(0), factors.size(1), 1
    )  # what makes a step's probabilities sum to 1
    previous = None
    for current, factor, scale in zip(forward.unbind(0), factors.unbind(0), scales.unbind(0)):
        if previous is None:
            current.copy_(factor)
        else:
            torch.mm(previous, moves, out=current)
            current.mul_(factor)
        torch.sum(current, 1, keepdim=True, out=scale)
        current.mul_(scale.reciprocal_())
        previous = current
    factors.mul_(scales)
    increments = highest.squeeze(2) - scales.squeeze(2).log()
    increments[1:] += highest_transition
    return increments, (forward, factors, moves)


def _backward_scaled(
    seeds: torch.Tensor, forward: torch.Tensor, factors: torch.Tensor, moves: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The derivatives by scores (T, B, N) and transitions (N, N)."""
    num_tags = moves.size(0)
    # backward[t, b, i]: the derivative by score (t, b, i), divided by forward[t, b, i]. The summand of log Z_t is the
    # same for all tags.
    backward = seeds.unsqueeze(2).expand_as(forward).contiguous()
    passed = torch.empty_like(backward)  # passed[t]: backward[t] with the factors of step t, for step t - 1
    from_to = moves.t()
    steps, messages, step_factors = backward.unbind(0), passed.unbind(0), factors.unbind(0)
    for t in range(len(steps) - 1, 0, -1):
        torch.mul(steps[t], step_factors[t], out=messages[t])
        steps[t - 1].addmm_(messages[t], from_to)
    by_transition = torch.zeros_like(moves)
    by_transition.addmm_(forward[:-1].view(-1, num_tags).t(), passed[1:].view(-1, num_tags)).mul_(moves)
    return backward.mul_(forward), by_transition


def _forward_logarithmic(scores: torch.Tensor, transitions: torch.Tensor) -> tuple[torch.Tensor, _Tensors]:
    """Like `_forward_scaled`, in the logarithmic form."""
    # Relative to the step's highest: scores of very different size would lose digits in the sums.
    highest = _finite(scores.amax(2, keepdim=True))  # (T, B, 1)
    forward = scores - highest  # becomes the log-probability of each tag given the steps so far
    increments = highest.squeeze(2).clone()  # (T, B)
    for t, current in enumerate(forward.unbind(0)):
        if t > 0:
            current += torch.logsumexp(forward[t - 1].unsqueeze(2) + transitions, 1)
        total = torch.logsumexp(current, 1)  # (B,)
        increments[t] += total
        current -= _finite(total).unsqueeze(1)
    return increments, (forward, transitions)


def _backward_logarithmic(
    seeds: torch.Tensor, forward: torch.Tensor, transitions: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Like `_backward_scaled`, in the logarithmic form."""
    by_score = forward.exp().mul_(seeds.unsqueeze(2))  # (T, B, N)
    by_transition = torch.zeros_like(transitions)
    for t in range(len(forward) - 1, 0, -1):
        # The share of each previous tag in the flow into a tag; NaN without flow.
        shares = torch.softmax(forward[t - 1].unsqueeze(2) + transitions, 1).nan_to_num(0.0)  # (B, from, to)
        shares *= by_score[t].unsqueeze(1)
        by_score[t - 1] += shares.sum(2)
        by_transition += shares.sum(0)
    return by_score, by_transition


def _finite(tensor: torch.Tensor) -> torch.Tensor:
    """The values with -inf replaced by the lowest number, so that -inf minus it is -inf and not NaN."""
    return tensor.clamp(min=torch.finfo(tensor.dtype).min)
