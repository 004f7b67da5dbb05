import json
import tarfile

import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.data import Vocabulary
from allennlp.models import Model
from allennlp.models.archival import load_archive

from ldnet_allennlp.common.archives import write_archive
from ldnet_allennlp.data.language_model_archive import read_language_model
from ldnet_allennlp.modules.embedders.language_model_source import (
    LanguageModelSource,
    build_contextualizer,
    resolve_sources,
)
from tests.builders import WORDS, language_model_archive
from tests.taggers import build_tagger, tagger_params


def upstream_archive(folder, contextualizer, token_embedders=None, reader=None, bidirectional=False):
    """allennlp-models' own language model with our network."""
    vocab = Vocabulary()
    vocab.add_tokens_to_namespace(WORDS, "tokens")
    config = {
        "dataset_reader": reader or {"type": "lm_stream"},
        "model": {
            "type": "language_model",
            "bidirectional": bidirectional,
            "text_field_embedder": {
                "token_embedders": token_embedders or {"tokens": {"type": "embedding", "embedding_dim": 6}}
            },
            "contextualizer": contextualizer,
        },
    }
    model = Model.from_params(Params(json.loads(json.dumps(config["model"]))), vocab=vocab)
    write_archive(str(folder / "lm.tar.gz"), model, config)
    return str(folder / "lm.tar.gz")


LD_RNN = {"type": "ld_rnn", "input_size": 6, "hidden_size": 5, "num_layers": 2}


@pytest.mark.parametrize("direction", ["forward", "backward", "bidirectional"])
def test_everything_comes_from_the_archive(tmp_path, direction):
    path = language_model_archive(tmp_path, direction)
    model = load_archive(path).model
    source = read_language_model(path)
    assert source.direction == direction
    assert source.words == ["@@PADDING@@", "@@UNKNOWN@@", *WORDS]
    assert source.boundary == "<eos>"
    assert torch.equal(source.embedding, model._text_field_embedder.token_embedder_tokens.weight)
    assert not source.embedding.requires_grad
    for name, parameter in model._contextualizer.named_parameters():
        assert torch.equal(dict(source.contextualizer.named_parameters())[name], parameter)


def test_a_serialization_directory_does(tmp_path):
    path = language_model_archive(tmp_path)
    with tarfile.open(path) as archive:
        archive.extractall(str(tmp_path / "directory"))
    assert torch.equal(
        read_language_model(str(tmp_path / "directory")).embedding, read_language_model(path).embedding
    )


def test_another_boundary_is_read_from_the_config(tmp_path):
    reader = {"type": "lm_stream", "end_of_sentence": "returns"}
    assert read_language_model(upstream_archive(tmp_path, LD_RNN, reader=reader)).boundary == "returns"


def test_no_boundary_where_the_vocabulary_has_none(tmp_path):
    assert read_language_model(language_model_archive(tmp_path, words=["a", "b", "c"] * 8)).boundary is None


def test_upstreams_language_model_with_our_network(tmp_path):
    source = read_language_model(upstream_archive(tmp_path, LD_RNN))
    assert source.direction == "forward" and source.contextualizer.layer_counts == [2]
    both = {**LD_RNN, "bidirectional": True}
    assert (
        read_language_model(upstream_archive(tmp_path, both, bidirectional=True)).direction == "bidirectional"
    )


def test_no_archive(tmp_path):
    with pytest.raises(ConfigurationError, match=r"'.*nothing.tar.gz' \(pretrained_file .* was not found"):
        read_language_model(str(tmp_path / "nothing.tar.gz"))


def test_not_a_language_model(tmp_path, language_models):
    tagger = build_tagger(tagger_params(language_models))
    write_archive(str(tmp_path / "ner.tar.gz"), tagger.model, tagger.config)
    with pytest.raises(ConfigurationError, match="to hold a language model, but it holds a LdnetTagger"):
        read_language_model(str(tmp_path / "ner.tar.gz"))


def test_another_contextualizer(tmp_path):
    path = upstream_archive(tmp_path, {"type": "lstm", "input_size": 6, "hidden_size": 5})
    with pytest.raises(ConfigurationError, match="as its contextualizer, but it has a LstmSeq2SeqEncoder"):
        resolve_sources(Vocabulary(), "ldnet", {"forward": LanguageModelSource(pretrained_file=path)})


@pytest.mark.parametrize(
    "token_embedders, found",
    [
        ({"tokens": {"type": "pass_through", "hidden_dim": 6}}, "PassThroughTokenEmbedder"),
        (
            {
                "tokens": {"type": "embedding", "embedding_dim": 2},
                "other": {"type": "embedding", "embedding_dim": 4, "num_embeddings": 3},
            },
            "Embedding, Embedding",
        ),
        ({"tokens": {"type": "embedding", "embedding_dim": 3, "projection_dim": 6}}, "Embedding"),
    ],
)
def test_not_one_plain_word_embedding(tmp_path, token_embedders, found):
    path = upstream_archive(tmp_path, LD_RNN, token_embedders)
    with pytest.raises(
        ConfigurationError, match=f"to read words through one embedding, but it reads {found}"
    ):
        read_language_model(path)


def test_a_described_contextualizer_must_be_an_ld_rnn():
    with pytest.raises(ConfigurationError, match=r"is an ld_rnn.*, but a LstmSeq2SeqEncoder was found"):
        LanguageModelSource.from_params(
            Params({"contextualizer": {"type": "lstm", "input_size": 3, "hidden_size": 4}})
        )


def test_a_description_builds_the_same_network_without_dropout(tmp_path):
    original = read_language_model(
        language_model_archive(tmp_path, cell_type="gru", dropout=0.3)
    ).contextualizer
    description = original.describe()
    again = build_contextualizer(description)
    assert description == original.describe()  # not consumed
    again.load_state_dict(original.state_dict())
    again.train()
    original.eval().reset_states()
    inputs = torch.randn(2, 3, 6)
    assert torch.equal(again(inputs), original(inputs))
    assert torch.equal(again(inputs), again(inputs))  # and without a state
