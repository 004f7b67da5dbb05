"""On-disk store of arrays by key, in an SQLite file that any number of processes share."""

import logging
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager

import numpy

logger = logging.getLogger(__name__)

_TIMEOUT = 600  # seconds to wait for other processes that write


class VectorStore:
    """
    On-disk store of arrays of shape (n, size), each under a key of 16 bytes. An array that exists already is not
    written again. A process that is killed leaves no part of an array.

    A full or read-only disk is not an error: the store skips arrays that it cannot write, with one warning.

    The first write creates the file and its folder. A file contains arrays of one size and type.
    """

    def __init__(self, path: str, size: int, dtype: str) -> None:
        self.path = path
        self.size = size
        self.dtype = numpy.dtype(dtype)
        self._has_failed = False

    def __len__(self) -> int:
        if not os.path.exists(self.path):
            return 0
        try:
            with self._connection() as connection:
                return int(connection.execute("SELECT COUNT(*) FROM vectors").fetchone()[0])
        except sqlite3.Error as error:
            self._warn("read", error)
            return 0

    def get(self, keys: Sequence[bytes]) -> dict[bytes, numpy.ndarray]:
        """The arrays of those keys that exist, each of shape (n, size)."""
        if not os.path.exists(self.path):
            return {}
        query = f"SELECT key, rows FROM vectors WHERE key IN ({', '.join('?' * len(keys))})"
        try:
            with self._connection() as connection:
                return {
                    key: numpy.frombuffer(rows, self.dtype).reshape(-1, self.size)
                    for key, rows in connection.execute(query, keys)
                }
        except (sqlite3.Error, ValueError) as error:
            self._warn("read", error)
            return {}

    def add(self, arrays: dict[bytes, numpy.ndarray]) -> None:
        """Write arrays of shape (n, size)."""
        if self._has_failed:
            return
        rows = [(key, numpy.ascontiguousarray(array, self.dtype).data) for key, array in arrays.items()]
        try:
            os.makedirs(os.path.dirname(self.path), exist_ok=True)
            with self._connection() as connection, connection:
                connection.executemany("INSERT OR IGNORE INTO vectors VALUES (?, ?)", rows)
        except (sqlite3.Error, OSError) as error:
            self._warn("written", error)

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """A new connection, as they can be shared neither by threads nor with forked processes."""
        with closing(sqlite3.connect(self.path, timeout=_TIMEOUT)) as connection:
            connection.execute("PRAGMA page_size = 65536")
            connection.execute("PRAGMA synchronous = OFF")  # the journal is enough for killed processes
            connection.execute("CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, rows BLOB)")
            yield connection

    def _warn(self, what: str, error: Exception) -> None:
        if not self._has_failed:
            logger.warning(
                "Vectors of '%s' cannot be %s, so they will be computed each time (remove the file if it is damaged): "
                "%s",
                self.path,
                what,
                error,
            )
        self._has_failed = True
