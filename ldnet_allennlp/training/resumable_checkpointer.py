"""Checkpoints from which the training of a language model goes on as if it had never stopped."""

import logging
import os
import random
import zipfile
from typing import Any, Dict, Optional, Tuple

import numpy
import torch
from allennlp.nn.util import device_mapping
from allennlp.training import Checkpointer, Trainer
from allennlp.training.gradient_descent_trainer import GradientDescentTrainer
from allennlp.training.trainer import TrainerCheckpoint
from overrides import overrides

from ldnet_allennlp.common.atomic import save

logger = logging.getLogger(__name__)


@Checkpointer.register("lm_stream")
class StreamCheckpointer(Checkpointer):
    """
    AllenNLP's `Checkpointer`, which also saves, for each process of the training, what `allennlp train --recover`
    would otherwise start anew: the hidden states that a language model carries from window to window, the
    perplexity of the epoch so far, and the random generators of Python, numpy and torch. A run that was killed in
    the middle of an epoch and recovered ends with the weights of one that was not (on one machine, with the
    "lm_stream" data loader, which needs no random numbers but its own).

    A checkpoint that was being written when the run was killed is passed over, and removed, in favour of the one
    before it.

    It serves for taggers as well: AllenNLP's own cannot recover from a checkpoint that was not written to its end.

    Registered as a `Checkpointer` with name "lm_stream". Its parameters are those of AllenNLP's: set
    `save_every_num_batches` (or `save_every_num_seconds` with one process) for checkpoints within an epoch.
    """

    @overrides
    def save_checkpoint(self, trainer: Trainer) -> None:
        try:
            self._save(trainer)
        except (OSError, RuntimeError) as error:  # torch's for a full disk is a RuntimeError
            raise OSError(
                f"A checkpoint could not be written to '{self._serialization_dir}' (is the disk full?): {error}. When "
                f"there is room, `allennlp train` with --recover goes on from the one before."
            ) from error

    def _save(self, trainer: Trainer) -> None:
        assert isinstance(trainer, GradientDescentTrainer)
        if self._serialization_dir is not None:
            state: Dict[str, Any] = {"random": _random_state()}
            stream_state = getattr(trainer.model, "stream_state", None)
            if callable(stream_state):
                state["stream"] = stream_state()
            path = self._stream_state_path(trainer._epochs_completed, trainer._batches_in_epoch_completed)
            # First this file, then AllenNLP's: a checkpoint counts when its model is there.
            save(state, path + ".tmp")
            os.replace(path + ".tmp", path)
        super().save_checkpoint(trainer)
        if not self._is_primary:  # AllenNLP notes this on the primary process only
            self._last_save_num_epochs_completed = trainer._epochs_completed
            self._last_save_num_batches_in_epoch_completed = trainer._batches_in_epoch_completed

    @overrides
    def find_latest_checkpoint(self) -> Optional[Tuple[str, str]]:
        """The model's and the trainer's file of the newest checkpoint that is whole."""
        for point in sorted(self._find_all_checkpoints(), reverse=True):
            paths = self._model_state_path(*point), self._training_state_path(*point)
            if all(_is_whole(path) for path in paths):
                return paths
            logger.warning("The checkpoint %s was not written to its end: it is passed over.", paths[0])
            if self._is_primary:
                # AllenNLP would take the files for written when the run reaches this point again.
                self._remove_checkpoint(*point)
        return None

    @overrides
    def load_checkpoint(self) -> Optional[TrainerCheckpoint]:
        checkpoint = super().load_checkpoint()
        if checkpoint is None:
            return None
        point = (
            checkpoint.trainer_state["epochs_completed"],
            checkpoint.trainer_state["batches_in_epoch_completed"],
        )
        path = self._stream_state_path(*point)
        if not os.path.exists(path):
            logger.warning(
                "There is no %s (was this checkpoint made with another number of processes, or by another "
                "checkpointer?): hidden states and random numbers start anew.",
                path,
            )
            return checkpoint
        state = torch.load(path, map_location=device_mapping(-1))
        _set_random_state(state["random"])
        if "stream" in state:
            # `AdaptiveLanguageModel` takes it out when it loads the weights.
            checkpoint.model_state["stream_state"] = state["stream"]
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


def _is_whole(path: str) -> bool:
    # torch writes zip files, whose directory stands at their end.
    return os.path.isfile(path) and zipfile.is_zipfile(path)


def _random_state() -> Dict[str, Any]:
    """Without numpy's arrays, which torch loads only where it would execute what is in a file."""
    numpy_state: Any = numpy.random.get_state()
    state = {
        "python": random.getstate(),
        "numpy": tuple(part.tolist() if isinstance(part, numpy.ndarray) else part for part in numpy_state),
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def _set_random_state(state: Dict[str, Any]) -> None:
    random.setstate(state["python"])
    numpy.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
