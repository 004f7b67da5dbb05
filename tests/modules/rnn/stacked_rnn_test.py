import pytest
import torch
from allennlp.common.checks import ConfigurationError

from ldnet_allennlp.modules.embedders.frozen_language_model import FrozenLanguageModel
from ldnet_allennlp.modules.rnn.stacked_rnn import StackedLayers, StackedRnn
from tests.resources import load_reference, reference_parameters

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}
DTYPES = [torch.float64, torch.float32]


def load_stack(parameters: dict[str, torch.Tensor], prefix: str, cell_type: str, **options) -> StackedRnn:
    """The stack with the parameters `{prefix}layer.{k}.layer.*` of the original."""
    weights = {
        "layers." + name[len(prefix) + len("layer.") :].replace(".layer.", "."): tensor
        for name, tensor in parameters.items()
        if name.startswith(f"{prefix}layer.")
    }
    first = weights["layers.0.weight_ih_l0"]
    hidden_size = weights["layers.0.weight_hh_l0"].size(1)
    num_layers = len({name.split(".")[1] for name in weights})
    encoder = StackedRnn(first.size(1), hidden_size, num_layers, cell_type, **options).to(first.dtype)
    encoder.load_state_dict(weights)
    return encoder.eval()


def batch_first(array, dtype=torch.float64) -> torch.Tensor:
    return torch.as_tensor(array).transpose(0, 1).to(dtype)


class TestReferenceVectors:
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("cell_type", ["lstm", "gru", "rnn"])
    def test_outputs_and_states_that_are_carried_over(self, cell_type, dtype):
        arrays = load_reference(f"a_rnn/BasicRNN_{cell_type}.npz")
        suffix = "f64" if dtype == torch.float64 else "f32"
        tolerance = TOLERANCE[dtype]
        encoder = load_stack(reference_parameters(arrays, dtype), "", cell_type, stateful=True)
        first, second = (batch_first(arrays[name], dtype) for name in ("x1", "x2"))

        def check(found: torch.Tensor, name: str) -> None:
            truth = batch_first(arrays[f"{name}_{suffix}"], dtype)
            torch.testing.assert_close(found, truth, rtol=tolerance, atol=tolerance)

        check(encoder(first), "y1")
        for number, state in enumerate(encoder.carried[0]):
            for letter, tensor in zip("hc", state):
                truth = torch.as_tensor(arrays[f"state_after_1/{letter}{number}_{suffix}"]).to(dtype)
                torch.testing.assert_close(tensor, truth, rtol=tolerance, atol=tolerance)
        check(encoder(second), "y2_carried")
        encoder.reset_states()
        check(encoder(second), "y2_fresh")

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("direction", ["fwd", "bwd"])
    @pytest.mark.parametrize("cell_type", ["lstm", "gru"])
    def test_elmo_mixture(self, cell_type, direction, dtype):
        arrays = load_reference(f"f_seqlm/ElmoLM_{cell_type}_{direction}.npz")
        parameters = reference_parameters(arrays, dtype)
        layers = StackedLayers(load_stack(parameters, "rnn.", cell_type), mixture=True).to(dtype)
        weights = parameters["rnn.weight_list"]
        layers.mixture.load_state_dict(
            {
                "gamma": parameters["rnn.gamma"],
                **{
                    f"scalar_parameters.{number}": weights[number : number + 1]
                    for number in range(len(weights))
                },
            }
        )
        found = self.read(layers, parameters, arrays)
        suffix = "f64" if dtype == torch.float64 else "f32"
        truth = batch_first(arrays[f"out_{suffix}"], dtype)
        torch.testing.assert_close(found, truth, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
        # Nothing is carried over from one sentence to the next.
        for name in ("out_again_without_init_hidden_f64", "out_after_init_hidden_f64"):
            truth = batch_first(arrays[name], dtype)
            torch.testing.assert_close(found, truth, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
        assert layers.regularizer().item() == pytest.approx(
            arrays["regularizer_f64"].item(), abs=TOLERANCE[dtype]
        )

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_top_layer_of_a_backward_language_model(self, dtype):
        arrays = load_reference("f_seqlm/BasicSeqLM_BasicRNN_bwd.npz")
        parameters = reference_parameters(arrays, dtype)
        layers = StackedLayers(load_stack(parameters, "rnn.", "lstm"), mixture=False).to(dtype)
        suffix = "f64" if dtype == torch.float64 else "f32"
        for name in (f"out_{suffix}", "out_after_init_hidden_f64"):
            torch.testing.assert_close(
                self.read(layers, parameters, arrays),
                batch_first(arrays[name], dtype),
                rtol=TOLERANCE[dtype],
                atol=TOLERANCE[dtype],
            )
        # The original carries states over to the next sentence; that is a stateful encoder.
        stateful = load_stack(parameters, "rnn.", "lstm", stateful=True)
        self.read(StackedLayers(stateful, mixture=False), parameters, arrays)
        again = self.read(StackedLayers(stateful, mixture=False), parameters, arrays)
        truth = batch_first(arrays["out_again_without_init_hidden_f64"], dtype)
        torch.testing.assert_close(again, truth, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])

    @staticmethod
    def read(layers, parameters, arrays) -> torch.Tensor:
        """The outputs for the ids in a reference file, in the order in which the original gives them."""
        embedded = parameters["word_embed.weight"][torch.as_tensor(arrays["w"])].transpose(0, 1)
        with torch.no_grad():
            outputs = layers(embedded)
        if "ind" in arrays:
            rows = outputs.transpose(0, 1).flatten(end_dim=1)[torch.as_tensor(arrays["ind"])]
            outputs = rows.view(*arrays["w"].shape, -1).transpose(0, 1)
        return outputs


class TestStackedRnn:
    def test_padding_changes_nothing(self):
        torch.manual_seed(0)
        encoder = StackedRnn(3, 4, 2, "gru").double()
        inputs = torch.randn(2, 5, 3, dtype=torch.float64)
        mask = torch.tensor([[True] * 5, [True, True, False, False, False]])
        padded = inputs.masked_fill(~mask.unsqueeze(2), float("nan"))
        outputs = encoder.all_layers(padded, mask)
        for layer, alone in zip(outputs, encoder.all_layers(inputs[1:, :2])):
            torch.testing.assert_close(layer[1:, :2], alone)
            assert not layer[1, 2:].any()

    def test_states_stop_at_the_end_of_each_row(self):
        torch.manual_seed(0)
        encoder = StackedRnn(3, 4, 2, stateful=True).double()
        inputs = torch.randn(2, 5, 3, dtype=torch.float64)
        mask = torch.tensor([[True] * 5, [True, True, False, False, False]])
        encoder(inputs, mask)
        carried = encoder(inputs)
        encoder.reset_states()
        whole = encoder(torch.cat([inputs[1:, :2], inputs[1:]], dim=1))
        torch.testing.assert_close(carried[1:], whole[:, 2:])
        encoder.reset_states()
        encoder(inputs)
        encoder.reset_states(torch.tensor([True, False]))
        reset = encoder(inputs)
        encoder.reset_states()
        torch.testing.assert_close(reset[0], encoder(inputs)[0])
        assert not torch.allclose(reset[1], encoder.carried[0][-1][0][1])

    def test_another_number_of_streams_is_an_error(self):
        encoder = StackedRnn(3, 4, 1, stateful=True)
        encoder(torch.zeros(2, 5, 3))
        with pytest.raises(ConfigurationError, match=r"2 streams.*has 3"):
            encoder(torch.zeros(3, 5, 3))

    def test_dropout_is_on_every_layer_and_in_training_only(self):
        encoder = StackedRnn(3, 4, 2, dropout=1.0)
        assert not any(layer.any() for layer in encoder.all_layers(torch.ones(1, 2, 3)))
        assert all(layer.all() for layer in encoder.eval().all_layers(torch.ones(1, 2, 3)))

    @pytest.mark.parametrize(
        "arguments, message",
        [
            ((3, 4, 1, "qrnn"), "cell_type .* is 'qrnn'"),
            ((0, 4, 1), "input_size .* is 0; expected 1"),
            ((3, 4, 0), "num_layers .* is 0; expected 1"),
            ((3, 4, 1, "lstm", 1.5), "dropout .* is 1.5; expected a probability"),
        ],
    )
    def test_wrong_arguments(self, arguments, message):
        with pytest.raises(ConfigurationError, match=message):
            StackedRnn(*arguments)


class TestStackedLayers:
    def test_mixture_of_equal_weights_is_the_mean(self):
        encoder = StackedRnn(3, 4, 3)
        inputs = torch.randn(2, 5, 3)
        torch.testing.assert_close(
            StackedLayers(encoder, mixture=True)(inputs), torch.stack(encoder.all_layers(inputs)).mean(0)
        )

    def test_only_the_mixture_is_trained(self):
        layers = StackedLayers(StackedRnn(3, 4, 2), mixture=True)
        trained = {name for name, parameter in layers.named_parameters() if parameter.requires_grad}
        assert trained == {"mixture.gamma", "mixture.scalar_parameters.0", "mixture.scalar_parameters.1"}

    def test_no_layer_can_be_cut(self):
        part = FrozenLanguageModel(
            "forward", StackedRnn(3, 4, 2), 5, None, "", None, False, False, mixture=True
        )
        assert part.describe()["mixture"] is True
        assert part.prune([[0, 1]]).tolist() == [0, 1, 2, 3]
        with pytest.raises(ConfigurationError, match="none of its layers"):
            part.prune([[1]])
