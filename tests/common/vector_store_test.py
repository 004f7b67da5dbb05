import logging
import multiprocessing
import os
import signal
import sqlite3
import time
from contextlib import closing
from hashlib import md5

import numpy
import pytest

from ldnet_allennlp.common.vector_store import VectorStore

SIZE = 3


def key(number):
    return md5(str(number).encode()).digest()


def array(number, dtype="float32"):
    """An array that tells its number, of 1 to 5 rows."""
    rows = number % 5 + 1
    return (numpy.arange(rows * SIZE).reshape(rows, SIZE) + 100 * number).astype(dtype)


def open_store(folder, dtype="float32"):
    return VectorStore(str(folder / "store.sqlite"), SIZE, dtype)


def holds(store, numbers, missing=()):
    arrays = store.get([key(number) for number in (*numbers, *missing)])
    for number in numbers:
        numpy.testing.assert_array_equal(arrays[key(number)], array(number, store.dtype))
    return len(arrays) == len(set(numbers))


class TestVectorStore:
    @pytest.mark.parametrize("dtype", ["float32", "float16"])
    def test_what_was_added_is_there_for_all(self, tmp_path, dtype):
        writer, early = open_store(tmp_path / "a" / "b", dtype), open_store(tmp_path / "a" / "b", dtype)
        assert holds(writer, [], missing=range(9)) and len(writer) == 0
        writer.add({key(number): array(number) for number in range(5)})
        writer.add({key(number): array(number) for number in range(3, 8)})
        for store in (writer, early, open_store(tmp_path / "a" / "b", dtype)):
            assert holds(store, range(8), missing=[8]) and len(store) == 8

    def test_nothing_is_written_before_something_is_added(self, tmp_path):
        assert holds(open_store(tmp_path / "new"), [], missing=[1])
        assert not (tmp_path / "new").exists()

    def test_a_file_that_was_removed(self, tmp_path):
        store = open_store(tmp_path)
        store.add({key(number): array(number) for number in range(4)})
        (tmp_path / "store.sqlite").unlink()
        store.add({key(7): array(7)})
        assert holds(store, [7], missing=range(4)) and holds(open_store(tmp_path), [7])

    @pytest.mark.parametrize("content", [b"text\n" * 1000, b"SQLite format 3\0" + bytes(4096)])
    def test_a_damaged_file_is_not_used(self, tmp_path, caplog, content):
        (tmp_path / "store.sqlite").write_bytes(content)
        store = open_store(tmp_path)
        with caplog.at_level(logging.WARNING):
            for _ in range(2):
                assert len(store) == 0
                assert holds(store, [], missing=[1])
                store.add({key(1): array(1)})
        assert len(caplog.messages) == 1 and str(tmp_path) in caplog.text
        assert (tmp_path / "store.sqlite").read_bytes() == content

    def test_a_damaged_array_is_not_read(self, tmp_path, caplog):
        store = open_store(tmp_path)
        store.add({key(1): array(1)})
        with closing(sqlite3.connect(tmp_path / "store.sqlite")) as connection, connection:
            connection.execute("UPDATE vectors SET rows = x'0000'")
        assert store.get([key(1)]) == {}
        assert "cannot be read" in caplog.text

    def test_a_disk_that_cannot_be_written(self, tmp_path, caplog):
        (tmp_path / "file").write_text("")
        store = open_store(tmp_path / "file")
        with caplog.at_level(logging.WARNING):
            store.add({key(2): array(2)})
            store.add({key(3): array(3)})
        assert holds(store, [], missing=[2, 3])
        assert len(caplog.messages) == 1 and str(tmp_path) in caplog.text

    def test_a_disk_that_gets_full(self, tmp_path, caplog):
        store = open_store(tmp_path)
        store.add({key(1): array(1)})

        def fill():
            import resource

            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
            full = open_store(tmp_path)
            full.add({key(2): numpy.zeros((50_000, SIZE), "float32")})
            os._exit(0 if full._has_failed and holds(full, [1], missing=[2]) else 1)

        process = multiprocessing.get_context("fork").Process(target=fill)
        process.start()
        process.join()
        assert process.exitcode == 0
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

    def test_killed_while_they_write(self, tmp_path):
        context = multiprocessing.get_context("fork")
        for attempt in range(4):
            writer = context.Process(
                target=self.write, args=(tmp_path, 1000 * attempt, 1000 * attempt + 50, True)
            )
            writer.start()
            store = open_store(tmp_path)
            before = len(store)
            deadline = time.monotonic() + 60
            while len(store) < before + 20 + attempt and time.monotonic() < deadline:
                time.sleep(0.01)
            os.kill(writer.pid, signal.SIGKILL)
            writer.join()
            store = open_store(tmp_path)
            assert len(store) >= before + 20 + attempt
            store.add({key(-attempt - 1): array(attempt)})  # the lock is free
        arrays = open_store(tmp_path).get([key(number) for number in range(8000)])
        numbers = [number for number in range(8000) if key(number) in arrays]
        assert holds(store, numbers) and len(numbers) == len(store) - 4
        assert len(store.get([key(-attempt - 1) for attempt in range(4)])) == 4
