"""The trainer whose options are checked: AllenNLP's in all else."""

import inspect

import pytest
import torch
from allennlp.commands.train import train_model
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.training.gradient_descent_trainer import GradientDescentTrainer

from ldnet_allennlp.training.strict_trainer import StrictTrainer
from tests.bad_days.configs import tagger_config


def trained(folder, **trainer):
    config = tagger_config()
    config["trainer"].update(trainer)
    return train_model(Params(config), str(folder)).state_dict()


def test_it_trains_as_allennlp_s(tmp_path):
    options = {
        "grad_norm": 1.0,
        "callbacks": ["track_epoch_callback"],
        "moving_average": {"type": "exponential"},
    }
    ours = trained(tmp_path / "ours", **options)
    theirs = trained(tmp_path / "theirs", type="gradient_descent", **options)
    assert set(ours) == set(theirs) and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_unknown_options_are_named(tmp_path):
    """AllenNLP's own trainer takes no notice of them."""
    misspelt = {"num_epoch": 1, "patients": 2}
    with pytest.raises(ConfigurationError, match=r"StrictTrainer: \{'num_epoch': 1, 'patients': 2\}"):
        trained(tmp_path / "ours", **misspelt)
    trained(tmp_path / "theirs", type="gradient_descent", **misspelt)


def test_it_has_all_options_of_allennlp_s():
    ours, theirs = (
        inspect.signature(trainer.from_partial_objects).parameters
        for trainer in (StrictTrainer, GradientDescentTrainer)
    )
    assert dict(ours) == {name: option for name, option in theirs.items() if name != "kwargs"}
