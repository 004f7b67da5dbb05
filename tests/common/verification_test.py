import pytest
import torch
from allennlp.common.checks import ConfigurationError
from allennlp.data import Instance
from allennlp.data.dataset_readers import DatasetReader, SequenceTaggingDatasetReader
from allennlp.data.fields import TextField
from allennlp.data.tokenizers import Token

from ldnet_allennlp.common.verification import TOLERANCE, difference, outputs_of, random_sentences
from tests.taggers import build_tagger, tagger_params

BASE = {"tags": ["O", "B-X"], "logits": [[1.5, -300.0], [0.0, 2.0]], "n": 3, "nothing": None}


def test_the_same_twice():
    assert difference(BASE, {**BASE}) == ""


@pytest.mark.parametrize("size", [0.0, 1.0, 300.0, -1e6])
def test_numbers_within_the_tolerance(size):
    allowed = TOLERANCE * max(1.0, abs(size))
    assert difference({"x": [size]}, {"x": [size + 0.99 * allowed]}) == ""
    found = difference({"x": [size]}, {"x": [size + 2.1 * allowed]})
    assert found.startswith("output.x[0] is") and "before and" in found


@pytest.mark.parametrize(
    "change, where",
    [
        ({"tags": ["O", "I-X"]}, "output.tags[1] is 'B-X' before and 'I-X' after"),
        ({"tags": ["O"]}, "output.tags has 2 elements before and 1 after"),
        ({"logits": [[1.5, -300.0], [0.0, 2.1]]}, "output.logits[1][1] is 2.0 before and 2.1 after"),
        ({"n": 4}, "output.n is 3 before and 4 after"),
        ({"nothing": 0}, "output.nothing is None before and 0 after"),
        ({"more": 1}, "output has the keys"),
    ],
)
def test_where_they_differ(change, where):
    assert where in difference(BASE, {**BASE, **change})


def test_nan_is_like_nan_only():
    nan = float("nan")
    assert difference([nan], [nan]) == ""
    assert difference([nan], [1.0]) != "" and difference([1.0], [nan]) != ""


def test_random_sentences():
    words = [f"w{number}" for number in range(50)]
    sentences = random_sentences(words)
    assert sentences == random_sentences(words) != random_sentences(words, seed=1)
    lengths = [len(sentence) for sentence in sentences]
    assert min(lengths) == 1 and max(lengths) == 40
    used = {word for sentence in sentences for word in sentence}
    assert used > {"Zyxgloub-7"} and len(used & set(words)) > 40
    assert all(random_sentences([]))


@pytest.fixture(scope="module")
def tagger(language_models):
    return build_tagger(tagger_params(language_models, dropout=0.5))


def test_outputs_with_scores_and_without_dropout(tagger):
    sentences = [["the", "list"], ["python"]]
    tagger.model.train()
    outputs = outputs_of(tagger.model, tagger.reader, sentences)
    assert outputs == outputs_of(tagger.model, tagger.reader, sentences)
    assert [output["words"] for output in outputs] == sentences
    assert {"tags", "logits"} <= set(outputs[0]) and tagger.model.return_logits is False
    with torch.no_grad():
        tagger.model.tag_projection_layer._module.bias[0] += 1
    assert difference(outputs, outputs_of(tagger.model, tagger.reader, sentences)) != ""


class TextReader(DatasetReader):
    """Takes a text, as readers for classification do."""

    def text_to_instance(self, text: str, label: str | None = None) -> Instance:
        return Instance({"tokens": TextField([Token(word) for word in text.split()], self.indexers)})


class PairReader(DatasetReader):
    def text_to_instance(self, premise: str, hypothesis: str) -> Instance:
        raise NotImplementedError


def test_readers_of_other_kinds(tagger):
    sentences = [["the", "list"], ["python", "Zork"]]
    indexers = tagger.reader._token_indexers
    expected = [output["tags"] for output in outputs_of(tagger.model, tagger.reader, sentences)]
    text_reader = TextReader()
    text_reader.indexers = indexers
    for reader in (SequenceTaggingDatasetReader(token_indexers=indexers), text_reader):
        found = outputs_of(tagger.model, reader, sentences)
        assert [output["tags"] for output in found] == expected


class ParserReader(DatasetReader):
    """Takes parts of speech beside the words."""

    def text_to_instance(self, words: list[str], upos_tags: list[str], heads: list[int] = ()) -> Instance:
        assert upos_tags == ["X"] * len(words) and not heads
        return Instance({"tokens": TextField([Token(word) for word in words], self.indexers)})


def test_a_reader_that_needs_parts_of_speech(tagger):
    reader = ParserReader()
    reader.indexers = tagger.reader._token_indexers
    sentences = [["the", "list"], ["python"]]
    found = [output["tags"] for output in outputs_of(tagger.model, reader, sentences)]
    assert found == [output["tags"] for output in outputs_of(tagger.model, tagger.reader, sentences)]


def test_a_reader_that_needs_more_than_words(tagger):
    with pytest.raises(ConfigurationError, match=r"\(PairReader\) .* needs: premise, hypothesis"):
        outputs_of(tagger.model, PairReader(), [["a"]])
