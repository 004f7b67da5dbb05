"""One budget of `ldnet-sweep`: selection, pruning and scores, done once and then read again."""

import copy
import json
import os
from typing import Any, Dict, NamedTuple, Optional

from allennlp.commands.evaluate import evaluate_from_archive
from allennlp.commands.train import train_model
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError

from ldnet_allennlp.commands.archives import replacing
from ldnet_allennlp.commands.ldnet_prune import prune_archive

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


def make_point(folder: str, config: Dict[str, Any]) -> Dict[str, Any]:
    """
    Trains what a config describes, prunes it, and scores what is left; what is there already is not done again.

    # Parameters

    folder : `str`
        Gets the serialization directory of the training, and in `pruned/` the archive that is left. If a training
        there was interrupted it goes on.
    config : `Dict[str, Any]`
        A training with layer selection.

    # Returns

    `Dict[str, Any]`
        `archive`, the path of the pruned one, and `scores`, see `scores_of`.

    Raises `ConfigurationError` if no epoch came within the budget.
    """
    archive = os.path.join(folder, "pruned", "model.tar.gz")
    done = os.path.join(folder, POINT_FILE)
    if os.path.exists(done):
        with open(done, encoding="utf-8") as file:
            return {"archive": archive, "scores": json.load(file)["scores"]}
    gated = os.path.join(folder, "model.tar.gz")
    if not os.path.exists(gated):
        has_checkpoint = os.path.isdir(folder) and any(
            name.startswith("training_state_") for name in os.listdir(folder)
        )
        # A copy: reading a `Params` empties it.
        train_model(Params(copy.deepcopy(config)), folder, recover=has_checkpoint, force=not has_checkpoint)
    os.makedirs(os.path.dirname(archive), exist_ok=True)
    prune_archive(gated, archive, force=True)
    scores = scores_of(archive, config)
    with replacing(done) as path, open(path, "w", encoding="utf-8") as file:
        json.dump({"scores": scores}, file, indent=2)
    return {"archive": archive, "scores": scores}


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
