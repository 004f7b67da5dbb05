"""Detect whether all ranks of a distributed training compute a metric, or only one."""

import logging
from typing import Any

import torch.distributed as dist
from allennlp.common.util import is_distributed
from torch.nn.parallel import DistributedDataParallel

logger = logging.getLogger(__name__)

_state = {"went_through_ddp": False, "warned": False}


def all_ranks_take_part() -> bool:
    """
    Return whether all ranks run the current forward pass, so that its numbers can be summed over them.

    In training and validation AllenNLP calls the model through `DistributedDataParallel`. After the last epoch it
    evaluates the test set on rank 0 only, while the other ranks exit, so waiting for them would fail. Call this within
    the forward pass.
    """
    if not is_distributed():
        return False
    if DistributedDataParallel._get_active_ddp_module() is not None:
        _state["went_through_ddp"] = True
        return True
    if not _state["went_through_ddp"]:
        return True  # another accelerator than DDP
    if not _state["warned"]:
        _state["warned"] = True
        logger.warning(
            "AllenNLP evaluates the test set of a distributed training on one rank only, with this rank's share of the "
            "sentences. `allennlp evaluate` scores all of them."
        )
    return False


def gather(value: Any, all_ranks: bool | None = None) -> list[Any]:
    """The values of all ranks, which must all call this, by default in distributed mode; or only this rank's."""
    if not (is_distributed() if all_ranks is None else all_ranks):
        return [value]
    gathered: list[Any] = [None] * dist.get_world_size()
    # An object, not a tensor, because ranks may have counts for different labels.
    dist.all_gather_object(gathered, value)
    return gathered
