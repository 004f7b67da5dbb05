"""Parse `ldnet-prune --keep`: the language model layers to keep."""

from collections.abc import Sequence

import torch
from allennlp.common.checks import ConfigurationError

from ldnet_allennlp.commands.model_configs import frozen_models
from ldnet_allennlp.modules.embedders.frozen_language_model import FrozenLanguageModel
from ldnet_allennlp.modules.embedders.ldnet_embedder import LdnetEmbedder, stack_names
from ldnet_allennlp.modules.selection.layer_selection import LayerSelection

Layers = dict[str, list[int]]
"""The layers of each stack of an embedder, numbered from 0 as in `LdnetEmbedder.all_layers`."""


def choose_layers(embedders: Sequence[LdnetEmbedder], keep: Sequence[str]) -> list[Layers]:
    """
    Parse `ldnet-prune --keep`: the layers that each embedder of a model keeps.

    `keep` is either one number N, for the N layers with the largest gates in all directions together (ties: lower
    layers first, then forward ones; layers with gate 0 are never kept), or the layers of each direction, numbered from
    1 as `ldnet-report` shows them: `forward:1,3 backward:2`. A direction without numbers, or not named, keeps none.

    Raises `ConfigurationError` if `keep` has another form, or if a layer does not exist.
    """
    if len(keep) == 1 and keep[0].isdecimal():
        return _largest(embedders, int(keep[0]))
    if len(embedders) > 1:
        raise ConfigurationError(
            f"Layers can be named for one ldnet token embedder only, but the model has {len(embedders)}: give the "
            f"number of layers to keep."
        )
    return [_named(embedders[0], keep)]


def cut_gates(embedders: Sequence[LdnetEmbedder], kept: Sequence[Layers]) -> None:
    """Set the gates of all other layers to 0, in place. The pruned model must give the same outputs."""
    for embedder, layers in zip(embedders, kept):
        for name, number, model, position in _gated_layers(embedder):
            if number not in layers[name]:
                with torch.no_grad():
                    model.selection.gates[position] = 0.0


def shown_layers(layers: Layers) -> str:
    """The layers as text for users: "forward 1 3, backward none"."""
    return ", ".join(
        f"{name} {' '.join(str(number + 1) for number in numbers) or 'none'}"
        for name, numbers in layers.items()
    )


def _gated_layers(embedder: LdnetEmbedder) -> list[tuple[str, int, FrozenLanguageModel, int]]:
    """The layers with a gate: stack, number, language model, and position of the gate."""
    layers = []
    for model in frozen_models(embedder):
        if isinstance(model.selection, LayerSelection):
            named = [
                (name, number)
                for name, numbers in zip(stack_names(model.direction), model.layers)
                for number in numbers
            ]
            layers += [(name, number, model, position) for position, (name, number) in enumerate(named)]
    return layers


def _largest(embedders: Sequence[LdnetEmbedder], count: int) -> list[Layers]:
    gated = [
        (-float(model.selection.gates[position]), number, order, name)
        for order, embedder in enumerate(embedders)
        for name, number, model, position in _gated_layers(embedder)
    ]
    if count > len(gated):
        raise ConfigurationError(f"--keep {count}: the model has only {len(gated)} layers with a gate.")
    # The sort is stable: among ties, forward layers come first.
    best = sorted(gated, key=lambda layer: layer[:2])[:count]
    chosen = {(order, name, number) for gate, number, order, name in best if gate < 0}
    kept = []
    for order, embedder in enumerate(embedders):
        have_gates = {name for name, *_ in _gated_layers(embedder)}
        kept.append(
            {
                name: [n for n in numbers if name not in have_gates or (order, name, n) in chosen]
                for name, numbers in embedder.all_layers().items()
            }
        )
    return kept


def _named(embedder: LdnetEmbedder, keep: Sequence[str]) -> Layers:
    available = embedder.all_layers()
    layers: Layers = {name: [] for name in available}
    named = set()
    for text in keep:
        name, colon, numbers = text.partition(":")
        parts = [part for part in numbers.split(",") if part]
        if not colon or not all(part.isdecimal() for part in parts):
            raise ConfigurationError(
                f"--keep expects a number of layers, or the layers of each direction, such as forward:1,3 backward:2, "
                f"but found '{text}'."
            )
        if name not in available or name in named:
            raise ConfigurationError(
                f"--keep expects {' and '.join(available)}, each once at most, but found '{text}'."
            )
        named.add(name)
        layers[name] = sorted({int(part) - 1 for part in parts})
        missing = [str(number + 1) for number in layers[name] if number not in available[name]]
        if missing:
            raise ConfigurationError(
                f"The {name} language model has the layers {shown_layers({name: available[name]})[len(name) + 1 :]}, "
                f"but {', '.join(missing)} was to be kept."
            )
    return layers
