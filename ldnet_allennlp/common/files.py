"""Atomic writes and locks: a file is complete or absent, even if the program is killed."""

import errno
import logging
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any

import torch
from allennlp.common.checks import ConfigurationError
from filelock import FileLock, Timeout

logger = logging.getLogger(__name__)

LOCK = ".lock"
_SCRATCH = re.compile(r"\.ldnet-[0-9a-f]{16}")
# Errors of file systems without locks. Without locks, no process removes the files of others.
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}


@contextmanager
def atomic_write(path: str, mode: str = "w") -> Iterator[IO]:
    """
    Open a file for writing that replaces `path` when the context ends without an error. Text is UTF-8. The folder is
    created.

    Raises the same errors as `atomic_path`.
    """
    encoding = None if "b" in mode else "utf-8"
    with atomic_path(path) as beside, open(beside, mode, encoding=encoding) as file:
        yield file


@contextmanager
def atomic_path(path: str) -> Iterator[str]:
    """
    Yield a temporary path with the same file name. The file written to it replaces `path` when the context ends without
    an error.

    Raises `ConfigurationError` if `path` exists and is not a regular file, and `OSError` like `scratch_directory`.
    """
    check_output(path, force=True)
    with scratch_directory(path) as folder:
        beside = os.path.join(folder, os.path.basename(path))
        yield beside
        os.replace(beside, path)


@contextmanager
def scratch_directory(path: str) -> Iterator[str]:
    """
    Yield a temporary folder in the folder of `path`, because a rename is atomic within one file system only. The folder
    of `path` is created. The temporary folder is removed at the end, together with the leftovers of killed runs.

    Raises `OSError`, with `path` in its message, if it cannot be written (full disk, read-only folder).
    """
    parent = os.path.dirname(os.path.abspath(path))
    try:
        os.makedirs(parent, exist_ok=True)
        _remove_abandoned(parent)
        folder, lock = _new_scratch(parent)
        try:
            yield folder
        finally:
            lock.release()
            shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        raise OSError(f"'{path}' could not be written; the partial file was removed: {error}") from error


@contextmanager
def exclusive_lock(folder: str, wait: bool = False) -> Iterator[None]:
    """
    Lock a folder for the duration of the context, so that one process at a time works in it. The folder is created. The
    lock file `.lock` in it stays.

    Raises `ConfigurationError` if another process holds the lock, unless `wait`.
    """
    os.makedirs(folder, exist_ok=True)
    lock = FileLock(os.path.join(folder, LOCK), thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        if not wait:
            raise ConfigurationError(
                f"Another process uses '{folder}'. Wait until it ends, or choose another folder."
            ) from error
        logger.info("Waiting for another process that uses '%s'.", folder)
        lock.acquire()
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    try:
        yield
    finally:
        lock.release()


def check_output(path: str, force: bool = False) -> str:
    """
    Return `path` if it does not exist or, with `force`, if it is a regular file. Devices, pipes, directories and
    dangling links are never replaced.

    Raises `ConfigurationError` otherwise.
    """
    if not path:
        raise ConfigurationError("The output path is empty: give the file to write.")
    try:
        mode = os.stat(path).st_mode
    except OSError:
        if os.path.islink(path):
            raise ConfigurationError(
                f"The output '{path}' is a link to a file that does not exist. Remove it, or choose another output."
            ) from None
        return path
    if not stat.S_ISREG(mode):
        kind = "a directory" if stat.S_ISDIR(mode) else "a device or a pipe"
        raise ConfigurationError(
            f"The output '{path}' is {kind} and cannot be replaced. Choose another output."
        )
    if not force:
        raise ConfigurationError(f"'{path}' exists already. Give another output, or --force to replace it.")
    return path


def save_tensors(data: Any, path: str, **options: Any) -> None:
    """`torch.save`, but all errors of writing, such as those of a full disk, are `OSError`s."""
    try:
        with open(path, "wb") as file:
            torch.save(data, file, **options)
    except (OSError, RuntimeError) as error:  # torch raises both
        raise OSError(
            f"torch could not write '{os.path.basename(path)}' (is the disk full?): {error}"
        ) from error


def _new_scratch(parent: str) -> tuple[str, FileLock]:
    """A new folder and the lock that this process holds in it."""
    while True:
        folder = os.path.join(parent, f".ldnet-{secrets.token_hex(8)}")
        os.mkdir(folder, 0o700)
        lock = FileLock(os.path.join(folder, LOCK), thread_local=False)
        try:
            lock.acquire(timeout=0)
        except (Timeout, FileExistsError, FileNotFoundError):
            continue  # another process took the new folder for an abandoned one
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            return folder, lock
        if os.path.exists(os.path.join(folder, LOCK)):
            return folder, lock
        lock.release()  # of a file that another process has removed


def _remove_abandoned(parent: str) -> None:
    """
    Remove the scratch folders that no process has locked. Each is renamed under its lock first, so a process that has
    just created it and waits for the lock notices, and creates another.
    """
    for name in os.listdir(parent):
        folder = os.path.join(parent, name)
        if not _SCRATCH.fullmatch(name) or os.path.islink(folder):
            continue
        lock = FileLock(os.path.join(folder, LOCK), thread_local=False)
        with suppress(OSError), lock.acquire(timeout=0):
            renamed = os.path.join(parent, f".ldnet-{secrets.token_hex(8)}")
            os.rename(folder, renamed)
            shutil.rmtree(renamed, ignore_errors=True)
