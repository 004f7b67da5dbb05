"""Runs a function in two processes that form a `torch.distributed` group."""

import datetime
import socket
from collections.abc import Callable
from typing import Any

import torch


def _join(rank: int, world_size: int, port: int, function: Callable, arguments: tuple) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo",
        init_method=f"tcp://127.0.0.1:{port}",
        rank=rank,
        world_size=world_size,
        timeout=datetime.timedelta(seconds=120),
    )
    function(rank, world_size, *arguments)
    torch.distributed.barrier()  # neither leaves while the other still waits for it
    # The group is not destroyed but ends with the process: destroying it hangs now and then (gloo, torch 2).


def run_in_two_processes(function: Callable, *arguments: Any) -> None:
    """
    Calls `function(rank, world_size, *arguments)` in both; an error in one of them is raised here.

    AllenNLP's `run_distributed_test` does the same on one port for all, so two tests of it at a time fail.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.start_processes(
        _join, args=(2, port, function, arguments), nprocs=2, start_method="fork"
    )
