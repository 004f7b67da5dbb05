"""Find the files of a corpus and read their lines: plain text, gzip, bzip2, xz or Zstandard, with any line ends."""

import glob
import os
import re
from collections.abc import Callable, Iterator, Sequence
from os import PathLike
from typing import Union

from allennlp.common.checks import ConfigurationError

from ldnet_allennlp.common.compression import TEXT_ERRORS, is_compressed, open_text

PathOrPaths = Union[str, PathLike, Sequence[Union[str, PathLike]]]

BLOCK_SIZE = 1 << 18
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def expand_paths(file_path: PathOrPaths) -> list[str]:
    """
    List the files that a path, a comma-separated list, a glob ("**" for any depth), or a list of these names.

    An existing name is taken literally, even with a comma or a bracket in it. Lists keep their order; the matches of
    a glob are sorted. Raises `ConfigurationError` if a name matches no file or a directory, or if a file is named
    twice.
    """
    if not isinstance(file_path, (str, PathLike, list, tuple)):
        raise ConfigurationError(
            f"Found the file path {file_path!r}, expected a path, a list of paths, or paths separated by commas."
        )
    names = [file_path] if isinstance(file_path, (str, PathLike)) else list(file_path)
    paths: list[str] = []
    real_paths: set[str] = set()
    for name in names:
        for path in _expand(os.fspath(name)):
            if os.path.isdir(path):
                raise ConfigurationError(f"Found the directory '{path}', expected a file or a glob of files.")
            if os.path.realpath(path) in real_paths:
                raise ConfigurationError(
                    f"The file '{path}' is named twice by {file_path!r}, expected once: its sentences would be "
                    f"read twice."
                )
            real_paths.add(os.path.realpath(path))
            paths.append(path)
    if not paths:
        raise ConfigurationError(f"Found no path in {file_path!r}, expected at least one.")
    return paths


def line_blocks(
    path: str,
    start: int = 0,
    end: int | None = None,
    on_read: Callable[[int], None] | None = None,
    block_size: int = BLOCK_SIZE,
) -> Iterator[list[bytes]]:
    """
    Read a file in blocks of whole lines, without their ends.

    Lines end in LF, CR LF (or CR CR LF, the result of a doubled conversion) or CR; the end of the last line is
    optional. A UTF-8 byte order mark at the start of the file is dropped.

    # Parameters

    path : `str`
    start, end : `int`, optional
        The byte range to read, with both ends directly after a line end. Uncompressed files only.
    on_read : `Callable[[int], None]`, optional
        Called with the number of bytes read from the disk, for a progress bar.
    block_size : `int`, optional (default = 256 KiB)

    Raises `ConfigurationError`, with the file and the line, if the file cannot be read, is damaged or truncated, or
    contains a NUL byte.
    """
    number = 0  # of lines so far
    rest: list[bytes] = []  # of a line whose end was not read yet
    try:
        for chunk in _chunks(path, start, end, on_read, block_size):
            cut = chunk.rfind(b"\n")
            if cut < 0:
                rest.append(chunk)
                continue
            lines = _checked_lines(b"".join([*rest, chunk[:cut]]), path, number, start)
            rest = [chunk[cut + 1 :]]
            number += len(lines)
            yield lines
    except TEXT_ERRORS as error:
        raise ConfigurationError(
            f"{path}: could not be read after line {number + lines_before(path, start)}: {error}. Expected a "
            f"readable, complete file."
        ) from error
    text = b"".join(rest)
    if text:
        yield _checked_lines(text, path, number, start)


def numbered_lines(path: str) -> Iterator[tuple[int, bytes]]:
    """
    The lines of a file, without their ends, with their numbers counted from 1.

    See `line_blocks` for compression, line ends and errors.
    """
    number = 0
    for lines in line_blocks(path):
        for line in lines:
            number += 1
            yield number, line


def lines_before(path: str, position: int) -> int:
    """The number of lines before a byte position of a file."""
    return sum(map(len, line_blocks(path, end=position))) if position else 0


def decode_line(line: bytes, encoding: str, path: str, number: int) -> str:
    """The text of a line. Raises `ConfigurationError` with file, line and byte if it is not valid in the encoding."""
    try:
        return line.decode(encoding)
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            f"{path}, line {number}: found the byte 0x{error.object[error.start]:02x} at byte "
            f"{error.start + 1} of {excerpt(line)}, which is not {encoding}. Expected {encoding} text; set the "
            f"encoding of the file if it has another."
        ) from error


def excerpt(value: object, limit: int = 80) -> str:
    """A value quoted for messages: control characters escaped, truncated to `limit` characters."""
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _chunks(
    path: str, start: int, end: int | None, on_read: Callable[[int], None] | None, block_size: int
) -> Iterator[bytes]:
    """The text in blocks with LF line ends and without byte order mark."""
    compressed = is_compressed(path)
    with open_text(path, on_read) as file:
        if start:
            file.seek(start)
        left = None if end is None else end - start
        at_start = start == 0
        while True:
            # Not `read`, which loses the data before an error.
            chunk = file.read1(block_size if left is None else min(block_size, left))  # type: ignore[attr-defined]
            if not chunk:
                return
            while at_start and len(chunk) < len(BYTE_ORDER_MARK) and BYTE_ORDER_MARK.startswith(chunk):
                more = file.read(1)
                if not more:
                    break
                chunk += more
            while chunk.endswith(b"\r") and (following := file.read(1)):  # the first half of CR LF
                chunk += following
            if left is not None:
                left -= len(chunk)
            if on_read is not None and not compressed:
                on_read(len(chunk))
            if at_start:
                chunk = chunk.removeprefix(BYTE_ORDER_MARK)
                at_start = False
            if b"\r" in chunk:
                chunk = re.sub(rb"\r+\n", b"\n", chunk).replace(b"\r", b"\n")
            yield chunk


def _checked_lines(text: bytes, path: str, number: int, start: int) -> list[bytes]:
    """The lines of a text that starts at byte `start`, after `number` lines."""
    lines = text.split(b"\n")
    if b"\0" in text:
        index, line = next((index, line) for index, line in enumerate(lines) if b"\0" in line)
        raise ConfigurationError(
            f"{path}, line {number + index + 1 + lines_before(path, start)}: found a NUL byte at byte "
            f"{line.index(0) + 1}, expected text (is the file binary, or UTF-16?)."
        )
    return lines


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
