"""The numbered words of a text, in memory or on disk for later runs."""

import hashlib
import json
import logging
import os
import re
from collections.abc import Callable
from contextlib import suppress
from io import BufferedReader
from typing import BinaryIO, NamedTuple, Union

import numpy
from allennlp.common.checks import ConfigurationError

from ldnet_allennlp.common.files import exclusive_lock, scratch_directory
from ldnet_allennlp.data.lm_stream.corpus import NUMBER_TYPE, Corpus

logger = logging.getLogger(__name__)

# Increase this number to rebuild everything, after each change of the format or the tokenization.
FORMAT = 4
INDEX, WORDS, TOKENS = "index.json", "words.txt", "tokens.bin"


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

    The files are rebuilt, one process at a time, if the text (by sizes and modification times) or the reader's options
    have changed, or if a file is damaged. The index is written last, so an interrupted run leaves no complete result.
    Processes that read an older version keep reading it.

    Raises `ConfigurationError` if the files cannot be written (for example, on a full disk), if the text changes
    meanwhile, and in the cases of `Corpus.number`.
    """
    if directory is None:
        blocks: list[numpy.ndarray] = []
        words, counts, parts = corpus.number(blocks.append)
        tokens = numpy.concatenate(blocks)
        return Text(words, counts, _files(parts, lambda start, length: tokens[start : start + length]))
    folder = folder_of(corpus, directory)
    with suppress(_Unusable):
        return _open(folder, corpus)
    try:
        with exclusive_lock(folder, wait=True):
            try:
                return _open(folder, corpus)  # another process may have made it by now
            except _Unusable as reason:
                logger.info("Preparing '%s': %s.", folder, reason)
            _write(folder, corpus)
            return _open(folder, corpus)
    except OSError as error:
        raise ConfigurationError(
            f"Could not write the ids of the text to '{folder}' (shards of the lm_stream data loader; 4 bytes per "
            f"token): {error}"
        ) from error


def folder_of(corpus: Corpus, directory: str) -> str:
    """The folder of a text: the name of its first file and a hash of all names."""
    first = re.sub(r"[^\w.-]", "_", os.path.basename(corpus.files[0]))[:40].lstrip(".")
    names = "\n".join(corpus.files).encode("utf-8", "surrogateescape")
    return os.path.join(directory, f"{first}-{hashlib.sha256(names).hexdigest()[:8]}.ids")


class _Unusable(Exception):
    """The reason for not reusing the files of an earlier run."""


def _open(folder: str, corpus: Corpus) -> Text:
    path = os.path.join(folder, INDEX)
    files: dict[str, BufferedReader] = {}
    try:
        with open(path, "rb") as file:
            index = json.load(file)
        old, facts = index["facts"], {"format": FORMAT, **corpus.facts()}
        names = sorted(name for name in {*old, *facts} if old.get(name) != facts.get(name))
        if names:
            changes = (f"{name} was {old.get(name)!r} and is {facts.get(name)!r}" for name in names)
            raise _Unusable(", ".join(changes))
        for name, checksum in index["checksums"].items():
            path = os.path.join(folder, name)
            files[name] = open(path, "rb")  # noqa: SIM115, read as long as the text
            if hashlib.file_digest(files[name], "sha256").hexdigest() != checksum:
                raise ValueError("its checksum differs")
        files[WORDS].seek(0)
        with files[WORDS] as lines:
            rows = [line.split() for line in lines]
        parts = _files(index["parts"], lambda start, length: StoredNumbers(files[TOKENS], start, length))
    except FileNotFoundError as error:
        raise _Unusable(f"'{error.filename}' does not exist yet") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _Unusable(f"'{path}' is damaged ({error!r})") from error
    counts = numpy.array([int(count) for count, _ in rows])
    return Text([word.decode() for _, word in rows], counts, parts)


def _write(folder: str, corpus: Corpus) -> None:
    facts = corpus.facts()
    with scratch_directory(os.path.join(folder, INDEX)) as new:
        with open(os.path.join(new, TOKENS), "wb") as file:
            words, counts, parts = corpus.number(file.write)
        with open(os.path.join(new, WORDS), "wb") as file:
            file.writelines(b"%d %s\n" % (n, word.encode()) for n, word in zip(counts.tolist(), words))
        for name, value in corpus.facts().items():
            if value != facts[name]:
                raise ConfigurationError(f"{name} changed while it was read. Start again.")
        checksums = {}
        for name in (WORDS, TOKENS):
            with open(os.path.join(new, name), "rb") as file:
                checksums[name] = hashlib.file_digest(file, "sha256").hexdigest()
        index = {"facts": {"format": FORMAT, **facts}, "parts": parts, "checksums": checksums}
        with open(os.path.join(new, INDEX), "w", encoding="utf-8") as text:
            json.dump(index, text, indent=1)
        for name in (WORDS, TOKENS, INDEX):
            os.replace(os.path.join(new, name), os.path.join(folder, name))


def _files(parts: list[tuple[int, int]], part: Callable[[int, int], Part]) -> list[list[Part]]:
    """The parts of each file, by the start and the length of each part."""
    files: dict[int, list[Part]] = {}
    start = 0
    for file, length in parts:
        files.setdefault(file, []).append(part(start, length))
        start += length
    return list(files.values())
