import json
import math

import pytest
import torch
from allennlp.common.checks import ConfigurationError
from allennlp.models.archival import load_archive
from allennlp.predictors import Predictor

from ldnet_allennlp.predictors.language_model import LanguageModelPredictor
from tests.builders import language_model_archive

SENTENCES = [{"sentence": "the list of  a class"}, {"tokens": ["python"]}, {"tokens": ["the", "Zork", "is"]}]


def one_by_one(model, tokens, backward):
    """The log-probabilities of all tokens but the first read, each from a pass over what comes before it."""
    ids = [model.vocab.get_token_index(token) for token in tokens]
    ids = ids[::-1] if backward else ids
    found = [0.0]
    for end in range(1, len(ids)):
        model.reset_states()
        vectors = model._text_field_embedder({"tokens": {"tokens": torch.tensor([ids[:end]])}})
        last = model._contextualizer(vectors, None)[:, -1]
        found.append(model._softmax_loss.log_prob(last)[0, ids[end] - 1].item())
    return found[::-1] if backward else found


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_log_probabilities_are_those_of_each_token_alone(tmp_path, direction):
    predictor = Predictor.from_path(language_model_archive(tmp_path, direction))
    assert isinstance(predictor, LanguageModelPredictor)
    for data, output in zip(SENTENCES, predictor.predict_batch_json(SENTENCES)):
        words = data.get("tokens") or data["sentence"].split()
        assert output["tokens"] == ["<eos>", *words, "<eos>"]
        with torch.no_grad():
            expected = one_by_one(predictor._model, output["tokens"], direction == "backward")
        assert output["log_probs"] == pytest.approx(expected, abs=1e-5)
        assert output["log_prob"] == pytest.approx(sum(expected), abs=1e-4)
        assert output["perplexity"] == pytest.approx(math.exp(-sum(expected) / (len(words) + 1)), rel=1e-5)
        assert predictor.predict_json(data)["log_probs"] == pytest.approx(output["log_probs"], abs=1e-5)
        json.dumps(output)


def test_both_directions(tmp_path):
    predictor = Predictor.from_path(language_model_archive(tmp_path, "bidirectional"))
    output = predictor.predict_json(SENTENCES[0])
    assert output["forward_log_probs"][0] == 0 and output["backward_log_probs"][-1] == 0
    assert output["forward_log_prob"] == pytest.approx(sum(output["forward_log_probs"]))
    assert output["forward_log_prob"] != output["backward_log_prob"] and "log_prob" not in output


@pytest.mark.parametrize("data", [{}, {"sentence": ["a"]}, {"tokens": "a b"}, {"text": "a"}, ["a"], 3])
def test_other_input_is_an_error(predictor, data):
    with pytest.raises(ConfigurationError, match=r'expected \{"sentence"'):
        predictor.predict_json(data)


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    return Predictor.from_path(language_model_archive(tmp_path_factory.mktemp("model")))


@pytest.mark.parametrize(
    "line, data",
    [
        ("the list of a class\n", {"sentence": "the list of a class"}),
        ('"the" [list]\n', {"sentence": '"the" [list]'}),
        ("[list] the\n", {"sentence": "[list] the"}),
        ('{"tokens": ["the"]}\n', {"tokens": ["the"]}),
        ('  {"sentence": "a"} ', {"sentence": "a"}),
    ],
)
def test_lines_are_text_or_json(predictor, line, data):
    assert predictor.load_line(line) == data
    predictor.predict_json(predictor.load_line(line))


@pytest.mark.parametrize(
    "line, message",
    [
        ("{the list}", r"Found '\{the list\}', expected"),
        ('["the", "list"]', r"Found \['the', 'list'\], expected"),
        ('{"tokens": [1, 2]}', "Found 1 among the tokens"),
        ('{"tokens": ["\\ud83d"]}', "half of a surrogate pair"),
        ('{"sentence": "a \\ude00"}', "half of a surrogate pair"),
        ("a <eos> b", "boundary token '<eos>'"),
    ],
)
def test_lines_that_are_neither_are_one_sentence(predictor, line, message):
    with pytest.raises(ConfigurationError, match=message) as error:
        predictor.predict_batch_json([predictor.load_line(line)])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_the_padding_token_is_an_unknown_word(tmp_path, direction):
    predictor = Predictor.from_path(language_model_archive(tmp_path, direction))
    sentences = [["the", word, "list", word] for word in ("@@PADDING@@", "Zork")]
    # Beside a longer sentence, so that there is real padding.
    outputs = predictor.predict_batch_json([{"tokens": words} for words in [*sentences, ["the"] * 9]])
    assert outputs[0]["tokens"][2] == "@@PADDING@@" and len(outputs[0]["log_probs"]) == 6
    assert outputs[0]["log_probs"] == pytest.approx(outputs[1]["log_probs"], abs=1e-6)
    assert outputs[0]["log_probs"][2] < 0


def test_needs_a_language_model(language_models):
    from tests.taggers import build_tagger, tagger_params

    tagger = build_tagger(tagger_params(language_models))
    with pytest.raises(ConfigurationError, match="LdnetTagger, expected an adaptive_language_model"):
        LanguageModelPredictor(tagger.model, tagger.reader)


def test_an_empty_sentence_is_its_boundaries(tmp_path):
    archive = load_archive(language_model_archive(tmp_path))
    predictor = LanguageModelPredictor(archive.model, archive.dataset_reader)
    assert predictor.predict_json({"sentence": ""})["tokens"] == ["<eos>", "<eos>"]
