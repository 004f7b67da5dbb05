import logging
import multiprocessing
import os
import signal
import time
from hashlib import md5

import numpy
import pytest

from ldnet_allennlp.common import vector_store
from ldnet_allennlp.common.vector_store import VectorStore

SIZE = 3


def key(number):
    return md5(str(number).encode()).digest()


def array(number, dtype="float32"):
    """An array that tells its number, of 1 to 5 rows."""
    rows = number % 5 + 1
    return (numpy.arange(rows * SIZE).reshape(rows, SIZE) + 100 * number).astype(dtype)


def open_store(folder, dtype="float32"):
    return VectorStore(str(folder), SIZE, dtype)


def holds(store, numbers, missing=()):
    for number in numbers:
        numpy.testing.assert_array_equal(store.get(key(number)), array(number, store.dtype))
    return all(store.get(key(number)) is None for number in missing)


class TestVectorStore:
    @pytest.mark.parametrize("dtype", ["float32", "float16"])
    def test_what_was_added_is_there_for_all(self, tmp_path, dtype):
        writer, early = open_store(tmp_path / "a" / "b", dtype), open_store(tmp_path / "a" / "b", dtype)
        assert holds(writer, [], missing=range(9))
        writer.add({key(number): array(number) for number in range(5)})
        writer.add({key(number): array(number) for number in range(3, 8)})
        assert holds(writer, range(8), missing=[8]) and len(writer) == 8
        assert len(early) == 0
        early.refresh()
        for store in (early, open_store(tmp_path / "a" / "b", dtype)):
            assert holds(store, range(8), missing=[8])
            assert store.num_rows == sum(len(array(number)) for number in range(8))
        # Each array once, and nothing beside it.
        size = (tmp_path / "a" / "b" / vector_store.VECTORS).stat().st_size
        assert size == writer.num_rows * SIZE * numpy.dtype(dtype).itemsize

    def test_nothing_is_written_before_something_is_added(self, tmp_path):
        assert holds(open_store(tmp_path / "new"), [], missing=[1])
        assert not (tmp_path / "new").exists()

    def test_what_a_killed_process_leaves(self, tmp_path):
        """Rows without a record, and a part of a record, of every length."""
        open_store(tmp_path).add({key(1): array(1)})
        index = tmp_path / vector_store.INDEX
        whole = index.read_bytes()
        for length in range(len(whole)):
            with open(tmp_path / vector_store.VECTORS, "ab") as vectors:
                vectors.write(b"\xff" * (length + 1))
            index.write_bytes(whole + whole[:length])
            store = open_store(tmp_path)
            assert holds(store, [1], missing=[2]) and len(store) == 1
        store.add({key(2): array(2)})
        assert holds(store, [1, 2]) and holds(open_store(tmp_path), [1, 2])

    def test_damaged_rows_are_left_out_and_written_anew(self, tmp_path, caplog):
        open_store(tmp_path).add({key(number): array(number) for number in range(4)})
        vectors = tmp_path / vector_store.VECTORS
        content = bytearray(vectors.read_bytes())
        content[4 * SIZE] ^= 1  # in the second array
        vectors.write_bytes(content)
        store = open_store(tmp_path)
        with caplog.at_level(logging.WARNING):
            assert holds(store, [0, 2, 3], missing=[1])
        assert str(tmp_path) in caplog.text
        store.add({key(1): array(1)})
        assert holds(store, range(4)) and holds(open_store(tmp_path), range(4))

    def test_rows_that_were_cut_off(self, tmp_path):
        open_store(tmp_path).add({key(number): array(number) for number in range(4)})
        vectors = tmp_path / vector_store.VECTORS
        vectors.write_bytes(vectors.read_bytes()[:-1])
        store = open_store(tmp_path)
        assert holds(store, [0, 1, 2], missing=[3])
        store.add({key(3): array(3)})
        assert holds(open_store(tmp_path), range(4))

    def test_a_damaged_record_ends_the_index(self, tmp_path):
        open_store(tmp_path).add({key(number): array(number) for number in range(4)})
        index = tmp_path / vector_store.INDEX
        content = bytearray(index.read_bytes())
        content[2 * len(content) // 4 + 20] ^= 1  # in the third record
        index.write_bytes(content)
        store = open_store(tmp_path)
        assert holds(store, [0, 1], missing=[2, 3])
        store.add({key(number): array(number) for number in range(2, 6)})
        assert holds(open_store(tmp_path), range(6))

    def test_a_directory_that_was_removed(self, tmp_path):
        store = open_store(tmp_path)
        store.add({key(number): array(number) for number in range(4)})
        kept = store.get(key(3))
        for name in (vector_store.VECTORS, vector_store.INDEX):
            (tmp_path / name).unlink()
        numpy.testing.assert_array_equal(kept, array(3))
        store.add({key(7): array(7)})
        assert holds(store, [7], missing=range(4)) and holds(open_store(tmp_path), [7])

    def test_a_disk_that_cannot_be_written(self, tmp_path, caplog):
        store = open_store(tmp_path)
        store.add({key(1): array(1)})
        (tmp_path / vector_store.LOCK).unlink(missing_ok=True)
        (tmp_path / vector_store.LOCK).mkdir()  # no file can be made here
        with caplog.at_level(logging.WARNING):
            store.add({key(2): array(2)})
            store.add({key(3): array(3)})
        assert holds(store, [1], missing=[2, 3])
        assert [str(tmp_path) in record.getMessage() for record in caplog.records] == [True]

    def test_a_disk_that_gets_full(self, tmp_path, monkeypatch, caplog):
        store = open_store(tmp_path)
        store.add({key(1): array(1)})

        class FullDisk:
            """Fails after the rows of an array, before the record of it."""

            size = vector_store._RECORD.size

            def pack(self, *_):
                raise OSError(28, "No space left on device")

            unpack = vector_store._RECORD.unpack

        monkeypatch.setattr(vector_store, "_RECORD", FullDisk())
        with caplog.at_level(logging.WARNING):
            store.add({key(2): array(2)})
        monkeypatch.undo()
        assert "No space left" in caplog.text and holds(store, [1], missing=[2])
        later = open_store(tmp_path)
        later.add({key(number): array(number) for number in (3, 4)})
        assert holds(later, [1, 3, 4], missing=[2])


class TestSeveralProcesses:
    def write(self, folder, first, last, forever=False):
        store = open_store(folder)
        while True:
            for number in range(first, last):
                store.add({key(number): array(number), key(number + 1): array(number + 1)})
            if not forever:
                break
            first, last = last, 2 * last - first

    def test_write_at_the_same_time(self, tmp_path):
        context = multiprocessing.get_context("fork")
        writers = [
            context.Process(target=self.write, args=(tmp_path, start, start + 60)) for start in (0, 30, 60)
        ]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join(60)
            assert writer.exitcode == 0
        store = open_store(tmp_path)
        assert holds(store, range(121)) and len(store) == 121
        # None was written twice.
        size = (tmp_path / vector_store.VECTORS).stat().st_size
        assert size == store.num_rows * SIZE * 4

    def test_killed_while_they_write(self, tmp_path):
        context = multiprocessing.get_context("fork")
        for attempt in range(4):
            writer = context.Process(
                target=self.write, args=(tmp_path, 1000 * attempt, 1000 * attempt + 50, True)
            )
            writer.start()
            before, store = len(open_store(tmp_path)), open_store(tmp_path)
            deadline = time.monotonic() + 60
            while len(store) < before + 20 + attempt and time.monotonic() < deadline:
                store.refresh()
            os.kill(writer.pid, signal.SIGKILL)
            writer.join()
            store = open_store(tmp_path)
            assert len(store) >= before + 20 + attempt
            store.add({key(-attempt - 1): array(attempt)})  # the lock is free
        store = open_store(tmp_path)
        numbers = [number for number in range(8000) if store.get(key(number)) is not None]
        assert holds(store, numbers) and len(numbers) == len(store) - 4
        assert all(store.get(key(-attempt - 1)) is not None for attempt in range(4))
