"""Convert tagger checkpoints of the original (`ner.th`, `pner0.th`) to `ldnet_tagger` archives."""

from typing import Any

import torch

from ldnet_allennlp.convert.original_files import (
    END_TAG,
    NEWLINE,
    SPACE,
    START_TAG,
    UNKNOWN,
    WORD_BOUNDARY,
    Checkpoint,
    Map,
    number_of,
    read_maps,
)
from ldnet_allennlp.convert.tagger_configs import notes_on, tagger_config
from ldnet_allennlp.convert.vocabularies import (
    build_vocabulary,
    free_end_token,
    renamed,
    unknown_first,
    with_padding,
)
from ldnet_allennlp.convert.weights import Converted, Network, Parts, cell_of, read_network

_EMBEDDERS = "text_field_embedder.token_embedder_"
_PREFIXES = {"forward": "f_lm.", "backward": "b_lm."}
# The matrix whose rows are the entries of a map, and the special entries.
_MAPS = {
    "flm_map": ("f_lm.word_embed.weight", [UNKNOWN, NEWLINE]),
    "blm_map": ("b_lm.word_embed.weight", [UNKNOWN, NEWLINE]),
    "gw_map": ("word_embed.weight", [UNKNOWN, WORD_BOUNDARY]),
    "c_map": ("char_embed.weight", [UNKNOWN, NEWLINE, SPACE]),
    "y_map": ("crf.transitions", [START_TAG, END_TAG]),
}


def convert_tagger(checkpoint: Checkpoint, maps: str | None, options: dict[str, Any]) -> Converted:
    """
    Convert a checkpoint to an "ldnet_tagger": without language models, with them (gated, plain, or mixed as in ELMo),
    or pruned.

    `maps` is the `ner_dataset.pk` or `conll_map.pk` with the maps, by default those in the checkpoint itself; `options`
    are the known options of the training script.

    Raises `ConfigurationError` if anything is missing or inconsistent.
    """
    has_language_models = "f_lm.word_embed.weight" in checkpoint.weights
    every_map = _read_maps(checkpoint, maps, has_language_models)
    dropout_name = "droprate" if "droprate" in checkpoint.config else "seq_droprate"
    dropout = number_of({**options, **checkpoint.config}, dropout_name, 0.0, 1.0)
    tagger = _Tagger(checkpoint, every_map, dropout)
    tagger.add_words()
    tagger.add_characters()
    if has_language_models:
        tagger.add_language_models()
    encoder = tagger.encoder()
    parts = tagger.parts
    parts.put("crf.transitions", "crf.transitions", checkpoint.weight("crf.transitions"))
    parts.copy("tag_projection_layer._module.", "crf.hidden2tag.", "weight", "bias")
    encoding = _label_encoding(every_map["y_map"])
    config = tagger_config(tagger.embedders, encoder, tagger.end_token, encoding, dropout, options)
    has_options = bool(options) or dropout_name in checkpoint.config
    notes = notes_on(tagger.embedders, has_options)
    return parts.build(config, build_vocabulary(tagger.namespaces), notes)


def _read_maps(checkpoint: Checkpoint, path: str | None, has_language_models: bool) -> dict[str, Map]:
    names = [name for name in _MAPS if has_language_models or not name.endswith("lm_map")]
    if path is not None:
        maps = read_maps(path, names)
    elif all(name in checkpoint.maps for name in names):
        maps, path = checkpoint.maps, checkpoint.path
    else:
        raise checkpoint.error(
            "the tagger is without its maps: give the ner_dataset.pk (or conll_map.pk) that it was trained with as "
            "--maps."
        )
    checked = {}
    for name in names:
        weight, needed = _MAPS[name]
        checked[name] = checkpoint.rows_of(weight, maps[name], f"'{path}': {name}", needed)
    return checked


def _label_encoding(tags: Map) -> str | None:
    """The label encoding "IOBES", or `None` for tags without spans, such as parts of speech."""
    others = [tag for tag in tags if tag not in (START_TAG, END_TAG, "O")]
    is_iobes = others and all(tag[:2] in ("B-", "I-", "E-", "S-") and len(tag) > 2 for tag in others)
    return "IOBES" if is_iobes else None


class _Tagger:
    """The vocabulary, the weights and the embedders' config of a tagger, collected part by part."""

    def __init__(self, checkpoint: Checkpoint, maps: dict[str, Map], dropout: float) -> None:
        self.checkpoint = checkpoint
        self.maps = maps
        self.dropout = dropout
        self.end_token = free_end_token(list(maps.values()))
        self.namespaces: dict[str, list[str]] = {"labels": list(maps["y_map"])}
        self.parts = Parts(checkpoint)
        self.embedders: dict[str, Any] = {}

    def _add_embedding(self, target: str, name: str, namespace: str | None, boundary: str | None) -> int:
        """Add the embedding of a map's entries, and their vocabulary. Returns the size of the vectors."""
        matrix, _ = _MAPS[name]
        names = renamed(self.maps[name], boundary, self.end_token)
        names, weight = unknown_first(names, self.checkpoint.weight(matrix))
        self.parts.put(_EMBEDDERS + target, matrix, with_padding(weight))
        if namespace is not None:
            self.namespaces[namespace] = names
        return weight.size(1)

    def add_words(self) -> None:
        size = self._add_embedding("tokens.weight", "gw_map", "tokens", WORD_BOUNDARY)
        self.embedders["tokens"] = {"type": "embedding", "embedding_dim": size}

    def add_characters(self) -> None:
        target, checkpoint = _EMBEDDERS + "token_characters.", self.checkpoint
        size = self._add_embedding("token_characters.embedding.weight", "c_map", "token_characters", None)
        rows = [self.maps["c_map"][marker] for marker in (SPACE, NEWLINE)]
        boundaries = checkpoint.weight("char_embed.weight")[rows]
        self.parts.put(target + "boundary_embeddings", "char_embed.weight", boundaries)
        self.parts.copy(target + "forward_rnn.", "char_fw.")
        self.parts.copy(target + "backward_rnn.", "char_bw.")
        self.parts.copy(target + "projection.", "char_seq.", "weight", "bias")
        cell_type, hidden_size = cell_of(checkpoint, "char_fw.")
        self.embedders["token_characters"] = {
            "type": "sentence_character_lstm",
            "embedding_dim": size,
            "hidden_size": hidden_size,
            "num_layers": checkpoint.count(r"char_fw\.weight_ih_l(\d+)$"),
            "projection_dim": checkpoint.matrix_size("char_seq.weight")[0],
            "cell_type": cell_type,
            "dropout": self.dropout,
            "embedding_dropout": self.dropout,
            "end_position": "last_token",
        }

    def add_language_models(self) -> None:
        checkpoint, parts = self.checkpoint, self.parts
        projection_dim, columns = checkpoint.matrix_size("lm_seq.weight")
        section: dict[str, Any] = {
            "type": "ldnet",
            "projection_dim": projection_dim,
            "dropout": self.dropout,
        }
        has_two_maps = self.maps["blm_map"] != self.maps["flm_map"]
        namespaces = {"forward": "ldnet_words", "backward": "ldnet_backward_words" if has_two_maps else None}
        for direction, network in _networks(checkpoint, columns).items():
            prefix = _PREFIXES[direction]
            inner = f"ldnet.language_models.{direction}_lm."
            name = f"{direction[0]}lm_map"
            self._add_embedding(inner + "embedding.weight", name, namespaces[direction], NEWLINE)
            # The end token is the boundary and a word of the sentence, so no other boundary is read.
            section[direction] = {"contextualizer": network._asdict(), "boundary": ""}
            inner = f"{_EMBEDDERS}{inner}selection."
            parts.copy_network(inner + "encoder.", prefix, network)
            weights = f"{prefix}rnn.weight_list"
            if network.type == "ld_rnn":
                # A language model without gates, or without layers, has none in the file.
                gates = checkpoint.weights.get(weights, torch.ones(network.num_layers))
                parts.put(inner + "gates", weights, gates)
            elif f"{prefix}rnn.gamma" in checkpoint.weights:
                section[direction]["mixture"] = True
                parts.copy(inner + "mixture.", f"{prefix}rnn.", "gamma")
                for number, value in enumerate(checkpoint.weight(weights)):
                    parts.put(f"{inner}mixture.scalar_parameters.{number}", weights, value.reshape(1))
        parts.copy(_EMBEDDERS + "ldnet.projection.", "lm_seq.", "weight", "bias")
        self.embedders["ldnet"] = section

    def encoder(self) -> dict[str, Any]:
        """The config section of the word RNN. Adds its weights."""
        checkpoint, target = self.checkpoint, "encoder._module."
        cell_type, hidden_size = cell_of(checkpoint, "word_rnn.")
        input_size = checkpoint.matrix_size("word_rnn.weight_ih_l0")[1]
        # In the original's order of concatenation; AllenNLP's is alphabetical.
        sizes = {"token_characters": self.embedders["token_characters"]["projection_dim"]}
        if "ldnet" in self.embedders:
            sizes["ldnet"] = self.embedders["ldnet"]["projection_dim"]
        sizes["tokens"] = self.embedders["tokens"]["embedding_dim"]
        if sum(sizes.values()) != input_size:
            raise checkpoint.error(
                f"'word_rnn' reads vectors of size {input_size}, but the characters, language models and words make "
                f"{' + '.join(map(str, sizes.values()))}."
            )
        columns = dict(zip(sizes, torch.arange(input_size).split(list(sizes.values()))))
        order = torch.cat([columns[name] for name in sorted(sizes)])
        self.parts.copy(target, "word_rnn.")
        for name in ("weight_ih_l0", "weight_ih_l0_reverse"):
            self.parts.put(target + name, f"word_rnn.{name}", checkpoint.weight(f"word_rnn.{name}")[:, order])
        return {
            "type": cell_type,
            "input_size": input_size,
            "hidden_size": hidden_size,
            "num_layers": checkpoint.count(r"word_rnn\.weight_ih_l(\d+)$"),
            "bidirectional": True,
        }


def _networks(checkpoint: Checkpoint, columns: int) -> dict[str, Network]:
    """Both language models' networks, of which `lm_seq` reads `columns` numbers."""
    dense = {direction: read_network(checkpoint, prefix) for direction, prefix in _PREFIXES.items()}
    # With a single layer, only the columns distinguish a dense network from a plain one.
    plain = {
        direction: network._replace(type="stacked_rnn") if network.num_layers == 1 else network
        for direction, network in dense.items()
    }
    for networks in (dense, plain):
        if sum(network.output_size for network in networks.values()) == columns:
            return networks
    sizes = " and ".join(str(network.output_size) for network in plain.values())
    raise checkpoint.error(
        f"'lm_seq.weight' reads {columns} numbers, but the language models make vectors of size {sizes}."
    )
