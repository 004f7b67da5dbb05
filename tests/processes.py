"""Runs a function in two processes that form a `torch.distributed` group."""

import datetime
import tempfile
from pathlib import Path
from typing import Any, Callable

import torch


def _join(rank: int, world_size: int, meeting_place: str, function: Callable, arguments: tuple) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo",
        init_method=f"file://{meeting_place}",
        rank=rank,
        world_size=world_size,
        timeout=datetime.timedelta(seconds=120),
    )
    try:
        function(rank, world_size, *arguments)
    finally:
        torch.distributed.destroy_process_group()


def run_in_two_processes(function: Callable, *arguments: Any) -> None:
    """
    Calls `function(rank, world_size, *arguments)` in both; an error in one of them is raised here.

    AllenNLP's `run_distributed_test` does the same on one port for all, so two tests of it at a time fail.
    """
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.start_processes(
            _join,
            args=(2, str(Path(folder) / "meeting"), function, arguments),
            nprocs=2,
            start_method="fork",
        )
