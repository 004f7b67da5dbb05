"""Run tasks in several processes, with results in order and bounded memory."""

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from typing import Any

OnProgress = Callable[[int], None]
"""Called with the number of bytes that were read since the last call."""


def run_tasks(
    function: Callable[[Any, OnProgress], Any],
    tasks: Sequence[Any],
    num_workers: int,
    on_progress: OnProgress,
) -> Iterator[Any]:
    """
    Call `function(task, on_progress)` for each task and yield the results in order.

    # Parameters

    function : `Callable[[Any, OnProgress], Any]`
        Pickled on systems other than Linux. Tasks and results are always pickled.
    tasks : `Sequence[Any]`
    num_workers : `int`
        The number of processes, each with at most two tasks at a time. With 0 or 1, this process runs the tasks itself.
    on_progress : `OnProgress`

    Raises the error of the first task (in order) that fails, and `RuntimeError` if a process dies.
    """
    num_workers = min(num_workers, len(tasks))
    if num_workers < 2:
        for task in tasks:
            yield function(task, on_progress)
        return
    # Forking shares the vocabulary's table; on other systems than Linux it is not safe.
    context = multiprocessing.get_context("fork" if sys.platform.startswith("linux") else "spawn")
    stop = context.RawValue("b", 0)  # without a lock, which a killed process could hold
    pool = ProcessPoolExecutor(num_workers, context, _Worker.start, (function, stop))
    waiting: deque[Future] = deque()
    try:
        for number, task in enumerate(tasks):
            waiting.append(pool.submit(_Worker.run, task))
            while len(waiting) == 2 * num_workers or (waiting and number == len(tasks) - 1):
                result, num_bytes = waiting.popleft().result()
                on_progress(num_bytes)
                yield result
    except BrokenProcessPool as error:
        raise RuntimeError(
            "A process that reads the text was killed. If memory ran out, set num_workers of the lm_stream data "
            "loader to a smaller number."
        ) from error
    finally:
        stop.value = 1
        pool.shutdown(cancel_futures=True)


class _Worker:
    """State of a pool process between tasks."""

    function: Callable[[Any, OnProgress], Any]
    stop: Any

    @classmethod
    def start(cls, function: Callable[[Any, OnProgress], Any], stop: Any) -> None:
        cls.function, cls.stop = staticmethod(function), stop
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends this process
        threading.Thread(target=_exit_with_parent, daemon=True).start()

    @classmethod
    def run(cls, task: Any) -> tuple[Any, int]:
        num_bytes = 0

        def on_progress(more: int) -> None:
            nonlocal num_bytes
            if cls.stop.value:
                raise RuntimeError("stopped")
            num_bytes += more

        return cls.function(task, on_progress), num_bytes


def _exit_with_parent() -> None:
    """Exit with the parent, because the pool's processes otherwise wait forever for a killed parent."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
