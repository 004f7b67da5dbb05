import random
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from allennlp.data import Batch, Instance, Token, Vocabulary
from allennlp.data.fields import TextField
from allennlp.data.token_indexers import (
    ELMoTokenCharactersIndexer,
    SingleIdTokenIndexer,
    TokenCharactersIndexer,
)
from allennlp.data.tokenizers.character_tokenizer import CharacterTokenizer

from ldnet_allennlp.data.language_model_vocabulary import store_words
from ldnet_allennlp.data.ldnet_indexer import LdnetIndexer
from ldnet_allennlp.predictors import indexed_words
from ldnet_allennlp.predictors.indexed_words import IndexedWords

WORDS = ["the", "The", "cat", "Zork", "", "naïve", "日本", "x" * 40, "12"]


@pytest.fixture
def vocab():
    vocab = Vocabulary()
    vocab.add_tokens_to_namespace(["the", "cat", "12"], "tokens")
    vocab.add_tokens_to_namespace(list("thecatTï本1"), "token_characters")
    special = [vocab._padding_token, vocab._oov_token]
    store_words(vocab, "ldnet_words", [*special, "cat", "The"])
    store_words(vocab, "ldnet_backward_words", [*special, "the", "日本"])
    return vocab


def indexers(**options):
    characters = (
        CharacterTokenizer(byte_encoding="utf-8") if options.pop("bytes", False) else CharacterTokenizer()
    )
    minimum = options.pop("minimum", 0)
    return {
        "tokens": SingleIdTokenIndexer(lowercase_tokens=True, token_min_padding_length=minimum),
        "characters": TokenCharactersIndexer(
            character_tokenizer=characters,
            token_min_padding_length=minimum,
            **{"min_padding_length": 1, **options},
        ),
        "ldnet": LdnetIndexer(token_min_padding_length=minimum),
    }


def by_allennlp(sentences, used, vocab):
    batch = Batch([Instance({"tokens": TextField(tokens, used)}) for tokens in sentences])
    batch.index_instances(vocab)
    return batch.as_tensor_dict()["tokens"]


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, tensors in expected.items():
        assert found[name].keys() == tensors.keys()
        for key, tensor in tensors.items():
            assert found[name][key].dtype == tensor.dtype
            assert torch.equal(found[name][key], tensor), (name, key)


@pytest.mark.parametrize(
    "options", [{}, {"bytes": True}, {"min_padding_length": 45}, {"min_padding_length": 3, "minimum": 30}]
)
def test_equals_allennlp(vocab, options, monkeypatch):
    monkeypatch.setattr(indexed_words, "_MAX_WORDS", 6)  # so that it forgets in between
    used = indexers(**options)
    assert IndexedWords.serves(used)
    words = IndexedWords(used, vocab)
    rng = random.Random(3)
    known = WORDS[:-2] if options.get("bytes") else WORDS  # 40 bytes are the most
    for _ in range(30):
        sentences = [
            [Token(rng.choice(known)) for _ in range(rng.randint(1, 7))] for _ in range(rng.randint(1, 5))
        ]
        assert_same(words.tensors(sentences), by_allennlp(sentences, used, vocab))


def test_many_words(vocab):
    used = indexers()
    words = IndexedWords(used, vocab)
    sentences = [[Token(f"w{number}") for number in range(start, start + 60)] for start in range(0, 3000, 60)]
    assert_same(words.tensors(sentences), by_allennlp(sentences, used, vocab))
    assert_same(words.tensors(sentences[::-1]), by_allennlp(sentences[::-1], used, vocab))


def test_from_several_threads(vocab):
    used = indexers()
    words = IndexedWords(used, vocab)
    rng = random.Random(5)
    texts = [f"w{number}" for number in range(4000)]
    batches = [[[Token(rng.choice(texts)) for _ in range(20)] for _ in range(8)] for _ in range(60)]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(words.tensors, batches))
    finally:
        sys.setswitchinterval(before)
    for tensors, batch in zip(found, batches):
        assert_same(tensors, by_allennlp(batch, used, vocab))


@pytest.mark.parametrize("token", [Token("x" * 41), Token("日" * 20), Token("the", text_id=7)])
def test_words_that_are_not_kept(vocab, token):
    words = IndexedWords(indexers(), vocab)
    assert words.tensors([[Token("cat")], [Token("the"), token]]) is None
    sentences = [[Token("the")]]
    assert_same(words.tensors(sentences), by_allennlp(sentences, indexers(), vocab))


@pytest.mark.parametrize(
    "indexer",
    [
        ELMoTokenCharactersIndexer(),
        SingleIdTokenIndexer(feature_name="pos_"),
        SingleIdTokenIndexer(start_tokens=["<s>"]),
        SingleIdTokenIndexer(namespace=None),
        TokenCharactersIndexer(min_padding_length=1, end_tokens=["</s>"]),
    ],
)
def test_other_indexers_are_not_served(indexer):
    assert not IndexedWords.serves({**indexers(), "other": indexer})
    assert not IndexedWords.serves({})
