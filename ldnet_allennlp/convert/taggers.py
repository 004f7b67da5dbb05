"""Convert tagger checkpoints of the original (`ner.th`, `pner0.th`) to `ldnet_tagger` archives."""

from typing import Any, NamedTuple, Optional

import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.models import Model

from ldnet_allennlp.convert.language_models import Converted
from ldnet_allennlp.convert.networks import (
    Network,
    Parts,
    cell_of,
    count_layers,
    load_parts,
    matrix_size,
    network_parts,
    parts_of,
    read_network,
    rnn_parts,
)
from ldnet_allennlp.convert.original_files import (
    END_TAG,
    NEWLINE,
    SPACE,
    START_TAG,
    TAGGER_MAPS,
    UNKNOWN,
    WORD_BOUNDARY,
    Checkpoint,
    Map,
    checked_map,
    number_of,
    read_maps,
)
from ldnet_allennlp.convert.tagger_configs import (
    columns_in_allennlp,
    input_sizes,
    label_encoding,
    notes_on,
    tagger_config,
)
from ldnet_allennlp.convert.vocabularies import (
    build_vocabulary,
    free_end_token,
    names_in_order,
    renamed,
    unknown_first,
    with_padding,
)

EMBEDDERS = "text_field_embedder.token_embedder_"
_PREFIXES = {"forward": "f_lm.", "backward": "b_lm."}


class _Maps(NamedTuple):
    words: Map
    characters: Map
    tags: Map
    forward: Optional[Map]
    backward: Optional[Map]


def convert_tagger(checkpoint: Checkpoint, maps: str | None, options: dict[str, Any]) -> Converted:
    """
    Convert a checkpoint to an "ldnet_tagger": without language models, with them (gated, plain, or mixed as in ELMo),
    or pruned.

    `maps` is the `ner_dataset.pk` or `conll_map.pk` with the maps, by default those in the checkpoint itself; `options`
    are the known options of the training script.

    Raises `ConfigurationError` if anything is missing or inconsistent.
    """
    has_language_models = "f_lm.word_embed.weight" in checkpoint.weights
    original = _read_maps(checkpoint, maps, has_language_models)
    every_map = [mapping for mapping in original if mapping is not None]
    end_token = free_end_token(every_map)
    namespaces: dict[str, list[str]] = {"labels": names_in_order(original.tags)}
    parts: Parts = {}
    embedders: dict[str, Any] = {}
    dropout = number_of({**options, **checkpoint.config}, _dropout_name(checkpoint), 0.0, 1.0)
    has_options = bool(options) or _dropout_name(checkpoint) in checkpoint.config

    names, weight = unknown_first(
        renamed(original.words, WORD_BOUNDARY, end_token), checkpoint.weight("word_embed.weight")
    )
    namespaces["tokens"] = names
    embedders["tokens"] = {"type": "embedding", "embedding_dim": weight.size(1)}
    parts[EMBEDDERS + "tokens.weight"] = ("word_embed.weight", with_padding(weight))

    namespaces["token_characters"] = _characters(checkpoint, original.characters, parts)
    embedders["token_characters"] = _character_section(checkpoint, dropout)
    if has_language_models:
        embedders["ldnet"] = _language_models(checkpoint, original, end_token, dropout, namespaces, parts)
    encoder = _encoder(checkpoint, embedders, parts)
    parts.update(
        parts_of(
            checkpoint,
            {
                "crf.transitions": "crf.transitions",
                "tag_projection_layer._module.weight": "crf.hidden2tag.weight",
                "tag_projection_layer._module.bias": "crf.hidden2tag.bias",
            },
        )
    )
    encoding = label_encoding(original.tags)
    config = tagger_config(embedders, encoder, end_token, encoding, dropout, options)
    model = Model.from_params(Params(config["model"]).duplicate(), vocab=build_vocabulary(namespaces))
    load_parts(checkpoint, model, parts)
    model.eval()
    return Converted(model, config, notes_on(embedders, has_options))


def _read_maps(checkpoint: Checkpoint, path: str | None, has_language_models: bool) -> _Maps:
    names = [name for name in TAGGER_MAPS if has_language_models or not name.endswith("lm_map")]
    if path is not None:
        maps = read_maps(path, names)
    elif all(name in checkpoint.maps for name in names):
        maps, path = checkpoint.maps, checkpoint.path
    else:
        raise ConfigurationError(
            f"'{checkpoint.path}' holds a tagger without its maps: give the ner_dataset.pk (or conll_map.pk) that "
            f"it was trained with as --maps."
        )

    def checked(name: str, weight: str, needed: list[str]) -> Map:
        size = matrix_size(checkpoint, weight)[0]
        where = f"'{weight}' of '{checkpoint.path}'"
        return checked_map(maps[name], name, str(path), size, where, needed)

    forward = backward = None
    if has_language_models:
        forward = checked("flm_map", "f_lm.word_embed.weight", [UNKNOWN, NEWLINE])
        backward = checked("blm_map", "b_lm.word_embed.weight", [UNKNOWN, NEWLINE])
    return _Maps(
        words=checked("gw_map", "word_embed.weight", [UNKNOWN, WORD_BOUNDARY]),
        characters=checked("c_map", "char_embed.weight", [UNKNOWN, NEWLINE, SPACE]),
        tags=checked("y_map", "crf.transitions", [START_TAG, END_TAG]),
        forward=forward,
        backward=backward,
    )


def _dropout_name(checkpoint: Checkpoint) -> str:
    return "droprate" if "droprate" in checkpoint.config else "seq_droprate"


def _characters(checkpoint: Checkpoint, mapping: Map, parts: Parts) -> list[str]:
    """The characters in the order of their new ids. Adds the weights of the character networks to `parts`."""
    target = EMBEDDERS + "token_characters."
    weight = checkpoint.weight("char_embed.weight")
    boundaries = torch.stack([weight[mapping[SPACE]], weight[mapping[NEWLINE]]])
    names, embedding = unknown_first(renamed(mapping, None, ""), weight)
    parts[target + "embedding.weight"] = ("char_embed.weight", with_padding(embedding))
    parts[target + "boundary_embeddings"] = ("char_embed.weight", boundaries)
    parts.update(rnn_parts(checkpoint, "char_fw.", target + "forward_rnn."))
    parts.update(rnn_parts(checkpoint, "char_bw.", target + "backward_rnn."))
    parts.update(
        parts_of(
            checkpoint, {f"{target}projection.{name}": f"char_seq.{name}" for name in ("weight", "bias")}
        )
    )
    return names


def _character_section(checkpoint: Checkpoint, dropout: float) -> dict[str, Any]:
    cell_type, hidden_size = cell_of(checkpoint, "char_fw.")
    return {
        "type": "sentence_character_lstm",
        "embedding_dim": matrix_size(checkpoint, "char_embed.weight")[1],
        "hidden_size": hidden_size,
        "num_layers": count_layers(checkpoint.weights, r"char_fw\.weight_ih_l(\d+)$"),
        "projection_dim": matrix_size(checkpoint, "char_seq.weight")[0],
        "cell_type": cell_type,
        "dropout": dropout,
        "embedding_dropout": dropout,
        "end_position": "last_token",
    }


def _language_models(
    checkpoint: Checkpoint,
    maps: _Maps,
    end_token: str,
    dropout: float,
    namespaces: dict[str, list[str]],
    parts: Parts,
) -> dict[str, Any]:
    projection_dim, columns = matrix_size(checkpoint, "lm_seq.weight")
    target = EMBEDDERS + "ldnet."
    section: dict[str, Any] = {"type": "ldnet", "projection_dim": projection_dim, "dropout": dropout}
    networks = _networks(checkpoint, columns)
    has_two_maps = maps.backward != maps.forward
    for direction, prefix in _PREFIXES.items():
        mapping = maps.forward if direction == "forward" else maps.backward
        assert mapping is not None
        name = f"{prefix}word_embed.weight"
        words, weight = unknown_first(renamed(mapping, NEWLINE, end_token), checkpoint.weight(name))
        if direction == "forward" or has_two_maps:
            namespaces["ldnet_words" if direction == "forward" else "ldnet_backward_words"] = words
        network = networks[direction]
        # The end token is the boundary and a word of the sentence, so no other boundary is read.
        section[direction] = {"contextualizer": network.describe(), "boundary": ""}
        inner = f"{target}language_models.{direction}_lm."
        parts[inner + "embedding.weight"] = (name, with_padding(weight))
        parts.update(network_parts(checkpoint, prefix, network, inner + "selection.encoder."))
        if network.kind == "ld_rnn":
            parts[inner + "selection.gates"] = _gates(checkpoint, prefix, network)
        elif f"{prefix}rnn.gamma" in checkpoint.weights:
            section[direction]["mixture"] = True
            mixture, weights = inner + "selection.mixture.", f"{prefix}rnn.weight_list"
            parts[mixture + "gamma"] = (f"{prefix}rnn.gamma", checkpoint.weight(f"{prefix}rnn.gamma"))
            for number, value in enumerate(checkpoint.weight(weights)):
                parts[f"{mixture}scalar_parameters.{number}"] = (weights, value.reshape(1))
    parts.update(
        parts_of(checkpoint, {f"{target}projection.{name}": f"lm_seq.{name}" for name in ("weight", "bias")})
    )
    return section


def _networks(checkpoint: Checkpoint, columns: int) -> dict[str, Network]:
    """Both language models' networks, of which `lm_seq` reads `columns` numbers."""
    networks = {direction: read_network(checkpoint, prefix) for direction, prefix in _PREFIXES.items()}
    if sum(network.output_size for network in networks.values()) != columns:
        # With a single layer, only the columns distinguish a dense network from a plain one.
        networks = {
            direction: network._replace(kind="stacked_rnn") if network.num_layers == 1 else network
            for direction, network in networks.items()
        }
    if sum(network.output_size for network in networks.values()) != columns:
        sizes = " and ".join(str(network.output_size) for network in networks.values())
        raise ConfigurationError(
            f"'{checkpoint.path}': 'lm_seq.weight' reads {columns} numbers, but the language models make vectors of "
            f"size {sizes}."
        )
    return networks


def _gates(checkpoint: Checkpoint, prefix: str, network: Network) -> Any:
    name = f"{prefix}rnn.weight_list"
    if name in checkpoint.weights:
        return name, checkpoint.weight(name)
    # A language model without gates, or without layers.
    return "(no gates)", torch.ones(network.num_layers)


def _encoder(checkpoint: Checkpoint, embedders: dict[str, Any], parts: Parts) -> dict[str, Any]:
    """The config section of the word RNN. Adds its weights to `parts`."""
    cell_type, hidden_size = cell_of(checkpoint, "word_rnn.")
    input_size = matrix_size(checkpoint, "word_rnn.weight_ih_l0")[1]
    parts.update(rnn_parts(checkpoint, "word_rnn.", "encoder._module."))
    sizes = input_sizes(embedders)
    if sum(sizes.values()) != input_size:
        raise ConfigurationError(
            f"'{checkpoint.path}': 'word_rnn' reads vectors of size {input_size}, but the characters, language models "
            f"and words make {' + '.join(str(size) for size in sizes.values())}."
        )
    for name in ("weight_ih_l0", "weight_ih_l0_reverse"):
        old, weight = parts[f"encoder._module.{name}"]
        parts[f"encoder._module.{name}"] = (old, weight[:, columns_in_allennlp(sizes)])
    return {
        "type": cell_type,
        "input_size": input_size,
        "hidden_size": hidden_size,
        "num_layers": count_layers(checkpoint.weights, r"word_rnn\.weight_ih_l(\d+)$"),
        "bidirectional": True,
    }
