"""Windows of a long stream of token ids, for truncated backpropagation through time."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

import numpy

PADDING = 0

# Tokens of a row to copy from the stream at once, for few and long disk reads. 128 rows take 4 MB.
TOKENS_AT_ONCE = 4096


class TokenStream:
    """
    Arrays of shape (n,), or objects with a length and array slices, as one stream after an initial token: the boundary,
    as context of the first word. With `ids`, tokens are positions in that array. Copies only the requested slices.
    """

    def __init__(self, first: int, pieces: Sequence[Any], ids: numpy.ndarray | None = None) -> None:
        self._ids = ids
        self._pieces: list[Any] = [numpy.array([first], dtype=numpy.int32)]
        self._pieces.extend(piece for piece in pieces if len(piece))
        self._starts = [0, *accumulate(len(piece) for piece in self._pieces)]

    def __len__(self) -> int:
        return self._starts[-1]

    def copy(self, start: int, target: numpy.ndarray) -> None:
        """Fill `target`, of shape (n,), with the tokens from `start` on."""
        number = bisect_right(self._starts, start) - 1
        done = 0
        while done < len(target):
            offset = start + done - self._starts[number]
            part = self._pieces[number][offset : offset + len(target) - done]
            target[done : done + len(part)] = part if self._ids is None else self._ids[part]
            done += len(part)
            number += 1


class StreamWindows:
    """
    The windows of a stream of N + 1 tokens: B contiguous rows of N / B tokens that are read side by side, a window of
    T steps at a time. Every token but the one at the end where reading starts is a target exactly once.

    Rows differ in length by at most one, so all windows but the last are full. In the last one a row may have fewer
    tokens, followed by ids and targets of 0 (padding). The original's `LargeDataset` (`model_word_ada/dataset.py`)
    gives the same windows if B * T divides N, and otherwise drops the rest of the stream.

    There are never more rows than targets. With `backward`, each row is read from its end to its start: the first
    window has the last tokens, and the target of a token is the previous one. Within a window, tokens stay in natural
    order. Of several processes, each reads separate `batch_size` rows. All have the same number of windows; finished
    rows are padding.
    """

    def __init__(
        self,
        stream: TokenStream,
        batch_size: int,
        sequence_length: int,
        backward: bool = False,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self._stream = stream
        self._steps = sequence_length
        self._backward = backward
        num_targets = len(stream) - 1
        # Each process has a row, even where there are fewer targets than processes.
        num_rows = min(batch_size, max(1, num_targets // world_size)) * world_size
        length, longer = divmod(num_targets, num_rows)
        starts = [row * length + min(row, longer) for row in range(num_rows + 1)]
        rows_of_rank = range(num_rows // world_size * rank, num_rows // world_size * (rank + 1))
        self._rows = [(starts[row], starts[row + 1]) for row in rows_of_rank]
        self._full_windows = length // sequence_length
        # The rest of the longest row, in any process, after the full windows.
        self._last_steps = length + (longer > 0) - self._full_windows * sequence_length

    def __len__(self) -> int:
        return self._full_windows + (self._last_steps > 0)

    def windows(self, first: int = 0) -> Iterator[tuple[numpy.ndarray, numpy.ndarray]]:
        """
        The ids and the targets of each window, int64 arrays of shape (B, T), from window `first` on. Earlier windows
        are not read.
        """
        steps = self._steps
        most = max(1, TOKENS_AT_ONCE // steps)
        for done in range(first, self._full_windows, most):
            count = min(most, self._full_windows - done)
            tokens = self._tokens(done * steps, count * steps)  # (B, count * T + 1)
            order = range(count - 1, -1, -1) if self._backward else range(count)
            for number in order:
                yield self._window(tokens[:, number * steps : (number + 1) * steps + 1])
        if self._last_steps and first < len(self):
            yield self._window(self._tokens(self._full_windows * steps, self._last_steps))

    def _tokens(self, done: int, steps: int) -> numpy.ndarray:
        """The next tokens of each row after `done` steps, with one target more: shape (B, steps + 1)."""
        tokens = numpy.full((len(self._rows), steps + 1), PADDING, dtype=numpy.int64)
        for row, (start, end) in enumerate(self._rows):
            count = min(steps, end - start - done)
            if count > 0:
                first = end - done - count if self._backward else start + done
                self._stream.copy(first, tokens[row, : count + 1])
        return tokens

    def _window(self, tokens: numpy.ndarray) -> tuple[numpy.ndarray, numpy.ndarray]:
        before, after = tokens[:, :-1], tokens[:, 1:]  # (B, T) each
        if self._backward:
            return after, before * (after != PADDING)
        return before * (after != PADDING), after
