"""allennlp-models' ELMo-style token embedders over archives of an "adaptive_language_model"."""

import json

import pytest
import torch
from allennlp.commands.train import train_model
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.models import load_archive
from allennlp.modules.token_embedders import TokenEmbedder

import ldnet_allennlp  # noqa: F401
from tests.resources import FIXTURES

LD_RNN = {"type": "ld_rnn", "input_size": 8, "hidden_size": 8, "num_layers": 3, "bidirectional": True}
CONTEXTUALIZERS = {
    "ld_rnn": LD_RNN,
    "gated ld_rnn": {"type": "layer_selection", "encoder": LD_RNN},
    "forward ld_rnn": {**LD_RNN, "bidirectional": False},
    "stacked_rnn": {"type": "stacked_rnn", "input_size": 8, "hidden_size": 8, "num_layers": 2},
    "transformer": {
        "type": "bidirectional_language_model_transformer",
        "input_dim": 8,
        "hidden_dim": 12,
        "num_layers": 2,
    },
}
CHARACTERS = {
    "type": "character_encoding",
    "embedding": {"num_embeddings": 262, "embedding_dim": 4},
    "encoder": {"type": "cnn", "embedding_dim": 4, "num_filters": 8, "ngram_filter_sizes": [3]},
}
IDS = torch.tensor([[2, 5, 3, 7], [4, 2, 0, 0]])


def config(contextualizer, on_characters):
    section = CONTEXTUALIZERS[contextualizer]
    indexers = {"tokens": {"type": "single_id"}}
    embedders = {"tokens": {"type": "embedding", "embedding_dim": 8, "num_embeddings": 1000}}
    if on_characters:
        indexers["elmo"] = {"type": "elmo_characters"}
        embedders = {"tokens": {"type": "empty"}, "elmo": CHARACTERS}
    return {
        "dataset_reader": {
            "type": "simple_language_modeling",
            "start_tokens": ["<S>"],
            "end_tokens": ["</S>"],
            "token_indexers": indexers,
            "tokenizer": "just_spaces",
        },
        "train_data_path": str(FIXTURES / "lm" / "valid.txt"),
        "model": {
            "type": "adaptive_language_model",
            "text_field_embedder": {"token_embedders": embedders},
            "contextualizer": section,
            "bidirectional": contextualizer not in ("forward ld_rnn", "stacked_rnn"),
            "cutoffs": [10],
            "projection_dim": 6,
        },
        "data_loader": {"batch_size": 32},
        "trainer": {"num_epochs": 1, "optimizer": {"type": "sgd", "lr": 0.1}, "cuda_device": -1},
    }


@pytest.fixture(scope="module")
def archive_of(tmp_path_factory):
    folder = tmp_path_factory.mktemp("archives")

    def train(contextualizer, on_characters=False):
        path = folder / f"{contextualizer} {on_characters}"
        if not path.exists():
            train_model(Params(json.loads(json.dumps(config(contextualizer, on_characters)))), str(path))
        return str(path / "model.tar.gz")

    return train


def layers_of(model, vectors, mask):
    """The layers of each contextualizer from what it gives as a whole."""
    encoder, size = model._contextualizer, 8
    if hasattr(encoder, "all_layers"):
        return encoder.all_layers(vectors, mask)
    if not hasattr(encoder, "full_output_dim"):
        for part in (encoder._forward_transformer, encoder._backward_transformer):
            part.return_all_layers = True
        encoder._return_all_layers = True
        return encoder(vectors, mask)
    outputs = encoder(vectors, mask).chunk(2 if encoder.is_bidirectional() else 1, dim=-1)
    number = encoder.num_layers
    columns = [slice(size * (layer + 1), size * (layer + 2)) for layer in range(number)]
    return [torch.cat([part[..., place] for part in outputs], dim=-1) for place in columns]


@pytest.mark.parametrize("kind", ["language_model_token_embedder", "bidirectional_lm_token_embedder"])
@pytest.mark.parametrize("contextualizer", CONTEXTUALIZERS)
def test_mixes_the_layers_of_words(archive_of, contextualizer, kind):
    path = archive_of(contextualizer)
    embedder = TokenEmbedder.from_params(
        Params({"type": kind, "archive_file": path, "bos_eos_tokens": None, "remove_bos_eos": False})
    ).eval()
    if "gated" in contextualizer:
        with torch.no_grad():
            embedder._lm._contextualizer.gates.copy_(torch.tensor([1, 0.5, 0.2, 0, 0.7, 1]))
    for number, weight in enumerate(embedder._scalar_mix.scalar_parameters):
        weight.data.fill_(0.3 * number)
    mixed = embedder(IDS)

    model = load_archive(path).model.eval()
    if "gated" in contextualizer:
        model._contextualizer.load_state_dict(embedder._lm._contextualizer.state_dict())
    vectors, mask = model._text_field_embedder({"tokens": {"tokens": IDS}}), IDS != 0
    layers = layers_of(model, vectors, mask)
    layers = [torch.cat([vectors] * (layers[0].size(-1) // 8), dim=-1), *layers]
    weights = torch.softmax(0.3 * torch.arange(len(layers)), dim=0)
    expected = sum(weight * layer for weight, layer in zip(weights, layers))
    torch.testing.assert_close(mixed[mask], expected[mask], rtol=1e-5, atol=1e-6)
    assert embedder.get_output_dim() == mixed.size(-1) == layers[-1].size(-1)
    mixed.sum().backward()
    assert all(weight.grad is not None for weight in embedder._scalar_mix.parameters())


@pytest.mark.parametrize("contextualizer", ["ld_rnn", "transformer"])
def test_reads_characters_with_boundaries(archive_of, contextualizer):
    embedder = TokenEmbedder.from_params(
        Params({"type": "language_model_token_embedder", "archive_file": archive_of(contextualizer, True)})
    )
    characters = torch.randint(1, 262, (2, 5, 50))
    assert embedder(characters).shape == (2, 5, 16)


def test_all_layers_and_a_loss_are_not_had_together(archive_of):
    model = load_archive(
        archive_of("ld_rnn"), overrides=json.dumps({"model.contextualizer.return_all_layers": True})
    ).model
    with pytest.raises(ConfigurationError, match="return_all_layers, which gives vectors and no loss"):
        model({"tokens": {"tokens": IDS}})
