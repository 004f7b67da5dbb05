"""
Best tag sequences of a linear-chain CRF, vectorized over the batch.

Scores of -inf forbid a tag, a transition, a first or a last tag.
"""

import math

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
    padded_size = -(-batch_size // _BATCH_BLOCK) * _BATCH_BLOCK if k == 1 else batch_size
    steps = emissions.new_zeros(num_steps, num_tags, padded_size)  # (T, N, P)
    steps[:, :, :batch_size] = emissions.permute(1, 2, 0).masked_fill(~exists.unsqueeze(1), 0.0)
    # State j * k + r is the r-th best sequence that ends in tag j.
    best = steps.new_full((num_steps, num_tags * k, padded_size), -math.inf)
    best[0, ::k] = steps[0] + start.unsqueeze(1)
    to_from = transitions.t().repeat_interleave(k, dim=1)  # (N, N * k), to a tag from a state
    pairs = steps.new_empty(num_tags, num_tags * k, padded_size)
    for previous, current, step in zip(best, best[1:], steps[1:]):
        torch.add(previous, to_from.unsqueeze(2), out=pairs)
        reached = pairs.amax(1, keepdim=True) if k == 1 else pairs.topk(k, dim=1)[0]  # (N, k, P)
        torch.add(reached, step.unsqueeze(1), out=current.unflatten(0, (num_tags, k)))

    best = best[:, :, :batch_size].transpose(1, 2).contiguous()  # (T, B, N * k)
    final = best[last_steps(lengths)] + end.repeat_interleave(k)  # (B, N * k)
    # The first one of equal scores, unlike topk.
    final_scores, final_states = final.max(1, keepdim=True) if k == 1 else final.topk(k)  # (B, k)
    final_scores[lengths == 0] = -math.inf
    final_scores[lengths == 0, 0] = 0.0
    backwards = [final_states]
    for previous, goes_on in zip(best[:-1].flip(0), exists[1:].flip(0).unsqueeze(2)):
        # The same additions as on the way forward find the same order, bit by bit.
        candidates = previous.unsqueeze(1) + to_from[backwards[-1] // k]  # (B, k, N * k)
        if k == 1:
            states = candidates.argmax(2)
        else:
            states = candidates.topk(k)[1].gather(2, (backwards[-1] % k).unsqueeze(2)).squeeze(2)
        backwards.append(torch.where(goes_on, states, final_states))
    tags = torch.stack(backwards[::-1]) // k  # (T, B, k)
    return tags.masked_fill_(~exists.unsqueeze(2), 0).permute(1, 2, 0), final_scores
