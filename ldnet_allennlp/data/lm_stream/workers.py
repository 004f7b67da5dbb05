"""Run tasks in several processes, with results in order and bounded memory."""

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import chain, islice
from multiprocessing.connection import Connection, wait
from typing import Any


def run_tasks(function: Callable[[Any], Any], tasks: Iterable[Any], num_workers: int) -> Iterator[Any]:
    """
    Call a function for each task and yield the results in order. With 0 or 1 workers, or fewer tasks than workers, this
    process calls it. Otherwise each worker has at most two tasks at a time, and all arguments and results are pickled.

    Raises the error of the first task (in order) that fails, and `RuntimeError` if a process dies.
    """
    waiting = iter(tasks)
    first = list(islice(waiting, num_workers))
    waiting = chain(first, waiting)
    if num_workers < 2 or len(first) < num_workers:
        yield from map(function, waiting)
        return
    context = multiprocessing.get_context("fork" if sys.platform.startswith("linux") else "spawn")
    stopped, stop = context.Pipe(duplex=False)
    with ProcessPoolExecutor(num_workers, context, _start, (stopped,)) as pool:
        futures = deque(pool.submit(function, task) for task in islice(waiting, 2 * num_workers))
        try:
            while futures:
                yield futures.popleft().result()
                futures.extend(pool.submit(function, task) for task in islice(waiting, 1))
        except BrokenProcessPool as error:
            raise RuntimeError(
                "A process that reads the text was killed. If memory ran out, set num_workers of the lm_stream data "
                "loader to a smaller number."
            ) from error
        finally:
            stop.send(None)


def _start(stopped: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends this process
    threading.Thread(target=_exit_with_parent, args=(stopped,), daemon=True).start()


def _exit_with_parent(stopped: Connection) -> None:
    """Exit when the parent stops or dies; the pool itself would finish the task, and wait forever for the parent."""
    parent: Any = multiprocessing.parent_process()
    wait([parent.sentinel, stopped])
    os._exit(1)
