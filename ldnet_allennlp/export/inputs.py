"""Inputs of an exported tagger: the ids that the runtime looks up for each word, and their vocabularies."""

from typing import Any, NamedTuple

from allennlp.data import TokenIndexer, Vocabulary
from allennlp.data.token_indexers import SingleIdTokenIndexer, TokenCharactersIndexer
from allennlp.data.tokenizers import CharacterTokenizer

from ldnet_allennlp.data.language_model_vocabulary import has_words, words_namespace, words_of
from ldnet_allennlp.data.ldnet_indexer import LdnetIndexer
from ldnet_allennlp.export.checks import NotExportable, require, require_type
from ldnet_allennlp.export.graph import Graph
from ldnet_runtime.model_file import Input, SentenceCharacterInput, WordCharacterInput, WordInput

_BYTES = 257
"""The ids of byte-encoded characters: 0 is padding, and a byte's id is its value + 1."""


class WordIds(NamedTuple):
    """Ids of words."""

    ids: str
    """int64, shape (T, B)."""
    rows: Any
    """The index of the rows of the embedding table that are kept, in order."""
    size: int
    """The number of ids."""


class WordCharacters(NamedTuple):
    """The characters of U distinct words."""

    characters: str
    """int64, shape (U, C); 0 is padding."""
    lengths: str
    """int64, shape (U,)."""
    rows: str
    """int64, shape (T, B): the row of each word."""
    size: int
    """The number of character ids."""


class CharacterStream(NamedTuple):
    """The characters of whole sentences, with a space after each word and a marker at the end."""

    codes: str
    """int64, shape (S, B): 0 is the space, 1 the marker, id + 2 a character."""
    lengths: str
    """int64, shape (B,)."""
    forward: str
    """int64, shape (T, B): where each word is read, in time-first outputs (S * B, H); -1 for nothing to read."""
    backward: str
    size: int


class Inputs:
    """
    Adds inputs to a graph and describes them for the runtime. `keep_words` are the words that keep their vectors, by
    default all.
    """

    def __init__(self, graph: Graph, vocab: Vocabulary, keep_words: set[str] | None = None) -> None:
        self._graph = graph
        self._vocab = vocab
        self._keep_words = keep_words
        self.descriptions: list[Input] = []
        """The inputs, as the file describes them."""
        self.vocabularies: dict[str, list[str]] = {}
        """Tokens by id."""

    def words(self, name: str, indexer: TokenIndexer) -> WordIds:
        """The input of a "single_id" indexer."""
        key = _key(name)
        require_type(indexer, key, SingleIdTokenIndexer)
        assert isinstance(indexer, SingleIdTokenIndexer)
        require(indexer._feature_name == "text", key, f"reads {indexer._feature_name}, not the words' text")
        require(not indexer._start_tokens and not indexer._end_tokens, key, "adds start_tokens or end_tokens")
        if indexer.namespace is None:
            raise NotExportable(f"{key} has no namespace, so its ids are the reader's.")
        return self._word_ids(name, indexer.namespace, indexer.lowercase_tokens, key)

    def language_model_words(self, name: str, indexer: TokenIndexer, backward: bool) -> WordIds:
        """The input of an "ldnet" indexer for one of the language models."""
        key = _key(name)
        require_type(indexer, key, LdnetIndexer)
        assert isinstance(indexer, LdnetIndexer)
        namespace = words_namespace(indexer.namespace, backward=True)
        if backward and has_words(self._vocab, namespace):
            name += ".backward"
        else:
            namespace = words_namespace(indexer.namespace)
        return self._word_ids(name, namespace, indexer.lowercase_tokens, key)

    def word_characters(self, name: str, indexer: TokenIndexer, min_length: int) -> WordCharacters:
        """The input of a "characters" indexer, for an encoder of single words."""
        description, size = self._characters(name, indexer)
        min_length = max(min_length, getattr(indexer, "_min_padding_length", 0))
        self.descriptions.append(WordCharacterInput(**description, min_length=min_length))
        graph = self._graph
        return WordCharacters(
            graph.input(name, "words", "characters"),
            graph.input(f"{name}_lengths", "words"),
            graph.transpose(graph.input(f"{name}_rows", "batch", "steps"), 1, 0),
            size,
        )

    def character_stream(self, name: str, indexer: TokenIndexer, end_position: str | None) -> CharacterStream:
        """The input of a "characters" indexer, for networks that run over whole sentences."""
        description, size = self._characters(name, indexer)
        self.descriptions.append(SentenceCharacterInput(**description, end_position=end_position))
        graph = self._graph
        forward, backward = (
            graph.transpose(graph.input(f"{name}_{direction}", "batch", "steps"), 1, 0)
            for direction in ("forward", "backward")
        )
        codes = graph.transpose(graph.input(name, "batch", f"{name}_steps"), 1, 0)
        return CharacterStream(codes, graph.input(f"{name}_lengths", "batch"), forward, backward, size)

    def _word_ids(self, name: str, namespace: str, lowercase: bool, key: str) -> WordIds:
        tokens = self._tokens(namespace, key)
        rows: Any = slice(len(tokens))
        if self._keep_words is not None:
            kept = {word.lower() for word in self._keep_words} if lowercase else self._keep_words
            rows = [number for number, token in enumerate(tokens) if number < 2 or token in kept]
            tokens = [tokens[number] for number in rows]
        self.vocabularies.setdefault(namespace, tokens)
        description = WordInput(name, namespace, lowercase)
        if description not in self.descriptions:  # two language models read the same ids
            self.descriptions.append(description)
        ids = self._graph.transpose(self._graph.input(name, "batch", "steps"), 1, 0)
        return WordIds(ids, rows, len(tokens))

    def _characters(self, name: str, indexer: TokenIndexer) -> tuple[dict[str, Any], int]:
        """The shared part of both kinds of character inputs, and the number of character ids."""
        key = _key(name)
        require_type(indexer, key, TokenCharactersIndexer)
        assert isinstance(indexer, TokenCharactersIndexer)
        require(not indexer._start_tokens and not indexer._end_tokens, key, "adds start_tokens or end_tokens")
        tokenizer = indexer._character_tokenizer
        require_type(tokenizer, f"{key}.character_tokenizer", CharacterTokenizer)
        encoding = tokenizer._byte_encoding
        require(
            encoding in (None, "utf-8"),
            key,
            f"has the byte_encoding '{encoding}', and only utf-8 can be exported",
        )
        ids: dict[str, int] = {}
        if encoding is None:
            tokens = self._tokens(indexer._namespace, key)
            self.vocabularies.setdefault(indexer._namespace, tokens)
            ids = {token: number for number, token in enumerate(tokens)}

        def numbers(added: list[Any]) -> tuple[int, ...]:
            return tuple(token if isinstance(token, int) else ids.get(token, 1) for token in added)

        description = {
            "name": name,
            "vocabulary": indexer._namespace if encoding is None else None,
            "lowercase": tokenizer._lowercase_characters,
            "start": numbers(tokenizer._start_tokens[::-1]),  # it keeps them in reverse
            "end": numbers(tokenizer._end_tokens),
        }
        return description, len(ids) if encoding is None else _BYTES

    def _tokens(self, namespace: str, key: str) -> list[str]:
        vocab = self._vocab
        padded = vocab.is_padded(namespace) and vocab.get_token_index(vocab._oov_token, namespace) == 1
        require(padded, key, f"uses the vocabulary's namespace '{namespace}', which has no unknown word")
        return words_of(vocab, namespace)


def _key(name: str) -> str:
    return f"dataset_reader.token_indexers.{name}"
