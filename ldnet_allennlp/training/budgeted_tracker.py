"""Best epoch among those within a layer budget."""

import logging
from typing import NamedTuple, Optional

import torch
from allennlp.training.metric_tracker import MetricTracker
from overrides import overrides

from ldnet_allennlp.modules.selection.gated_modules import (
    GatedModule,
    count_kept_layers,
    selection_metrics,
)
from ldnet_allennlp.modules.selection.layer_budget import LayerBudget

logger = logging.getLogger(__name__)


class BudgetConstraint(NamedTuple):
    """The budget of the saved model."""

    layers: Optional[int]
    """The number of layers in the whole model, or `None`: then the budget of each module counts."""

    budgets: list[tuple[GatedModule, LayerBudget]]

    def is_met(self, model: torch.nn.Module) -> bool:
        """Return whether the gates above 0 are within the budget."""
        if self.layers is not None:
            return count_kept_layers(model) <= self.layers
        return all(budget.allows(module.gated_stacks()) for module, budget in self.budgets)

    def __str__(self) -> str:
        if self.layers is not None:
            return f"{self.layers} layers"
        return " + ".join(str(budget) for _, budget in self.budgets)


class BudgetedMetricTracker(MetricTracker):
    """
    A `MetricTracker` that never selects an epoch over budget. Patience counts from the first epoch within the budget.

    # Parameters

    tracker : `MetricTracker`
        The tracker to replace, with its state.
    model : `torch.nn.Module`
        The model with the gates.
    constraint : `BudgetConstraint`
    """

    def __init__(self, tracker: MetricTracker, model: torch.nn.Module, constraint: BudgetConstraint) -> None:
        names = [f"{'+' if factor > 0 else '-'}{name}" for factor, name in tracker.tracked_metrics]
        super().__init__(names, tracker._patience)
        self.load_state_dict(tracker.state_dict())
        self.model = model
        self.constraint = constraint
        self.least: dict[str, float] = {}  # the fewest layers and multiply-adds of all epochs so far

    @overrides
    def add_metrics(self, metrics: dict[str, float]) -> None:
        left = selection_metrics(self.model)
        for name in ("kept_layers", "kept_multiply_adds"):
            self.least[name] = min(left[name], self.least.get(name, left[name]))
        if self.constraint.is_met(self.model):
            super().add_metrics(metrics)
            return
        logger.info(
            "%d layers are kept, the budget is %s: not a candidate.", left["kept_layers"], self.constraint
        )
        self._is_best_so_far = False
        self._epoch_number += 1
        if self.best_epoch is not None:
            self._epochs_with_no_improvement += 1
