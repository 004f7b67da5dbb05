"""Report on one archive: counts, sizes and speed in words per second."""

import contextlib
import logging
import os
import statistics
import time
from collections.abc import Iterator
from typing import Any

import torch
from allennlp.common.checks import ConfigurationError
from allennlp.data import DatasetReader
from allennlp.models.archival import Archive
from allennlp.models.model import Model
from allennlp.modules.token_embedders import Embedding
from allennlp_models.lm.models.language_model import LanguageModel

from ldnet_allennlp.commands.report.component_costs import component_costs
from ldnet_allennlp.common.verification import instance_of
from ldnet_allennlp.modules.embedders.ldnet_embedder import LdnetEmbedder, stack_names
from ldnet_allennlp.modules.rnn.ld_rnn import LdRnn
from ldnet_allennlp.modules.rnn.stacked_rnn import StackedRnn
from ldnet_allennlp.modules.selection.layer_selection import LayerSelection


def report_of(
    path: str,
    archive: Archive,
    sentences: list[list[str]],
    characters_per_word: float,
    batch_size: int = 32,
    passes: int = 3,
) -> dict[str, Any]:
    """
    Count and measure a model.

    `sentences` are for the speed measurement, see `words_per_second`; 0 `passes` measure no speed.
    `characters_per_word`, without the space, is for the multiply-adds of character networks.

    # Returns

    `Dict[str, Any]`
        `archive`, `model` (its class), `layers` (see `layers_of`), `parameters` (their number), `multiply_adds` (per
        word), `components` (the same by part), `not_counted` (sentences), `embedding_bytes`, `total_bytes` (of all
        weights in memory), `archive_bytes`, `words_per_second` (`None` if it was not measured),
        `not_measured` (the reason).
    """
    model = archive.model
    costs = component_costs(model, characters_per_word)
    speed, reason = None, "not asked for"
    if passes > 0:
        try:
            speed = words_per_second(model, archive.validation_dataset_reader, sentences, batch_size, passes)
        except ConfigurationError as error:
            reason = str(error.message)
    weights = [*model.parameters(), *model.buffers()]
    kinds = (torch.nn.Embedding, torch.nn.EmbeddingBag, Embedding)
    file = os.path.join(path, "model.tar.gz") if os.path.isdir(path) else path
    return {
        "archive": path,
        "model": type(model).__name__,
        "layers": layers_of(model),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "multiply_adds": costs.total,
        "components": costs.components,
        "not_counted": costs.not_counted,
        "embedding_bytes": _bytes([part.weight for part in model.modules() if isinstance(part, kinds)]),
        "total_bytes": _bytes(weights),
        "archive_bytes": os.path.getsize(file) if os.path.exists(file) else None,
        "words_per_second": speed,
        **({} if speed is not None else {"not_measured": reason}),
    }


def layers_of(model: Model) -> dict[str, dict[str, Any]]:
    """
    The layers of each language model, by direction: `layers`, their numbers from 1 as in the unpruned language model;
    `gates`, one per layer, `None` for layers without a gate; `unpruned`, the number of layers before pruning; `dense`,
    whether a layer reads all earlier ones; `output`, the reader of the layers.

    With several "ldnet" embedders, the embedder's name precedes the direction. An "ld_rnn" elsewhere in a model, such
    as the encoder of a tagger, has its name in the model before the direction.
    """
    report: dict[str, dict[str, Any]] = {}
    embedders = [(name, part) for name, part in model.named_modules() if isinstance(part, LdnetEmbedder)]
    for name, embedder in embedders:
        prefix = f"{name.rpartition('token_embedder_')[2]}: " if len(embedders) > 1 else ""
        output = "output" if embedder.projection is None else "projection"
        for part in embedder.language_models.values():
            stacks = _stacks(part.selection, part.direction, part.layers, part.unpruned_layers, output)
            report.update({prefix + stack: layers for stack, layers in stacks.items()})
    inside = {id(part) for _, embedder in embedders for part in embedder.modules()}
    for name, part in model.named_modules():
        if id(part) in inside or not isinstance(part, (LayerSelection, LdRnn, StackedRnn)):
            continue
        inside.update(map(id, part.modules()))
        encoder = part.encoder if isinstance(part, LayerSelection) else part
        numbers = [list(range(count)) for count in encoder.layer_counts]
        is_of_language_model = isinstance(model, LanguageModel) and part is model._contextualizer
        direction = "bidirectional" if encoder.is_bidirectional() else "forward"
        if is_of_language_model and direction == "forward":
            direction = getattr(model, "direction", direction)
        stacks = _stacks(part, direction, numbers, list(encoder.layer_counts), "output")
        for stack, layers in stacks.items():
            report[stack if is_of_language_model else f"{name}: {stack}"] = layers
    return report


def _stacks(
    selection: torch.nn.Module, direction: str, layers: list[list[int]], unpruned: list[int], output: str
) -> dict[str, dict[str, Any]]:
    gates: list[torch.Tensor | None] = [None] * len(layers)
    if isinstance(selection, LayerSelection):
        gates = list(selection.direction_gates())
    encoder = getattr(selection, "encoder", selection)
    return {
        name: {
            "layers": [number + 1 for number in numbers],
            "gates": [None] * len(numbers) if values is None else values.tolist(),
            "unpruned": count,
            "dense": isinstance(encoder, LdRnn),
            "output": output,
        }
        for name, numbers, values, count in zip(stack_names(direction), layers, gates, unpruned)
    }


def _bytes(tensors: list[torch.Tensor]) -> int:
    """The size of all tensors; shared ones count once."""
    sizes = {
        (tensor.data_ptr(), tensor.numel()): tensor.numel() * tensor.element_size() for tensor in tensors
    }
    return sum(sizes.values())


@contextlib.contextmanager
def torch_threads(count: int | None) -> Iterator[int]:
    """Context with this number of torch threads (`None`: unchanged), which it yields."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)


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

    logger = logging.getLogger("allennlp.models.model")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it warns that the loss of a batch cannot be split
    try:
        read(batches[-1])
        seconds = []
        for _ in range(passes):
            started = time.perf_counter()
            for batch in batches:
                read(batch)
            seconds.append(time.perf_counter() - started)
    finally:
        logger.setLevel(level)
    return sum(map(len, sentences)) / statistics.median(seconds)
