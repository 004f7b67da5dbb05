"""Trains and evaluates language models on one long stream of tokens, in windows."""

import logging
from itertools import chain
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy
import torch
from allennlp.common.checks import ConfigurationError
from allennlp.common.util import is_distributed
from allennlp.data import DataLoader, DatasetReader, Instance, Vocabulary
from allennlp.data.data_loaders import TensorDict
from overrides import overrides

from ldnet_allennlp.common.lines import PathOrPaths
from ldnet_allennlp.data.lm_stream.corpus import NAMESPACE, WordIds
from ldnet_allennlp.data.lm_stream.reader import LmStreamReader
from ldnet_allennlp.data.lm_stream.shards import Ids, ShardDirectory, encode_in_memory
from ldnet_allennlp.data.lm_stream.windows import PADDING, StreamWindows, TokenStream

logger = logging.getLogger(__name__)

# By the loader's option: the direction that the batches name, which is the model's.
DIRECTIONS = {"forward": "forward", "backward": "backward", "both": "bidirectional"}

# The ids and the targets of a direction.
Window = Tuple[numpy.ndarray, numpy.ndarray]


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

    The text becomes ids, 4 bytes a token; no `Instance` is made. They are kept in memory, or, with `shards`, on
    disk, where the next run finds them; then the memory that is needed does not grow with the text. AllenNLP's
    `vocabulary` options (`min_count`, `max_vocab_size`, `from_files` and so on) work as always, and it is sorted
    by falling frequency, as the adaptive softmax wants it.

    In a distributed training each process reads `batch_size` rows of its own: two processes do what one does
    with twice the batch size.

    A batch is `{"source": {"tokens": {"tokens": (B, T)}}, "targets": (B, T), "first_window": bool,
    "direction": str}`. Rows that end within the last window have the id and the target 0 after their end.
    `first_window` says that the hidden states must start anew. With the direction "both" there are
    `backward_source` and `backward_targets` as well, and the direction that the batch names is "bidirectional".
    What the loader of the original LD-Net (`LargeDataset`) does otherwise: it drops what does not fill a window,
    and it starts anew at each file.

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
        the model reverses it. "both", for a bidirectional model: the windows that a forward and a backward loader
        would give at the same time, of the same rows.
    shuffle : `bool`, optional (default = `False`)
        Whether the files are read in another order in each epoch. Each file stays contiguous; but with `shards`,
        the pieces of large files are put in another order, too (32 MiB of plain text, 16 million tokens of
        compressed text), unless each file is a stream.
    seed : `int`, optional (default = `13370`)
        What that order follows from, with the epoch's number.
    one_stream_per_file : `bool`, optional (default = `False`)
        Whether each file is a stream of its own, as in the original: it is cut into `batch_size` rows, and the
        hidden states start anew with it. By default all files together are one stream.
    batches_per_epoch : `int`, optional
        The number of batches of an epoch; the next epoch goes on where this one stopped, with hidden states that
        start anew. For training only.
    max_batches : `int`, optional
        How many windows of the text are read at most.
    shards : `str`, optional
        A directory in which the ids (4 bytes a token) and the word counts are kept. Later runs and other processes
        use what is there; it is made anew when the text, the options or the vocabulary have changed, and a message
        in the log says so. Any number of texts have room in one directory.
    num_workers : `int`, optional (default = `0`)
        How many processes count the words and look them up. With 0 or 1, this one does. Each reads pieces of plain
        text, or whole compressed files.

    Raises `ConfigurationError` for another reader or direction, for sizes below 1, for text that cannot be read,
    for shards that cannot be written, and for a vocabulary without the boundary token.
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
        shards: Optional[str] = None,
        num_workers: int = 0,
    ) -> None:
        if not isinstance(reader, LmStreamReader):
            raise ConfigurationError(
                f"The lm_stream data loader reads text through an lm_stream dataset_reader, "
                f"but a {type(reader).__name__} was found."
            )
        reader.check_stream_indexers()
        if direction not in DIRECTIONS:
            raise ConfigurationError(
                f"The direction of an lm_stream data loader is forward, backward or both, but '{direction}' was "
                f"found."
            )
        for name, value, least in (
            ("batch_size", batch_size, 1),
            ("sequence_length", sequence_length, 1),
            ("batches_per_epoch", batches_per_epoch, 1),
            ("max_batches", max_batches, 1),
            ("num_workers", num_workers, 0),
        ):
            if value is not None and value < least:
                raise ConfigurationError(
                    f"{name} of an lm_stream data loader is at least {least}, but it is {value}."
                )
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
        self._text = reader.text(data_path, num_workers)
        self._shards = None if shards is None else ShardDirectory(shards)
        self._vocab: Optional[Vocabulary] = None
        self._boundary = PADDING
        # What is read in another order with `shuffle`: files, or parts of them.
        self._units: List[List[Ids]] = []
        # The next window: in which pass over the text, and where in it. A run that is recovered comes to the place
        # where it stopped by itself, since AllenNLP's trainer goes through the batches that were done once more.
        self._position = (0, 0)
        self._device: Optional[torch.device] = None

    @overrides
    def iter_instances(self) -> Iterator[Instance]:
        """One object with the counts of all tokens, from which a `Vocabulary` can be made."""
        counts = self._text.count_tokens() if self._shards is None else self._shards.count_tokens(self._text)
        yield TokenCounts(NAMESPACE, counts)

    @overrides
    def index_with(self, vocab: Vocabulary) -> None:
        """Looks up all tokens. Those that the vocabulary does not have become its unknown token."""
        if self._vocab is vocab:
            return
        words = WordIds(vocab, self.reader.end_of_sentence)
        if self._shards is None:
            text = encode_in_memory(self._text, words)
        else:
            text = self._shards.encode(self._text, words)
        self._units = text.files if self.one_stream_per_file else [[ids] for ids in chain(*text.files)]
        self._boundary = words.boundary
        self._vocab = vocab
        share = 100 * text.num_unknown / text.num_tokens
        logger.info("%s: %d tokens, %.2f %% unknown", self.data_path, text.num_tokens, share)

    @overrides
    def set_target_device(self, device: torch.device) -> None:
        self._device = device

    @overrides
    def __len__(self) -> int:
        if self.batches_per_epoch is not None:
            return self.batches_per_epoch
        return self._windows_of_pass()

    @overrides
    def __iter__(self) -> Iterator[TensorDict]:
        windows = self._windows_of_pass()
        number_of_pass, first = self._position
        if self.batches_per_epoch is None and first:
            number_of_pass, first = number_of_pass + 1, 0  # the pass before this one was left unfinished
        left = self.batches_per_epoch or windows
        starts_epoch = True
        while left > 0:
            for starts_stream, pair in self._pass(number_of_pass, first, min(windows, first + left)):
                first, left = first + 1, left - 1
                self._position = number_of_pass, first
                # Validation may have come between this batch and the one before it.
                yield self._batch(pair, first_window=starts_stream or starts_epoch)
                starts_epoch = False
            if first >= windows:
                number_of_pass, first = number_of_pass + 1, 0
        self._position = number_of_pass, first

    def _windows_of_pass(self) -> int:
        if self._vocab is None:
            raise ConfigurationError(
                "An lm_stream data loader has no batches before index_with(vocab) is called."
            )
        windows = sum(len(stream[0]) for stream in self._streams(range(len(self._units))))
        return windows if self.max_batches is None else min(windows, self.max_batches)

    def _streams(self, order: Sequence[int]) -> Iterator[List[StreamWindows]]:
        """The windows of each stream, for the units in this order: in one direction, or forward and backward."""
        units = [self._units[number] for number in order]
        rank, world_size = 0, 1
        if is_distributed():
            rank, world_size = torch.distributed.get_rank(), torch.distributed.get_world_size()
        for pieces in units if self.one_stream_per_file else [list(chain(*units))]:
            stream = TokenStream(self._boundary, pieces)
            yield [
                StreamWindows(stream, self.batch_size, self.sequence_length, backward, rank, world_size)
                for backward in (False, True)
                if self.direction in ("both", "backward" if backward else "forward")
            ]

    def _pass(self, number: int, first: int, end: int) -> Iterator[Tuple[bool, List[Window]]]:
        """
        Some windows of a pass over the text: whether a stream starts with them, and one for each direction. Those
        before the first are not read.
        """
        order: Sequence[int] = range(len(self._units))
        if self.shuffle:
            order = numpy.random.RandomState([self.seed, number]).permutation(len(self._units)).tolist()
        start = 0  # of the stream
        for stream in self._streams(order):
            length = len(stream[0])
            skipped = min(length, max(0, first - start))
            windows = zip(*(direction.windows(skipped) for direction in stream))
            for position, pair in zip(range(skipped, min(length, end - start)), windows):
                yield position == 0, list(pair)
            start += length

    def _batch(self, windows: List[Window], first_window: bool) -> TensorDict:
        ids, targets = windows[0]
        batch: Dict[str, Any] = {
            "source": {"tokens": {"tokens": self._tensor(ids)}},
            "targets": self._tensor(targets),
            "first_window": first_window,
            "direction": DIRECTIONS[self.direction],
        }
        if self._device is not None and self._device.type != "cpu":
            # Once more, where the model can look at them without waiting for the device.
            batch["host_targets"] = [numpy.array(targets, dtype=numpy.int64) for _, targets in windows]
        if len(windows) > 1:
            ids, targets = windows[1]
            batch["backward_source"] = {"tokens": {"tokens": self._tensor(ids)}}
            batch["backward_targets"] = self._tensor(targets)
        return batch

    def _tensor(self, ids: numpy.ndarray) -> torch.Tensor:
        tensor = torch.from_numpy(numpy.ascontiguousarray(ids))
        return tensor if self._device is None else tensor.to(self._device, non_blocking=True)
