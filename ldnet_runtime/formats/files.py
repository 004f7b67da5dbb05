"""Find input files by name, and write output files atomically."""

import contextlib
import glob
import os
import secrets
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from ldnet_runtime.errors import InputError
from ldnet_runtime.formats.compression import compressed

STANDARD = "-"


def expand(names: Iterable[str]) -> list[str]:
    """
    The files for names, folders (recursively, without hidden files) and globs ("**" for any depth), each once. Raises
    `InputError` for a name without a file.
    """
    paths: list[str] = []
    for name in names:
        if os.path.isdir(name):
            matches = sorted(_visible_files(name))
        elif name == STANDARD or os.path.exists(name):
            matches = [name]
        else:
            matches = sorted(path for path in glob.glob(name, recursive=True) if os.path.isfile(path))
        if not matches:
            raise InputError(f"{name}: no {'file in this folder' if os.path.isdir(name) else 'such file'}.")
        paths += matches
    unique: dict[str, str] = {}
    for path in paths:
        unique.setdefault(os.path.normpath(path), path)
    return list(unique.values())


def refuse_to_replace(paths: Iterable[str], targets: Iterable[str]) -> None:
    """Raise `InputError` if one of the targets is one of the files."""
    for target in filter(os.path.isfile, targets):
        for path in paths:
            if os.path.isfile(path) and os.path.samefile(path, target):
                raise InputError(
                    f"{path} would be replaced by its output; choose another name for the output."
                )


@contextlib.contextmanager
def written_beside(path: str) -> Iterator[BinaryIO]:
    """
    Context with a file that replaces `path` when it ends without an error, so `path` is never half written. It is
    compressed if `path` ends in .gz, .bz2, .xz or .zst. Standard output ("-"), pipes and devices are written directly.
    """
    # Unique, because two runs may write to the same path. A run removes the file of an earlier or killed one.
    folder, name = os.path.split(os.path.realpath(path))  # a link stays one
    beside = os.path.join(folder, f".{name}.{secrets.token_hex(4)}.unfinished")
    try:
        if path == STANDARD:
            if sys.stdout is None:
                raise InputError("standard output is closed.")
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
        elif os.path.exists(path) and not os.path.isfile(path):
            with open(path, "wb") as device:
                yield device
        else:
            for other in glob.glob(f".{glob.escape(name)}.????????.unfinished", root_dir=folder):
                with contextlib.suppress(OSError):
                    os.unlink(os.path.join(folder, other))
            with open(beside, "xb") as file, compressed(file, path) as content:
                yield content
            if not os.path.exists(beside):
                raise InputError(
                    f"{path}: another run with the same output began before this one was complete."
                )
            os.replace(beside, os.path.join(folder, name))
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(beside)
        if isinstance(error, OSError) and error.filename in (None, beside):
            error.filename = "standard output" if path == STANDARD else path
        raise


def _visible_files(top: str) -> Iterator[str]:
    for folder, subfolders, names in os.walk(top, onerror=_refuse):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        paths = [Path(folder, name) for name in names if not name.startswith(".")]
        yield from (str(path) for path in paths if path.is_file())


def _refuse(error: OSError) -> None:
    raise InputError(f"{error.filename}: {error.strerror}.") from error
