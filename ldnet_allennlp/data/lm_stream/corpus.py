"""Token counts and ids of a text stream, computed by one or more processes."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from hashlib import sha256
from typing import Any, NamedTuple

import numpy
from allennlp.common.checks import ConfigurationError
from allennlp.common.tqdm import Tqdm
from allennlp.data import Vocabulary
from tqdm import tqdm

from ldnet_allennlp.common.lines import PathOrPaths
from ldnet_allennlp.data.lm_stream.text import TextPiece, sentence_blocks, text_files, text_pieces
from ldnet_allennlp.data.lm_stream.windows import PADDING
from ldnet_allennlp.data.lm_stream.workers import OnProgress, run_tasks

NAMESPACE = "tokens"
ID_TYPE = numpy.dtype("<i4")

# Long files become several parts, which can be shuffled. Files that fill a `TextPiece` have about as many tokens.
TOKENS_OF_A_PART = 1 << 24


class WordIds(dict[bytes, int]):
    """
    The ids of the words of a vocabulary; the unknown token's id for all other words and for the padding token.

    Raises `ConfigurationError` if the vocabulary lacks the boundary token.
    """

    def __init__(self, vocab: Vocabulary, boundary: str) -> None:
        ids = vocab.get_token_to_index_vocabulary(NAMESPACE)
        if boundary not in ids:
            raise ConfigurationError(
                f"The vocabulary lacks the boundary token '{boundary}' (end_of_sentence of the lm_stream reader). "
                f"Check that it was made from this text and that min_count or max_vocab_size keep the token; the "
                f"vocabulary's option tokens_to_add can add it."
            )
        super().__init__(
            (token.encode("utf-8"), number) for token, number in ids.items() if number != PADDING
        )
        self.unknown = ids[vocab._oov_token]
        self.boundary = ids[boundary]

    def __missing__(self, token: bytes) -> int:
        return self.unknown

    def digest(self) -> str:
        """A hexadecimal hash of all words and their ids."""
        words = sorted(self.items(), key=lambda pair: pair[1])
        lines = [b"%d\n" % self.unknown, *(b"%d %s\n" % (number, token) for token, number in words)]
        return sha256(b"".join(lines)).hexdigest()


class EncodedGroup(NamedTuple):
    """A group of pieces: the file's number and the tokens of each part, the unknown tokens, and the ids in memory."""

    parts: list[tuple[int, int]]
    num_unknown: int
    ids: numpy.ndarray | None


class Corpus:
    """
    A text as one stream of tokens, with a boundary token after each sentence.

    Results are the same for any number of processes. Memory grows with the number of distinct words in the text, not
    with its length.

    # Parameters

    data_path : `PathOrPaths`
        See `text_files`.
    end_of_sentence : `str`
        The boundary token.
    max_sentences : `int`, optional
        The maximum number of sentences, read by one process.
    num_workers : `int`, optional (default = `0`)
        The number of processes that read. With 0 or 1, this one does.
    """

    def __init__(
        self,
        data_path: PathOrPaths,
        end_of_sentence: str,
        max_sentences: int | None = None,
        num_workers: int = 0,
    ) -> None:
        self.files = text_files(data_path)
        self.end_of_sentence = end_of_sentence
        self.max_sentences = max_sentences
        self.num_workers = num_workers

    @property
    def settings(self) -> dict[str, Any]:
        """The options that determine the tokens."""
        return {"end_of_sentence": self.end_of_sentence, "max_instances": self.max_sentences}

    def sentences(self) -> Iterator[bytes]:
        """The lines with tokens. Raises the errors of `sentence_blocks`, and one for a file without tokens."""
        counts: Counter[int] = Counter()
        for group in self._groups():
            for piece, lines in sentence_blocks(group, self.end_of_sentence.encode(), self.max_sentences):
                counts[piece.file] += len(lines)
                yield from lines
        self._check_files(counts)

    def count_tokens(self) -> dict[str, int]:
        """
        Count each token of the stream: the words in the order in which they first appear, then the boundary.

        Raises the errors of `sentences`.
        """
        counts: Counter[bytes] = Counter()
        sentences: Counter[int] = Counter()
        function = partial(_count_group, self.end_of_sentence.encode(), self.max_sentences)
        with _progress("counting", self.files) as bar:
            for words, of_files in run_tasks(function, self._groups(), self.num_workers, bar.update):
                counts.update(words)
                sentences.update(of_files)
        self._check_files(sentences)
        counts[self.end_of_sentence.encode("utf-8")] += sum(sentences.values())
        return {token.decode("utf-8"): count for token, count in counts.items()}

    def encode(self, words: WordIds, folder: str | None = None) -> Iterator[EncodedGroup]:
        """
        Look up the tokens, group by group.

        # Parameters

        words : `WordIds`
        folder : `str`, optional
            The folder for the ids: one file of little-endian 32-bit integers (`00000.ids` and so on) per group. By
            default the groups hold them in memory.

        Raises the errors of `sentences`, and one for a text without tokens.
        """
        tokens: Counter[int] = Counter()
        function = partial(_encode_group, words, self.end_of_sentence.encode(), self.max_sentences, folder)
        with _progress("encoding", self.files) as bar:
            tasks = list(enumerate(self._groups()))
            for group in run_tasks(function, tasks, self.num_workers, bar.update):
                for file, num_tokens in group.parts:
                    tokens[file] += num_tokens
                yield group._replace(parts=[part for part in group.parts if part[1]])
        self._check_files(tokens)
        if not tokens:
            raise ConfigurationError(f"There is no token to read in {self.files} (max_instances is 0).")

    def _groups(self) -> list[list[TextPiece]]:
        if self.max_sentences is None:
            return text_pieces(self.files)
        return [[TextPiece(number, path) for number, path in enumerate(self.files)]]

    def _check_files(self, counts: dict[int, int]) -> None:
        for number in sorted(counts):
            if not counts[number]:
                raise ConfigurationError(f"There is no token in the text '{self.files[number]}'.")


def shard_name(number: int) -> str:
    """The file name of a group's ids."""
    return f"{number:05d}.ids"


def _count_group(
    boundary: bytes, max_sentences: int | None, group: Sequence[TextPiece], on_progress: OnProgress
) -> tuple[dict[bytes, int], dict[int, int]]:
    """The count of each word in these pieces, and the number of sentences of each file."""
    counts: Counter[bytes] = Counter()
    sentences: Counter[int] = Counter()
    for piece, lines in sentence_blocks(group, boundary, max_sentences, on_progress):
        sentences[piece.file] += len(lines)
        counts.update(b"\n".join(lines).split())
    return dict(counts), dict(sentences)


def _encode_group(
    words: WordIds,
    boundary: bytes,
    max_sentences: int | None,
    folder: str | None,
    task: tuple[int, Sequence[TextPiece]],
    on_progress: OnProgress,
) -> EncodedGroup:
    number, group = task
    parts: list[tuple[int, int]] = []
    blocks = [numpy.empty(0, ID_TYPE)]
    num_unknown = 0
    with nullcontext() if folder is None else open(os.path.join(folder, shard_name(number)), "xb") as file:
        for piece, lines in sentence_blocks(group, boundary, max_sentences, on_progress):
            if not parts or parts[-1][0] != piece.file or parts[-1][1] >= TOKENS_OF_A_PART:
                parts.append((piece.file, 0))
            tokens = (b" %s\n" % boundary).join([*lines, b""]).split()
            ids = numpy.fromiter(map(words.__getitem__, tokens), ID_TYPE, len(tokens))
            num_unknown += int((ids == words.unknown).sum())
            parts[-1] = piece.file, parts[-1][1] + len(tokens)
            if file is None:
                blocks.append(ids)
            else:
                file.write(ids.tobytes())
    return EncodedGroup(parts, num_unknown, numpy.concatenate(blocks) if folder is None else None)


def _progress(activity: str, files: Sequence[str]) -> tqdm:
    """A progress bar over the bytes of the text."""
    name = f"{activity} {files[0]}" + (f" and {len(files) - 1} more" if len(files) > 1 else "")
    return Tqdm.tqdm(total=sum(map(os.path.getsize, files)), unit="B", unit_scale=True, desc=name)
