"""One budget of `ldnet-sweep`: selection, pruning and scores. Finished steps are not repeated."""

import copy
import gzip
import json
import os
import zlib
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from allennlp.commands.train import train_model
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.data import DataLoader
from allennlp.evaluation import SimpleEvaluator
from allennlp.models.archival import Archive
from allennlp.models.model import Model

from ldnet_allennlp.commands.ldnet_prune import prune_archive
from ldnet_allennlp.commands.model_configs import Config, starting_from
from ldnet_allennlp.common.archives import read_archive
from ldnet_allennlp.common.files import atomic_path, atomic_write, save_tensors
from ldnet_allennlp.common.untrusted.config_types import restricted_types

POINT_FILE = "point.json"
LANGUAGE_MODELS = r"\.language_models\."


def once(path: str, make: Callable[[], Any]) -> Any:
    """The content of a JSON file, which is made if it does not exist."""
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    content = make()
    with atomic_write(path) as file:
        json.dump(content, file, indent=2)
    return content


def make_point(folder: str, config: Config, retraining: Config | None = None) -> dict[str, Any]:
    """
    Train a tagger with layer selection in `folder`, prune it, train a new tagger on its pruned language models with the
    trainer section `retraining` if there is one, and score the result. Finished steps are not repeated; an interrupted
    training continues.

    Returns `archive`, the path of the result, and `scores`, see `scores_of`. Raises `ConfigurationError` if no epoch
    meets the budget.
    """
    pruned = os.path.join(folder, "pruned", "model.tar.gz")
    retrained = os.path.join(folder, "retrained")
    archive = pruned if retraining is None else os.path.join(retrained, "model.tar.gz")

    def make() -> dict[str, Any]:
        gated = train_once(folder, config)
        if not os.path.exists(pruned):
            prune_archive(gated, pruned, trust=True)  # its config was checked
        if retraining is not None:
            source = read_archive(pruned, trust=True)
            start = save_start(source.model, os.path.dirname(pruned))
            new_tagger = starting_from(source.config.as_dict(quiet=True), *start, names=LANGUAGE_MODELS)
            train_once(retrained, {**new_tagger, "trainer": retraining})
        return {"scores": scores_of(archive, config)}

    return {"archive": archive, **once(os.path.join(folder, POINT_FILE), make)}


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


def start_of(folder: str) -> tuple[str, str]:
    """Where `save_start` saves a vocabulary (a directory) and weights (a file)."""
    return os.path.join(folder, "vocabulary"), os.path.join(folder, "weights.th")


def save_start(model: Model, folder: str) -> tuple[str, str]:
    """Save a model's vocabulary and weights for a training to start from, unless they exist. Returns the paths."""
    vocabulary, weights = start_of(folder)
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
