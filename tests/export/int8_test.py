import numpy
import onnx
import pytest
from onnx import numpy_helper

from ldnet_allennlp.export import export_tagger
from tests.export.comparing import (
    SENTENCES,
    SIZE,
    build,
    character_encoding,
    largest_difference,
    onnx_emissions,
)

LSTM = {"type": "lstm", "input_size": SIZE, "hidden_size": 16, "bidirectional": True}
ENCODERS = {
    "lstm": LSTM,
    "backward ld_rnn": {
        "type": "ld_rnn",
        "input_size": SIZE,
        "hidden_size": 16,
        "num_layers": 2,
        "bidirectional": True,
    },
    "two layers": {**LSTM, "num_layers": 2},
}


def weights_of(data):
    graph = onnx.load_from_string(data).graph
    return graph, {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}


@pytest.mark.parametrize("name", ENCODERS)
def test_scores_stay_near_those_of_the_model(name):
    # The scores are around 0.5.
    assert 1e-6 < largest_difference(*build(ENCODERS[name]), int8=True) < 0.02


def test_integers_times_scales_are_half_a_scale_from_the_weights():
    model, reader = build(LSTM)
    graph, weights = weights_of(export_tagger(model, reader, int8=True))
    (node,) = [node for node in graph.node if node.op_type == "DynamicQuantizeLSTM"]
    integers, scales = (
        weights[node.input[1]],
        weights[node.input[8]],
    )  # (directions, D, 4 H), (directions, 4 H)
    assert integers.dtype == numpy.int8
    assert numpy.abs(integers).max() == 63, "7 bits: sums of two products fit into 16 bits without VNNI"
    rows = model.encoder._module.weight_ih_l0.detach().numpy()  # torch's gates: i f g o, ONNX's: i o f g
    expected = numpy.concatenate([rows[:16], rows[48:], rows[16:48]])
    restored = (integers[0] * scales[0]).T
    assert (numpy.abs(restored - expected) <= scales[0][:, None] * 0.5001).all()


def test_a_row_of_zeros_stays_zero():
    model, reader = build(LSTM)
    model.encoder._module.weight_ih_l0.data[3] = 0.0
    assert largest_difference(model, reader, int8=True) < 0.02


def test_grus_keep_their_precision():
    gru = {**LSTM, "type": "gru"}
    characters = {"type": "sentence_character_lstm", "embedding_dim": 3, "hidden_size": 5, "cell_type": "gru"}
    model, reader = build({**gru, "input_size": 16}, characters)
    assert largest_difference(model, reader, int8=True) < 1e-5


def test_character_lstms_of_words_are_quantized_too():
    encoder = {"type": "lstm", "input_size": 4, "hidden_size": 10, "bidirectional": False}
    model, reader = build({**LSTM, "type": "gru"}, character_encoding(encoder))
    assert 1e-6 < largest_difference(model, reader, int8=True) < 0.02


def test_the_file_is_smaller():
    model, reader = build({**LSTM, "hidden_size": 64})
    sizes = [len(export_tagger(model, reader, int8=is_int8)) for is_int8 in (False, True)]
    assert sizes[1] < 0.5 * sizes[0]


def test_the_same_model_gives_the_same_file():
    first, second = (export_tagger(*build(LSTM), int8=True) for _ in range(2))
    assert first == second
    assert onnx_emissions(first, SENTENCES)[0].tolist() == onnx_emissions(second, SENTENCES)[0].tolist()
