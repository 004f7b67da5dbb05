"""Sharing of sentences among the processes of a training."""

from collections.abc import Iterator
from itertools import islice
from typing import TypeVar

from allennlp.data import DatasetReader

_T = TypeVar("_T")


def share_of(reader: DatasetReader, items: Iterator[_T]) -> Iterator[_T]:
    """
    The share of this process: its rank, and its data loading worker.

    AllenNLP's `shard_iterable` asks torch for the rank, but in a worker started by "spawn" torch does not know it, so
    every rank would read everything. The reader has stored its rank.
    """
    distributed, worker = reader.get_distributed_info(), reader.get_worker_info()
    if distributed is not None:
        items = islice(items, distributed.global_rank, None, distributed.world_size)
    if worker is not None:
        items = islice(items, worker.id, None, worker.num_workers)
    return items
