"""Dropout that takes single elements out of a tensor and puts them back, at the cost of what it drops."""

import math
from typing import Optional

import torch


def draw_dropped(buffer: torch.Tensor, seen: int, dropout: float) -> Optional[torch.Tensor]:
    """
    Draws which elements of the first `seen` columns of a buffer (..., W) a dropout takes out: their numbers (M,) in
    the flat buffer, `None` without a dropout.
    """
    if dropout == 0:
        return None
    width = buffer.size(-1)
    chosen = bernoulli_positions(buffer.numel() // width * seen, dropout)
    return torch.div(chosen, seen, rounding_mode="floor") * width + chosen % seen


def bernoulli_positions(count: int, probability: float) -> torch.Tensor:
    """
    Which of `count` independent trials succeed, each with the given probability: their numbers, in rising order. For
    a small probability the distances between them are drawn, which follow the geometric distribution.
    """
    if probability > 0.1:
        return (torch.rand(count) < probability).nonzero().squeeze(1)
    parts, reached = [torch.empty(0, dtype=torch.long)], -1
    while reached < count - 1:
        expected = (count - 1 - reached) * probability
        uniform = torch.rand(int(expected + 4 * math.sqrt(expected)) + 8, dtype=torch.float64)
        distances = torch.log1p(-uniform).div_(math.log1p(-probability)).floor_().long() + 1
        parts.append(distances.cumsum(0) + reached)
        reached = int(parts[-1][-1])
    positions = torch.cat(parts)
    return positions[positions < count]


def take_out(buffer: torch.Tensor, positions: Optional[torch.Tensor]) -> Optional[torch.Tensor]:
    """Makes the elements of the flat buffer at `positions` (M,) zero, and gives what they were, (M,)."""
    if positions is None:
        return None
    flat = buffer.view(-1)
    kept = flat.index_select(0, positions)
    flat.index_fill_(0, positions, 0.0)
    return kept


def put_back(buffer: torch.Tensor, positions: Optional[torch.Tensor], kept: Optional[torch.Tensor]) -> None:
    """Undoes `take_out`, which gave `kept` (M,) for these `positions` (M,)."""
    if positions is not None and kept is not None:
        buffer.view(-1).index_copy_(0, positions, kept)
