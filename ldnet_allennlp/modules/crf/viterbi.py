"""
Best tag sequences of a linear-chain CRF, vectorized over the batch.

Scores of -inf forbid a tag, a transition, a first or a last tag. A sequence with the score -inf does not exist, and its
tags are meaningless. Cells beyond a sentence's length may hold anything, and their tags are 0.
"""

import math

import numpy
import torch

from ldnet_allennlp.modules.crf.log_partition import Scores, last_steps, step_mask

# torch vectorizes a reduction over an outer dimension in blocks of four registers.
_BATCH_BLOCK = 32


@torch.no_grad()
def best_sequences(
    emissions: torch.Tensor, scores: Scores, lengths: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Viterbi decoding of emissions (B, T, N), B and T at least 1: tags (B, T) and scores (B,) of the best sequences, 0
    for an empty sentence. It keeps the scores of the recursion only and finds each predecessor again on the way back:
    an argmax over (B, N) per step instead of (B, N, N).
    """
    transitions, start, end = (part.to(emissions.dtype) for part in scores)
    batch_size, num_steps, num_tags = emissions.size()
    to_from = transitions.t().contiguous()  # to_from[j, i]: from tag i to tag j
    # The batch is innermost, so that the maximum over the previous tag is vectorized over sentences.
    padded_size = -(-batch_size // _BATCH_BLOCK) * _BATCH_BLOCK
    steps = emissions.new_zeros(num_steps, num_tags, padded_size)  # (T, N, P)
    best = steps[:, :, :batch_size].transpose(1, 2)  # (T, B, N), the same memory
    best.copy_(emissions.transpose(0, 1))[0].add_(start)
    exists = step_mask(lengths, num_steps)  # (T, B)
    best.masked_fill_(~exists.unsqueeze(2), 0.0)
    pairs = emissions.new_empty(num_tags, num_tags, padded_size)
    for previous, current in zip(steps, steps[1:]):
        current += torch.add(previous, to_from.unsqueeze(2), out=pairs).amax(1)
    final_scores, last_tags = (best[last_steps(lengths)] + end).max(1)
    tags = _trace_back(best, to_from, last_tags, lengths).masked_fill(~exists, 0)  # (T, B)
    return tags.t(), final_scores.masked_fill(lengths == 0, 0.0)


def _trace_back(
    best: torch.Tensor, to_from: torch.Tensor, last_tags: torch.Tensor, lengths: torch.Tensor
) -> torch.Tensor:
    """
    The tags (T, B) of the best sequences, the last one repeated beyond a sentence's length. `best` (T, B, N) are
    the scores of the best sequences by last tag. The same additions as on the way forward find the same maxima, bit
    by bit. In numpy, on the CPU: the steps are small, and it takes a third of torch's time.
    """
    num_steps, batch_size, num_tags = best.size()
    scores, rows, final = best.cpu().contiguous().numpy(), to_from.cpu().numpy(), last_tags.cpu().numpy()
    last = lengths.cpu().numpy() - 1
    candidates = numpy.empty((batch_size, num_tags), scores.dtype)
    tags = numpy.empty((num_steps, batch_size), numpy.int64)
    tags[-1] = final
    for t in range(num_steps - 2, -1, -1):
        rows.take(tags[t + 1], axis=0, out=candidates, mode="clip")  # Unclipped, `out` would be buffered.
        numpy.add(candidates, scores[t], out=candidates)
        candidates.argmax(1, out=tags[t])
        numpy.copyto(tags[t], final, where=last <= t)
    return torch.from_numpy(tags).to(best.device)


@torch.no_grad()
def k_best_sequences(
    emissions: torch.Tensor, scores: Scores, lengths: torch.Tensor, k: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    The `k` best sequences, best first: tags (B, k, T) and scores (B, k), -inf where there are fewer sequences. An empty
    sentence has one sequence, with score 0.
    """
    transitions, start, end = (part.to(emissions.dtype) for part in scores)
    batch_size, num_steps, num_tags = emissions.size()
    exists = step_mask(lengths, num_steps).unsqueeze(2)  # (T, B, 1)
    steps = emissions.transpose(0, 1).masked_fill(~exists, 0.0)  # (T, B, N)
    to_from = transitions.t().unsqueeze(2)  # (N, N, 1)
    # best[b, j, r]: score of the r-th best sequence that ends in tag j. This state has the number j * k + r.
    best = steps.new_full((batch_size, num_tags, k), -math.inf)
    best[:, :, 0] = steps[0] + start
    same = torch.arange(num_tags * k, device=steps.device).view(num_tags, k)
    pointers: list[torch.Tensor] = []
    for t in range(1, num_steps):
        pairs = (best.unsqueeze(1) + to_from).reshape(batch_size, num_tags, num_tags * k)
        reached, states = pairs.topk(k, dim=2)  # (B, N, k)
        # Past its end a sentence keeps its scores, and each state points to itself.
        goes_on = exists[t].unsqueeze(2)
        best = torch.where(goes_on, reached + steps[t].unsqueeze(2), best)
        pointers.append(torch.where(goes_on, states, same))
    final_scores, states = (best + end.unsqueeze(1)).view(batch_size, num_tags * k).topk(k, dim=1)  # (B, k)
    backwards = [states]
    for pointer in reversed(pointers):
        backwards.append(pointer.view(batch_size, num_tags * k).gather(1, backwards[-1]))
    tags = torch.stack(backwards[::-1]) // k  # (T, B, k)
    final_scores[lengths == 0] = final_scores.new_full((k,), -math.inf).index_fill_(0, same[0, :1], 0.0)
    return tags.masked_fill_(~exists, 0).permute(1, 2, 0), final_scores
