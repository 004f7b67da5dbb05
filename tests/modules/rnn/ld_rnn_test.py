import copy

import numpy
import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.modules.seq2seq_encoders import Seq2SeqEncoder
from hypothesis import given, settings
from hypothesis import strategies as st

from ldnet_allennlp.modules.rnn.ld_rnn import LdRnn, reverse_sequences
from tests.modules.rnn.reference_encoder import batch_first, build_encoder, stack_parameters
from tests.resources import (
    REFERENCE,
    load_reference,
    load_tensors,
    needs_bfloat16,
    reference_parameters,
)

CELLS = ["lstm", "gru", "rnn"]
PRECISIONS = [("f64", torch.float64, 1e-10), ("f32", torch.float32, 1e-5)]
LENGTHS = torch.tensor([7, 5, 2])  # of the reference sentences, their boundary included


def make(cell_type="lstm", num_layers=3, **options):
    torch.manual_seed(11)
    encoder = LdRnn(4, 3, num_layers, cell_type, **options).double()
    for parameter in encoder.parameters():
        torch.nn.init.uniform_(parameter, -0.7, 0.7)
    return encoder


def mask_of(lengths, steps):
    return torch.arange(steps).unsqueeze(0) < torch.as_tensor(lengths).unsqueeze(1)


def random_inputs(rows, steps, seed=0):
    return torch.randn(rows, steps, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def close(actual, expected, tolerance=1e-12):
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance)


class TestReference:
    """Vectors of the original's `LDRNN`, `DenseRNN` and `BasicSeqLM`."""

    @pytest.mark.parametrize("suffix, dtype, tolerance", PRECISIONS)
    @pytest.mark.parametrize("cell_type", CELLS)
    @pytest.mark.parametrize("network", ["LDRNN", "DenseRNN"])
    def test_consecutive_calls(self, network, cell_type, suffix, dtype, tolerance):
        arrays = load_reference(f"a_rnn/{network}_{cell_type}.npz")
        layer_dropout = 0.5 if network == "LDRNN" else 0.0
        encoder = build_encoder(
            reference_parameters(arrays), dtype, stateful=True, layer_dropout=layer_dropout
        )
        assert encoder.cell_type == cell_type
        first, second = batch_first(arrays["x1"], dtype), batch_first(arrays["x2"], dtype)
        close(encoder(first), batch_first(arrays[f"y1_{suffix}"], dtype), tolerance)
        for number, state in enumerate(encoder.carried[0]):
            for name, tensor in zip("hc", state):
                expected = torch.as_tensor(arrays[f"state_after_1/{name}{number}_{suffix}"])
                close(tensor, expected, tolerance)
        close(encoder(second), batch_first(arrays[f"y2_carried_{suffix}"], dtype), tolerance)
        encoder.reset_states()
        close(encoder(second), batch_first(arrays[f"y2_fresh_{suffix}"], dtype), tolerance)

    @pytest.mark.parametrize("suffix, dtype, tolerance", PRECISIONS)
    @pytest.mark.parametrize("network", ["LDRNN", "DenseRNN"])
    def test_stored_state_dict(self, network, suffix, dtype, tolerance):
        arrays = load_reference(f"a_rnn/{network}_lstm.npz")
        parameters = load_tensors(str(REFERENCE / f"a_rnn/{network}_lstm.pt"))
        encoder = build_encoder(parameters, dtype)
        first = batch_first(arrays["x1"], dtype)
        close(encoder(first), batch_first(arrays[f"y1_{suffix}"], dtype), tolerance)

    def test_medium(self):
        arrays = load_reference("a_rnn/medium_LDRNN_lstm.npz")
        encoder = build_encoder(reference_parameters(arrays), stateful=True)
        assert encoder.get_output_dim() == 450
        close(encoder(batch_first(arrays["x1"])), batch_first(arrays["y1_f64"]), 1e-10)
        close(encoder(batch_first(arrays["x2"])), batch_first(arrays["y2_carried_f64"]), 1e-10)

    @pytest.mark.parametrize("case", ["LDRNN_fwd", "LDRNN_bwd", "DenseRNN_fwd"])
    def test_language_model_in_a_tagger(self, case):
        arrays = load_reference(f"f_seqlm/BasicSeqLM_{case}.npz")
        for suffix, dtype, tolerance in PRECISIONS:
            parameters = reference_parameters(arrays, dtype)
            encoder = build_encoder(parameters, dtype, stateful=True)
            words = torch.as_tensor(arrays["w"]).t()  # (B, T); the backward LM's are reversed already
            vectors = parameters["word_embed.weight"][words]

            def run(encoder=encoder, vectors=vectors):
                output = encoder(vectors)
                return reverse_sequences(output, LENGTHS) if case.endswith("bwd") else output

            close(run(), batch_first(arrays[f"out_{suffix}"], dtype), tolerance)
            if suffix == "f64":
                close(run(), batch_first(arrays["out_again_without_init_hidden_f64"]), tolerance)
                encoder.reset_states()
                close(run(), batch_first(arrays["out_after_init_hidden_f64"]), tolerance)

    def test_backward_half_is_the_backward_language_model(self):
        arrays = load_reference("f_seqlm/BasicSeqLM_LDRNN_bwd.npz")
        parameters = reference_parameters(arrays)
        encoder = build_encoder(parameters, bidirectional=True)
        natural = reverse_sequences(torch.as_tensor(arrays["w"]).t(), LENGTHS)  # w_1 .. w_L, boundary
        mask = mask_of(LENGTHS, 7)
        output = encoder(parameters["word_embed.weight"][natural], mask)[..., 26:]
        close(output[mask], batch_first(arrays["out_f64"])[mask], 1e-10)


class TestReverseSequences:
    def test_equals_the_row_indices_of_the_original(self):
        flat = torch.as_tensor(load_reference("f_seqlm/BasicSeqLM_LDRNN_bwd.npz")["ind"])
        rows = torch.arange(21).view(7, 3)  # time first
        close(reverse_sequences(rows.t(), LENGTHS).t().reshape(-1), flat, 0)

    @given(lengths=st.lists(st.integers(0, 6), min_size=1, max_size=5), vectors=st.booleans())
    def test_equals_flipping_row_by_row(self, lengths, vectors):
        inputs = random_inputs(len(lengths), 6)
        inputs = inputs if vectors else inputs[..., 0]
        expected = inputs.clone()
        for row, length in enumerate(lengths):
            expected[row, :length] = inputs[row, :length].flip(0)
        output = reverse_sequences(inputs, torch.tensor(lengths))
        assert torch.equal(output, expected)
        assert torch.equal(reverse_sequences(output, torch.tensor(lengths)), inputs)


class TestMasks:
    @settings(max_examples=40, deadline=None)
    @given(
        cell_type=st.sampled_from(CELLS),
        bidirectional=st.booleans(),
        num_layers=st.integers(0, 3),
        lengths=st.lists(st.integers(0, 6), min_size=1, max_size=4),
        extra=st.integers(0, 3),
    )
    def test_rows_alone_equal_the_batch(self, cell_type, bidirectional, num_layers, lengths, extra):
        steps = max(lengths) + extra + (max(lengths) + extra == 0)
        encoder = make(cell_type, num_layers, bidirectional=bidirectional)
        inputs, mask = random_inputs(len(lengths), steps), mask_of(lengths, steps)
        output = encoder(inputs, mask)
        assert not output[~mask].any()
        for row, length in enumerate(lengths):
            if length:
                alone = encoder(inputs[row : row + 1, :length])
                close(output[row : row + 1, :length], alone)

    @pytest.mark.parametrize("cell_type", CELLS)
    @pytest.mark.parametrize("options", [{}, {"bidirectional": True}, {"stateful": True}])
    def test_nan_in_padded_cells_is_harmless(self, cell_type, options):
        lengths = [6, 2, 0]
        mask = mask_of(lengths, 6)
        results = []
        for padding in (0.0, float("nan"), float("inf")):
            encoder = make(cell_type, **options)
            inputs = random_inputs(3, 6).masked_fill(~mask.unsqueeze(-1), padding).requires_grad_()
            output = encoder(inputs, mask)
            if encoder.stateful:
                output = output + encoder(inputs, mask)
            weights = torch.linspace(-1, 1, output.numel(), dtype=torch.float64).view_as(output)
            (output * weights).sum().backward()
            results.append([output, inputs.grad] + [parameter.grad for parameter in encoder.parameters()])
        assert all(tensor.isfinite().all() for tensor in results[0])
        for poisoned in results[1:]:
            for tensor, expected in zip(poisoned, results[0]):
                close(tensor, expected, 0)


class TestBidirectional:
    @pytest.mark.parametrize("cell_type", CELLS)
    @pytest.mark.parametrize("counts", [3, [3, 1], [0, 2], [2, 0]])
    def test_equals_two_stacks_and_manual_reversal(self, cell_type, counts):
        encoder = make(cell_type, counts, bidirectional=True)
        halves = []
        for direction, count in enumerate(encoder.layer_counts):
            half = make(cell_type, count)
            half.stacks[0].load_state_dict(encoder.stacks[direction].state_dict())
            halves.append(half)
        lengths = [6, 1, 4, 0]
        inputs, mask = random_inputs(4, 6), mask_of(lengths, 6)
        expected = torch.zeros(4, 6, encoder.get_output_dim(), dtype=torch.float64)
        middle = halves[0].get_output_dim()
        for row, length in enumerate(lengths):
            if length:
                real = inputs[row : row + 1, :length]
                expected[row, :length, :middle] = halves[0](real)[0]
                expected[row, :length, middle:] = halves[1](real.flip(1))[0].flip(0)
        close(encoder(inputs, mask), expected)
        assert encoder.is_bidirectional() and not halves[0].is_bidirectional()

    def test_without_mask_all_steps_are_real(self):
        encoder, inputs = make(bidirectional=True), random_inputs(2, 5)
        close(encoder(inputs), encoder(inputs, mask_of([5, 5], 5)), 0)


class TestStateful:
    @settings(max_examples=40, deadline=None)
    @given(
        cell_type=st.sampled_from(CELLS),
        windows=st.lists(
            st.lists(st.integers(0, 4), min_size=3, max_size=3), min_size=1, max_size=4
        ),  # how many steps each of three rows reads in each window
    )
    def test_windows_equal_one_long_run(self, cell_type, windows):
        encoder, plain = make(cell_type, stateful=True), make(cell_type)
        totals = torch.tensor(windows).sum(0).tolist()
        streams = [random_inputs(1, max(total, 1), seed)[0] for seed, total in enumerate(totals)]
        read, collected = [0, 0, 0], [[], [], []]
        for window in windows:
            inputs = torch.full((3, 4, 4), float("nan"), dtype=torch.float64)
            for row, count in enumerate(window):
                inputs[row, :count] = streams[row][read[row] : read[row] + count]
                read[row] += count
            output = encoder(inputs, mask_of(window, 4))
            for row, count in enumerate(window):
                collected[row].append(output[row, :count])
        for row, total in enumerate(totals):
            if total:
                close(torch.cat(collected[row]), plain(streams[row].unsqueeze(0))[0])

    def test_full_mask_equals_no_mask(self):
        one, other = make(stateful=True), make(stateful=True)
        for seed in range(3):
            inputs = random_inputs(2, 5, seed)
            close(one(inputs, mask_of([5, 5], 5)), other(inputs), 0)

    def test_states_are_detached(self):
        encoder = make(stateful=True)
        first, second = random_inputs(2, 3, 0).requires_grad_(), random_inputs(2, 3, 1).requires_grad_()
        encoder(first)
        encoder(second).sum().backward()
        assert first.grad is None and second.grad.abs().min() > 0
        assert not any(tensor.requires_grad for state in encoder.carried[0] for tensor in state)

    def test_not_stateful_forgets(self):
        encoder, inputs = make(), random_inputs(2, 3)
        close(encoder(inputs), encoder(inputs), 0)

    def test_reset_of_some_rows(self):
        encoder, first, second = make(stateful=True), random_inputs(3, 4, 0), random_inputs(3, 4, 1)
        first[1] = float("nan")  # a reset row forgets even that
        encoder(first)
        encoder.reset_states(torch.tensor([False, True, False]))
        output = encoder(second)
        fresh = make()(second)
        carried = make(stateful=True)
        carried(first)
        carried = carried(second)
        close(output[1], fresh[1])
        close(output[[0, 2]], carried[[0, 2]])
        assert (output[0] - fresh[0]).abs().max() > 1e-3
        encoder.reset_states(torch.tensor([True, True, True]))
        close(encoder(second), fresh)

    def test_reset_of_some_rows_before_the_first_call(self):
        encoder, inputs = make(stateful=True), random_inputs(2, 3)
        encoder.reset_states(torch.tensor([True, False]))
        close(encoder(inputs), make()(inputs))

    def test_another_batch_size_is_an_error(self):
        encoder = make(stateful=True)
        encoder(random_inputs(3, 4))
        with pytest.raises(
            ConfigurationError, match=r"batch of 3 streams, but the input has 2.*reset_states"
        ):
            encoder(random_inputs(2, 4))
        encoder.reset_states()
        assert encoder(random_inputs(2, 4)).size(0) == 2

    @pytest.mark.parametrize("cell_type", CELLS)
    def test_states_follow_the_inputs_type(self, cell_type):
        encoder, inputs = make(cell_type, stateful=True).float(), random_inputs(2, 4).float()
        encoder(inputs)
        state = copy.deepcopy(encoder.carried[0])
        expected = encoder(inputs)
        encoder.carried[0] = state
        close(encoder.double()(inputs.double()).float(), expected, 1e-6)


class TestTraining:
    @pytest.mark.parametrize("cell_type", CELLS)
    @pytest.mark.parametrize("bidirectional", [False, True])
    def test_gradients_reach_all_parameters(self, cell_type, bidirectional):
        encoder = make(cell_type, bidirectional=bidirectional).train()
        inputs = random_inputs(3, 5).requires_grad_()
        encoder(inputs, mask_of([5, 3, 1], 5)).pow(2).sum().backward()
        for name, parameter in encoder.named_parameters():
            assert (parameter.grad != 0).all(), name
        assert (inputs.grad != 0).all(dim=-1).tolist() == mask_of([5, 3, 1], 5).tolist()

    @pytest.mark.parametrize("bidirectional", [False, True])
    def test_gradients_equal_finite_differences(self, bidirectional):
        encoder = make("lstm", 2, bidirectional=bidirectional)
        mask = mask_of([3, 2], 3)
        inputs = random_inputs(2, 3).requires_grad_()
        gates = [torch.tensor([0.5, 0.9], dtype=torch.float64).requires_grad_() for _ in encoder.stacks]
        assert torch.autograd.gradcheck(
            lambda inputs, *gates: encoder(inputs, mask, gates), (inputs, *gates), atol=1e-7
        )

    @needs_bfloat16
    @pytest.mark.parametrize("options", [{}, {"bidirectional": True}, {"stateful": True}])
    @pytest.mark.parametrize("cell_type", CELLS)
    def test_autocast(self, cell_type, options):
        encoder = make(cell_type, **options).float()
        inputs, mask = random_inputs(3, 5).float(), mask_of([5, 3, 0], 5)
        exact = encoder(inputs, mask)
        encoder.reset_states()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rounded = encoder(inputs, mask)
            rounded.float().sum().backward()
        close(rounded.float(), exact, 0.05)
        assert all(parameter.grad.isfinite().all() for parameter in encoder.parameters())
        encoder(inputs, mask)  # a state from under autocast does not stand in the way

    def test_layer_dropout_is_off_in_evaluation(self):
        inputs = random_inputs(2, 5)
        encoder = make(layer_dropout=0.9, dropout=0.9, bidirectional=True).eval()
        close(encoder(inputs), make(bidirectional=True)(inputs), 0)
        assert (encoder.train()(inputs) - make(bidirectional=True)(inputs)).abs().max() > 1e-3


class TestAllLayers:
    @pytest.mark.parametrize("bidirectional", [False, True])
    def test_the_layers_of_the_output(self, bidirectional):
        plain = make(bidirectional=bidirectional)
        layers = make(bidirectional=bidirectional, return_all_layers=True)
        inputs, mask = random_inputs(3, 5), mask_of([5, 2, 0], 5)
        found = layers(inputs, mask)
        directions = plain(inputs, mask).chunk(2 if bidirectional else 1, dim=-1)
        assert len(found) == layers.num_layers == 3
        for number, layer in enumerate(found):
            columns = slice(4 + 3 * number, 7 + 3 * number)
            assert torch.equal(layer, torch.cat([part[..., columns] for part in directions], dim=-1))
            assert layers.get_output_dim() == layer.size(-1)
        assert layers.full_output_dim == plain.get_output_dim()

    @pytest.mark.parametrize("num_layers", [[2, 3], 0])
    def test_directions_of_different_depth(self, num_layers):
        with pytest.raises(ConfigurationError, match="return_all_layers of an ld_rnn pairs the layers"):
            make(num_layers=num_layers, bidirectional=True, return_all_layers=True)


class TestConstruction:
    def test_no_layers_at_all(self):
        inputs, mask = random_inputs(2, 5), mask_of([5, 2], 5)
        masked = inputs * mask.unsqueeze(-1)
        for options in ({}, {"stateful": True}):
            encoder = make(num_layers=0, **options)
            assert encoder.get_output_dim() == 4 and not list(encoder.parameters())
            close(encoder(inputs, mask), masked, 0)
            close(encoder(inputs, mask), masked, 0)
        both = make(num_layers=0, bidirectional=True)
        close(both(inputs, mask), torch.cat([masked, masked], dim=-1), 0)

    @pytest.mark.parametrize(
        "options",
        [
            {"num_layers": 2},
            {"num_layers": 0},
            {"num_layers": 3, "cell_type": "gru", "bidirectional": True},
            {"num_layers": [2, 1], "cell_type": "rnn", "bidirectional": True},
            {"num_layers": [2]},
        ],
    )
    def test_describe_and_state_dict_rebuild_it(self, options):
        encoder = make(**options, dropout=0.3, layer_dropout=0.4).eval()
        description = encoder.describe()
        rebuilt = Seq2SeqEncoder.from_params(Params(copy.deepcopy(description))).double().eval()
        assert isinstance(rebuilt, LdRnn) and rebuilt.describe() == description
        assert rebuilt.layer_counts == encoder.layer_counts
        rebuilt.load_state_dict(encoder.state_dict())
        inputs, mask = random_inputs(2, 5), mask_of([5, 2], 5)
        close(rebuilt(inputs, mask), encoder(inputs, mask), 0)

    def test_from_params(self):
        parameters = {
            "type": "ld_rnn",
            "input_size": 6,
            "hidden_size": 5,
            "num_layers": 4,
            "cell_type": "gru",
            "dropout": 0.25,
            "layer_dropout": 0.5,
            "stateful": True,
        }
        encoder = Seq2SeqEncoder.from_params(Params(parameters))
        assert isinstance(encoder, LdRnn)
        assert (encoder.get_input_dim(), encoder.get_output_dim(), encoder.num_layers) == (6, 26, 4)
        assert encoder.hidden_size == 5 and encoder.stateful and not encoder.is_bidirectional()
        assert encoder.stacks[0].dropout.p == 0.25 and encoder.stacks[0].layer_dropout.p == 0.5
        assert isinstance(encoder.stacks[0].layers[3], torch.nn.GRU)

    def test_parameter_names_are_those_the_converter_writes(self):
        arrays = load_reference("a_rnn/LDRNN_lstm.npz")
        names = stack_parameters(reference_parameters(arrays))
        assert {name: tuple(value.shape) for name, value in LdRnn(6, 5, 4).state_dict().items()} == {
            name: tuple(value.shape) for name, value in names.items()
        }

    def test_inside_allennlps_wrappers(self):
        composed = Seq2SeqEncoder.from_params(
            Params(
                {
                    "type": "compose",
                    "encoders": [
                        {"type": "pass_through", "input_dim": 4},
                        {"type": "ld_rnn", "input_size": 4, "hidden_size": 3, "num_layers": 2},
                        {"type": "lstm", "input_size": 10, "hidden_size": 2},
                    ],
                }
            )
        ).double()
        inputs, mask = random_inputs(3, 5), mask_of([5, 2, 1], 5)
        _, middle, last = composed.encoders
        close(composed(inputs, mask), last(middle(inputs, mask), mask))
        assert composed.get_output_dim() == 2
        for row, length in enumerate([5, 2, 1]):
            alone = composed(inputs[row : row + 1, :length], mask_of([length], length))
            close(composed(inputs, mask)[row, :length], alone[0])

    @pytest.mark.parametrize(
        "options, message",
        [
            ({"cell_type": "qrnn"}, "cell_type .* is 'qrnn'; expected one of 'lstm', 'gru', 'rnn'"),
            ({"input_size": 0}, "input_size .* is 0; expected 1 or more"),
            ({"hidden_size": -2}, "hidden_size .* is -2; expected 1"),
            ({"num_layers": -1}, "a unidirectional ld_rnn is a number of at least 0, but -1 was found"),
            ({"num_layers": [2, 3]}, r"a unidirectional .* but \[2, 3\] was found"),
            ({"num_layers": [2], "bidirectional": True}, r"a bidirectional .* list of two, but \[2\]"),
            ({"num_layers": [2, -3], "bidirectional": True}, r"a bidirectional .* but \[2, -3\]"),
            ({"num_layers": []}, r"but \[\] was found"),
            ({"dropout": 1.2}, "dropout of .* is 1.2; expected a probability"),
            ({"layer_dropout": -0.5}, "layer_dropout of .* is -0.5; expected a probability"),
        ],
    )
    def test_errors(self, options, message):
        arguments = {"input_size": 4, "hidden_size": 3, "num_layers": 2, **options}
        with pytest.raises(ConfigurationError, match=message):
            Seq2SeqEncoder.from_params(Params({"type": "ld_rnn", **arguments}))

    def test_initial_weights_are_in_the_originals_range(self):
        for layer in LdRnn(40, 30, 3).stacks[0].layers:
            for weight in (layer.weight_ih_l0, layer.weight_hh_l0):
                bound = numpy.sqrt(6 / (30 + weight.size(1)))
                assert 0.9 * bound < weight.abs().max() <= bound
