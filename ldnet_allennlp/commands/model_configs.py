"""Configs of models whose language models have changed since training."""

import copy
from typing import Any, cast

from allennlp.common.checks import ConfigurationError

from ldnet_allennlp.common.archives import find_sections
from ldnet_allennlp.modules.embedders.frozen_language_model import FrozenLanguageModel
from ldnet_allennlp.modules.embedders.ldnet_embedder import LdnetEmbedder

Config = dict[str, Any]


def frozen_models(embedder: LdnetEmbedder) -> list[FrozenLanguageModel]:
    """The language models of an embedder."""
    return [cast(FrozenLanguageModel, model) for model in embedder.language_models.values()]


def described_config(config: Config, embedders: list[LdnetEmbedder]) -> Config:
    """
    The config of a model whose weights are in its archive, with the current language models of `embedders` (all of the
    model, in the order of its modules). `config` is not changed.

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
        for option in ("cache", "cache_dtype"):  # a directory of the machine that trained it
            section.pop(option, None)
    config["model"].pop("initializer", None)
    return config


def pruned_config(config: Config, embedders: list[LdnetEmbedder]) -> Config:
    """The config of a pruned model: `described_config` without the options of layer selection, for further training."""
    config = described_config(config, embedders)
    for section in find_sections(config["model"], "ldnet"):
        for option in ("lambda_0", "lambda_1", "max_layers", "max_multiply_adds", "over_budget_weight"):
            section.pop(option, None)
    regularizer = config["model"].get("regularizer")
    if regularizer is not None:
        regularizer["regexes"] = [
            pair for pair in regularizer["regexes"] if not is_of_type(pair[1], "layer_selection")
        ]
    trainer = config.get("trainer", {})
    proximal = trainer.get("optimizer")
    if isinstance(proximal, dict) and proximal.get("type") == "proximal":
        inner = proximal["optimizer"]
        inner = {"type": inner} if isinstance(inner, str) else inner
        groups = proximal.get("parameter_groups")
        trainer["optimizer"] = {**inner, **({"parameter_groups": groups} if groups else {})}
    if "callbacks" in trainer:
        trainer["callbacks"] = [
            callback for callback in trainer["callbacks"] if not is_of_type(callback, "layer_selection")
        ]
    return config


def is_of_type(section: Any, name: str) -> bool:
    """Return whether a config section, or a plain name, has a registered type."""
    return (section.get("type") if isinstance(section, dict) else section) == name
