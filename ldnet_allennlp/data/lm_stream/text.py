"""The sentences of a text for language models, in blocks."""

import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from allennlp.common.checks import ConfigurationError

from ldnet_allennlp.common.lines import is_compressed, line_blocks

BLOCK_SIZE = 1 << 19
PIECE_SIZE = 1 << 25


class Block(NamedTuple):
    """Lines with tokens: the number of the file, that of the piece of the file, and the lines."""

    file: int
    piece: int
    lines: list[bytes]


def sentence_blocks(
    files: Sequence[str], boundary: bytes, max_sentences: int | None = None
) -> Iterator[Block]:
    """
    Read the lines with tokens in blocks, at most `max_sentences` of them.

    Raises `ConfigurationError`, with the file and the line, for text that is not UTF-8, for the boundary token as a
    word, for a file without tokens, and in the cases of `line_blocks`.
    """
    left = max_sentences
    for file, path in enumerate(files):
        number = num_sentences = 0
        cuts = [0, *_cuts(path)]
        for piece, (start, end) in enumerate(zip(cuts, [*cuts[1:], None])):
            for block in line_blocks(path, BLOCK_SIZE, start, end, number):
                _check(block, path, number, boundary)
                number += len(block)
                lines = [line for line in block if line and not line.isspace()][:left]
                num_sentences += len(lines)
                if lines:
                    yield Block(file, piece, lines)
                if left is not None:
                    left -= len(lines)
                    if left == 0:
                        return
        if not num_sentences:
            raise ConfigurationError(f"There is no token in the text '{path}'.")


def _check(lines: list[bytes], path: str, number: int, boundary: bytes) -> None:
    """Check the lines of a file after its first `number`."""
    text = b"\n".join(lines)
    try:
        text.decode("utf-8")
    except UnicodeDecodeError as error:
        line = number + 1 + text.count(b"\n", 0, error.start)
        raise ConfigurationError(
            f"{path}, line {line}: found the bytes {text[error.start : error.start + 4]!r}, expected UTF-8 text."
        ) from error
    for index, sentence in enumerate(lines) if boundary in text else ():
        if boundary in sentence.split():
            raise ConfigurationError(
                f"{path}, line {number + index + 1}: found the boundary token '{boundary.decode()}' as a word. Each "
                f"line gets one at its end: remove it from the text, or set end_of_sentence of the lm_stream reader "
                f"to another token."
            )


def _cuts(path: str) -> Iterator[int]:
    """Where the pieces of a plain text begin: after the first line end beyond each `PIECE_SIZE` bytes."""
    if not os.path.isfile(path) or is_compressed(path):
        return
    num_bytes, position = os.path.getsize(path), PIECE_SIZE
    with open(path, "rb") as file:
        while position < num_bytes - PIECE_SIZE // 2:  # a small rest belongs to the last piece
            file.seek(position)
            chunk = file.read(BLOCK_SIZE)
            cut = chunk.find(b"\n")
            position += len(chunk) if cut < 0 else cut + 1
            if cut >= 0 and position < num_bytes:
                yield position
                position += PIECE_SIZE
