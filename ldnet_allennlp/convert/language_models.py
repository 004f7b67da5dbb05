"""Convert language model checkpoints of the original (`ld0.th`) to `adaptive_language_model` archives."""

import re
from typing import Any, NamedTuple

from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.models import Model

from ldnet_allennlp.convert.networks import (
    Network,
    count_layers,
    load_parts,
    matrix_size,
    network_parts,
    parts_of,
    read_network,
)
from ldnet_allennlp.convert.original_files import (
    NEWLINE,
    UNKNOWN,
    Checkpoint,
    checked_map,
    number_of,
    read_maps,
)
from ldnet_allennlp.convert.vocabularies import build_vocabulary, free_end_token, renamed, with_padding

ACTIVATIONS = ("linear", "relu")
_EMBEDDING = "_text_field_embedder.token_embedder_tokens.weight"


class Converted(NamedTuple):
    """A converted model."""

    model: Model
    config: dict[str, Any]
    """The `config.json` that describes it."""
    notes: list[str]
    """Notes for the user."""


class SoftmaxSizes(NamedTuple):
    """The sizes of an adaptive softmax."""

    input_size: int
    cutoffs: list[int]
    """The first word of each tail cluster; without one, the number of classes."""
    num_classes: int


def convert_language_model(
    checkpoint: Checkpoint,
    maps: str | None,
    direction: str | None,
    options: dict[str, Any],
    activation: str | None,
) -> Converted:
    """
    Convert a checkpoint to an "adaptive_language_model".

    # Parameters

    checkpoint : `Checkpoint`
    maps : `str`, optional
        The `test.pk` of the pre-processing, with the `w_map` of the training.
    direction, activation : `str`, optional
        "forward" or "backward"; and the activation after the projection, "linear" or "relu". The weights do not show
        them; the defaults come from `options`.
    options : `Dict[str, Any]`
        The known options of `train_lm.py`.

    Raises `ConfigurationError` if anything is missing or inconsistent.
    """
    if direction is None:
        raise ConfigurationError(
            f"'{checkpoint.path}' contains a language model of unknown direction: give "
            f"--direction forward or --direction backward."
        )
    if maps is None:
        raise ConfigurationError(
            f"'{checkpoint.path}' holds a language model without its words: give the test.pk that it was trained "
            f"with as --maps."
        )
    num_words, embedding_dim = matrix_size(checkpoint, "word_embed.weight")
    words = checked_map(
        read_maps(maps, ["w_map"])["w_map"],
        "w_map",
        maps,
        num_words,
        f"'word_embed.weight' of '{checkpoint.path}'",
        needed=[UNKNOWN, NEWLINE],
    )
    end_token = free_end_token([words])
    vocab = build_vocabulary({"tokens": renamed(words, NEWLINE, end_token)})
    softmax = _softmax_sizes(checkpoint)
    projection_dim = softmax.input_size if "project.weight" in checkpoint.weights else None
    read_by = matrix_size(checkpoint, "project.weight")[1] if projection_dim else softmax.input_size
    network = read_network(checkpoint, "", read_by)
    if softmax.num_classes < num_words:
        raise ConfigurationError(
            f"'{checkpoint.path}': the softmax has {softmax.num_classes} classes, fewer than the {num_words} words."
        )
    config: dict[str, Any] = {
        "dataset_reader": {"type": "lm_stream", "end_of_sentence": end_token},
        "model": {
            "type": "adaptive_language_model",
            "direction": direction,
            "text_field_embedder": {
                "token_embedders": {"tokens": {"type": "embedding", "embedding_dim": embedding_dim}}
            },
            "contextualizer": {**network.describe(), **_dropouts(network, options), "stateful": True},
            "embedding_dropout": number_of(options, "droprate", 0.0, 1.0),
            "dropout": number_of(options, "droprate", 0.0, 1.0) if projection_dim else 0.0,
            "cutoffs": softmax.cutoffs,
            "spare_classes": softmax.num_classes - num_words,
        },
        "data_loader": {
            "type": "lm_stream",
            "direction": direction,
            "batch_size": int(number_of(options, "batch_size", 128)) or 1,
            "sequence_length": int(number_of(options, "sequence_length", 20)) or 1,
        },
        "trainer": {
            "optimizer": {"type": "adam", "lr": number_of(options, "lr", 0.001)},
            "grad_norm": number_of(options, "clip", 5),
        },
    }
    if projection_dim:
        config["model"].update(
            projection_dim=projection_dim, projection_activation=_activation(checkpoint, options, activation)
        )
    model = Model.from_params(Params(config["model"]).duplicate(), vocab=vocab)
    parts = network_parts(checkpoint, "", network, "_contextualizer.")
    parts[_EMBEDDING] = ("word_embed.weight", with_padding(checkpoint.weight("word_embed.weight")))
    parts.update(
        parts_of(
            checkpoint,
            {
                name.replace("project.", "_projection.").replace("soft_max.", "_softmax_loss."): name
                for name in checkpoint.weights
                if name.startswith(("project.", "soft_max."))
            },
        )
    )
    load_parts(checkpoint, model, parts)
    model.eval()
    return Converted(model, config, [f"A {direction} language model of {num_words} words, {network.kind}."])


def _dropouts(network: Network, options: dict[str, Any]) -> dict[str, float]:
    dropouts = {"dropout": number_of(options, "droprate", 0.0, 1.0)}
    if network.kind == "ld_rnn":
        # Only LDRNN has layer-wise dropout; DenseRNN is the same network without it.
        hides = options.get("rnn_layer", "LDNet") == "LDNet"
        dropouts["layer_dropout"] = number_of(options, "layer_drop", 0.0, 1.0) if hides else 0.0
    return dropouts


def _softmax_sizes(checkpoint: Checkpoint) -> SoftmaxSizes:
    head, input_size = matrix_size(checkpoint, "soft_max.head.weight")
    num_tails = count_layers(checkpoint.weights, re.escape("soft_max.tail.") + r"(\d+)\.")
    cutoffs = [head - num_tails]
    for number in range(num_tails):
        cutoffs.append(cutoffs[-1] + matrix_size(checkpoint, f"soft_max.tail.{number}.1.weight")[0])
    if cutoffs[0] < 1 or sorted(set(cutoffs)) != cutoffs:
        raise ConfigurationError(
            f"'{checkpoint.path}': the adaptive softmax was expected to have words in its head and in each of its "
            f"{num_tails} tail clusters, but they end at {cutoffs}."
        )
    return SoftmaxSizes(input_size, cutoffs[:-1] or cutoffs, cutoffs[-1])


def _activation(checkpoint: Checkpoint, options: dict[str, Any], activation: str | None) -> str:
    if activation is not None:
        return activation
    if not isinstance(options.get("add_relu"), bool):
        raise ConfigurationError(
            f"'{checkpoint.path}' holds a language model with a projection, and its weights do not show whether it "
            f"was trained with --add_relu, as the published ones were: give --projection-activation relu or "
            f"--projection-activation linear, or the run's options as --options."
        )
    return "relu" if options["add_relu"] else "linear"
