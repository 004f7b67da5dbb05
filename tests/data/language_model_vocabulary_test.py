import json

import pytest
from allennlp.common.checks import ConfigurationError
from allennlp.data import Vocabulary

from ldnet_allennlp.data.language_model_vocabulary import (
    architecture_namespace,
    has_words,
    read_architecture,
    store_architecture,
    store_words,
    words_namespace,
    words_of,
)

WORDS = ["@@PADDING@@", "@@UNKNOWN@@", "<eos>", "zebra", "ape", "{", "naïve", "#hash", "\u200b"]
ARCHITECTURE = {"forward": {"contextualizer": {"type": "ld_rnn", "num_layers": 3}, "boundary": "<eos>"}}


def test_words_keep_the_ids_of_the_language_model():
    vocab = Vocabulary()
    store_words(vocab, words_namespace("ldnet"), WORDS)
    assert [vocab.get_token_index(word, "ldnet_words") for word in WORDS] == list(range(len(WORDS)))
    assert words_of(vocab, "ldnet_words") == WORDS
    assert vocab.get_token_index("unheard-of", "ldnet_words") == 1


def test_words_and_architecture_survive_the_vocabulary_files(tmp_path):
    vocab = Vocabulary()
    store_words(vocab, "ldnet_words", WORDS)
    store_architecture(vocab, "ldnet", ARCHITECTURE)
    vocab.save_to_files(str(tmp_path / "vocabulary"))
    loaded = Vocabulary.from_files(str(tmp_path / "vocabulary"))
    assert words_of(loaded, "ldnet_words") == WORDS
    assert read_architecture(loaded, "ldnet") == ARCHITECTURE


def test_asking_creates_no_namespace():
    vocab = Vocabulary()
    assert not has_words(vocab, "ldnet_words")
    assert read_architecture(vocab, "ldnet") is None
    assert not has_words(vocab, "ldnet_words")
    assert architecture_namespace("ldnet") not in vocab.get_namespaces()


def test_storing_the_same_twice_changes_nothing():
    vocab = Vocabulary()
    for _ in range(2):
        store_words(vocab, "ldnet_words", WORDS)
        store_architecture(vocab, "ldnet", ARCHITECTURE)
    assert words_of(vocab, "ldnet_words") == WORDS
    assert vocab.get_vocab_size(architecture_namespace("ldnet")) == 3  # padding, unknown and the one line


@pytest.mark.parametrize("other", [WORDS[:-1], [*WORDS, "more"], [*WORDS[:3], *reversed(WORDS[3:])]])
def test_other_words_are_refused(other):
    vocab = Vocabulary()
    store_words(vocab, "ldnet_words", WORDS)
    with pytest.raises(ConfigurationError, match=f"'ldnet_words', expected the {len(other)} words"):
        store_words(vocab, "ldnet_words", other)
    assert words_of(vocab, "ldnet_words") == WORDS


def test_another_architecture_is_refused():
    vocab = Vocabulary()
    store_architecture(vocab, "ldnet", ARCHITECTURE)
    other = json.loads(json.dumps(ARCHITECTURE).replace("3", "4"))
    with pytest.raises(ConfigurationError, match="other language models in the vocabulary under 'ldnet'"):
        store_architecture(vocab, "ldnet", other)
    store_architecture(vocab, "second", other)
    assert read_architecture(vocab, "ldnet") == ARCHITECTURE
    assert read_architecture(vocab, "second") == other


def test_the_backward_words_have_a_namespace_of_their_own():
    names = {words_namespace("a"), words_namespace("a", backward=True), architecture_namespace("a")}
    assert names == {"a_words", "a_backward_words", "a_architecture"}
