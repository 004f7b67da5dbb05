import math

import numpy
import pytest
import torch
from allennlp.common.checks import ConfigurationError

from ldnet_allennlp.modules.rnn.dense_rnn_stack import DenseRnnStack, LayerDropout
from tests.modules.rnn.reference_encoder import batch_first, build_encoder
from tests.resources import load_reference, reference_parameters

PRECISIONS = [("f64", torch.float64, 1e-10), ("f32", torch.float32, 1e-5)]


def script_layer_dropout(monkeypatch, pattern):
    """Makes the draws of all layer dropouts follow the pattern, over and over; returns the list of draws."""
    draws = []

    def is_hidden(self):
        draws.append(bool(pattern[len(draws) % len(pattern)]))
        return draws[-1]

    monkeypatch.setattr(LayerDropout, "is_hidden", is_hidden)
    return draws


class TestReferenceLayerDropout:
    """The original's `LDRNN` in training mode."""

    @pytest.mark.parametrize("suffix, dtype, tolerance", PRECISIONS)
    @pytest.mark.parametrize(
        "case", ["all_dropped_lstm", "all_dropped_gru", "all_dropped_rnn", "pattern_lstm"]
    )
    def test_outputs_and_gradients(self, case, suffix, dtype, tolerance, monkeypatch):
        arrays = load_reference(f"b_layerdrop/{case}.npz")
        if "drop_pattern" in arrays:
            draws = script_layer_dropout(monkeypatch, arrays["drop_pattern"])
        encoder = build_encoder(reference_parameters(arrays), dtype, layer_dropout=1.0, stateful=True).train()
        first = batch_first(arrays["x1"], dtype).requires_grad_()
        output = encoder(first)
        (output * batch_first(arrays["g"], dtype)).sum().backward()
        carried = encoder(batch_first(arrays["x2"], dtype))

        def check(actual, name):
            expected = batch_first(arrays[f"{name}_{suffix}"], dtype)
            torch.testing.assert_close(actual.detach(), expected, rtol=tolerance, atol=tolerance)

        check(output, "y1")
        check(carried, "y2_carried")
        check(first.grad, "grad_x1")
        if "drop_pattern" in arrays:
            assert draws == [bool(hidden) for hidden in arrays["drop_pattern"]] * 2  # one a layer and call
        if suffix == "f64" and case.endswith("lstm"):
            for name, parameter in encoder.stacks[0].named_parameters():
                key = "grad/" + name.replace("layers.", "layer.").replace(".weight", ".layer.weight")
                key = key.replace(".bias", ".layer.bias")
                numpy.testing.assert_allclose(parameter.grad, arrays[f"{key}_f64"], rtol=0, atol=tolerance)


class TestLayerDropout:
    def test_draws_follow_the_probability(self):
        torch.manual_seed(7)
        for p in (0.1, 0.5, 0.8):
            dropout, trials = LayerDropout(p).train(), 4000
            hidden = sum(dropout.is_hidden() for _ in range(trials))
            assert abs(hidden - trials * p) < 5 * math.sqrt(trials * p * (1 - p))

    def test_draws_are_independent(self):
        torch.manual_seed(3)
        dropout, trials = LayerDropout(0.5).train(), 4000
        draws = [dropout.is_hidden() for _ in range(trials + 1)]
        pairs = sum(one and two for one, two in zip(draws, draws[1:]))
        assert abs(pairs - trials / 4) < 5 * math.sqrt(trials * 3 / 16 * 2)

    def test_never_in_evaluation(self):
        dropout = LayerDropout(1.0, few_layers=1.0)
        assert dropout.is_hidden() and dropout.layers_left(4) is not None
        dropout.eval()
        assert not dropout.is_hidden() and dropout.layers_left(4) is None

    def test_probability_zero_draws_nothing(self):
        state = torch.get_rng_state()
        dropout = LayerDropout(0.0).train()
        assert not dropout.is_hidden() and dropout.layers_left(4) is None
        assert torch.equal(torch.get_rng_state(), state)

    @pytest.mark.parametrize("p", [-0.1, 1.5, float("nan")])
    def test_probability_is_checked(self, p):
        with pytest.raises(ConfigurationError, match=r"layer_dropout .* expected a probability"):
            LayerDropout(p)
        with pytest.raises(ConfigurationError, match=r"few_layers .* expected a probability"):
            LayerDropout(0.5, p)

    def test_few_layers(self):
        torch.manual_seed(6)
        dropout, trials = LayerDropout(0.5, few_layers=0.25).train(), 4000
        draws = [dropout.layers_left(7) for _ in range(trials)]
        few = [layers for layers in draws if layers is not None]
        assert abs(len(few) - trials / 4) < 5 * math.sqrt(trials * 3 / 16)
        assert {len(layers) for layers in few} == {1, 2, 3}
        assert {tuple(layers) for layers in few if len(layers) == 1} == {(number,) for number in range(7)}
        assert all(len(set(layers)) == len(layers) for layers in few)
        assert dropout.layers_left(1) is None


INPUT_SIZE, HIDDEN_SIZE = 5, 3
PATTERNS = [
    [False] * 4,
    [True] * 4,
    [False, True, False, True],
    [True, False, False, True],
    [False, True, True, False],
]


class ResidualLstm(torch.nn.LSTM):
    """A user's own LSTM: its output is not what torch computes from its weights."""

    def forward(self, inputs, hidden=None):
        output, state = super().forward(inputs, hidden)
        return output + inputs[..., : self.hidden_size], state


def definition(stack, inputs, hidden, states=None, gates=None):
    """The dense stack as the paper defines it: a hidden layer is read as zeros."""
    outputs, visible, finals = [inputs], [inputs], []
    for number, layer in enumerate(stack.layers):
        start = None if states is None else tuple(tensor.unsqueeze(0) for tensor in states[number])
        output, final = layer(torch.cat(visible, dim=-1), start)
        output = output if gates is None else output * gates[number]
        outputs.append(output)
        visible.append(torch.zeros_like(output) if hidden[number] else output)
        finals.append(tuple(tensor.squeeze(0) for tensor in final))
    return torch.cat(outputs, dim=-1), finals


class TestDefinition:
    """Outputs, final states and all gradients against the definition, for each pattern of hidden layers."""

    def make(self, cell_type="lstm"):
        torch.manual_seed(2)
        return DenseRnnStack(INPUT_SIZE, HIDDEN_SIZE, 4, cell_type, 0.0, layer_dropout=0.5).double().train()

    def check(self, stack, hidden, monkeypatch, states=None, gates=None):
        torch.manual_seed(3)
        inputs = torch.randn(3, 6, INPUT_SIZE, dtype=torch.float64, requires_grad=True)
        factors = torch.randn(3, 6, INPUT_SIZE + 4 * HIDDEN_SIZE, dtype=torch.float64)
        with monkeypatch.context() as context:
            script_layer_dropout(context, hidden)
            actual, actual_finals = stack(inputs, gates, states)
        expected, expected_finals = definition(stack, inputs, hidden, states, gates)
        for one, other in zip(actual_finals, expected_finals):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-12)
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)
        wanted = [inputs, *stack.parameters(), *([] if gates is None else [gates])]
        for one, other in zip(
            torch.autograd.grad((actual * factors).sum(), wanted),
            torch.autograd.grad((expected * factors).sum(), wanted),
        ):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-11)

    @pytest.mark.parametrize("hidden", PATTERNS)
    @pytest.mark.parametrize("cell_type", ["lstm", "gru", "rnn"])
    def test_hidden_layers(self, cell_type, hidden, monkeypatch):
        self.check(self.make(cell_type), hidden, monkeypatch)

    @pytest.mark.parametrize("hidden", PATTERNS)
    def test_states_and_gates(self, hidden, monkeypatch):
        torch.manual_seed(4)
        states = [tuple(torch.randn(3, HIDDEN_SIZE, dtype=torch.float64) for _ in "hc") for _ in range(4)]
        gates = torch.rand(4, dtype=torch.float64, requires_grad=True)
        self.check(self.make(), hidden, monkeypatch, states, gates)

    @pytest.mark.parametrize("place", [0, 2, 3])
    def test_a_subclass_of_lstm_keeps_its_forward(self, place, monkeypatch):
        stack = self.make()
        own = ResidualLstm(INPUT_SIZE + place * HIDDEN_SIZE, HIDDEN_SIZE, batch_first=True).double()
        stack.layers[place] = own
        self.check(stack, [False, True, False, True], monkeypatch)

    def test_hooks_do_not_change_the_random_numbers(self):
        outputs = []
        for hook in (False, True):
            stack = self.make()
            stack.dropout.p = 0.3
            if hook:
                stack.layers[2].register_forward_hook(lambda *_: None)
            torch.manual_seed(5)
            outputs.append(stack(torch.ones(2, 3, INPUT_SIZE, dtype=torch.float64))[0])
        assert torch.equal(*outputs)

    def test_hidden_layers_are_not_multiplied(self, monkeypatch):
        widths = []
        lstm = torch.lstm

        def counted(inputs, *arguments):
            widths.append(inputs.size(-1))
            return lstm(inputs, *arguments)

        monkeypatch.setattr(torch, "lstm", counted)
        script_layer_dropout(monkeypatch, [True, True, False, True])
        self.make()(torch.randn(2, 3, INPUT_SIZE, dtype=torch.float64))
        assert widths == [INPUT_SIZE, INPUT_SIZE, INPUT_SIZE + HIDDEN_SIZE]  # all but the first layer


class TestDenseRnnStack:
    def make(self, **options):
        arguments = {"cell_type": "lstm", "dropout": 0.0, "layer_dropout": 0.0, **options}
        torch.manual_seed(1)
        return DenseRnnStack(input_size=4, hidden_size=3, num_layers=4, **arguments).double()

    def test_one_draw_a_layer_from_the_torch_generator(self, monkeypatch):
        inputs = torch.randn(2, 5, 4, dtype=torch.float64)
        for seed in range(5):
            stack = self.make(layer_dropout=0.5).train()
            torch.manual_seed(seed)
            pattern = [bool(torch.rand(()) < 0.5) for _ in range(4)]
            torch.manual_seed(seed)
            drawn, _ = stack(inputs)
            with monkeypatch.context() as context:
                script_layer_dropout(context, pattern)
                scripted, _ = stack(inputs)
            assert torch.equal(drawn, scripted)

    def test_hidden_layer_is_the_layer_whose_columns_are_zero(self, monkeypatch):
        inputs = torch.randn(2, 5, 4, dtype=torch.float64)
        stack = self.make(layer_dropout=0.5).train()
        script_layer_dropout(monkeypatch, [False, True, False, False])
        hidden, _ = stack(inputs)
        script_layer_dropout(monkeypatch, [False])
        full, _ = stack(inputs)
        with torch.no_grad():
            for layer in stack.layers[2:]:
                layer.weight_ih_l0[:, 4 + 3 : 4 + 6] = 0  # what reads the second layer
        cut, _ = stack(inputs)
        torch.testing.assert_close(hidden, cut, rtol=0, atol=1e-12)
        torch.testing.assert_close(hidden[..., :10], full[..., :10], rtol=0, atol=1e-12)  # still put out
        assert (hidden[..., 10:] - full[..., 10:]).abs().max() > 1e-3

    def test_few_layers_are_what_pruning_leaves(self, monkeypatch):
        inputs = torch.randn(2, 5, 4, dtype=torch.float64)
        stack = self.make(layer_dropout=0.5, few_layers=1.0).train()
        monkeypatch.setattr(LayerDropout, "layers_left", lambda *_: [0, 2])
        few, states = stack(inputs)
        gradients = torch.autograd.grad(few.sum(), list(stack.parameters()))  # DDP waits for each
        gated, gated_states = stack.eval()(inputs, gates=torch.tensor([1.0, 0.0, 1.0, 0.0]).double())
        expected = torch.autograd.grad(gated.sum(), list(stack.parameters()))
        torch.testing.assert_close(gradients, expected, rtol=0, atol=1e-12)
        torch.testing.assert_close(few, gated, rtol=0, atol=1e-12)
        torch.testing.assert_close(states, gated_states, rtol=0, atol=1e-12)
        assert not few[..., 7:10].any() and not few[..., 13:].any()

    def test_trained_gates_leave_no_layers_out(self):
        inputs, gates = torch.randn(2, 5, 4, dtype=torch.float64), torch.ones(4).double()
        gated, _ = self.make(few_layers=1.0).train()(inputs, gates)
        assert torch.equal(gated, self.make()(inputs)[0])

    def test_dropout_masks_are_fresh_and_rescaled(self):
        stack = self.make(dropout=0.5).train()
        seen = []
        stack.dropout.register_forward_hook(lambda module, arguments, output: seen.append(output.detach()))
        inputs = torch.rand(8, 9, 4, dtype=torch.float64) + 1
        outputs, _ = stack(inputs)
        assert torch.equal(outputs[..., :4], inputs)  # the output's own copy of the input is not dropped
        assert [tensor.size(-1) for tensor in seen] == [4, 7, 10, 13]
        masks = [tensor[..., :4] != 0 for tensor in seen]
        for mask, tensor in zip(masks, seen):
            torch.testing.assert_close(
                tensor[..., :4], torch.where(mask, 2 * inputs, torch.zeros_like(inputs))
            )
        assert not any(torch.equal(one, other) for one, other in zip(masks, masks[1:]))

    def test_dropout_is_off_in_evaluation(self):
        inputs = torch.randn(2, 5, 4, dtype=torch.float64)
        stack = self.make(dropout=0.9, layer_dropout=0.9).eval()
        torch.testing.assert_close(stack(inputs)[0], self.make()(inputs)[0], rtol=0, atol=0)

    def test_forget_gate_starts_open(self):
        for layer in self.make().layers:
            total = layer.bias_ih_l0 + layer.bias_hh_l0
            assert total.tolist() == [0.0] * 3 + [2.0] * 3 + [0.0] * 6  # gates i, f, g, o
