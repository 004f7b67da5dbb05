"""
The log-likelihood of a linear-chain CRF and its gradient in closed form (forward-backward).

Automatic differentiation through the T steps of the forward recursion stores and walks a graph of T nodes over
(B, N, N) tensors. The gradient has a closed form, observed minus expected; the expectations, marginal
probabilities, cost one more recursion of the same kind. Here this is one `torch.autograd.Function` with two ways
to compute the same numbers:

* *Scaled*: in probability space, one (B, N) x (N, N) matrix product a step, with the scores relative to the
  step's highest and the forward probabilities renormalised at every step. Numbers below the smallest positive one,
  u, are lost. With M the smallest of exp(transition), relative to the largest, what flows into a tag is at least M
  and what is lost before it at most N * u / M: a relative error of N * u / M^2, whatever the scores. Where this is
  below the rounding error of the data type, the way is taken in that type; where it is only below that of float64,
  in float64.
* *Logarithmic*: logsumexp over (B, N, N). Slower, but good for any transitions, -inf (forbidden) included.

The choice is made once a call, from one number that is read back from the device: the spread of the transitions,
-log M.
"""

import math
from typing import Any, Callable, Optional, Tuple

import torch

from ldnet_allennlp.modules.crf_layout import by_step, by_tag, last_step, pair_space, step_mask

# What a forward recursion leaves for its backward recursion.
_State = Tuple[torch.Tensor, ...]
# From the state and the derivatives of a result with respect to each log Z_t, (T, B), its derivatives with
# respect to scores (T, B, N) and transitions (N, N).
_BackwardRecursion = Callable[[_State, torch.Tensor], Tuple[torch.Tensor, torch.Tensor]]


class LogLikelihood(torch.autograd.Function):
    """
    The log-likelihood of a tag sequence for each sentence: its score minus log Z.

    Call `LogLikelihood.apply(emissions, transitions, start, end, lengths, tags, step_weights)`.

    # Parameters

    emissions : `torch.Tensor`
        Scores (B, T, N), B and T at least 1, in float32 or float64. Cells beyond a sentence's length may hold
        anything.
    transitions : `torch.Tensor`
        (N, N), from the row's tag to the column's tag, of the same type as the emissions, like `start` and `end`.
    start, end : `torch.Tensor`
        (N,), scores of the first and of the last tag.
    lengths : `torch.Tensor`
        (B,), the number of steps of each sentence, `None` if all have T. The result for a sentence without steps
        is 0.
    tags : `torch.Tensor`
        (B, T), anything beyond a sentence's length. `None` leaves the score out: the result is -log Z.
    step_weights : `torch.Tensor`
        (B, T). Log Z is a sum over the steps t of log Z_t - log Z_(t-1), where Z_t sums over the tag sequences of
        the steps up to t; the weights multiply these summands. `None` is 1 for each. They get no gradient.

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
        ctx.backward_recursion, increments, state = _forward(scores, exists, transitions)
        if step_weights is not None:
            step_weights = step_weights.t()
            increments = increments * step_weights
        result = -increments.sum(0).to(scores.dtype)
        if tags is not None:
            tags = tags.t() if exists is None else tags.t().masked_fill(~exists, 0)
            result += _path_scores(scores, exists, transitions, tags)
        ctx.save_for_backward(emissions, transitions, lengths, tags, step_weights, *state)
        return result

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Tuple[Optional[torch.Tensor], ...]:  # type: ignore[override]
        emissions, transitions, lengths, tags, step_weights, *state = ctx.saved_tensors
        with torch.no_grad():
            scale = gradient.expand(emissions.size(1), -1)  # (T, B)
            if lengths is not None:
                scale = scale.masked_fill(~step_mask(lengths, emissions.size(1)), 0.0)
            seeds = _seeds(scale, lengths, step_weights)
            by_score, by_transition = ctx.backward_recursion(tuple(state), seeds.to(state[0].dtype))
            by_score, by_transition = by_score.to(gradient.dtype), by_transition.to(gradient.dtype)
            if tags is not None:
                by_score.scatter_add_(2, tags.unsqueeze(2), scale.unsqueeze(2))
                if tags.size(0) > 1:
                    by_transition.index_put_((tags[:-1], tags[1:]), scale[1:], accumulate=True)
            by_end = by_score[-1] if lengths is None else by_score[last_step(lengths)]  # (B, N)
            gradients = by_score.transpose(0, 1), by_transition, by_score[0].sum(0), by_end.sum(0)
        if torch.is_grad_enabled():
            gradients = _NotDifferentiable.apply(emissions, transitions, *gradients)
        return (*gradients, None, None, None)


class _NotDifferentiable(torch.autograd.Function):
    """
    Ties gradients that were computed outside the graph to what they depend on, and raises where they are
    differentiated in turn: autograd would silently take their derivative for zero.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, emissions: torch.Tensor, transitions: torch.Tensor, *gradients: torch.Tensor
    ) -> Tuple[torch.Tensor, ...]:
        return tuple(gradient.clone() for gradient in gradients)

    @staticmethod
    def backward(ctx: Any, *_: torch.Tensor) -> Tuple[Optional[torch.Tensor], ...]:  # type: ignore[override]
        raise RuntimeError(
            "The CRF's log-likelihood was differentiated twice, but its gradient comes in closed form, without a "
            "graph. AllenNLP's own ConditionalRandomField has second derivatives."
        )


@torch.no_grad()
def token_marginals(
    emissions: torch.Tensor,
    transitions: torch.Tensor,
    start: torch.Tensor,
    end: torch.Tensor,
    lengths: Optional[torch.Tensor],
) -> torch.Tensor:
    """
    The probability of each tag at each step, (B, T, N): the derivative of log Z with respect to the emissions.
    It is zero beyond a sentence's length and carries no graph. The parameters are those of `LogLikelihood`.
    """
    scores, exists = _scores_by_step(emissions, start, end, lengths)
    backward_recursion, increments, state = _forward(scores, exists, transitions)
    scale = torch.ones_like(increments) if exists is None else exists.to(increments.dtype)
    by_score, _ = backward_recursion(state, -_seeds(scale, lengths, None).to(state[0].dtype))
    return by_score.to(scores.dtype).transpose(0, 1).contiguous()


def _scores_by_step(
    emissions: torch.Tensor, start: torch.Tensor, end: torch.Tensor, lengths: Optional[torch.Tensor]
) -> Tuple[torch.Tensor, Optional[torch.Tensor]]:
    """
    Scores (T, B, N) with those of the first and of the last tag included, zero beyond the end of a sentence, and
    the mask (T, B) of the steps that exist, `None` if all do.
    """
    scores = by_step(emissions)
    scores[0].add_(start)
    if lengths is None:
        scores[-1].add_(end)
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
    The derivative (T, B) of the result with respect to each log Z_t. `scale` (T, B) is the result's gradient,
    zero where there is no step.
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
) -> Tuple[_BackwardRecursion, torch.Tensor, _State]:
    """
    Chooses the way and runs its forward recursion. Returns its backward recursion, the increments of log Z
    (T, B), zero where there is no step, and the state.
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
            factors = (scores.to(dtype) - highest).exp_()
            moves = (transitions.to(dtype) - highest_transition).exp_()
            backward, (increments, state) = _backward_scaled, _forward_scaled(factors, moves)
            increments += highest.squeeze(2)
            increments[1:] += highest_transition
    if exists is not None:
        increments.masked_fill_(~exists, 0.0)
    return backward, increments, state


def _scaled_dtype(scores: torch.Tensor, spread: float) -> Optional[torch.dtype]:
    """
    The type in which the scaled way is exact for scores (T, B, N) and transitions of this spread, `None` if there
    is none.
    """
    # Apple's GPUs have no float64.
    for dtype in [scores.dtype] if scores.device.type == "mps" else [scores.dtype, torch.float64]:
        info = torch.finfo(dtype)
        if 2 * spread < math.log(info.eps) - math.log(info.tiny) - math.log(scores.size(2)):  # False for NaN.
            return dtype
    return None


def _forward_scaled(factors: torch.Tensor, moves: torch.Tensor) -> Tuple[torch.Tensor, _State]:
    """`factors` (T, B, N) and `moves` (N, N) are exp(scores) and exp(transitions), at most 1."""
    # The matrix products write into memory that is given to them: autocast leaves such alone.
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
    factors.div_(totals)
    return totals.squeeze(2).log(), (forward, factors, moves)


def _backward_scaled(state: _State, seeds: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
    forward, factors, moves = state
    # backward[t, b, i]: the derivative with respect to score (t, b, i), divided by forward[t, b, i]. What log Z_t
    # adds to it is the same for all tags.
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


def _forward_one_step(scores: torch.Tensor) -> Tuple[torch.Tensor, _State]:
    """For scores (1, B, N): a softmax, good for any scores."""
    totals = _log_sum_exp(scores.clone(), 2)  # (1, B)
    return totals, ((scores - _finite(totals).unsqueeze(2)).exp_(),)


def _backward_one_step(state: _State, seeds: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
    (probabilities,) = state
    num_tags = probabilities.size(2)
    return probabilities * seeds.unsqueeze(2), probabilities.new_zeros(num_tags, num_tags)


def _finite(tensor: torch.Tensor) -> torch.Tensor:
    """-inf replaced by the lowest number: subtracted from -inf, that leaves -inf and not NaN."""
    return tensor.clamp(min=torch.finfo(tensor.dtype).min)


def _log_sum_exp(tensor: torch.Tensor, dim: int) -> torch.Tensor:
    """`torch.logsumexp` of numbers that may be -inf but not inf, in fewer operations; overwrites `tensor`."""
    highest = _finite(tensor.amax(dim, keepdim=True))
    return tensor.sub_(highest).exp_().sum(dim).log_().add_(highest.squeeze(dim))


def _forward_logarithmic(scores: torch.Tensor, transitions: torch.Tensor) -> Tuple[torch.Tensor, _State]:
    batch_size = scores.size(1)
    highest = _finite(scores.amax(2, keepdim=True))  # (T, B, 1)
    # Log-probabilities of the tag at step t given steps 0 to t; before step t is reached, its scores. These are
    # taken relative to the step's highest, as scores of very different size would lose digits in the sums.
    forward = by_tag(scores - highest)  # (T, N, P)
    to_from = transitions.t().contiguous()  # to_from[j, i]: from tag i to tag j
    inflow = torch.zeros_like(forward)  # The logarithm of what flows into tag j at step t.
    totals = [_log_sum_exp(forward[0].clone(), 0)]
    forward[0].sub_(_finite(totals[0]))
    pairs = pair_space(forward)
    for t in range(1, forward.size(0)):
        torch.add(forward[t - 1].unsqueeze(0), to_from.unsqueeze(2), out=pairs)
        inflow[t] = _log_sum_exp(pairs, 1)
        forward[t].add_(inflow[t])
        totals.append(_log_sum_exp(forward[t].clone(), 0))
        forward[t].sub_(_finite(totals[t]))
    return torch.stack(totals)[:, :batch_size] + highest.squeeze(2), (forward, inflow, to_from)


def _backward_logarithmic(state: _State, seeds: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
    forward, inflow, to_from = state
    batch_size = seeds.size(1)
    # What log Z_t adds to the derivatives is shared among the tags by their probabilities.
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
