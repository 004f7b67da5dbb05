"""The files of a corpus and their lines: plain text, gzip, bzip2, xz or Zstandard, with any line ends."""

import bz2
import glob
import io
import lzma
import os
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from os import PathLike
from typing import Any, BinaryIO, Union, cast

from allennlp.common.checks import ConfigurationError

PathOrPaths = Union[str, PathLike, Sequence[Union[str, PathLike]]]

BLOCK_SIZE = 1 << 18
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def _zstd_decompressor() -> Any:
    try:
        import zstandard
    except ImportError as error:
        raise OSError("Zstandard files need the package zstandard (pip install zstandard)") from error
    return zstandard.ZstdDecompressor().decompressobj()


# By the first bytes of a file. All of these decompressors have `decompress`, `eof` and `unused_data`.
_DECOMPRESSORS: dict[bytes, Callable[[], Any]] = {
    b"\x1f\x8b": lambda: zlib.decompressobj(wbits=31),
    b"BZh": bz2.BZ2Decompressor,
    b"\xfd7zXZ\x00": lzma.LZMADecompressor,
    b"\x28\xb5\x2f\xfd": _zstd_decompressor,
}
_COMPRESSED_AT_ONCE = 1 << 14

TEXT_ERRORS = (EOFError, OSError)
"""Exceptions that reading from `open_text` can raise."""


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


def open_text(path: str | PathLike, on_read: Callable[[int], None] | None = None) -> BinaryIO:
    """
    Open a file for reading bytes, decompressed if its first bytes are those of gzip, bzip2, xz or Zstandard.

    Concatenated streams are read as one. Reading raises one of `TEXT_ERRORS` if the file is damaged or cut off.

    # Parameters

    path : `str | PathLike`
    on_read : `Callable[[int], None]`, optional
        Called with the number of bytes that were read from a compressed file.
    """
    file = open(path, "rb")  # noqa: SIM115
    decompressor = _decompressor_of(file)
    if decompressor is None:
        return file
    return cast(BinaryIO, io.BufferedReader(_Decompressed(file, decompressor, on_read), BLOCK_SIZE))


def is_compressed(path: str | PathLike) -> bool:
    """Whether `open_text` decompresses a file."""
    with open(path, "rb") as file:
        return _decompressor_of(file) is not None


def line_blocks(
    path: str,
    start: int = 0,
    end: int | None = None,
    on_read: Callable[[int], None] | None = None,
    block_size: int = BLOCK_SIZE,
) -> Iterator[list[bytes]]:
    """
    Read a file in blocks of whole lines, without their ends.

    Lines end in LF, CR LF (or CR CR LF, the result of a doubled conversion) or CR; the last line need not end. A UTF-8
    byte order mark at the start of the file is dropped.

    # Parameters

    path : `str`
    start, end : `int`, optional
        The first byte to read and the one after the last, each after a line end. Uncompressed files only.
    on_read : `Callable[[int], None]`, optional
        Called with the number of bytes that were read from the disk, for a progress bar.
    block_size : `int`, optional (default = 256 KiB)

    Raises `ConfigurationError`, with the file and the line, if the file cannot be read, is damaged or cut off, or
    holds a NUL byte.
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

    Compression, line ends and errors as in `line_blocks`.
    """
    number = 0
    for lines in line_blocks(path):
        for line in lines:
            number += 1
            yield number, line


def lines_before(path: str, position: int) -> int:
    """The number of lines before a byte of a file."""
    return sum(map(len, line_blocks(path, end=position))) if position else 0


def decode_line(line: bytes, encoding: str, path: str, number: int) -> str:
    """The text of a line. Raises `ConfigurationError` with file, line and byte if it has another encoding."""
    try:
        return line.decode(encoding)
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            f"{path}, line {number}: found the byte 0x{error.object[error.start]:02x} at byte "
            f"{error.start + 1} of {excerpt(line)}, which is not {encoding}. Expected {encoding} text; set the "
            f"encoding of the file if it has another."
        ) from error


def excerpt(value: object, limit: int = 80) -> str:
    """A value as messages quote it: control characters escaped, cut at `limit` characters."""
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."


shown = excerpt  # the former name


class _Decompressed(io.RawIOBase):
    """The decompressed bytes of a file that holds one compressed stream or several."""

    def __init__(
        self, file: BinaryIO, decompressor: Callable[[], Any], on_read: Callable[[int], None] | None
    ) -> None:
        self._file = file
        self._on_read = on_read
        self._content = self._decompress(decompressor)
        self._waiting = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._waiting:
            chunk = next(self._content, None)
            if chunk is None:
                return 0
            self._waiting = memoryview(chunk)
        count = min(len(buffer), len(self._waiting))
        buffer[:count] = self._waiting[:count]
        self._waiting = self._waiting[count:]
        return count

    def close(self) -> None:
        self._file.close()
        super().close()

    def _decompress(self, new_decompressor: Callable[[], Any]) -> Iterator[bytes]:
        content = self._read()
        while content:
            decompressor = new_decompressor()
            while not decompressor.eof:
                if not content:
                    raise EOFError("the compressed data end too early")
                try:
                    chunk = decompressor.decompress(content)
                except Exception as error:  # each library has its own
                    raise OSError(f"the compressed data are damaged ({error})") from error
                yield chunk
                content = b"" if decompressor.eof else self._read()
            # gzip and xz allow zero bytes between and after streams.
            content = decompressor.unused_data.lstrip(b"\0")
            while not content and (more := self._read()):
                content = more.lstrip(b"\0")

    def _read(self) -> bytes:
        content = self._file.read(_COMPRESSED_AT_ONCE)
        if self._on_read is not None:
            self._on_read(len(content))
        return content


def _decompressor_of(file: BinaryIO) -> Callable[[], Any] | None:
    first = file.read(max(map(len, _DECOMPRESSORS)))
    file.seek(0)
    return next((new for magic, new in _DECOMPRESSORS.items() if first.startswith(magic)), None)


def _chunks(
    path: str, start: int, end: int | None, on_read: Callable[[int], None] | None, block_size: int
) -> Iterator[bytes]:
    """The text in pieces that have LF line ends and no byte order mark."""
    with open_text(path, on_read) as file:
        if start:
            file.seek(start)
        left = None if end is None else end - start
        is_plain = not isinstance(getattr(file, "raw", None), _Decompressed)
        at_start = start == 0
        while True:
            # Not `read`, which would lose what comes before an error.
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
            if on_read is not None and is_plain:
                on_read(len(chunk))
            if at_start:
                chunk = chunk.removeprefix(BYTE_ORDER_MARK)
                at_start = False
            if b"\r" in chunk:
                chunk = re.sub(rb"\r+\n", b"\n", chunk).replace(b"\r", b"\n")
            yield chunk


def _checked_lines(text: bytes, path: str, number: int, start: int) -> list[bytes]:
    """The lines of a text, of which `number` come before it, from byte `start` on."""
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
