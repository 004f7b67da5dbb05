"""Parse `ldnet-prune --keep`: the language model layers to keep."""

from collections.abc import Iterator, Sequence

import torch
from allennlp.common.checks import ConfigurationError

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


def cut_gates(embedders: Sequence[LdnetEmbedder], kept: Sequence[Layers]) -> int:
    """Set the gates of all other layers to 0, in place. Returns how many of them were above 0."""
    cut = [
        gate
        for embedder, layers in zip(embedders, kept)
        for name, number, gate in _gates(embedder)
        if number not in layers[name]
    ]
    count = sum(bool(gate > 0) for gate in cut)
    for gate in cut:
        gate.zero_()
    return count


def shown_layers(layers: Layers) -> str:
    """The layers as text for users: "forward 1 3, backward none"."""
    return ", ".join(
        f"{name} {' '.join(str(number + 1) for number in numbers) or 'none'}"
        for name, numbers in layers.items()
    )


def _gates(embedder: LdnetEmbedder) -> Iterator[tuple[str, int, torch.Tensor]]:
    """The gated layers: stack, number, and a view of the gate."""
    for model in embedder.language_models.values():
        if isinstance(model.selection, LayerSelection):
            stacks = zip(stack_names(model.direction), model.layers)
            named = ((name, number) for name, numbers in stacks for number in numbers)
            for (name, number), gate in zip(named, model.selection.gates.detach()):
                yield name, number, gate


def _largest(embedders: Sequence[LdnetEmbedder], count: int) -> list[Layers]:
    gated = [
        (-float(gate), number, order, name)
        for order, embedder in enumerate(embedders)
        for name, number, gate in _gates(embedder)
    ]
    if count > len(gated):
        raise ConfigurationError(f"--keep {count}: the model has only {len(gated)} layers with a gate.")
    # The sort is stable: among ties, forward layers come first.
    best = sorted(gated, key=lambda layer: layer[:2])[:count]
    chosen = {(order, name, number) for gate, number, order, name in best if gate < 0}
    have_gates = {(order, name) for _, _, order, name in gated}
    return [
        {
            name: [n for n in numbers if (order, name) not in have_gates or (order, name, n) in chosen]
            for name, numbers in embedder.all_layers().items()
        }
        for order, embedder in enumerate(embedders)
    ]


def _named(embedder: LdnetEmbedder, keep: Sequence[str]) -> Layers:
    available = embedder.all_layers()
    layers: Layers = {}
    for text in keep:
        name, colon, numbers = text.partition(":")
        parts = [part for part in numbers.split(",") if part]
        if not colon or not all(part.isdecimal() for part in parts):
            raise ConfigurationError(
                f"--keep expects a number of layers, or the layers of each direction, such as forward:1,3 backward:2, "
                f"but found '{text}'."
            )
        if name not in available or name in layers:
            raise ConfigurationError(
                f"--keep expects {' and '.join(available)}, each once at most, but found '{text}'."
            )
        layers[name] = sorted({int(part) - 1 for part in parts})
        missing = [str(number + 1) for number in layers[name] if number not in available[name]]
        if missing:
            raise ConfigurationError(
                f"The {name} language model has the layers {shown_layers({name: available[name]})[len(name) + 1 :]}, "
                f"but {', '.join(missing)} was to be kept."
            )
    return {name: layers.get(name, []) for name in available}
