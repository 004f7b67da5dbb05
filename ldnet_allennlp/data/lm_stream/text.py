"""Plain or compressed text for language models: which files, in which pieces, and their lines in large blocks."""

import gzip
import os
import zlib
from typing import BinaryIO, Callable, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from allennlp.common.checks import ConfigurationError

from ldnet_allennlp.common.lines import PathOrPaths, expand_paths

BLOCK_SIZE = 1 << 18
PIECE_SIZE = 1 << 25
MOST_PIECES = 512
GZIP_MAGIC = b"\x1f\x8b"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class TextPiece(NamedTuple):
    """Whole lines of a text: the file's number and path, the first byte, and the byte after the last (None: all)."""

    file: int
    path: str
    start: int = 0
    end: Optional[int] = None


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


def text_pieces(files: Sequence[str], size: int = PIECE_SIZE) -> List[List[TextPiece]]:
    """
    Divides a text into groups of about the same size, which several processes can read.

    # Parameters

    files : `Sequence[str]`
        From `text_files`.
    size : `int`, optional (default = 32 MiB)
        The bytes of a group: of its one piece of a large file, which is cut after a line, or of its small files
        together. Compressed files are not cut. More than 16 GiB of text have larger pieces, since the shards made
        from them are open at the same time.

    # Returns

    `List[List[TextPiece]]`
        Together, in this order, all of the text.
    """
    groups: List[List[TextPiece]] = []
    room = 0
    try:
        sizes = list(map(os.path.getsize, files))
        size = max(size, sum(sizes) // MOST_PIECES)
        cuts_of_files = [[0, *_cuts(path, size)] for path in files]
    except OSError as error:
        raise ConfigurationError(f"The text could not be read: {error}.") from error
    for number, (path, num_bytes, cuts) in enumerate(zip(files, sizes, cuts_of_files)):
        for start, end in zip(cuts, [*cuts[1:], None]):
            if room <= 0:
                groups.append([])
                room = size
            groups[-1].append(TextPiece(number, path, start, end))
            room -= (num_bytes if end is None else end) - start
    return groups


def sentence_blocks(
    pieces: Sequence[TextPiece],
    max_sentences: Optional[int] = None,
    on_read: Optional[Callable[[int], None]] = None,
) -> Iterator[Tuple[TextPiece, List[bytes]]]:
    """
    The lines that have a token.

    # Parameters

    pieces : `Sequence[TextPiece]`
    max_sentences : `int`, optional
        After how many of these lines reading stops.
    on_read
        As in `line_blocks`.

    # Returns

    `Iterator[Tuple[TextPiece, List[bytes]]]`
        Successive lines and their piece. Each piece that is reached comes at least once, even without lines.

    Raises what `line_blocks` raises.
    """
    left = max_sentences
    for piece in pieces:
        if left == 0:
            return
        yield piece, []
        for block in line_blocks(piece.path, on_read, start=piece.start, end=piece.end):
            lines = [line for line in block if line and not line.isspace()]
            if left is not None:
                lines = lines[:left]
                left -= len(lines)
            if lines:
                yield piece, lines
            if left == 0:
                return


def line_blocks(
    path: str,
    on_read: Optional[Callable[[int], None]] = None,
    block_size: int = BLOCK_SIZE,
    start: int = 0,
    end: Optional[int] = None,
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
    start, end : `int`, optional
        The first byte that is read, and the one after the last. Both stand after a line end, or at an end of the
        file; by default everything is read.

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
            for chunk in _chunks(raw, path, on_read, block_size, start, end):
                cut = chunk.rfind(b"\n")
                if cut < 0:
                    rest.append(chunk)
                    continue
                text = b"".join([*rest, chunk[:cut]])
                rest = [chunk[cut + 1 :]]
                lines = text.split(b"\n")
                _check(text, lines, path, first_line, start)
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
        _check(text, [text], path, first_line, start)
        yield [text]


def _cuts(path: str, size: int) -> Iterator[int]:
    """Where a file is cut: after the first line end behind each `size` bytes. Compressed files are not."""
    num_bytes = os.path.getsize(path)
    with open(path, "rb") as raw:
        if raw.read(len(GZIP_MAGIC)) == GZIP_MAGIC:
            return
        position = size
        # The rest of a file is no piece of its own where it is small.
        while position < num_bytes - size // 2:
            raw.seek(position)
            chunk = raw.read(BLOCK_SIZE)
            cut = chunk.find(b"\n")
            if cut < 0:
                position += len(chunk) or num_bytes
            elif position + cut + 1 < num_bytes:
                yield position + cut + 1
                position += cut + 1 + size
            else:
                return


def _chunks(
    raw: BinaryIO,
    path: str,
    on_read: Optional[Callable[[int], None]],
    block_size: int,
    start: int,
    end: Optional[int],
) -> Iterator[bytes]:
    """The decompressed text in pieces that have LF line ends and no byte order mark."""
    compressed = start == 0 and raw.read(len(GZIP_MAGIC)) == GZIP_MAGIC
    raw.seek(start)
    stream = gzip.GzipFile(fileobj=raw, mode="rb") if compressed else raw
    position, at_start = start, start == 0
    while True:
        chunk = stream.read(block_size if end is None else min(block_size, end - raw.tell()))
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


def _check(text: bytes, lines: List[bytes], path: str, first_line: int, start: int) -> None:
    """`first_line` is the first line's number after byte `start`; lines before that are counted if need be."""
    if b"\0" in text:
        number = first_line + next(number for number, line in enumerate(lines) if b"\0" in line)
        raise ConfigurationError(
            f"{path}, line {number + _lines_before(path, start)}: a NUL character was found where text was "
            f"expected. Is this a text file?"
        )
    try:
        text.decode("utf-8")
    except UnicodeDecodeError as error:
        number = first_line + text.count(b"\n", 0, error.start)
        raise ConfigurationError(
            f"{path}, line {number + _lines_before(path, start)}: UTF-8 was expected, but the bytes "
            f"{text[error.start : error.start + 4]!r} were found."
        ) from error


def _lines_before(path: str, position: int) -> int:
    return sum(map(len, line_blocks(path, end=position))) if position else 0
