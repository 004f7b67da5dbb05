from allennlp.common import cached_transformers
from allennlp.data.token_indexers import PretrainedTransformerMismatchedIndexer
from allennlp.data.tokenizers import Token
from transformers import BertTokenizerFast

from ldnet_allennlp.data.transformer_tokenizers import without_special_tokens_argument


def test_only_that_argument_is_left_out():
    calls = []

    def get_tokenizer(model_name, **kwargs):
        calls.append((model_name, kwargs))
        return "tokenizer"

    wrapped = without_special_tokens_argument(get_tokenizer)
    assert wrapped("bert", add_special_tokens=False, use_fast=True) == wrapped("bert") == "tokenizer"
    assert calls == [("bert", {"use_fast": True}), ("bert", {})]
    assert hasattr(cached_transformers.get_tokenizer, "__wrapped__")


def test_special_tokens_are_where_they_belong(tmp_path):
    """At the ends of a text's word pieces, once; and no word begins or ends with them."""
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "##b", "##c"]
    (tmp_path / "pieces.txt").write_text("\n".join(pieces))
    BertTokenizerFast(str(tmp_path / "pieces.txt")).save_pretrained(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    indexer = PretrainedTransformerMismatchedIndexer(str(tmp_path))
    found = indexer._allennlp_tokenizer.intra_word_tokenize(["abc", "b", "abb"])
    assert [token.text for token in found[0]] == ["[CLS]", "a", "##b", "##c", "b", "a", "##b", "##b", "[SEP]"]
    assert found[1] == [(1, 3), (4, 4), (5, 7)]
    assert [token.text for token in indexer._allennlp_tokenizer.tokenize("b")] == ["[CLS]", "b", "[SEP]"]
    counter = {}
    indexer.count_vocab_items(Token("abc"), counter)
    assert not counter
