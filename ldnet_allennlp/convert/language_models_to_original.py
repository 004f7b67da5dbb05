"""An `adaptive_language_model` as the original's `LM`, with the reasons where there is none."""

from typing import Any, Dict, List, NamedTuple, Optional, Union

import torch
from allennlp.common.checks import ConfigurationError
from allennlp.data.vocabulary import DEFAULT_OOV_TOKEN
from allennlp.modules.token_embedders import Embedding

from ldnet_allennlp.convert.original_files import NEWLINE, UNKNOWN, Map, Weights
from ldnet_allennlp.convert.vocabularies import original_map
from ldnet_allennlp.data.language_model_vocabulary import words_of
from ldnet_allennlp.models.adaptive_language_model import NAMESPACE, AdaptiveLanguageModel
from ldnet_allennlp.modules.rnn.ld_rnn import LdRnn
from ldnet_allennlp.modules.rnn.stacked_rnn import StackedRnn


class LanguageModelFiles(NamedTuple):
    """What the original has of a language model."""

    weights: Weights
    maps: Dict[str, Any]
    """The content of `test.pk`, without any text."""
    options: Dict[str, Any]
    """The options of `train_lm.py` that build such a model."""


def language_model_files(model: AdaptiveLanguageModel, config: Dict[str, Any]) -> LanguageModelFiles:
    """
    # Parameters

    model : `AdaptiveLanguageModel`
    config : `Dict[str, Any]`
        The config of its archive.

    Raises `ConfigurationError` with all reasons why the original has no such model.
    """
    reasons = _reasons(model)
    if reasons:
        raise ConfigurationError(
            "The original LD-Net has no such language model: " + "; ".join(reasons) + "."
        )
    encoder, softmax = model._contextualizer, model._softmax_loss
    assert isinstance(encoder, (LdRnn, StackedRnn)) and softmax is not None
    boundary = config.get("dataset_reader", {}).get("end_of_sentence", "<eos>")
    names = words_of(model.vocab, NAMESPACE)[1:]
    if boundary not in names:
        raise ConfigurationError(
            f"The original reads a boundary between sentences, but the language model's words have no '{boundary}'."
        )
    words = original_map(names, boundary, NEWLINE, "words")
    projection = model._projection
    weights = encoder_weights(encoder, "")
    weights.update({f"soft_max.{name}": tensor for name, tensor in softmax.state_dict().items()})
    weights["word_embed.weight"] = _embedding(model).weight[1:]
    if projection is not None:
        weights.update({f"project.{name}": tensor for name, tensor in projection.state_dict().items()})
    options = {
        "word_dim": encoder.input_size,
        "hid_dim": encoder.hidden_size,
        "layer_num": encoder.num_layers,
        "rnn_layer": "LDNet" if isinstance(encoder, LdRnn) else "Basic",
        "rnn_unit": encoder.cell_type,
        "label_dim": projection.out_features if projection is not None else -1,
        "add_relu": projection is not None and _activation(model) == "relu",
        "cut_off": list(softmax.cutoffs[:-1]) or [softmax.cutoffs[0]],
        "droprate": model._embedding_dropout.p,
    }
    return LanguageModelFiles(weights, _maps(words), options)


def _maps(words: Map) -> Dict[str, Any]:
    return {"w_map": words, "test_data": [], "range": 0}


def _embedding(model: AdaptiveLanguageModel) -> Embedding:
    embedders: Any = model._text_field_embedder._token_embedders
    return embedders["tokens"]


def _reasons(model: AdaptiveLanguageModel) -> List[str]:
    reasons = []
    encoder, softmax = model._contextualizer, model._softmax_loss
    if model._bidirectional:
        reasons.append("it reads in both directions, the original has one language model for each")
    elif not isinstance(encoder, (LdRnn, StackedRnn)):
        reasons.append(f"its contextualizer is a {type(encoder).__name__}, not an ld_rnn or a stacked_rnn")
    embedders = getattr(model._text_field_embedder, "_token_embedders", {})
    only = embedders["tokens"] if list(embedders) == ["tokens"] else None
    if not isinstance(only, Embedding) or only._projection is not None:
        reasons.append("it reads words through something else than one embedding named 'tokens'")
    names = words_of(model.vocab, NAMESPACE)
    if DEFAULT_OOV_TOKEN not in names:
        reasons.append(f"its vocabulary has no unknown word, which the original needs as {UNKNOWN}")
    if model._projection is not None and _activation(model) is None:
        activation = type(model._projection_activation).__name__
        reasons.append(f"its projection is followed by {activation}, not by relu or nothing")
    if softmax is None:
        return [*reasons, "its softmax was deleted"]
    if softmax.head.bias is None:
        reasons.append("the head of its softmax has no bias (tail_offset is not 0)")
    for number, tail in enumerate(softmax.tail):
        expected = softmax.embedding_dim // 4**number
        if tail[0].out_features != expected:
            reasons.append(
                f"tail {number} of its softmax has the inner size {tail[0].out_features}, not {expected} "
                f"(div_value 4, tail_offset 0)"
            )
    spare = softmax.num_words - (len(names) - 1)
    if spare != 1:
        reasons.append(
            f"its softmax has {spare} classes beyond its {len(names) - 1} words, and that of the original always "
            f"1 (train with spare_classes: 1)"
        )
    return reasons


def _activation(model: AdaptiveLanguageModel) -> Optional[str]:
    """Which of the original's two it is, by what it does: AllenNLP's activations have no type of their own."""
    probe = torch.linspace(-3.0, 3.0, 7)
    with torch.no_grad():
        found = model._projection_activation(probe)
    for name, expected in (("linear", probe), ("relu", probe.relu())):
        if torch.equal(found, expected):
            return name
    return None


def encoder_weights(encoder: Union[LdRnn, StackedRnn], prefix: str) -> Weights:
    """The layers of a unidirectional encoder under the original's names."""
    layers = encoder.stacks[0].layers if isinstance(encoder, LdRnn) else encoder.layers
    return {
        f"{prefix}rnn.layer.{number}.layer.{name}": tensor
        for number, layer in enumerate(layers)
        for name, tensor in layer.state_dict().items()
    }
