"""Embedding initialized from a file of word vectors, with a report of its coverage."""

import logging
from array import array
from collections import Counter
from collections.abc import Collection, Mapping

import numpy
import torch
from allennlp.common.checks import ConfigurationError
from allennlp.data import Vocabulary
from allennlp.modules.token_embedders import Embedding, TokenEmbedder

from ldnet_allennlp.data.word_vectors import read_word_vectors

logger = logging.getLogger(__name__)

_CASED = 'for cased vectors set "lowercase": false in the settings (token_indexers.tokens.lowercase_tokens)'
_NUM_MISSING = 20  # of the most frequent words without a vector, in the log
_MOST_LOWER = 0.05  # the share of capitalized vectors from which lower-cased words miss something


@TokenEmbedder.register("word_vectors", constructor="from_file")
class WordVectorEmbedding(Embedding):
    """
    Builds AllenNLP's `Embedding` from a file of vectors. Each word with a vector enters the vocabulary, even if the
    training data lack it. Other words start from random numbers of the same mean and deviation.

    Registered as a `TokenEmbedder` with name "word_vectors". The archive of a model does not need the file.
    """

    @classmethod
    def from_file(
        cls,
        vocab: Vocabulary,
        embedding_dim: int,
        pretrained_file: str | None = None,
        vocab_namespace: str = "tokens",
        max_words: int | None = None,
        trainable: bool = True,
        setting: str = "embedding_dim",
    ) -> Embedding:
        """
        # Parameters

        vocab : `Vocabulary`
            The model's vocabulary, which grows.
        embedding_dim : `int`
            The size of the vectors.
        pretrained_file : `str`, optional
            GloVe, fastText's .vec, word2vec's text or binary format; plain, compressed, or zipped ("(a.zip)#file.txt").
        vocab_namespace : `str`, optional (default = `"tokens"`)
            The namespace of the words.
        max_words : `int`, optional
            The maximum number of vectors to read. Files begin with the most frequent words.
        trainable : `bool`, optional (default = `True`)
            Whether the vectors are trained.
        setting : `str`, optional (default = `"embedding_dim"`)
            The name of `embedding_dim` in messages, for configs that take it from a setting.

        Raises `ConfigurationError` if the file has vectors of another size, or no vectors.
        """
        weight = None
        if pretrained_file is not None:
            counts = (vocab._retained_counter or {}).get(vocab_namespace, {})
            ids, vectors = _read(
                vocab, vocab_namespace, pretrained_file, (embedding_dim, setting), max_words, counts
            )
            weight = torch.FloatTensor(vocab.get_vocab_size(vocab_namespace), embedding_dim)
            weight.normal_(float(vectors.mean()), float(vectors.std()))
            weight[torch.tensor(ids)] = torch.from_numpy(vectors)
        return Embedding(
            embedding_dim=embedding_dim,
            num_embeddings=vocab.get_vocab_size(vocab_namespace),
            weight=weight,
            trainable=trainable,
            vocab_namespace=vocab_namespace,
        )


def _read(
    vocab: Vocabulary,
    namespace: str,
    path: str,
    dimension: tuple[int, str],
    max_words: int | None,
    counts: Mapping[str, int],
) -> tuple[list[int], numpy.ndarray]:
    """The ids of words, which are added to the vocabulary, and their vectors: shape (number of ids, dimension)."""
    # Recovered and distributed runs have no word counts.
    words = counts or set(vocab.get_token_to_index_vocabulary(namespace)) - {
        vocab._padding_token,
        vocab._oov_token,
    }
    is_lower = bool(words) and all(word == word.lower() for word in words)
    numbers = array("f")
    ids: dict[str, int] = {}
    num_capitalized = 0
    for number, (word, vector) in enumerate(read_word_vectors(path, *dimension)):
        if max_words is not None and number >= max_words:
            break
        if word != word.lower():
            num_capitalized += 1
            if is_lower:
                continue  # never looked up
        if word and word not in ids:
            ids[word] = vocab.add_token_to_namespace(word, namespace)
            numbers.frombytes(vector.tobytes())
    if not ids:
        hint = f" All have capital letters, but words are lower-cased: {_CASED}." if num_capitalized else ""
        raise ConfigurationError(f"{path}: found no usable word vectors.{hint}")
    _report(path, ids, counts, num_capitalized if is_lower else 0)
    return list(ids.values()), numpy.frombuffer(numbers, dtype=numpy.float32).reshape(len(ids), dimension[0])


def _report(path: str, words: Collection[str], counts: Mapping[str, int], num_capitalized: int) -> None:
    """Log how many of the counted words have a vector, and a setting that would match more."""
    if num_capitalized > _MOST_LOWER * (len(words) + num_capitalized):
        logger.warning(
            f"{path}: {num_capitalized} word vectors have capital letters and are never looked up, as words are "
            f"lower-cased: {_CASED}."
        )
    num_tokens = sum(counts.values())
    if not num_tokens:
        return
    missing = Counter({word: number for word, number in counts.items() if word not in words})
    found, found_tokens = len(counts) - len(missing), num_tokens - sum(missing.values())
    most = ", ".join(f"{word} ({number})" for word, number in missing.most_common(_NUM_MISSING)) or "none"
    logger.info(
        f"{path}: {len(words)} vectors; {found} of {len(counts)} distinct words have one "
        f"({100 * found / len(counts):.1f} %), and {found_tokens} of {num_tokens} words of the texts "
        f"({100 * found_tokens / num_tokens:.1f} %). The most frequent without: {most}."
    )
    lower = sum(number for word, number in missing.items() if word.lower() in words)
    if lower > _MOST_LOWER * num_tokens:
        logger.warning(
            f'{path}: {lower} more words of the texts would have a vector in lower case: set "lowercase": true in the '
            f"settings (token_indexers.tokens.lowercase_tokens)."
        )
