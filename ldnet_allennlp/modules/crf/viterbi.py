"""
The scores of given tag sequences of a linear-chain CRF, its best and its k best sequences, for a whole batch
at once.

The search for the best sequence keeps only the scores of the recursion and finds each predecessor again on
the way back: that costs an argmax over (B, N) a step instead of one over (B, N, N). The k best sequences need
back-pointers.

Scores of -inf forbid: a tag, a transition, a first or a last tag. A sequence returned with the score -inf
stands for one that does not exist, and its tags mean nothing.
"""

import math
from typing import List, Optional, Tuple

import numpy
import torch

from ldnet_allennlp.modules.crf.layout import by_step, by_tag, last_step, pair_space, step_mask

# torch shares out element-wise work among threads from this size on (at::internal::GRAIN_SIZE). In a step of
# the recursion, that costs more than it saves up to a few times this size.
_MAX_SERIAL_SIZE = 32768
_MAX_PIECES = 4
# On the CPU, numpy is faster for fewer sentences than this (measured).
_MIN_BATCH_FOR_TORCH = 16
# From this many candidates on (over batch and tags), and for k small beside the number of tags, the k best
# predecessors are sought in two rounds (measured).
_MIN_CANDIDATES_FOR_TWO_ROUNDS = 20000


def sequence_scores(
    emissions: torch.Tensor,
    transitions: torch.Tensor,
    start: torch.Tensor,
    end: torch.Tensor,
    lengths: Optional[torch.Tensor],
    tags: torch.Tensor,
) -> torch.Tensor:
    """
    The scores (B,) of the sequences `tags` (B, T), which may hold anything beyond a sentence's length.
    Differentiable. The other parameters are those of `best_sequences`.
    """
    tags = tags.t()  # (T, B)
    if lengths is None:
        steps = emissions.gather(2, tags.t().unsqueeze(2)).squeeze(2)  # (B, T)
        return steps.sum(1) + transitions[tags[:-1], tags[1:]].sum(0) + start[tags[0]] + end[tags[-1]]
    exists = step_mask(lengths, tags.size(0))
    tags = tags.masked_fill(~exists, 0)
    steps = emissions.gather(2, tags.t().unsqueeze(2)).squeeze(2).masked_fill(~exists.t(), 0.0)
    moves = transitions[tags[:-1], tags[1:]].masked_fill(~exists[1:], 0.0)  # (T - 1, B)
    ends = (start[tags[0]] + end[tags[last_step(lengths)]]).masked_fill(lengths == 0, 0.0)
    return steps.sum(1) + moves.sum(0) + ends


@torch.no_grad()
def best_sequences(
    emissions: torch.Tensor,
    transitions: torch.Tensor,
    start: torch.Tensor,
    end: torch.Tensor,
    lengths: Optional[torch.Tensor],
) -> Tuple[torch.Tensor, torch.Tensor]:
    """
    Viterbi decoding. On a GPU nothing waits for the device.

    # Parameters

    emissions : `torch.Tensor`
        (B, T, N), B and T at least 1. Cells beyond a sentence's length may hold anything.
    transitions : `torch.Tensor`
        (N, N), from the row's tag to the column's tag.
    start, end : `torch.Tensor`
        (N,), scores of the first and of the last tag.
    lengths : `torch.Tensor`
        (B,), the number of steps of each sentence, `None` if all have T.

    # Returns

    `Tuple[torch.Tensor, torch.Tensor]`
        Tags (B, T), 0 beyond a sentence's length, and the scores of the sequences (B,), 0 for a sentence of
        length 0.
    """
    to_from = transitions.t().contiguous()  # to_from[j, i]: from tag i to tag j
    scores = by_tag(emissions)  # (T, N, P)
    best = scores[:, :, : emissions.size(0)].transpose(1, 2)  # (T, B, N), the same memory
    best[0].add_(start)
    if lengths is not None:
        best.masked_fill_(~step_mask(lengths, best.size(0)).unsqueeze(2), 0.0)
    on_cpu = scores.device.type == "cpu"
    few = scores.size(2) < _MIN_BATCH_FOR_TORCH and scores[0].numel() * scores.size(1) <= _MAX_SERIAL_SIZE
    (maximise_in_numpy if on_cpu and few else maximise_in_torch)(scores, to_from)
    at_end = best[-1] if lengths is None else best[last_step(lengths)]  # (B, N)
    final_scores, last_tags = (at_end + end).max(1)
    trace_back = trace_back_in_numpy if on_cpu else trace_back_in_torch
    tags = trace_back(best, to_from, last_tags, lengths)  # (T, B)
    if lengths is not None:
        tags = tags.masked_fill(~step_mask(lengths, tags.size(0)), 0)
        final_scores = final_scores.masked_fill(lengths == 0, 0.0)
    return tags.t(), final_scores


def maximise_in_torch(scores: torch.Tensor, to_from: torch.Tensor) -> None:
    """
    Makes of scores (T, N, P) those of the best sequences up to each step that end in each tag. `to_from` (N,
    N) are the transitions (to, from).
    """
    pairs, transitions = pair_space(scores), to_from.unsqueeze(2)
    highest = torch.empty_like(scores[0])  # (N, P)
    pieces = [(transitions[part], pairs[part], highest[part]) for part in _serial_pieces(pairs)]
    steps = scores.unbind(0)
    for previous, current in zip(steps, steps[1:]):
        for moves, space, result in pieces:
            torch.add(previous, moves, out=space)
            torch.amax(space, 1, out=result)
        current.add_(highest)


def _serial_pieces(pairs: torch.Tensor) -> List[slice]:
    """Of a work space (N, N, P), the pieces of its first dimension to work on one after the other."""
    num_tags = pairs.size(0)
    length = num_tags
    if _MAX_SERIAL_SIZE < pairs.numel() <= _MAX_PIECES * _MAX_SERIAL_SIZE:
        length = max(1, _MAX_SERIAL_SIZE * num_tags // pairs.numel())
    return [slice(first, first + length) for first in range(0, num_tags, length)]


def maximise_in_numpy(scores: torch.Tensor, to_from: torch.Tensor) -> None:
    """
    `maximise_in_torch`, with the same shapes, for a few sentences on the CPU: numpy takes half the time, as the steps
    are small.
    """
    steps, transitions = scores.transpose(1, 2).numpy(), to_from.t().contiguous().numpy()
    _, batch_size, num_tags = steps.shape
    pairs = numpy.empty((batch_size, num_tags, num_tags), steps.dtype)  # (B, from, to)
    highest = numpy.empty((batch_size, num_tags), steps.dtype)
    for previous, current in zip(steps, steps[1:]):
        numpy.add(previous[:, :, None], transitions, out=pairs)
        numpy.maximum.reduce(pairs, axis=1, out=highest)
        numpy.add(current, highest, out=current)


def trace_back_in_torch(
    best: torch.Tensor, to_from: torch.Tensor, last_tags: torch.Tensor, lengths: Optional[torch.Tensor]
) -> torch.Tensor:
    """
    The tags (T, B) of the best sequences. `best` (T, B, N) are the scores of the best sequences by last tag,
    `to_from` (N, N) the transitions (to, from), `last_tags` (B,) the tags of the sentences' last steps;
    beyond these the last tag is repeated. The same additions as on the way forward find the same maxima, bit
    by bit.
    """
    num_steps = best.size(0)
    if lengths is None:
        lengths = torch.full_like(last_tags, num_steps)
    goes_on = step_mask(lengths - 1, num_steps)
    tags = last_tags
    backwards: List[torch.Tensor] = [tags]
    for t in range(num_steps - 2, -1, -1):
        tags = torch.where(goes_on[t], (to_from.index_select(0, tags) + best[t]).argmax(1), last_tags)
        backwards.append(tags)
    return torch.stack(backwards[::-1])


def trace_back_in_numpy(
    best: torch.Tensor, to_from: torch.Tensor, last_tags: torch.Tensor, lengths: Optional[torch.Tensor]
) -> torch.Tensor:
    """
    `trace_back_in_torch`, with the same shapes, for tensors on the CPU: numpy takes a third of the time, as the steps
    are small.
    """
    num_steps, batch_size, num_tags = best.size()
    scores, rows, final = best.contiguous().numpy(), to_from.numpy(), last_tags.numpy()
    last = None if lengths is None else lengths.numpy() - 1
    candidates = numpy.empty((batch_size, num_tags), scores.dtype)
    tags = numpy.empty((num_steps, batch_size), numpy.int64)
    tags[-1] = final
    for t in range(num_steps - 2, -1, -1):
        rows.take(tags[t + 1], axis=0, out=candidates, mode="clip")  # Unclipped, `out` would be buffered.
        numpy.add(candidates, scores[t], out=candidates)
        candidates.argmax(1, out=tags[t])
        if last is not None:
            numpy.copyto(tags[t], final, where=last <= t)
    return torch.from_numpy(tags)


@torch.no_grad()
def k_best_sequences(
    emissions: torch.Tensor,
    transitions: torch.Tensor,
    start: torch.Tensor,
    end: torch.Tensor,
    lengths: Optional[torch.Tensor],
    k: int,
) -> Tuple[torch.Tensor, torch.Tensor]:
    """
    The `k` best sequences, best first. The other parameters are those of `best_sequences`.

    # Returns

    `Tuple[torch.Tensor, torch.Tensor]`
        Tags (B, k, T) and scores (B, k). Where there are fewer than k sequences the rest has the score -inf.
        A sentence of length 0 has one sequence, the empty one, with score 0.
    """
    scores = by_step(emissions)
    num_steps, batch_size, num_tags = scores.size()
    if lengths is None:
        lengths = torch.full((batch_size,), num_steps, dtype=torch.long, device=scores.device)
    exists = step_mask(lengths, num_steps).unsqueeze(2)  # (T, B, 1)
    scores.masked_fill_(~exists, 0.0)
    to_from = transitions.t().contiguous()
    # best[b, j, r]: score of the r-th best sequence that ends in tag j. This state has the number j * k + r.
    best = scores.new_full((batch_size, num_tags, k), -math.inf)
    best[:, :, 0] = scores[0] + start
    same = torch.arange(num_tags * k, device=scores.device).view(num_tags, k)
    pointers: List[torch.Tensor] = []
    for t in range(1, num_steps):
        reached, states = _k_best_predecessors(best, to_from)
        # Past its end a sentence keeps its scores, and each state points to itself.
        goes_on = exists[t].unsqueeze(2)
        best = torch.where(goes_on, reached + scores[t].unsqueeze(2), best)
        pointers.append(torch.where(goes_on, states, same))

    final_scores, states = (best + end.unsqueeze(1)).view(batch_size, num_tags * k).topk(k, dim=1)  # (B, k)
    backwards = [states]
    for pointer in reversed(pointers):
        states = pointer.view(batch_size, num_tags * k).gather(1, states)
        backwards.append(states)
    tags = torch.div(torch.stack(backwards[::-1]), k, rounding_mode="floor")  # (T, B, k)
    empty = torch.full_like(final_scores, -math.inf)
    empty[:, 0] = 0.0
    final_scores = torch.where((lengths == 0).unsqueeze(1), empty, final_scores)
    return tags.masked_fill_(~exists, 0).permute(1, 2, 0), final_scores


def _k_best_predecessors(best: torch.Tensor, to_from: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
    """
    The k best scores that reach each tag from states (B, N, k), and the numbers of these states: (B, N, k).
    """
    batch_size, num_tags, k = best.size()
    size = batch_size, num_tags, num_tags
    if 3 * k > num_tags or best.numel() * num_tags < _MIN_CANDIDATES_FOR_TWO_ROUNDS:
        pairs = best.unsqueeze(1) + to_from.unsqueeze(2)  # (B, N, N, k)
        return pairs.view(batch_size, num_tags, num_tags * k).topk(k, dim=2)
    # Only the k tags with the best first candidates can have any among the k best.
    tags = (best[:, :, 0].unsqueeze(1) + to_from).topk(k, dim=2)[1]  # (B, N, k)
    states = (tags * k).unsqueeze(3) + torch.arange(k, device=best.device)  # (B, N, k, k)
    states = states.view(batch_size, num_tags, k * k)
    pairs = best.view(batch_size, 1, num_tags * k).expand(-1, num_tags, -1).gather(2, states)
    pairs = pairs + to_from.expand(size).gather(2, tags).repeat_interleave(k, dim=2)
    reached, places = pairs.topk(k, dim=2)
    return reached, states.gather(2, places)
