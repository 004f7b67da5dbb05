"""A linear layer and the log-softmax over its outputs, read at one class a row, as one step of autograd."""

from typing import Any, Iterator, Optional, Tuple

import torch

# Rows are worked on in blocks of this many numbers, which stay in the cache: 1 MiB in float32.
BLOCK = 1 << 18


class LinearLogProb(torch.autograd.Function):
    """
    `log_softmax(inputs @ weight.T + bias)[row, targets[row]]`, and its gradients.

    It keeps the logits from the forward pass, and makes their gradient in the backward pass;
    `torch.nn.functional.cross_entropy` keeps the log-softmax besides, and makes two gradients of this size. The passes
    over these numbers run block by block.

    `apply(inputs, weight, bias, targets)`: (n, D) vectors, (C, D) weights, (C,) biases or `None`, and (n,) classes. It
    gives (n,) log-probabilities. The matrix products have the precision of the vectors, as under autocast; the
    exponentials, the sums and the result have that of the weights.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        inputs: torch.Tensor,
        weight: torch.Tensor,
        bias: Optional[torch.Tensor],
        targets: torch.Tensor,
    ) -> torch.Tensor:
        dtype = inputs.dtype
        with torch.autocast(device_type=inputs.device.type, enabled=False):
            logits = torch.nn.functional.linear(
                inputs, weight.to(dtype), None if bias is None else bias.to(dtype)
            )  # (n, C)
        normalizer = weight.new_empty(logits.size(0))  # (n,)
        for rows in _blocks(logits):
            normalizer[rows] = torch.logsumexp(logits[rows].to(weight.dtype), dim=1)
        ctx.save_for_backward(inputs, weight, targets, logits, normalizer)
        ctx.has_bias = bias is not None
        return logits.gather(1, targets.unsqueeze(1)).squeeze(1).to(weight.dtype) - normalizer

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Tuple[Optional[torch.Tensor], ...]:  # type: ignore[override]
        inputs, weight, targets, logits, normalizer = ctx.saved_tensors
        of_logits = torch.empty_like(logits)
        of_bias = weight.new_zeros(logits.size(1)) if ctx.has_bias else None
        for rows in _blocks(logits):
            # One for the target, less the probabilities.
            block = (logits[rows] - normalizer[rows].unsqueeze(1)).exp_().neg_()  # (rows, C)
            block.scatter_add_(1, targets[rows].unsqueeze(1), torch.ones_like(block[:, :1]))
            block.mul_(gradient[rows].unsqueeze(1))
            of_logits[rows] = block
            if of_bias is not None:
                of_bias += block.sum(dim=0)
        with torch.autocast(device_type=inputs.device.type, enabled=False):
            of_inputs = of_logits @ weight.to(inputs.dtype)  # (n, D)
            of_weight = (of_logits.t() @ inputs).to(weight.dtype)  # (C, D)
        return of_inputs, of_weight, of_bias, None


def _blocks(logits: torch.Tensor) -> Iterator[slice]:
    """Slices of rows. On a GPU there is one: each launch has a cost there, and this cache is no concern."""
    count, classes = logits.shape
    rows = max(1, BLOCK // classes if logits.device.type == "cpu" else count)
    for first in range(0, count, rows):
        yield slice(first, first + rows)
