"""
Store the words and architecture of a language model in a tagger's vocabulary.

The vocabulary is the only part of an archive that every module can write to. One namespace stores the words of a frozen
language model in the order of their ids, and another one the architecture as a line of JSON. So a tagger's archive
needs no other archive.
"""

import json
from typing import Any

from allennlp.common.checks import ConfigurationError
from allennlp.data import Vocabulary


def words_namespace(namespace: str, backward: bool = False) -> str:
    """The vocabulary namespace of the words. A backward language model with other words has a second one."""
    return f"{namespace}_backward_words" if backward else f"{namespace}_words"


def architecture_namespace(namespace: str) -> str:
    """The vocabulary namespace with the description of the language models."""
    return f"{namespace}_architecture"


def has_words(vocab: Vocabulary, namespace: str) -> bool:
    """Return whether the vocabulary has the namespace. (`get_vocab_size` would create it.)"""
    return namespace in vocab._token_to_index


def words_of(vocab: Vocabulary, namespace: str) -> list[str]:
    """All tokens of a namespace in the order of their ids, with the padding and the unknown token."""
    by_id = vocab.get_index_to_token_vocabulary(namespace)
    return [by_id[number] for number in range(len(by_id))]


def store_words(vocab: Vocabulary, namespace: str, words: list[str]) -> None:
    """
    Set the tokens of a namespace, which is new or has exactly these words. Their ids are their positions; the first two
    are the padding and the unknown token.

    Raises `ConfigurationError` if the namespace contains other words.
    """
    if not has_words(vocab, namespace):
        special = words_of(vocab, namespace)  # this creates the namespace
        vocab.add_tokens_to_namespace(words[len(special) :], namespace)
    if words_of(vocab, namespace)[2:] != words[2:]:
        raise ConfigurationError(
            f"Found {vocab.get_vocab_size(namespace)} other words in the vocabulary's namespace '{namespace}', "
            f"expected the {len(words)} words of the language model. Do not count that namespace in a token indexer, "
            f"and do not mix vocabularies of taggers with different language models."
        )


def store_architecture(vocab: Vocabulary, namespace: str, architecture: dict[str, Any]) -> None:
    """Store the architecture of a tagger's language models. Raises `ConfigurationError` if there is another one."""
    before = read_architecture(vocab, namespace)
    if before is not None and before != architecture:
        raise ConfigurationError(
            f"Found other language models in the vocabulary under '{namespace}': {json.dumps(before)}, expected "
            f"{json.dumps(architecture)}."
        )
    if before is None:
        line = json.dumps(architecture, sort_keys=True)
        vocab.add_token_to_namespace(line, architecture_namespace(namespace))


def read_architecture(vocab: Vocabulary, namespace: str) -> dict[str, Any] | None:
    """The architecture that `store_architecture` wrote, or `None`."""
    holder = architecture_namespace(namespace)
    if not has_words(vocab, holder):
        return None
    for line in words_of(vocab, holder):
        if line.startswith("{"):
            return json.loads(line)
    return None
