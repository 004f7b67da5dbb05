"""Counts the tokens of a text, and turns them into ids, in one process or in several."""

import io
import os
import time
from collections import Counter
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from typing import BinaryIO, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple, cast
from typing import Counter as CounterType

import numpy
from allennlp.common.checks import ConfigurationError
from allennlp.common.tqdm import Tqdm
from allennlp.data import Vocabulary

from ldnet_allennlp.common.lines import PathOrPaths
from ldnet_allennlp.data.lm_stream.text import TextPiece, sentence_blocks, text_files, text_pieces
from ldnet_allennlp.data.lm_stream.windows import PADDING
from ldnet_allennlp.data.lm_stream.workers import OnProgress, run_tasks

NAMESPACE = "tokens"
ID_TYPE = numpy.dtype("<i4")

# Long files become several parts, which can be shuffled. Files that fill a `TextPiece` have about as many tokens.
TOKENS_OF_A_PART = 1 << 24


class WordIds(Dict[bytes, int]):
    """
    The ids of the words of a vocabulary; that of the unknown token for all other words.

    # Parameters

    vocab : `Vocabulary`
    boundary : `str`
        The boundary token.

    Raises `ConfigurationError` if the vocabulary does not have the boundary token.
    """

    def __init__(self, vocab: Vocabulary, boundary: str) -> None:
        ids = vocab.get_token_to_index_vocabulary(NAMESPACE)
        if boundary not in ids:
            raise ConfigurationError(
                f"The vocabulary does not have the boundary token '{boundary}' "
                f"(end_of_sentence of the lm_stream reader). Was it made from another text, or is it cut by "
                f"min_count or max_vocab_size? The vocabulary's option tokens_to_add can name it."
            )
        super().__init__(
            (token.encode("utf-8"), number) for token, number in ids.items() if number != PADDING
        )
        self.unknown = ids[vocab._oov_token]
        self.boundary = ids[boundary]

    def __missing__(self, token: bytes) -> int:
        return self.unknown

    def digest(self) -> str:
        """A hash of all words and their ids, in hexadecimal digits."""
        lines = (
            b"%d %s\n" % (number, token) for token, number in sorted(self.items(), key=lambda pair: pair[1])
        )
        return sha256(b"".join([b"%d\n" % self.unknown, *lines])).hexdigest()


class EncodedGroup(NamedTuple):
    """
    What became of a group of pieces: for each part its file's number and its tokens, the number of unknown tokens,
    and the ids as bytes, unless they were written to a file.
    """

    parts: List[Tuple[int, int]]
    num_unknown: int
    ids: Optional[bytes]


class StreamText:
    """
    A text that becomes one stream of tokens, with a boundary token after each sentence.

    All results are the same for any number of processes. Memory grows with the number of different words in the text,
    and not with its length.

    # Parameters

    data_path : `PathOrPaths`
        As in `text_files`.
    end_of_sentence : `str`
        The boundary token.
    max_sentences : `int`, optional
        How many sentences are read at most. With this, only one process reads.
    num_workers : `int`, optional (default = `0`)
        How many processes read. With 0 or 1, this one does.

    Raises `ConfigurationError` if there is no such file.
    """

    def __init__(
        self,
        data_path: PathOrPaths,
        end_of_sentence: str,
        max_sentences: Optional[int] = None,
        num_workers: int = 0,
    ) -> None:
        self.files = text_files(data_path)
        self.end_of_sentence = end_of_sentence
        self.max_sentences = max_sentences
        self.num_workers = num_workers

    @property
    def settings(self) -> Dict[str, object]:
        """What the tokens depend on beside the files."""
        return {"end_of_sentence": self.end_of_sentence, "max_instances": self.max_sentences}

    def blocks(self) -> Iterator[List[bytes]]:
        """
        The sentences, read by this process, some at a time.

        Raises `ConfigurationError` for a file without a token and for what `line_blocks` cannot read.
        """
        sentences: CounterType[int] = Counter()
        for group in self._groups():
            for piece, lines in sentence_blocks(group, self.max_sentences):
                sentences[piece.file] += len(lines)
                yield lines
        self._check_files(sentences)

    def count_tokens(self) -> Dict[str, int]:
        """
        How often each token stands in the stream, boundaries included: the words in the order in which they first
        appear, then the boundary.

        Raises `ConfigurationError` for a file without a token and for what `line_blocks` cannot read.
        """
        counts: CounterType[bytes] = Counter()
        sentences: CounterType[int] = Counter()
        function = partial(_count_group, self.max_sentences)
        with _progress("counting", self.files) as on_progress:
            for counted, sentences_of in run_tasks(function, self._groups(), self.num_workers, on_progress):
                counts.update(counted)
                sentences.update(sentences_of)
        self._check_files(sentences)
        counts[self.end_of_sentence.encode("utf-8")] += sum(sentences.values())
        return {token.decode("utf-8"): count for token, count in counts.items()}

    def encode(self, words: WordIds, folder: Optional[str] = None) -> Iterator[EncodedGroup]:
        """
        Looks up the tokens.

        # Parameters

        words : `WordIds`
        folder : `str`, optional
            Where the ids of the groups are written: files `00000.ids` and so on of little-endian 32 bit integers.

        # Returns

        `Iterator[EncodedGroup]`
            Together, in this order, all of the text. Files and parts without a token are left out.

        Raises as `count_tokens`, and if there is nothing to read.
        """
        tokens: CounterType[int] = Counter()
        end_of_line = f" {self.end_of_sentence}\n".encode()
        function = partial(_encode_group, words, end_of_line, self.max_sentences, folder)
        tasks = list(enumerate(self._groups()))
        with _progress("encoding", self.files) as on_progress:
            for group in run_tasks(function, tasks, self.num_workers, on_progress):
                for file, num_tokens in group.parts:
                    tokens[file] += num_tokens
                yield group._replace(parts=[part for part in group.parts if part[1]])
        self._check_files(tokens)
        if not tokens:
            raise ConfigurationError(f"There is no token to read in {self.files} (max_instances is 0).")

    def _groups(self) -> List[List[TextPiece]]:
        if self.max_sentences is None:
            return text_pieces(self.files)
        return [[TextPiece(number, path) for number, path in enumerate(self.files)]]

    def _check_files(self, counts: Dict[int, int]) -> None:
        for number in sorted(counts):
            if not counts[number]:
                raise ConfigurationError(f"There is no token in the text '{self.files[number]}'.")


def shard_name(number: int) -> str:
    """The file of a group's ids."""
    return f"{number:05d}.ids"


def _count_group(
    max_sentences: Optional[int], group: Sequence[TextPiece], on_progress: OnProgress
) -> Tuple[Dict[bytes, int], Dict[int, int]]:
    """How often each word stands in these pieces, and how many sentences are from each file."""
    counts: CounterType[bytes] = Counter()
    sentences: Dict[int, int] = {}
    for piece, lines in sentence_blocks(group, max_sentences, lambda num_bytes: on_progress(num_bytes, 0)):
        sentences[piece.file] = sentences.get(piece.file, 0) + len(lines)
        tokens = b"\n".join(lines).split()
        counts.update(tokens)
        on_progress(0, len(tokens) + len(lines))
    return dict(counts), sentences


def _encode_group(
    words: WordIds,
    end_of_line: bytes,
    max_sentences: Optional[int],
    folder: Optional[str],
    task: Tuple[int, Sequence[TextPiece]],
    on_progress: OnProgress,
) -> EncodedGroup:
    number, group = task
    parts: List[List[int]] = []
    num_unknown = 0
    current: Optional[TextPiece] = None
    sink = io.BytesIO() if folder is None else open(os.path.join(folder, shard_name(number)), "xb")  # noqa: SIM115
    with cast(BinaryIO, sink):
        for piece, lines in sentence_blocks(
            group, max_sentences, lambda num_bytes: on_progress(num_bytes, 0)
        ):
            if piece is not current or parts[-1][1] >= TOKENS_OF_A_PART:
                parts.append([piece.file, 0])
                current = piece
            tokens = end_of_line.join([*lines, b""]).split()
            ids = numpy.fromiter(map(words.__getitem__, tokens), ID_TYPE, len(tokens))
            num_unknown += int((ids == words.unknown).sum())
            sink.write(ids.tobytes())
            parts[-1][1] += len(tokens)
            on_progress(0, len(tokens))
        stored = sink.getvalue() if isinstance(sink, io.BytesIO) else None
    return EncodedGroup([(file, num_tokens) for file, num_tokens in parts], num_unknown, stored)


@contextmanager
def _progress(doing: str, files: Sequence[str]) -> Iterator[OnProgress]:
    """A bar over the bytes of the text, with the time that is left and tokens per second."""
    started, done = time.perf_counter(), 0
    with Tqdm.tqdm(
        total=sum(map(os.path.getsize, files)),
        unit="B",
        unit_scale=True,
        desc=f"{doing} {files[0]}" + (f" and {len(files) - 1} more" if len(files) > 1 else ""),
    ) as bar:

        def on_progress(num_bytes: int, num_tokens: int) -> None:
            nonlocal done
            done += num_tokens
            rate = done / max(time.perf_counter() - started, 1e-9)
            bar.set_postfix_str(f"{rate:,.0f} tokens/s", refresh=False)
            bar.update(num_bytes)

        yield on_progress
