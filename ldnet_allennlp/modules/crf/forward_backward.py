"""
The log-likelihood of a linear-chain CRF and its gradient in closed form (forward-backward).

Automatic differentiation through the T steps of the forward recursion stores and walks a graph of T nodes
over (B, N, N) tensors. The gradient has a closed form, observed minus expected; the expectations, marginal
probabilities, cost one more recursion of the same kind. Here this is one `torch.autograd.Function`.
"""

from typing import Any, Optional, Tuple

import torch

from ldnet_allennlp.modules.crf.layout import by_step, last_step, step_mask
from ldnet_allennlp.modules.crf.recursions import forward_recursion


class LogLikelihood(torch.autograd.Function):
    """
    The log-likelihood of a tag sequence for each sentence: its score minus log Z.

    Call `LogLikelihood.apply(emissions, transitions, start, end, lengths, tags, step_weights)`.

    # Parameters

    emissions : `torch.Tensor`
        Scores (B, T, N), B and T at least 1, in float32 or float64. Cells beyond a sentence's length may hold
        anything.
    transitions : `torch.Tensor`
        (N, N), from the row's tag to the column's tag, of the same type as the emissions, like `start` and
        `end`.
    start, end : `torch.Tensor`
        (N,), scores of the first and of the last tag.
    lengths : `torch.Tensor`
        (B,), the number of steps of each sentence, `None` if all have T. The result for a sentence without
        steps is 0.
    tags : `torch.Tensor`
        (B, T), anything beyond a sentence's length. `None` leaves the score out: the result is -log Z.
    step_weights : `torch.Tensor`
        (B, T). Log Z is a sum over the steps t of log Z_t - log Z_(t-1), where Z_t sums over the tag
        sequences of the steps up to t; the weights multiply these summands. `None` is 1 for each. They get no
        gradient.

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
        result = scores.new_zeros(())
        if tags is not None:
            tags = tags.t() if exists is None else tags.t().masked_fill(~exists, 0)
            result = _path_scores(scores, exists, transitions, tags)
        ctx.backward_recursion, increments, state = forward_recursion(scores, exists, transitions)
        if step_weights is not None:
            step_weights = step_weights.t()
            increments = increments * step_weights
        result = result - increments.sum(0).to(emissions.dtype)
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
            steps = by_score.transpose(0, 1)  # (T, B, N)
            if tags is not None:
                steps.scatter_add_(2, tags.unsqueeze(2), scale.unsqueeze(2))
                if tags.size(0) > 1:
                    by_transition.index_put_((tags[:-1], tags[1:]), scale[1:], accumulate=True)
            by_end = steps[-1] if lengths is None else steps[last_step(lengths)]  # (B, N)
            gradients = by_score, by_transition, steps[0].sum(0), by_end.sum(0)
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
            "The CRF's log-likelihood was differentiated twice, but its gradient comes in closed form, "
            "without a graph. AllenNLP's own ConditionalRandomField has second derivatives."
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
    The probability of each tag at each step, (B, T, N): the derivative of log Z with respect to the
    emissions. It is zero beyond a sentence's length and carries no graph. The parameters are those of
    `LogLikelihood`.
    """
    scores, exists = _scores_by_step(emissions, start, end, lengths)
    backward_recursion, increments, state = forward_recursion(scores, exists, transitions)
    scale = torch.ones_like(increments) if exists is None else exists.to(increments.dtype)
    by_score, _ = backward_recursion(state, -_seeds(scale, lengths, None).to(state[0].dtype))
    return by_score.to(emissions.dtype)


def _scores_by_step(
    emissions: torch.Tensor, start: torch.Tensor, end: torch.Tensor, lengths: Optional[torch.Tensor]
) -> Tuple[torch.Tensor, Optional[torch.Tensor]]:
    """
    Scores (T, B, N) with those of the first and of the last tag included, zero beyond the end of a sentence,
    and the mask (T, B) of the steps that exist, `None` if all do.
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
