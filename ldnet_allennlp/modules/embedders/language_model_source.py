"""Where a tagger gets a frozen language model from: an archive, or a description of one."""

from typing import Any, Dict, List, NamedTuple, Optional, Union

import torch
from allennlp.common import FromParams, Params
from allennlp.common.checks import ConfigurationError
from allennlp.modules.seq2seq_encoders import Seq2SeqEncoder
from allennlp.modules.text_field_embedders import BasicTextFieldEmbedder
from allennlp.modules.token_embedders import Embedding
from allennlp_models.lm.models.language_model import LanguageModel

from ldnet_allennlp.common.untrusted.archives import load_checked_archive
from ldnet_allennlp.data.language_model_vocabulary import words_of
from ldnet_allennlp.modules.rnn.ld_rnn import LdRnn
from ldnet_allennlp.modules.rnn.stacked_rnn import StackedRnn

DEFAULT_BOUNDARY = "<eos>"
READABLE = (LdRnn, StackedRnn)


class PretrainedLanguageModel(NamedTuple):
    """What is taken from a language model's archive."""

    direction: str
    """"forward", "backward" or "bidirectional"."""

    contextualizer: Union[LdRnn, StackedRnn]
    """The network, as the archive holds it."""

    embedding: torch.Tensor
    """The word vectors, shape (number of words, input size)."""

    words: List[str]
    """Every word in the order of its row in `embedding`; the padding and the unknown token are the first two."""

    boundary: Optional[str]
    """The token between sentences, if the vocabulary knows one."""


class LanguageModelSource(FromParams):
    """
    One language model of an "ldnet" token embedder.

    # Parameters

    pretrained_file : `str`, optional
        The archive of an "adaptive_language_model" (or another `LanguageModel` of allennlp-models over a
        plain word embedding) whose contextualizer is an "ld_rnn" or a "stacked_rnn": `model.tar.gz` or its
        serialization directory. Needed in training only. AllenNLP leaves out keys of this name when it loads an
        archive.
    contextualizer : `Seq2SeqEncoder`, optional
        The "ld_rnn" or "stacked_rnn" to build, for a model whose weights come from elsewhere. `ldnet-prune` writes it.
    boundary : `str`, optional
        The sentence boundary that is read before the words of a sentence; with `pretrained_file`, the one the
        language model was trained with is the default. An empty string stands for none.
    layers : `List[List[int]]`, optional
        Which layers of the unpruned language model, from 0, a pruned `contextualizer` kept: one list a stack.
    unpruned_layers : `List[int]`, optional
        How many layers each stack of the unpruned language model had. Reports show it.
    mixture : `bool`, optional (default = `False`)
        For a "stacked_rnn" only: whether to read an ELMo-style mixture of all its layers, with trained weights,
        and not its top layer. See `StackedLayers`.
    embedding_dtype : `str`, optional (default = `"float32"`)
        How the word vectors are stored, in memory and in archives: "float32" or, in half the space, "float16".

    Raises `ConfigurationError` if the contextualizer is of another kind.
    """

    def __init__(
        self,
        pretrained_file: Optional[str] = None,
        contextualizer: Optional[Seq2SeqEncoder] = None,
        boundary: Optional[str] = None,
        layers: Optional[List[List[int]]] = None,
        mixture: bool = False,
        unpruned_layers: Optional[List[int]] = None,
        embedding_dtype: str = "float32",
    ) -> None:
        if contextualizer is not None and not isinstance(contextualizer, READABLE):
            raise ConfigurationError(
                f"The contextualizer of a language model for the ldnet token embedder is an ld_rnn or a "
                f"stacked_rnn, but a {type(contextualizer).__name__} was found."
            )
        self.pretrained_file = pretrained_file
        self.contextualizer: Optional[Union[LdRnn, StackedRnn]] = contextualizer
        self.boundary = boundary
        self.layers = layers
        self.mixture = mixture
        self.unpruned_layers = unpruned_layers
        self.embedding_dtype = embedding_dtype


def read_language_model(archive_path: str) -> PretrainedLanguageModel:
    """
    Reads a language model's archive.

    # Parameters

    archive_path : `str`
        `model.tar.gz` or a serialization directory.

    Raises `ConfigurationError` if there is none, or if what it holds is not a language model that the "ldnet"
    token embedder can use.
    """
    try:
        archive = load_checked_archive(archive_path, is_trained=False)
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"The language model '{archive_path}' (pretrained_file of an ldnet token embedder) was not found: "
            f"{error}."
        ) from error
    model = archive.model
    if not isinstance(model, LanguageModel):
        raise ConfigurationError(
            f"The archive '{archive_path}' (pretrained_file of an ldnet token embedder) was expected to hold a "
            f"language model, but it holds a {type(model).__name__}."
        )
    contextualizer = model._contextualizer
    if not isinstance(contextualizer, READABLE):
        raise ConfigurationError(
            f"The language model in '{archive_path}' was expected to have an ld_rnn or a stacked_rnn as its "
            f"contextualizer, but it has a {type(contextualizer).__name__}."
        )
    embedding = _word_embedding(model, archive_path)
    words = words_of(model.vocab, embedding._vocab_namespace or "tokens")
    # A vocabulary from elsewhere may have its unknown token anywhere; in the tagger's it is the second.
    order = list(range(len(words)))
    order.insert(1, order.pop(words.index(model.vocab._oov_token)))
    words = [words[number] for number in order]
    boundary = archive.config.get("dataset_reader", {}).get("end_of_sentence", DEFAULT_BOUNDARY)
    return PretrainedLanguageModel(
        direction="bidirectional" if model._bidirectional else getattr(model, "direction", "forward"),
        contextualizer=contextualizer,
        embedding=embedding.weight.detach()[order],
        words=words,
        boundary=boundary if boundary in words else None,
    )


def _word_embedding(model: LanguageModel, archive_path: str) -> Embedding:
    embedder = model._text_field_embedder
    parts = embedder._token_embedders if isinstance(embedder, BasicTextFieldEmbedder) else {}
    embeddings = list(parts.values())
    if len(embeddings) != 1 or not isinstance(embeddings[0], Embedding) or embeddings[0]._projection:
        raise ConfigurationError(
            f"The language model in '{archive_path}' was expected to read words through one embedding, but it "
            f"reads {', '.join(type(part).__name__ for part in embeddings) or type(embedder).__name__}."
        )
    return embeddings[0]


def build_contextualizer(description: Dict[str, Any]) -> Union[LdRnn, StackedRnn]:
    """The encoder that `describe` of an "ld_rnn" or a "stacked_rnn" gave, with new weights and no dropout."""
    encoder = Seq2SeqEncoder.from_params(Params(dict(description)))
    assert isinstance(encoder, READABLE)
    return encoder
