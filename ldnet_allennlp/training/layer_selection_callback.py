"""Watches layer selection: logs the gates and chooses the best epoch within the layer budget."""

import json
import logging
import os
from typing import Any, Dict, List, Optional, Union

import torch
from allennlp.common.checks import ConfigurationError
from allennlp.training.callbacks import TrainerCallback
from allennlp.training.gradient_descent_trainer import GradientDescentTrainer
from allennlp.training.metric_tracker import MetricTracker
from overrides import overrides

from ldnet_allennlp.modules.layer_selection import LayerSelection
from ldnet_allennlp.modules.ldnet_embedder import LdnetEmbedder

logger = logging.getLogger(__name__)

GATES_FILE = "gates.jsonl"


class BudgetedMetricTracker(MetricTracker):
    """
    A `MetricTracker` to which an epoch over the layer budget is never the best.

    Patience counts from the first epoch within the budget on.

    # Parameters

    tracker : `MetricTracker`
        The tracker to take over from, with its state.
    model : `torch.nn.Module`
        The model whose gates count.
    budget : `int`
        The number of layers that may be left.
    """

    def __init__(self, tracker: MetricTracker, model: torch.nn.Module, budget: int) -> None:
        names = [f"{'+' if factor > 0 else '-'}{name}" for factor, name in tracker.tracked_metrics]
        super().__init__(names, tracker._patience)
        self.load_state_dict(tracker.state_dict())
        self.model = model
        self.budget = budget
        self.fewest_layers: Optional[int] = None  # of all epochs so far

    @overrides
    def add_metrics(self, metrics: Dict[str, float]) -> None:
        kept = count_kept_layers(self.model)
        self.fewest_layers = kept if self.fewest_layers is None else min(kept, self.fewest_layers)
        if kept <= self.budget:
            super().add_metrics(metrics)
            return
        logger.info("%d layers are kept, %d is the budget: not a candidate.", kept, self.budget)
        self._is_best_so_far = False
        self._epoch_number += 1
        if self.best_epoch is not None:
            self._epochs_with_no_improvement += 1


def selections(model: torch.nn.Module) -> List[LayerSelection]:
    """Every `LayerSelection` in a model whose gates are trained."""
    return [
        module
        for module in model.modules()
        if isinstance(module, LayerSelection) and module.gates.requires_grad
    ]


def count_kept_layers(model: torch.nn.Module) -> int:
    """The number of trained gates above 0."""
    return sum(len(layers) for selection in selections(model) for layers in selection.kept_layers())


@TrainerCallback.register("layer_selection")
class LayerSelectionCallback(TrainerCallback):
    """
    Makes the trainer's best epoch the best one within the layer budget, and writes the gates of each epoch to
    `gates.jsonl` in the serialization directory.

    Training ends with an error if no epoch came within the budget: then there is no model to archive that
    keeps the promise.

    Registered as a `TrainerCallback` with name "layer_selection".

    # Parameters

    serialization_dir : `str`
        Given by the trainer.
    budget : `int`, optional
        How many layers may be left, at least 0; the `lambda_1` of the model, if not given.

    Raises `ConfigurationError` at the start if the model has no trained gates or the trainer no validation
    data, and at the end if no epoch came within the budget.
    """

    def __init__(self, serialization_dir: str, budget: Optional[int] = None) -> None:
        super().__init__(serialization_dir)
        if budget is not None and budget < 0:
            raise ConfigurationError(f"The layer budget is at least 0, but it is {budget}.")
        self.budget = budget
        self._tracker: Optional[BudgetedMetricTracker] = None
        self._fewest_before: Optional[int] = None  # of a run that is recovered

    @overrides
    def on_start(self, trainer: GradientDescentTrainer, is_primary: bool = True, **kwargs: Any) -> None:
        super().on_start(trainer, is_primary)
        model = trainer._pytorch_model
        if not selections(model):
            raise ConfigurationError(
                "The layer_selection callback was expected to find trained gates in the model, but there are "
                "none. Give the ldnet token embedder a lambda_0."
            )
        if trainer._validation_data_loader is None:
            raise ConfigurationError(
                "The layer_selection callback chooses the best epoch on validation data, but the trainer has "
                "none: validation_data_path was expected."
            )
        budget = self.budget if self.budget is not None else _budget_of(model)
        self._tracker = BudgetedMetricTracker(trainer._metric_tracker, model, budget)
        self._tracker.fewest_layers = self._fewest_before
        trainer._metric_tracker = self._tracker

    @overrides
    def state_dict(self) -> Dict[str, Any]:
        return {"fewest_layers": self._tracker.fewest_layers if self._tracker else None}

    @overrides
    def load_state_dict(self, state_dict: Dict[str, Any]) -> None:
        self._fewest_before = state_dict.get("fewest_layers")

    @overrides
    def on_epoch(
        self,
        trainer: GradientDescentTrainer,
        metrics: Dict[str, Any],
        epoch: int,
        is_primary: bool = True,
        **kwargs: Any,
    ) -> None:
        if not is_primary or not self.serialization_dir:
            return
        record: Dict[str, Any] = {"epoch": epoch, "gates": gates_of(trainer._pytorch_model)}
        record["kept_layers"] = count_kept_layers(trainer._pytorch_model)
        record["metrics"] = {
            name: value for name, value in metrics.items() if name.startswith(("training_", "validation_"))
        }
        with open(os.path.join(self.serialization_dir, GATES_FILE), "a", encoding="utf-8") as log:
            log.write(json.dumps(record) + "\n")

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
        raise ConfigurationError(
            f"No epoch kept at most {self._tracker.budget} layers, so no model was saved as the best. "
            f"The fewest were {self._tracker.fewest_layers}. Train for more epochs, raise lambda_0 or the "
            f"learning rate of the gates, or allow more layers (lambda_1)."
        )


def gates_of(model: torch.nn.Module) -> Dict[str, Union[List[float], List[List[float]]]]:
    """The gates of every layer selection that is trained, by the module's name: a list a direction."""
    return {
        name: [gates.tolist() for gates in module.direction_gates()]
        for name, module in model.named_modules()
        if isinstance(module, LayerSelection) and module.gates.requires_grad
    }


def _budget_of(model: torch.nn.Module) -> int:
    budgets = [
        module.lambda_1
        for module in model.modules()
        if (isinstance(module, LdnetEmbedder) and module.lambda_0 is not None)
        or (isinstance(module, LayerSelection) and module.lambda_0 > 0)
    ]
    return sum(budgets)
