"""Learning-rate schedule that follows a metric of the training data."""

import logging
import math
from typing import Any

from allennlp.common.checks import ConfigurationError
from allennlp.training import TrainerCallback
from allennlp.training.gradient_descent_trainer import GradientDescentTrainer
from overrides import overrides

logger = logging.getLogger(__name__)


@TrainerCallback.register("training_plateau")
class TrainingPlateau(TrainerCallback):
    """
    Multiplies the learning rate by `factor` when the training perplexity has not fallen for more than `patience`
    epochs, as the original LD-Net does (`train_lm.py`): language models that see each text once or a few times do not
    overfit, so the schedule needs no held-out text. AllenNLP's "reduce_on_plateau" follows validation metrics only.
    Other schedulers can be combined with this one: their base rate is multiplied as well.

    Shorten the epochs of a large text: see `batches_per_epoch` of the "lm_stream" loader.

    Registered as a `TrainerCallback` with name "training_plateau".

    # Parameters

    serialization_dir : `str`
        Set by the trainer.
    metric : `str`, optional (default = `"perplexity"`)
        A training metric to minimize, for example "loss".
    factor : `float`, optional (default = `0.1`)
        Between 0 and 1; the original uses 0.1.
    patience : `int`, optional (default = `0`)
        The number of consecutive epochs without improvement before the rate falls.
    min_lr : `float`, optional (default = `0.0`)
        The minimum learning rate.

    Raises `ConfigurationError` for a factor outside (0, 1), a negative patience, and an unknown metric.
    """

    def __init__(
        self,
        serialization_dir: str,
        metric: str = "perplexity",
        factor: float = 0.1,
        patience: int = 0,
        min_lr: float = 0.0,
    ) -> None:
        super().__init__(serialization_dir)
        if not 0.0 < factor < 1.0 or patience < 0:
            raise ConfigurationError(
                f"training_plateau needs a factor between 0 and 1 and a patience of at least 0, but found {factor} and "
                f"{patience}."
            )
        self.metric = metric
        self.factor = factor
        self.patience = patience
        self.min_lr = min_lr
        self.best = math.inf
        self.epochs_without_best = 0

    @overrides
    def on_epoch(
        self,
        trainer: GradientDescentTrainer,
        metrics: dict[str, Any],
        epoch: int,
        is_primary: bool = True,
        **kwargs: Any,
    ) -> None:
        name = f"training_{self.metric}"
        if name not in metrics:
            raise ConfigurationError(
                f"training_plateau follows the metric '{self.metric}', which the model lacks; it has "
                f"{', '.join(sorted(name for name in metrics if name.startswith('training_')))}."
            )
        if metrics[name] < self.best:
            self.best = metrics[name]
            self.epochs_without_best = 0
            return
        self.epochs_without_best += 1
        if self.epochs_without_best > self.patience:
            self._lower(trainer)
            # As in the original, perplexities are compared with those at the same rate only.
            self.best = math.inf
            self.epochs_without_best = 0

    def _lower(self, trainer: GradientDescentTrainer) -> None:
        def lower(rate: float) -> float:
            return max(rate * self.factor, self.min_lr)

        groups = trainer.optimizer.param_groups
        for group in groups:
            group.update({name: lower(group[name]) for name in ("lr", "initial_lr") if name in group})
        # The schedulers of AllenNLP and torch hold their own base values.
        scheduler = trainer._learning_rate_scheduler
        for owner, name in (
            (scheduler, "base_values"),
            (getattr(scheduler, "lr_scheduler", None), "base_lrs"),
        ):
            if hasattr(owner, name):
                setattr(owner, name, [lower(rate) for rate in getattr(owner, name)])
        rates = ", ".join(f"{group['lr']:g}" for group in groups)
        logger.info(
            f"training {self.metric} did not fall below {self.best:g}; the learning rate is now {rates}"
        )

    @overrides
    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "epochs_without_best": self.epochs_without_best}

    @overrides
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best = state_dict["best"]
        self.epochs_without_best = state_dict["epochs_without_best"]
