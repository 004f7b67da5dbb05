import copy
import io
import pickle

import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.modules.seq2seq_encoders import Seq2SeqEncoder
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from ldnet_allennlp.modules import quantized_layers as modules
from ldnet_allennlp.modules.quantized_layers import (
    QuantizedLinear,
    QuantizedRnn,
    quantize_layers,
    quantized_layers,
    rounded,
)
from ldnet_allennlp.modules.rnn.ld_rnn import LdRnn
from tests.resources import load_tensors

pytestmark = pytest.mark.skipif(
    torch.backends.quantized.engine == "none", reason="torch has no engine for int8 here"
)


def pair(layer):
    """A layer in evaluation mode, and one with int8 weights made of it."""
    torch.manual_seed(2)
    parent = torch.nn.Sequential(layer).eval()
    for parameter in parent.parameters():
        torch.nn.init.uniform_(parameter, -0.6, 0.6)
    assert quantize_layers(parent) == 1
    return layer, parent[0]


def test_rounded():
    """Each number is at most half a scale away, and the largest of each row is as large as can be."""
    torch.manual_seed(1)
    weights = torch.randn(6, 9) * torch.tensor([[1e-3], [1.0], [50.0], [1.0], [0.0], [1.0]])
    integers, scales = rounded(weights)
    assert integers.dtype == torch.int8 and integers.abs().amax(dim=1).tolist() == [127] * 4 + [0, 127]
    distance = (integers * scales.unsqueeze(1) - weights).abs()
    assert (distance <= scales.unsqueeze(1) * 0.5001).all()


def test_linear():
    """Against the rounded weights: what is left is the rounding of the input, which is bounded."""
    layer, small = pair(torch.nn.Linear(40, 7))
    inputs = 3 * torch.randn(5, 4, 40)
    integers, scales = rounded(layer.weight)
    weights = integers * scales.unsqueeze(1)
    with torch.no_grad():
        expected = torch.nn.functional.linear(inputs, weights, layer.bias)
        step = (inputs.max() - inputs.min()) / 127
        assert ((small(inputs) - expected).abs() <= step * weights.abs().sum(dim=1) + 1e-4).all()
        torch.testing.assert_close(small(inputs), layer(inputs), rtol=0, atol=0.3)
        assert small(inputs[:0]).shape == (0, 4, 7)
    without_bias = pair(torch.nn.Linear(4, 3, bias=False))
    inputs = torch.randn(2, 4)
    with torch.no_grad():
        torch.testing.assert_close(without_bias[1](inputs), without_bias[0](inputs), rtol=0, atol=0.05)


@pytest.mark.parametrize("kind", [torch.nn.LSTM, torch.nn.GRU])
@pytest.mark.parametrize(
    "options",
    [
        {"batch_first": True},
        {"batch_first": True, "bidirectional": True, "num_layers": 2},
        {"bidirectional": True},
    ],
)
def test_rnns(kind, options):
    """Padded and packed, with and without states to start from, they give what torch's give."""
    layer, small = pair(kind(6, 8, **options))
    batch_first, directions = options.get("batch_first", False), 1 + options.get("bidirectional", False)
    inputs = torch.randn(3, 5, 6) if batch_first else torch.randn(5, 3, 6)
    packed = pack_padded_sequence(
        inputs, torch.tensor([2, 5, 1]), batch_first=batch_first, enforce_sorted=False
    )
    start = torch.randn(directions * options.get("num_layers", 1), 3, 8)
    hidden = (start, -start) if kind is torch.nn.LSTM else start

    def flat(outputs, state):
        if not isinstance(outputs, torch.Tensor):
            outputs = pad_packed_sequence(outputs, batch_first=batch_first)[0]
        return [outputs, *(state if isinstance(state, tuple) else (state,))]

    with torch.no_grad():
        for arguments in ((inputs,), (inputs, hidden), (packed,), (packed, hidden)):
            for found, expected in zip(flat(*small(*arguments)), flat(*layer(*arguments))):
                torch.testing.assert_close(found, expected, rtol=0, atol=0.05)


def test_the_state_is_of_ordinary_tensors():
    """Under the names of the ordinary layer, a quarter of its bytes, and readable as data alone."""
    layer, small = pair(torch.nn.LSTM(60, 50))
    state = small.state_dict()
    assert set(layer.state_dict()) == {name for name in state if not name.endswith("_scale")}
    assert {state[name].dtype for name in ("weight_ih_l0", "weight_hh_l0")} == {torch.int8}
    sizes = [
        sum(value.numel() * value.element_size() for value in values.values())
        for values in (layer.state_dict(), state)
    ]
    assert sizes[1] < 0.3 * sizes[0]
    assert small.num_weights() == sum(parameter.numel() for parameter in layer.parameters())
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    read = load_tensors(file)
    other = QuantizedRnn("LSTM", 60, 50).eval()
    inputs = torch.randn(4, 2, 60)
    with torch.no_grad():
        assert not torch.equal(other(inputs)[0], small(inputs)[0])
        other.load_state_dict(read)  # also after it has been used
        assert torch.equal(other(inputs)[0], small(inputs)[0])


def test_an_ordinary_state_is_rounded():
    layer, small = pair(torch.nn.Linear(5, 3))
    other = QuantizedLinear(5, 3).eval()
    other.load_state_dict(layer.state_dict())
    for name, value in small.state_dict().items():
        assert torch.equal(other.state_dict()[name], value)


def test_copies():
    _, small = pair(torch.nn.GRU(3, 4))
    inputs = torch.randn(2, 1, 3)
    with torch.no_grad():
        expected = small(inputs)[0]
        for other in (copy.deepcopy(small), pickle.loads(pickle.dumps(small))):
            assert torch.equal(other(inputs)[0], expected)


def test_what_stays_as_it_is():
    class Special(torch.nn.Linear):
        pass

    kinds = [
        torch.nn.RNN(2, 3),
        torch.nn.LSTM(2, 3, bias=False),
        torch.nn.LSTM(2, 3, proj_size=2),
        Special(2, 3),
        torch.nn.Embedding(2, 3),
    ]
    module = torch.nn.ModuleList([*kinds, torch.nn.Sequential(torch.nn.Linear(2, 3))])
    assert quantize_layers(module) == 1 == len(quantized_layers(module))
    assert all(old is new for old, new in zip(kinds, module))


@pytest.mark.parametrize("bidirectional", [False, True])
def test_inside_an_ld_rnn(bidirectional):
    """As its config builds it. Padding is worth nothing here, either."""
    section = {
        "type": "ld_rnn",
        "input_size": 6,
        "hidden_size": 5,
        "num_layers": 3,
        "bidirectional": bidirectional,
    }
    torch.manual_seed(4)
    layers = Seq2SeqEncoder.from_params(Params(dict(section))).eval()
    small = Seq2SeqEncoder.from_params(Params({"type": "int8", "encoder": section})).eval()
    assert type(small) is LdRnn and small.describe() == layers.describe()
    assert len(quantized_layers(small)) == (6 if bidirectional else 3)
    small.load_state_dict(layers.state_dict())
    inputs, mask = torch.randn(3, 4, 6), torch.arange(4) < torch.tensor([[4], [2], [1]])
    with torch.no_grad():
        found, expected = small(inputs, mask), layers(inputs, mask)
        torch.testing.assert_close(found, expected, rtol=0, atol=0.05)
        inputs[~mask] = float("nan")
        assert torch.equal(small(inputs, mask), found)


def test_it_is_not_trained():
    _, small = pair(torch.nn.Linear(2, 2))
    small.train()
    with pytest.raises(ConfigurationError, match="int8 weights, which cannot be trained"):
        small(torch.ones(1, 2))
    with torch.no_grad():
        small(torch.ones(1, 2))
    with pytest.raises(
        ConfigurationError, match="which are for the CPU, but it was given a tensor on 'meta'"
    ):
        small.eval()(torch.ones(1, 2, device="meta"))


def test_without_an_engine(monkeypatch):
    monkeypatch.setattr(modules, "_engine", lambda: "none")
    with pytest.raises(ConfigurationError, match="has no engine for them on this machine"):
        QuantizedLinear(2, 2)
