"""The words of a text for language models as numbers, computed by one or more processes."""

import os
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any, NamedTuple

import numpy
import torch
from allennlp.common.checks import ConfigurationError
from allennlp.common.tqdm import Tqdm
from torch.utils.data import DataLoader, Dataset

from ldnet_allennlp.common.lines import PathOrPaths, expand_paths, line_blocks

NUMBER_TYPE = numpy.dtype("<i4")
BLOCK_SIZE = 1 << 19
TOKENS_OF_A_PART = 1 << 23


class Block(NamedTuple):
    """Lines with tokens, and the number of their file."""

    file: int
    lines: list[bytes]


class NumberedBlock(NamedTuple):
    """The file of a block, its words in the order of their numbers in it, their counts, and the tokens."""

    file: int
    words: list[bytes]
    counts: numpy.ndarray
    tokens: numpy.ndarray


class NumberedText(NamedTuple):
    """
    The words of a text (the first is the boundary token), their counts, and its parts: the number of the file and of
    the tokens. A long file has several parts, which can be shuffled.
    """

    words: list[str]
    counts: numpy.ndarray
    parts: list[tuple[int, int]]


class Corpus:
    """
    A text as one stream of tokens, with a boundary token after each sentence.

    Results are the same for any number of processes. Memory grows with the number of distinct words in the text, not
    with its length. `data_path` may also be a folder, and `max_sentences` limits the number of sentences.
    """

    def __init__(
        self,
        data_path: PathOrPaths,
        end_of_sentence: str,
        max_sentences: int | None = None,
        num_workers: int = 0,
    ) -> None:
        self.files = expand_paths(data_path, folders=True)
        self._end_of_sentence = end_of_sentence
        self._max_sentences = max_sentences
        self._num_workers = num_workers

    def facts(self) -> dict[str, Any]:
        """Everything that the numbers depend on, by names for the log."""
        stats = {path: os.stat(path) for path in self.files}
        return {
            "end_of_sentence": self._end_of_sentence,
            "max_instances": self._max_sentences,
            **{f"the text '{path}'": [stat.st_size, stat.st_mtime_ns] for path, stat in stats.items()},
        }

    def blocks(self) -> Iterator[Block]:
        """
        The lines with tokens, in blocks.

        Raises `ConfigurationError`, with the file and the line, for text that is not UTF-8, for the boundary token as a
        word, for a file without tokens, and in the cases of `line_blocks`.
        """
        left = self._max_sentences
        for file, path in enumerate(self.files):
            num_lines, has_tokens = 0, False
            for block in line_blocks(path, BLOCK_SIZE):
                _check(block, path, num_lines, self._end_of_sentence.encode())
                num_lines += len(block)
                lines = [line for line in block if line and not line.isspace()][:left]
                if lines:
                    has_tokens = True
                    yield Block(file, lines)
                if left is not None:
                    left -= len(lines)
                    if left == 0:
                        return
            if not has_tokens:
                raise ConfigurationError(f"There is no token in the text '{path}'.")

    def number(self, write: Callable[[Any], Any]) -> NumberedText:
        """
        Number the words in the order in which they first appear, and count them. `write` gets the numbers of the
        tokens, in blocks of the type `NUMBER_TYPE`.

        Raises the errors of `blocks`, and one for a text without tokens.
        """
        numbers = _numbering(self._end_of_sentence.encode())
        counts = numpy.zeros(1, dtype=numpy.int64)
        parts: list[tuple[int, int]] = []
        blocks: Any = DataLoader(
            _NumberedBlocks(self._end_of_sentence.encode()),
            batch_size=None,
            sampler=self.blocks(),
            collate_fn=tuple,  # torch's own converts the arrays to tensors
            num_workers=self._num_workers if self._num_workers > 1 else 0,
            generator=torch.Generator(),  # torch's own generator belongs to the model
        )
        name = f"reading {self.files[0]}" + (f" and {len(self.files) - 1} more" if self.files[1:] else "")
        with Tqdm.tqdm(unit=" tokens", unit_scale=True, desc=name) as bar:
            for file, words, of_words, tokens in blocks:
                # From the numbers of the block to those of the text.
                table = numpy.fromiter(map(numbers.__getitem__, words), NUMBER_TYPE, len(words))
                if len(counts) < len(numbers):
                    counts = numpy.pad(counts, (0, len(numbers)))
                counts[table] += of_words
                if not parts or parts[-1][0] != file or parts[-1][1] >= TOKENS_OF_A_PART:
                    parts.append((file, 0))
                parts[-1] = file, parts[-1][1] + len(tokens)
                write(table[tokens])
                bar.update(len(tokens))
        if not parts:
            raise ConfigurationError(f"There is no token to read in {self.files} (max_instances is 0).")
        return NumberedText([word.decode() for word in numbers], counts[: len(numbers)], parts)


def _numbering(boundary: bytes) -> defaultdict[bytes, int]:
    """Numbers words in the order in which they first appear, after the boundary token, which has the number 0."""
    return defaultdict(count(1).__next__, {boundary: 0})


class _NumberedBlocks(Dataset):
    """Numbers the words of blocks, in this process or in those of a torch `DataLoader`."""

    def __init__(self, boundary: bytes) -> None:
        self._boundary = boundary

    def __getitem__(self, block: Block) -> NumberedBlock:
        numbers = _numbering(self._boundary)
        words = (b" %s\n" % self._boundary).join([*block.lines, b""]).split()
        tokens = numpy.fromiter(map(numbers.__getitem__, words), NUMBER_TYPE, len(words))
        return NumberedBlock(block.file, list(numbers), numpy.bincount(tokens), tokens)


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
    for line, sentence in enumerate(lines, number + 1) if boundary in text else ():
        if boundary in sentence.split():
            raise ConfigurationError(
                f"{path}, line {line}: found the boundary token '{boundary.decode()}' as a word. Each line gets one "
                f"at its end: remove it from the text, or set end_of_sentence of the lm_stream reader to another token."
            )
