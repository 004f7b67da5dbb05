"""Layer selection in whole trainings: accumulated, distributed and mixed-precision steps, logs, other models."""

import json
from typing import ClassVar

import pytest
import torch
from allennlp.commands.train import train_model
from allennlp.common import Params
from allennlp.models.archival import load_archive
from allennlp.training.callbacks import TrainerCallback
from allennlp.training.callbacks.log_writer import LogWriterCallback
from allennlp.training.optimizers import Optimizer

from ldnet_allennlp.commands.ldnet_prune import prune_archive
from ldnet_allennlp.modules.selection.gated_modules import selection_metrics
from ldnet_allennlp.modules.selection.layer_budget import selection_penalty
from ldnet_allennlp.training.layer_selection_callback import GATES_FILE
from tests.taggers import ldnet_embedder, tagger_params


def params_for(language_models, batch_size, **trainer):
    """In the order of the file and without dropout: what a step sees is known. The penalty has much to say."""
    overrides = {"data_loader": {"batch_size": batch_size, "shuffle": False}}
    overrides["trainer.callbacks"] = [{"type": "layer_selection", "max_layers": 8}]
    params = tagger_params(
        language_models, "select", overrides, num_epochs=4, learning_rate=0.05, dropout=0.0
    )
    for name, value in trainer.items():
        params["trainer"][name] = value
    return params


def gates_of_epochs(folder):
    records = [json.loads(line) for line in (folder / GATES_FILE).read_text().splitlines()]
    return [
        [gate for module in record["gates"].values() for part in module for gate in part]
        for record in records
    ]


@pytest.fixture(scope="module")
def plain(tmp_path_factory, language_models):
    """Steps of 8 sentences."""
    folder = tmp_path_factory.mktemp("plain") / "run"
    train_model(params_for(language_models, 8), str(folder))
    return folder


def assert_same(folder, plain, tolerance):
    expected = gates_of_epochs(plain)
    assert 0.0 in expected[-1] and any(0.0 < gate < 1.0 for gates in expected for gate in gates)
    for found, wanted in zip(gates_of_epochs(folder), expected):
        assert found == pytest.approx(wanted, abs=tolerance)


def test_accumulated_steps_are_one_step(tmp_path, language_models, plain):
    """Two batches of 4: the penalty counts once, and the gates are clamped once."""
    train_model(params_for(language_models, 4, num_gradient_accumulation_steps=2), str(tmp_path / "run"))
    assert_same(tmp_path / "run", plain, 1e-4)


def test_two_processes_are_one(tmp_path, language_models, plain):
    """Each with 4 of the 8 sentences. Their gates are the same, as each sees the same penalty and gradient."""
    params = params_for(language_models, 4)
    params["distributed"] = {"cuda_devices": [-1, -1]}
    train_model(params, str(tmp_path / "run"), include_package=["ldnet_allennlp"])
    assert_same(tmp_path / "run", plain, 1e-4)


@pytest.mark.skipif(not hasattr(torch.amp, "GradScaler"), reason="this torch scales gradients on GPUs only")
def test_a_step_that_overflowed_is_left_out_as_a_whole():
    """As GradScaler leaves it out: the gates stay, and the next step is the one that would have come."""

    def train(steps, scaled):
        gates = torch.nn.Parameter(torch.tensor([0.05, 0.5, 0.98]))
        inner = {"type": "sgd", "lr": 0.1, "momentum": 0.9}
        section = Params({"type": "proximal", "optimizer": inner})
        optimizer = Optimizer.from_params(section, model_parameters=[("gates", gates)])
        scaler = torch.amp.GradScaler("cpu", init_scale=256.0, growth_interval=1000, enabled=scaled)
        seen = []
        for slope in steps:
            optimizer.zero_grad()
            loss = (gates * torch.tensor(slope)).sum() + selection_penalty(gates, 0.3, 1)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            seen.append(gates.tolist())
        return seen

    first, overflow, last = [1.0, -0.5, -2.0], [float("inf"), 1.0, 1.0], [-1.0, 0.5, 0.3]
    seen = train([first, overflow, last], scaled=True)
    assert seen[1] == seen[0] and 0.0 in seen[0] and 1.0 in seen[0]
    expected = train([first, last], scaled=False)
    assert seen[0] == pytest.approx(expected[0]) and seen[2] == pytest.approx(expected[1])


@TrainerCallback.register("recording")
class Recording(LogWriterCallback):
    """Keeps what AllenNLP hands to TensorBoard and W&B."""

    scalars: ClassVar = {}

    def log_scalars(self, scalars, log_prefix="", epoch=None):
        for name, value in scalars.items():
            self.scalars.setdefault((log_prefix, name), []).append(value)

    def log_tensors(self, tensors, log_prefix="", epoch=None):
        pass


def test_the_log_writers_get_gates_and_costs(tmp_path, language_models):
    params = params_for(language_models, 8)
    params["trainer"]["callbacks"] = [{"type": "layer_selection", "max_layers": 8}, {"type": "recording"}]
    train_model(params, str(tmp_path / "run"))
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    for name in ("kept_layers", "kept_multiply_adds", "_gates/forward_1", "_gates/backward_4", "reg_loss"):
        assert Recording.scalars["train", name][-1] == metrics[f"training_{name}"]
    gates = [metrics[f"training__gates/{way}_{n}"] for way in ("forward", "backward") for n in range(1, 5)]
    assert gates == pytest.approx(gates_of_epochs(tmp_path / "run")[metrics["epoch"]])


def test_an_upstream_model_selects_with_the_regularizer(tmp_path, language_models):
    """`crf_tagger`, which knows nothing of gates: one layer of each direction may be left."""
    params = params_for(language_models, 8, num_epochs=10)
    model = params["model"]
    model["type"] = "crf_tagger"
    model["text_field_embedder"]["token_embedders"]["ldnet"]["lambda_0"] = 0.0
    penalty = {"type": "layer_selection", "lambda_0": 3.0, "lambda_1": 1}
    model["regularizer"] = {"regexes": [["gates$", penalty]]}
    params["trainer"]["callbacks"] = [{"type": "layer_selection", "max_layers": 2}]
    train_model(params, str(tmp_path / "run"))
    archive = str(tmp_path / "run" / "model.tar.gz")
    assert selection_metrics(load_archive(archive).model)["kept_layers"] <= 2
    prune_archive(archive, str(tmp_path / "pruned.tar.gz"))
    pruned = load_archive(str(tmp_path / "pruned.tar.gz"))
    assert ldnet_embedder(pruned.model).lambda_0 is None
    assert pruned.config["model"]["regularizer"].as_dict() == {"regexes": []}
