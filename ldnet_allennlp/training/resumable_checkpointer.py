"""Checkpoints that resume a training run exactly."""

import logging
import os
import random
import zipfile
from typing import Any

import numpy
import torch
from allennlp.common.file_utils import hardlink_or_copy
from allennlp.nn.util import device_mapping
from allennlp.training import Checkpointer, Trainer
from allennlp.training.gradient_descent_trainer import GradientDescentTrainer
from allennlp.training.trainer import TrainerCheckpoint
from overrides import overrides

from ldnet_allennlp.common.files import atomic_path, save_tensors

logger = logging.getLogger(__name__)


@Checkpointer.register("lm_stream")  # its former name
@Checkpointer.register("resumable")
class ResumableCheckpointer(Checkpointer):
    """
    AllenNLP's `Checkpointer` for training runs that are killed and continued with `allennlp train --recover`: such a
    run ends with the same weights, bit for bit, as a run that was not interrupted (on the same machine).

    It also saves the random generators of Python, numpy and torch for each process, and, for a language model, the
    carried hidden states and the perplexity of the epoch so far.

    AllenNLP's trainer replays the training data loader up to the checkpoint. Its loaders shuffle with Python's
    generator, so that generator follows the loader: it starts the replay from the state at the start of the training,
    and each validation restores its state after the last training batch. The generators of numpy and torch belong to
    the model and continue from the checkpoint.

    An incomplete checkpoint (after a kill or a full disk) is removed, and the previous one is used. If the epoch
    before the checkpoint is the best one, `best.th` is written again.

    Registered as a `Checkpointer` with name "resumable", and with its former name "lm_stream". It has the parameters of
    AllenNLP's: set `save_every_num_batches` (or `save_every_num_seconds` with one process) for checkpoints within an
    epoch. After a recovery within an epoch, the training metrics of a tagger, and its losses with the trainer
    "strict_gradient_descent", cover the rest of that epoch only.
    """

    def __init__(self, serialization_dir: str, **kwargs: Any) -> None:
        super().__init__(serialization_dir, **kwargs)
        self._python_at_start = random.getstate()
        self._python_after_batch: tuple[Any, ...] | None = None

    @overrides
    def maybe_save_checkpoint(
        self, trainer: Trainer, num_epochs_completed: int, num_batches_in_epoch_completed: int
    ) -> bool:
        if num_batches_in_epoch_completed:
            self._python_after_batch = random.getstate()
        elif self._python_after_batch is not None:  # after validation, which a replay skips
            random.setstate(self._python_after_batch)
        return super().maybe_save_checkpoint(trainer, num_epochs_completed, num_batches_in_epoch_completed)

    @overrides
    def save_checkpoint(self, trainer: Trainer) -> None:
        try:
            self._save(trainer)
        except (OSError, RuntimeError) as error:  # torch's for a full disk is a RuntimeError
            raise OSError(
                f"A checkpoint could not be written to '{self._serialization_dir}' (is the disk full?): {error}. When "
                f"there is room, `allennlp train` with --recover continues from the previous one."
            ) from error

    def _save(self, trainer: Trainer) -> None:
        assert isinstance(trainer, GradientDescentTrainer)
        if self._serialization_dir is not None:
            state: dict[str, Any] = {"random": _random_state(), "python_at_start": self._python_at_start}
            stream_state = getattr(trainer.model, "stream_state", None)
            if callable(stream_state):
                state["stream"] = stream_state()
            path = self._stream_state_path(trainer._epochs_completed, trainer._batches_in_epoch_completed)
            # Write this file before AllenNLP's: a checkpoint is complete once its model exists.
            with atomic_path(path) as beside:
                save_tensors(state, beside)
        super().save_checkpoint(trainer)
        if not self._is_primary:  # AllenNLP notes this on the primary process only
            self._last_save_num_epochs_completed = trainer._epochs_completed
            self._last_save_num_batches_in_epoch_completed = trainer._batches_in_epoch_completed

    @overrides
    def find_latest_checkpoint(self) -> tuple[str, str] | None:
        """The files of the model and the trainer in the newest complete checkpoint."""
        for point in sorted(self._find_all_checkpoints(), reverse=True):
            paths = self._model_state_path(*point), self._training_state_path(*point)
            # torch writes zip files, whose directory is at their end.
            if all(os.path.isfile(path) and zipfile.is_zipfile(path) for path in paths):
                return paths
            logger.warning("The checkpoint %s is incomplete and is ignored.", paths[0])
            if self._is_primary:
                # AllenNLP would not write the files again when the run reaches this point.
                self._remove_checkpoint(*point)
        return None

    @overrides
    def load_checkpoint(self) -> TrainerCheckpoint | None:
        self._python_at_start = random.getstate()
        checkpoint = super().load_checkpoint()
        if checkpoint is None:
            return None
        point = (
            checkpoint.trainer_state["epochs_completed"],
            checkpoint.trainer_state["batches_in_epoch_completed"],
        )
        is_best = checkpoint.trainer_state["metric_tracker"]["is_best_so_far"]
        if is_best and not (point[1] or self.state_is_sharded):
            # AllenNLP writes best.th, and stores its name, after the checkpoint: both may be missing or out of date.
            best = os.path.join(self._serialization_dir, "best.th")
            if self._is_primary and "moving_average" not in checkpoint.trainer_state:
                with atomic_path(best) as beside:
                    hardlink_or_copy(self._model_state_path(*point), beside)
            checkpoint.trainer_state["best_model_filename"] = best
        path = self._stream_state_path(*point)
        if not os.path.exists(path):
            logger.warning(
                "Found no %s (was this checkpoint written with another number of processes, or by another "
                "checkpointer?): hidden states and random numbers are reset.",
                path,
            )
            return checkpoint
        state = torch.load(path, map_location=device_mapping(-1))
        # Earlier versions did not save the start.
        self._python_at_start = state.get("python_at_start", state["random"]["python"])
        self._python_after_batch = state["random"]["python"]
        _set_random_state({**state["random"], "python": self._python_at_start})
        if "stream" in state:
            # torch hands the metadata to the model, which calls `load_stream_state`.
            metadata = checkpoint.model_state._metadata  # type: ignore[attr-defined]
            metadata[""] = {**metadata.get("", {}), "stream_state": state["stream"]}
        return checkpoint

    @overrides
    def _remove_checkpoint(self, epochs_completed: int, batches_in_epoch_completed: int) -> None:
        super()._remove_checkpoint(epochs_completed, batches_in_epoch_completed)
        prefix = f"stream_state_e{epochs_completed}_b{batches_in_epoch_completed}_w"
        for name in os.listdir(self._serialization_dir):
            if name.startswith(prefix):
                os.remove(os.path.join(self._serialization_dir, name))

    def _stream_state_path(self, epochs_completed: int, batches_in_epoch_completed: int) -> str:
        name = f"stream_state_e{epochs_completed}_b{batches_in_epoch_completed}_w{self._rank}.th"
        return os.path.join(self._serialization_dir, name)


def _random_state() -> dict[str, Any]:
    """The state without numpy arrays, which torch does not load as data."""
    numpy_state: Any = numpy.random.get_state()
    state = {
        "python": random.getstate(),
        "numpy": tuple(part.tolist() if isinstance(part, numpy.ndarray) else part for part in numpy_state),
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def _set_random_state(state: dict[str, Any]) -> None:
    random.setstate(state["python"])
    numpy.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
