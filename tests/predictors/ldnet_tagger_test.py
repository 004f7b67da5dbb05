import pytest
import torch
from allennlp.data import DatasetReader, Token
from allennlp.interpret.saliency_interpreters import SimpleGradient
from allennlp.models.archival import load_archive
from allennlp.predictors import Predictor
from allennlp_models.tagging.dataset_readers.conll2003 import Conll2003DatasetReader

from ldnet_allennlp.data.tag_schemes import spans_from_tags
from ldnet_allennlp.predictors.ldnet_tagger import LdnetTaggerPredictor
from tests.taggers import build_tagger, tagger_params

SENTENCES = ["the list of a class", "python", "Python list object number name is returns the value of Zork ."]


@pytest.fixture(scope="module")
def predictor(trained):
    return Predictor.from_path(str(trained / "model.tar.gz"))


@pytest.fixture(scope="module")
def tagging(language_models):
    """A predictor whose tagger has random weights, so that it gives all kinds of tags."""
    tagger = build_tagger(tagger_params(language_models), seed=11)
    with torch.no_grad():
        for parameter in tagger.model.tag_projection_layer.parameters():
            parameter.uniform_(-3, 3)
    return LdnetTaggerPredictor(tagger.model, tagger.reader)


def test_the_archives_default_predictor(predictor):
    assert isinstance(predictor, LdnetTaggerPredictor)


def test_a_sentence_is_its_tokens(tagging):
    for sentence in SENTENCES:
        output = tagging.predict(f"  {sentence}\t ")
        assert output == tagging.predict_json({"sentence": sentence})
        assert output == tagging.predict_json({"tokens": sentence.split()})
        assert set(output) == {"words", "tags", "spans"}
        assert output["words"] == sentence.split() and len(output["tags"]) == len(output["words"])


def test_tokens_may_have_blanks_and_numbers(tagging):
    output = tagging.predict_json({"tokens": ["New York", 7]})
    assert output["words"] == ["New York", "7"]


def test_equals_the_model(tagging):
    instances = [tagging._dataset_reader.text_to_instance(sentence.split()) for sentence in SENTENCES]
    for instance in instances:
        tagging._dataset_reader.apply_token_indexers(instance)
    expected = [output["tags"] for output in tagging._model.forward_on_instances(instances)]
    assert [
        output["tags"] for output in tagging.predict_batch_json([{"sentence": s} for s in SENTENCES])
    ] == expected


def test_spans_end_after_their_last_word(tagging):
    spans = 0
    for sentence in SENTENCES:
        output = tagging.predict(sentence)
        for span in output["spans"]:
            assert span["text"] == " ".join(output["words"][span["start"] : span["end"]])
        found = [(span["type"], span["start"], span["end"] - 1) for span in output["spans"]]
        assert found == spans_from_tags(output["tags"], "BIOUL")
        spans += len(found)
    assert spans > 3


def test_the_order_of_a_batch_and_empty_sentences(tagging):
    inputs = [
        {"sentence": ""},
        *({"sentence": sentence} for sentence in SENTENCES),
        {"tokens": []},
        {"sentence": "  "},
    ]
    outputs = tagging.predict_batch_json(inputs)
    empty = {"words": [], "tags": [], "spans": []}
    assert [outputs[0], *outputs[-2:]] == [empty] * 3
    assert outputs[1:-2] == [tagging.predict(sentence) for sentence in SENTENCES]
    assert tagging.predict_json({"sentence": "\n"}) == empty
    assert tagging.predict_batch_json([]) == []


def test_instances_of_a_reader(tagging):
    """What `allennlp predict --use-dataset-reader` does."""
    reader = tagging._dataset_reader
    instances = [reader.text_to_instance(sentence.split()) for sentence in SENTENCES]
    expected = [tagging.predict(sentence) for sentence in SENTENCES]
    assert tagging.predict_batch_instance(instances) == expected
    assert [tagging.predict_instance(instance) for instance in instances] == expected


@pytest.mark.parametrize(
    "wrong, found",
    [
        ({"text": "the list"}, "this was found: text"),
        ({}, "this was found: an empty one"),
        (["the", "list"], "this was found: list"),
        ({"tokens": "the list"}, "its tokens are: 'the list'"),
        ({"sentence": ["the", "list"]}, r"its sentence is: \['the', 'list'\]"),
    ],
)
def test_bad_input(tagging, wrong, found):
    with pytest.raises(ValueError, match=f'a "sentence" .* or "tokens" .*, but {found}'):
        tagging.predict_json(wrong)


def test_with_a_reader_of_upstream(tagging):
    """Upstream's readers take tokens and not words."""
    indexers = tagging._dataset_reader._token_indexers
    reader = Conll2003DatasetReader(token_indexers=indexers, convert_to_coding_scheme="BIOUL")
    other = LdnetTaggerPredictor(tagging._model, reader)
    for sentence in SENTENCES:
        assert other.predict(sentence) == tagging.predict(sentence)


def test_without_a_label_encoding_there_are_no_spans(tagging, monkeypatch):
    monkeypatch.setattr(tagging, "_label_encoding", None)
    assert set(tagging.predict(SENTENCES[0])) == {"words", "tags"}


def test_labeled_instances_explain_the_predicted_tags(tagging):
    (labeled,) = tagging.json_to_labeled_instances({"sentence": SENTENCES[0]})
    assert labeled["tags"].labels == tagging.predict(SENTENCES[0])["tags"]
    assert isinstance(labeled["tokens"].tokens[0], Token)


def test_a_saliency_interpreter(predictor):
    saliency = SimpleGradient(predictor).saliency_interpret_from_json({"sentence": SENTENCES[0]})
    (gradients,) = saliency["instance_1"].values()
    assert len(gradients) == len(SENTENCES[0].split())
    assert sum(gradients) == pytest.approx(1.0) and min(gradients) > 0


def test_from_path_is_the_model_of_the_archive(predictor, trained):
    archive = load_archive(str(trained / "model.tar.gz"))
    assert isinstance(archive.dataset_reader, DatasetReader)
    other = LdnetTaggerPredictor(archive.model, archive.dataset_reader)
    assert predictor.predict(SENTENCES[2]) == other.predict(SENTENCES[2])
