"""Sequences of different lengths in one tensor."""

import torch


def reverse_sequences(inputs: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """
    Reverse each sequence of a padded batch within its length; padding stays where it is.

    # Parameters

    inputs : `torch.Tensor`
        Shape (B, T) or (B, T, D).
    lengths : `torch.Tensor`
        Shape (B,), the number of real steps of each row.

    # Returns

    `torch.Tensor`
        The shape of `inputs`. Applying the function twice restores `inputs`.
    """
    steps = torch.arange(inputs.size(1), device=inputs.device).unsqueeze(0)  # (1, T)
    ends = lengths.unsqueeze(1)  # (B, 1)
    index = torch.where(steps < ends, ends - 1 - steps, steps)  # (B, T)
    if inputs.dim() == 3:
        index = index.unsqueeze(-1).expand_as(inputs)  # (B, T, D)
    return inputs.gather(1, index)
