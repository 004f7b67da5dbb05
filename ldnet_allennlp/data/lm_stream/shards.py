"""The ids of a text on disk, of which only what is asked for comes into memory."""

import os
import re
from hashlib import sha256
from typing import Any, Dict, Iterator, List, NamedTuple, Sequence, Union

import numpy

from ldnet_allennlp.data.lm_stream.corpus import ID_TYPE, StreamText, WordIds, shard_name
from ldnet_allennlp.data.lm_stream.prepared import READ_AT_ONCE, StoredFile, prepare

COUNTS = "counts.txt"


class ShardPart:
    """
    Successive ids of a shard, as an array that is read piece by piece.

    # Parameters

    shard : `StoredFile`
        Little-endian 32 bit integers.
    start, length : `int`
        The first of these ids, and their number.
    """

    def __init__(self, shard: StoredFile, start: int, length: int) -> None:
        self._shard = shard
        self._start = start
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, wanted: slice) -> numpy.ndarray:
        start, end, step = wanted.indices(self._length)
        assert step == 1
        content = self._shard.read(
            (self._start + start) * ID_TYPE.itemsize, max(0, end - start) * ID_TYPE.itemsize
        )
        return numpy.frombuffer(content, dtype=ID_TYPE)


Ids = Union[numpy.ndarray, ShardPart]


class EncodedText(NamedTuple):
    """The ids of a text: those of each file in parts, which are as many as the file is long."""

    files: List[List[Ids]]
    num_tokens: int
    num_unknown: int


class ShardDirectory:
    """
    Keeps the ids and the word counts of any number of texts in a directory. Each text has its place there, which
    follows from the names of its files: loaders of both directions share it, and another vocabulary replaces the
    ids (but not the counts). See `prepare` for when what is there is used again.

    # Parameters

    path : `str`
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def count_tokens(self, text: StreamText) -> Dict[str, int]:
        """What `text.count_tokens()` gives, or has given in an earlier run."""

        def make(folder: str) -> None:
            with open(os.path.join(folder, COUNTS), "wb") as file:
                for token, count in text.count_tokens().items():
                    file.write(b"%d %s\n" % (count, token.encode("utf-8")))

        prepared = prepare(self.path, f"{self.name_of(text)}.counts", text.files, text.settings, make)
        counts = {}
        for line in _lines(prepared.files[COUNTS]):
            count, token = line.split(b" ")
            counts[token.decode("utf-8")] = int(count)
        return counts

    def encode(self, text: StreamText, words: WordIds) -> EncodedText:
        """What `text.encode(words)` gives, or has given in an earlier run, in files."""

        def make(folder: str) -> Dict[str, Any]:
            groups = list(text.encode(words, folder))
            return {
                "shards": [
                    {
                        "name": shard_name(number),
                        "tokens": sum(n for _, n in group.parts),
                        "parts": group.parts,
                    }
                    for number, group in enumerate(groups)
                ],
                "unknown": sum(group.num_unknown for group in groups),
            }

        settings = {**text.settings, "vocabulary": words.digest()}
        prepared = prepare(self.path, f"{self.name_of(text)}.ids", text.files, settings, make)
        files: List[List[Ids]] = [[] for _ in text.files]
        num_tokens = 0
        for shard in prepared.content["shards"]:
            start = 0
            for file, length in shard["parts"]:
                files[file].append(ShardPart(prepared.files[shard["name"]], start, length))
                start += length
            num_tokens += start
        return EncodedText([parts for parts in files if parts], num_tokens, prepared.content["unknown"])

    @staticmethod
    def name_of(text: StreamText) -> str:
        """The name of a text's place: that of its first file and a hash of all names."""
        first = re.sub(r"[^\w.-]", "_", os.path.basename(text.files[0]))[:40].lstrip(".")
        return (
            f"{first}-{sha256(chr(10).join(text.files).encode('utf-8', 'surrogateescape')).hexdigest()[:8]}"
        )


def encode_in_memory(text: StreamText, words: WordIds) -> EncodedText:
    """What `text.encode(words)` gives: one part for each file."""
    files: List[bytearray] = [bytearray() for _ in text.files]
    num_unknown = 0
    for group in text.encode(words):
        assert group.ids is not None
        start = 0
        content = memoryview(group.ids)
        for file, length in group.parts:
            end = start + length * ID_TYPE.itemsize
            files[file] += content[start:end]
            start = end
        num_unknown += group.num_unknown
    arrays: List[Sequence[Ids]] = [[numpy.frombuffer(ids, dtype=ID_TYPE)] for ids in files if ids]
    num_tokens = sum(len(ids) for ids in files) // ID_TYPE.itemsize
    return EncodedText([list(array) for array in arrays], num_tokens, num_unknown)


def _lines(file: StoredFile) -> Iterator[bytes]:
    rest = b""
    for start in range(0, len(file), READ_AT_ONCE):
        lines = (rest + file.read(start, min(READ_AT_ONCE, len(file) - start))).split(b"\n")
        rest = lines.pop()
        yield from lines
