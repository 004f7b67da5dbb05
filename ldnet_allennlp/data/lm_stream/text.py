"""Files of a text for language models, their pieces for parallel reading, and their sentences."""

import os
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Optional

from allennlp.common.checks import ConfigurationError

from ldnet_allennlp.common.lines import (
    BLOCK_SIZE,
    PathOrPaths,
    expand_paths,
    is_compressed,
    line_blocks,
    lines_before,
)

PIECE_SIZE = 1 << 25
MAX_PIECES = 512  # the shards made from them are open at the same time


class TextPiece(NamedTuple):
    """Whole lines of a text: the file's number and path, the first byte, and the byte after the last (None: all)."""

    file: int
    path: str
    start: int = 0
    end: Optional[int] = None


def text_files(data_path: PathOrPaths) -> list[str]:
    """
    List the files of a text, in the order given; those of a directory or a glob sorted by name.

    # Parameters

    data_path : `PathOrPaths`
        A file, a glob, a directory (its files without hidden ones and subdirectories), or a list of these.

    Raises `ConfigurationError` if no file matches, or if a file is named twice.
    """
    paths: list[PathOrPaths] = []
    for path in [data_path] if isinstance(data_path, (str, os.PathLike)) else data_path:
        if not os.path.isdir(path):
            paths.append(path)
            continue
        names = (os.path.join(path, name) for name in sorted(os.listdir(path)) if not name.startswith("."))
        files = [name for name in names if os.path.isfile(name)]
        if not files:
            raise ConfigurationError(f"Found no files in the directory '{path}', expected text files.")
        paths.extend(files)
    return expand_paths(paths)  # type: ignore[arg-type]


def text_pieces(files: Sequence[str], size: int = PIECE_SIZE) -> list[list[TextPiece]]:
    """
    Divide a text into groups of about `size` bytes: a piece of a large file, split at a line end, or several small
    files. Compressed files are not split. Texts of more than 16 GiB have larger pieces.
    """
    groups: list[list[TextPiece]] = []
    room = 0
    try:
        sizes = list(map(os.path.getsize, files))
        size = max(size, sum(sizes) // MAX_PIECES)
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
    boundary: bytes,
    max_sentences: int | None = None,
    on_read: Callable[[int], None] | None = None,
) -> Iterator[tuple[TextPiece, list[bytes]]]:
    """
    Read the lines with tokens in blocks, each with its piece. Each piece appears at least once.

    # Parameters

    pieces : `Sequence[TextPiece]`
    boundary : `bytes`
        The boundary token, which no line may contain.
    max_sentences : `int`, optional
        Stop after this number of lines.
    on_read : `Callable[[int], None]`, optional
        As in `line_blocks`.

    Raises `ConfigurationError`, with the file and the line, for text that is not UTF-8, for the boundary token, and in
    the cases of `line_blocks`.
    """
    left = max_sentences
    for piece in pieces:
        if left == 0:
            return
        yield piece, []
        number = 0
        for block in line_blocks(piece.path, piece.start, piece.end, on_read):
            _check(block, piece, number, boundary)
            number += len(block)
            lines = [line for line in block if line and not line.isspace()]
            if left is not None:
                lines = lines[:left]
                left -= len(lines)
            if lines:
                yield piece, lines
            if left == 0:
                return


def _check(lines: list[bytes], piece: TextPiece, number: int, boundary: bytes) -> None:
    """Check the lines of a piece after its first `number`."""

    def place(index: int) -> str:
        return f"{piece.path}, line {number + index + 1 + lines_before(piece.path, piece.start)}"

    text = b"\n".join(lines)
    try:
        text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            f"{place(text.count(bytes([10]), 0, error.start))}: found the bytes "
            f"{text[error.start : error.start + 4]!r}, expected UTF-8 text."
        ) from error
    if boundary in text:
        for index, line in enumerate(lines):
            if boundary in line.split():
                raise ConfigurationError(
                    f"{place(index)}: found the boundary token '{boundary.decode()}' as a word. Each line gets one at "
                    f"its end: remove it from the text, or set end_of_sentence of the lm_stream reader to another "
                    f"token."
                )


def _cuts(path: str, size: int) -> Iterator[int]:
    """The positions for splitting a file: after the first line end beyond each `size` bytes."""
    if is_compressed(path):
        return
    num_bytes = os.path.getsize(path)
    with open(path, "rb") as raw:
        position = size
        while position < num_bytes - size // 2:  # merge a small rest into the last piece
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
