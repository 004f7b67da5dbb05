"""On-disk store of arrays by key, written once and memory-mapped by any number of processes."""

import logging
import os
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy
from filelock import FileLock

logger = logging.getLogger(__name__)

VECTORS, INDEX, LOCK = "vectors.bin", "index.bin", ".lock"

# A record of the index: key, first row, number of rows, CRC-32 of the rows; then the CRC-32 of the record itself.
_RECORD = struct.Struct("<16sQII")
_CHECKSUM = struct.Struct("<I")
_RECORD_SIZE = _RECORD.size + _CHECKSUM.size


class _Entry(NamedTuple):
    first: int
    rows: int
    checksum: int


class VectorStore:
    """
    On-disk store of arrays of shape (n, size), each under a key of 16 bytes.

    One process at a time appends rows to one file, and then their record to another. A killed process may leave rows
    without a record, or an incomplete record; readers skip these, and the next writer overwrites them. Rows are checked
    at the first read. Damaged rows count as missing and can be written again.

    A full or read-only disk is not an error: the store skips arrays that it cannot write, with one warning.

    # Parameters

    directory : `str`
        Created by the first write.
    size : `int`
        The number of columns.
    dtype : `str`
        The name of a numpy type, such as "float32". A directory contains arrays of one size and type.
    """

    def __init__(self, directory: str, size: int, dtype: str) -> None:
        self.directory = directory
        self.size = size
        self.dtype = numpy.dtype(dtype)
        self._entries: dict[bytes, _Entry] = {}
        self._checked: set[bytes] = set()
        self._index_read = 0  # bytes of whole records
        self._rows_used = 0
        self._mapped: numpy.ndarray | None = None
        self._writable = True
        self.refresh()

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def num_rows(self) -> int:
        """The number of rows in all arrays."""
        return sum(entry.rows for entry in self._entries.values())

    def refresh(self) -> None:
        """Read the arrays that other processes have written since the last call; none if the files were removed."""
        try:
            index_size = os.path.getsize(self._path(INDEX))
        except OSError:
            index_size = 0
        if index_size < self._index_read:
            self._entries, self._checked, self._mapped = {}, set(), None
            self._index_read = self._rows_used = 0
        for key, entry in self._new_records():
            self._entries[key] = entry
            self._checked.discard(key)
            self._rows_used = max(self._rows_used, entry.first + entry.rows)

    def get(self, key: bytes) -> numpy.ndarray | None:
        """The array of a key, shape (n, size), as a view of the memory map; `None` if the key is missing."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        end = entry.first + entry.rows
        if self._mapped is None or len(self._mapped) < end:
            self._map()
        if self._mapped is not None and len(self._mapped) >= end:
            rows = self._mapped[entry.first : end]
            if key in self._checked or zlib.crc32(rows.data) == entry.checksum:
                self._checked.add(key)
                return rows
        logger.warning("Damaged vectors in '%s' are ignored and computed again.", self.directory)
        del self._entries[key]
        return None

    def add(self, arrays: dict[bytes, numpy.ndarray]) -> None:
        """Write arrays of shape (n, size), except those that another process has written meanwhile."""
        if not self._writable:
            return
        try:
            os.makedirs(self.directory, exist_ok=True)
            with FileLock(os.path.join(self.directory, LOCK)):
                self.refresh()
                self._append({key: array for key, array in arrays.items() if key not in self._entries})
                self.refresh()
        except (OSError, NotImplementedError) as error:  # the second: a file system without locks
            self._writable = False
            logger.warning(
                "Vectors cannot be written to '%s', so they will be computed each time: %s",
                self.directory,
                error,
            )

    def _append(self, arrays: dict[bytes, numpy.ndarray]) -> None:
        """Call this only under the lock, right after reading the index."""
        records = []
        first = self._rows_used
        with open(self._path(VECTORS), "ab"):
            pass  # makes the file
        with open(self._path(VECTORS), "r+b") as vectors:
            vectors.seek(first * self._row_bytes)
            for key, array in arrays.items():
                rows = numpy.ascontiguousarray(array, dtype=self.dtype)
                vectors.write(rows.data)
                record = _RECORD.pack(key, first, len(rows), zlib.crc32(rows.data))
                records.append(record + _CHECKSUM.pack(zlib.crc32(record)))
                first += len(rows)
        with open(self._path(INDEX), "ab") as index:
            index.truncate(self._index_read)  # removes the part of a record that a killed process left
            index.write(b"".join(records))

    def _new_records(self) -> Iterator[tuple[bytes, _Entry]]:
        try:
            with open(self._path(INDEX), "rb") as index:
                index.seek(self._index_read)
                content = index.read()
        except OSError:
            return
        for start in range(0, len(content) - _RECORD_SIZE + 1, _RECORD_SIZE):
            record = content[start : start + _RECORD.size]
            (checksum,) = _CHECKSUM.unpack_from(content, start + _RECORD.size)
            if zlib.crc32(record) != checksum:
                return
            self._index_read += _RECORD_SIZE
            key, first, rows, checksum = _RECORD.unpack(record)
            yield key, _Entry(first, rows, checksum)

    def _map(self) -> None:
        try:
            rows = os.path.getsize(self._path(VECTORS)) // self._row_bytes
            shape = (rows, self.size)
            self._mapped = numpy.memmap(self._path(VECTORS), self.dtype, "r", shape=shape) if rows else None
        except OSError:
            self._mapped = None

    @property
    def _row_bytes(self) -> int:
        return self.size * self.dtype.itemsize

    def _path(self, name: str) -> str:
        return os.path.join(self.directory, name)
