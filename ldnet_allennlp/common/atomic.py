"""Writing files so that they are whole or not there, whatever ends the program."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from typing import Any, BinaryIO, Iterator, Optional, cast

import torch
from allennlp.common.checks import ConfigurationError


@contextlib.contextmanager
def workplace(path: str, prefix: str) -> Iterator[str]:
    """
    A context that gives a folder beside a file, in which to write the file before it is renamed: a rename is atomic
    only within one file system. The folder is removed at the end, and so are those that killed runs have left.

    # Parameters

    path : `str`
        The file that is to be written. Its own folder is created.
    prefix : `str`
        Begins the names of such folders. It begins with a point, so that they are hidden.

    Raises `OSError`, with the path in its message, if it cannot be written (a full disk, a read-only folder).
    """
    parent = os.path.dirname(os.path.abspath(path))
    try:
        os.makedirs(parent, exist_ok=True)
        _remove_abandoned(parent, prefix)
        folder = tempfile.mkdtemp(prefix=prefix, dir=parent)
        descriptor = _locked(folder)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(descriptor)
    except OSError as error:
        raise OSError(f"'{path}' could not be written, and nothing of it was kept: {error}") from error


@contextlib.contextmanager
def alone_in(folder: str) -> Iterator[None]:
    """
    A context in which this process works in a folder, which is created, and no other does.

    Raises `ConfigurationError` if another process is at work there.
    """
    os.makedirs(folder, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigurationError(
                f"Another process is at work in '{folder}'. Wait for its end, or name another folder."
            ) from error
        except OSError:  # some network file systems have no locks
            pass
        yield
    finally:
        os.close(descriptor)


class _Output:
    """
    What `torch.save` writes to: a failure waits until torch is done. Where a write fails, torch 1's C++ code ends the
    process, and torch 2's reports a position in the file.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.error: Optional[OSError] = None

    def write(self, part: bytes) -> int:
        """Writes, unless that has failed before; torch is told that all of it was written."""
        if self.error is None:
            try:
                self._file.write(part)
            except OSError as error:
                self.error = error
        return len(part)

    def flush(self) -> None:
        """The file is flushed when it is closed."""


def save(data: Any, path: str, **options: Any) -> None:
    """`torch.save` with an `OSError` where there is no room, for which torch has no error of its own."""
    try:
        with open(path, "wb") as file:
            output = _Output(file)
            torch.save(data, cast(BinaryIO, output), **options)
            if output.error is not None:
                raise output.error
    except OSError as error:
        raise OSError(
            f"torch could not write '{os.path.basename(path)}' (is the disk full?): {error}"
        ) from error


def _locked(folder: str) -> int:
    """An open descriptor of a folder, with a lock that ends with this process."""
    descriptor = os.open(folder, os.O_RDONLY)
    with contextlib.suppress(OSError):  # some network file systems have no locks
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return descriptor


def _remove_abandoned(parent: str, prefix: str) -> None:
    """Removes folders that nobody has locked. One that is still empty may just be about to be locked."""
    for name in os.listdir(parent):
        folder = os.path.join(parent, name)
        if not name.startswith(prefix) or os.path.islink(folder):
            continue
        with contextlib.suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.listdir(folder):
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(descriptor)
