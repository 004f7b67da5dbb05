"""
Runs `allennlp` commands as a shell would: with an exit status and two streams, and with what ends a process.

The process is a fork of this one, so that it need not import AllenNLP first, which takes longer than most commands.
"""

import multiprocessing
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import torch
from allennlp import commands
from tqdm import tqdm

import ldnet_allennlp  # noqa: F401


class Outcome(NamedTuple):
    """What a command leaves: its exit status (negative: the signal that ended it), its output, its messages."""

    status: int
    out: str
    err: str

    @property
    def message(self) -> str:
        """The last line that it wrote to its error stream, where an error says what it is."""
        return next((line for line in reversed(self.err.splitlines()) if line.strip()), "")


def allennlp(
    *arguments: Any, folder: Path | None = None, before: Callable[[], None] | None = None
) -> Outcome:
    """
    Runs a command in a process of its own.

    # Parameters

    arguments
        Those of the command line.
    folder : `Path`, optional
        Where it runs.
    before : `Callable[[], None]`, optional
        Is called in its process before it starts: to limit what it may do, or to put something in its way.
    """

    def command() -> None:
        if folder is not None:
            os.chdir(folder)
        sys.argv = ["allennlp", *(str(argument) for argument in arguments)]
        commands.import_plugins = lambda: None  # this package is imported; the others take long
        if before is not None:
            before()
        commands.main()

    return in_a_process(command)


def in_a_process(function: Callable[[], None]) -> Outcome:
    """Calls a function in a process of its own."""
    pipes = [os.pipe(), os.pipe()]
    process = multiprocessing.get_context("fork").Process(target=_run, args=(function, pipes))
    process.start()
    for _, end in pipes:
        os.close(end)
    with ThreadPoolExecutor(2) as readers:
        texts = list(readers.map(_read, [end for end, _ in pipes]))
    process.join()
    assert process.exitcode is not None
    return Outcome(process.exitcode, *texts)


def _read(end: int) -> str:
    with open(end, encoding="utf-8", errors="replace") as stream:
        return stream.read()


def _run(function: Callable[[], None], pipes: Any) -> None:
    torch.set_num_threads(1)
    # The lock of this process's bars is shared with all its children, so that none could print after one was killed.
    tqdm.set_lock(threading.RLock())
    for (_, end), descriptor in zip(pipes, (1, 2)):
        os.dup2(end, descriptor)
    sys.stdout, sys.stderr = (os.fdopen(descriptor, "w", encoding="utf-8") for descriptor in (1, 2))
    for ours, theirs in pipes:
        os.close(ours)
        os.close(theirs)
    function()
