"""Measure the speed of a model in words per second."""

import contextlib
import logging
import statistics
import time
from collections.abc import Iterator

import torch
from allennlp.data import DatasetReader
from allennlp.models.model import Model

from ldnet_allennlp.common.verification import instance_of


@contextlib.contextmanager
def torch_threads(count: int | None) -> Iterator[int]:
    """Context with this number of torch threads (`None`: unchanged), which it yields."""
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """Hide AllenNLP's warning that the loss of a batch cannot be split."""
    logger = logging.getLogger("allennlp.models.model")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def words_per_second(
    model: Model, reader: DatasetReader, sentences: list[list[str]], batch_size: int = 32, passes: int = 3
) -> float:
    """
    Measure a model on its device: indexing, network and decoding.

    Reads the sentences `passes` times in batches of similar length, and returns the median. A first batch for warm-up
    does not count. Puts the model into evaluation mode.

    Raises `ConfigurationError` if the reader needs more than words.
    """
    model.eval()
    in_order = sorted(sentences, key=len)
    batches = [in_order[start : start + batch_size] for start in range(0, len(in_order), batch_size)]

    def read(batch: list[list[str]]) -> None:
        model.forward_on_instances([instance_of(reader, words) for words in batch])

    seconds = []
    with _without_warnings():
        read(batches[-1])
        for _ in range(passes):
            started = time.perf_counter()
            for batch in batches:
                read(batch)
            seconds.append(time.perf_counter() - started)
    return sum(map(len, sentences)) / statistics.median(seconds)
