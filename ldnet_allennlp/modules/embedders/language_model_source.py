"""Language models of an "ldnet" token embedder: their config sections and their resolution."""

from typing import Any, Optional

import torch
from allennlp.common import FromParams, Params
from allennlp.common.checks import ConfigurationError
from allennlp.data import Vocabulary
from allennlp.modules.seq2seq_encoders import Seq2SeqEncoder

from ldnet_allennlp.data.language_model_archive import PretrainedLanguageModel, read_language_model
from ldnet_allennlp.data.language_model_vocabulary import (
    has_words,
    read_architecture,
    store_architecture,
    store_words,
    words_namespace,
    words_of,
)
from ldnet_allennlp.modules.rnn.ld_rnn import LdRnn
from ldnet_allennlp.modules.rnn.stacked_rnn import StackedRnn

READABLE = (LdRnn, StackedRnn)
DIRECTIONS = ("forward", "backward", "bidirectional")


class LanguageModelSource(FromParams):
    """
    One language model of an "ldnet" token embedder.

    # Parameters

    pretrained_file : `str`, optional
        The archive of an "adaptive_language_model" (or another `LanguageModel` of allennlp-models over a plain word
        embedding) whose contextualizer is an "ld_rnn" or a "stacked_rnn": `model.tar.gz` or its serialization
        directory. Needed in training only: AllenNLP drops keys of this name when it loads an archive.
    contextualizer : `Seq2SeqEncoder`, optional
        The "ld_rnn" or "stacked_rnn" to build, for a model whose weights are loaded later. `ldnet-prune` writes it.
    boundary : `str`, optional
        The sentence boundary, read before the words of a sentence. With `pretrained_file`, the default is the boundary
        of the language model's training. An empty string means none.
    layers : `List[List[int]]`, optional
        The layers that a pruned `contextualizer` kept, numbered from 0 in the unpruned language model: one list per
        stack.
    unpruned_layers : `List[int]`, optional
        The number of layers of each stack of the unpruned language model, for reports.
    mixture : `bool`, optional (default = `False`)
        For a "stacked_rnn" only: whether to read an ELMo-style mixture of all its layers with trained weights, instead
        of its top layer. See `StackedLayers`.
    embedding_dtype : `str`, optional
        The precision of the stored word vectors, in memory and in archives: "float32", or "float16" for half the space.
        By default that of the language model.

    Raises `ConfigurationError` if the contextualizer is of another kind.
    """

    def __init__(
        self,
        pretrained_file: Optional[str] = None,
        contextualizer: Optional[Seq2SeqEncoder] = None,
        boundary: Optional[str] = None,
        layers: Optional[list[list[int]]] = None,
        mixture: bool = False,
        unpruned_layers: Optional[list[int]] = None,
        embedding_dtype: Optional[str] = None,
    ) -> None:
        if contextualizer is not None and not isinstance(contextualizer, READABLE):
            raise ConfigurationError(
                f"The contextualizer of a language model for the ldnet token embedder is an ld_rnn or a "
                f"stacked_rnn, but a {type(contextualizer).__name__} was found."
            )
        self.pretrained_file = pretrained_file
        self.contextualizer: LdRnn | StackedRnn | None = contextualizer
        self.boundary = boundary
        self.layers = layers
        self.mixture = mixture
        self.unpruned_layers = unpruned_layers
        self.embedding_dtype = embedding_dtype


def resolve_sources(
    vocab: Vocabulary, namespace: str, sources: dict[str, LanguageModelSource]
) -> tuple[dict[str, Any], dict[str, PretrainedLanguageModel]]:
    """
    Determine the architecture of each language model by direction: from its archive, its config section, or the
    vocabulary, to which words and architectures of language models from archives are added, in namespaces that begin
    with `namespace`. Returns the architectures, and the language models read from archives.

    Raises `ConfigurationError` if a direction has none of the three, or if an archive contains another direction.
    """
    stored = read_architecture(vocab, namespace) or {}
    architectures: dict[str, Any] = {}
    pretrained: dict[str, PretrainedLanguageModel] = {}
    for direction, source in sources.items():
        if source.pretrained_file is not None:
            language_model = _read(vocab, namespace, direction, source.pretrained_file)
            pretrained[direction] = language_model
            architectures[direction] = {
                "contextualizer": language_model.contextualizer.describe(),
                "boundary": language_model.boundary if source.boundary is None else source.boundary,
            }
            if language_model.embedding.dtype == torch.float16:
                architectures[direction]["embedding_dtype"] = "float16"
        elif source.contextualizer is not None:
            architectures[direction] = {
                "contextualizer": source.contextualizer.describe(),
                "boundary": source.boundary,
            }
        elif direction in stored:
            architectures[direction] = stored[direction]
        else:
            raise ConfigurationError(
                f"The {direction} language model of the ldnet token embedder has neither a pretrained_file "
                f"nor a contextualizer, and the vocabulary does not describe one under '{namespace}'."
            )
    if pretrained:
        store_architecture(vocab, namespace, {**stored, **architectures})
    return architectures, pretrained


def namespace_of_words(vocab: Vocabulary, namespace: str, direction: str) -> str:
    """The vocabulary namespace of a direction's words: a backward language model with other words has its own."""
    backward = words_namespace(namespace, backward=True)
    if direction == "backward" and has_words(vocab, backward):
        return backward
    return words_namespace(namespace)


def boundary_id(vocab: Vocabulary, namespace: str, boundary: str | None, direction: str) -> int | None:
    """The id of a boundary in a namespace of words. Raises `ConfigurationError` if it is missing."""
    if not boundary:
        return None
    if boundary not in vocab.get_token_to_index_vocabulary(namespace):
        raise ConfigurationError(
            f"The boundary '{boundary}' of the {direction} language model was expected to be one of its words, "
            f"but the vocabulary's namespace '{namespace}' does not have it. An empty string stands for none."
        )
    return vocab.get_token_index(boundary, namespace)


def check_layers_to_keep(layers: dict[str, list[int]], keep: dict[str, list[int]]) -> None:
    """Raise `ConfigurationError` if `keep` has other directions or layers than `layers`, or a layer twice."""
    for name, numbers in keep.items():
        if name not in layers:
            raise ConfigurationError(
                f"The layers to keep are given for {' and '.join(layers)}, but '{name}' was found."
            )
        if set(numbers) - set(layers[name]) or len(set(numbers)) != len(numbers):
            raise ConfigurationError(
                f"The {name} language model has the layers {layers[name]}, each to be kept once or not at "
                f"all, but {sorted(numbers)} were to be kept."
            )


def stack_names(direction: str) -> list[str]:
    """The names of a language model's stacks: a bidirectional one has two."""
    return ["forward", "backward"] if direction == "bidirectional" else [direction]


def build_contextualizer(description: dict[str, Any]) -> LdRnn | StackedRnn:
    """Build the "ld_rnn" or "stacked_rnn" of a `describe` result, with new weights and without dropout."""
    encoder = Seq2SeqEncoder.from_params(Params(dict(description)))
    assert isinstance(encoder, READABLE)
    return encoder


def _read(vocab: Vocabulary, namespace: str, direction: str, archive_path: str) -> Any:
    language_model = read_language_model(archive_path)
    if not isinstance(language_model.contextualizer, READABLE):
        raise ConfigurationError(
            f"The language model in '{archive_path}' was expected to have an ld_rnn or a stacked_rnn as its "
            f"contextualizer, but it has a {type(language_model.contextualizer).__name__}."
        )
    if language_model.direction != direction:
        raise ConfigurationError(
            f"A {direction} language model was expected in '{archive_path}' ({direction} of the ldnet "
            f"token embedder), but it holds a {language_model.direction} one."
        )
    words = words_namespace(namespace)
    backward = words_namespace(namespace, backward=True)
    # A backward model with a separate namespace keeps it.
    if (direction == "backward" and has_words(vocab, words)) and (
        has_words(vocab, backward) or words_of(vocab, words) != language_model.words
    ):
        words = backward
    store_words(vocab, words, language_model.words)
    return language_model
