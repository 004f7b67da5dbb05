import copy
import itertools

import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.modules.seq2seq_encoders import PassThroughEncoder, Seq2SeqEncoder
from hypothesis import given, settings
from hypothesis import strategies as st

from ldnet_allennlp.modules.rnn.ld_rnn import LdRnn, reverse_sequences
from ldnet_allennlp.modules.selection.layer_budget import LayerBudget, selection_penalty
from ldnet_allennlp.modules.selection.layer_selection import LayerSelection
from tests.modules.rnn.reference_encoder import batch_first, build_encoder, stack_parameters
from tests.resources import (
    REFERENCE,
    load_reference,
    load_tensors,
    needs_bfloat16,
    reference_parameters,
)

PRECISIONS = {"f64": (torch.float64, 1e-10), "f32": (torch.float32, 1e-5)}
LENGTHS = torch.tensor([7, 5, 2])  # of the reference sentences, their boundary included
CASES = ["gates", "unclamped", "set0", "set1", "set2", "set3"]


def close(actual, expected, tolerance=1e-12):
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance)


def set_gates(selection, values):
    selection.gates.data = torch.as_tensor(values, dtype=selection.gates.dtype)
    return selection


def make(num_layers=4, cell_type="lstm", gates=None, **options):
    """A selection over an encoder with random weights, in float64."""
    torch.manual_seed(13)
    encoder = LdRnn(4, 3, num_layers, cell_type, **options)
    selection = LayerSelection(encoder).double()
    for parameter in encoder.parameters():
        torch.nn.init.uniform_(parameter, -0.8, 0.8)
    return selection if gates is None else set_gates(selection, gates)


def random_inputs(rows=3, steps=6, seed=0):
    return torch.randn(rows, steps, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def mask_of(lengths, steps=6):
    return torch.arange(steps).unsqueeze(0) < torch.as_tensor(lengths).unsqueeze(1)


class Reference:
    """One case of an `e_sparse` file: a gated LM, forward or backward, and what the original computed."""

    def __init__(self, name, case="", parameters=None, suffix="f64"):
        self.arrays = load_reference(f"e_sparse/{name}.npz")
        self.prefix, self.suffix = f"{case}/" if case else "", suffix
        self.dtype, self.tolerance = PRECISIONS[suffix]
        values = parameters or reference_parameters(self.arrays, self.dtype)
        if name == "medium_bwd":
            values.update(reference_parameters(load_reference("a_rnn/medium_LDRNN_lstm.npz"), self.dtype))
        self.selection = LayerSelection(build_encoder(values, self.dtype)).to(self.dtype).eval()
        set_gates(self.selection, self.arrays[f"{self.prefix}gates"])
        words = torch.as_tensor(self.arrays["w"]).t()  # (B, T); a backward LM's are reversed already
        self.vectors = values["word_embed.weight"].to(self.dtype)[words]
        self.backward = name.endswith("bwd")

    def run(self, encoder):
        output = encoder(self.vectors)
        return reverse_sequences(output, LENGTHS) if self.backward else output

    def __getitem__(self, name):
        return torch.as_tensor(self.arrays[f"{self.prefix}{name}_{self.suffix}"])

    def output(self, name):
        return batch_first(self[name], self.dtype)


COMPLETE = [(name, case, "f64") for name in ("fwd", "bwd") for case in CASES] + [("medium_bwd", "", "f64")]
COMPLETE += [(name, "", suffix) for name in ("fwd_gru", "fwd_rnn") for suffix in PRECISIONS]
# Of these two, the file has the output and its gradient only.
OUTPUT_ONLY = [("fwd", "gates", "f32"), ("bwd", "gates", "f32")]


@pytest.fixture(params=COMPLETE, ids="-".join)
def reference(request):
    name, case, suffix = request.param
    return Reference(name, case, suffix=suffix)


class TestReference:
    """Vectors of the original's `SparseSeqLM`."""

    @pytest.mark.parametrize("name, case, suffix", COMPLETE + OUTPUT_ONLY)
    def test_output_and_gradient_of_the_gates(self, name, case, suffix):
        reference = Reference(name, case, suffix=suffix)
        output = reference.run(reference.selection)
        close(output.detach(), reference.output("out"), reference.tolerance)
        arrays = reference.arrays
        weights = batch_first(arrays["G"], reference.dtype) if "G" in arrays else torch.ones_like(output)
        (output * weights).sum().backward()
        gradient = reference["grad_gates"]
        torch.testing.assert_close(
            reference.selection.gates.grad, gradient, rtol=reference.tolerance, atol=reference.tolerance
        )

    def test_regularizers(self, reference):
        gates, tolerance = reference.selection.gates, reference.tolerance
        number = int(reference["reg0"])
        within = selection_penalty(gates, 1.0, number)
        close(within.detach(), reference["reg3"].to(within.dtype), tolerance)
        if number:
            beyond = selection_penalty(gates, 1.0, number - 1)
            expected = (reference["reg1"] + reference["reg3"]).to(beyond.dtype)
            close(beyond.detach(), expected, tolerance)
            beyond.backward()
            close(gates.grad, reference["grad_reg1_plus_reg3"], tolerance)

    def test_prune(self, reference):
        pruned = reference.selection.prune()
        assert pruned.columns.tolist() == reference["prune_mask"].nonzero().flatten().tolist()
        kept = [gate for gate in reference.selection.gates.tolist() if gate > 0]
        assert pruned.gates.tolist() == kept
        smaller = set_gates(LayerSelection(pruned.encoder).to(reference.dtype), pruned.gates)
        output = reference.run(smaller).detach()
        if f"{reference.prefix}pruned_out_{reference.suffix}" in reference.arrays:
            close(output, reference.output("pruned_out"), reference.tolerance)
        if reference.prefix != "unclamped/":  # there a negative gate, which is cut, feeds later layers
            close(output, reference.output("out")[..., pruned.columns], reference.tolerance)

    def test_clamped_gates_keep_the_same_layers(self, reference):
        before = reference.selection.kept_layers()
        clamped = reference.selection.gates.data.clamp(0, 1)
        close(clamped, reference["prox_gates"].to(clamped.dtype), 1e-7)
        set_gates(reference.selection, clamped)
        assert reference.selection.kept_layers() == before
        assert len(before[0]) == int(reference["prox_count"])

    @pytest.mark.parametrize("name", ["fwd", "bwd"])
    def test_stored_state_dicts(self, name):
        before = load_tensors(str(REFERENCE / f"e_sparse/{name}_before.pt"))
        after = load_tensors(str(REFERENCE / f"e_sparse/{name}_pruned.pt"))
        reference = Reference(name, "gates", parameters=before)
        close(reference.selection.gates.float(), before["rnn.weight_list"], 0)
        pruned = reference.selection.prune()
        close(pruned.gates.float(), after["rnn.weight_list"], 0)
        expected = stack_parameters(after)
        actual = pruned.encoder.state_dict()
        assert set(actual) == set(expected)
        for key, value in expected.items():
            close(actual[key].float(), value, 0)

    @pytest.mark.parametrize("forward_case, backward_case", itertools.product(CASES, CASES))
    def test_penalty_counts_both_directions(self, forward_case, backward_case):
        sides = [Reference("fwd", forward_case), Reference("bwd", backward_case)]
        gates = torch.cat([side.selection.gates for side in sides])
        zero, one, three = [sum(side[name].item() for side in sides) for name in ("reg0", "reg1", "reg3")]
        for budget in range(9):
            expected = 0.7 * three + (0.7 * one if zero > budget else 0.0)
            assert selection_penalty(gates, 0.7, budget).item() == pytest.approx(expected, abs=1e-10)


class TestPenalty:
    @given(
        values=st.lists(st.floats(-1, 2), max_size=8),
        lambda_0=st.floats(0, 3),
        lambda_1=st.integers(0, 9),
    )
    def test_value_and_gradient(self, values, lambda_0, lambda_1):
        gates = torch.tensor(values, dtype=torch.float64, requires_grad=True)
        penalty = selection_penalty(gates, lambda_0, lambda_1)
        penalty.backward()
        over = sum(value > 0 for value in values) > lambda_1
        expected = sum(value * (1 - value) + (value if over and value > 0 else 0) for value in values)
        slopes = [lambda_0 * (1 - 2 * value + (1 if over and value > 0 else 0)) for value in values]
        assert penalty.shape == () and penalty.item() == pytest.approx(lambda_0 * expected, abs=1e-12)
        assert gates.grad.tolist() == pytest.approx(slopes, abs=1e-12)

    def test_of_a_selection(self):
        encoder = LdRnn(4, 3, 2, bidirectional=True)
        selection = set_gates(LayerSelection(encoder, lambda_0=0.5, lambda_1=2), [1.0, 0.4, 0.0, 0.2])
        expected = 0.5 * (0.4 * 0.6 + 0.2 * 0.8) + 0.5 * 1.6  # 3 gates above 0, of both directions
        assert selection.penalty().item() == pytest.approx(expected)
        selection.budget = LayerBudget(3)
        assert selection.penalty().item() == pytest.approx(0.5 * (0.4 * 0.6 + 0.2 * 0.8))

    def test_weight_zero_is_still_in_the_graph(self):
        selection = LayerSelection(LdRnn(4, 3, 2))
        selection.penalty().backward()
        assert selection.gates.grad.tolist() == [0.0, 0.0]


class TestGates:
    @pytest.mark.parametrize("options", [{}, {"bidirectional": True}, {"stateful": True}])
    def test_gates_at_one_change_nothing(self, options):
        selection = make(**options)
        inputs, mask = random_inputs(), mask_of([6, 3, 0])
        output = selection(inputs, mask)
        selection.reset_states()
        close(output, selection.encoder(inputs, mask))
        assert selection.get_input_dim() == 4
        assert selection.get_output_dim() == output.size(-1)
        assert selection.is_bidirectional() is bool(options.get("bidirectional"))

    def test_gates_of_each_direction(self):
        selection = make([2, 1], bidirectional=True, gates=[0.3, 0.0, 0.6])
        assert [gates.tolist() for gates in selection.direction_gates()] == [[0.3, 0.0], [0.6]]
        assert selection.kept_layers() == [[0], [0]]
        inputs, mask = random_inputs(), mask_of([6, 3, 0])
        output = selection(inputs, mask)
        assert not output[..., 7:10].any()
        # The first layer of each direction has nothing gated before it.
        plain = selection.encoder(inputs, mask)
        close(output[..., 4:7], 0.3 * plain[..., 4:7])
        close(output[..., 14:17], 0.6 * plain[..., 14:17])

    def test_a_gate_scales_what_later_layers_read(self):
        selection = make(2, gates=[0.25, 1.0])
        inputs = random_inputs()
        scaled = copy.deepcopy(selection.encoder)
        scaled.stacks[0].layers[1].weight_ih_l0.data[:, 4:7] *= 0.25
        expected = scaled(inputs)
        expected[..., 4:7] *= 0.25
        close(selection(inputs), expected)

    def test_stateful_windows_equal_one_long_run(self):
        gates = [0.5, 0.0, 1.0, 0.2]
        long = make(gates=gates)(random_inputs(2, 9))
        selection = make(gates=gates, stateful=True)
        assert selection.stateful
        for _ in range(2):
            windows = [selection(window) for window in random_inputs(2, 9).split(3, dim=1)]
            close(torch.cat(windows, dim=1), long)
            selection.reset_states()
        selection(random_inputs(2, 3))
        selection.reset_states(torch.tensor([True, False]))
        output = selection(random_inputs(2, 9))
        close(output[0], long[0])
        assert (output[1] - long[1]).abs().max() > 1e-3

    @pytest.mark.parametrize("training", [True, False])
    @pytest.mark.parametrize("gates", [[1.0] * 6, [0.0] * 6, [0.0, 0.4, 1.0, 0.0, 0.0, 0.7]])
    def test_every_gate_always_has_a_gradient(self, gates, training):
        selection = make(3, bidirectional=True, gates=gates, layer_dropout=0.5).train(training)
        for lengths in ([6, 3, 1], [0, 0, 0]):  # a rank may see an empty batch
            selection.gates.grad = None
            torch.manual_seed(0)
            selection(random_inputs(), mask_of(lengths)).sum().backward()
            assert selection.gates.grad.isfinite().all()
            assert selection.gates.grad.bool().all().item() is bool(sum(lengths))
        assert all(parameter.grad is None for parameter in selection.encoder.parameters())

    @needs_bfloat16
    def test_under_autocast(self):
        gates = [0.5, 0.0, 1.0, 0.2]
        selection, inputs = make(gates=gates).float(), random_inputs().float()
        exact = selection(inputs)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rounded = selection(inputs)
            rounded.float().sum().backward()
        close(rounded.float(), exact, 0.05)
        assert selection.gates.grad.dtype == torch.float32

    def test_what_is_trained(self):
        def trainable(**options):
            selection = LayerSelection(LdRnn(4, 3, 1), **options)
            return [name for name, parameter in selection.named_parameters() if parameter.requires_grad]

        weights = [
            f"encoder.stacks.0.layers.0.{name}_l0"
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        ]
        assert trainable() == ["gates"]
        assert trainable(train_gates=False) == []
        assert trainable(freeze_encoder=False) == ["gates", *weights]

    def test_from_params_and_state_dict(self):
        parameters = {
            "type": "layer_selection",
            "encoder": {
                "type": "ld_rnn",
                "input_size": 4,
                "hidden_size": 3,
                "num_layers": [2, 1],
                "bidirectional": True,
            },
            "lambda_0": 0.1,
            "lambda_1": 2,
        }
        original = make([2, 1], bidirectional=True, gates=[0.3, 0.0, 0.6])
        selection = Seq2SeqEncoder.from_params(Params(parameters)).double()
        assert isinstance(selection, LayerSelection)
        assert (selection.lambda_0, selection.budget.lambda_1) == (0.1, 2)
        assert selection.gates.tolist() == [1.0, 1.0, 1.0]
        selection.load_state_dict(original.state_dict())
        inputs, mask = random_inputs(), mask_of([6, 3, 0])
        close(selection(inputs, mask), original(inputs, mask), 0)

    def test_inside_compose(self):
        inner = {"type": "ld_rnn", "input_size": 4, "hidden_size": 3, "num_layers": 2}
        composed = Seq2SeqEncoder.from_params(
            Params(
                {
                    "type": "compose",
                    "encoders": [
                        {"type": "layer_selection", "encoder": inner},
                        {"type": "pass_through", "input_dim": 10},
                    ],
                }
            )
        ).double()
        inputs, mask = random_inputs(), mask_of([6, 3, 0])
        close(composed(inputs, mask), composed.encoders[0](inputs, mask), 0)

    def test_errors(self):
        with pytest.raises(ConfigurationError, match="encoder is a PassThroughEncoder"):
            LayerSelection(PassThroughEncoder(4))
        with pytest.raises(ConfigurationError, match=r"lambda_0 of layer selection is -0.1"):
            LayerSelection(LdRnn(4, 3, 2), lambda_0=-0.1, lambda_1=3)
        with pytest.raises(ConfigurationError, match=r"lambda_1 of layer selection is -3"):
            LayerSelection(LdRnn(4, 3, 2), lambda_0=0.1, lambda_1=-3)


gate_lists = st.lists(st.sampled_from([0.0, 0.0, 0.2, 0.7, 1.0]), max_size=4)


class TestPrune:
    @settings(max_examples=40, deadline=None)
    @given(
        forward=gate_lists,
        backward=st.none() | gate_lists,
        cell_type=st.sampled_from(["lstm", "gru", "rnn"]),
    )
    def test_pruned_equals_gated(self, forward, backward, cell_type):
        directions = [forward] if backward is None else [forward, backward]
        counts = [len(gates) for gates in directions]
        selection = make(
            counts, cell_type, forward + (backward or []), bidirectional=backward is not None
        ).eval()
        inputs, mask = random_inputs(), mask_of([6, 3, 0])
        gated = selection(inputs, mask)
        pruned = selection.prune()
        smaller = set_gates(LayerSelection(pruned.encoder).double(), pruned.gates)
        close(smaller(inputs, mask), gated[..., pruned.columns])
        # What is cut was zero, and there is nothing else.
        rest = torch.ones(gated.size(-1), dtype=torch.bool)
        rest[pruned.columns] = False
        assert not gated[..., rest].any()
        assert pruned.encoder.layer_counts == [sum(gate > 0 for gate in gates) for gates in directions]
        assert smaller.get_output_dim() == len(pruned.columns)

    @pytest.mark.parametrize("bidirectional", [False, True])
    def test_prune_twice(self, bidirectional):
        inputs, mask = random_inputs(), mask_of([6, 3, 0])
        gates = [0.9, 0.0, 0.5, 0.0, 1.0]
        gates = [*gates, 0.0, 0.3, 0.8, 0.0, 0.0] if bidirectional else gates
        first = make(5, bidirectional=bidirectional, gates=gates)
        one = first.prune()
        second = set_gates(LayerSelection(one.encoder).double(), one.gates)
        second.gates.data[1] = 0.0  # the third layer of the first encoder
        two = second.prune()
        last = set_gates(LayerSelection(two.encoder).double(), two.gates)

        gates[2] = 0.0
        set_gates(first, gates)
        at_once = first.prune()
        assert torch.equal(one.columns[two.columns], at_once.columns)
        assert torch.equal(two.gates, at_once.gates)
        close(last(inputs, mask), first(inputs, mask)[..., at_once.columns])
        for key, value in at_once.encoder.state_dict().items():
            assert torch.equal(two.encoder.state_dict()[key], value)

    @pytest.mark.parametrize("keep", [[[2, 0], [1]], [[], [0, 1]], [[], []], [[0, 1, 2], [1, 0]]])
    def test_layers_named_by_the_caller(self, keep):
        gates = [0.9, 0.2, 0.5, 0.4, 1.0]
        selection = make([3, 2], bidirectional=True, gates=gates)
        pruned = selection.prune(keep)
        smaller = set_gates(LayerSelection(pruned.encoder).double(), pruned.gates)
        wanted = [number for number in range(3) if number in keep[0]]
        wanted += [number + 3 for number in range(2) if number in keep[1]]
        only = [gate if number in wanted else 0.0 for number, gate in enumerate(gates)]
        assert pruned.gates.tolist() == [gates[number] for number in wanted]
        inputs, mask = random_inputs(), mask_of([6, 3, 0])
        close(smaller(inputs, mask), set_gates(selection, only)(inputs, mask)[..., pruned.columns])

    def test_the_old_one_is_left_as_it_is(self):
        selection = make(gates=[0.0, 0.5, 1.0, 0.0])
        before, output = copy.deepcopy(selection.state_dict()), selection(random_inputs())
        pruned = selection.prune()
        for parameter in pruned.encoder.parameters():
            parameter.data.fill_(7.0)
        pruned.gates.fill_(7.0)
        assert all(torch.equal(value, before[key]) for key, value in selection.state_dict().items())
        close(selection(random_inputs()), output, 0)

    @pytest.mark.parametrize("training", [True, False])
    def test_settings_are_kept(self, training):
        encoder = LdRnn(4, 3, 3, "gru", dropout=0.2, layer_dropout=0.3, stateful=True, few_layers=0.4)
        selection = set_gates(LayerSelection(encoder, freeze_encoder=False), [1.0, 0.0, 0.5]).train(training)
        encoder.stacks[0].layers[2].bias_hh_l0.requires_grad_(False)
        encoder.double()
        pruned = selection.prune()
        assert not pruned.gates.requires_grad and pruned.gates.dtype == torch.float32
        stack = pruned.encoder.stacks[0]
        assert (stack.dropout.p, stack.layer_dropout.p, stack.layer_dropout.few_layers) == (0.2, 0.3, 0.4)
        assert pruned.encoder.stateful and pruned.encoder.cell_type == "gru"
        assert all(module.training is training for module in pruned.encoder.modules())
        assert all(parameter.dtype == torch.float64 for parameter in pruned.encoder.parameters())
        fixed = [name for name, value in pruned.encoder.named_parameters() if not value.requires_grad]
        assert fixed == ["stacks.0.layers.1.bias_hh_l0"]

    def test_everything_can_be_cut(self):
        inputs, mask = random_inputs(), mask_of([6, 3, 0])
        pruned = make(gates=[0.0] * 4).prune()
        assert pruned.encoder.num_layers == 0 and pruned.columns.tolist() == [0, 1, 2, 3]
        close(pruned.encoder(inputs, mask), inputs * mask.unsqueeze(-1), 0)
        empty = LayerSelection(pruned.encoder).double()
        assert empty.kept_layers() == [[]] and empty.prune().columns.tolist() == [0, 1, 2, 3]
        (empty(inputs, mask).sum() + empty.penalty()).backward()
        assert empty.gates.grad.shape == (0,)


class TestFoldGates:
    @pytest.mark.parametrize("cell_type", ["lstm", "gru", "rnn"])
    @pytest.mark.parametrize("bidirectional", [False, True])
    def test_the_output_times_the_factors_is_what_it_was(self, cell_type, bidirectional):
        gates = [0.7, 0.0, 1.0, 0.4] * (2 if bidirectional else 1)
        selection = make(4, cell_type, gates, bidirectional=bidirectional)
        inputs, mask = random_inputs(), mask_of([6, 4, 1])
        before = selection(inputs, mask)
        factors = selection.fold_gates()
        assert selection.gates.tolist() == [1.0] * len(gates)
        assert factors.shape == (selection.get_output_dim(),)
        close(selection(inputs, mask) * factors, before)
        assert sorted(set(factors.tolist())) == [0.0, 0.4, 0.7, 1.0]

    def test_gates_of_1_change_nothing(self):
        selection = make()
        before = {name: value.clone() for name, value in selection.state_dict().items()}
        assert selection.fold_gates().eq(1).all()
        assert all(torch.equal(value, before[name]) for name, value in selection.state_dict().items())
