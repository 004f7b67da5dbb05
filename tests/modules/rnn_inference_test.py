"""The faster ways of running networks against the plain ones."""

import pytest
import torch
from allennlp.modules.seq2seq_encoders import GruSeq2SeqEncoder, LstmSeq2SeqEncoder

from ldnet_allennlp.modules import rnn_inference
from ldnet_allennlp.modules.embedders import frozen_language_model as language_model_layers
from ldnet_allennlp.modules.embedders.frozen_language_model import LanguageModelLayers
from ldnet_allennlp.modules.rnn.dense_rnn_stack import DenseRnnStack
from ldnet_allennlp.modules.rnn.ld_rnn import LdRnn
from ldnet_allennlp.modules.rnn.stacked_rnn import StackedRnn
from ldnet_allennlp.modules.rnn_inference import encode, needs_graph, run_dense_layers

CELLS = ["lstm", "gru", "rnn"]


def close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)


def stack_of(cell_type="lstm", num_layers=4):
    torch.manual_seed(3)
    stack = DenseRnnStack(5, 3, num_layers, cell_type, dropout=0.4, layer_dropout=0.5).eval()
    for parameter in stack.parameters():
        torch.nn.init.uniform_(parameter, -0.8, 0.8)
    return stack


def one_layer_after_the_other(stack, inputs, gates, states):
    """The definition: `torch.cat` of all that is below, batch first."""
    outputs, finals = [inputs], []
    for number, layer in enumerate(stack.layers):
        start = None
        if states is not None:
            start = tuple(tensor.unsqueeze(0) for tensor in states[number])
            start = start if len(start) == 2 else start[0]
        output, final = layer(torch.cat(outputs, dim=2), start)
        outputs.append(output if gates is None else output * gates[number])
        finals.append(tuple(t.squeeze(0) for t in (final if isinstance(final, tuple) else (final,))))
    return torch.cat(outputs, dim=2), finals


class TestDenseLayers:
    @pytest.mark.parametrize("loop_from", [0, 3, 100])
    @pytest.mark.parametrize("rows, steps", [(3, 6), (1, 4), (2, 1)])
    @pytest.mark.parametrize("with_states", [False, True])
    @pytest.mark.parametrize("with_gates", [False, True])
    @pytest.mark.parametrize("cell_type", CELLS)
    def test_equals_the_definition(
        self, cell_type, with_gates, with_states, rows, steps, loop_from, monkeypatch
    ):
        monkeypatch.setattr(rnn_inference, "_LOOP_FROM", loop_from)
        stack = stack_of(cell_type)
        inputs = torch.randn(rows, steps, 5)
        gates = torch.tensor([1.0, 0.0, 0.4, 0.9]) if with_gates else None
        parts = 2 if cell_type == "lstm" else 1
        states = [tuple(torch.randn(parts, rows, 3).unbind()) for _ in range(4)] if with_states else None
        with torch.no_grad():
            expected, expected_finals = one_layer_after_the_other(stack, inputs, gates, states)
        found, finals = stack.read(inputs.transpose(0, 1), gates, states)
        close(found.transpose(0, 1), expected)
        for state, wanted in zip(finals, expected_finals):
            assert len(state) == len(wanted) == parts
            for tensor, other in zip(state, wanted):
                close(tensor, other)
        assert not found.requires_grad

    def test_the_loop_runs_only_where_it_may(self, monkeypatch):
        monkeypatch.setattr(rnn_inference, "_LOOP_FROM", 0)
        calls = []
        loop = rnn_inference._run_lstm_loop
        monkeypatch.setattr(rnn_inference, "_run_lstm_loop", lambda *args: calls.append(1) or loop(*args))
        inputs = torch.randn(4, 2, 5)
        stack_of("lstm").read(inputs)
        assert len(calls) == 4
        stack_of("gru").read(inputs)
        stack_of("lstm").double().read(inputs.double())
        with torch.autocast("cpu", dtype=torch.bfloat16):
            stack_of("lstm").read(inputs)
        assert len(calls) == 4

    def test_states_go_on(self, monkeypatch):
        monkeypatch.setattr(rnn_inference, "_LOOP_FROM", 2)
        stack, inputs = stack_of(), torch.randn(7, 2, 5)
        whole, last = stack.read(inputs)
        first, states = stack.read(inputs[:3])
        second, states = stack.read(inputs[3:], None, states)
        close(torch.cat([first, second]), whole)
        close(states[-1][1], last[-1][1])

    def test_no_layers(self):
        inputs = torch.randn(4, 2, 5)
        outputs, states = run_dense_layers([], inputs)
        assert torch.equal(outputs, inputs) and states == []


class TestNeedsGraph:
    def test_what_is_trained(self):
        stack, inputs = stack_of(), torch.randn(1, 2, 5)
        assert needs_graph(stack, inputs)
        with torch.no_grad():
            assert not needs_graph(stack, inputs)
        stack.requires_grad_(False)
        assert not needs_graph(stack, inputs, None)
        assert needs_graph(stack, inputs.requires_grad_(), None)

    def test_frozen_layers_in_training_give_trained_gates_their_gradient(self):
        stack, inputs = stack_of().requires_grad_(False), torch.randn(2, 3, 5)
        gates = torch.tensor([1.0, 0.5, 0.2, 0.8], requires_grad=True)
        slow, _ = stack(inputs, gates)
        fast, _ = stack(inputs, gates.detach())
        close(slow.detach(), fast)
        slow.sum().backward()
        assert bool((gates.grad != 0).all()) and not fast.requires_grad

    def test_dropout_is_drawn_in_training(self):
        stack, inputs = stack_of().requires_grad_(False).train(), torch.rand(2, 3, 5)
        assert not torch.equal(stack(inputs)[0], stack(inputs)[0])


class TestEncode:
    @pytest.mark.parametrize("lengths", [[5, 5, 5], [5, 3, 1], [4, 0, 5], [5], [5, 1, 1, 0]])
    @pytest.mark.parametrize("bidirectional", [False, True])
    @pytest.mark.parametrize("kind", [LstmSeq2SeqEncoder, GruSeq2SeqEncoder])
    def test_equals_the_encoder(self, kind, bidirectional, lengths):
        torch.manual_seed(1)
        encoder = kind(4, 3, bidirectional=bidirectional)
        inputs = torch.randn(len(lengths), 5, 4, requires_grad=True)
        mask = torch.arange(5) < torch.tensor(lengths).unsqueeze(1)
        expected = encoder(inputs, mask)
        with torch.no_grad():
            close(encode(encoder, inputs, mask), expected.detach())
        found = encode(encoder, inputs, mask)
        close(found.detach(), expected.detach())
        factors = torch.randn(expected.shape)
        tensors = [inputs, *encoder.parameters()]
        for gradient, other in zip(
            torch.autograd.grad((found * factors).sum(), tensors),
            torch.autograd.grad((expected * factors).sum(), tensors),
        ):
            close(gradient, other)

    @pytest.mark.parametrize("lengths, packs", [([5, 4], False), ([5, 1, 1], True)])
    def test_packs_where_most_would_be_padding(self, lengths, packs):
        encoder = LstmSeq2SeqEncoder(4, 3, bidirectional=True)
        seen = []
        encoder.register_forward_hook(lambda module, given, output: seen.append(output))
        mask = torch.arange(5) < torch.tensor(lengths).unsqueeze(1)
        encode(encoder, torch.randn(len(lengths), 5, 4), mask)
        assert bool(seen) == packs

    @pytest.mark.parametrize(
        "encoder",
        [
            LstmSeq2SeqEncoder(4, 3, num_layers=2, bidirectional=True),
            LstmSeq2SeqEncoder(4, 3, bias=False),
            LdRnn(4, 3, 2, bidirectional=True),
            LstmSeq2SeqEncoder(4, 3, stateful=True),
        ],
    )
    def test_other_encoders_run_as_they_are(self, encoder):
        encoder.eval()
        inputs, mask = torch.randn(2, 5, 4), torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
        seen = []
        encoder.register_forward_hook(lambda module, given, output: seen.append(output))
        with torch.no_grad():
            found = encode(encoder, inputs, mask)
        assert found is seen[0]


def language_model(direction, encoder, boundary_id):
    torch.manual_seed(2)
    model = LanguageModelLayers(
        direction,
        encoder,
        num_words=9,
        boundary_id=boundary_id,
        boundary="<eos>" if boundary_id else None,
        layers=None,
        train_gates=False,
        requires_grad=False,
    )
    with torch.no_grad():
        model.embedding.weight.normal_()
        model.selection.gates.uniform_(0.2, 1)
        for parameter in encoder.parameters():
            parameter.uniform_(-0.8, 0.8)
    return model.eval()


class TestProject:
    """The layers times a matrix, computed in parts, against the layers as a whole."""

    @pytest.mark.parametrize("positions", [1, 6, 1000])
    @pytest.mark.parametrize("boundary_id", [None, 3])
    @pytest.mark.parametrize("cell_type", CELLS)
    @pytest.mark.parametrize("direction", ["forward", "backward", "bidirectional"])
    def test_equals_the_layers(self, direction, cell_type, boundary_id, positions, monkeypatch):
        monkeypatch.setattr(language_model_layers, "_POSITIONS", positions)
        monkeypatch.setattr(rnn_inference, "_LOOP_FROM", 2)
        both = direction == "bidirectional"
        model = language_model(direction, LdRnn(4, 3, 3, cell_type, bidirectional=both), boundary_id)
        self.check(model)

    @pytest.mark.parametrize("num_layers", [0, 1])
    def test_few_layers(self, num_layers):
        self.check(language_model("backward", LdRnn(4, 3, num_layers), 3))

    def test_other_networks(self):
        torch.manual_seed(4)
        encoder = StackedRnn(4, 3, 2)
        model = LanguageModelLayers("forward", encoder, 9, 3, "<eos>", None, False, False)
        with torch.no_grad():
            model.embedding.weight.normal_()
        self.check(model.eval(), 3)

    @staticmethod
    def check(model, size=None):
        weight = torch.randn(2, model.get_output_dim() if size is None else size)
        for lengths in ([4, 2, 5, 0], [3], [2, 2]):
            mask = torch.arange(5)[: max(lengths)] < torch.tensor(lengths).unsqueeze(1)
            ids = torch.randint(1, 9, mask.shape).masked_fill(~mask, 0)
            with torch.no_grad():
                expected = model(ids, mask) @ weight.t()
            close(model.project(ids, mask, weight), expected)
        empty = torch.zeros((2, 0), dtype=torch.long)
        assert model.project(empty, empty.bool(), weight).shape == (2, 0, 2)
