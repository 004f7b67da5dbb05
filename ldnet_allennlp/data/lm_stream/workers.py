"""Does tasks in several processes: results in the order of the tasks, and progress while they run."""

import multiprocessing
import os
import signal
import sys
from multiprocessing.connection import Connection, wait
from typing import Any, Callable, Dict, Iterator, List, Sequence, cast

# Called with the bytes and the tokens that were done since the last call.
OnProgress = Callable[[int, int], None]

SECONDS_BETWEEN_REPORTS = 0.2


def run_tasks(
    function: Callable[[Any, OnProgress], Any],
    tasks: Sequence[Any],
    num_workers: int,
    on_progress: OnProgress,
) -> Iterator[Any]:
    """
    Calls `function(task, on_progress)` for each task.

    Unlike the pools of the standard library, it neither hangs when a process is killed nor leaves processes behind
    when this one is.

    # Parameters

    function : `Callable[[Any, OnProgress], Any]`
        On systems other than Linux it is pickled, as the tasks and results always are.
    tasks : `Sequence[Any]`
    num_workers : `int`
        The number of processes. With 0 or 1, this process does the tasks itself.
    on_progress : `OnProgress`
        Called in this process with what the tasks reported.

    # Returns

    `Iterator[Any]`
        The results in the order of the tasks. No more than two for each process wait to be taken.

    Raises what `function` raises, for the first task in order that fails, and `RuntimeError` if a process dies.
    """
    num_workers = min(num_workers, len(tasks))
    if num_workers < 2:
        for task in tasks:
            yield function(task, on_progress)
        return
    # Forking costs nothing and shares the vocabulary's table. Elsewhere than on Linux it is not safe.
    context: Any = multiprocessing.get_context("fork" if sys.platform.startswith("linux") else "spawn")
    # Each process counts in two numbers of its own, so they need no lock that one could die with.
    counts = context.RawArray("q", 2 * num_workers)
    workers: Dict[Connection, Any] = {}
    try:
        for number in range(num_workers):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=_work, args=(function, ours, theirs, counts, number, os.getpid()), daemon=True
            )
            process.start()
            theirs.close()  # so that the end of the process is the end of what can be received
            workers[ours] = process
        yield from _results(list(workers), tasks, counts, on_progress)
    finally:
        for connection, process in workers.items():
            connection.close()
            process.kill()
            process.join()


def _results(
    idle: List[Connection], tasks: Sequence[Any], counts: Sequence[int], on_progress: OnProgress
) -> Iterator[Any]:
    most_waiting = 2 * len(idle)
    running: Dict[Connection, int] = {}
    results: Dict[int, Any] = {}
    given = taken = num_bytes = num_tokens = 0
    while taken < len(tasks):
        try:
            while idle and given < min(len(tasks), taken + most_waiting):
                connection = idle.pop()
                connection.send(tasks[given])
                running[connection] = given
                given += 1
            for ready in wait(list(running), timeout=SECONDS_BETWEEN_REPORTS):
                connection = cast(Connection, ready)
                results[running[connection]] = connection.recv()
                del running[connection]
                idle.append(connection)
        except (EOFError, OSError) as error:
            raise RuntimeError(
                "One of the processes that read the text was killed. Was there not enough memory? "
                "Fewer of them (num_workers of the lm_stream data loader) need less."
            ) from error
        done = counts[:]
        on_progress(sum(done[::2]) - num_bytes, sum(done[1::2]) - num_tokens)
        num_bytes, num_tokens = sum(done[::2]), sum(done[1::2])
        while taken in results:
            result = results.pop(taken)
            taken += 1
            if isinstance(result, _Failure):
                raise result.error
            yield result


class _Failure:
    def __init__(self, error: Exception) -> None:
        self.error = error


def _work(
    function: Callable[[Any, OnProgress], Any],
    ours: Connection,
    theirs: Connection,
    counts: Any,
    number: int,
    parent: int,
) -> None:
    """One process: does tasks until there is no one to send them."""
    ours.close()  # else this process would keep its own connection open when the parent is gone
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends this process

    def on_progress(num_bytes: int, num_tokens: int) -> None:
        if os.getppid() != parent:
            os._exit(1)
        counts[2 * number] += num_bytes
        counts[2 * number + 1] += num_tokens

    while True:
        try:
            task = theirs.recv()
        except (EOFError, OSError):
            return
        try:
            result = function(task, on_progress)
        except Exception as error:
            result = _Failure(error)
        theirs.send(result)
