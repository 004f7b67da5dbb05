"""AllenNLP's trainer, but unknown options raise an error and an interrupted run explains how to continue."""

import inspect
import logging
from collections.abc import Callable
from typing import Any

from allennlp.training.callbacks import ConfidenceChecksCallback
from allennlp.training.gradient_descent_trainer import GradientDescentTrainer
from allennlp.training.trainer import Trainer
from overrides import overrides

from ldnet_allennlp.common.layer_cache import cached_evaluation

logger = logging.getLogger(__name__)


def _with_named_options_only(method: Callable[..., Trainer]) -> Callable[..., Trainer]:
    """Replace a method's signature with that of the trainer's constructor without `**kwargs`, for FromParams."""
    signature = inspect.signature(GradientDescentTrainer.from_partial_objects.__func__)  # type: ignore[attr-defined]
    options = [option for option in signature.parameters.values() if option.kind is not option.VAR_KEYWORD]
    method.__signature__ = signature.replace(parameters=options)  # type: ignore[attr-defined]
    return method


@Trainer.register("strict_gradient_descent", constructor="from_partial_objects")
class StrictTrainer(GradientDescentTrainer):
    """
    AllenNLP's "gradient_descent" trainer with the same options, but unknown options raise an error. (AllenNLP's own
    trainer ignores them: with `num_epoch: 3` it trains its default of 20 epochs.)

    After an interruption, the log names the checkpoint that `--recover` continues from. If this is within an epoch, the
    losses are means over the rest of the epoch.

    `allennlp find-lr` requires AllenNLP's trainer by name: `-o '{"trainer.type": "gradient_descent"}'`.

    Registered as a `Trainer` with name "strict_gradient_descent".

    # Parameters

    See `GradientDescentTrainer.from_partial_objects`.

    Raises `ConfigurationError`, which names them, for unknown options.
    """

    @classmethod
    @_with_named_options_only
    @overrides
    def from_partial_objects(cls, *objects: Any, **options: Any) -> Trainer:
        """Build the trainer from a config's `trainer` section. For the arguments, see `GradientDescentTrainer`."""
        return super().from_partial_objects(*objects, **options)

    @overrides
    def _try_train(self) -> tuple[dict[str, Any], int]:
        if self._start_after_epochs_completed or self._start_after_batches_in_epoch_completed:
            for callback in self._callbacks:
                if isinstance(callback, ConfidenceChecksCallback) and self._primary:
                    # AllenNLP removes these in the first batch of all, which a recovered run skips.
                    callback._verification.destroy_hooks()
        return super()._try_train()

    @overrides
    def _train_epoch(self, epoch: int) -> dict[str, float]:
        metrics = super()._train_epoch(epoch)
        skipped, batches = self._start_after_batches_in_epoch_completed, self._batches_in_epoch_completed
        if epoch == self._start_after_epochs_completed and 0 < skipped < batches:
            # AllenNLP divides the losses by all batches, although those before the checkpoint add nothing to them.
            for name in {"loss", "reg_loss"} & set(metrics):
                metrics[name] *= batches / (batches - skipped)
        return metrics

    @overrides
    def train(self) -> dict[str, Any]:
        try:
            with cached_evaluation(self._pytorch_model):
                return super().train()
        except (KeyboardInterrupt, OSError, RuntimeError, MemoryError):
            if self._primary:
                logger.error(self._advice())
            raise

    def _advice(self) -> str:
        epoch, batch = self._epochs_completed, self._batches_in_epoch_completed
        stopped = f"Training stopped in epoch {epoch} after {batch} batches."
        checkpoint = self._checkpointer and self._checkpointer.find_latest_checkpoint()
        if not checkpoint:
            return (
                f"{stopped} No checkpoint was written yet: run the same command with --force to start again."
            )
        return f"{stopped} To continue from the last checkpoint ({checkpoint[0]}), run the same command with --recover."
