import pytest
import torch
from allennlp.common.checks import ConfigurationError
from allennlp.data import Batch, Instance, Token, Vocabulary
from allennlp.data.fields import ListField, TextField

from ldnet_allennlp.data.language_model_vocabulary import store_words
from ldnet_allennlp.data.ldnet_indexer import LdnetIndexer

SPECIAL = ["@@PADDING@@", "@@UNKNOWN@@"]
FORWARD, BACKWARD = [*SPECIAL, "<eos>", "the", "list"], [*SPECIAL, "list", "<eos>"]


def vocabulary(backward=None):
    vocab = Vocabulary()
    store_words(vocab, "ldnet_words", FORWARD)
    if backward:
        store_words(vocab, "ldnet_backward_words", backward)
    return vocab


def index(indexer, text, vocab):
    return indexer.tokens_to_indices([Token(word) for word in text.split()], vocab)


def test_ids_of_one_vocabulary():
    assert index(LdnetIndexer(), "the list The unknown", vocabulary()) == {"token_ids": [3, 4, 1, 1]}


def test_ids_of_two_vocabularies():
    indices = index(LdnetIndexer(), "the list nothing", vocabulary(BACKWARD))
    assert indices == {"token_ids": [3, 4, 1], "backward_token_ids": [1, 2, 1]}


def test_lower_case():
    assert index(LdnetIndexer(lowercase_tokens=True), "The LIST", vocabulary()) == {"token_ids": [3, 4]}


def test_nothing_is_counted():
    counter = {}
    LdnetIndexer().count_vocab_items(Token("the"), counter)
    assert counter == {}


def test_without_a_language_model():
    with pytest.raises(ConfigurationError, match="namespace 'other_words', but there is none"):
        index(LdnetIndexer(namespace="other"), "the", vocabulary())


@pytest.mark.parametrize("backward", [None, BACKWARD])
def test_lists_of_texts_of_different_lengths(backward):
    """A list field is filled up with empty texts, which must have the same tensors."""
    indexer, vocab = LdnetIndexer(), vocabulary(backward)

    def text(words):
        return TextField([Token(word) for word in words.split()], {"lm": indexer})

    lists = [ListField([text("the list"), text("list")]), ListField([text("the")])]
    batch = Batch([Instance({"texts": texts}) for texts in lists])
    batch.index_instances(vocab)
    tensors = batch.as_tensor_dict()["texts"]["lm"]
    assert tensors["token_ids"].tolist() == [[[3, 4], [4, 0]], [[3, 0], [0, 0]]]
    assert set(tensors) == ({"token_ids", "backward_token_ids"} if backward else {"token_ids"})
    if backward:
        assert torch.equal(tensors["backward_token_ids"][1], torch.tensor([[1, 0], [0, 0]]))


def test_the_padding_token_as_a_word_is_unknown():
    indices = index(LdnetIndexer(), "the @@PADDING@@ list", vocabulary(BACKWARD))
    assert indices == {"token_ids": [3, 1, 4], "backward_token_ids": [1, 1, 2]}
