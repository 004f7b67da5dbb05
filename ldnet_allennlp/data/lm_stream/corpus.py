"""The words of a text stream as numbers, computed by one or more processes."""

from collections.abc import Iterator
from functools import partial
from typing import Any, BinaryIO, NamedTuple

import numpy
from allennlp.common.checks import ConfigurationError
from allennlp.common.tqdm import Tqdm

from ldnet_allennlp.common.lines import PathOrPaths, expand_paths
from ldnet_allennlp.data.lm_stream.text import Block, sentence_blocks
from ldnet_allennlp.data.lm_stream.workers import run_tasks

NUMBER_TYPE = numpy.dtype("<i4")

# Long compressed files become several parts, which can be shuffled, as plain files do at their pieces.
TOKENS_OF_A_PART = 1 << 24


class Numbers(dict[bytes, int]):
    """Numbers words in the order in which they first appear, after the boundary token, which has the number 0."""

    def __init__(self, boundary: bytes) -> None:
        super().__init__({boundary: 0})

    def __missing__(self, word: bytes) -> int:
        number = self[word] = len(self)
        return number


class NumberedText(NamedTuple):
    """
    A text as numbers: its words (the first is the boundary token), their counts, the number of the file and of the
    tokens of each part, and the tokens if they are in memory.
    """

    words: list[str]
    counts: numpy.ndarray
    parts: list[tuple[int, int]]
    tokens: numpy.ndarray | None


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
        # The options that determine the tokens.
        self.settings: dict[str, Any] = {"end_of_sentence": end_of_sentence, "max_instances": max_sentences}
        self._boundary = end_of_sentence.encode("utf-8")
        self._max_sentences = max_sentences
        self._num_workers = num_workers

    def blocks(self) -> Iterator[Block]:
        """The lines with tokens, see `sentence_blocks`."""
        return sentence_blocks(self.files, self._boundary, self._max_sentences)

    def number(self, file: BinaryIO | None = None) -> NumberedText:
        """
        Number the words, and count them. The tokens are in memory or written to a file, as little-endian 32-bit
        integers.

        Raises the errors of `sentence_blocks`, and one for a text without tokens.
        """
        numbers = Numbers(self._boundary)
        counts = numpy.zeros(1, dtype=numpy.int64)
        parts: list[tuple[int, int]] = []
        in_memory = [numpy.empty(0, NUMBER_TYPE)]
        last = None
        function = partial(_number_block, self._boundary)
        name = f"reading {self.files[0]}" + (f" and {len(self.files) - 1} more" if self.files[1:] else "")
        with Tqdm.tqdm(unit=" tokens", unit_scale=True, desc=name) as bar:
            for piece, words, of_words, tokens in run_tasks(function, self.blocks(), self._num_workers):
                # From the numbers of the block to those of the text.
                table = numpy.fromiter(map(numbers.__getitem__, words), NUMBER_TYPE, len(words))
                tokens = table[tokens]
                if len(counts) < len(numbers):
                    counts = numpy.pad(counts, (0, len(numbers)))
                counts[table] += of_words
                if piece != last or parts[-1][1] >= TOKENS_OF_A_PART:
                    parts.append((piece[0], 0))
                last = piece
                parts[-1] = piece[0], parts[-1][1] + len(tokens)
                if file is None:
                    in_memory.append(tokens)
                else:
                    file.write(tokens.tobytes())
                bar.update(len(tokens))
        if not parts:
            raise ConfigurationError(f"There is no token to read in {self.files} (max_instances is 0).")
        return NumberedText(
            [word.decode("utf-8") for word in numbers],
            counts[: len(numbers)],
            parts,
            numpy.concatenate(in_memory) if file is None else None,
        )


def _number_block(
    boundary: bytes, block: Block
) -> tuple[tuple[int, int], list[bytes], numpy.ndarray, numpy.ndarray]:
    """The file and piece of a block, its words in the order of their numbers in it, their counts, and the tokens."""
    numbers = Numbers(boundary)
    words = (b" %s\n" % boundary).join([*block.lines, b""]).split()
    tokens = numpy.fromiter(map(numbers.__getitem__, words), NUMBER_TYPE, len(words))
    return (block.file, block.piece), list(numbers), numpy.bincount(tokens), tokens
