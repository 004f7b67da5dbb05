"""Layer budgets during training: their schedule, meeting them exactly, and the best epoch within them."""

import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy
import torch
from allennlp.common.checks import ConfigurationError
from allennlp.training.metric_tracker import MetricTracker
from overrides import overrides

from ldnet_allennlp.common.checks import check_choice
from ldnet_allennlp.modules.selection.gated_modules import (
    GatedModule,
    selection_metrics,
)
from ldnet_allennlp.modules.selection.layer_budget import LayerBudget

logger = logging.getLogger(__name__)

SMALLEST_GATE = 2**-7
SCHEDULED = ("lambda_0", "lambda_1", "max_layers", "max_multiply_adds")


class PenaltySchedule:
    """
    Piecewise linear values of `lambda_0`, `lambda_1` (or `max_layers`, its plain name) and `max_multiply_adds`.

    `points` are pairs of epoch, from 0, and value for each option; constant before the first and after the last.

    Raises `ConfigurationError` for any other option, for negative values, and for epochs that do not increase.
    """

    def __init__(self, points: dict[str, list[tuple[float, float]]]) -> None:
        for name, pairs in points.items():
            check_choice(SCHEDULED, "layer_selection", schedule=name)
            epochs = [epoch for epoch, _ in pairs]
            if not pairs or any(value < 0 for _, value in pairs) or epochs != sorted(set(epochs)):
                raise ConfigurationError(
                    f"The schedule of {name} was expected to be pairs of epoch and value, with rising epochs and "
                    f"values of at least 0, but it is {pairs}."
                )
        self.points = {"lambda_1" if name == "max_layers" else name: pairs for name, pairs in points.items()}

    def check(self, modules: Sequence[GatedModule]) -> None:
        """Raise `ConfigurationError` if the schedule is for another kind of budget than that of gated modules."""
        for budget in (module.budget for module in modules):
            other = "max_multiply_adds" if budget.max_multiply_adds is None else "lambda_1"
            if other in self.points or ("lambda_1" in self.points and isinstance(budget.lambda_1, dict)):
                raise ConfigurationError(
                    f"The schedule is for {' and '.join(self.points)} (lambda_1: the layers of all directions "
                    f"together), but the model's budget is {budget}."
                )

    def apply(self, modules: Sequence[GatedModule], epoch: float) -> None:
        """Set the penalty and budget of gated modules for an epoch."""
        values: dict[str, Any] = {}
        for name, pairs in self.points.items():
            epochs, heights = zip(*pairs)
            values[name] = float(numpy.interp(min(epoch, epochs[-1]), epochs, heights))
        if "lambda_1" in values:
            values["lambda_1"] = math.ceil(values["lambda_1"])
        lambda_0 = values.pop("lambda_0", None)
        for module in modules:
            module.lambda_0 = module.lambda_0 if lambda_0 is None else lambda_0  # type: ignore[assignment]
            module.budget = replace(module.budget, **values)


class ExactBudget:
    """
    Keeps the gates of a module at its budget: sets the smallest to 0, and keeps the largest above 0.

    Among gates that a strong loss holds at exactly 1, the gradients decide: those with the strongest upward pull are
    kept.

    The budget of the module changes with the schedule; `final` is the one at its end, whose largest gates stay at
    `SMALLEST_GATE` or above.
    """

    def __init__(self, module: GatedModule, final: LayerBudget) -> None:
        stacks = module.gated_stacks()
        self.module = module
        self.final = final
        self._kept = [torch.ones_like(stack.gates, dtype=torch.bool) for stack in stacks]
        self._scores = [torch.zeros_like(stack.gates) for stack in stacks]
        self._protected = final.largest(stacks)

    @torch.no_grad()
    def cut(self) -> None:
        """Set the smallest gates to 0 until the module's budget is met."""
        self._kept = self.module.budget.largest(self.module.gated_stacks(), self._scores)
        self._protected = self.final.largest(self.module.gated_stacks(), self._scores)
        self._hold()
        for scores in self._scores:
            scores.zero_()

    @torch.no_grad()
    def after_step(self) -> None:
        """Correct the gates after an optimizer step: removed gates stay at 0, the largest stay above 0."""
        for scores, stack in zip(self._scores, self.module.gated_stacks(), strict=True):
            if stack.gradient is not None:
                # A step that mixed precision skips has gradients that are not finite.
                scores.sub_(stack.gradient.nan_to_num(0.0, 0.0, 0.0))
        self._hold()
        self._protected = self.final.largest(self.module.gated_stacks(), self._scores)

    def _hold(self) -> None:
        for stack, kept, protected in zip(self.module.gated_stacks(), self._kept, self._protected):
            stack.gates.masked_fill_(~kept, 0.0)
            stack.gates.masked_fill_(protected & (stack.gates < SMALLEST_GATE), SMALLEST_GATE)

    def state_dict(self) -> dict[str, Any]:
        """The state for a checkpoint, as lists."""
        states = {"kept": self._kept, "scores": self._scores, "protected": self._protected}
        return {name: [tensor.tolist() for tensor in tensors] for name, tensors in states.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a `state_dict`."""
        for name, values in state.items():
            tensors = getattr(self, f"_{name}")
            setattr(self, f"_{name}", [old.new_tensor(value) for value, old in zip(values, tensors)])


class BudgetedMetricTracker(MetricTracker):
    """
    A copy of a `tracker` that never selects an epoch over budget. Patience counts from the first epoch within it.
    `max_layers` is the number of layers in the whole model; if `None`, the budgets of the modules count.
    """

    def __init__(
        self,
        tracker: MetricTracker,
        model: torch.nn.Module,
        max_layers: int | None,
        budgets: list[tuple[GatedModule, LayerBudget]],
    ) -> None:
        names = [f"{'+' if factor > 0 else '-'}{name}" for factor, name in tracker.tracked_metrics]
        super().__init__(names, tracker._patience)
        self.load_state_dict(tracker.state_dict())
        self.model = model
        self.max_layers = max_layers
        self.budgets = budgets
        self.least: dict[str, float] = {}  # the fewest layers and multiply-adds of all epochs so far

    def is_within_budget(self) -> bool:
        """Return whether the gates above 0 are within the budget."""
        if self.max_layers is not None:
            return selection_metrics(self.model)["kept_layers"] <= self.max_layers
        return all(budget.allows(module.gated_stacks()) for module, budget in self.budgets)

    def budget(self) -> str:
        """The budget as text."""
        budgets = [budget for _, budget in self.budgets]
        return " + ".join(map(str, budgets if self.max_layers is None else [LayerBudget(self.max_layers)]))

    @overrides
    def add_metrics(self, metrics: dict[str, float]) -> None:
        left = selection_metrics(self.model)
        for name in ("kept_layers", "kept_multiply_adds"):
            self.least[name] = min(left[name], self.least.get(name, left[name]))
        if self.is_within_budget():
            super().add_metrics(metrics)
            return
        logger.info(
            "%d layers are kept, the budget is %s: not a candidate.", left["kept_layers"], self.budget()
        )
        self._is_best_so_far = False
        self._epoch_number += 1
        if self.best_epoch is not None:
            self._epochs_with_no_improvement += 1
