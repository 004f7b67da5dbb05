"""Find input files by name, and write output files atomically."""

import contextlib
import glob
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from ldnet_runtime.errors import InputError

STANDARD = "-"


def expand(names: Iterable[str]) -> list[str]:
    """
    The files for names, folders (recursively, without hidden files) and globs ("**" for any depth), each once. Raises
    `InputError` for a name without a file.
    """
    paths: list[str] = []
    for name in names:
        if os.path.isdir(name):
            matches = sorted(str(path) for path in Path(name).rglob("*") if _is_visible(path, name))
        elif name == STANDARD or os.path.exists(name):
            matches = [name]
        else:
            matches = sorted(path for path in glob.glob(name, recursive=True) if os.path.isfile(path))
        if not matches:
            raise InputError(f"{name}: no {'file in this folder' if os.path.isdir(name) else 'such file'}.")
        paths += matches
    return list(dict.fromkeys(paths))


@contextlib.contextmanager
def written_beside(path: str) -> Iterator[BinaryIO]:
    """
    Context with a file that replaces `path` when it ends without an error, so `path` is never half written. Standard
    output ("-"), pipes and devices are written directly.
    """
    if path == STANDARD:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    if os.path.exists(path) and not os.path.isfile(path):
        with open(path, "wb") as device:
            yield device
        return
    path = os.path.realpath(path)  # a link stays one
    # A killed run leaves this file; the next run overwrites it.
    beside = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.unfinished")
    try:
        with open(beside, "wb") as file:
            yield file
        os.replace(beside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(beside)
        raise


def _is_visible(path: Path, folder: str) -> bool:
    return path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
