import pytest

from tests.export.comparing import SENTENCES, SIZE, build, largest_difference

RNN = {"input_size": SIZE, "hidden_size": 5}
LD_RNN = {"type": "ld_rnn", **RNN, "num_layers": 3}
ENCODERS = {
    "lstm": {"type": "lstm", **RNN},
    "lstm with layers": {"type": "lstm", **RNN, "num_layers": 2, "bidirectional": True},
    "gru": {"type": "gru", **RNN, "num_layers": 2, "bidirectional": True},
    "gru without bias": {"type": "gru", **RNN, "bias": False},
    "rnn": {"type": "rnn", **RNN, "bidirectional": True},
    "rnn with relu": {"type": "rnn", **RNN, "nonlinearity": "relu", "bidirectional": True},
    "highway lstm": {"type": "stacked_bidirectional_lstm", **RNN, "num_layers": 2},
    "no highway": {"type": "stacked_bidirectional_lstm", **RNN, "num_layers": 2, "use_highway": False},
    "ld_rnn": LD_RNN,
    "ld_rnn of grus": {**LD_RNN, "cell_type": "gru", "bidirectional": True, "num_layers": [1, 2]},
    "ld_rnn of rnns": {**LD_RNN, "cell_type": "rnn"},
    "no layers": {**LD_RNN, "num_layers": 0},
    "stacked_rnn": {"type": "stacked_rnn", **RNN, "num_layers": 2},
    "layer_selection": {"type": "layer_selection", "encoder": {**LD_RNN, "bidirectional": True}},
    "pass_through": {"type": "pass_through", "input_dim": SIZE},
    "compose": {
        "type": "compose",
        "encoders": [
            {"type": "pass_through", "input_dim": SIZE},
            {
                "type": "feedforward",
                "feedforward": {
                    "input_dim": SIZE,
                    "num_layers": 2,
                    "hidden_dims": [7, 6],
                    "activations": ["tanh", "linear"],
                },
            },
            {"type": "lstm", "input_size": 6, "hidden_size": 4},
            {"type": "gru", "input_size": 4, "hidden_size": 3},
        ],
    },
}
ACTIVATIONS = [
    "linear",
    "relu",
    "relu6",
    "elu",
    "gelu",
    "leaky_relu",
    "hardtanh",
    "sigmoid",
    "tanh",
    "softsign",
]
ACTIVATIONS += ["selu", "mish", "swish", "gelu_new", "gelu_fast"]


@pytest.mark.parametrize("name", ENCODERS)
def test_encoders_give_torch_s_scores(name):
    assert largest_difference(*build(ENCODERS[name])) < 1e-5


@pytest.mark.parametrize("name", ["highway lstm", "gru", "ld_rnn of grus"])
def test_a_sentence_alone_gets_the_scores_that_it_gets_in_a_batch(name):
    model, reader = build(ENCODERS[name])
    for sentence in SENTENCES:
        assert largest_difference(model, reader, [sentence, sentence[:1]]) < 1e-5


@pytest.mark.parametrize("gates", [[0.5, 1.0, 0.25, 0.0, 1.0, 0.75], [0.0] * 6])
def test_gates_of_an_encoder_count(gates):
    model, reader = build(ENCODERS["layer_selection"])
    model.encoder.gates.data.copy_(model.encoder.gates.new_tensor(gates))
    assert largest_difference(model, reader) < 1e-5


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name):
    layers = {"input_dim": 5, "num_layers": 2, "hidden_dims": 6, "activations": name}
    assert largest_difference(*build(ENCODERS["lstm"], feedforward=layers)) < 1e-5
