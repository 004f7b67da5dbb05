"""An `ldnet_tagger` as the original's `SeqLabel`, with the reasons where there is none."""

from typing import Any, Dict, List, Optional, Tuple

import torch
from allennlp.common.checks import ConfigurationError
from allennlp.data import DatasetReader
from allennlp.data.token_indexers import SingleIdTokenIndexer, TokenCharactersIndexer
from allennlp.data.vocabulary import DEFAULT_OOV_TOKEN
from allennlp.modules.seq2seq_encoders import PytorchSeq2SeqWrapper
from allennlp.modules.token_embedders import Embedding

from ldnet_allennlp.convert.language_models_to_original import encoder_weights
from ldnet_allennlp.convert.original_files import (
    END_TAG,
    NEWLINE,
    SPACE,
    START_TAG,
    WORD_BOUNDARY,
    Map,
    Weights,
)
from ldnet_allennlp.convert.taggers import columns_in_allennlp
from ldnet_allennlp.convert.vocabularies import original_map
from ldnet_allennlp.data.conll.reader import ConllColumnsReader
from ldnet_allennlp.data.language_model_vocabulary import has_words, words_namespace, words_of
from ldnet_allennlp.data.ldnet_indexer import LdnetIndexer
from ldnet_allennlp.models.ldnet_tagger import LdnetTagger
from ldnet_allennlp.modules.characters.sentence_character_lstm import SentenceCharacterLstm
from ldnet_allennlp.modules.crf.boundary_tag_crf import BoundaryTagCrf
from ldnet_allennlp.modules.embedders.frozen_language_model import LanguageModelLayers
from ldnet_allennlp.modules.embedders.ldnet_embedder import LdnetEmbedder
from ldnet_allennlp.modules.rnn.layers import CELL_TYPES
from ldnet_allennlp.modules.rnn.stacked_layers import StackedLayers

_EMBEDDERS = {"tokens": Embedding, "token_characters": SentenceCharacterLstm, "ldnet": LdnetEmbedder}


def tagger_checkpoint(model: LdnetTagger, reader: DatasetReader) -> Dict[str, Any]:
    """
    # Parameters

    model : `LdnetTagger`
    reader : `DatasetReader`
        The reader of its archive.

    # Returns

    `Dict[str, Any]`
        The checkpoint: `config`, the five maps and `model`, in the original's order. A tagger without language
        models, or with language models of plain stacks, has no `config`: the original describes dense ones only.

    Raises `ConfigurationError` with all reasons why the original has no such model.
    """
    reasons = _reasons(model, reader)
    if reasons:
        raise ConfigurationError("The original LD-Net has no such tagger: " + "; ".join(reasons) + ".")
    end_token: str = reader.end_token  # type: ignore[attr-defined]
    parts = model.text_field_embedder._token_embedders
    words, word_weights = _words(
        words_of(model.vocab, parts["tokens"]._vocab_namespace or "tokens"),
        parts["tokens"].weight,
        end_token,
        WORD_BOUNDARY,
    )
    characters, character_weights = _characters(model, parts["token_characters"])
    maps: Dict[str, Map] = {"gw_map": words, "c_map": characters, "y_map": _tags(model)}
    weights: Weights = {}
    language_models: Dict[str, LanguageModelLayers] = {}
    if "ldnet" in parts:
        for direction, prefix in (("forward", "f_lm."), ("backward", "b_lm.")):
            layers = parts["ldnet"].language_models[f"{direction}_lm"]
            language_models[direction] = layers
            namespace = words_namespace(parts["ldnet"].namespace, backward=direction == "backward")
            if not has_words(model.vocab, namespace):
                namespace = words_namespace(parts["ldnet"].namespace)
            mapping, embedding = _words(
                words_of(model.vocab, namespace), layers.embedding.weight, end_token, NEWLINE
            )
            maps["flm_map" if direction == "forward" else "blm_map"] = mapping
            weights.update(_language_model_weights(layers, prefix))
            weights[f"{prefix}word_embed.weight"] = embedding
    weights.update({"char_embed.weight": character_weights, "word_embed.weight": word_weights})
    weights.update(_named("char_seq.", parts["token_characters"].projection))
    if language_models:
        weights.update(_named("lm_seq.", parts["ldnet"].projection))
    weights.update(_named("char_fw.", parts["token_characters"].forward_rnn))
    weights.update(_named("char_bw.", parts["token_characters"].backward_rnn))
    weights.update(_word_rnn(model, parts))
    weights["crf.transitions"] = model.crf.transitions
    weights.update(_named("crf.hidden2tag.", model.tag_projection_layer._module))
    order = ("flm_map", "blm_map", "gw_map", "c_map", "y_map")
    checkpoint: Dict[str, Any] = {name: maps[name] for name in order if name in maps}
    if language_models and not any(
        isinstance(layers.selection, StackedLayers) for layers in language_models.values()
    ):
        checkpoint = {"config": _config(model, parts, maps, language_models), **checkpoint}
    return {**checkpoint, "model": weights}


def _reasons(model: LdnetTagger, reader: DatasetReader) -> List[str]:
    reasons = []
    if not isinstance(model.crf, BoundaryTagCrf):
        reasons.append(
            "its sentences have no end-of-sentence step, and start and end transitions of their own "
            "(the original's conventions are boundary_tags of the model, and end_token of the reader)"
        )
    elif not bool((model.crf._constraint_mask == 1).all()):
        reasons.append(
            "it decodes with constraints, and the original without (constrain_crf_decoding: false)"
        )
    if not isinstance(reader, ConllColumnsReader) or reader.end_token is None:
        reasons.append("its reader appends no end token (conll_columns with end_token)")
    else:
        reasons.extend(_indexer_reasons(reader))
    if model._feedforward is not None:
        reasons.append("it has a feedforward layer before the CRF")
    embedders = getattr(model.text_field_embedder, "_token_embedders", {})
    needed = set(_EMBEDDERS) - (set() if "ldnet" in embedders else {"ldnet"})
    if set(embedders) != needed or not all(isinstance(embedders[name], _EMBEDDERS[name]) for name in needed):
        found = ", ".join(f"{name} ({type(part).__name__})" for name, part in embedders.items())
        return [
            *reasons,
            f"its words are read by {found or 'other embedders'}, and not by tokens (embedding), token_characters "
            f"(sentence_character_lstm) and at most ldnet (ldnet)",
        ]
    reasons.extend(_embedder_reasons(embedders))
    reasons.extend(_encoder_reasons(model, embedders))
    return reasons


def _indexer_reasons(reader: ConllColumnsReader) -> List[str]:
    reasons = []
    indexers = reader._token_indexers
    words, characters = indexers.get("tokens"), indexers.get("token_characters")
    if not isinstance(words, SingleIdTokenIndexer) or not words.lowercase_tokens:
        reasons.append("its words are not looked up in lower case (tokens: single_id with lowercase_tokens)")
    plain = TokenCharactersIndexer(min_padding_length=1)._character_tokenizer._to_params()
    if (
        not isinstance(characters, TokenCharactersIndexer)
        or characters._character_tokenizer._to_params() != plain
        or characters._start_tokens
        or characters._end_tokens
    ):
        reasons.append("its characters are not those of the words as they are (token_characters: characters)")
    lookup = indexers.get("ldnet")
    if isinstance(lookup, LdnetIndexer) and lookup.lowercase_tokens:
        reasons.append("its language models read words in lower case")
    return reasons


def _embedder_reasons(embedders: Dict[str, Any]) -> List[str]:
    reasons = []
    if embedders["tokens"]._projection is not None:
        reasons.append("its word vectors are projected")
    characters = embedders["token_characters"]
    if characters.end_position != "last_token":
        reasons.append(
            f"its character networks have the end_position {characters.end_position}, not last_token"
        )
    if characters.projection is None or characters.highway is not None:
        reasons.append("its character networks have no projection, or highway layers")
    layers = embedders.get("ldnet")
    if layers is None:
        return reasons
    if set(layers.language_models) != {"forward_lm", "backward_lm"}:
        return [*reasons, "it has not one forward and one backward language model"]
    if any(part.boundary_id is not None for part in layers.language_models.values()):
        reasons.append("a language model reads a boundary before the sentence (boundary is not empty)")
    if layers.projection is None or not isinstance(layers.activation, torch.nn.ReLU):
        reasons.append("its language models' layers are not projected and followed by relu")
    kinds = {_kind(part) for part in layers.language_models.values()}
    if len(kinds) > 1:
        reasons.append(f"its language models are of two kinds ({', '.join(sorted(kinds))})")
    return reasons


def _encoder_reasons(model: LdnetTagger, embedders: Dict[str, Any]) -> List[str]:
    rnn = model.encoder._module if isinstance(model.encoder, PytorchSeq2SeqWrapper) else None
    if not isinstance(rnn, torch.nn.RNNBase) or not rnn.bidirectional or rnn.mode not in CELL_TYPES:
        return [f"its encoder is a {type(model.encoder).__name__}, not a bidirectional lstm, gru or rnn"]
    if CELL_TYPES[rnn.mode] != embedders["token_characters"].cell_type:
        return ["its encoder and its character networks have other cells, and in the original the same"]
    return []


def _kind(layers: LanguageModelLayers) -> str:
    if not isinstance(layers.selection, StackedLayers):
        return "ld_rnn"
    return "stacked_rnn" if layers.selection.mixture is None else "mixture of a stacked_rnn"


def _named(prefix: str, module: torch.nn.Module) -> Weights:
    return {prefix + name: tensor for name, tensor in module.state_dict().items()}


def _words(
    names: List[str], weight: torch.Tensor, end_token: str, boundary: Optional[str]
) -> Tuple[Map, torch.Tensor]:
    """A map with the original's names, and its rows, both without padding."""
    names, weight = names[1:], weight[1:]
    if end_token not in names:
        # It is read as an unknown word; the original has an entry for it in any case.
        weight = torch.cat([weight, weight[names.index(DEFAULT_OOV_TOKEN)].unsqueeze(0)])
        names = [*names, end_token]
    return original_map(names, end_token, boundary, "words"), weight


def _characters(model: LdnetTagger, embedder: SentenceCharacterLstm) -> Tuple[Map, torch.Tensor]:
    """The original has one row for a space, and one for the marker: those that stand between words."""
    names = words_of(model.vocab, embedder._vocab_namespace)[1:]
    weight = embedder.embedding.weight.detach()[1:].clone()
    for name, row in zip((SPACE, NEWLINE), embedder.boundary_embeddings.detach()):
        if name in names:
            weight[names.index(name)] = row
        else:
            names, weight = [*names, name], torch.cat([weight, row.unsqueeze(0)])
    return original_map(names, None, None, "characters"), weight


def _tags(model: LdnetTagger) -> Map:
    names = model.vocab.get_index_to_token_vocabulary(model.label_namespace)
    special = dict(zip(model.boundary_tags, (START_TAG, END_TAG)))
    mapping = {special.get(names[number], names[number]): number for number in range(len(names))}
    if len(mapping) != len(names):
        raise ConfigurationError(
            f"The original calls the boundary tags {START_TAG} and {END_TAG}, which are other tags of this tagger."
        )
    return mapping


def _language_model_weights(layers: LanguageModelLayers, prefix: str) -> Weights:
    weights: Weights = {}
    selection = layers.selection
    if isinstance(selection, StackedLayers):
        if selection.mixture is not None:
            weights[f"{prefix}rnn.gamma"] = selection.mixture.gamma
            weights[f"{prefix}rnn.weight_list"] = torch.cat(list(selection.mixture.scalar_parameters))
    elif selection.encoder.num_layers:
        weights[f"{prefix}rnn.weight_list"] = selection.gates
    weights.update(encoder_weights(selection.encoder, prefix))
    return weights


def _word_rnn(model: LdnetTagger, parts: Dict[str, Any]) -> Weights:
    names = ["token_characters", *(["ldnet"] if "ldnet" in parts else []), "tokens"]
    columns = columns_in_allennlp({name: parts[name].get_output_dim() for name in names})
    places = torch.tensor(columns).argsort()
    weights = _named("word_rnn.", model.encoder._module)
    for name in ("word_rnn.weight_ih_l0", "word_rnn.weight_ih_l0_reverse"):
        weights[name] = weights[name][:, places]
    return weights


def _config(
    model: LdnetTagger,
    parts: Dict[str, Any],
    maps: Dict[str, Map],
    language_models: Dict[str, LanguageModelLayers],
) -> Dict[str, Any]:
    """The description in the original's own words (`SeqLabel.to_params`)."""
    characters, words, rnn = parts["token_characters"], parts["tokens"], model.encoder._module
    config: Dict[str, Any] = {"model_type": "char-lstm-crf"}
    for direction, name in (("forward", "flm_map"), ("backward", "blm_map")):
        encoder = language_models[direction].selection.encoder
        is_empty = encoder.num_layers == 0
        config[f"{direction}_lm"] = {
            "backward": direction == "backward",
            "rnn_params": {
                "rnn_type": "LDRNN",
                "unit_type": encoder.cell_type,
                "layer_num": encoder.num_layers,
                "emb_dim": encoder.input_size,
                "hid_dim": -1 if is_empty else encoder.hidden_size,
                "droprate": -1 if is_empty else 0.0,
                "after_pruned": True,
            },
            "word_embed_num": len(maps[name]),
            "word_embed_dim": encoder.input_size,
        }
    config.update(
        word_embed_num=len(maps["gw_map"]),
        word_embed_dim=words.get_output_dim(),
        char_embed_num=len(maps["c_map"]),
        char_embed_dim=characters.embedding_dim,
        char_hidden=characters.hidden_size,
        char_layers=characters.num_layers,
        word_hidden=rnn.hidden_size,
        word_layers=rnn.num_layers,
        droprate=model.dropout.p if model.dropout else 0.0,
        y_num=len(maps["y_map"]),
        label_schema="iobes",
        unit_type=characters.cell_type,
    )
    return config
