import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.training.learning_rate_schedulers import LearningRateScheduler

import ldnet_allennlp.training.inverse_time  # noqa: F401


def test_follows_the_formula():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.015)
    scheduler = LearningRateScheduler.from_params(
        Params({"type": "inverse_time", "decay": 0.05}), optimizer=optimizer
    )
    for epochs_done in range(1, 6):
        scheduler.step()
        assert optimizer.param_groups[0]["lr"] == pytest.approx(0.015 / (1 + epochs_done * 0.05))


def test_continues_from_a_checkpoint():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    first = LearningRateScheduler.from_params(Params({"type": "inverse_time"}), optimizer=optimizer)
    first.step()
    second = LearningRateScheduler.from_params(Params({"type": "inverse_time"}), optimizer=optimizer)
    second.load_state_dict(first.state_dict())
    second.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(1 / 1.1)


def test_negative_decay_is_an_error():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    with pytest.raises(ConfigurationError, match=r"is -1(\.0)?; expected 0"):
        LearningRateScheduler.from_params(Params({"type": "inverse_time", "decay": -1}), optimizer=optimizer)
