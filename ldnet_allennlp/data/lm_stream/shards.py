"""The numbered words of a text, in memory or on disk for later runs."""

import os
import re
from hashlib import sha256
from typing import Any, BinaryIO, NamedTuple, Union

import numpy

from ldnet_allennlp.data.lm_stream.corpus import NUMBER_TYPE, Corpus, shard_name
from ldnet_allennlp.data.lm_stream.prepared import prepare

WORDS = "words.txt"


class StoredNumbers:
    """
    Successive numbers in a file; only the requested slice is mapped into memory. An open file stays valid when another
    file replaces it.
    """

    def __init__(self, file: BinaryIO, start: int, length: int) -> None:
        self._file = file
        self._start = start
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, wanted: slice) -> numpy.ndarray:
        start, end, _ = wanted.indices(self._length)
        if end <= start:
            return numpy.empty(0, NUMBER_TYPE)
        offset = (self._start + start) * NUMBER_TYPE.itemsize
        try:
            return numpy.memmap(self._file, NUMBER_TYPE, "r", offset, (end - start,))
        except ValueError as error:
            raise RuntimeError(
                f"The file '{self._file.name}' was truncated while it was read ({error}). Start again to rebuild it."
            ) from error


Part = Union[numpy.ndarray, StoredNumbers]


class Text(NamedTuple):
    """A text as numbers of its words (0: the boundary token): those of each file in parts, several of a long file."""

    words: list[str]
    counts: numpy.ndarray
    files: list[list[Part]]

    def token_counts(self) -> dict[str, int]:
        """The count of each token: the words in the order in which they first appear, then the boundary."""
        counts = dict(zip(self.words, self.counts.tolist()))
        counts[self.words[0]] = counts.pop(self.words[0])
        return counts


def read_text(corpus: Corpus, directory: str | None = None) -> Text:
    """
    Number the words of a text: in memory, or in the directory, where later runs and other processes reuse the files.
    It stores any number of texts, each in a folder named after its files.
    """
    parts: list[list[Any]] = [[] for _ in corpus.files]
    if directory is None:
        words, counts, shards = corpus.number()
        for shard in shards:
            assert shard.numbers is not None
            ends = numpy.cumsum([length for _, length in shard.parts])
            for (file, _), numbers in zip(shard.parts, numpy.split(shard.numbers, ends)):
                parts[file].append(numbers)
        return Text(words, counts, [[numpy.concatenate(of_file)] for of_file in parts if of_file])

    def make(folder: str) -> list[Any]:
        text = corpus.number(folder)
        with open(os.path.join(folder, WORDS), "wb") as file:
            for word, count in zip(text.words, text.counts.tolist()):
                file.write(b"%d %s\n" % (count, word.encode("utf-8")))
        return [shard.parts for shard in text.shards]

    content, files = prepare(folder_of(corpus, directory), corpus.files, corpus.settings, make)
    for number, shard in enumerate(content):
        start = 0
        for file, length in shard:
            if length:
                parts[file].append(StoredNumbers(files[shard_name(number)], start, length))
            start += length
    with files[WORDS] as lines:
        rows = [line.split() for line in lines]
    stored = numpy.array([int(count) for count, _ in rows])
    return Text([word.decode("utf-8") for _, word in rows], stored, [of_file for of_file in parts if of_file])


def folder_of(corpus: Corpus, directory: str) -> str:
    """The folder of a text: the name of its first file and a hash of all names."""
    first = re.sub(r"[^\w.-]", "_", os.path.basename(corpus.files[0]))[:40].lstrip(".")
    names = "\n".join(corpus.files).encode("utf-8", "surrogateescape")
    return os.path.join(directory, f"{first}-{sha256(names).hexdigest()[:8]}.ids")
