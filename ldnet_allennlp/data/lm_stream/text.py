"""Pieces of a text for language models, for parallel reading, and their sentences."""

import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from allennlp.common.checks import ConfigurationError

from ldnet_allennlp.common.lines import BLOCK_SIZE, is_compressed, line_blocks, lines_before

PIECE_SIZE = 1 << 25
MAX_PIECES = 512  # the shards made from them are open at the same time


class TextPiece(NamedTuple):
    """Whole lines of a text: the file's number and path, the first byte, and the byte after the last (None: all)."""

    file: int
    path: str
    start: int = 0
    end: int | None = None

    @property
    def num_bytes(self) -> int:
        return (os.path.getsize(self.path) if self.end is None else self.end) - self.start


def text_pieces(files: Sequence[str], size: int = PIECE_SIZE) -> list[list[TextPiece]]:
    """
    Divide a text into groups of about `size` bytes: a piece of a large file, split at a line end, or several small
    files. Compressed files are not split. Texts of more than 16 GiB have larger pieces.
    """
    groups: list[list[TextPiece]] = []
    room = 0
    try:
        size = max(size, sum(map(os.path.getsize, files)) // MAX_PIECES)
        for number, path in enumerate(files):
            cuts = [0, *_cuts(path, size)]
            for start, end in zip(cuts, [*cuts[1:], None]):
                if room <= 0:
                    groups.append([])
                    room = size
                groups[-1].append(TextPiece(number, path, start, end))
                room -= groups[-1][-1].num_bytes
    except OSError as error:
        raise ConfigurationError(f"The text could not be read: {error}.") from error
    return groups


def sentence_blocks(
    pieces: Sequence[TextPiece], boundary: bytes, max_sentences: int | None = None
) -> Iterator[tuple[TextPiece, list[bytes]]]:
    """
    Read the lines with tokens in blocks, each with its piece. Each piece appears at least once.

    Raises `ConfigurationError`, with the file and the line, for text that is not UTF-8, for the boundary token as a
    word, and in the cases of `line_blocks`.
    """
    left = max_sentences
    for piece in pieces:
        if left == 0:
            return
        yield piece, []
        number = 0
        for block in line_blocks(piece.path, piece.start, piece.end):
            _check(block, piece, number, boundary)
            number += len(block)
            lines = [line for line in block if line and not line.isspace()][:left]
            if left is not None:
                left -= len(lines)
            if lines:
                yield piece, lines
            if left == 0:
                return


def _check(lines: list[bytes], piece: TextPiece, number: int, boundary: bytes) -> None:
    """Check the lines of a piece after its first `number`."""
    text = b"\n".join(lines)
    try:
        text.decode("utf-8")
        index = None
        if boundary in text:
            index = next((index for index, line in enumerate(lines) if boundary in line.split()), None)
        message = (
            f"found the boundary token '{boundary.decode()}' as a word. Each line gets one at its end: remove it from "
            f"the text, or set end_of_sentence of the lm_stream reader to another token."
        )
    except UnicodeDecodeError as error:
        index = text.count(b"\n", 0, error.start)
        message = f"found the bytes {text[error.start : error.start + 4]!r}, expected UTF-8 text."
    if index is not None:
        line = number + index + 1 + lines_before(piece.path, piece.start)
        raise ConfigurationError(f"{piece.path}, line {line}: {message}")


def _cuts(path: str, size: int) -> Iterator[int]:
    """The positions for splitting a file: after the first line end beyond each `size` bytes."""
    if is_compressed(path):
        return
    num_bytes = os.path.getsize(path)
    with open(path, "rb") as file:
        position = size
        while position < num_bytes - size // 2:  # merge a small rest into the last piece
            file.seek(position)
            chunk = file.read(BLOCK_SIZE)
            cut = chunk.find(b"\n")
            if cut < 0:
                position += len(chunk) or num_bytes
            elif position + cut + 1 < num_bytes:
                yield position + cut + 1
                position += cut + 1 + size
            else:
                return
