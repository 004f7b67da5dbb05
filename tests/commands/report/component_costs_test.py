import copy

import pytest
import torch
from allennlp.common import Params
from allennlp.data import Vocabulary
from allennlp.models import Model
from allennlp.models.archival import load_archive

from ldnet_allennlp.commands.report.component_costs import component_costs
from ldnet_allennlp.modules.selection.multiply_adds import multiply_adds
from tests.modules.selection.multiply_add_counter import below, counted_per_word
from tests.taggers import build_tagger, ldnet_embedder, tagger_params

WORDS = ["the", "list", "of", "Zork", "is", "a", "class"]
CHARACTERS = sum(map(len, WORDS)) / len(WORDS)
EMBEDDERS = "text_field_embedder.token_embedder_"
LDNET = EMBEDDERS + "ldnet."


@pytest.mark.parametrize("kind", ["ldnet_tagger", "crf_tagger"])
def test_the_parts_of_a_tagger_cost_what_runs_through_them(language_models, kind):
    params = tagger_params(language_models, overrides={"model.type": kind})
    tagger = build_tagger(params)
    counts = counted_per_word(tagger.model, tagger.reader, WORDS)
    costs = component_costs(tagger.model, CHARACTERS)
    expected = {
        "characters": below(counts, EMBEDDERS + "token_characters"),
        "LM forward": below(counts, LDNET + "language_models.forward_lm"),
        "LM backward": below(counts, LDNET + "language_models.backward_lm"),
        "LM projection": below(counts, LDNET + "projection"),
        "BiLSTM": below(counts, "encoder"),
        "tag projection": below(counts, "tag_projection_layer"),
    }
    assert costs.components == pytest.approx(expected) and min(expected.values()) > 0
    assert costs.total == pytest.approx(sum(counts.values())) and costs.not_counted == []
    assert costs.total == pytest.approx(multiply_adds(tagger.model, CHARACTERS))


def test_a_feedforward_layer_and_upstreams_characters(language_models):
    """The encoder of `character_encoding` is a GRU over each word's characters."""
    characters = {
        "type": "character_encoding",
        "embedding": {"embedding_dim": 4, "vocab_namespace": "token_characters"},
        "encoder": {"type": "gru", "input_size": 4, "hidden_size": 6},
    }
    overrides = {
        "model.text_field_embedder.token_embedders.token_characters": characters,
        "model.feedforward": {
            "input_dim": 14,
            "num_layers": 1,
            "hidden_dims": 9,
            "activations": "relu",
        },
    }
    tagger = build_tagger(tagger_params(language_models, overrides=overrides))
    counts = counted_per_word(tagger.model, tagger.reader, WORDS)
    costs = component_costs(tagger.model, CHARACTERS)
    assert costs.components["feedforward"] == below(counts, "_feedforward") == 14 * 9
    assert costs.components["embedder token_characters"] == pytest.approx(3 * 6 * (4 + 6) * CHARACTERS)
    assert costs.total == pytest.approx(sum(counts.values()))


def test_a_language_model(language_models):
    archive = load_archive(language_models.lm_backward)
    counts = counted_per_word(archive.model, archive.dataset_reader, WORDS)
    costs = component_costs(archive.model, CHARACTERS)
    assert costs.components == {"LM backward": pytest.approx(below(counts, "_contextualizer"))}
    assert [text.split(":")[0] for text in costs.not_counted] == ["softmax (AdaptiveSoftmax)"]


def test_what_cannot_be_counted_is_said(language_models):
    cnn = {
        "type": "character_encoding",
        "embedding": {"embedding_dim": 4, "vocab_namespace": "token_characters"},
        "encoder": {
            "type": "cnn",
            "embedding_dim": 4,
            "num_filters": 2,
            "ngram_filter_sizes": [2],
            "output_dim": 6,
        },
    }
    overrides = {"model.text_field_embedder.token_embedders.token_characters": cnn}
    tagger = build_tagger(tagger_params(language_models, overrides=overrides))
    costs = component_costs(tagger.model, CHARACTERS)
    assert len(costs.not_counted) == 1
    assert costs.not_counted[0].startswith("embedder token_characters._encoder")
    assert "(Conv1d): the number of uses of its weights is unknown" in costs.not_counted[0]
    # The linear layer behind the convolution runs once a word.
    assert costs.components["embedder token_characters"] == 2 * 6


def test_another_model(language_models):
    """What runs once a sentence there, and what once a word, cannot be told."""
    sources = {"forward": {"pretrained_file": language_models.lm_forward}}
    config = {
        "type": "basic_classifier",
        "text_field_embedder": {"token_embedders": {"x": {"type": "ldnet", "projection_dim": 5, **sources}}},
        "seq2seq_encoder": {"type": "lstm", "input_size": 5, "hidden_size": 3, "bidirectional": True},
        "seq2vec_encoder": {"type": "bag_of_embeddings", "embedding_dim": 6},
        "num_labels": 3,
    }
    model = Model.from_params(Params(config), vocab=Vocabulary())
    costs = component_costs(model, CHARACTERS)
    assert list(costs.components) == ["LM forward", "LM projection", "BiLSTM"]
    assert costs.components["BiLSTM"] == 2 * 4 * 3 * (5 + 3)
    assert costs.not_counted == [
        "_classification_layer (Linear): the calls a word of a BasicClassifier are unknown"
    ]


def test_language_models_without_dense_layers():
    """The second layer reads the first alone."""
    source = {"contextualizer": {"type": "stacked_rnn", "input_size": 6, "hidden_size": 5, "num_layers": 2}}
    config = {
        "type": "crf_tagger",
        "text_field_embedder": {
            "token_embedders": {"x": {"type": "ldnet", "backward": {**source, "boundary": ""}}}
        },
        "encoder": {"type": "pass_through", "input_dim": 5},
    }
    model = Model.from_params(Params(config), vocab=published_vocabulary())
    costs = component_costs(model, CHARACTERS)
    assert costs.components == {"LM backward": 4 * 5 * (6 + 5) + 4 * 5 * (5 + 5), "tag projection": 5 * 17}


def test_two_embedders_are_told_apart(language_models):
    embedders = {
        name: {"type": "ldnet", "namespace": name, direction: {"pretrained_file": path}}
        for name, direction, path in zip("xy", ("forward", "backward"), language_models)
    }
    model = {"type": "crf_tagger", "text_field_embedder": {"token_embedders": embedders}}
    model["encoder"] = {"type": "pass_through", "input_dim": 2 * (6 + 4 * 5)}
    vocab = Vocabulary()
    vocab.add_token_to_namespace("O", "labels")
    costs = component_costs(Model.from_params(Params(model), vocab=vocab), CHARACTERS)
    assert list(costs.components) == ["x: LM forward", "y: LM backward", "tag projection"]


def published_vocabulary():
    vocab = Vocabulary()
    for namespace, tokens in (
        ("labels", [f"tag{number}" for number in range(17)]),
        ("tokens", ["word"]),
        ("ldnet_words", ["word"]),
        ("token_characters", list("abc")),
    ):
        vocab.add_tokens_to_namespace(tokens, namespace)
    return vocab


def published_tagger(layers):
    """The published sizes with so many layers in each direction, `None` for no language models."""
    lstm = {"type": "ld_rnn", "input_size": 300, "hidden_size": 300, "num_layers": layers}
    source = {"contextualizer": lstm, "boundary": ""}
    sources = {"forward": source, "backward": copy.deepcopy(source)}
    ldnet = {"type": "ldnet", **sources, "projection_dim": 100}
    characters = {"type": "sentence_character_lstm", "hidden_size": 150, "projection_dim": 100}
    embedders = {
        "tokens": {"type": "embedding", "embedding_dim": 100},
        "token_characters": {**characters, "embedding_dim": 30},
        **({} if layers is None else {"ldnet": ldnet}),
    }
    width = 200 if layers is None else 300
    config = {
        "type": "ldnet_tagger",
        "text_field_embedder": {"token_embedders": embedders},
        "encoder": {"type": "lstm", "input_size": width, "hidden_size": 300, "bidirectional": True},
    }
    return Model.from_params(Params(config), vocab=published_vocabulary())


PAPER = {10: 51, 3: 10, 1: 5, None: 3}  # layers in each direction, and M multiply-adds a word


@pytest.fixture(scope="module")
def published():
    """Tagger and layers; the smaller ones are cut out of the largest."""
    taggers = {None: published_tagger(None), 10: published_tagger(10)}
    for before, layers in ((10, 3), (3, 1)):
        taggers[layers] = copy.deepcopy(taggers[before])
        embedder = ldnet_embedder(taggers[layers])
        there = embedder.all_layers()
        embedder.prune({"forward": there["forward"][:layers], "backward": there["backward"][-layers:]})
    return taggers


def in_millions(costs):
    return {name: round(cost / 1e6, 2) for name, cost in costs.components.items()}


def test_the_published_tagger_costs_what_the_paper_says(published):
    """The table in the docstring of `multiply_adds`."""
    for characters in (7, 8, 9):
        totals = {
            layers: component_costs(tagger, characters).total / 1e6 for layers, tagger in published.items()
        }
        assert {layers: round(total) for layers, total in totals.items()} == PAPER
    sums = {layers: component_costs(tagger, 8).total / 1e6 for layers, tagger in published.items()}
    assert sums == pytest.approx({10: 50.88, 3: 10.14, 1: 4.98, None: 3.18}, abs=0.005)
    rest = {"characters": 1.97, "BiLSTM": 1.44, "tag projection": 0.01}
    for layers, one_direction, projection in ((10, 23.4, 0.66), (3, 3.24, 0.24), (1, 0.72, 0.12)):
        expected = {"LM forward": one_direction, "LM backward": one_direction, "LM projection": projection}
        assert in_millions(component_costs(published[layers], 8)) == {**expected, **rest}
    assert in_millions(component_costs(published[None], 8)) == {**rest, "BiLSTM": 1.20}


@pytest.mark.parametrize("characters, expected", [(11, PAPER), (12, PAPER), (13, PAPER), (4.4, None)])
def test_the_published_tagger_with_a_narrower_lstm(published, characters, expected):
    totals = {}
    for layers, tagger in published.items():
        costs = component_costs(tagger, characters)
        lstm = torch.nn.LSTM(200 if layers is None else 300, 150, bidirectional=True)
        narrower = multiply_adds(lstm) + multiply_adds(torch.nn.Linear(300, 17))
        wide = costs.components["BiLSTM"] + costs.components["tag projection"]
        totals[layers] = (costs.total - wide + narrower) / 1e6
    if expected is not None:
        assert {layers: round(total) for layers, total in totals.items()} == expected
    else:
        assert totals == pytest.approx({10: 49.2, 3: 8.5, 1: 3.3, None: 1.6}, abs=0.05)
