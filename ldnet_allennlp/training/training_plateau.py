"""Lowers the learning rate when a metric of the training data stops getting better."""

import logging
import math
from typing import Any, Dict

from allennlp.common.checks import ConfigurationError
from allennlp.training import TrainerCallback
from allennlp.training.gradient_descent_trainer import GradientDescentTrainer
from overrides import overrides

logger = logging.getLogger(__name__)


@TrainerCallback.register("training_plateau")
class TrainingPlateau(TrainerCallback):
    """
    Multiplies the learning rate by `factor` when the perplexity of training did not fall for more than `patience`
    epochs, as the original LD-Net does (`train_lm.py`): language models that see each text once or a few times
    do not overfit, and need no held-out text for this. AllenNLP's "reduce_on_plateau" can only follow a validation
    metric, and its other schedulers may be used together with this one: what they start from is multiplied, too.

    The epochs of a large text are better made shorter for this: see `batches_per_epoch` of the "lm_stream" loader.

    Registered as a `TrainerCallback` with name "training_plateau".

    # Parameters

    serialization_dir : `str`
        Given by the trainer.
    metric : `str`, optional (default = `"perplexity"`)
        A metric that should fall; "loss" is also one.
    factor : `float`, optional (default = `0.1`)
        Between 0 and 1, the original's.
    patience : `int`, optional (default = `0`)
        How many epochs in a row may pass without a new best.
    min_lr : `float`, optional (default = `0.0`)
        The learning rate does not fall below this.

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
                f"training_plateau needs a factor between 0 and 1 and a patience of at least 0, but they are "
                f"{factor} and {patience}."
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
        metrics: Dict[str, Any],
        epoch: int,
        is_primary: bool = True,
        **kwargs: Any,
    ) -> None:
        name = f"training_{self.metric}"
        if name not in metrics:
            raise ConfigurationError(
                f"training_plateau follows the metric '{self.metric}', but the model has no such metric: found "
                f"{', '.join(sorted(name for name in metrics if name.startswith('training_')))}."
            )
        if metrics[name] < self.best:
            self.best = metrics[name]
            self.epochs_without_best = 0
            return
        self.epochs_without_best += 1
        if self.epochs_without_best > self.patience:
            self._lower(trainer)
            # As the original: the perplexity with the lower rate is compared with itself only.
            self.best = math.inf
            self.epochs_without_best = 0

    def _lower(self, trainer: GradientDescentTrainer) -> None:
        groups = trainer.optimizer.param_groups
        for group in groups:
            for name in ("lr", "initial_lr"):
                if name in group:
                    group[name] = max(group[name] * self.factor, self.min_lr)
        # AllenNLP's own schedulers keep the values that they start from to themselves, and so do torch's.
        scheduler = trainer._learning_rate_scheduler
        for owner, name in (
            (scheduler, "base_values"),
            (getattr(scheduler, "lr_scheduler", None), "base_lrs"),
        ):
            if hasattr(owner, name):
                setattr(
                    owner, name, [max(value * self.factor, self.min_lr) for value in getattr(owner, name)]
                )
        logger.info(
            "training %s is not below %g any more: the learning rate is now %s",
            self.metric,
            self.best,
            ", ".join(f"{group['lr']:g}" for group in groups),
        )

    @overrides
    def state_dict(self) -> Dict[str, Any]:
        return {"best": self.best, "epochs_without_best": self.epochs_without_best}

    @overrides
    def load_state_dict(self, state_dict: Dict[str, Any]) -> None:
        self.best = state_dict["best"]
        self.epochs_without_best = state_dict["epochs_without_best"]
