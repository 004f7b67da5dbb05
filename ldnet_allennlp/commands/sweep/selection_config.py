"""Config that continues the training of a tagger with layer selection."""

import copy
from typing import Any

from allennlp.common.checks import ConfigurationError

from ldnet_allennlp.commands.model_configs import described_config, is_of_type
from ldnet_allennlp.common.archives import find_sections
from ldnet_allennlp.modules.embedders.ldnet_embedder import LdnetEmbedder
from ldnet_allennlp.modules.selection.layer_budget import kept_multiply_adds


def selection_config(
    config: dict[str, Any],
    embedders: list[LdnetEmbedder],
    vocabulary: str,
    weights: str,
    lambda_0: float,
    lambda_1: int | None = None,
    max_multiply_adds: float | None = None,
    num_epochs: int | None = None,
    gate_learning_rate: float | None = None,
    over_budget_weight: float = 1.0,
    published_penalty: bool = False,
) -> dict[str, Any]:
    """
    Add layer selection to a tagger's config, like `training_config/ner_select.jsonnet`.

    # Parameters

    config, embedders
        The config of the trained tagger, which is not changed, and its embedders, in the order of its modules.
    vocabulary, weights : `str`
        The directory of its vocabulary and the file of its weights.
    lambda_0, lambda_1, max_multiply_adds, over_budget_weight
        The weight of the penalty, the budget (one of the two), and the factor of the penalty over budget, see
        `LayerBudget`.
    num_epochs, gate_learning_rate
        By default as in `config`.
    published_penalty : `bool`, optional (default = `False`)
        Whether to use the paper's penalty, which may miss the budget. By default the budget is met exactly, see
        `exact_budget` of the "layer_selection" callback.

    # Returns

    `Dict[str, Any]`
        The config, without `patience`: a selection runs for all its epochs. In the first half of them, the budget falls
        in steps from four fifths of the layers to the final one, so that the remaining layers are compared again after
        each step. Gates at 0 stay at 0.

    Raises `ConfigurationError` if the model is not an "ldnet_tagger", if the config does not name its data, or if the
    budget exceeds the tagger's layers.
    """
    kind = config["model"].get("type")
    if kind != "ldnet_tagger":
        raise ConfigurationError(
            f"Layers are selected by the loss of an ldnet_tagger, but the archive holds a {kind}. (A crf_tagger's "
            f"archive is one of an ldnet_tagger, too, if its config says so.)"
        )
    missing = [key for key in ("train_data_path", "validation_data_path", "trainer") if not config.get(key)]
    if missing:
        raise ConfigurationError(
            f"The config of the tagger was expected to name its training, but it has no {' and no '.join(missing)}."
        )
    config = described_config(copy.deepcopy(config), embedders)
    config["vocabulary"] = {"type": "from_files", "directory": vocabulary}
    config["model"]["initializer"] = {
        "regexes": [[".*", {"type": "pretrained", "weights_file_path": weights}]]
    }
    name = "max_multiply_adds" if lambda_1 is None else "lambda_1"
    last: float = (max_multiply_adds or 0.0) if lambda_1 is None else lambda_1
    for section in find_sections(config["model"], "ldnet"):
        section.pop("lambda_1", None)
        section.pop("max_layers", None)
        section.pop("max_multiply_adds", None)
        section.update(lambda_0=lambda_0, over_budget_weight=over_budget_weight)
        section[name] = last
    trainer = config["trainer"]
    num_epochs = num_epochs or int(trainer.get("num_epochs", 20))  # 20 is AllenNLP's own default
    trainer["num_epochs"] = num_epochs
    trainer.pop("patience", None)
    _wrap_optimizer(trainer, gate_learning_rate)
    stacks = [stack for embedder in embedders for stack in embedder.gated_stacks()]
    whole = (
        sum(len(stack.gates) for stack in stacks) if name == "lambda_1" else float(kept_multiply_adds(stacks))
    )
    if last > whole:
        option, unit = (
            ("--layers", "layers") if name == "lambda_1" else ("--multiply-adds", "multiply-adds per word")
        )
        raise ConfigurationError(
            f"{option} {last:g} is not a valid budget for this tagger: its language models have "
            f"{whole:g} {unit} in all."
        )
    points = [[0, max(0.8 * whole, float(last))], [num_epochs // 2, last]]
    callbacks = [
        callback for callback in trainer.get("callbacks") or [] if not is_of_type(callback, "layer_selection")
    ]
    callback: dict[str, Any] = {"type": "layer_selection"}
    if num_epochs > 1:
        callback["schedule"] = {name: points}
    if not published_penalty:
        callback["exact_budget"] = True
    trainer["callbacks"] = [*callbacks, callback]
    return config


def _wrap_optimizer(trainer: dict[str, Any], gate_learning_rate: float | None) -> None:
    optimizer = trainer.get("optimizer", "sgd")
    if not is_of_type(optimizer, "proximal"):
        optimizer = {"type": "proximal", "optimizer": optimizer, "zeros_stay": True}
        if isinstance(optimizer["optimizer"], dict) and "parameter_groups" in optimizer["optimizer"]:
            optimizer["parameter_groups"] = optimizer["optimizer"].pop("parameter_groups")
    if gate_learning_rate is not None:
        optimizer.setdefault("parameter_groups", []).append([["(^|\\.)gates$"], {"lr": gate_learning_rate}])
    trainer["optimizer"] = optimizer
