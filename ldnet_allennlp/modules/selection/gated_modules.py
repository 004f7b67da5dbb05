"""Modules of a model with layer selection."""

import warnings
from collections.abc import Iterator
from typing import Union

import torch

from ldnet_allennlp.modules.embedders.ldnet_embedder import LdnetEmbedder
from ldnet_allennlp.modules.selection.layer_budget import GatedStack, kept_multiply_adds
from ldnet_allennlp.modules.selection.layer_selection import LayerSelection

GatedModule = Union[LdnetEmbedder, LayerSelection]
"""A module with gates, a penalty on them and a budget."""


def gated_modules(model: torch.nn.Module) -> list[GatedModule]:
    """
    The modules whose penalty is part of the model's loss: "ldnet" token embedders with a `lambda_0`, and
    "layer_selection" encoders with one above 0.
    """
    return [
        module
        for module in model.modules()
        if (isinstance(module, LdnetEmbedder) and module.lambda_0 is not None)
        or (isinstance(module, LayerSelection) and module.lambda_0 > 0)
    ]


def trained_selections(model: torch.nn.Module) -> dict[str, LayerSelection]:
    """The layer selections of a model with trained gates, by module name."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, LayerSelection) and module.gates.requires_grad
    }


def selection_metrics(model: torch.nn.Module) -> dict[str, float]:
    """
    The metrics of all trained gates: `kept_layers`; `kept_multiply_adds`, in millions per word; and each gate, as
    `_gates/forward_1`. (Names that begin with an underscore are in AllenNLP's logs, but not in its progress bar.) Empty
    without trained gates.
    """
    stacks = list(_trained_stacks(model))
    if not stacks:
        return {}
    names = [stack.name for stack in stacks]
    if len(set(names)) < len(names):  # several embedders or encoders
        names = [f"{number}_{name}" for number, name in enumerate(names)]
    values: list[list[float]] = [stack.gates.tolist() for stack in stacks]
    if not all(0 <= gate <= 1 for gates in values for gate in gates):
        message = 'Gates left [0, 1], where their penalty has no meaning: set the optimizer "proximal".'
        warnings.warn(message, stacklevel=2)
    metrics = {
        "kept_layers": float(sum(gate > 0 for gates in values for gate in gates)),
        "kept_multiply_adds": float(kept_multiply_adds(stacks)) / 1e6,
    }
    for name, gates in zip(names, values):
        metrics.update({f"_gates/{name}_{layer}": gate for layer, gate in enumerate(gates, start=1)})
    return metrics


def _trained_stacks(model: torch.nn.Module) -> Iterator[GatedStack]:
    in_embedders: set[torch.nn.Module] = set()
    for module in model.modules():
        if isinstance(module, LdnetEmbedder):
            in_embedders.update(part.selection for part in module.language_models.values())
            if trained_selections(module):
                yield from module.gated_stacks()
        elif isinstance(module, LayerSelection) and module.gates.requires_grad and module not in in_embedders:
            yield from module.gated_stacks()
