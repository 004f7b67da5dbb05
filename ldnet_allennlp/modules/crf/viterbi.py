"""
Best tag sequences of a linear-chain CRF, vectorized over the batch.

Scores of -inf forbid a tag, a transition, a first or a last tag.
"""

import math

import numpy
import torch

from ldnet_allennlp.modules.crf.log_partition import Scores, last_steps, step_mask

# torch vectorizes a maximum over an outer dimension in blocks of four registers.
_BATCH_BLOCK = 32


@torch.no_grad()
def best_sequences(
    emissions: torch.Tensor, scores: Scores, lengths: torch.Tensor, k: int = 1
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    The `k` best sequences for emissions (B, T, N), T at least 1, best first: tags (B, k, T), 0 beyond a sentence's
    length, and scores (B, k), -inf with meaningless tags where there are fewer sequences. An empty sentence has one
    sequence, with score 0.

    The recursion keeps scores alone. The way back finds each predecessor again: it ranks the predecessors of one state
    per step and sequence, not of all states.
    """
    transitions, start, end = (part.to(emissions.dtype) for part in scores)
    batch_size, num_steps, num_tags = emissions.size()
    exists = step_mask(lengths, num_steps)  # (T, B)
    # The batch is innermost, so that the maximum over the previous state is vectorized over sentences.
    blocks = k == 1 and batch_size > 1
    padded_size = -(-batch_size // _BATCH_BLOCK) * _BATCH_BLOCK if blocks else batch_size
    steps = emissions.new_zeros(num_steps, num_tags, padded_size)  # (T, N, P)
    steps[:, :, :batch_size] = emissions.permute(1, 2, 0).masked_fill(~exists.unsqueeze(1), 0.0)
    # State j * k + r is the r-th best sequence that ends in tag j.
    best = steps.new_full((num_steps, num_tags * k, padded_size), -math.inf)
    best[0, ::k] = steps[0] + start.unsqueeze(1)
    to_from = transitions.t().repeat_interleave(k, dim=1)  # (N, N * k), to a tag from a state
    pairs = steps.new_empty(num_tags, num_tags * k, padded_size)
    moves, by_tag = to_from.unsqueeze(2), best.unflatten(1, (num_tags, k))  # (N, N * k, 1), (T, N, k, P)
    for previous, current, step in zip(best, by_tag[1:], steps[1:].unsqueeze(2)):
        torch.add(previous, moves, out=pairs)
        reached = pairs.amax(1, keepdim=True) if k == 1 else pairs.topk(k, dim=1)[0]  # (N, k, P)
        torch.add(reached, step, out=current)

    best = best[:, :, :batch_size].transpose(1, 2).contiguous()  # (T, B, N * k)
    final = best[last_steps(lengths)] + end.repeat_interleave(k)  # (B, N * k)
    # The first one of equal scores, unlike topk.
    final_scores, final_states = final.max(1, keepdim=True) if k == 1 else final.topk(k)  # (B, k)
    final_scores[lengths == 0] = -math.inf
    final_scores[lengths == 0, 0] = 0.0
    # The way back is in numpy, on the CPU: its steps are small, and torch takes twice the time.
    best_scores, from_states, ends = best.cpu().numpy(), to_from.cpu().numpy(), final_states.cpu().numpy()
    last = lengths.cpu().numpy()[:, None] - 1  # (B, 1)
    backwards = [ends]
    for t in range(num_steps - 2, -1, -1):
        # The same additions as on the way forward find the same order, bit by bit.
        candidates = best_scores[t][:, None] + from_states[backwards[-1] // k]  # (B, k, N * k)
        if k == 1:
            states = candidates.argmax(2)
        else:
            ranked = torch.from_numpy(candidates).topk(k)[1].numpy()  # (B, k, k)
            states = numpy.take_along_axis(ranked, backwards[-1][:, :, None] % k, 2).squeeze(2)
        backwards.append(numpy.where(last <= t, ends, states))
    tags = torch.from_numpy(numpy.stack(backwards[::-1]) // k).to(best.device)  # (T, B, k)
    return tags.masked_fill_(~exists.unsqueeze(2), 0).permute(1, 2, 0), final_scores
