"""Checkpoints of the random generators; `bad_days/interruptions_test.py` kills and recovers whole trainings."""

import random
from types import SimpleNamespace

import numpy
import pytest
import torch
from allennlp.training import Checkpointer
from allennlp.training.gradient_descent_trainer import GradientDescentTrainer
from allennlp.training.trainer import TrainerCheckpoint

from ldnet_allennlp.training.resumable_checkpointer import ResumableCheckpointer


class Trainer(GradientDescentTrainer):
    """The parts of a trainer that a checkpointer reads."""

    def __init__(self):
        self.model = torch.nn.BatchNorm1d(1)  # whose construction draws no numbers
        self._epochs_completed = self._batches_in_epoch_completed = 0
        self.is_best_so_far = False

    def get_checkpoint_state(self):
        state = {
            "epochs_completed": self._epochs_completed,
            "batches_in_epoch_completed": self._batches_in_epoch_completed,
            "metric_tracker": {"is_best_so_far": self.is_best_so_far},
            "best_model_filename": None,
        }
        return TrainerCheckpoint(self.model.state_dict(), state)


def train(checkpointer, epochs, batches=3, start=(0, 0), validate=True):
    """
    As AllenNLP's trainer, which replays the loader from the start: the loader draws from Python's generator, the model
    from torch's and numpy's, and validation from Python's.
    """
    trainer, history = Trainer(), []
    for epoch in range(epochs):
        order = random.sample(range(100), batches)
        for batch in range(1, batches + 1):
            if (epoch, batch) <= (start[0], start[1]) or epoch < start[0]:
                continue
            history.append((epoch, order[batch - 1], torch.rand(1).item(), numpy.random.rand()))
            trainer._epochs_completed, trainer._batches_in_epoch_completed = epoch, batch
            checkpointer.maybe_save_checkpoint(trainer, epoch, batch)
        if epoch < start[0]:
            continue
        if validate:
            random.random()
        trainer._epochs_completed, trainer._batches_in_epoch_completed = epoch + 1, 0
        checkpointer.maybe_save_checkpoint(trainer, epoch + 1, 0)
    return history


def seed():
    random.seed(1)
    numpy.random.seed(2)
    torch.manual_seed(3)


def test_both_names():
    assert Checkpointer.by_name("resumable") is Checkpointer.by_name("lm_stream") is ResumableCheckpointer


@pytest.mark.parametrize("stop", [(1, 0), (1, 2), (2, 3), (3, 0)])
def test_a_recovered_run_draws_the_same_numbers(tmp_path, stop):
    seed()
    checkpointer = ResumableCheckpointer(
        str(tmp_path), save_every_num_batches=1, keep_most_recent_by_count=None
    )
    assert checkpointer.load_checkpoint() is None
    whole = train(checkpointer, 5)
    for epoch in range(6):
        for batch in range(4):
            if (epoch, batch) > stop:
                checkpointer._remove_checkpoint(epoch, batch)
    for number in range(2):  # a process with the same seed, or with another
        seed() if number == 0 else random.seed(99)
        again = ResumableCheckpointer(str(tmp_path))
        state = again.load_checkpoint().trainer_state
        start = state["epochs_completed"], state["batches_in_epoch_completed"]
        assert start == stop
        assert (
            train(SimpleNamespace(maybe_save_checkpoint=restore_only(again)), 5, start=start)
            == (whole[3 * stop[0] + stop[1] :])
        )


def restore_only(checkpointer):
    """`maybe_save_checkpoint` without files."""
    checkpointer.save_checkpoint = lambda trainer: None
    return checkpointer.maybe_save_checkpoint


def test_the_order_of_batches_does_not_depend_on_validation(tmp_path):
    orders = []
    for validate in (True, False):
        seed()
        checkpointer = ResumableCheckpointer(str(tmp_path / str(validate)))
        (tmp_path / str(validate)).mkdir()
        checkpointer.load_checkpoint()
        orders.append([order for _, order, *_ in train(checkpointer, 4, validate=validate)])
    assert orders[0] == orders[1]


def test_a_checkpoint_of_an_earlier_version_loads(tmp_path):
    """Its file has no generator of the start."""
    seed()
    checkpointer = ResumableCheckpointer(str(tmp_path))
    train(checkpointer, 1)
    path = tmp_path / "stream_state_e1_b0_w0.th"
    state = torch.load(path)
    del state["python_at_start"]
    torch.save(state, path)
    assert ResumableCheckpointer(str(tmp_path)).load_checkpoint() is not None
    assert random.getstate() == state["random"]["python"]


@pytest.mark.parametrize(
    "batches, is_best, is_written", [(0, True, True), (2, True, False), (0, False, False)]
)
def test_the_best_epoch_is_kept_as_best(tmp_path, batches, is_best, is_written):
    """A kill between a checkpoint and its copy leaves an older best.th, or none."""
    best = tmp_path / "best.th"
    best.write_text("of an earlier epoch")
    trainer = Trainer()
    trainer._epochs_completed, trainer._batches_in_epoch_completed = 2, batches
    trainer.is_best_so_far = is_best
    ResumableCheckpointer(str(tmp_path)).save_checkpoint(trainer)
    state = ResumableCheckpointer(str(tmp_path)).load_checkpoint().trainer_state
    assert state["best_model_filename"] == (str(best) if is_written else None)
    model = (tmp_path / f"model_state_e2_b{batches}.th").read_bytes()
    assert best.read_bytes() == (model if is_written else b"of an earlier epoch")
