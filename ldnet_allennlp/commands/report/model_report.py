"""Report on one archive: counts, sizes and speed."""

import os
from typing import Any

import torch
from allennlp.common.checks import ConfigurationError
from allennlp.models.archival import Archive
from allennlp.models.model import Model
from allennlp.modules.token_embedders import Embedding
from allennlp_models.lm.models.language_model import LanguageModel

from ldnet_allennlp.commands.model_configs import frozen_models
from ldnet_allennlp.commands.report.component_costs import component_costs
from ldnet_allennlp.commands.report.speed import words_per_second
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

    # Parameters

    path : `str`
        The path of the archive.
    archive : `Archive`
    sentences : `List[List[str]]`
        The text for the speed measurement, read `passes` times, see `words_per_second`; 0 measures no speed.
    characters_per_word : `float`
        Mean word length without the space, for the multiply-adds of character networks.

    # Returns

    `Dict[str, Any]`
        `archive`, `model` (its class), `layers` (see `layers_of`), `parameters` (their number), `multiply_adds` (per
        word), `components` (the same by part), `not_counted` (sentences), `embedding_bytes`, `total_bytes` (of all
        weights in memory), `bytes_by_dtype`, `archive_bytes`, `words_per_second` (`None` if it was not measured),
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
    return {
        "archive": path,
        "model": type(model).__name__,
        "layers": layers_of(model),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "multiply_adds": costs.total,
        "components": costs.components,
        "not_counted": costs.not_counted,
        "embedding_bytes": _bytes(embedding_weights(model)),
        "total_bytes": _bytes(weights),
        "bytes_by_dtype": bytes_by_dtype(model),
        "archive_bytes": archive_bytes(path),
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
        for part in frozen_models(embedder):
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


def embedding_weights(model: torch.nn.Module) -> list[torch.Tensor]:
    """The weights of all embeddings, such as those of words and characters."""
    kinds = (torch.nn.Embedding, torch.nn.EmbeddingBag, Embedding)
    return [module.weight for module in model.modules() if isinstance(module, kinds)]


def bytes_by_dtype(model: torch.nn.Module) -> dict[str, int]:
    """The size of a model's weights in memory, by dtype ("float32"), largest first."""
    weights = [*model.parameters(), *model.buffers()]
    kinds = {str(tensor.dtype).rpartition(".")[2]: tensor.dtype for tensor in weights}
    sizes = {
        name: _bytes([tensor for tensor in weights if tensor.dtype == kind]) for name, kind in kinds.items()
    }
    return {name: size for name, size in sorted(sizes.items(), key=lambda pair: -pair[1]) if size}


def archive_bytes(path: str) -> int | None:
    """The size of an archive, or of the archive in a serialization directory; `None` without an archive."""
    file = os.path.join(path, "model.tar.gz") if os.path.isdir(path) else path
    return os.path.getsize(file) if os.path.exists(file) else None


def _bytes(tensors: list[torch.Tensor]) -> int:
    """The size of all tensors; shared ones count once."""
    sizes = {
        (tensor.data_ptr(), tensor.numel()): tensor.numel() * tensor.element_size() for tensor in tensors
    }
    return sum(sizes.values())
