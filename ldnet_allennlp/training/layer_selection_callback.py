"""Layer selection during training: penalty schedule, log of the gates, and best epoch within the budget."""

import json
import math
import os
from dataclasses import replace
from typing import Any, Optional

import torch
from allennlp.common.checks import ConfigurationError
from allennlp.training.callbacks import TrainerCallback
from allennlp.training.gradient_descent_trainer import GradientDescentTrainer
from overrides import overrides

from ldnet_allennlp.common.checks import check_at_least
from ldnet_allennlp.modules.selection.gated_modules import (
    GatedModule,
    gated_modules,
    selection_metrics,
    trained_selections,
)
from ldnet_allennlp.modules.selection.layer_budget import kept_multiply_adds
from ldnet_allennlp.training.layer_budgets import (
    BudgetedMetricTracker,
    ExactBudget,
    PenaltySchedule,
)

GATES_FILE = "gates.jsonl"


class BudgetMissed(ConfigurationError):
    """No epoch of a layer selection meets its budget."""


@TrainerCallback.register("layer_selection")
class LayerSelectionCallback(TrainerCallback):
    """
    Restricts the trainer's best epoch to those within the budget, and writes the gates of each epoch to `gates.jsonl`
    in the serialization directory. Training ends with an error if no epoch meets the budget.

    Registered as a `TrainerCallback` with name "layer_selection".

    # Parameters

    serialization_dir : `str`
        Set by the trainer.
    max_layers : `int`, optional
        The maximum number of layers, at least 0; by default the budget of the model (`lambda_1` or
        `max_multiply_adds`). Required if the penalty comes from a "layer_selection" regularizer.
    schedule : `Dict[str, List[Tuple[float, float]]]`, optional
        Values of `lambda_0`, `lambda_1` (or `max_layers`, its plain name) and `max_multiply_adds` over the training:
        pairs of epoch, from 0, and value, linear between them and constant outside, set at the start of each epoch. For
        example `{"lambda_0": [[0, 0], [3, 0.1]], "lambda_1": [[0, 10], [8, 2]]}`: no penalty at first, and a budget
        that falls from 10 layers to 2. (`lambda_1` is rounded up.) The last budget must be met.
    exact_budget : `bool`, optional (default = `False`)
        Whether to meet the budget exactly, for any `lambda_0`. The penalty is `spare_kept` of `LayerBudget`, not the
        published one. After each epoch, the smallest gates are set to 0 permanently until the budget of that epoch is
        met; in the last epoch, the last budget. The largest gates of the last budget never fall to 0. Without a
        schedule, the budget falls from all layers to the model's budget in the first half of the epochs.

    Raises `ConfigurationError` at the start if the model has no trained gates or no budget, if the schedule does not
    match it, or if the trainer has no validation data; and at the end if no epoch meets the budget.
    """

    def __init__(
        self,
        serialization_dir: str,
        max_layers: Optional[int] = None,
        schedule: Optional[dict[str, list[tuple[float, float]]]] = None,
        exact_budget: bool = False,
    ) -> None:
        super().__init__(serialization_dir)
        self.max_layers = max_layers
        check_at_least(0, "layer_selection", max_layers=self.max_layers)
        self.schedule = PenaltySchedule(schedule or {})
        self.exact_budget = exact_budget
        self._exact: list[ExactBudget] = []
        self._tracker: BudgetedMetricTracker | None = None
        self._modules: list[GatedModule] = []
        # State of a recovered run:
        self._least_before: dict[str, float] = {}
        self._exact_before: list[dict[str, Any]] = []

    @overrides
    def on_start(self, trainer: GradientDescentTrainer, is_primary: bool = True, **kwargs: Any) -> None:
        super().on_start(trainer, is_primary)
        model = trainer._pytorch_model
        if not trained_selections(model):
            raise ConfigurationError(
                "The layer_selection callback found no trained gates in the model. Give the ldnet token embedder a "
                "lambda_0."
            )
        if trainer._validation_data_loader is None:
            raise ConfigurationError(
                "The layer_selection callback chooses the best epoch on validation data. Set validation_data_path."
            )
        self._modules = gated_modules(model)
        if self.max_layers is None and not self._modules:
            raise ConfigurationError(
                "The layer_selection callback found no budget in the model: no part of it adds a penalty to the loss. "
                "Give the callback max_layers."
            )
        self.schedule.check(self._modules)
        if self.exact_budget:
            self._prepare_exact_budget(trainer)
        self.schedule.apply(self._modules, math.inf)
        budgets = [(module, module.budget) for module in self._modules]
        self._exact = [ExactBudget(*pair) for pair in budgets if self.exact_budget]
        self._tracker = BudgetedMetricTracker(trainer._metric_tracker, model, self.max_layers, budgets)
        self._tracker.least = self._least_before
        trainer._metric_tracker = self._tracker
        self._start_epoch(trainer, trainer._start_after_epochs_completed)  # 0 unless recovered
        for exact, state in zip(self._exact, self._exact_before):
            exact.load_state_dict(state)

    def _prepare_exact_budget(self, trainer: GradientDescentTrainer) -> None:
        if self.max_layers is not None or not self._modules:
            raise ConfigurationError(
                "exact_budget of the layer_selection callback requires the budget in the model: set lambda_1 or "
                "max_multiply_adds there, and not the callback's max_layers."
            )
        if trainer._moving_average is not None:
            raise ConfigurationError(
                "exact_budget of the layer_selection callback does not work with the trainer's moving_average, whose "
                "gates never reach 0."
            )
        for module in self._modules:
            module.budget = replace(module.budget, spare_kept=True)
        module = self._modules[0]
        stacks = [stack._replace(gates=torch.ones_like(stack.gates)) for stack in module.gated_stacks()]
        if len(self._modules) > 1 or {"lambda_1", "max_multiply_adds"} & set(self.schedule.points):
            return
        middle, budget = trainer._num_epochs // 2, module.budget
        if middle and budget.max_multiply_adds is not None:
            whole = float(kept_multiply_adds(stacks))
            self.schedule.points["max_multiply_adds"] = [(0, whole), (middle, budget.max_multiply_adds)]
        elif middle and isinstance(budget.lambda_1, int):
            layers = float(sum(len(stack.gates) for stack in stacks))
            self.schedule.points["lambda_1"] = [(0, layers), (middle, budget.lambda_1)]

    def _start_epoch(self, trainer: GradientDescentTrainer, epoch: int) -> None:
        if self._exact:
            is_last = epoch >= trainer._num_epochs - 1
            self.schedule.apply(self._modules, math.inf if is_last else epoch - 1)
            for exact in self._exact if epoch or is_last else []:
                exact.cut()
        self.schedule.apply(self._modules, epoch)

    @overrides
    def state_dict(self) -> dict[str, Any]:
        least = self._tracker.least if self._tracker else {}
        return {"least": least, "exact": [exact.state_dict() for exact in self._exact]}

    @overrides
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._least_before = state_dict.get("least", {})
        self._exact_before = state_dict.get("exact", [])

    @overrides
    def on_epoch(
        self,
        trainer: GradientDescentTrainer,
        metrics: dict[str, Any],
        epoch: int,
        is_primary: bool = True,
        **kwargs: Any,
    ) -> None:
        model = trainer._pytorch_model
        if is_primary and self.serialization_dir:
            record = {
                "epoch": epoch,
                "gates": gates_of(model),
                "kept_layers": int(selection_metrics(model)["kept_layers"]),
                "penalties": [
                    {"lambda_0": module.lambda_0, "budget": str(module.budget)} for module in self._modules
                ],
                "metrics": {
                    name: value
                    for name, value in metrics.items()
                    if name.startswith(("training_", "validation_")) and "_gates/" not in name
                },
            }
            with open(os.path.join(self.serialization_dir, GATES_FILE), "a", encoding="utf-8") as log:
                log.write(json.dumps(record) + "\n")
        self._start_epoch(trainer, epoch + 1)

    @overrides(check_signature=False)  # the trainer passes keywords
    def on_batch(self, *arguments: Any, is_training: bool, **kwargs: Any) -> None:
        if is_training:
            for exact in self._exact:
                exact.after_step()

    @overrides
    def on_end(
        self,
        trainer: GradientDescentTrainer,
        metrics: dict[str, Any] | None = None,
        epoch: int | None = None,
        is_primary: bool = True,
        **kwargs: Any,
    ) -> None:
        if metrics is None or self._tracker is None or self._tracker.best_epoch is not None:
            return  # without metrics, training was interrupted by another error
        least = self._tracker.least
        raise BudgetMissed(
            f"No epoch meets the budget of {self._tracker.budget()}, so no model was saved. The fewest layers "
            f"kept are {least['kept_layers']:.0f}, the fewest multiply-adds per word {least['kept_multiply_adds']:.2f} "
            f"M. Set exact_budget of the layer_selection callback; or train for more epochs, raise lambda_0, "
            f"over_budget_weight or the learning rate of the gates, or allow more (max_layers, max_multiply_adds)."
        )


def gates_of(model: torch.nn.Module) -> dict[str, list[float] | list[list[float]]]:
    """The trained gates by the name of their layer selection: a list per direction."""
    return {
        name: [gates.tolist() for gates in module.direction_gates()]
        for name, module in trained_selections(model).items()
    }
