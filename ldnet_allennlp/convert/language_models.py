"""Convert language model checkpoints of the original (`ld0.th`) to `adaptive_language_model` archives."""

from typing import Any

from ldnet_allennlp.convert.original_files import NEWLINE, UNKNOWN, Checkpoint, number_of, read_maps
from ldnet_allennlp.convert.vocabularies import build_vocabulary, free_end_token, renamed, with_padding
from ldnet_allennlp.convert.weights import Converted, Network, Parts, read_network

ACTIVATIONS = ("linear", "relu")


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

    maps : `str`, optional
        The `test.pk` of the pre-processing, with the `w_map` of the training.
    direction, activation : `str`, optional
        "forward" or "backward"; and the activation after the projection, "linear" or "relu", which the weights do not
        show: by default that of `options`.
    options : `Dict[str, Any]`
        The known options of `train_lm.py`.

    Raises `ConfigurationError` if anything is missing or inconsistent.
    """
    if direction is None:
        raise checkpoint.error(
            "the language model has an unknown direction: give --direction forward or --direction backward."
        )
    if maps is None:
        raise checkpoint.error(
            "the language model lacks its words: give the test.pk that it was trained with as --maps."
        )
    weight, embedding_dim = (
        checkpoint.weight("word_embed.weight"),
        checkpoint.matrix_size("word_embed.weight")[1],
    )
    mapping = read_maps(maps, ["w_map"])["w_map"]
    words = checkpoint.rows_of("word_embed.weight", mapping, f"'{maps}': w_map", [UNKNOWN, NEWLINE])
    end_token = free_end_token([words])
    vocab = build_vocabulary({"tokens": renamed(words, NEWLINE, end_token)})
    softmax_input, ends = _softmax_sizes(checkpoint)
    projection_dim = softmax_input if "project.weight" in checkpoint.weights else None
    read_by = checkpoint.matrix_size("project.weight")[1] if projection_dim else softmax_input
    network = read_network(checkpoint, "", read_by)
    if ends[-1] < len(words):
        raise checkpoint.error(f"the softmax has {ends[-1]} classes, fewer than the {len(words)} words.")
    config: dict[str, Any] = {
        "dataset_reader": {"type": "lm_stream", "end_of_sentence": end_token},
        "model": {
            "type": "adaptive_language_model",
            "direction": direction,
            "text_field_embedder": {
                "token_embedders": {"tokens": {"type": "embedding", "embedding_dim": embedding_dim}}
            },
            "contextualizer": {**network._asdict(), **_dropouts(network, options), "stateful": True},
            "embedding_dropout": number_of(options, "droprate", 0.0, 1.0),
            "dropout": number_of(options, "droprate", 0.0, 1.0) if projection_dim else 0.0,
            "cutoffs": ends[:-1] or ends,
            "spare_classes": ends[-1] - len(words),
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
    parts = Parts(checkpoint)
    parts.put("_text_field_embedder.token_embedder_tokens.weight", "word_embed.weight", with_padding(weight))
    parts.copy_network("_contextualizer.", "", network)
    parts.copy("_projection.", "project.")
    parts.copy("_softmax_loss.", "soft_max.")
    return parts.build(
        config, vocab, [f"A {direction} language model of {len(words)} words, {network.type}."]
    )


def _dropouts(network: Network, options: dict[str, Any]) -> dict[str, float]:
    dropouts = {"dropout": number_of(options, "droprate", 0.0, 1.0)}
    if network.type == "ld_rnn":
        # Only LDRNN has layer-wise dropout; DenseRNN is the same network without it.
        hides = options.get("rnn_layer", "LDNet") == "LDNet"
        dropouts["layer_dropout"] = number_of(options, "layer_drop", 0.0, 1.0) if hides else 0.0
    return dropouts


def _softmax_sizes(checkpoint: Checkpoint) -> tuple[int, list[int]]:
    """The size of what the adaptive softmax reads, and the ends of its head and of each tail cluster."""
    head, input_size = checkpoint.matrix_size("soft_max.head.weight")
    num_tails = checkpoint.count(r"soft_max\.tail\.(\d+)\.")
    ends = [head - num_tails]
    for number in range(num_tails):
        ends.append(ends[-1] + checkpoint.matrix_size(f"soft_max.tail.{number}.1.weight")[0])
    if ends[0] < 1 or sorted(set(ends)) != ends:
        raise checkpoint.error(
            f"the adaptive softmax was expected to have words in its head and in each of its {num_tails} tail "
            f"clusters, but they end at {ends}."
        )
    return input_size, ends


def _activation(checkpoint: Checkpoint, options: dict[str, Any], activation: str | None) -> str:
    if activation is not None:
        return activation
    if not isinstance(options.get("add_relu"), bool):
        raise checkpoint.error(
            "the weights of the language model do not show whether it was trained with --add_relu, as the published "
            "ones were: give --projection-activation relu or --projection-activation linear, or the run's options as "
            "--options."
        )
    return "relu" if options["add_relu"] else "linear"
