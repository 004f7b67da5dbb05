"""The words of a text stream as numbers, computed by one or more processes."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any, NamedTuple

import numpy
from allennlp.common.checks import ConfigurationError
from allennlp.common.tqdm import Tqdm

from ldnet_allennlp.common.lines import PathOrPaths, expand_paths
from ldnet_allennlp.data.lm_stream.text import TextPiece, sentence_blocks, text_pieces
from ldnet_allennlp.data.lm_stream.workers import run_tasks

NUMBER_TYPE = numpy.dtype("<i4")

# Long files become several parts, which can be shuffled. Files that fill a `TextPiece` have about as many tokens.
TOKENS_OF_A_PART = 1 << 24
_COPIED_AT_ONCE = 1 << 20


class Numbers(dict[bytes, int]):
    """Numbers words in the order in which they first appear, after the boundary token, which has the number 0."""

    def __init__(self, boundary: bytes) -> None:
        super().__init__({boundary: 0})

    def __missing__(self, word: bytes) -> int:
        number = self[word] = len(self)
        return number


class Shard(NamedTuple):
    """The tokens of a group of pieces: the file's number and the tokens of each part; the numbers if in memory."""

    parts: list[tuple[int, int]]
    numbers: numpy.ndarray | None


class NumberedText(NamedTuple):
    """A text as numbers: its words, of which the first is the boundary token, their counts, and the tokens."""

    words: list[str]
    counts: numpy.ndarray
    shards: list[Shard]


class Corpus:
    """
    A text as one stream of tokens, with a boundary token after each sentence.

    Results are the same for any number of processes. Memory grows with the number of distinct words in the text, not
    with its length.

    `max_sentences` limits the number of sentences, which one process then reads.
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

    def sentences(self) -> Iterator[bytes]:
        """The lines with tokens. Raises the errors of `sentence_blocks`, and one for a file without tokens."""
        counts: Counter[int] = Counter()
        for group in self._groups():
            for piece, lines in sentence_blocks(group, self._boundary, self._max_sentences):
                counts[piece.file] += len(lines)
                yield from lines
        self._check_files(counts)

    def number(self, folder: str | None = None) -> NumberedText:
        """
        Number the words, and count them. The numbers are in memory or, with a folder, in one file of little-endian
        32-bit integers per shard (`00000.ids` and so on).

        Raises the errors of `sentences`, and one for a text without tokens.
        """
        numbers = Numbers(self._boundary)
        counts = numpy.zeros(0, dtype=numpy.int64)
        tokens: Counter[int] = Counter()
        shards = []
        tasks = list(enumerate(self._groups()))
        function = partial(_number_group, self._boundary, self._max_sentences, folder)
        name = f"reading {self.files[0]}" + (f" and {len(self.files) - 1} more" if self.files[1:] else "")
        size = sum(map(os.path.getsize, self.files))
        with Tqdm.tqdm(total=size, unit="B", unit_scale=True, desc=name) as bar:
            for (position, group), (words, of_words, shard) in zip(
                tasks, run_tasks(function, tasks, self._num_workers)
            ):
                # From the numbers of the group to those of the text.
                table = numpy.fromiter(map(numbers.__getitem__, words), NUMBER_TYPE, len(words))
                counts = numpy.pad(counts, (0, len(numbers) - len(counts)))
                counts[table] += of_words
                if folder is None:
                    shard = shard._replace(numbers=table[shard.numbers])
                else:
                    _renumber(os.path.join(folder, shard_name(position)), table)
                for file, num_tokens in shard.parts:
                    tokens[file] += num_tokens
                shards.append(shard)
                bar.update(sum(piece.num_bytes for piece in group))
        self._check_files(tokens)
        if not tokens:
            raise ConfigurationError(f"There is no token to read in {self.files} (max_instances is 0).")
        return NumberedText([word.decode("utf-8") for word in numbers], counts, shards)

    def _groups(self) -> list[list[TextPiece]]:
        if self._max_sentences is None:
            return text_pieces(self.files)
        return [[TextPiece(number, path) for number, path in enumerate(self.files)]]

    def _check_files(self, counts: dict[int, int]) -> None:
        for number in sorted(counts):
            if not counts[number]:
                raise ConfigurationError(f"There is no token in the text '{self.files[number]}'.")


def shard_name(number: int) -> str:
    """The file name of a shard's numbers."""
    return f"{number:05d}.ids"


def _number_group(
    boundary: bytes, max_sentences: int | None, folder: str | None, task: tuple[int, Sequence[TextPiece]]
) -> tuple[list[bytes], numpy.ndarray, Shard]:
    """The words of a group of pieces in the order of their numbers in it, their counts, and its shard."""
    position, group = task
    numbers = Numbers(boundary)
    counts = numpy.zeros(1, dtype=numpy.int64)
    parts: list[tuple[int, int]] = []
    blocks = [numpy.empty(0, NUMBER_TYPE)]
    path = None if folder is None else os.path.join(folder, shard_name(position))
    with nullcontext() if path is None else open(path, "xb") as file:
        for piece, lines in sentence_blocks(group, boundary, max_sentences):
            if not parts or parts[-1][0] != piece.file or parts[-1][1] >= TOKENS_OF_A_PART:
                parts.append((piece.file, 0))
            tokens = (b" %s\n" % boundary).join([*lines, b""]).split()
            block = numpy.fromiter(map(numbers.__getitem__, tokens), NUMBER_TYPE, len(tokens))
            parts[-1] = piece.file, parts[-1][1] + len(tokens)
            if len(counts) < len(numbers):
                counts = numpy.pad(counts, (0, 2 * len(numbers)))
            of_block = numpy.unique(block, return_counts=True)
            counts[of_block[0]] += of_block[1]
            if file is None:
                blocks.append(block)
            else:
                file.write(block.tobytes())
    in_memory = numpy.concatenate(blocks) if folder is None else None
    return list(numbers), counts[: len(numbers)], Shard(parts, in_memory)


def _renumber(path: str, table: numpy.ndarray) -> None:
    """Replace each number in a file by the number at its position in a table."""
    with open(path, "r+b") as file:
        while block := file.read(_COPIED_AT_ONCE):
            file.seek(-len(block), os.SEEK_CUR)
            file.write(table[numpy.frombuffer(block, NUMBER_TYPE)].tobytes())
