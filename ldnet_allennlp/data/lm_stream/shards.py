"""The numbered words of a text, in memory or on disk for later runs."""

import os
import re
from hashlib import sha256
from typing import Any, BinaryIO, NamedTuple, Union

import numpy

from ldnet_allennlp.data.lm_stream.corpus import NUMBER_TYPE, Corpus
from ldnet_allennlp.data.lm_stream.prepared import prepare

WORDS, TOKENS = "words.txt", "tokens.bin"


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
    files: dict[int, list[Any]] = {}
    if directory is None:
        text = corpus.number()
        assert text.tokens is not None
        ends = numpy.cumsum([length for _, length in text.parts])
        for (file, _), tokens in zip(text.parts, numpy.split(text.tokens, ends)):
            files.setdefault(file, []).append(tokens)
        return Text(text.words, text.counts, [[numpy.concatenate(parts)] for parts in files.values()])

    def make(folder: str) -> list[tuple[int, int]]:
        with open(os.path.join(folder, TOKENS), "wb") as stored:
            text = corpus.number(stored)
        with open(os.path.join(folder, WORDS), "wb") as stored:
            for word, count in zip(text.words, text.counts.tolist()):
                stored.write(b"%d %s\n" % (count, word.encode("utf-8")))
        return text.parts

    parts, opened = prepare(folder_of(corpus, directory), corpus.files, corpus.settings, make)
    start = 0
    for file, length in parts:
        files.setdefault(file, []).append(StoredNumbers(opened[TOKENS], start, length))
        start += length
    with opened[WORDS] as lines:
        rows = [line.split() for line in lines]
    counts = numpy.array([int(count) for count, _ in rows])
    return Text([word.decode("utf-8") for _, word in rows], counts, list(files.values()))


def folder_of(corpus: Corpus, directory: str) -> str:
    """The folder of a text: the name of its first file and a hash of all names."""
    first = re.sub(r"[^\w.-]", "_", os.path.basename(corpus.files[0]))[:40].lstrip(".")
    names = "\n".join(corpus.files).encode("utf-8", "surrogateescape")
    return os.path.join(directory, f"{first}-{sha256(names).hexdigest()[:8]}.ids")
