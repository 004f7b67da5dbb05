"""Read archives of language models: the network, its word vectors and its words."""

from typing import NamedTuple

import torch
from allennlp.common.checks import ConfigurationError
from allennlp.modules.seq2seq_encoders import Seq2SeqEncoder
from allennlp.modules.text_field_embedders import BasicTextFieldEmbedder
from allennlp.modules.token_embedders import Embedding
from allennlp_models.lm.models.language_model import LanguageModel

from ldnet_allennlp.common.untrusted.archives import load_checked_archive
from ldnet_allennlp.data.language_model_vocabulary import words_of

DEFAULT_BOUNDARY = "<eos>"


class PretrainedLanguageModel(NamedTuple):
    """The parts of a language model that a tagger uses."""

    direction: str
    """"forward", "backward" or "bidirectional"."""

    contextualizer: Seq2SeqEncoder
    """The network, as the archive holds it."""

    embedding: torch.Tensor
    """The word vectors, shape (number of words, input size); in float16 if all of them are numbers of that type."""

    words: list[str]
    """Every word in the order of its row in `embedding`; the padding and the unknown token are the first two."""

    boundary: str | None
    """The token between sentences, if the vocabulary has one."""


def read_language_model(archive_path: str) -> PretrainedLanguageModel:
    """
    Read a language model's `model.tar.gz` or serialization directory.

    Raises `ConfigurationError` if the archive is missing, or is not a language model over a word embedding.
    """
    try:
        archive = load_checked_archive(archive_path, is_trained=False)
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"The language model '{archive_path}' (pretrained_file of an ldnet token embedder) was not found: "
            f"{error}. The English ones are in models/english of the repository, not in the wheel: run the command in "
            f"a checkout, or set lm_forward and lm_backward."
        ) from error
    model = archive.model
    if not isinstance(model, LanguageModel):
        raise ConfigurationError(
            f"The archive '{archive_path}' (pretrained_file of an ldnet token embedder) was expected to hold a "
            f"language model, but it holds a {type(model).__name__}."
        )
    contextualizer = model._contextualizer
    embedder = model._text_field_embedder
    parts = embedder._token_embedders if isinstance(embedder, BasicTextFieldEmbedder) else {}
    embedding, *others = [*parts.values(), None]
    if others != [None] or not isinstance(embedding, Embedding) or embedding._projection:
        raise ConfigurationError(
            f"The language model in '{archive_path}' was expected to read words through one embedding, but it "
            f"reads {', '.join(type(part).__name__ for part in parts.values()) or type(embedder).__name__}."
        )
    words = words_of(model.vocab, embedding._vocab_namespace or "tokens")
    # A vocabulary may have its unknown token at any position; in the tagger's it is the second.
    order = list(range(len(words)))
    order.insert(1, order.pop(words.index(model.vocab._oov_token)))
    words = [words[number] for number in order]
    vectors = embedding.weight.detach()[order]
    half = vectors.half()  # an archive's float16 numbers are read as float32
    boundary = archive.config.get("dataset_reader", {}).get("end_of_sentence", DEFAULT_BOUNDARY)
    return PretrainedLanguageModel(
        direction="bidirectional" if model._bidirectional else getattr(model, "direction", "forward"),
        contextualizer=contextualizer,
        embedding=half if torch.equal(half.to(vectors.dtype), vectors) else vectors,
        words=words,
        boundary=boundary if boundary in words else None,
    )
