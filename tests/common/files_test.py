import io
import multiprocessing
import os
import signal
import sys
from pathlib import Path

import pytest
import torch
from allennlp.common.checks import ConfigurationError

from ldnet_allennlp.common import files
from ldnet_allennlp.common.files import (
    atomic_path,
    atomic_write,
    check_output,
    exclusive_lock,
    save_tensors,
    scratch_directory,
)
from tests.resources import load_tensors

ABANDONED = ".ldnet-0123456789abcdef"
forks = pytest.mark.skipif(sys.platform == "win32", reason="needs fork")


def fork(function):
    process = multiprocessing.get_context("fork").Process(target=function)
    process.start()
    return process


def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)


class TestAtomicWrites:
    def test_a_file_is_replaced_when_it_is_complete(self, tmp_path):
        path = tmp_path / "new" / "report.svg"
        for text in ("first \u00e4", "second"):
            with atomic_write(str(path)) as file:
                file.write(text)
                assert text != "second" or path.read_text("utf-8") == "first \u00e4"
            assert path.read_text("utf-8") == text
        with pytest.raises(KeyError), atomic_write(str(path)) as file:
            file.write("half")
            raise KeyError
        assert path.read_text() == "second" and os.listdir(path.parent) == ["report.svg"]
        with atomic_path(str(path)) as beside:
            assert Path(beside).name == "report.svg"
            Path(beside).write_bytes(b"third")
        assert path.read_bytes() == b"third" and os.listdir(path.parent) == ["report.svg"]

    def test_an_error_leaves_nothing_and_names_the_file(self, tmp_path):
        path = tmp_path / "file"
        message = r"'.*file' could not be written; .*: .Errno 28. No space left"
        with pytest.raises(OSError, match=message), scratch_directory(str(path)) as folder:
            Path(folder, "file").write_text("half")
            raise OSError(28, "No space left on device")
        with pytest.raises(KeyError, match="other"), scratch_directory(str(path)):
            raise KeyError("other")
        assert not list(tmp_path.iterdir())


class TestAbandonedFolders:
    def test_only_those_of_killed_runs_are_removed(self, tmp_path):
        """Empty ones, too: the run was killed between creating the folder and locking it."""
        (tmp_path / ABANDONED).mkdir()
        half = tmp_path / ABANDONED.replace("0", "f")
        half.mkdir()
        for name in (".lock", "half"):
            (half / name).write_text("")
        for name in (".ldnet-mine", ".ldnet-0123456789abcdef-mine"):
            (tmp_path / name).mkdir()
        (tmp_path / ABANDONED.replace("0", "e")).write_text("a file")
        before = {path.name for path in tmp_path.iterdir()}
        with scratch_directory(str(tmp_path / "a")) as first:
            Path(first, "half").write_text("half")
            with scratch_directory(str(tmp_path / "b")) as second:
                assert first != second and Path(first, "half").read_text() == "half"
        assert {path.name for path in tmp_path.iterdir()} == before - {ABANDONED, half.name}

    @forks
    @pytest.mark.parametrize("moment", ["mkdir", "write"])
    def test_the_next_run_removes_what_a_killed_one_left(self, tmp_path, moment):
        def write():
            with atomic_write(str(tmp_path / "file")) as file:
                file.write("half")
                file.flush()
                die()

        def kill_after_mkdir():
            mkdir = os.mkdir
            os.mkdir = lambda *arguments: die(mkdir(*arguments))
            write()

        process = fork(kill_after_mkdir if moment == "mkdir" else write)
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert [name[:7] for name in os.listdir(tmp_path)] == [".ldnet-"]
        with atomic_write(str(tmp_path / "other")):
            pass
        assert os.listdir(tmp_path) == ["other"]

    @pytest.mark.parametrize("moment", ["before it is locked", "after a lock that is no more"])
    def test_a_new_folder_that_another_process_takes_for_abandoned(self, tmp_path, monkeypatch, moment):
        """The folder that is worked in is there, and locked."""
        acquire = files.FileLock.acquire

        def acquire_late(lock, *arguments, **options):
            monkeypatch.setattr(files.FileLock, "acquire", acquire)
            if moment == "before it is locked":
                files._remove_abandoned(str(tmp_path))
                return acquire(lock, *arguments, **options)
            proxy = acquire(lock, *arguments, **options)
            os.rename(os.path.dirname(lock.lock_file), tmp_path / ABANDONED)
            return proxy

        monkeypatch.setattr(files.FileLock, "acquire", acquire_late)
        with scratch_directory(str(tmp_path / "file")) as folder:
            assert os.path.isfile(os.path.join(folder, ".lock"))
            files._remove_abandoned(str(tmp_path))
            assert os.path.basename(folder) in os.listdir(tmp_path)

    @forks
    def test_many_processes_in_one_folder(self, tmp_path):
        """No process loses the folder that it works in, and none is left."""

        def work():
            for number in range(60):
                with scratch_directory(str(tmp_path / "x")) as folder:
                    Path(folder, "file").write_text("x")
                    assert Path(folder, "file").read_text() == "x", number

        processes = [fork(work) for _ in range(4)]
        for process in processes:
            process.join()
        assert [process.exitcode for process in processes] == [0] * 4
        with scratch_directory(str(tmp_path / "x")):
            pass
        assert os.listdir(tmp_path) == []


class TestExclusiveLock:
    @forks
    def test_one_process_at_a_time(self, tmp_path):
        folder = str(tmp_path / "new")

        def enter(wait=False):
            with exclusive_lock(folder, wait=wait):
                Path(folder, "entered").write_text("")

        def expect_refusal():
            with pytest.raises(ConfigurationError, match=r"Another process uses '.*new'"):
                enter()

        with exclusive_lock(folder):
            refused, waiting = fork(expect_refusal), fork(lambda: enter(wait=True))
            refused.join()
            assert refused.exitcode == 0 and waiting.is_alive() and os.listdir(folder) == [".lock"]
        waiting.join()
        assert waiting.exitcode == 0 and os.path.exists(os.path.join(folder, "entered"))


class TestOutputs:
    def test_what_may_be_written(self, tmp_path):
        path = tmp_path / "file"
        assert check_output(str(path)) == str(path)
        path.write_text("")
        with pytest.raises(ConfigurationError, match=r"'.*file' exists already.*--force"):
            check_output(str(path))
        assert check_output(str(path), force=True) == str(path)

    @pytest.mark.skipif(sys.platform == "win32", reason="needs devices and links")
    @pytest.mark.parametrize(
        "kind, message",
        [
            ("device", "a device or a pipe"),
            ("pipe", "a device or a pipe"),
            ("link", "a link to a file that does not exist"),
            ("directory", "is a directory"),
            ("empty", "output path is empty"),
        ],
    )
    def test_what_is_never_replaced(self, tmp_path, kind, message):
        path = tmp_path / "output"
        if kind == "device":
            path.symlink_to("/dev/null")
        elif kind == "pipe":
            os.mkfifo(path)
        elif kind == "link":
            path.symlink_to(tmp_path / "nowhere")
        elif kind == "directory":
            path.mkdir()
        name = "" if kind == "empty" else str(path)
        before = os.listdir(tmp_path)
        with pytest.raises(ConfigurationError, match=message), atomic_write(name):
            raise AssertionError("nothing is written")
        assert os.listdir(tmp_path) == before


class TestSavingTensors:
    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full on this system")
    @pytest.mark.parametrize("zipped", [True, False])
    @pytest.mark.parametrize("size", [1, 10**5])  # within Python's buffer, and beyond
    def test_a_full_disk_is_an_error_of_the_system(self, size, zipped):
        options = {"_use_new_zipfile_serialization": zipped}
        message = r"torch could not write 'full' .is the disk full.*No space left on device"
        with pytest.raises(OSError, match=message):
            save_tensors({"a": torch.zeros(size), "b": torch.ones(size)}, "/dev/full", **options)

    def test_torch_loads_what_is_saved(self, tmp_path):
        data = {"a": torch.arange(10**5), "b": [torch.eye(3), 1.5]}
        save_tensors(data, str(tmp_path / "weights.th"))
        loaded = load_tensors(str(tmp_path / "weights.th"))
        assert torch.equal(loaded["a"], data["a"]) and torch.equal(loaded["b"][0], torch.eye(3))
        assert loaded["b"][1] == 1.5

    def test_a_write_that_failed_once_is_an_error(self, tmp_path, monkeypatch):
        """Even if all later writes succeed."""

        class FailsOnce(io.FileIO):
            fails = True

            def write(self, part):
                if FailsOnce.fails:
                    FailsOnce.fails = False
                    raise OSError(28, "No space left on device")
                return super().write(part)

        monkeypatch.setattr(files, "open", FailsOnce, raising=False)
        with pytest.raises(OSError, match=r"torch could not write 'weights\.th'"):
            save_tensors(torch.zeros(10), str(tmp_path / "weights.th"))
