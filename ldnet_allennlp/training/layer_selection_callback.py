"""Watches layer selection: schedules the penalty, logs the gates, chooses the best epoch within the budget."""

import json
import math
import os
from typing import Any, Dict, List, Optional, Tuple, Union

import numpy
import torch
from allennlp.common.checks import ConfigurationError
from allennlp.training.callbacks import TrainerCallback
from allennlp.training.gradient_descent_trainer import GradientDescentTrainer
from overrides import overrides

from ldnet_allennlp.modules.selection.gated_modules import (
    Selecting,
    count_kept_layers,
    selecting_modules,
    trained_selections,
)
from ldnet_allennlp.modules.selection.layer_budget import LayerBudget
from ldnet_allennlp.training.budgeted_tracker import BudgetedMetricTracker, Promise

GATES_FILE = "gates.jsonl"
SCHEDULED = ("lambda_0", "lambda_1", "max_multiply_adds")

Points = List[Tuple[float, float]]


class BudgetMissed(ConfigurationError):
    """No epoch of a layer selection came within its budget."""


@TrainerCallback.register("layer_selection")
class LayerSelectionCallback(TrainerCallback):
    """
    Makes the trainer's best epoch the best one within the budget, and writes the gates of each epoch to `gates.jsonl`
    in the serialization directory.

    Training ends with an error if no epoch came within the budget: then there is no model to archive that
    keeps the promise.

    Registered as a `TrainerCallback` with name "layer_selection".

    # Parameters

    serialization_dir : `str`
        Given by the trainer.
    budget : `int`, optional
        How many layers may be left, at least 0; by default the budget of the model (`lambda_1` or
        `max_multiply_adds`). Needed where the penalty comes from a "layer_selection" regularizer.
    schedule : `Dict[str, List[Tuple[float, float]]]`, optional
        Values of `lambda_0`, `lambda_1` and `max_multiply_adds` over the training: pairs of epoch, from 0, and value,
        linear between them and constant outside, set at the start of each epoch. For example
        `{"lambda_0": [[0, 0], [3, 0.1]], "lambda_1": [[0, 10], [8, 2]]}`: without penalty at first, and with a budget
        that falls from 10 layers to 2. (`lambda_1` is rounded up.) The budget that counts is the last.

    Raises `ConfigurationError` at the start if the model has no trained gates or no budget, if the schedule does not
    fit it, or if the trainer has no validation data; and at the end if no epoch came within the budget.
    """

    def __init__(
        self,
        serialization_dir: str,
        budget: Optional[int] = None,
        schedule: Optional[Dict[str, List[Tuple[float, float]]]] = None,
    ) -> None:
        super().__init__(serialization_dir)
        if budget is not None and budget < 0:
            raise ConfigurationError(f"The layer budget is at least 0, but it is {budget}.")
        self.budget = budget
        self.schedule = {name: _checked(name, points) for name, points in (schedule or {}).items()}
        self._tracker: Optional[BudgetedMetricTracker] = None
        self._modules: List[Selecting] = []
        self._least_before: Dict[str, float] = {}  # of a run that is recovered

    @overrides
    def on_start(self, trainer: GradientDescentTrainer, is_primary: bool = True, **kwargs: Any) -> None:
        super().on_start(trainer, is_primary)
        model = trainer._pytorch_model
        if not trained_selections(model):
            raise ConfigurationError(
                "The layer_selection callback was expected to find trained gates in the model, but there are "
                "none. Give the ldnet token embedder a lambda_0."
            )
        if trainer._validation_data_loader is None:
            raise ConfigurationError(
                "The layer_selection callback chooses the best epoch on validation data, but the trainer has "
                "none: validation_data_path was expected."
            )
        self._modules = selecting_modules(model)
        if self.budget is None and not self._modules:
            raise ConfigurationError(
                "The layer_selection callback was expected to find a budget in the model, but no part of it has a "
                "penalty of its own. Give the callback a budget."
            )
        self._check_schedule()
        self._set_penalties(math.inf)
        budgets = [(module, module.budget) for module in self._modules]
        self._tracker = BudgetedMetricTracker(trainer._metric_tracker, model, Promise(self.budget, budgets))
        self._tracker.least = self._least_before
        trainer._metric_tracker = self._tracker
        # 0 unless the training goes on from a checkpoint.
        self._set_penalties(trainer._start_after_epochs_completed)

    def _check_schedule(self) -> None:
        for module in self._modules:
            has_layers = module.budget.max_multiply_adds is None
            if "max_multiply_adds" in self.schedule and has_layers:
                raise ConfigurationError(
                    "The schedule is for max_multiply_adds, but the model's budget is a number of layers (lambda_1)."
                )
            if "lambda_1" in self.schedule and (not has_layers or isinstance(module.budget.lambda_1, dict)):
                raise ConfigurationError(
                    f"The schedule is for lambda_1, the layers of all directions together, but the model's budget is "
                    f"{module.budget}."
                )

    def _set_penalties(self, epoch: float) -> None:
        """Sets what is scheduled as of an epoch."""
        now = {name: _value_at(points, epoch) for name, points in self.schedule.items()}
        for module in self._modules:
            module.lambda_0 = now.get("lambda_0", module.lambda_0)
            if "lambda_1" in now:
                module.budget = LayerBudget(
                    math.ceil(now["lambda_1"]), over_budget_weight=module.budget.over_budget_weight
                )
            if "max_multiply_adds" in now:
                module.budget = LayerBudget(
                    max_multiply_adds=now["max_multiply_adds"],
                    over_budget_weight=module.budget.over_budget_weight,
                )

    @overrides
    def state_dict(self) -> Dict[str, Any]:
        return {"least": self._tracker.least if self._tracker else {}}

    @overrides
    def load_state_dict(self, state_dict: Dict[str, Any]) -> None:
        self._least_before = state_dict.get("least", {})

    @overrides
    def on_epoch(
        self,
        trainer: GradientDescentTrainer,
        metrics: Dict[str, Any],
        epoch: int,
        is_primary: bool = True,
        **kwargs: Any,
    ) -> None:
        model = trainer._pytorch_model
        if is_primary and self.serialization_dir:
            record: Dict[str, Any] = {"epoch": epoch, "gates": gates_of(model)}
            record["kept_layers"] = count_kept_layers(model)
            record["penalties"] = [
                {"lambda_0": module.lambda_0, "budget": str(module.budget)} for module in self._modules
            ]
            record["metrics"] = {
                name: value
                for name, value in metrics.items()
                if name.startswith(("training_", "validation_")) and "_gates/" not in name
            }
            with open(os.path.join(self.serialization_dir, GATES_FILE), "a", encoding="utf-8") as log:
                log.write(json.dumps(record) + "\n")
        self._set_penalties(epoch + 1)

    @overrides
    def on_end(
        self,
        trainer: GradientDescentTrainer,
        metrics: Optional[Dict[str, Any]] = None,
        epoch: Optional[int] = None,
        is_primary: bool = True,
        **kwargs: Any,
    ) -> None:
        if metrics is None or self._tracker is None or self._tracker.best_epoch is not None:
            return  # metrics is None where training was interrupted: that error is the one to be seen
        least = self._tracker.least
        raise BudgetMissed(
            f"No epoch came within the budget of {self._tracker.promise}, so no model was saved as the best. The "
            f"fewest layers that were kept are {least['kept_layers']:.0f}, and the fewest multiply-adds a word "
            f"{least['kept_multiply_adds']:.2f} M. Train for more epochs, raise lambda_0, over_budget_weight or "
            f"the learning rate of the gates, or allow more (lambda_1, max_multiply_adds)."
        )


def gates_of(model: torch.nn.Module) -> Dict[str, Union[List[float], List[List[float]]]]:
    """The gates of every layer selection that is trained, by the module's name: a list a direction."""
    return {
        name: [gates.tolist() for gates in module.direction_gates()]
        for name, module in trained_selections(model).items()
    }


def _checked(name: str, points: Points) -> Points:
    if name not in SCHEDULED:
        raise ConfigurationError(
            f"The schedule of a layer_selection callback is for {', '.join(SCHEDULED)}, but '{name}' was found."
        )
    epochs = [epoch for epoch, _ in points]
    if not points or any(value < 0 for _, value in points) or epochs != sorted(set(epochs)):
        raise ConfigurationError(
            f"The schedule of {name} was expected to be pairs of epoch and value, with rising epochs and values of at "
            f"least 0, but it is {points}."
        )
    return points


def _value_at(points: Points, epoch: float) -> float:
    epochs, values = zip(*points)
    return float(numpy.interp(min(epoch, epochs[-1]), epochs, values))
