"""One budget of `ldnet-sweep`: selection, pruning and scores, done once and then read again."""

import copy
import gzip
import json
import os
import zlib
from typing import Any, Dict, NamedTuple, Optional, Tuple

from allennlp.commands.evaluate import evaluate_from_archive
from allennlp.commands.train import train_model
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.models.model import Model

from ldnet_allennlp.commands.ldnet_prune import prune_archive
from ldnet_allennlp.common.archives import read_archive, replacing
from ldnet_allennlp.common.atomic import save

POINT_FILE = "point.json"


class Budget(NamedTuple):
    """What is left at a point: one of the two is given."""

    layers: Optional[int] = None
    multiply_adds: Optional[float] = None

    @property
    def name(self) -> str:
        """The name of the point, which is that of its directory, too."""
        if self.layers is not None:
            return f"layers-{self.layers}"
        return f"multiply-adds-{self.multiply_adds:.0f}"


def make_point(
    folder: str, config: Dict[str, Any], finetuning: Optional[Dict[str, Any]] = None
) -> Dict[str, Any]:
    """
    Trains what a config describes, prunes it, trains on what is left, and scores that; what is there already is not
    done again.

    # Parameters

    folder : `str`
        Gets the serialization directory of the training, and in `pruned/` the archive that is left. If a training
        there was interrupted it goes on.
    config : `Dict[str, Any]`
        A training with layer selection.
    finetuning : `Dict[str, Any]`, optional
        The trainer's section of a training of the pruned tagger, in `finetuned/`. By default there is none.

    # Returns

    `Dict[str, Any]`
        `archive`, the path of the last one, and `scores`, see `scores_of`.

    Raises `ConfigurationError` if no epoch came within the budget.
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
        prune_archive(gated, pruned)
    if finetuning is not None:
        train_once(tuned, _finetuning_config(pruned, os.path.join(folder, "pruned"), finetuning))
    scores = scores_of(archive, config)
    with replacing(done) as path, open(path, "w", encoding="utf-8") as file:
        json.dump({"scores": scores}, file, indent=2)
    return {"archive": archive, "scores": scores}


def train_once(folder: str, config: Dict[str, Any]) -> str:
    """
    Trains what a config describes, unless that is done, and gives the archive. A training that was interrupted goes on.
    """
    archive = os.path.join(folder, "model.tar.gz")
    if not _is_whole(archive):
        has_checkpoint = os.path.isdir(folder) and any(
            name.startswith("training_state_") for name in os.listdir(folder)
        )
        # A copy: reading a `Params` empties it.
        train_model(Params(copy.deepcopy(config)), folder, recover=has_checkpoint, force=not has_checkpoint)
    return archive


def _is_whole(archive: str) -> bool:
    """Whether an archive is there, and was not being written when a run was killed."""
    try:
        with gzip.open(archive) as file:
            while file.read(2**20):
                pass
    except (OSError, EOFError, zlib.error):
        return False
    return True


def _finetuning_config(pruned: str, folder: str, trainer: Dict[str, Any]) -> Dict[str, Any]:
    """The config of a pruned archive that starts from its weights, which are laid out in `folder`."""
    archive = read_archive(pruned)
    vocabulary, weights = save_start(archive.model, folder)
    config = archive.config.as_dict(quiet=True)
    config["vocabulary"] = {"type": "from_files", "directory": vocabulary}
    config["model"]["initializer"] = {
        "regexes": [[".*", {"type": "pretrained", "weights_file_path": weights}]]
    }
    config["trainer"] = trainer
    return config


def save_start(model: Model, folder: str) -> Tuple[str, str]:
    """
    Saves a model's vocabulary and weights, from which a training starts, unless they are there. Gives the paths.
    """
    vocabulary, weights = os.path.join(folder, "vocabulary"), os.path.join(folder, "weights.th")
    if not os.path.exists(weights):  # which is written last
        model.vocab.save_to_files(vocabulary)
        with replacing(weights) as path:
            save(model.state_dict(), path)
    return vocabulary, weights


def scores_of(archive: str, config: Dict[str, Any]) -> Dict[str, float]:
    """
    A model's scores (the metric by which its trainer chooses epochs) on the validation data, as `dev`, and on the test
    data, as `test`, if the config names them.
    """
    metric = metric_of(config)
    scores = {}
    for name, key in (("dev", "validation_data_path"), ("test", "test_data_path")):
        if config.get(key):
            found = evaluate_from_archive(archive, config[key])
            if metric not in found:
                raise ConfigurationError(
                    f"The trainer's validation_metric is {metric}, but '{archive}' is scored by {', '.join(found)}."
                )
            scores[name] = found[metric]
    return scores


def metric_of(config: Dict[str, Any]) -> str:
    """The metric by which a config chooses epochs, without its sign."""
    metric = config["trainer"].get("validation_metric", "-loss")
    return (metric if isinstance(metric, str) else metric[0])[1:]
