"""Config that continues the training of a tagger with layer selection."""

from typing import Any, NamedTuple

from allennlp.common.checks import ConfigurationError

from ldnet_allennlp.commands.model_configs import (
    Config,
    described_config,
    is_of_type,
    starting_from,
    without_selection,
)
from ldnet_allennlp.common.archives import find_sections
from ldnet_allennlp.modules.embedders.ldnet_embedder import LdnetEmbedder
from ldnet_allennlp.modules.selection.layer_budget import LayerBudget, kept_multiply_adds

SELECTABLE = ("ldnet_tagger", "tie_or_break_tagger")


class Budget(NamedTuple):
    """A budget of `ldnet-sweep`: one of the two."""

    layers: int | None = None
    multiply_adds: float | None = None

    @property
    def name(self) -> str:
        """The name of the point and of its directory."""
        if self.layers is not None:
            return f"layers-{self.layers}"
        return f"multiply-adds-{self.multiply_adds:.0f}"


def selection_config(
    config: Config,
    embedders: list[LdnetEmbedder],
    start: tuple[str, str],
    budget: Budget,
    lambda_0: float,
    num_epochs: int | None = None,
    published_penalty: bool = False,
) -> Config:
    """
    Add layer selection to a tagger's config, like `training_config/ner_select.jsonnet`.

    # Parameters

    config, embedders
        The config of the trained tagger, which is not changed, and its embedders, in the order of its modules.
    start : `Tuple[str, str]`
        The directory of its vocabulary and the file of its weights.
    budget, lambda_0
        See `LayerBudget`.
    num_epochs : `int`, optional
        By default as in `config`.
    published_penalty : `bool`, optional (default = `False`)
        Whether to use the paper's penalty, which may miss the budget. By default the budget is met exactly, see
        `exact_budget` of the "layer_selection" callback.

    # Returns

    `Dict[str, Any]`
        The config, without `patience`: a selection runs for all its epochs. In the first half of them, the budget falls
        in steps from four fifths of the layers to the final one, so that the remaining layers are compared again after
        each step. Gates at 0 stay at 0.

    Raises `ConfigurationError` if the model's loss does not select layers, if the config does not name its data, or if
    the budget exceeds the tagger's layers or cannot be met.
    """
    kind = config["model"].get("type")
    if kind not in SELECTABLE:
        raise ConfigurationError(
            f"Layers are selected by the loss of an {' or '.join(SELECTABLE)}, but the archive holds a {kind}. (A "
            f"crf_tagger's archive is one of an ldnet_tagger, too, if its config says so.)"
        )
    missing = [key for key in ("train_data_path", "validation_data_path", "trainer") if not config.get(key)]
    if missing:
        raise ConfigurationError(
            f"The config of the tagger was expected to name its training, but it has no {' and no '.join(missing)}."
        )
    stacks = [stack for embedder in embedders for stack in embedder.gated_stacks()]
    last: float
    if budget.layers is not None:
        name, last, whole = "lambda_1", budget.layers, float(sum(len(stack.gates) for stack in stacks))
        option, unit = "--layers", "layers"
    else:
        assert budget.multiply_adds is not None
        name, last, whole = "max_multiply_adds", budget.multiply_adds, float(kept_multiply_adds(stacks))
        option, unit = "--multiply-adds", "multiply-adds per word"
        LayerBudget(max_multiply_adds=last).check(stacks)
    if last > whole:
        raise ConfigurationError(
            f"{option} {last:g} is not a valid budget for this tagger: its language models have {whole:g} {unit} in "
            f"all."
        )
    config = starting_from(described_config(config, embedders), *start)
    for section in find_sections(config["model"], "ldnet"):
        section.update({"lambda_0": lambda_0, name: last})
    trainer = config["trainer"]
    num_epochs = num_epochs or int(trainer.get("num_epochs", 20))  # 20 is AllenNLP's own default
    trainer["num_epochs"] = num_epochs
    trainer.pop("patience", None)
    optimizer = trainer.get("optimizer", "sgd")
    if not is_of_type(optimizer, "proximal"):
        trainer["optimizer"] = {"type": "proximal", "optimizer": optimizer, "zeros_stay": True}
        if isinstance(optimizer, dict) and "parameter_groups" in optimizer:
            trainer["optimizer"]["parameter_groups"] = optimizer.pop("parameter_groups")
    callback: dict[str, Any] = {"type": "layer_selection"}
    if num_epochs > 1:
        callback["schedule"] = {name: [[0, max(0.8 * whole, float(last))], [num_epochs // 2, last]]}
    if not published_penalty:
        callback["exact_budget"] = True
    trainer["callbacks"] = [*without_selection(trainer.get("callbacks")), callback]
    return config
