import json

import pytest
import torch
from allennlp.commands.train import train_model
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.training.learning_rate_schedulers import LearningRateScheduler
from allennlp.training.optimizers import Optimizer

from ldnet_allennlp.training.training_plateau import TrainingPlateau
from tests.resources import FIXTURES
from tests.training.lazy_adam_test import Toy


class FakeTrainer:
    def __init__(self, scheduler=None):
        parameters = list(Toy().named_parameters())
        self.optimizer = Optimizer.from_params(
            Params({"type": "sgd", "lr": 1.0}), model_parameters=parameters
        )
        self._learning_rate_scheduler = scheduler and LearningRateScheduler.from_params(
            Params(scheduler), optimizer=self.optimizer, num_epochs=10, num_steps_per_epoch=1
        )


def rates(callback, perplexities, trainer):
    found = []
    for epoch, perplexity in enumerate(perplexities):
        if trainer._learning_rate_scheduler is not None:
            trainer._learning_rate_scheduler.step()
        callback.on_epoch(trainer, {"training_perplexity": perplexity}, epoch)
        found.append(trainer.optimizer.param_groups[0]["lr"])
    return found


class TestTrainingPlateau:
    @pytest.mark.parametrize(
        "options, expected",
        [
            ({}, [1, 1, 0.1, 0.1, 0.1, 0.01]),
            ({"patience": 1}, [1, 1, 1, 0.1, 0.1, 0.1]),
            ({"factor": 0.5, "min_lr": 0.4}, [1, 1, 0.5, 0.5, 0.5, 0.4]),
        ],
    )
    def test_falls_when_the_perplexity_does_not(self, options, expected):
        callback = TrainingPlateau("", **options)
        assert rates(callback, [9, 8, 8, 8.5, 7, 7.5], FakeTrainer()) == pytest.approx(expected)

    def test_a_schedule_goes_on_from_the_lower_rate(self):
        trainer = FakeTrainer({"type": "step", "step_size": 2, "gamma": 0.5})
        assert rates(TrainingPlateau(""), [9, 9, 8, 7], trainer) == pytest.approx([1, 0.05, 0.05, 0.025])
        trainer = FakeTrainer(
            {"type": "linear_with_warmup", "warmup_steps": 0, "num_epochs": 10, "num_steps_per_epoch": 1}
        )
        rates(TrainingPlateau(""), [9, 9], trainer)
        assert trainer._learning_rate_scheduler.base_values == [0.1]

    def test_goes_on_from_a_saved_state(self):
        first, second = TrainingPlateau("", patience=1), TrainingPlateau("", patience=1)
        rates(first, [9, 9], FakeTrainer())
        second.load_state_dict(first.state_dict())
        assert rates(second, [9.5], FakeTrainer()) == pytest.approx([0.1])

    def test_in_a_training(self, tmp_path):
        params = Params.from_file(str(FIXTURES / "lm" / "stream_forward.jsonnet"))
        params["train_data_path"] = str(FIXTURES / "lm" / "train.txt")
        params["validation_data_path"] = str(FIXTURES / "lm" / "valid.txt")
        # Nothing is learnt, so the perplexity does not fall.
        params["trainer"]["optimizer"] = {"type": "sgd", "lr": 1e-30}
        params["trainer"]["callbacks"] = ["training_plateau", "track_epoch_callback"]
        params["trainer"]["num_epochs"] = 3
        train_model(params, str(tmp_path / "run"))
        state = torch.load(str(tmp_path / "run" / "training_state_e3_b0.th"))
        assert state["optimizer"]["param_groups"][0]["lr"] == pytest.approx(1e-32)
        assert json.loads((tmp_path / "run" / "metrics.json").read_text())["epoch"] == 2

    def test_errors(self):
        for options in ({"factor": 1.0}, {"factor": 0.0}, {"patience": -1}):
            with pytest.raises(
                ConfigurationError, match="a factor between 0 and 1 and a patience of at least 0"
            ):
                TrainingPlateau("", **options)
        with pytest.raises(
            ConfigurationError, match=r"'bleu', which the model lacks; it has training_perplexity"
        ):
            rates(TrainingPlateau("", metric="bleu"), [1.0], FakeTrainer())
