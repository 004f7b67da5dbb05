"""Data loader for language models: one long stream of tokens, in windows."""

import logging
from collections.abc import Iterator
from itertools import chain
from typing import Any, Optional

import numpy
import torch
from allennlp.common.checks import ConfigurationError
from allennlp.common.util import is_distributed
from allennlp.data import DataLoader, DatasetReader, Instance, Vocabulary
from allennlp.data.data_loaders import TensorDict
from overrides import overrides

from ldnet_allennlp.common.checks import check_at_least, check_choice
from ldnet_allennlp.common.lines import PathOrPaths
from ldnet_allennlp.data.lm_stream.reader import LmStreamReader
from ldnet_allennlp.data.lm_stream.shards import Part, Text, read_text
from ldnet_allennlp.data.lm_stream.windows import StreamWindows, TokenStream

logger = logging.getLogger(__name__)

NAMESPACE = "tokens"

# By the loader's option: the model's direction, which the batches name.
DIRECTIONS = {"forward": "forward", "backward": "backward", "both": "bidirectional"}

Window = tuple[numpy.ndarray, numpy.ndarray]
"""The ids and the targets of a direction."""


class TokenCounts(Instance):
    """The token counts of a whole text, for a vocabulary without millions of instances."""

    def __init__(self, counts: dict[str, int]) -> None:
        super().__init__({})
        self.counts = counts

    @overrides
    def count_vocab_items(self, counter: dict[str, dict[str, int]]) -> None:
        for token, count in self.counts.items():
            counter[NAMESPACE][token] += count


@DataLoader.register("lm_stream")
class LmStreamLoader(DataLoader):
    """
    Reads a text as one stream `<eos> w1 .. wL <eos> w1 ..`, cut into `batch_size` contiguous rows that are read side by
    side, `sequence_length` tokens at a time: truncated backpropagation through time with hidden states that a
    `stateful` contextualizer carries from window to window. Every token is a target exactly once.

    The text becomes numbers of words, 4 bytes per token, without any `Instance`. They are stored in memory or, with
    `shards`, on disk for later runs; memory then does not grow with the text. AllenNLP's `vocabulary` options
    (`min_count`, `max_vocab_size`, `from_files` and so on) work, and the vocabulary is sorted by falling frequency, as
    the adaptive softmax requires.

    In distributed training, each process reads separate `batch_size` rows: two processes are equivalent to one with
    twice the batch size.

    A batch is `{"source": {"tokens": {"tokens": (B, T)}}, "targets": (B, T), "first_window": bool, "direction": str}`.
    Rows that end within the last window are padded with 0. `first_window` resets the hidden states. With the direction
    "both", batches also have `backward_source` and `backward_targets`, and their direction is "bidirectional".

    Registered as a `DataLoader` with name "lm_stream".

    # Parameters

    reader : `DatasetReader`
        An "lm_stream" reader, from the config's `dataset_reader`.
    data_path : `PathOrPaths`
        A file, a glob, a directory, or a list of these, from the config's `train_data_path` and so on.
    batch_size, sequence_length : `int`
        The rows B of a batch and the steps T of a window; 128 and 20 for the published language models. In an
        evaluation, fewer rows mean fewer tokens without context; 1 is exact but slow.
    direction : `str`, optional (default = `"forward"`)
        The model's direction, "forward" or "backward", or "both" for a bidirectional model. A backward window is in
        natural order, and the model reverses it. "both" combines the windows of a forward and a backward loader over
        the same rows.
    shuffle : `bool`, optional (default = `False`)
        Whether to shuffle the files in each epoch. Each file stays contiguous up to 8 million tokens. The parts of a
        longer file are shuffled as well, unless each file is a stream.
    seed : `int`, optional (default = `13370`)
        Seed of the shuffling, combined with the number of the epoch.
    one_stream_per_file : `bool`, optional (default = `False`)
        Whether each file is a separate stream of `batch_size` rows, which resets the hidden states, as in the original.
        By default all files form one stream.
    batches_per_epoch : `int`, optional
        The number of batches per epoch. The next epoch continues at the same position in the text, with reset hidden
        states. For training only.
    max_batches : `int`, optional
        The number of windows of the text to read.
    shards : `str`, optional
        A directory for the words and their numbers (4 bytes per token) of any number of texts. Later runs and other
        processes reuse them. They are rebuilt when the text or the reader's options change, and the log names the
        reason.
    num_workers : `int`, optional (default = `0`)
        The number of processes that split the text into words and number them (0 or 1: this process).

    Raises `ConfigurationError` for invalid options, text that cannot be read, shards that cannot be written, and a
    vocabulary without the boundary token.
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
                f"The lm_stream data loader needs an lm_stream dataset_reader, but found a {type(reader).__name__}."
            )
        reader.check_stream_indexers()
        owner = "an lm_stream data loader"
        check_choice(DIRECTIONS, owner, direction=direction)
        check_at_least(1, owner, batch_size=batch_size, sequence_length=sequence_length)
        check_at_least(1, owner, batches_per_epoch=batches_per_epoch, max_batches=max_batches)
        check_at_least(0, owner, num_workers=num_workers)
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
        self._corpus = reader.corpus(data_path, num_workers)
        self._shards = shards
        self._vocab: Vocabulary | None = None
        self._text: Text | None = None
        # The id of each word of the text. The first word is the boundary token.
        self._ids = numpy.empty(0, numpy.int64)
        # Files, or parts of them, which `shuffle` reorders.
        self._units: list[list[Part]] = []
        # The next window: the pass over the text and the position in it. A recovered run gets to its position because
        # AllenNLP's trainer replays the earlier batches.
        self._position = (0, 0)
        self._device: torch.device | None = None

    @overrides
    def iter_instances(self) -> Iterator[Instance]:
        """One object with the counts of all tokens, for a `Vocabulary`."""
        self._text = self._text or read_text(self._corpus, self._shards)
        yield TokenCounts(self._text.token_counts())

    @overrides
    def index_with(self, vocab: Vocabulary) -> None:
        """Look up all words. Those outside the vocabulary, and the padding token, become the unknown token."""
        if self._vocab is vocab:
            return
        text = self._text or read_text(self._corpus, self._shards)
        ids = vocab.get_token_to_index_vocabulary(NAMESPACE)
        if text.words[0] not in ids:
            raise ConfigurationError(
                f"The vocabulary lacks the boundary token '{text.words[0]}' (end_of_sentence of the lm_stream reader). "
                f"Check that it was made from this text and that min_count or max_vocab_size keep the token; the "
                f"vocabulary's option tokens_to_add can add it."
            )
        unknown = ids[vocab._oov_token]
        self._ids = numpy.array([ids.get(word) or unknown for word in text.words], dtype=numpy.int64)
        self._units = text.files if self.one_stream_per_file else [[part] for part in chain(*text.files)]
        self._vocab = vocab
        self._text = text if self._shards is None else None  # the words of a large text take memory
        total, num_unknown = text.counts.sum(), text.counts[self._ids == unknown].sum()
        logger.info("%s: %d tokens, %.2f %% unknown", self.data_path, total, 100 * num_unknown / total)

    @overrides
    def set_target_device(self, device: torch.device) -> None:
        self._device = device

    @overrides
    def __len__(self) -> int:
        return self.batches_per_epoch or self._windows_of_pass()

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
                # A validation may precede this batch.
                yield self._batch(pair, first_window=starts_stream or starts_epoch)
                starts_epoch = False
            if first >= windows:
                number_of_pass, first = number_of_pass + 1, 0
        self._position = number_of_pass, first

    def _windows_of_pass(self) -> int:
        if self._vocab is None:
            raise ConfigurationError("An lm_stream data loader has no batches before index_with(vocab).")
        windows = sum(len(stream[0]) for stream in self._streams(self._units))
        return windows if self.max_batches is None else min(windows, self.max_batches)

    def _streams(self, units: list[list[Part]]) -> Iterator[list[StreamWindows]]:
        """The windows of each stream: in one direction, or forward and backward."""
        rank, world_size = 0, 1
        if is_distributed():
            rank, world_size = torch.distributed.get_rank(), torch.distributed.get_world_size()
        for pieces in units if self.one_stream_per_file else [list(chain(*units))]:
            stream = TokenStream(0, pieces, self._ids)  # 0: the boundary token
            yield [
                StreamWindows(stream, self.batch_size, self.sequence_length, backward, rank, world_size)
                for backward in (False, True)
                if self.direction in ("both", "backward" if backward else "forward")
            ]

    def _pass(self, number: int, first: int, end: int) -> Iterator[tuple[bool, list[Window]]]:
        """Windows of a pass over the text: a flag for the start of a stream, and one window per direction."""
        units = self._units
        if self.shuffle:
            order = numpy.random.RandomState([self.seed, number]).permutation(len(units))
            units = [units[position] for position in order]
        start = 0  # of the stream
        for stream in self._streams(units):
            length = len(stream[0])
            skipped = min(length, max(0, first - start))
            windows = zip(*(direction.windows(skipped) for direction in stream))
            for position, pair in zip(range(skipped, min(length, end - start)), windows):
                yield position == 0, list(pair)
            start += length

    def _batch(self, windows: list[Window], first_window: bool) -> TensorDict:
        batch: dict[str, Any] = {"first_window": first_window, "direction": DIRECTIONS[self.direction]}
        for prefix, (ids, targets) in zip(("", "backward_"), windows):
            batch[f"{prefix}source"] = {"tokens": {"tokens": self._tensor(ids)}}
            batch[f"{prefix}targets"] = self._tensor(targets)
        if self._device is not None and self._device.type != "cpu":
            # A copy that the model can read without waiting for the device.
            batch["host_targets"] = [numpy.array(targets, dtype=numpy.int64) for _, targets in windows]
        return batch

    def _tensor(self, ids: numpy.ndarray) -> torch.Tensor:
        tensor = torch.from_numpy(numpy.ascontiguousarray(ids))
        return tensor if self._device is None else tensor.to(self._device, non_blocking=True)
