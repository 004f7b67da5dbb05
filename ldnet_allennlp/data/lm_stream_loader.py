"""Trains and evaluates language models on one long stream of tokens, in windows."""

import logging
import os
import time
from array import array
from contextlib import contextmanager
from itertools import islice
from typing import Callable, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy
import torch
from allennlp.common.checks import ConfigurationError
from allennlp.common.tqdm import Tqdm
from allennlp.common.util import is_distributed
from allennlp.data import DataLoader, DatasetReader, Instance, Vocabulary
from allennlp.data.data_loaders import TensorDict
from overrides import overrides

from ldnet_allennlp.data.corpus_files import PathOrPaths
from ldnet_allennlp.data.lm_stream_reader import LmStreamReader
from ldnet_allennlp.data.lm_text import text_files
from ldnet_allennlp.data.lm_windows import PADDING, StreamWindows, TokenStream

logger = logging.getLogger(__name__)

NAMESPACE = "tokens"
DIRECTIONS = ("forward", "backward")

Window = Tuple[numpy.ndarray, numpy.ndarray, bool]


class TokenCounts(Instance):
    """What a whole text adds to a vocabulary, in the place of millions of `Instance`s."""

    def __init__(self, namespace: str, counts: Dict[str, int]) -> None:
        super().__init__({})
        self.namespace = namespace
        self.counts = counts

    @overrides
    def count_vocab_items(self, counter: Dict[str, Dict[str, int]]) -> None:
        total = counter[self.namespace]
        for token, count in self.counts.items():
            total[token] += count


@DataLoader.register("lm_stream")
class LmStreamLoader(DataLoader):
    """
    Reads a text as one stream `<eos> w1 .. wL <eos> w1 ..`, cut into `batch_size` contiguous rows that are read
    side by side, `sequence_length` tokens at a time: truncated backpropagation through time with hidden states
    that a `stateful` contextualizer carries from window to window. Every token is a target exactly once.

    The text becomes one array of ids, 4 bytes a token; no `Instance` is made. AllenNLP's `vocabulary` options
    (`min_count`, `max_vocab_size`, `from_files` and so on) work as always, and it is sorted by falling
    frequency, as the adaptive softmax wants it.

    In a distributed training each process reads `batch_size` rows of its own: two processes do what one does
    with twice the batch size.

    A batch is `{"source": {"tokens": {"tokens": (B, T)}}, "targets": (B, T), "first_window": bool,
    "direction": str}`. Rows that end within the last window have the id and the target 0 after their end.
    `first_window` says that the hidden states must start anew. What the loader of the original LD-Net
    (`LargeDataset`) does otherwise: it drops what does not fill a window, and it starts anew at each file.

    Registered as a `DataLoader` with name "lm_stream".

    # Parameters

    reader : `DatasetReader`
        An "lm_stream" reader, from the config's `dataset_reader`.
    data_path : `PathOrPaths`
        A file, a pattern, a directory, or a list of these, from the config's `train_data_path` and so on.
    batch_size : `int`
        The rows B of a batch. The published language models use 128. For the perplexity of an evaluation, fewer
        rows mean fewer tokens that are predicted without a context; 1 is exact, and slow.
    sequence_length : `int`
        The steps T of a window. The published language models use 20.
    direction : `str`, optional (default = `"forward"`)
        "forward" or "backward": the model's direction. A backward window is given in its natural order, and
        the model reverses it.
    shuffle : `bool`, optional (default = `False`)
        Whether the files are read in another order in each epoch. Each file stays contiguous.
    seed : `int`, optional (default = `13370`)
        What the order of the files follows from, with the epoch's number.
    one_stream_per_file : `bool`, optional (default = `False`)
        Whether each file is a stream of its own, as in the original: it is cut into `batch_size` rows, and the
        hidden states start anew with it. By default all files together are one stream.
    batches_per_epoch : `int`, optional
        The number of batches of an epoch; the next epoch goes on where this one stopped, with hidden states that
        start anew. For training only.
    max_batches : `int`, optional
        How many windows of the text are read at most.

    Raises `ConfigurationError` for another reader or direction, for sizes below 1, for text that cannot be read,
    and for a vocabulary without the boundary token.
    """

    def __init__(
        self,
        reader: DatasetReader,
        data_path: PathOrPaths,
        batch_size: int,
        sequence_length: int,
        direction: str = "forward",
        shuffle: bool = False,
        seed: int = 13370,
        one_stream_per_file: bool = False,
        batches_per_epoch: Optional[int] = None,
        max_batches: Optional[int] = None,
    ) -> None:
        if not isinstance(reader, LmStreamReader):
            raise ConfigurationError(
                f"The lm_stream data loader reads text through an lm_stream dataset_reader, "
                f"but a {type(reader).__name__} was found."
            )
        reader.check_stream_indexers()
        if direction not in DIRECTIONS:
            raise ConfigurationError(
                f"The direction of an lm_stream data loader is forward or backward, but '{direction}' was found. "
                f"A bidirectional language model reads whole sentences: use AllenNLP's own data loader, or train "
                f"one language model for each direction."
            )
        for name, value in (
            ("batch_size", batch_size),
            ("sequence_length", sequence_length),
            ("batches_per_epoch", batches_per_epoch),
            ("max_batches", max_batches),
        ):
            if value is not None and value < 1:
                raise ConfigurationError(
                    f"{name} of an lm_stream data loader is at least 1, but it is {value}."
                )
        text_files(data_path)  # a missing text should not wait until the first one is read
        self.reader = reader
        self.data_path = data_path
        self.batch_size = batch_size
        self.sequence_length = sequence_length
        self.direction = direction
        self.shuffle = shuffle
        self.seed = seed
        self.one_stream_per_file = one_stream_per_file
        self.batches_per_epoch = batches_per_epoch
        self.max_batches = max_batches
        self._vocab: Optional[Vocabulary] = None
        self._boundary = PADDING
        self._files: List[numpy.ndarray] = []  # the ids of each file, int32
        self._passes = 0
        self._endless: Optional[Iterator[Window]] = None
        self._device: Optional[torch.device] = None

    @overrides
    def iter_instances(self) -> Iterator[Instance]:
        """One object with the counts of all tokens, from which a `Vocabulary` can be made."""
        with _progress("counting", self.data_path) as (on_read, _):
            yield TokenCounts(NAMESPACE, self.reader.count_tokens(self.data_path, on_read))

    @overrides
    def index_with(self, vocab: Vocabulary) -> None:
        """Looks up all tokens. Those that the vocabulary does not have become its unknown token."""
        if self._vocab is vocab:
            return
        ids_of = vocab.get_token_to_index_vocabulary(NAMESPACE)
        if self.reader.end_of_sentence not in ids_of:
            raise ConfigurationError(
                f"The vocabulary does not have the boundary token '{self.reader.end_of_sentence}' "
                f"(end_of_sentence of the lm_stream reader). Was it made from another text, or is it cut by "
                f"min_count or max_vocab_size? The vocabulary's option tokens_to_add can name it."
            )
        unknown = ids_of[vocab._oov_token]
        table = _LookUp(unknown)
        table.update((token.encode("utf-8"), number) for token, number in ids_of.items() if number != PADDING)
        files: List[array] = []
        with _progress("encoding", self.data_path) as (on_read, on_tokens):
            end_of_line = f" {self.reader.end_of_sentence}\n".encode()
            for number, lines in self.reader.blocks(self.data_path, on_read):
                while len(files) <= number:
                    files.append(array("i"))
                tokens = end_of_line.join([*lines, b""]).split()
                ids = numpy.fromiter(map(table.__getitem__, tokens), numpy.intc, len(tokens))
                files[number].frombytes(ids.tobytes())
                on_tokens(len(tokens))
        if not files:
            raise ConfigurationError(f"There is no token to read in {self.data_path} (max_instances is 0).")
        self._files = [numpy.frombuffer(ids, dtype=numpy.intc) for ids in files]
        self._boundary = ids_of[self.reader.end_of_sentence]
        self._vocab = vocab
        total = sum(map(len, self._files))
        missed = sum(int((ids == unknown).sum()) for ids in self._files)
        logger.info("%s: %d tokens, %.2f %% unknown", self.data_path, total, 100 * missed / total)

    @overrides
    def set_target_device(self, device: torch.device) -> None:
        self._device = device

    @overrides
    def __len__(self) -> int:
        if self.batches_per_epoch is not None:
            return self.batches_per_epoch
        windows = sum(map(len, self._streams(range(len(self._indexed())))))
        return windows if self.max_batches is None else min(windows, self.max_batches)

    @overrides
    def __iter__(self) -> Iterator[TensorDict]:
        self._indexed()
        if self.batches_per_epoch is None:
            windows = self._next_pass()
        else:
            if self._endless is None:
                self._endless = self._all_passes()
            windows = islice(self._endless, self.batches_per_epoch)
        for number, (ids, targets, starts_anew) in enumerate(windows):
            yield {
                "source": {"tokens": {"tokens": self._tensor(ids)}},  # type: ignore[dict-item]
                "targets": self._tensor(targets),
                # Validation may have come between this batch and the one before it.
                "first_window": starts_anew or number == 0,  # type: ignore[dict-item]
                "direction": self.direction,  # type: ignore[dict-item]
            }

    def _indexed(self) -> List[numpy.ndarray]:
        if self._vocab is None:
            raise ConfigurationError(
                "An lm_stream data loader has no batches before index_with(vocab) is called."
            )
        return self._files

    def _streams(self, order: Sequence[int]) -> Iterator[StreamWindows]:
        """The windows of each stream, for the files in this order."""
        files = [self._files[number] for number in order]
        rank, world_size = 0, 1
        if is_distributed():
            rank, world_size = torch.distributed.get_rank(), torch.distributed.get_world_size()
        for pieces in [[ids] for ids in files] if self.one_stream_per_file else [files]:
            yield StreamWindows(
                TokenStream(self._boundary, pieces),
                self.batch_size,
                self.sequence_length,
                backward=self.direction == "backward",
                rank=rank,
                world_size=world_size,
            )

    def _next_pass(self) -> Iterator[Window]:
        """All windows of the text once, and whether a stream starts with them."""
        order: Sequence[int] = range(len(self._files))
        if self.shuffle:
            order = numpy.random.RandomState([self.seed, self._passes]).permutation(len(self._files)).tolist()
        self._passes += 1
        windows = (
            (ids, targets, number == 0)
            for stream in self._streams(order)
            for number, (ids, targets) in enumerate(stream)
        )
        return islice(windows, self.max_batches)

    def _all_passes(self) -> Iterator[Window]:
        while True:
            yield from self._next_pass()

    def _tensor(self, ids: numpy.ndarray) -> torch.Tensor:
        tensor = torch.from_numpy(numpy.ascontiguousarray(ids))
        return tensor if self._device is None else tensor.to(self._device, non_blocking=True)


class _LookUp(Dict[bytes, int]):
    """Ids by token; the unknown token's id for all that are not there."""

    def __init__(self, unknown: int) -> None:
        super().__init__()
        self._unknown = unknown

    def __missing__(self, token: bytes) -> int:
        return self._unknown


@contextmanager
def _progress(
    doing: str, data_path: PathOrPaths
) -> Iterator[Tuple[Callable[[int], None], Callable[[int], None]]]:
    """A bar over the bytes of the text that also shows tokens per second: how to tell it of bytes and tokens."""
    files = text_files(data_path)
    started, done = time.perf_counter(), 0
    with Tqdm.tqdm(
        total=sum(map(os.path.getsize, files)),
        unit="B",
        unit_scale=True,
        desc=f"{doing} {files[0]}" + (f" and {len(files) - 1} more" if len(files) > 1 else ""),
    ) as bar:

        def on_tokens(count: int) -> None:
            nonlocal done
            done += count
            rate = done / max(time.perf_counter() - started, 1e-9)
            bar.set_postfix_str(f"{rate:,.0f} tokens/s", refresh=False)

        yield bar.update, on_tokens
