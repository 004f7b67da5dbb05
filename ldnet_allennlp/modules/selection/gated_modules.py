"""Modules of a model with layer selection."""

from collections.abc import Iterator
from typing import Union

import torch

from ldnet_allennlp.modules.embedders.ldnet_embedder import LdnetEmbedder
from ldnet_allennlp.modules.selection.layer_budget import GatedStack, metrics_of_stacks
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


def count_kept_layers(model: torch.nn.Module) -> int:
    """The number of trained gates above 0."""
    return sum(int((selection.gates > 0).sum()) for selection in trained_selections(model).values())


def selection_metrics(model: torch.nn.Module) -> dict[str, float]:
    """The metrics (see `metrics_of_stacks`) of all trained gates; empty without any."""
    stacks = list(_trained_stacks(model))
    names = [stack.name for stack in stacks]
    if len(set(names)) < len(names):  # several embedders or encoders
        stacks = [stack._replace(name=f"{number}_{stack.name}") for number, stack in enumerate(stacks)]
    return metrics_of_stacks(stacks) if stacks else {}


def _trained_stacks(model: torch.nn.Module) -> Iterator[GatedStack]:
    in_embedders: set[torch.nn.Module] = set()
    for module in model.modules():
        if isinstance(module, LdnetEmbedder):
            in_embedders.update(part.selection for part in module.language_models.values())
            if trained_selections(module):
                yield from module.gated_stacks()
        elif isinstance(module, LayerSelection) and module.gates.requires_grad and module not in in_embedders:
            yield from module.gated_stacks()
