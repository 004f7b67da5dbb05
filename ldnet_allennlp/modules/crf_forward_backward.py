"""
The log-likelihood of a linear-chain CRF and its gradient in closed form (forward-backward).

Automatic differentiation through the T steps of the forward recursion stores and walks a graph of T nodes over
(B, N, N) tensors. The gradient has a closed form, observed minus expected, whose expectations (the marginal
probabilities) cost one more recursion of the same kind. All of it is one `torch.autograd.Function`, and one of two ways
is gone that compute the same numbers:

* *Scaled*: in probability space, one (B, N) x (N, N) matrix product a step, renormalised at every step. It is exact as
  long as no probability underflows. After any step the forward probabilities of a sentence differ from each other by
  factors of at most exp(S), S being the spread (maximum minus minimum) of the scores plus that of the transitions. So
  where N * exp(S) is well inside the range of the data type the scaled way is gone in that type; where it is only
  inside the range of float64, in float64.
* *In logarithms*: logsumexp over (B, N, N). Slower, and good for any scores, -inf (forbidden) included.

The choice is made once a call, from one number read back from the device: S.
"""

import math
from typing import Any, List, Optional, Tuple

import torch
from torch.autograd.function import once_differentiable

from ldnet_allennlp.modules.crf_layout import by_step, by_tag, last_step, pair_space, step_mask

# The scaled way keeps this many factors of e away from the smallest normal number.
_SAFETY_MARGIN = 5.0
# What a forward recursion leaves for its backward recursion.
_State = Tuple[torch.Tensor, ...]


class LogLikelihood(torch.autograd.Function):
    """
    The log-likelihood of a tag sequence for each sentence: its score minus log Z.

    Call `LogLikelihood.apply(emissions, transitions, start, end, lengths, tags, step_weights)`.

    # Parameters

    emissions : `torch.Tensor`
        Scores (B, T, N), B and T at least 1, in float32 or float64. Cells beyond a sentence's length may hold anything.
    transitions : `torch.Tensor`
        (N, N), from the row's tag to the column's tag, of the same type as the emissions, like `start` and `end`.
    start, end : `torch.Tensor`
        (N,), scores of the first and of the last tag.
    lengths : `torch.Tensor`
        (B,), the number of steps of each sentence, `None` if all have T. A sentence without steps has the result 0.
    tags : `torch.Tensor`
        (B, T), anything beyond a sentence's length. `None` leaves the score out: the result is -log Z.
    step_weights : `torch.Tensor`
        (B, T). Log Z is the sum of log Z_t - log Z_(t-1) over the steps, where Z_t sums over the tag sequences of the
        steps up to t; these multiply the summands. `None` for 1 each. They get no gradient.

    # Returns

    `torch.Tensor`
        (B,), differentiable once: a second derivative raises a `RuntimeError`.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        emissions: torch.Tensor,
        transitions: torch.Tensor,
        start: torch.Tensor,
        end: torch.Tensor,
        lengths: Optional[torch.Tensor],
        tags: Optional[torch.Tensor],
        step_weights: Optional[torch.Tensor],
    ) -> torch.Tensor:
        scores, exists = _scores_by_step(emissions, start, end, lengths)
        ctx.scaled, increments, state = _forward(scores, exists, transitions)
        if step_weights is not None:
            step_weights = step_weights.t()
            increments = increments * step_weights
        result = -increments.sum(0).to(scores.dtype)
        if tags is not None:
            tags = tags.t() if exists is None else tags.t().masked_fill(~exists, 0)
            result += _path_scores(scores, exists, transitions, tags)
        ctx.save_for_backward(lengths, tags, step_weights, *state)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> Tuple[Optional[torch.Tensor], ...]:  # type: ignore[override]
        lengths, tags, step_weights, *state = ctx.saved_tensors
        num_steps = state[0].size(0)
        exists = None if lengths is None else step_mask(lengths, num_steps)
        scale = gradient.expand(num_steps, -1)
        if exists is not None:
            scale = scale.masked_fill(~exists, 0.0)  # (T, B)
        seeds = _seeds(scale, lengths, step_weights)
        by_score, by_transition = _backward(ctx.scaled, tuple(state), seeds, gradient.dtype)
        if tags is not None:
            by_score.scatter_add_(2, tags.unsqueeze(2), scale.unsqueeze(2))
            if num_steps > 1:
                by_transition.index_put_((tags[:-1], tags[1:]), scale[1:], accumulate=True)
        by_end = by_score[-1] if lengths is None else by_score[last_step(lengths)]  # (B, N)
        return by_score.transpose(0, 1), by_transition, by_score[0].sum(0), by_end.sum(0), None, None, None


@torch.no_grad()
def token_marginals(
    emissions: torch.Tensor,
    transitions: torch.Tensor,
    start: torch.Tensor,
    end: torch.Tensor,
    lengths: Optional[torch.Tensor],
) -> torch.Tensor:
    """
    The probability of each tag at each step, (B, T, N): the derivative of log Z with respect to the emissions. It is
    zero beyond a sentence's length and carries no graph. The parameters are those of `LogLikelihood`.
    """
    scores, exists = _scores_by_step(emissions, start, end, lengths)
    scaled, increments, state = _forward(scores, exists, transitions)
    scale = torch.ones_like(increments) if exists is None else exists.to(increments.dtype)
    by_score, _ = _backward(scaled, state, -_seeds(scale, lengths, None), scores.dtype)
    return by_score.transpose(0, 1).contiguous()


def _scores_by_step(
    emissions: torch.Tensor, start: torch.Tensor, end: torch.Tensor, lengths: Optional[torch.Tensor]
) -> Tuple[torch.Tensor, Optional[torch.Tensor]]:
    """
    Scores (T, B, N) with those of the first and of the last tag included, zero beyond the end of a sentence, and the
    mask (T, B) of the steps that exist, `None` if all do.
    """
    scores = by_step(emissions)
    scores[0] += start
    if lengths is None:
        scores[-1] += end
        return scores, None
    scores[last_step(lengths)] += end
    exists = step_mask(lengths, scores.size(0))
    return scores.masked_fill_(~exists.unsqueeze(2), 0.0), exists


def _path_scores(
    scores: torch.Tensor, exists: Optional[torch.Tensor], transitions: torch.Tensor, tags: torch.Tensor
) -> torch.Tensor:
    """The scores (B,) of the sequences `tags` (T, B)."""
    result = scores.gather(2, tags.unsqueeze(2)).squeeze(2).sum(0)
    if tags.size(0) == 1:
        return result
    moves = transitions[tags[:-1], tags[1:]]  # (T - 1, B)
    return result + (moves if exists is None else moves.masked_fill(~exists[1:], 0.0)).sum(0)


def _seeds(
    scale: torch.Tensor, lengths: Optional[torch.Tensor], step_weights: Optional[torch.Tensor]
) -> torch.Tensor:
    """
    The derivative (T, B) of the result with respect to each log Z_t. `scale` (T, B) is that with respect to minus the
    increments before they are weighted, zero where there is no step.
    """
    if step_weights is not None:
        weighted = scale * step_weights
        seeds = -weighted
        seeds[:-1] += weighted[1:]
        return seeds
    seeds = torch.zeros_like(scale)
    if lengths is None:
        seeds[-1] = -scale[-1]
    else:
        last = last_step(lengths)
        seeds[last] = -scale[last]
    return seeds


def _forward(
    scores: torch.Tensor, exists: Optional[torch.Tensor], transitions: torch.Tensor
) -> Tuple[bool, torch.Tensor, _State]:
    """
    Chooses the way and runs its forward recursion. Returns whether it is the scaled one, the increments of log Z (T, B),
    zero where there is no step, and the state.
    """
    dtype = None
    if scores.size(0) > 1:  # For single steps the choice would cost more than it saves.
        highest, highest_transition = scores.max(), transitions.max()
        spread = float(highest - scores.min() + (highest_transition - transitions.min()))
        dtype = _scaled_dtype(scores, spread)
    if dtype is None:
        increments, state = _forward_in_logarithms(scores, transitions)
    else:
        increments, state = _forward_scaled(
            (scores - highest).to(dtype), (transitions - highest_transition).to(dtype)
        )
        increments += highest
        increments[1:] += highest_transition
    if exists is not None:
        increments.masked_fill_(~exists, 0.0)
    return dtype is not None, increments, state


def _backward(
    scaled: bool, state: _State, seeds: torch.Tensor, dtype: torch.dtype
) -> Tuple[torch.Tensor, torch.Tensor]:
    """
    The derivatives of sum(seeds * log Z_t), `seeds` being (T, B), with respect to scores (T, B, N) and transitions.
    """
    run = _backward_scaled if scaled else _backward_in_logarithms
    by_score, by_transition = run(state, seeds.to(state[0].dtype))
    return by_score.to(dtype), by_transition.to(dtype)


def _scaled_dtype(scores: torch.Tensor, spread: float) -> Optional[torch.dtype]:
    """The type in which the scaled way is exact for scores (T, B, N) of this spread, `None` if there is none."""
    # Apple's GPUs have no float64.
    for dtype in [scores.dtype] if scores.device.type == "mps" else [scores.dtype, torch.float64]:
        limit = -math.log(torch.finfo(dtype).tiny) - math.log(scores.size(2)) - _SAFETY_MARGIN
        if spread < limit:  # False for NaN.
            return dtype
    return None


def _forward_scaled(scores: torch.Tensor, transitions: torch.Tensor) -> Tuple[torch.Tensor, _State]:
    """Scores and transitions are at most 0, and overwritten."""
    # The matrix products write into memory that is given to them: autocast leaves such alone.
    factors = scores.exp_()  # (T, B, N)
    moves = transitions.exp_()  # (N, N)
    forward = torch.empty_like(factors)  # forward[t, b, j]: probability of tag j at step t given steps 0 to t
    totals = factors.new_empty(factors.size(0), factors.size(1), 1)
    steps = forward.unbind(0)
    for t, (current, factor, total) in enumerate(zip(steps, factors.unbind(0), totals.unbind(0))):
        if t == 0:
            current.copy_(factor)
        else:
            torch.mm(steps[t - 1], moves, out=current)
            current.mul_(factor)
        torch.sum(current, 1, keepdim=True, out=total)
        current.div_(total)
    factors /= totals
    return totals.squeeze(2).log(), (forward, factors, moves)


def _backward_scaled(state: _State, seeds: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
    forward, factors, moves = state
    # backward[t, b, i]: the derivative with respect to score (t, b, i) divided by forward[t, b, i]. What a step adds to
    # it is the same for all its tags.
    backward = seeds.unsqueeze(2).expand_as(forward).contiguous()
    passed = torch.empty_like(backward)  # passed[t]: backward[t] with the factors of step t, for step t - 1
    steps = backward.unbind(0)
    from_to = moves.t()
    messages, step_factors = passed.unbind(0), factors.unbind(0)
    for t in range(len(steps) - 1, 0, -1):
        torch.mul(steps[t], step_factors[t], out=messages[t])
        steps[t - 1].addmm_(messages[t], from_to)
    by_transition = torch.zeros_like(moves)
    num_tags = moves.size(0)
    by_transition.addmm_(forward[:-1].view(-1, num_tags).t(), passed[1:].view(-1, num_tags)).mul_(moves)
    return backward.mul_(forward), by_transition


def _finite(tensor: torch.Tensor) -> torch.Tensor:
    """-inf replaced by the lowest number: subtracted from -inf, that leaves -inf and not NaN."""
    return tensor.clamp(min=torch.finfo(tensor.dtype).min)


def _forward_in_logarithms(scores: torch.Tensor, transitions: torch.Tensor) -> Tuple[torch.Tensor, _State]:
    batch_size = scores.size(1)
    # Log-probabilities of the tag at step t given steps 0 to t; before step t is reached, its scores.
    forward = by_tag(scores.clone())  # (T, N, P)
    to_from = transitions.t().contiguous()  # to_from[j, i]: from tag i to tag j
    inflow = torch.zeros_like(forward)  # The logarithm of what flows into tag j at step t.
    totals = [torch.logsumexp(forward[0], 0)]
    forward[0].sub_(_finite(totals[0]))
    pairs = pair_space(forward)
    for t in range(1, forward.size(0)):
        torch.add(forward[t - 1].unsqueeze(0), to_from.unsqueeze(2), out=pairs)
        highest = _finite(pairs.amax(1))
        torch.add(pairs.sub_(highest.unsqueeze(1)).exp_().sum(1).log_(), highest, out=inflow[t])
        forward[t].add_(inflow[t])
        totals.append(torch.logsumexp(forward[t], 0))
        forward[t].sub_(_finite(totals[t]))
    return torch.stack(totals)[:, :batch_size], (forward, inflow, to_from)


def _backward_in_logarithms(state: _State, seeds: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
    forward, inflow, to_from = state
    batch_size = seeds.size(1)
    # What a step adds to the derivative is shared among its tags by their probabilities.
    by_score = forward.exp()  # (T, N, P)
    by_score[:, :, :batch_size] *= seeds.unsqueeze(1)
    by_score[:, :, batch_size:] = 0.0
    pairs = pair_space(forward)
    by_to_from = torch.zeros_like(to_from)
    for t in range(forward.size(0) - 1, 0, -1):
        # The probability of each previous tag given the tag is its share of the inflow.
        torch.add(forward[t - 1].unsqueeze(0), to_from.unsqueeze(2), out=pairs)
        pairs.sub_(_finite(inflow[t]).unsqueeze(1)).exp_().mul_(by_score[t].unsqueeze(1))
        by_score[t - 1].add_(pairs.sum(0))
        by_to_from.add_(pairs.sum(2))
    return by_score[:, :, :batch_size].transpose(1, 2), by_to_from.t()
