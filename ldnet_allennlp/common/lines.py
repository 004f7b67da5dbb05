"""Finding the files of a corpus and reading their lines: plain or gzip, any line ends, nothing lost."""

import glob
import gzip
import os
import zlib
from os import PathLike
from typing import BinaryIO, Iterator, List, Sequence, Tuple, Union, cast

from allennlp.common.checks import ConfigurationError

_GZIP_MAGIC = b"\x1f\x8b"
_UTF8_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

PathOrPaths = Union[str, PathLike, Sequence[Union[str, PathLike]]]


def expand_paths(file_path: PathOrPaths) -> List[str]:
    """
    The files that a path, a comma-separated list, a glob ("**" for any depth), or a list of these stands for.

    A name that exists is taken as it is, even with a comma or a bracket in it. The order is that of the list;
    what one glob matches is sorted, so that it is the same everywhere. Raises `ConfigurationError` if a name
    matches no file or a directory, or if a file is named twice (its sentences would count twice).
    """
    if not isinstance(file_path, (str, PathLike, list, tuple)):
        raise ConfigurationError(
            f"Found the file path {file_path!r}, expected a path, a list of paths, or paths separated by "
            f"commas."
        )
    names = [file_path] if isinstance(file_path, (str, PathLike)) else list(file_path)
    paths: List[str] = []
    for name in names:
        for path in _expand(os.fspath(name)):
            if os.path.isdir(path):
                raise ConfigurationError(f"Found the directory '{path}', expected a file or a glob of files.")
            if any(os.path.realpath(path) == os.path.realpath(other) for other in paths):
                raise ConfigurationError(
                    f"The file '{path}' is named twice by {file_path!r}, expected once: its sentences would "
                    f"be read twice."
                )
            paths.append(path)
    if not paths:
        raise ConfigurationError(f"Found no path in {file_path!r}, expected at least one.")
    return paths


def numbered_lines(path: str) -> Iterator[Tuple[int, bytes]]:
    """
    The lines of a file, without their ends, with their numbers counted from 1.

    A file that starts with gzip's magic bytes is decompressed, whatever its name. Lines end in LF, CR LF (or
    CR CR LF, what a doubled conversion leaves) or CR. One UTF-8 byte order mark at the very start is dropped.
    Raises `ConfigurationError` if the file cannot be read, is cut off, or holds a NUL byte.
    """
    number = 0
    try:
        with open(path, "rb") as raw:
            file: BinaryIO = raw
            if raw.peek(2)[:2] == _GZIP_MAGIC:
                file = cast(BinaryIO, gzip.GzipFile(fileobj=raw, mode="rb"))
            for piece in file:
                for line in _split_at_carriage_returns(piece):
                    number += 1
                    if number == 1 and line.startswith(_UTF8_BYTE_ORDER_MARK):
                        line = line[len(_UTF8_BYTE_ORDER_MARK) :]
                    if b"\0" in line:
                        raise ConfigurationError(
                            f"{path}, line {number}: found a NUL byte at byte {line.index(0) + 1}, expected "
                            f"text (is the file binary, or UTF-16?)."
                        )
                    yield number, line
    except (EOFError, OSError, zlib.error) as error:
        raise ConfigurationError(
            f"{path}: could not be read after line {number}: {error}. Expected a readable, complete file."
        ) from error


def decode_line(line: bytes, encoding: str, path: str, number: int) -> str:
    """The text of a line. Raises `ConfigurationError` with file, line and byte if it has another encoding."""
    try:
        return line.decode(encoding)
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            f"{path}, line {number}: found the byte 0x{error.object[error.start]:02x} at byte "
            f"{error.start + 1} of {shown(line)}, which is not {encoding}. Expected {encoding} text; set the "
            f"encoding of the file if it has another."
        ) from error


def shown(found: object, limit: int = 80) -> str:
    """What was found, as messages quote it: control characters escaped, cut at `limit` characters."""
    text = repr(found)
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _expand(name: str) -> Iterator[str]:
    if os.path.exists(name):
        yield name
    elif "," in name:
        for part in name.split(","):
            if part.strip():
                yield from _expand(part.strip())
    else:
        matches = sorted(path for path in glob.glob(name, recursive=True) if not os.path.isdir(path))
        if not matches:
            raise ConfigurationError(f"Found no file that matches '{name}', expected at least one.")
        yield from matches


def _split_at_carriage_returns(piece: bytes) -> List[bytes]:
    """The lines in what ends at a LF or at the end of the file."""
    if piece.endswith(b"\n"):
        piece = piece[:-1].rstrip(b"\r")
    elif piece.endswith(b"\r"):
        piece = piece[:-1]
    return piece.split(b"\r")
