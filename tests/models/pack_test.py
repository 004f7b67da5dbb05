"""models/pack.py: language models for taggers, without a softmax."""

import importlib.util

import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.data import Vocabulary
from allennlp.modules import TokenEmbedder

from ldnet_allennlp.common.archives import read_archive
from tests.builders import language_model_archive
from tests.resources import ROOT


def pack(source, target, tolerance=None):
    spec = importlib.util.spec_from_file_location("pack", ROOT / "models" / "pack.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.TOLERANCE = module.TOLERANCE if tolerance is None else tolerance
    module.pack(source, target)


def embedder_of(archive):
    options = {"type": "ldnet", "forward": {"pretrained_file": str(archive)}}
    return TokenEmbedder.from_params(Params(options), vocab=Vocabulary()).eval()


def test_taggers_read_the_same_vectors(tmp_path):
    source = language_model_archive(tmp_path / "lm")
    packed = tmp_path / "packed" / "forward.tar.gz"
    pack(source, packed)
    ids = torch.tensor([[3, 5, 9, 4], [7, 2, 0, 0]])
    assert [path.name for path in packed.parent.iterdir()] == [packed.name]
    expected, actual = (embedder_of(path)(ids) for path in (source, packed))
    assert (expected - actual).abs().max() < 5e-3
    assert not torch.equal(expected, actual)


def test_taggers_store_the_word_vectors_in_half_precision(tmp_path):
    source = language_model_archive(tmp_path / "lm")
    packed = tmp_path / "forward.tar.gz"
    pack(source, packed)
    plain, half = embedder_of(source), embedder_of(packed)
    name = "language_models.forward_lm.embedding.weight"
    assert plain.state_dict()[name].dtype == torch.float32
    assert half.state_dict()[name].dtype == torch.float16
    options = {"type": "ldnet", "forward": {"pretrained_file": str(packed), "embedding_dtype": "float32"}}
    explicit = TokenEmbedder.from_params(Params(options), vocab=Vocabulary()).eval()
    ids = torch.tensor([[3, 5, 9, 4], [7, 2, 0, 0]])
    assert explicit.state_dict()[name].dtype == torch.float32 and torch.equal(explicit(ids), half(ids))


@pytest.mark.parametrize("trained, expected", [(False, torch.float16), (True, torch.float32)])
def test_layer_selection_keeps_half_precision(tmp_path, trained, expected):
    """As in ner_select.jsonnet, the vocabulary alone describes the language model."""
    packed = tmp_path / "forward.tar.gz"
    pack(language_model_archive(tmp_path / "lm"), packed)
    vocab = Vocabulary()
    options = {"type": "ldnet", "forward": {"pretrained_file": str(packed)}}
    TokenEmbedder.from_params(Params(options), vocab=vocab)
    options = {"type": "ldnet", "forward": {}, "lambda_0": 0.1, "lambda_1": 1, "requires_grad": trained}
    selecting = TokenEmbedder.from_params(Params(options), vocab=vocab)
    assert selecting.state_dict()["language_models.forward_lm.embedding.weight"].dtype == expected


def test_vectors_that_half_precision_changes_too_much_are_an_error(tmp_path):
    with pytest.raises(ConfigurationError, match=r"The vectors change by .*, more than 1e-09"):
        pack(language_model_archive(tmp_path / "lm"), tmp_path / "forward.tar.gz", tolerance=1e-9)
    assert not (tmp_path / "forward.tar.gz").exists()


def test_it_has_no_softmax_and_no_loss(tmp_path):
    packed = tmp_path / "forward.tar.gz"
    pack(language_model_archive(tmp_path / "lm"), packed)
    model = read_archive(str(packed)).model.eval()
    assert not [name for name in model.state_dict() if "softmax" in name or "projection" in name]
    sentences = {"tokens": {"tokens": torch.tensor([[2, 4, 5, 2]])}}
    assert "loss" not in model(sentences)
    with pytest.raises(ConfigurationError, match="gives no probabilities"):
        model.token_log_probs(sentences)


def test_another_model_is_an_error(trained, tmp_path):
    with pytest.raises(ConfigurationError, match="holds a LdnetTagger; expected an adaptive_language_model"):
        pack(str(trained), tmp_path / "forward.tar.gz")
    assert not (tmp_path / "forward.tar.gz").exists()
