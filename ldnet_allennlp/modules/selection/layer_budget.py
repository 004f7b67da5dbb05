"""
Budget and penalty of layer selection.

`lambda_1` (the paper's name) or `max_layers` in configs, `--layers` in commands, limits the layers with a gate above 0;
`max_multiply_adds` and `--multiply-adds` limit the multiply-adds per word of the layers that are left. `lambda_0` is
the weight of the penalty. Any number trains the gates (0: without a penalty); null, the default, leaves them at 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from allennlp.common import FromParams, Params
from allennlp.common.checks import ConfigurationError
from allennlp.nn.regularizers import Regularizer
from overrides import overrides

from ldnet_allennlp.common.checks import check_at_least


class GatedStack(NamedTuple):
    """The gates of one direction of an `LdRnn`, and the cost of its layers in multiply-adds per word."""

    name: str
    """ "forward" or "backward"."""

    gates: torch.Tensor
    """Shape (number of layers,)."""

    layer_cost: int
    """A layer with its columns in the projection, without its weights for other layers."""

    pair_cost: int
    """A layer's input weights for one earlier layer."""

    fixed_cost: int = 0
    """The cost without any layer."""

    gradient: torch.Tensor | None = None
    """That of the gates after a backward pass."""


def selection_penalty(gates: torch.Tensor, lambda_0: float, lambda_1: float) -> torch.Tensor:
    """
    The regularizer of layer selection (LD-Net, section 3.3; `prune_sparse_seq.py` of the original), a scalar:
    `lambda_0 * sum z(1-z)`, which drives each gate to 0 or 1, plus `lambda_0 * sum_{z>0} z` while more than
    `lambda_1` of the gates z, of all directions together, are above 0.
    """
    return _penalty(gates, lambda_0, (gates > 0).sum() > lambda_1)


def _penalty(
    gates: torch.Tensor,
    lambda_0: float,
    is_over_budget: torch.Tensor,
    over_budget_weight: float = 1.0,
    spare_kept: bool = False,
) -> torch.Tensor:
    # Products and not an `if`: the value stays on the device, and every gate is in the graph in every step.
    over = over_budget_weight * is_over_budget.to(gates.dtype) * (gates * (gates > 0)).sum()
    return lambda_0 * (over if spare_kept else (gates * (1 - gates)).sum() + over)


def kept_multiply_adds(stacks: Sequence[GatedStack]) -> torch.Tensor:
    """
    Multiply-adds per word without the layers with gate 0: a layer reads the input, itself and the earlier kept layers.
    A scalar on the gates' device.
    """
    total = torch.zeros((), device=stacks[0].gates.device if stacks else None)
    for stack in stacks:
        kept = (stack.gates.detach() > 0).to(total.dtype)  # (layers,)
        pairs = kept.sum() * (kept.sum() - 1) / 2
        total = total + stack.fixed_cost + stack.layer_cost * kept.sum() + stack.pair_cost * pairs
    return total


class MaxLayersOption(FromParams):
    """Mixin that lets configs call `lambda_1` `max_layers`."""

    @classmethod
    def from_params(
        cls,
        params: Params,
        constructor_to_call: Any = None,
        constructor_to_inspect: Any = None,
        **extras: Any,
    ) -> Any:
        if isinstance(params, Params) and "max_layers" in params:
            if "lambda_1" in params:
                raise ConfigurationError("max_layers is another name of lambda_1: set only one of them.")
            params["lambda_1"] = params.pop("max_layers", keep_as_dict=True)
        return super().from_params(params, constructor_to_call, constructor_to_inspect, **extras)


@dataclass(frozen=True)
class LayerBudget:
    """
    The budget of layer selection: a number of layers, of all directions together or of each one, or a number of
    multiply-adds per word.

    # Parameters

    lambda_1 : `Union[int, Dict[str, int]]`, optional (default = `0`)
        The layers of all directions together, at least 0; or those of each, for example
        `{"forward": 2, "backward": 1}`.
    max_multiply_adds : `float`, optional
        The multiply-adds per word of the remaining layers, at least 0, instead of `lambda_1`.
    over_budget_weight : `float`, optional (default = `1.0`)
        The weight of the penalty's second term, which applies while over budget, in units of `lambda_0`. At 1, as
        published, the two terms cancel at gates of exactly 1, so layers that the loss holds at 1 stay, for any
        `lambda_0`. Above 1 they fall.
    spare_kept : `bool`, optional (default = `False`)
        Whether to omit the penalty's first term, unlike the published method. Gates are then free once the budget is
        met, and fall from exactly 1 until then.

    Raises `ConfigurationError` if one of them is negative, or if both budgets are given.
    """

    lambda_1: int | dict[str, int] = 0
    max_multiply_adds: float | None = None
    over_budget_weight: float = 1.0
    spare_kept: bool = False

    def __post_init__(self) -> None:
        layers = self.lambda_1.values() if isinstance(self.lambda_1, dict) else [self.lambda_1]
        for number in layers:
            if number is None:
                raise ConfigurationError("lambda_1 of layer selection is null; expected a number of layers.")
            check_at_least(0, "layer selection", lambda_1=number)
        check_at_least(0, "layer selection", max_multiply_adds=self.max_multiply_adds)
        check_at_least(0, "layer selection", over_budget_weight=self.over_budget_weight)
        if self.max_multiply_adds is not None and self.lambda_1:
            raise ConfigurationError(
                f"The budget is either a number of layers (lambda_1, max_layers) or of multiply-adds, but both are "
                f"given: lambda_1 is {self.lambda_1} and max_multiply_adds {self.max_multiply_adds}."
            )

    def check(self, stacks: Sequence[GatedStack]) -> None:
        """Raise `ConfigurationError` if the budget is for other directions, or impossible to meet."""
        names = [stack.name for stack in stacks]
        least = sum(stack.fixed_cost for stack in stacks)
        if self.max_multiply_adds is not None and self.max_multiply_adds < least:
            raise ConfigurationError(
                f"The budget max_multiply_adds is {self.max_multiply_adds:g}, but without any gated layer the language "
                f"models with their projection still cost {least} multiply-adds per word."
            )
        if isinstance(self.lambda_1, dict) and sorted(self.lambda_1) != sorted(names):
            raise ConfigurationError(
                f"lambda_1 gives a layer budget for {' and '.join(self.lambda_1) or 'no direction'}, but it was "
                f"expected for {' and '.join(names)}, the directions of the language models."
            )

    def penalty(self, stacks: Sequence[GatedStack], lambda_0: float) -> torch.Tensor:
        """The penalty over all gates, or, with a budget for each direction, the sum over directions. A scalar."""
        if isinstance(self.lambda_1, dict):
            budgets = [replace(self, lambda_1=self.lambda_1[stack.name]) for stack in stacks]
            parts = [budget.penalty([stack], lambda_0) for budget, stack in zip(budgets, stacks)]
            return torch.stack(parts).sum()
        gates = torch.cat([stack.gates for stack in stacks])
        if self.max_multiply_adds is None:
            is_over = (gates > 0).sum() > self.lambda_1
        else:
            is_over = kept_multiply_adds(stacks) > self.max_multiply_adds
        return _penalty(gates, lambda_0, is_over, self.over_budget_weight, self.spare_kept)

    def largest(
        self, stacks: Sequence[GatedStack], scores: Sequence[torch.Tensor] | None = None
    ) -> list[torch.Tensor]:
        """
        Mask of the gates that remain above 0 after removing the smallest ones, one by one, until the budget is met: a
        tensor (layers,) for each stack, like the `scores`. The last layer of a direction is removed only if the budget
        cannot be met otherwise. Among equal gates, the lower score is removed first; among equal scores, the later
        layer.
        """
        scores = scores or [torch.zeros_like(stack.gates) for stack in stacks]
        if isinstance(self.lambda_1, dict):
            budgets = [LayerBudget(self.lambda_1[stack.name]) for stack in stacks]
            parts = zip(budgets, stacks, scores)
            return [budget.largest([stack], [score])[0] for budget, stack, score in parts]
        kept = [stack._replace(gates=(stack.gates.detach() > 0).cpu()) for stack in stacks]
        order = sorted(
            (gate, score, -layer, number)
            for number, stack in enumerate(stacks)
            for layer, (gate, score) in enumerate(zip(stack.gates.tolist(), scores[number].tolist()))
            if gate > 0
        )
        for spared in (1, 0):
            for *_, layer, number in order:
                if self.allows(kept):
                    break
                if kept[number].gates.sum() > spared:
                    kept[number].gates[-layer] = False
        return [mask.gates.to(stack.gates.device) for mask, stack in zip(kept, stacks)]

    def allows(self, stacks: Sequence[GatedStack]) -> bool:
        """Return whether the remaining layers are within the budget."""
        if self.max_multiply_adds is not None:
            return bool(kept_multiply_adds(stacks) <= self.max_multiply_adds)
        kept = {stack.name: int((stack.gates > 0).sum()) for stack in stacks}
        if isinstance(self.lambda_1, dict):
            return all(count <= self.lambda_1[name] for name, count in kept.items())
        return sum(kept.values()) <= self.lambda_1

    def __str__(self) -> str:
        if self.max_multiply_adds is not None:
            return f"{self.max_multiply_adds / 1e6:g} M multiply-adds per word"
        if isinstance(self.lambda_1, dict):
            return " and ".join(f"{number} {name} layers" for name, number in self.lambda_1.items())
        return f"{self.lambda_1} layers"


@Regularizer.register("layer_selection")
class GateRegularizer(MaxLayersOption, Regularizer):
    """
    Adds the penalty of layer selection (`selection_penalty`) to the loss of any AllenNLP model that takes a
    `regularizer`: `{"regexes": [["gates$", {"type": "layer_selection", "lambda_0": 0.05, "lambda_1": 1}]]}`, with
    `"lambda_0": 0` for the "ldnet" embedder, so that its gates are trained.

    AllenNLP calls it for each parameter, so the budget is that of one language model. Do not use it with
    "ldnet_tagger", which adds the penalty itself.

    Registered as a `Regularizer` with name "layer_selection".

    # Parameters

    lambda_0 : `float`
        The weight of the penalty, at least 0.
    lambda_1 : `int`
        The layer budget of each language model, at least 0. Configs may also call it `max_layers`.
    """

    def __init__(self, lambda_0: float, lambda_1: int) -> None:
        check_at_least(0, "layer selection", lambda_0=lambda_0)
        self.lambda_0 = lambda_0
        check_at_least(0, "layer selection", lambda_1=lambda_1)
        self.lambda_1 = lambda_1

    @overrides(check_signature=False)  # upstream declares no type
    def __call__(self, parameter: torch.Tensor) -> Any:
        return selection_penalty(parameter, self.lambda_0, self.lambda_1)
