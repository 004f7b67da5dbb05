"""Configs of models whose language models have changed since training, and of models that are trained further."""

import copy
from typing import Any

from allennlp.common.checks import ConfigurationError

from ldnet_allennlp.common.archives import find_sections
from ldnet_allennlp.modules.embedders.ldnet_embedder import LdnetEmbedder

Config = dict[str, Any]
SELECTION_OPTIONS = ("lambda_0", "lambda_1", "max_layers", "max_multiply_adds", "over_budget_weight")


def described_config(config: Config, embedders: list[LdnetEmbedder]) -> Config:
    """
    The config of a model whose weights are in its archive, with the current language models of `embedders` (all of the
    model, in the order of its modules), and without layer selection in them. `config` is not changed.

    Raises `ConfigurationError` if the number of "ldnet" sections in the config differs.
    """
    config = copy.deepcopy(config)
    sections = list(find_sections(config["model"], "ldnet"))
    if len(sections) != len(embedders):
        raise ConfigurationError(
            f"The model has {len(embedders)} ldnet token embedders, but its config has {len(sections)}. The config of "
            f"a model trained with from_archive does not describe it: use the archive that it was loaded from."
        )
    for section, embedder in zip(sections, embedders):
        section.update(embedder.describe())
        # The cache is on the machine that trained it.
        for option in ("cache", "cache_dtype", *SELECTION_OPTIONS):
            section.pop(option, None)
    config["model"].pop("initializer", None)
    return config


def pruned_config(config: Config, embedders: list[LdnetEmbedder]) -> Config:
    """The config of a pruned model: `described_config` without layer selection in its training."""
    config = described_config(config, embedders)
    if (regularizer := config["model"].get("regularizer")) is not None:
        regularizer["regexes"] = [
            pair for pair in regularizer["regexes"] if not is_of_type(pair[1], "layer_selection")
        ]
    return {**config, "trainer": plain_trainer(config["trainer"])} if "trainer" in config else config


def plain_trainer(trainer: Config) -> Config:
    """A config's trainer without layer selection: no "proximal" optimizer and no callback."""
    trainer = dict(trainer)
    proximal = trainer.get("optimizer")
    if isinstance(proximal, dict) and proximal.get("type") == "proximal":
        inner = proximal["optimizer"]
        inner = {"type": inner} if isinstance(inner, str) else inner
        groups = proximal.get("parameter_groups")
        trainer["optimizer"] = {**inner, **({"parameter_groups": groups} if groups else {})}
    if "callbacks" in trainer:
        trainer["callbacks"] = without_selection(trainer["callbacks"])
    return trainer


def starting_from(config: Config, vocabulary: str, weights: str, names: str = ".*") -> Config:
    """
    A config whose training starts from a vocabulary (a directory) and a file of weights, see `save_start`: those whose
    names match `names`.
    """
    initializer = {"regexes": [[names, {"type": "pretrained", "weights_file_path": weights}]]}
    return {
        **config,
        "vocabulary": {"type": "from_files", "directory": vocabulary},
        "model": {**config["model"], "initializer": initializer},
    }


def without_selection(callbacks: list[Any] | None) -> list[Any]:
    """The callbacks of a trainer other than "layer_selection"."""
    return [callback for callback in callbacks or [] if not is_of_type(callback, "layer_selection")]


def is_of_type(section: Any, name: str) -> bool:
    """Return whether a config section, or a plain name, has a registered type."""
    return (section.get("type") if isinstance(section, dict) else section) == name
