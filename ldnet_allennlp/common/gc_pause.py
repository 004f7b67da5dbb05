"""Python's garbage collector, out of the way of work that leaves it nothing to find."""

import gc
import threading
from contextlib import contextmanager
from itertools import islice
from typing import Iterable, Iterator, List, TypeVar

_Item = TypeVar("_Item")

_lock = threading.Lock()
_depth = 0
_was_enabled = False


@contextmanager
def paused_collector() -> Iterator[None]:
    """
    Within it, from any thread, reference cycles are not looked for. Instances and tensors have none: but there are so
    many of them that the collector would walk through all that the process holds again and again.
    """
    global _depth, _was_enabled
    with _lock:
        _depth += 1
        if _depth == 1:
            _was_enabled = gc.isenabled()
            gc.disable()
    try:
        yield
    finally:
        with _lock:
            _depth -= 1
            if _depth == 0 and _was_enabled:
                # Else the next allocation, finding so many new objects, would have it walk through all old ones, too.
                gc.collect(0)
                gc.enable()


def in_groups(items: Iterable[_Item], size: int) -> Iterator[_Item]:
    """
    The items, taken `size` at a time with the collector paused. Those before an error are given out before it is
    raised.
    """
    iterator = iter(items)
    while True:
        group: List[_Item] = []
        try:
            with paused_collector():
                for item in islice(iterator, size):
                    group.append(item)
        except Exception:
            yield from group
            raise
        yield from group
        if len(group) < size:
            return
