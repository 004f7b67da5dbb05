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
    for given, output in zip(SENTENCES, predictor.predict_batch_json(SENTENCES)):
        words = given.get("tokens") or given["sentence"].split()
        assert output["tokens"] == ["<eos>", *words, "<eos>"]
        with torch.no_grad():
            expected = one_by_one(predictor._model, output["tokens"], direction == "backward")
        assert output["log_probs"] == pytest.approx(expected, abs=1e-5)
        assert output["log_prob"] == pytest.approx(sum(expected), abs=1e-4)
        assert output["perplexity"] == pytest.approx(math.exp(-sum(expected) / (len(words) + 1)), rel=1e-5)
        assert predictor.predict_json(given)["log_probs"] == pytest.approx(output["log_probs"], abs=1e-5)
        json.dumps(output)


def test_both_directions(tmp_path):
    predictor = Predictor.from_path(language_model_archive(tmp_path, "bidirectional"))
    output = predictor.predict_json(SENTENCES[0])
    assert output["forward_log_probs"][0] == 0 and output["backward_log_probs"][-1] == 0
    assert output["forward_log_prob"] == pytest.approx(sum(output["forward_log_probs"]))
    assert output["forward_log_prob"] != output["backward_log_prob"] and "log_prob" not in output


@pytest.mark.parametrize("given", [{}, {"sentence": ["a"]}, {"tokens": "a b"}, {"text": "a"}])
def test_other_input_is_an_error(tmp_path, given):
    predictor = Predictor.from_path(language_model_archive(tmp_path))
    with pytest.raises(ConfigurationError, match=r'Expected \{"sentence"'):
        predictor.predict_json(given)


def test_needs_a_language_model(language_models):
    from tests.taggers import build_tagger, tagger_params

    tagger = build_tagger(tagger_params(language_models))
    with pytest.raises(ConfigurationError, match="LdnetTagger, expected an adaptive_language_model"):
        LanguageModelPredictor(tagger.model, tagger.reader)


def test_an_empty_sentence_is_its_boundaries(tmp_path):
    archive = load_archive(language_model_archive(tmp_path))
    predictor = LanguageModelPredictor(archive.model, archive.dataset_reader)
    assert predictor.predict_json({"sentence": ""})["tokens"] == ["<eos>", "<eos>"]
