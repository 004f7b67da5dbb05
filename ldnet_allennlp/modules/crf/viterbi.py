"""
Best tag sequences of a linear-chain CRF, vectorized over the batch.

`best_sequences` keeps the scores of the recursion only and recomputes each predecessor on the way back: an argmax over
(B, N) per step instead of (B, N, N). `k_best_sequences` needs back-pointers.

Scores of -inf forbid a tag, a transition, a first or a last tag. A sequence with the score -inf does not exist, and its
tags are meaningless.
"""

import math

import numpy
import torch

from ldnet_allennlp.modules.crf.steps import last_step, step_mask

# torch vectorizes a reduction over an outer dimension in blocks of four registers.
_BATCH_BLOCK = 32
# torch distributes element-wise work among threads from this size on (at::internal::GRAIN_SIZE). In one step of the
# recursion that costs more than it saves, up to a few times this size.
_MAX_SERIAL_SIZE = 32768
_MAX_PIECES = 4


@torch.no_grad()
def best_sequences(
    emissions: torch.Tensor,
    transitions: torch.Tensor,
    start: torch.Tensor,
    end: torch.Tensor,
    lengths: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Viterbi decoding.

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

    `tuple[torch.Tensor, torch.Tensor]`
        Tags (B, T), 0 beyond a sentence's length, and the scores of the sequences (B,), 0 for a sentence of
        length 0.
    """
    batch_size, num_steps, num_tags = emissions.size()
    to_from = transitions.t().contiguous()  # to_from[j, i]: from tag i to tag j
    # The batch is innermost, so that the maximum over the previous tag is vectorized over sentences.
    padded_size = -(-batch_size // _BATCH_BLOCK) * _BATCH_BLOCK
    scores = emissions.new_zeros(num_steps, num_tags, padded_size)  # (T, N, P)
    best = (
        scores[:, :, :batch_size].transpose(1, 2).copy_(emissions.transpose(0, 1))
    )  # (T, B, N), the same memory
    best[0].add_(start)
    exists = None if lengths is None else step_mask(lengths, num_steps)  # (T, B)
    if exists is not None:
        best.masked_fill_(~exists.unsqueeze(2), 0.0)
    _maximize(scores, to_from)
    at_end = best[-1] if lengths is None else best[last_step(lengths)]  # (B, N)
    final_scores, last_tags = (at_end + end).max(1)
    tags = _trace_back(best, to_from, last_tags, lengths)  # (T, B)
    if exists is not None:
        tags = tags.masked_fill(~exists, 0)
        final_scores = final_scores.masked_fill(~exists[0], 0.0)
    return tags.t(), final_scores


def _maximize(scores: torch.Tensor, to_from: torch.Tensor) -> None:
    """Replace scores (T, N, P) by those of the best sequences up to each step that end in each tag."""
    num_tags, size = scores.size(1), scores[0].numel() * scores.size(1)
    length = num_tags
    if _MAX_SERIAL_SIZE < size <= _MAX_PIECES * _MAX_SERIAL_SIZE:
        length = max(1, _MAX_SERIAL_SIZE * num_tags // size)
    pairs, moves = scores.new_empty(num_tags, num_tags, scores.size(2)), to_from.unsqueeze(2)
    highest = torch.empty_like(scores[0])  # (N, P)
    parts = [slice(first, first + length) for first in range(0, num_tags, length)]
    pieces = [(moves[part], pairs[part], highest[part]) for part in parts]
    steps = scores.unbind(0)
    for previous, current in zip(steps, steps[1:]):
        for piece, space, result in pieces:
            torch.add(previous, piece, out=space)
            torch.amax(space, 1, out=result)
        current.add_(highest)


def _trace_back(
    best: torch.Tensor, to_from: torch.Tensor, last_tags: torch.Tensor, lengths: torch.Tensor | None
) -> torch.Tensor:
    """
    The tags (T, B) of the best sequences, the last one repeated beyond a sentence's length. `best` (T, B, N) are
    the scores of the best sequences by last tag. The same additions as on the way forward find the same maxima, bit
    by bit. In numpy, on the CPU: the steps are small, and it takes a third of torch's time.
    """
    num_steps, batch_size, num_tags = best.size()
    scores, rows, final = best.cpu().contiguous().numpy(), to_from.cpu().numpy(), last_tags.cpu().numpy()
    last = None if lengths is None else lengths.cpu().numpy() - 1
    candidates = numpy.empty((batch_size, num_tags), scores.dtype)
    tags = numpy.empty((num_steps, batch_size), numpy.int64)
    tags[-1] = final
    for t in range(num_steps - 2, -1, -1):
        rows.take(tags[t + 1], axis=0, out=candidates, mode="clip")  # Unclipped, `out` would be buffered.
        numpy.add(candidates, scores[t], out=candidates)
        candidates.argmax(1, out=tags[t])
        if last is not None:
            numpy.copyto(tags[t], final, where=last <= t)
    return torch.from_numpy(tags).to(best.device)


@torch.no_grad()
def k_best_sequences(
    emissions: torch.Tensor,
    transitions: torch.Tensor,
    start: torch.Tensor,
    end: torch.Tensor,
    lengths: torch.Tensor | None,
    k: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    The `k` best sequences, best first. The other parameters are those of `best_sequences`.

    # Returns

    `tuple[torch.Tensor, torch.Tensor]`
        Tags (B, k, T) and scores (B, k). Where there are fewer than k sequences the rest has the score -inf.
        A sentence of length 0 has one sequence, the empty one, with score 0.
    """
    batch_size, num_steps, num_tags = emissions.size()
    if lengths is None:
        lengths = torch.full((batch_size,), num_steps, dtype=torch.long, device=emissions.device)
    exists = step_mask(lengths, num_steps).unsqueeze(2)  # (T, B, 1)
    scores = emissions.transpose(0, 1).masked_fill(~exists, 0.0)  # (T, B, N)
    to_from = transitions.t().contiguous().unsqueeze(2)  # (N, N, 1)
    # best[b, j, r]: score of the r-th best sequence that ends in tag j. This state has the number j * k + r.
    best = scores.new_full((batch_size, num_tags, k), -math.inf)
    best[:, :, 0] = scores[0] + start
    same = torch.arange(num_tags * k, device=scores.device).view(num_tags, k)
    pointers: list[torch.Tensor] = []
    for t in range(1, num_steps):
        pairs = (best.unsqueeze(1) + to_from).reshape(batch_size, num_tags, num_tags * k)
        reached, states = pairs.topk(k, dim=2)  # (B, N, k)
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
