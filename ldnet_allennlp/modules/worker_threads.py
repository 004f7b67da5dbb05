"""Independent pieces of work on several threads, each with a share of torch's own."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, Iterable, Iterator, List, TypeVar

import torch

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def map_in_threads(
    function: Callable[[_Item], _Result], items: Iterable[_Item], num_workers: int
) -> Iterator[_Result]:
    """
    The results of `function` in the order of `items`, computed without autograd.

    Torch shares a single operation out among its threads, which then wait for each other after each of them. Where
    there are several pieces of work, a thread for each wastes less: torch releases Python's lock while it computes.
    The workers have torch's threads among them, so that no more run than before, and the caller's autocast.

    # Parameters

    function : `Callable`
    items : `Iterable`
        Are taken in their order, as workers become free.
    num_workers : `int`
        With 1 all is done by the calling thread.

    Raises what `function` raises.
    """
    pieces = list(items)
    threads = torch.get_num_threads()
    num_workers = max(1, min(num_workers, threads, len(pieces)))
    autocast = _autocast_of_this_thread()

    def run(item: _Item) -> _Result:
        with torch.no_grad(), autocast():
            return function(item)

    if num_workers == 1:
        yield from map(run, pieces)
        return
    pool = ThreadPoolExecutor(
        num_workers,
        thread_name_prefix="ldnet",
        initializer=torch.set_num_threads,
        initargs=(threads // num_workers,),
    )
    try:
        futures = [pool.submit(run, piece) for piece in pieces]
        for number, future in enumerate(futures):
            yield future.result()
            futures[number] = None  # type: ignore[call-overload]  # what was given out is not kept here
    finally:
        for future in futures:
            if future is not None:
                future.cancel()
        pool.shutdown()
        # Each thread has its own number of threads, but a new one begins with what was set last, wherever that was.
        torch.set_num_threads(threads)


def _autocast_of_this_thread() -> Callable[[], Any]:
    """Autocast is a state of each thread: a context with that of the caller."""
    if hasattr(torch, "get_autocast_dtype"):  # torch 2.4 and newer
        enabled, dtype = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")
    elif hasattr(torch, "is_autocast_cpu_enabled"):
        enabled, dtype = torch.is_autocast_cpu_enabled(), torch.get_autocast_cpu_dtype()
    return lambda: torch.autocast("cpu", dtype=dtype, enabled=enabled)


def run_in_threads(functions: List[Callable[[], _Result]]) -> List[_Result]:
    """The results of a few functions without arguments, see `map_in_threads`."""
    return list(map_in_threads(lambda function: function(), functions, len(functions)))
