import math

import pytest
import torch

from ldnet_allennlp.modules.rnn.initialization import init_embedding_, init_linear_, init_rnn_


def assert_uniform(values: torch.Tensor, bound: float) -> None:
    """The values reach almost to both bounds, not beyond, and have the variance of U(-bound, bound)."""
    values = values.detach()
    assert -bound <= values.min() < -0.97 * bound
    assert 0.97 * bound < values.max() <= bound
    assert values.pow(2).mean().item() == pytest.approx(bound**2 / 3, rel=0.1)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_lstm_weights_have_glorot_range_per_gate_and_forget_biases_add_up_to_two(bidirectional):
    torch.manual_seed(1)
    hidden = 20
    lstm = torch.nn.LSTM(30, hidden, num_layers=2, bidirectional=bidirectional)
    init_rnn_(lstm)
    inputs = {"l0": 30, "l1": 2 * hidden if bidirectional else hidden}
    suffixes = ["", "_reverse"] if bidirectional else [""]
    for layer, columns in inputs.items():
        for suffix in suffixes:
            name = layer + suffix
            assert_uniform(getattr(lstm, f"weight_ih_{name}"), math.sqrt(6 / (hidden + columns)))
            assert_uniform(getattr(lstm, f"weight_hh_{name}"), math.sqrt(6 / (hidden + hidden)))
            for bias in (getattr(lstm, f"bias_ih_{name}"), getattr(lstm, f"bias_hh_{name}")):
                expected = torch.zeros(4, hidden)
                expected[1] = 1.0  # gates i, f, g, o
                assert torch.equal(bias.detach(), expected.flatten())


@pytest.mark.parametrize("cell", [torch.nn.GRU, torch.nn.RNN])
def test_other_cells_keep_what_pytorch_gave_them(cell):
    rnn = cell(5, 6)
    before = {name: value.clone() for name, value in rnn.state_dict().items()}
    init_rnn_(rnn)
    assert all(torch.equal(value, before[name]) for name, value in rnn.state_dict().items())


def test_embedding_range():
    torch.manual_seed(1)
    weight = torch.nn.Parameter(torch.full((200, 12), 9.0))
    init_embedding_(weight)
    assert_uniform(weight, 0.5)  # sqrt(3 / 12)
    assert weight.pow(2).sum(1).mean().item() == pytest.approx(1.0, rel=0.05)
    assert weight.requires_grad and weight.grad_fn is None


def test_linear_range_and_bias():
    torch.manual_seed(1)
    linear = torch.nn.Linear(40, 56)
    init_linear_(linear)
    assert_uniform(linear.weight, 0.25)  # sqrt(6 / 96)
    assert not linear.bias.any()
    init_linear_(torch.nn.Linear(3, 4, bias=False))
