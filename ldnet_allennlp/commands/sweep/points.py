"""One budget of `ldnet-sweep`: selection, pruning and scores. Finished steps are not repeated."""

import copy
import gzip
import json
import os
import zlib
from contextlib import nullcontext
from typing import Any, NamedTuple

from allennlp.commands.train import train_model
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.data import DataLoader
from allennlp.evaluation import SimpleEvaluator
from allennlp.models.archival import Archive
from allennlp.models.model import Model

from ldnet_allennlp.commands.prune.pruning import prune_archive
from ldnet_allennlp.common.archives import read_archive
from ldnet_allennlp.common.files import atomic_path, atomic_write, save_tensors
from ldnet_allennlp.common.untrusted.config_types import restricted_types

POINT_FILE = "point.json"
Config = dict[str, Any]


class Budget(NamedTuple):
    """The budget of a point: one of the two."""

    layers: int | None = None
    multiply_adds: float | None = None

    @property
    def name(self) -> str:
        """The name of the point and of its directory."""
        if self.layers is not None:
            return f"layers-{self.layers}"
        return f"multiply-adds-{self.multiply_adds:.0f}"


def make_point(folder: str, config: Config, finetuning: Config | None = None) -> dict[str, Any]:
    """
    Train a tagger with layer selection in `folder`, prune it, train the pruned one with the trainer section
    `finetuning` if there is one, and scores the result. Finished steps are not repeated; an interrupted training
    continues.

    Returns `archive`, the path of the result, and `scores`, see `scores_of`. Raises `ConfigurationError` if no epoch
    meets the budget.
    """
    pruned = os.path.join(folder, "pruned", "model.tar.gz")
    tuned = os.path.join(folder, "finetuned")
    archive = pruned if finetuning is None else os.path.join(tuned, "model.tar.gz")
    done = os.path.join(folder, POINT_FILE)
    if os.path.exists(done):
        with open(done, encoding="utf-8") as file:
            return {"archive": archive, "scores": json.load(file)["scores"]}
    gated = train_once(folder, config)
    if not os.path.exists(pruned):
        os.makedirs(os.path.dirname(pruned), exist_ok=True)
        prune_archive(gated, pruned, trust=True)  # its config was checked
    if finetuning is not None:
        train_once(tuned, _finetuning_config(pruned, os.path.join(folder, "pruned"), finetuning))
    scores = scores_of(archive, config)
    with atomic_write(done) as file:
        json.dump({"scores": scores}, file, indent=2)
    return {"archive": archive, "scores": scores}


def train_once(folder: str, config: Config) -> str:
    """Train the model of a config, or continue an interrupted training. Returns the path of the archive."""
    archive = os.path.join(folder, "model.tar.gz")
    if not _is_whole(archive):
        has_checkpoint = os.path.isdir(folder) and any(
            name.startswith("training_state_") for name in os.listdir(folder)
        )
        # Copy it, because reading a `Params` empties it.
        train_model(Params(copy.deepcopy(config)), folder, recover=has_checkpoint, force=not has_checkpoint)
    return archive


def _is_whole(archive: str) -> bool:
    """Return whether an archive exists and is complete."""
    try:
        with gzip.open(archive) as file:
            while file.read(2**20):
                pass
    except (OSError, EOFError, zlib.error):
        return False
    return True


def _finetuning_config(pruned: str, folder: str, trainer: Config) -> Config:
    """The config that trains a pruned archive from its weights, which are saved in `folder`."""
    archive = read_archive(pruned, trust=True)
    vocabulary, weights = save_start(archive.model, folder)
    config = archive.config.as_dict(quiet=True)
    config["vocabulary"] = {"type": "from_files", "directory": vocabulary}
    config["model"]["initializer"] = {
        "regexes": [[".*", {"type": "pretrained", "weights_file_path": weights}]]
    }
    config["trainer"] = trainer
    return config


def save_start(model: Model, folder: str) -> tuple[str, str]:
    """
    Save a model's vocabulary and weights for a training to start from, unless they exist. Returns the paths.
    """
    vocabulary, weights = os.path.join(folder, "vocabulary"), os.path.join(folder, "weights.th")
    if not os.path.exists(weights):  # which is written last
        model.vocab.save_to_files(vocabulary)
        with atomic_path(weights) as path:
            save_tensors(model.state_dict(), path)
    return vocabulary, weights


def scores_of(archive: str, config: Config, trust: bool = True) -> dict[str, float]:
    """
    A model's scores by the validation metric of `config`: `dev` on the validation data, and `test` on the test data if
    `config` names them. For `trust` see `read_archive`.

    Raises `ConfigurationError` if the model does not have that metric.
    """
    metric = metric_of(config)
    loaded = read_archive(archive, trust)
    scores = {}
    for name, key in (("dev", "validation_data_path"), ("test", "test_data_path")):
        if config.get(key):
            metrics = _evaluate(loaded, config[key], trust)
            if metric not in metrics:
                raise ConfigurationError(
                    f"The trainer's validation_metric is {metric}, but '{archive}' is scored by {', '.join(metrics)}."
                )
            scores[name] = metrics[metric]
    return scores


def _evaluate(archive: Archive, path: str, trust: bool) -> dict[str, float]:
    """AllenNLP's evaluation for a loaded archive."""
    config = archive.config.duplicate()
    options = config.get("validation_data_loader") or config.get("data_loader")
    with nullcontext() if trust else restricted_types():
        loader = DataLoader.from_params(options, reader=archive.validation_dataset_reader, data_path=path)
    loader.index_with(archive.model.vocab)
    archive.model.eval()
    return SimpleEvaluator(cuda_device=-1)(archive.model, loader)


def metric_of(config: Config) -> str:
    """The validation metric of a config, without its sign."""
    metric = config["trainer"].get("validation_metric", "-loss")
    return (metric if isinstance(metric, str) else metric[0])[1:]
