"""Counts and ids of a text, in memory or on disk for later runs."""

import os
import re
from hashlib import sha256
from typing import Any, BinaryIO, NamedTuple, Union

import numpy

from ldnet_allennlp.data.lm_stream.corpus import ID_TYPE, Corpus, WordIds, shard_name
from ldnet_allennlp.data.lm_stream.prepared import prepare

COUNTS = "counts.txt"


class StoredIds:
    """
    Successive ids in a file; only the requested slice is mapped into memory. An open file stays valid when another file
    replaces it.
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
            return numpy.empty(0, ID_TYPE)
        offset = (self._start + start) * ID_TYPE.itemsize
        try:
            return numpy.memmap(self._file, ID_TYPE, "r", offset, (end - start,))
        except ValueError as error:
            raise RuntimeError(
                f"The file '{self._file.name}' was truncated while it was read ({error}). Start again to rebuild it."
            ) from error


Ids = Union[numpy.ndarray, StoredIds]


class EncodedText(NamedTuple):
    """The ids of a text: those of each file in parts, several of a long file."""

    files: list[list[Ids]]
    num_tokens: int
    num_unknown: int


def count_tokens(corpus: Corpus, directory: str | None) -> dict[str, int]:
    """`corpus.count_tokens()`, or the stored counts of an earlier run."""
    if directory is None:
        return corpus.count_tokens()

    def make(folder: str) -> None:
        with open(os.path.join(folder, COUNTS), "wb") as file:
            for token, count in corpus.count_tokens().items():
                file.write(b"%d %s\n" % (count, token.encode("utf-8")))

    _, files = prepare(folder_of(corpus, directory, "counts"), corpus.files, corpus.settings, make)
    counts = {}
    with files[COUNTS] as file:
        for line in file:
            count, token = line[:-1].split(b" ")
            counts[token.decode("utf-8")] = int(count)
    return counts


def encode(corpus: Corpus, words: WordIds, directory: str | None) -> EncodedText:
    """
    The ids of a text: in memory, or in the directory, where later runs reuse them.

    # Parameters

    corpus : `Corpus`
    words : `WordIds`
    directory : `str`, optional
        Stores any number of texts, each in folders named after its files. Loaders of both directions share them. A
        different vocabulary replaces the ids, but not the counts.
    """
    files: list[list[Ids]] = [[] for _ in corpus.files]
    num_unknown = 0
    if directory is None:
        for group in corpus.encode(words):
            assert group.ids is not None
            num_unknown += group.num_unknown
            cuts = numpy.cumsum([length for _, length in group.parts])
            for (file, _), ids in zip(group.parts, numpy.split(group.ids, cuts)):
                files[file].append(ids)
        files = [[numpy.concatenate([part[:] for part in parts])] for parts in files if parts]
    else:

        def make(folder: str) -> list[list[Any]]:
            return [[group.parts, group.num_unknown] for group in corpus.encode(words, folder)]

        settings = {**corpus.settings, "vocabulary": words.digest()}
        shards, stored = prepare(folder_of(corpus, directory, "ids"), corpus.files, settings, make)
        for number, (parts, unknown) in enumerate(shards):
            num_unknown += unknown
            start = 0
            for file, length in parts:
                files[file].append(StoredIds(stored[shard_name(number)], start, length))
                start += length
    num_tokens = sum(len(ids) for parts in files for ids in parts)
    return EncodedText([parts for parts in files if parts], num_tokens, num_unknown)


def folder_of(corpus: Corpus, directory: str, kind: str) -> str:
    """The folder of a text: the name of its first file and a hash of all names."""
    first = re.sub(r"[^\w.-]", "_", os.path.basename(corpus.files[0]))[:40].lstrip(".")
    names = "\n".join(corpus.files).encode("utf-8", "surrogateescape")
    return os.path.join(directory, f"{first}-{sha256(names).hexdigest()[:8]}.{kind}")
