"""Distributed training with sparse gradients."""

from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from allennlp.models import Model
from allennlp.nn.parallel.ddp_accelerator import DdpAccelerator, DdpWrappedModel, TorchDdpAccelerator
from overrides import overrides
from torch.nn.parallel import DistributedDataParallel


@DdpAccelerator.register("sparse_torch")
class SparseTorchDdpAccelerator(TorchDdpAccelerator):
    """
    AllenNLP's "torch" accelerator for models with sparse gradients, with any backend: torch's `DistributedDataParallel`
    sums sparse gradients with gloo (CPU) only, and rejects them with nccl (GPU). Here the processes exchange the rows
    of their sparse gradients, and `DistributedDataParallel` handles the dense ones. The cost depends on the number of
    rows, not on the vocabulary.

    Registered as a `DdpAccelerator` with name "sparse_torch", with the parameters of "torch":
    `"distributed": {"cuda_devices": [0, 1], "ddp_accelerator": {"type": "sparse_torch"}}`.
    """

    @overrides(check_signature=False)
    def wrap_model(self, model: Model) -> tuple[Model, DdpWrappedModel]:
        if self.cuda_device != torch.device("cpu"):
            model = model.cuda(self.cuda_device)
        sparse = dict(sparse_parameters(model))
        if sparse:
            # A separate group, because DistributedDataParallel determines the order of collectives in the default
            # group.
            group: Any = dist.new_group()
            for parameter in sparse.values():
                dist.broadcast(parameter.data, 0, group=group)  # as the wrapper does with its parameters
                parameter.register_hook(partial(_mean_over_processes, group))
            DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, list(sparse))
        return super().wrap_model(model)


def sparse_parameters(model: torch.nn.Module) -> list[tuple[str, torch.nn.Parameter]]:
    """The parameters with sparse gradients: embeddings and sampled word clusters."""
    parameters = []
    for prefix, module in model.named_modules():
        prefix = prefix and prefix + "."
        if getattr(module, "sparse", False) is True and isinstance(module.weight, torch.nn.Parameter):
            parameters.append((prefix + "weight", module.weight))
        elif hasattr(module, "sampled_parameters"):  # an adaptive softmax
            parameters.extend((prefix + name, parameter) for name, parameter in module.sampled_parameters())
    return parameters


def _mean_over_processes(group: Any, gradient: torch.Tensor) -> torch.Tensor:
    """A gradient hook: the mean of a sparse gradient over all processes."""
    gradient = gradient.coalesce()
    indices, values = gradient.indices(), gradient.values()  # (1, n), (n, ...)
    world_size = dist.get_world_size(group)
    counts = torch.zeros(world_size, dtype=torch.long, device=values.device)
    counts[dist.get_rank(group)] = indices.size(1)
    dist.all_reduce(counts, group=group)
    rows_of_each: list[int] = counts.tolist()

    def gather(tensor: torch.Tensor) -> torch.Tensor:
        # Every process sends as many rows, padded.
        padded = tensor.new_zeros(max(rows_of_each), *tensor.shape[1:])
        padded[: tensor.size(0)] = tensor
        gathered = [torch.empty_like(padded) for _ in rows_of_each]
        dist.all_gather(gathered, padded, group=group)
        # The same order in each process, so that sums are equal.
        return torch.cat([part[:count] for part, count in zip(gathered, rows_of_each)])

    all_indices = gather(indices[0])  # (rows of all,)
    total = torch.sparse_coo_tensor(all_indices.unsqueeze(0), gather(values) / world_size, gradient.shape)
    return total.coalesce()
