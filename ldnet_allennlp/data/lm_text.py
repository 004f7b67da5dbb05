"""Plain or compressed text for language models: which files, and their lines in large blocks."""

import gzip
import os
import zlib
from typing import BinaryIO, Callable, Iterator, List, Optional

from allennlp.common.checks import ConfigurationError

from ldnet_allennlp.data.corpus_files import PathOrPaths, expand_paths

BLOCK_SIZE = 1 << 18
GZIP_MAGIC = b"\x1f\x8b"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def text_files(data_path: PathOrPaths) -> List[str]:
    """
    The files of a text.

    # Parameters

    data_path : `PathOrPaths`
        A file; a pattern such as `text/part-*`; a directory, whose files (without those that start with a
        point, and without its own directories) are read in the order of their names; or a list of these.

    # Returns

    `List[str]`
        The files in the order given, those of a pattern or directory sorted by name.

    Raises `ConfigurationError` if there is no such file, or if a file is named twice.
    """
    files: List[PathOrPaths] = []
    for part in [data_path] if isinstance(data_path, (str, os.PathLike)) else data_path:
        if os.path.isdir(part):
            names = (
                os.path.join(part, name) for name in sorted(os.listdir(part)) if not name.startswith(".")
            )
            inside = [name for name in names if os.path.isfile(name)]
            if not inside:
                raise ConfigurationError(
                    f"Found no files in the directory '{part}', expected some with text."
                )
            files.extend(inside)
        else:
            files.append(part)
    return expand_paths(files)  # type: ignore[arg-type]


def line_blocks(
    path: str, on_read: Optional[Callable[[int], None]] = None, block_size: int = BLOCK_SIZE
) -> Iterator[List[bytes]]:
    """
    Reads a file of text in blocks of whole lines. Lines end in LF, CR LF or CR; the last need not end.

    # Parameters

    path : `str`
        Plain text or gzip, which is told from the file's first bytes and not from its name. UTF-8; a byte
        order mark at the start is left out.
    on_read : `Callable[[int], None]`, optional
        Called with the number of bytes that were read from the disk, for a progress bar.
    block_size : `int`, optional (default = 256 KiB)
        How much is read at once.

    # Returns

    `Iterator[List[bytes]]`
        Successive lines without their ends: valid UTF-8 without NUL characters. `bytes.split` gives the tokens.

    Raises `ConfigurationError`, with the file and the line, for text that is not UTF-8, for a NUL character, and
    for a compressed file that is damaged or cut off.
    """
    first_line = 1
    rest: List[bytes] = []  # the start of a line whose end was not read yet, in pieces
    try:
        with open(path, "rb") as raw:
            for chunk in _chunks(raw, path, on_read, block_size):
                end = chunk.rfind(b"\n")
                if end < 0:
                    rest.append(chunk)
                    continue
                text = b"".join([*rest, chunk[:end]])
                rest = [chunk[end + 1 :]]
                lines = text.split(b"\n")
                _check(text, lines, path, first_line)
                yield lines
                first_line += len(lines)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ConfigurationError(
            f"The compressed file '{path}' is damaged or cut off after line {first_line - 1}: {error}."
        ) from error
    except OSError as error:
        raise ConfigurationError(f"The text '{path}' could not be read: {error}.") from error
    text = b"".join(rest)
    if text:
        _check(text, [text], path, first_line)
        yield [text]


def _chunks(
    raw: BinaryIO, path: str, on_read: Optional[Callable[[int], None]], block_size: int
) -> Iterator[bytes]:
    """The decompressed text in pieces that have LF line ends and no byte order mark."""
    compressed = raw.read(len(GZIP_MAGIC)) == GZIP_MAGIC
    raw.seek(0)
    stream = gzip.GzipFile(fileobj=raw, mode="rb") if compressed else raw
    position, at_start = 0, True
    while True:
        chunk = stream.read(block_size)
        if on_read is not None:
            on_read(raw.tell() - position)
            position = raw.tell()
        if not chunk:
            return
        if at_start and chunk.startswith(BYTE_ORDER_MARK):
            chunk = chunk[len(BYTE_ORDER_MARK) :]
        at_start = False
        if b"\r" in chunk:
            while chunk.endswith(b"\r"):  # it may be the first half of CR LF
                following = stream.read(1)
                if not following:
                    break
                chunk += following
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        yield chunk


def _check(text: bytes, lines: List[bytes], path: str, first_line: int) -> None:
    if b"\0" in text:
        number = next(number for number, line in enumerate(lines) if b"\0" in line)
        raise ConfigurationError(
            f"{path}, line {first_line + number}: a NUL character was found where text was expected. "
            f"Is this a text file?"
        )
    try:
        text.decode("utf-8")
    except UnicodeDecodeError as error:
        number = text.count(b"\n", 0, error.start)
        raise ConfigurationError(
            f"{path}, line {first_line + number}: UTF-8 was expected, but the bytes "
            f"{text[error.start : error.start + 4]!r} were found."
        ) from error
