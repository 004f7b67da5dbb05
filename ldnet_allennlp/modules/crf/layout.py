"""
Which steps of a batch the CRF's recursions walk over, and how they lay their scores out in memory.
"""

from typing import NamedTuple, Optional, Tuple

import torch

# From this many sentences on, pairs of tags are computed with the batch innermost (measured on AVX-512).
_MIN_BATCH_INNERMOST = 16
# torch vectorises a reduction over an outer dimension in blocks of four registers.
_BATCH_BLOCK = 32


class KeptSteps(NamedTuple):
    """
    Which steps of a batch count: `lengths` (B,) says how many of each row, `None` that all do. `order` (B, T)
    lists the steps of each row with those that count in front; `None` says that they stand there already.
    """

    lengths: Optional[torch.Tensor]
    order: Optional[torch.Tensor]

    @classmethod
    def from_mask(cls, mask: torch.Tensor) -> "KeptSteps":
        """`mask` is (B, T), boolean. It is read on a CPU only: elsewhere that would wait for the device."""
        if mask.device.type == "cpu":
            if bool(mask.all()):
                return cls(None, None)
            if not bool((mask[:, 1:] > mask[:, :-1]).any()):
                return cls(mask.sum(1), None)
        order = torch.sort((~mask).to(torch.uint8), stable=True, dim=1)[1]
        return cls(mask.sum(1), order)

    def to_front(self, tensor: torch.Tensor) -> torch.Tensor:
        """The tensor (B, T, ...) with the steps that count in front."""
        return tensor if self.order is None else tensor.gather(1, self._order_like(tensor, self.order))

    def to_places(self, tensor: torch.Tensor) -> torch.Tensor:
        """The reverse of `to_front`, for a tensor (B, T, ...); steps that do not count are 0."""
        if self.order is None:
            return tensor
        return torch.zeros_like(tensor).scatter_(1, self._order_like(tensor, self.order), tensor)

    @staticmethod
    def _order_like(tensor: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
        return order.view(order.size() + (1,) * (tensor.dim() - 2)).expand_as(tensor)


def step_mask(lengths: torch.Tensor, num_steps: int) -> torch.Tensor:
    """The mask (T, B) of the first `lengths` (B,) steps."""
    return torch.arange(num_steps, device=lengths.device).unsqueeze(1) < lengths


def last_step(lengths: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
    """
    The index of the sentences' last steps in a tensor (T, B, ...); step T - 1 for a sentence without steps.
    """
    return lengths - 1, torch.arange(lengths.size(0), device=lengths.device)


def by_step(emissions: torch.Tensor) -> torch.Tensor:
    """A copy of (B, T, N) as contiguous (T, B, N)."""
    batch_size, num_steps, num_tags = emissions.size()
    return emissions.new_empty(num_steps, batch_size, num_tags).copy_(emissions.transpose(0, 1))


def by_tag(emissions: torch.Tensor) -> torch.Tensor:
    """
    A copy of (B, T, N) as (T, N, P), P >= B, in the memory order for recursions over pairs of tags. On a CPU
    the batch is best innermost, because then reductions over the previous tag are vectorised over sentences,
    rows of zeros filling it up to whole blocks; for a handful of sentences the tags are best innermost.
    """
    batch_size, num_steps, num_tags = emissions.size()
    if batch_size < _MIN_BATCH_INNERMOST:
        return by_step(emissions).transpose(1, 2)
    padded_size = -(-batch_size // _BATCH_BLOCK) * _BATCH_BLOCK
    result = emissions.new_empty(num_steps, num_tags, padded_size)
    result[:, :, :batch_size].copy_(emissions.permute(1, 2, 0))
    result[:, :, batch_size:].zero_()
    return result


def pair_space(scores_by_tag: torch.Tensor) -> torch.Tensor:
    """Uninitialised work space (N, N, P) in the memory order of scores (T, N, P) from `by_tag`."""
    num_tags, size = scores_by_tag.size(1), scores_by_tag.size(2)
    if size < _MIN_BATCH_INNERMOST:
        return scores_by_tag.new_empty(size, num_tags, num_tags).permute(1, 2, 0)
    return scores_by_tag.new_empty(num_tags, num_tags, size)
