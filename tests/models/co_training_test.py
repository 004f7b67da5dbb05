"""Taggers with a co-trained language model: `training_config/lm_lstm_crf.jsonnet`, small."""

import json
import math

import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.common.testing import ModelTestCase
from allennlp.data import Batch
from allennlp.models.archival import load_archive

from ldnet_allennlp.common.archives import write_archive
from tests.processes import run_in_two_processes
from tests.resources import ROOT
from tests.taggers import DEV, TRAIN, Tagger, build_tagger

CONFIG = ROOT / "training_config" / "lm_lstm_crf.jsonnet"
SETTINGS = {
    "train": str(TRAIN),
    "dev": str(DEV),
    "test": None,
    "min_count": 1,
    "num_epochs": 2,
    "dropout": 0.0,
}
SETTINGS.update(word_dim=6, char_dim=4, char_hidden=5, word_hidden=8)


def build(overrides=None, **settings) -> Tagger:
    variables = {"LDNET_SETTINGS": json.dumps({**SETTINGS, **settings})}
    tagger = build_tagger(Params.from_file(str(CONFIG), json.dumps(overrides or {}), variables))
    tagger.model.train()
    return tagger


def batch_of(tagger, size=10, start=0):
    return Batch(tagger.instances[start : start + size]).as_tensor_dict()


def without_co_training(tagger: Tagger, **settings) -> Tagger:
    """One with the same weights."""
    plain = build({"model.co_training": None}, **settings)
    plain.model.load_state_dict(
        {
            name: value
            for name, value in tagger.model.state_dict().items()
            if not name.startswith("co_training")
        }
    )
    return plain


class TestCoTraining(ModelTestCase):
    @pytest.fixture(autouse=True)
    def _settings(self, monkeypatch):
        monkeypatch.setenv("LDNET_SETTINGS", json.dumps({**SETTINGS, "cutoffs": [6, 12]}))
        self.set_up_model(CONFIG, TRAIN, seed=1)

    def test_can_train_save_and_load(self):
        overrides = json.dumps({"data_loader": {"batch_size": 6}})
        self.ensure_model_can_train_save_and_load(self.param_file, overrides=overrides)

    def test_batch_predictions_are_consistent(self):
        self.model.return_logits = True
        self.ensure_batch_predictions_are_consistent()


def test_the_loss_is_the_sum_of_both():
    """The tagger's own one is the same as without, and the other one is the language model's."""
    tagger = build(lambda_0=0.7)
    plain = without_co_training(tagger)
    batch = batch_of(tagger)
    with tagger.model.co_training.recording(tagger.model.text_field_embedder) as states:
        tagger.model.text_field_embedder(batch["tokens"])
    found = tagger.model.co_training(states[0], batch["tokens"])
    expected = plain.model(**batch)["loss"] + found.loss
    torch.testing.assert_close(tagger.model(**batch)["loss"], expected)
    assert found.loss > 1.0
    perplexity = math.exp(found.negative_log_likelihood.item() / found.num_targets)
    assert tagger.model.get_metrics(reset=True) == {"lm_perplexity": pytest.approx(perplexity)}
    assert tagger.model.get_metrics() == {}


def test_the_character_networks_run_once_a_step():
    """Highway layers of the tagger and of the language model read the same states."""
    tagger = build()
    calls = []
    networks = tagger.model.text_field_embedder.token_embedder_token_characters
    networks.forward_rnn.register_forward_hook(lambda *_: calls.append("forward"))
    tagger.model(**batch_of(tagger, 1))
    assert calls == ["forward"]


def test_evaluation_and_prediction_are_those_without_it():
    tagger = build()
    plain = without_co_training(tagger)
    batch = batch_of(tagger)

    def refuse(*_):
        raise AssertionError("co-training took part in an evaluation")

    tagger.model.co_training.register_forward_pre_hook(refuse)
    tagger.model.return_logits = plain.model.return_logits = True
    outputs = [other.model.eval()(**batch) for other in (tagger, plain)]
    assert outputs[0]["tags"] == outputs[1]["tags"]
    assert torch.equal(outputs[0]["logits"], outputs[1]["logits"])
    assert torch.equal(outputs[0]["loss"], outputs[1]["loss"])
    assert "lm_perplexity" not in tagger.model.get_metrics()
    batch.pop("tags")
    assert tagger.model.train()(**batch)["tags"] == outputs[0]["tags"]  # without tags nothing is trained


def test_a_weight_of_zero_is_no_co_training():
    off = build(lambda_0=0.0)
    assert off.model.co_training is None
    plain = build({"model.co_training": None})
    assert list(off.model.state_dict()) == list(plain.model.state_dict())
    plain.model.load_state_dict(off.model.state_dict())
    batch = batch_of(off)
    for tagger in (off, plain):
        tagger.model(**batch)["loss"].backward()
    for (name, one), other in zip(off.model.named_parameters(), plain.model.parameters()):
        assert not one.requires_grad or torch.equal(one.grad, other.grad), name


@pytest.mark.parametrize("cutoffs", [None, [6, 12]])
def test_training_lowers_both_losses(cutoffs):
    tagger = build(cutoffs=cutoffs)
    batch = batch_of(tagger)
    optimizer = torch.optim.SGD(tagger.model.parameters(), lr=0.02)
    both = []
    for _ in range(3):
        optimizer.zero_grad()
        loss = tagger.model(**batch)["loss"]
        surprise = 2 * math.log(tagger.model.get_metrics(reset=True)["lm_perplexity"])
        both.append((loss.item() - surprise, surprise))
        loss.backward()
        optimizer.step()
    (tagging, words), (less_tagging, fewer_words) = both[0], both[-1]
    assert less_tagging < tagging and fewer_words < words


def test_the_character_networks_learn_from_the_words_alone():
    """Where the tagger does not look at them: its own highway layer and encoder get nothing."""
    tagger = build()
    batch = batch_of(tagger)
    with tagger.model.co_training.recording(tagger.model.text_field_embedder) as states:
        tagger.model.text_field_embedder(batch["tokens"])
    tagger.model.co_training(states[0], batch["tokens"]).loss.backward()
    networks = tagger.model.text_field_embedder.token_embedder_token_characters
    for name, parameter in networks.named_parameters():
        assert (parameter.grad is None) if "highway" in name else parameter.grad.any(), name


def test_an_archive_carries_it(tmp_path):
    tagger = build()
    write_archive(str(tmp_path / "model.tar.gz"), tagger.model, tagger.config)
    loaded = load_archive(str(tmp_path / "model.tar.gz")).model
    batch = batch_of(tagger)
    assert torch.equal(loaded.train()(**batch)["loss"], tagger.model(**batch)["loss"])
    expected = tagger.model.eval().forward_on_instances(tagger.instances)
    found = loaded.eval().forward_on_instances(tagger.instances)
    assert [output["tags"] for output in found] == [output["tags"] for output in expected]


def test_all_losses_can_be_co_trained():
    for loss in ("structured_perceptron", "softmax"):
        tagger = build({"model.loss": loss})
        tagger.model(**batch_of(tagger))["loss"].backward()
        for name, parameter in tagger.model.named_parameters():
            assert parameter.grad is not None or not parameter.requires_grad, name


def test_the_character_embedder_must_be_one():
    with pytest.raises(ConfigurationError, match=r"'tokens' .embedder. .* has the type Embedding"):
        build({"model.co_training.embedder": "tokens"})


def check_worker(rank, world_size, tagger, expected):
    """Both have gradients for every parameter, which are the means of what each would have alone."""
    model = torch.nn.parallel.DistributedDataParallel(tagger.model)
    model(**batch_of(tagger, 4, start=4 * rank))["loss"].backward()
    for name, parameter in tagger.model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], msg=name)
    assert tagger.model.get_metrics()["lm_perplexity"] == pytest.approx(expected["perplexity"])


def test_two_workers():
    tagger = build(cutoffs=[6, 12])
    for start in (0, 4):
        tagger.model(**batch_of(tagger, 4, start=start))["loss"].backward()
    expected = {
        name: parameter.grad / 2 if parameter.requires_grad else None
        for name, parameter in tagger.model.named_parameters()
    }
    expected["perplexity"] = tagger.model.get_metrics()["lm_perplexity"]
    tagger.model.get_metrics(reset=True)
    tagger.model.zero_grad()
    run_in_two_processes(check_worker, tagger, expected)
