import copy

import numpy
import onnx
import pytest
import torch

from ldnet_allennlp.export import export_tagger
from tests.export.comparing import (
    CHARACTERS,
    CNN,
    READER,
    SENTENCES,
    WORDS,
    build,
    character_encoding,
    largest_difference,
)

RNN = {"input_size": CHARACTERS, "hidden_size": 3}
ENCODERS = {
    "cnn": CNN,
    "cnn with projection": {**CNN, "conv_layer_activation": "tanh", "output_dim": 6},
    "lstm": {"type": "lstm", **RNN},
    "lstm with layers": {"type": "lstm", **RNN, "num_layers": 2, "bidirectional": True},
    "gru": {"type": "gru", **RNN, "bidirectional": True},
    "rnn": {"type": "rnn", **RNN},
}
NETWORKS = {
    "plain": {},
    "projected": {"projection_dim": 5},
    "highway": {"num_highway_layers": 2, "cell_type": "gru"},
    "layers": {"num_layers": 2, "cell_type": "rnn", "projection_dim": 3},
}


def lstm(size):
    return {"type": "lstm", "input_size": WORDS + size, "hidden_size": 5, "bidirectional": True}


def reader(**options):
    changed = copy.deepcopy(READER)
    changed["token_indexers"]["token_characters"].update(options)
    return changed


@pytest.mark.parametrize("name", ENCODERS)
def test_encoders_of_single_words(name):
    size = {"cnn": 10, "cnn with projection": 6, "gru": 6, "lstm with layers": 6}.get(name, 3)
    assert largest_difference(*build(lstm(size), character_encoding(ENCODERS[name]))) < 1e-5


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_over_the_characters_of_a_sentence(name):
    options = NETWORKS[name]
    characters = {"type": "sentence_character_lstm", "embedding_dim": 3, "hidden_size": 4, **options}
    size = options.get("projection_dim", 8)
    assert largest_difference(*build(lstm(size), characters)) < 1e-5


@pytest.mark.parametrize("characters", ["cnn", "sentence_character_lstm"])
def test_an_empty_word_has_no_characters(characters):
    networks = {"type": characters, "embedding_dim": 3, "hidden_size": 4, "num_highway_layers": 1}
    characters = character_encoding(CNN) if characters == "cnn" else networks
    model, reader = build(lstm(10 if characters != networks else 8), characters)
    sentences = [["of", "", "name"], [""], *SENTENCES]
    assert largest_difference(model, reader, sentences) < 1e-5


def test_bytes():
    characters = {
        "type": "sentence_character_lstm",
        "num_embeddings": 257,
        "embedding_dim": 3,
        "hidden_size": 4,
    }
    indexer = {"character_tokenizer": {"byte_encoding": "utf-8"}}
    assert largest_difference(*build(lstm(8), characters, reader(**indexer))) < 1e-5


def test_options_of_the_character_tokenizer():
    tokenizer = {"lowercase_characters": True, "start_tokens": ["<", "-"], "end_tokens": [">"]}
    changed = reader(character_tokenizer=tokenizer)
    assert largest_difference(*build(lstm(10), reader=changed)) < 1e-5


def test_an_embedding_with_a_projection_and_one_that_is_empty():
    embedders = {
        "tokens": {"type": "embedding", "embedding_dim": 4, "projection_dim": WORDS},
        "token_characters": {"type": "empty"},
    }
    embedder = {"token_embedders": embedders}
    assert largest_difference(*build(lstm(0), text_field_embedder=embedder)) < 1e-5


def test_int8_embeddings_round_each_row_to_255_steps():
    model, reader = build(lstm(10))
    characters = model.text_field_embedder.token_embedder_token_characters._embedding._module
    tables = [model.text_field_embedder.token_embedder_tokens.weight, characters.weight]
    for table in tables:
        steps = torch.randint(-127, 128, table.shape)
        steps[:, 0] = 127
        steps[0] = 0  # no scale
        table.data = steps / torch.arange(1.0, 1.0 + len(steps)).unsqueeze(1)
    with numpy.errstate(invalid="raise"):
        assert largest_difference(model, reader, int8_embeddings=True) < 1e-5
    stored = onnx.load_from_string(export_tagger(model, reader, int8_embeddings=True)).graph.initializer
    in_8_bits = [values for values in stored if values.data_type == onnx.TensorProto.INT8]
    assert sorted(tuple(values.dims) for values in in_8_bits) == sorted(
        tuple(table.shape) for table in tables
    )
