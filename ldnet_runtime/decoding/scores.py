"""Transition scores, and the memory layout of the recursions."""

from typing import Any, NamedTuple

import numpy
from numpy.typing import NDArray

Floats = NDArray[Any]
Integers = NDArray[numpy.int64]


class Scores(NamedTuple):
    """Scores of transitions (N, N), of first labels (N,) and of last labels (N,)."""

    transitions: Floats
    start: Floats
    end: Floats

    def restricted(self, allowed: NDArray[numpy.bool_] | None, forbidden: float = -numpy.inf) -> "Scores":
        """
        The scores with `forbidden` for transitions that are not in `allowed` (N + 2, N + 2); N is the start and N + 1
        the end. A label without any allowed transition (padding, for example) always gets -inf.
        """
        if allowed is None:
            return self
        size = len(self.start)
        never = ~numpy.logical_or(allowed[:size].any(axis=1), allowed[:, :size].any(axis=0))
        either = numpy.logical_or.outer(never, never)
        return Scores(
            numpy.where(allowed[:size, :size], self.transitions, numpy.where(either, -numpy.inf, forbidden)),
            numpy.where(allowed[size, :size], self.start, numpy.where(never, -numpy.inf, forbidden)),
            numpy.where(allowed[:size, size + 1], self.end, numpy.where(never, -numpy.inf, forbidden)),
        )


def by_step(emissions: Floats, lengths: Integers) -> Floats:
    """A copy (T, B, N), with 0 beyond the lengths."""
    steps = numpy.array(emissions.transpose(1, 0, 2), order="C")
    steps[numpy.arange(len(steps))[:, None] >= lengths] = 0
    return steps
