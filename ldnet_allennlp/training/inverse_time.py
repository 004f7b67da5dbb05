"""Learning-rate schedule of the published taggers."""

import torch
from allennlp.training.learning_rate_schedulers import LearningRateScheduler
from overrides import overrides

from ldnet_allennlp.common.checks import check_at_least


@LearningRateScheduler.register("inverse_time")
class InverseTime(LearningRateScheduler):
    """
    Divides the learning rate by `1 + decay * epochs done` (`train_seq.py` of the original).

    Registered as a `LearningRateScheduler` with name "inverse_time".

    # Parameters

    optimizer : `torch.optim.Optimizer`
        Set by the trainer.
    decay : `float`, optional (default = `0.05`)
        The published taggers use 0.05.
    last_epoch : `int`, optional (default = `-1`)
        See `LearningRateScheduler`.

    Raises `ConfigurationError` if `decay` is negative.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, decay: float = 0.05, last_epoch: int = -1) -> None:
        check_at_least(0, "inverse_time", decay=decay)
        self.decay = decay
        super().__init__(optimizer, last_epoch)

    @overrides
    def get_values(self) -> list[float]:
        # `last_epoch` counts from 0, and this is called after that epoch.
        return [rate / (1 + self.decay * (self.last_epoch + 1)) for rate in self.base_values]
