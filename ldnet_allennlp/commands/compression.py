"""What `ldnet-compress` does to a model: its config, its weights, and the measure of what that changes."""

import copy
from typing import Any, Dict, List, NamedTuple, Tuple

import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.models.model import Model, remove_keys_from_params
from allennlp.modules.token_embedders import Embedding

from ldnet_allennlp.common.archives import ARRAY_ENDING, find_sections
from ldnet_allennlp.modules.embedders.ldnet_embedder import LdnetEmbedder
from ldnet_allennlp.modules.embedders.word_vectors import WordVectors
from ldnet_allennlp.modules.quantized_layers import quantized_layers

# Where models have the encoder of a sentence, and which of AllenNLP's and of ours consist of torch's RNNs.
_ENCODER_KEYS = ("encoder", "seq2seq_encoder")
_ENCODER_TYPES = ("lstm", "gru", "ld_rnn", "stacked_rnn", "layer_selection", "compose")
# What models repeat of their input in their output.
_INPUTS = ("words", "tokens", "token_ids", "pos", "mask", "metadata")


class Change(NamedTuple):
    """How the outputs of two models differ."""

    changed: int
    """The tags (of a model without `tags`: the labels, heads and whatever else is no score) that are others."""

    total: int
    """How many there are."""

    largest: float
    """The largest difference of a score."""

    @property
    def percent(self) -> float:
        """How many of a hundred changed."""
        return 100 * self.changed / max(1, self.total)


def check_is_whole(model: Model, source: str) -> None:
    """
    Raises `ConfigurationError` if a model has int8 weights or mapped word vectors: it cannot be changed further, and
    what it was made from can.
    """
    found = []
    if quantized_layers(model):
        found.append("int8 weights")
    if any(isinstance(part, WordVectors) and part.file is not None for part in model.modules()):
        found.append("word vectors that are mapped into memory")
    if found:
        raise ConfigurationError(
            f"The model of '{source}' has {' and '.join(found)}, which cannot be changed. Give the archive that "
            f"ldnet-compress made it from: prune first, and compress then."
        )


def int8_config(model_section: Dict[str, Any]) -> Dict[str, Any]:
    """
    The config's section of a model with int8 weights in what pays: its language models ("ldnet") and its encoder.

    Character networks stay as they are: with some 30 inputs and 150 states a step takes the same time either way.

    Raises `ConfigurationError` if there is neither.
    """
    section = _with_int8_embedders(model_section)
    changed = section != model_section
    for key in _ENCODER_KEYS:
        encoder = section.get(key)
        if isinstance(encoder, dict) and encoder.get("type") in _ENCODER_TYPES:
            section[key] = {"type": "int8", "encoder": encoder}
            changed = True
    if not changed:
        raise ConfigurationError(
            f"The model has no language models (ldnet) and no encoder of the types {', '.join(_ENCODER_TYPES)}: there "
            f"is nothing to store as int8."
        )
    return section


def _with_int8_embedders(node: Any) -> Any:
    if isinstance(node, dict):
        if node.get("type") == "ldnet":
            return {"type": "int8", "embedder": copy.deepcopy(node)}
        return {key: _with_int8_embedders(value) for key, value in node.items()}
    return [_with_int8_embedders(value) for value in node] if isinstance(node, list) else node


def set_embedding_dtype(model_section: Dict[str, Any], dtype: str) -> None:
    """Says how the language models' vectors are stored, in place."""
    for section in find_sections(model_section, "ldnet"):
        for source in _sources(section).values():
            source["embedding_dtype"] = dtype


def map_embeddings(model: Model, model_section: Dict[str, Any]) -> Dict[str, str]:
    """
    Names a file for the vectors of each language model in the config, in place.

    # Returns

    `Dict[str, str]`
        The file of each weight, by its name in the model's state.
    """
    names = {id(part): name for name, part in model.named_modules()}
    embedders = [part for part in model.modules() if isinstance(part, LdnetEmbedder)]
    files: Dict[str, str] = {}
    for section, embedder in zip(find_sections(model_section, "ldnet"), embedders):
        for direction, source in _sources(section).items():
            vectors = embedder.language_models[f"{direction}_lm"].embedding
            file = f"{embedder.namespace}_{direction}_{len(files)}{ARRAY_ENDING}"
            source["embedding_file"] = file
            files[f"{names[id(vectors)]}.weight"] = file
    return files


def _sources(section: Dict[str, Any]) -> Dict[str, Dict[str, Any]]:
    return {
        name: section[name]
        for name in ("forward", "backward", "bidirectional")
        if section.get(name) is not None
    }


def half_precision(model: Model) -> Dict[str, torch.Tensor]:
    """
    The weights of all embeddings as half-precision numbers, by their names in the model's state.

    Raises `ConfigurationError` if one of them is too large for that.
    """
    kinds = (torch.nn.Embedding, torch.nn.EmbeddingBag, Embedding)
    rounded = {}
    for name, part in model.named_modules():
        if not isinstance(part, kinds):
            continue
        weight = part.weight.detach()
        half = weight.half()
        if bool((torch.isinf(half) & ~torch.isinf(weight)).any()):
            raise ConfigurationError(
                f"The embeddings were to be stored in half precision, whose largest number is 65,504, but "
                f"'{name}' has numbers up to {weight.abs().max().item():.6g}."
            )
        rounded[f"{name}.weight"] = half
    return rounded


def rebuilt(model: Model, model_section: Dict[str, Any], state: Dict[str, torch.Tensor]) -> Model:
    """
    A model as its config describes it now, with the weights of another one, in evaluation mode.

    # Parameters

    model : `Model`
        Its vocabulary is used.
    model_section : `Dict[str, Any]`
        The config's section of the new model.
    state : `Dict[str, torch.Tensor]`
        The weights. They are rounded to what the new model stores.
    """
    params = Params(copy.deepcopy(model_section))
    remove_keys_from_params(params)  # as AllenNLP does when it loads an archive
    new = Model.from_params(vocab=model.vocab, params=params)
    new.load_state_dict(state)
    return new.eval()


def change_of(before: List[Dict[str, Any]], after: List[Dict[str, Any]]) -> Change:
    """How the outputs for the same sentences, as `outputs_of` gives them, differ."""
    if all("tags" in output for output in before):
        changed, total = _compared(
            [output["tags"] for output in before], [output["tags"] for output in after]
        )[:2]
    else:
        changed, total = _compared(before, after)[:2]
    return Change(changed, total, _compared(before, after)[2])


def _compared(first: Any, second: Any) -> Tuple[int, int, float]:
    """How many decisions differ, how many there are, and the largest difference of a score."""
    if isinstance(first, dict) and isinstance(second, dict):
        pairs = [(first.get(key), second.get(key)) for key in {**first, **second} if key not in _INPUTS]
    elif isinstance(first, list) and isinstance(second, list):
        pairs = list(zip(first, second))
        missing = abs(len(first) - len(second))
        if missing:
            pairs += [("", None)] * missing
    elif isinstance(first, float) and isinstance(second, float):
        distance = abs(first - second)
        return 0, 0, distance if distance == distance else 0.0  # NaN: of infinities that are the same
    else:
        return int(first != second), 1, 0.0
    found = [_compared(*pair) for pair in pairs]
    return (
        sum(changed for changed, _, _ in found),
        sum(total for _, total, _ in found),
        max((largest for _, _, largest in found), default=0.0),
    )
