"""
The recursions of a linear-chain CRF's forward-backward algorithm. There are two ways to compute the same
numbers:

* *Scaled*: in probability space, one (B, N) x (N, N) matrix product a step, with the scores relative to the
  step's highest and the forward probabilities renormalised at every step. Numbers below the smallest positive
  one, u, are lost. With M the smallest of exp(transition), relative to the largest, what flows into a tag is
  at least M and what is lost before it at most N * u / M: a relative error of N * u / M^2, whatever the
  scores. Where this is below the rounding error of the data type, the way is taken in that type; where it is
  only below that of float64, in float64.
* *Logarithmic*: logsumexp over (B, N, N). Slower, but good for any transitions, -inf (forbidden) included.

The choice is made once a call, from one number that is read back from the device: the spread of the
transitions, -log M.
"""

import math
from typing import Callable, Optional, Tuple

import torch

from ldnet_allennlp.modules.crf.layout import by_tag, pair_space

# exp2() on the CPU takes half the time of torch's exp(), and a fraction of it where that underflows.
_LN_2 = math.log(2.0)
_LOG2_E = 1.0 / _LN_2
# What a forward recursion leaves for its backward recursion.
State = Tuple[torch.Tensor, ...]
# From the state and the derivatives of a result with respect to each log Z_t, (T, B), its derivatives with
# respect to scores (B, T, N) and transitions (N, N).
BackwardRecursion = Callable[[State, torch.Tensor], Tuple[torch.Tensor, torch.Tensor]]


def forward_recursion(
    scores: torch.Tensor, exists: Optional[torch.Tensor], transitions: torch.Tensor
) -> Tuple[BackwardRecursion, torch.Tensor, State]:
    """
    Chooses the way and runs its forward recursion.

    # Parameters

    scores : `torch.Tensor`
        (T, B, N), overwritten: fresh memory of this size costs more than what is computed in it.
    exists : `torch.Tensor`
        (T, B), the mask of the steps that exist, `None` if all do.
    transitions : `torch.Tensor`
        (N, N), from the row's tag to the column's tag.

    # Returns

    `Tuple[BackwardRecursion, torch.Tensor, State]`
        The backward recursion, the increments of log Z (T, B), zero where there is no step, and the state.
    """
    if scores.size(0) == 1:
        backward, (increments, state) = _backward_one_step, _forward_one_step(scores)
    else:
        highest, highest_transition = scores.amax(2, keepdim=True), transitions.max()  # (T, B, 1), ()
        # NaN, which takes the logarithmic way, if no score of a step is finite.
        spread = highest_transition - transitions.min() + 0.0 * highest.sum()
        dtype = _scaled_dtype(scores, float(spread))
        if dtype is None:
            backward, (increments, state) = _backward_logarithmic, _forward_logarithmic(scores, transitions)
        else:
            factors = scores.to(dtype).sub_(highest).mul_(_LOG2_E).exp2_()
            moves = (transitions.to(dtype) - highest_transition).exp_()
            backward, (increments, state) = _backward_scaled, _forward_scaled(factors, moves)
            increments += highest.squeeze(2)
            increments[1:] += highest_transition
    if exists is not None:
        increments.masked_fill_(~exists, 0.0)
    return backward, increments, state


def _scaled_dtype(scores: torch.Tensor, spread: float) -> Optional[torch.dtype]:
    """
    The type in which the scaled way is exact for scores (T, B, N) and transitions of this spread, `None` if
    there is none.
    """
    # Apple's GPUs have no float64.
    for dtype in [scores.dtype] if scores.device.type == "mps" else [scores.dtype, torch.float64]:
        info = torch.finfo(dtype)
        if 2 * spread < math.log(info.eps) - math.log(info.tiny) - math.log(scores.size(2)):  # False for NaN.
            return dtype
    return None


def _forward_scaled(factors: torch.Tensor, moves: torch.Tensor) -> Tuple[torch.Tensor, State]:
    """`factors` (T, B, N) and `moves` (N, N) are exp(scores) and exp(transitions), at most 1."""
    num_steps, batch_size, _ = factors.size()
    # The matrix products write into memory that is given to them: autocast leaves such alone.
    forward = torch.empty_like(factors)  # forward[t, b, j]: probability of tag j at step t given steps 0 to t
    scales = factors.new_empty(num_steps, batch_size, 1)  # what makes a step's probabilities sum to 1
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
    return -scales.squeeze(2).log(), (forward, factors, moves)


def _backward_scaled(state: State, seeds: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
    forward, factors, moves = state
    num_steps, batch_size, num_tags = forward.size()
    # backward[t, b, i]: the derivative with respect to score (t, b, i), divided by forward[t, b, i]. What log
    # Z_t adds to it is the same for all tags.
    backward = seeds.unsqueeze(2).expand_as(forward).contiguous()
    passed = torch.empty_like(backward)  # passed[t]: backward[t] with the factors of step t, for step t - 1
    from_to = moves.t()
    steps, messages, step_factors = backward.unbind(0), passed.unbind(0), factors.unbind(0)
    for t in range(num_steps - 1, 0, -1):
        torch.mul(steps[t], step_factors[t], out=messages[t])
        steps[t - 1].addmm_(messages[t], from_to)
    by_transition = torch.zeros_like(moves)
    by_transition.addmm_(forward[:-1].view(-1, num_tags).t(), passed[1:].view(-1, num_tags)).mul_(moves)
    by_score = passed.view(batch_size, num_steps, num_tags)  # its memory: what it held is not needed any more
    torch.mul(backward, forward, out=by_score.transpose(0, 1))
    return by_score, by_transition


def _finite(tensor: torch.Tensor) -> torch.Tensor:
    """-inf replaced by the lowest number: subtracted from -inf, that leaves -inf and not NaN."""
    return tensor.clamp(min=torch.finfo(tensor.dtype).min)


# What follows computes in logarithms to the base 2.


def _log_sum(tensor: torch.Tensor, dim: int) -> torch.Tensor:
    """log2(sum(exp2(tensor), dim)) of numbers that may be -inf but not inf. Overwrites `tensor`."""
    highest = _finite(tensor.amax(dim, keepdim=True))
    return tensor.sub_(highest).exp2_().sum(dim).log2_().add_(highest.squeeze(dim))


def _forward_one_step(scores: torch.Tensor) -> Tuple[torch.Tensor, State]:
    """For scores (1, B, N): a softmax, good for any scores."""
    scores = scores * _LOG2_E
    totals = _log_sum(scores.clone(), 2)  # (1, B)
    return totals * _LN_2, (scores.sub_(_finite(totals).unsqueeze(2)).exp2_(),)


def _backward_one_step(state: State, seeds: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
    (probabilities,) = state
    num_tags = probabilities.size(2)
    return (probabilities * seeds.unsqueeze(2)).transpose(0, 1), probabilities.new_zeros(num_tags, num_tags)


def _forward_logarithmic(scores: torch.Tensor, transitions: torch.Tensor) -> Tuple[torch.Tensor, State]:
    batch_size = scores.size(1)
    highest = _finite(scores.amax(2, keepdim=True))  # (T, B, 1)
    # Log-probabilities of the tag at step t given steps 0 to t; before step t is reached, its scores. These
    # are taken relative to the step's highest, as scores of very different size would lose digits in the
    # sums.
    forward = by_tag((scores - highest).mul_(_LOG2_E).transpose(0, 1))  # (T, N, P)
    to_from = (transitions.t() * _LOG2_E).contiguous()  # to_from[j, i]: from tag i to tag j
    inflow = torch.zeros_like(forward)  # The logarithm of what flows into tag j at step t.
    totals = [_log_sum(forward[0].clone(), 0)]
    forward[0].sub_(_finite(totals[0]))
    pairs = pair_space(forward)
    for t in range(1, forward.size(0)):
        torch.add(forward[t - 1].unsqueeze(0), to_from.unsqueeze(2), out=pairs)
        inflow[t] = _log_sum(pairs, 1)
        forward[t].add_(inflow[t])
        totals.append(_log_sum(forward[t].clone(), 0))
        forward[t].sub_(_finite(totals[t]))
    increments = torch.stack(totals)[:, :batch_size] * _LN_2 + highest.squeeze(2)
    return increments, (forward, inflow, to_from)


def _backward_logarithmic(state: State, seeds: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
    forward, inflow, to_from = state
    batch_size = seeds.size(1)
    # What log Z_t adds to the derivatives is shared among the tags by their probabilities.
    by_score = forward.exp2()  # (T, N, P)
    by_score[:, :, :batch_size] *= seeds.unsqueeze(1)
    by_score[:, :, batch_size:] = 0.0
    pairs = pair_space(forward)
    by_to_from = torch.zeros_like(to_from)
    for t in range(forward.size(0) - 1, 0, -1):
        # The probability of each previous tag given the tag is its share of the inflow.
        torch.add(forward[t - 1].unsqueeze(0), to_from.unsqueeze(2), out=pairs)
        pairs.sub_(_finite(inflow[t]).unsqueeze(1)).exp2_().mul_(by_score[t].unsqueeze(1))
        by_score[t - 1].add_(pairs.sum(0))
        by_to_from.add_(pairs.sum(2))
    return by_score[:, :, :batch_size].permute(2, 0, 1).contiguous(), by_to_from.t()
