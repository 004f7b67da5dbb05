"""Find the files of a corpus and read their lines: plain text, gzip, bzip2, xz or Zstandard, with any line ends."""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from typing import BinaryIO, Union

from allennlp.common.checks import ConfigurationError

from ldnet_runtime.errors import InputError
from ldnet_runtime.formats.compression import decompressed
from ldnet_runtime.formats.files import expand

PathOrPaths = Union[str, PathLike, Sequence[Union[str, PathLike]]]

BLOCK_SIZE = 1 << 18
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
TEXT_ERRORS = (EOFError, OSError)
"""Exceptions that reading from `open_text` can raise."""


@contextmanager
def open_text(path: str | PathLike) -> Iterator[BinaryIO]:
    """Open a file for reading bytes, see `decompressed`."""
    with open(path, "rb") as file:
        yield decompressed(file)


def expand_paths(file_path: PathOrPaths, folders: bool = False) -> list[str]:
    """
    List the files that a path, a comma-separated list, a glob ("**" for any depth), or a list of these names; with
    `folders`, also those of a folder and its subfolders, without hidden files.

    An existing name is taken literally, even with a comma or a bracket in it. Lists keep their order; the matches of
    a glob and the files of a folder are sorted. Raises `ConfigurationError` if a name matches no file, or if a file is
    named twice.
    """
    if not isinstance(file_path, (str, PathLike, list, tuple)):
        raise ConfigurationError(
            f"Found the file path {file_path!r}, expected a path, a list of paths, or paths separated by commas."
        )
    names = [file_path] if isinstance(file_path, (str, PathLike)) else file_path
    paths: dict[str, str] = {}
    for name in (part for listed in names for part in _split_commas(os.fspath(listed))):
        if os.path.isdir(name) and not folders:
            raise ConfigurationError(f"Found the directory '{name}', expected a file or a glob of files.")
        try:
            matches = expand([name])
        except InputError as error:
            raise ConfigurationError(str(error)) from error
        for path in matches:
            if os.path.realpath(path) in paths:
                raise ConfigurationError(
                    f"The file '{path}' is named twice by {file_path!r}, expected once: its sentences would be read "
                    f"twice."
                )
            paths[os.path.realpath(path)] = path
    if not paths:
        raise ConfigurationError(f"Found no path in {file_path!r}, expected at least one.")
    return list(paths.values())


def _split_commas(name: str) -> list[str]:
    if os.path.exists(name) or (name and "," not in name):
        return [name]
    return [part for part in map(str.strip, name.split(",")) if part]


def line_blocks(path: str, block_size: int = BLOCK_SIZE) -> Iterator[list[bytes]]:
    """
    Read a file in blocks of whole lines, without their ends.

    Lines end in LF, CR LF (or CR CR LF, the result of a doubled conversion) or CR; the end of the last line is
    optional. A UTF-8 byte order mark at the start of the file is dropped.

    Raises `ConfigurationError`, with the file and the line, if the file cannot be read, is damaged or truncated, or
    contains a NUL byte.
    """
    number = 0  # of lines so far
    rest: list[bytes] = []  # of a line whose end was not read yet
    try:
        for chunk in _chunks(path, block_size):
            text, line_end, last = chunk.rpartition(b"\n")
            if line_end:
                lines = _split_lines(b"".join([*rest, text]), path, number)
                rest = []
                yield lines
                number += len(lines)
            rest.append(last)
    except TEXT_ERRORS as error:
        raise ConfigurationError(
            f"{path}: could not be read after line {number}: {error}. Expected a readable, complete file."
        ) from error
    lines = _split_lines(b"".join(rest), path, number)
    if lines != [b""]:
        yield lines


def _chunks(path: str, block_size: int) -> Iterator[bytes]:
    """The text in blocks with LF line ends."""
    with open_text(path) as file:
        # Not `read`, which loses the data before an error.
        while chunk := file.read1(block_size):  # type: ignore[attr-defined]
            while chunk.endswith(b"\r") and (following := file.read(1)):  # the first half of CR LF
                chunk += following
            yield re.sub(rb"\r+\n", b"\n", chunk).replace(b"\r", b"\n") if b"\r" in chunk else chunk


def _split_lines(text: bytes, path: str, number: int) -> list[bytes]:
    """The lines of a file after its first `number`."""
    lines = text.split(b"\n")
    if number == 0:
        lines[0] = lines[0].removeprefix(BYTE_ORDER_MARK)
    if b"\0" in text:
        index, line = next((index, line) for index, line in enumerate(lines, number + 1) if b"\0" in line)
        raise ConfigurationError(
            f"{path}, line {index}: found a NUL byte at byte {line.index(0) + 1}, expected text (is the file binary, "
            f"or UTF-16?)."
        )
    return lines


def numbered_lines(path: str) -> Iterator[tuple[int, bytes]]:
    """The lines of a file, without their ends, with their numbers counted from 1; see `line_blocks`."""
    return enumerate((line for lines in line_blocks(path) for line in lines), 1)


def text_lines(path: str) -> Iterator[tuple[int, str]]:
    """Like `numbered_lines`, decoded from UTF-8, see `decode_line`."""
    return ((number, decode_line(line, "utf-8", path, number)) for number, line in numbered_lines(path))


def ascii_words(text: str) -> list[str]:
    """The words between ASCII white space, as `bytes.split` gives them: a non-breaking space is part of a word."""
    return re.findall(r"[^ \t\n\r\f\v]+", text)


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
