"""Steps of a batch that count, and their masks."""

from typing import NamedTuple

import torch


class KeptSteps(NamedTuple):
    """
    The steps of a batch that count: `lengths` (B,) is their number in each row, `None` if all do. `order` (B, T) lists
    each row's steps with those that count in front, `None` if they are in front already.
    """

    lengths: torch.Tensor | None
    order: torch.Tensor | None

    @classmethod
    def from_mask(cls, mask: torch.Tensor) -> "KeptSteps":
        """
        `mask` is boolean, (B, T). Only a mask on the CPU is read, because reading it elsewhere waits for the device.
        """
        if mask.device.type == "cpu":
            if bool(mask.all()):
                return cls(None, None)
            if not bool((mask[:, 1:] > mask[:, :-1]).any()):
                return cls(mask.sum(1), None)
        order = torch.sort((~mask).to(torch.uint8), stable=True, dim=1)[1]
        return cls(mask.sum(1), order)

    def to_front(self, tensor: torch.Tensor) -> torch.Tensor:
        """The tensor (B, T, ...) with the steps that count in front."""
        return tensor if self.order is None else tensor.gather(1, self._order_like(tensor))

    def to_places(self, tensor: torch.Tensor) -> torch.Tensor:
        """The reverse of `to_front`; steps that do not count are 0."""
        if self.order is None:
            return tensor
        return torch.zeros_like(tensor).scatter_(1, self._order_like(tensor), tensor)

    def _order_like(self, tensor: torch.Tensor) -> torch.Tensor:
        assert self.order is not None
        return self.order.view(self.order.size() + (1,) * (tensor.dim() - 2)).expand_as(tensor)


def step_mask(lengths: torch.Tensor, num_steps: int) -> torch.Tensor:
    """The mask (T, B) of the first `lengths` (B,) steps."""
    return torch.arange(num_steps, device=lengths.device).unsqueeze(1) < lengths


def last_step(lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The index of the sentences' last steps in a tensor (T, B, ...); step T - 1 for a sentence without steps."""
    return lengths - 1, torch.arange(lengths.size(0), device=lengths.device)
