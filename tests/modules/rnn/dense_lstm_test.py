import pytest
import torch

from ldnet_allennlp.modules.rnn import dense_rnn_stack, dropped_elements
from ldnet_allennlp.modules.rnn.dense_lstm import can_fuse, dense_lstm
from ldnet_allennlp.modules.rnn.dense_rnn_stack import DenseRnnStack
from ldnet_allennlp.modules.rnn.dropped_elements import bernoulli_positions

SIZE, INPUT_SIZE, BATCH, STEPS = 4, 5, 3, 6
PATTERNS = [
    [],
    [False],
    [True],
    [False] * 4,
    [True] * 4,
    [False, True, False, True],
    [True, False, False, True],
]


def make_layers(count, seed=1):
    torch.manual_seed(seed)
    return DenseRnnStack(INPUT_SIZE, SIZE, count, "lstm", 0.0, 0.0).layers


def make_states(count, seed=2):
    generator = torch.Generator().manual_seed(seed)
    return [tuple(torch.randn(BATCH, SIZE, generator=generator) for _ in "hc") for _ in range(count)]


def make_inputs(seed=3):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(BATCH, STEPS, INPUT_SIZE, generator=generator, requires_grad=True)


def one_by_one(layers, inputs, starts, hidden, masks=None):
    """What `dense_lstm` computes, with torch's LSTM, concatenation and, for dropout, given multipliers."""
    outputs, visible, finals = [inputs], [inputs], []
    for number, layer in enumerate(layers):
        layer_input = torch.cat(visible, dim=-1)
        if masks is not None:
            layer_input = layer_input * masks[number]
        start = None if starts is None else tuple(tensor.unsqueeze(0) for tensor in starts[number])
        output, final = layer(layer_input, start)
        outputs.append(output)
        visible.append(torch.zeros_like(output) if hidden[number] else output)
        finals.append(tuple(tensor.squeeze(0) for tensor in final))
    return torch.cat(outputs, dim=-1), finals


def gradients(outputs, inputs, layers, retain_graph=False):
    weights = torch.linspace(-1, 1, outputs.numel()).view_as(outputs)
    parameters = [parameter for layer in layers for parameter in layer.parameters()]
    return torch.autograd.grad((outputs * weights).sum(), [inputs, *parameters], retain_graph=retain_graph)


def close(found, expected, tolerance=2e-6):
    for one, other in zip(found, expected):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


class TestDenseLstm:
    @pytest.mark.parametrize("hidden", PATTERNS[1:])
    @pytest.mark.parametrize("carried", [False, True])
    def test_equals_torchs_layers(self, hidden, carried):
        layers, inputs = make_layers(len(hidden)), make_inputs()
        starts = make_states(len(hidden)) if carried else None
        found, finals = dense_lstm(layers, inputs, starts, hidden, 0.0)
        expected, expected_finals = one_by_one(layers, inputs, starts, hidden)
        assert found.is_contiguous()
        close([found], [expected])
        for states, others in zip(finals, expected_finals):
            close(states, others)
            assert not any(tensor.requires_grad for tensor in states)
        first = gradients(found, inputs, layers, retain_graph=True)
        close(first, gradients(expected, inputs, layers))
        assert all(map(torch.equal, first, gradients(found, inputs, layers)))  # nothing was overwritten

    @pytest.mark.parametrize("hidden", PATTERNS[3:])
    @pytest.mark.parametrize("dropout", [0.05, 0.5, 1.0])
    def test_dropout(self, hidden, dropout, monkeypatch):
        layers, inputs, drawn = make_layers(4), make_inputs(), []

        def draw(count, probability):
            assert probability == dropout
            drawn.append(bernoulli_positions(count, probability))
            return drawn[-1]

        monkeypatch.setattr(dropped_elements, "bernoulli_positions", draw)
        found, _ = dense_lstm(layers, inputs, None, hidden, dropout)
        expected, _ = one_by_one(layers, inputs, None, hidden, self.masks(drawn, hidden, dropout))
        close([found], [expected])
        close(gradients(found, inputs, layers), gradients(expected, inputs, layers))
        assert sum(map(len, drawn)) > 0

    def masks(self, drawn, hidden, dropout):
        """Each layer's multipliers (B, T, all columns): what was drawn counts the seen columns, time first."""
        masks = []
        for number, positions in enumerate(drawn):
            columns = [not hidden[layer] for layer in range(number) for _ in range(SIZE)]
            columns = torch.tensor([True] * INPUT_SIZE + columns)
            seen = torch.full(
                (STEPS * BATCH * int(columns.sum()),), 1 / (1 - dropout) if dropout < 1 else 0.0
            )
            seen[positions] = 0.0
            masks.append(torch.ones(BATCH, STEPS, len(columns)))
            masks[-1][:, :, columns] = seen.view(STEPS, BATCH, -1).transpose(0, 1)
        return masks

    def test_bfloat16_under_autocast(self):
        layers, inputs, starts = make_layers(4), make_inputs(), make_states(4)
        hidden = [False, True, False, False]
        expected, _ = one_by_one(layers, inputs, starts, hidden)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found, finals = dense_lstm(layers, inputs, starts, hidden, 0.0)
        assert {found.dtype, *(tensor.dtype for state in finals for tensor in state)} == {torch.bfloat16}
        close([found.float()], [expected], 0.02)
        found = gradients(found, inputs, layers)
        for one, other in zip(found, gradients(expected, inputs, layers)):
            assert one.dtype == torch.float32
            close([one], [other], 0.03 * other.abs().max().item())

    def test_weights_changed_before_the_backward_pass_are_noticed(self):
        layers, inputs = make_layers(2), make_inputs()
        outputs, _ = dense_lstm(layers, inputs, None, [False, False], 0.0)
        with torch.no_grad():
            layers[0].weight_hh_l0.add_(1)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            outputs.sum().backward()


class TestCanFuse:
    def test_only_lstms_in_training_on_the_cpu(self):
        layers, inputs = make_layers(2), make_inputs()
        assert can_fuse(layers, inputs, None, True)
        assert not can_fuse(layers, inputs, None, False)  # torch's own are faster
        assert can_fuse(layers, inputs.detach(), make_states(2), True)
        with torch.no_grad():
            assert not can_fuse(layers, inputs, None, True)
        assert not can_fuse([], inputs, None, True)
        assert not can_fuse(layers, inputs.double(), None, True)
        assert not can_fuse(layers, inputs[:, :0], None, True)
        assert not can_fuse([torch.nn.GRU(INPUT_SIZE, SIZE)], inputs, None, True)
        assert not can_fuse(layers, inputs, [tuple(inputs[:, 0] for _ in "hc")] * 2, True)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert can_fuse(layers, inputs, None, False)
        layers[1].weight_ih_l0.requires_grad_(False)
        assert not can_fuse(layers, inputs, None, True)

    @pytest.mark.parametrize(
        "layer_dropout, training, used", [(0.5, True, 1), (0.5, False, 0), (0.0, True, 0)]
    )
    def test_the_stack_uses_it_where_layers_may_be_hidden(self, monkeypatch, layer_dropout, training, used):
        calls = []

        def counted(*arguments):
            calls.append(arguments)
            return dense_lstm(*arguments)

        monkeypatch.setattr(dense_rnn_stack, "dense_lstm", counted)
        stack = DenseRnnStack(INPUT_SIZE, SIZE, 2, "lstm", 0.0, layer_dropout).train(training)
        stack(make_inputs())
        assert len(calls) == used
