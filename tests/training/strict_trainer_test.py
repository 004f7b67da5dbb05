"""The trainer that checks its options."""

import json
import re
from typing import ClassVar

import pytest
import torch
from allennlp.commands.train import train_model
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.training.callbacks import TrainerCallback

import ldnet_allennlp  # noqa: F401
from tests.bad_days.configs import tagger_config


def trained(folder, recover=False, **trainer):
    config = tagger_config()
    config["trainer"].update(trainer)
    return train_model(Params(config), str(folder), recover=recover).state_dict()


def test_it_trains_as_allennlp_s(tmp_path):
    options = {
        "patience": 3,
        "validation_metric": "-loss",
        "num_epochs": 3,
        "grad_norm": 1.0,
        "grad_clipping": 0.5,
        "num_gradient_accumulation_steps": 2,
        "learning_rate_scheduler": {"type": "inverse_time", "decay": 0.5},
        "callbacks": ["track_epoch_callback"],
        "moving_average": {"type": "exponential"},
        "no_grad": [".*bias.*"],
        "run_confidence_checks": False,
        "enable_default_callbacks": False,
    }
    ours = trained(tmp_path / "ours", **options)
    theirs = trained(tmp_path / "theirs", type="gradient_descent", **options)
    assert set(ours) == set(theirs) and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_unknown_options_are_named(tmp_path):
    """AllenNLP's own trainer ignores them."""
    misspelt = {"num_epoch": 1, "patients": 2}
    with pytest.raises(ConfigurationError, match=r"StrictTrainer: \{'num_epoch': 1, 'patients': 2\}"):
        trained(tmp_path / "ours", **misspelt)
    trained(tmp_path / "theirs", type="gradient_descent", **misspelt)


@TrainerCallback.register("interrupt_in_this_test")
class Interrupt(TrainerCallback):
    """As Ctrl-C in the second epoch, or as a device without memory."""

    error: type = KeyboardInterrupt
    epoch = 1
    losses: ClassVar[list] = []
    hooks: ClassVar[list] = []

    def on_batch(self, trainer, inputs, outputs, metrics, epoch, batch_number, is_training, **kwargs):
        if is_training and epoch == 1:
            self.hooks.append(sum(len(module._forward_hooks) for module in trainer.model.modules()))
            self.losses.append(outputs[0]["loss"].item())
        if is_training and (epoch, batch_number) == (self.epoch, 2):
            raise self.error()


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize(
    "epoch, advice",
    [
        (
            1,
            r"stopped in epoch 1 after 2 batches\. To continue .*model_state_e1_b0\.th.* with --recover",
        ),
        (0, r"stopped in epoch 0 after 2 batches\. No checkpoint .* with --force"),
    ],
)
def test_an_interrupted_run_says_how_to_continue(tmp_path, capfd, monkeypatch, error, epoch, advice):
    monkeypatch.setattr(Interrupt, "error", error)
    monkeypatch.setattr(Interrupt, "epoch", epoch)
    with pytest.raises(error):
        trained(tmp_path / "out", callbacks=["interrupt_in_this_test"], num_epochs=3)
    assert len(re.findall(advice, capfd.readouterr().err)) == 1


def test_losses_of_a_recovered_epoch_are_means_over_its_rest(tmp_path, monkeypatch):
    options = {
        "callbacks": ["interrupt_in_this_test"],
        "checkpointer": {"type": "resumable", "save_every_num_batches": 1},
    }
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "out", **options)
    monkeypatch.setattr(Interrupt, "epoch", -1)
    monkeypatch.setattr(Interrupt, "losses", [])
    monkeypatch.setattr(Interrupt, "hooks", [])
    trained(tmp_path / "out", recover=True, **options)
    metrics = json.loads((tmp_path / "out" / "metrics_epoch_1.json").read_text())
    assert len(Interrupt.losses) == 2  # of three batches
    assert Interrupt.hooks == [0, 0]  # AllenNLP's confidence checks are over
    assert metrics["training_loss"] == pytest.approx(sum(Interrupt.losses) / 2)
