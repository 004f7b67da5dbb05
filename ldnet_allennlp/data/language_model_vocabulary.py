"""
How a language model's words and architecture travel in a tagger's vocabulary.

AllenNLP saves a model's vocabulary in its archive and hands it to every module, and nothing else that a module
could write to. So the words of a frozen language model become a namespace there, in the order of the language
model's own ids, and one more namespace holds a line of JSON that says how the network is built. A tagger's
archive needs no other archive then.
"""

import json
from typing import Any, Dict, List, Optional

from allennlp.common.checks import ConfigurationError
from allennlp.data import Vocabulary


def words_namespace(namespace: str, backward: bool = False) -> str:
    """The vocabulary namespace of the words: a backward language model with other words has its own."""
    return f"{namespace}_backward_words" if backward else f"{namespace}_words"


def architecture_namespace(namespace: str) -> str:
    """The vocabulary namespace that holds the description of the language models."""
    return f"{namespace}_architecture"


def has_words(vocab: Vocabulary, namespace: str) -> bool:
    """Whether the vocabulary holds such a namespace. Asking it for the size would create one."""
    return namespace in vocab._token_to_index


def words_of(vocab: Vocabulary, namespace: str) -> List[str]:
    """All tokens of a namespace in the order of their ids, padding and unknown token included."""
    by_id = vocab.get_index_to_token_vocabulary(namespace)
    return [by_id[number] for number in range(len(by_id))]


def store_words(vocab: Vocabulary, namespace: str, words: List[str]) -> None:
    """
    Makes `words` the tokens of a namespace, with the ids of their order.

    # Parameters

    vocab : `Vocabulary`
        The tagger's vocabulary.
    namespace : `str`
        A padded namespace that is new, or holds just these words already.
    words : `List[str]`
        Starts with the padding and the unknown token, as every padded namespace does.

    Raises `ConfigurationError` if the namespace holds other words.
    """
    if not has_words(vocab, namespace):
        special = words_of(vocab, namespace)  # this creates the namespace
        vocab.add_tokens_to_namespace(words[len(special) :], namespace)
    if words_of(vocab, namespace)[2:] != words[2:]:
        raise ConfigurationError(
            f"The vocabulary's namespace '{namespace}' was expected to hold the {len(words)} words of the "
            f"language model, but it holds {vocab.get_vocab_size(namespace)} others. Do not count that "
            f"namespace in a token indexer, and do not mix vocabularies of taggers with different language "
            f"models."
        )


def store_architecture(vocab: Vocabulary, namespace: str, architecture: Dict[str, Any]) -> None:
    """
    Writes down how the language models of a tagger are built, in place of what was there.

    Raises `ConfigurationError` if another architecture stands there already.
    """
    before = read_architecture(vocab, namespace)
    if before is not None and before != architecture:
        raise ConfigurationError(
            f"The vocabulary describes other language models under '{namespace}' than the ones to be loaded: "
            f"{json.dumps(before)} was found, {json.dumps(architecture)} was expected."
        )
    if before is None:
        line = json.dumps(architecture, sort_keys=True)
        vocab.add_token_to_namespace(line, architecture_namespace(namespace))


def read_architecture(vocab: Vocabulary, namespace: str) -> Optional[Dict[str, Any]]:
    """What `store_architecture` wrote, or `None`."""
    holder = architecture_namespace(namespace)
    if not has_words(vocab, holder):
        return None
    for line in words_of(vocab, holder):
        if line.startswith("{"):
            return json.loads(line)
    return None
