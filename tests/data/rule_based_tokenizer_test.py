import pytest
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.data.tokenizers import Tokenizer

from ldnet_allennlp.data.conll.reader import ConllColumnsReader
from ldnet_allennlp.data.rule_based_tokenizer import RuleBasedTokenizer

TEXT = "Sen. Amy\nKlobuchar left. She won."


def test_words_with_offsets_and_sentences():
    tokenizer = Tokenizer.from_params(Params({"type": "rule_based"}))
    tokens = tokenizer.tokenize(TEXT)
    assert [token.text for token in tokens] == ["Sen.", "Amy", "Klobuchar", "left", ".", "She", "won", "."]
    assert all(TEXT[token.idx : token.idx_end] == token.text for token in tokens)
    assert [len(sentence.words) for sentence in tokenizer.split(TEXT)] == [5, 3]
    assert [len(sentence.words) for sentence in RuleBasedTokenizer(mode="whitespace").split(TEXT)] == [2, 4]


def test_bad_settings():
    with pytest.raises(
        ConfigurationError, match="mode of a rule_based tokenizer is 'spacy'; expected one of 'auto'"
    ):
        RuleBasedTokenizer(mode="spacy")
    with pytest.raises(ConfigurationError, match="'qq' cannot be split"):
        RuleBasedTokenizer("qq", "rule_based").tokenize("a")


def test_the_reader_keeps_it():
    assert (ConllColumnsReader().tokenizer.language, ConllColumnsReader().tokenizer.mode) == ("en", "auto")
    tokenizer = Tokenizer.from_params(Params({"type": "whitespace"}))
    assert ConllColumnsReader(tokenizer=tokenizer).tokenizer.mode == "whitespace"
    with pytest.raises(ConfigurationError, match="expected the tokenizer 'rule_based'"):
        ConllColumnsReader(tokenizer=Tokenizer.from_params(Params({"type": "character"})))
