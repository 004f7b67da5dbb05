"""Plain stack of recurrent layers, with access to every layer."""

from collections.abc import Sequence
from typing import Any

import torch
from allennlp.common.checks import ConfigurationError
from allennlp.modules.seq2seq_encoders import Seq2SeqEncoder
from overrides import overrides

from ldnet_allennlp.modules.rnn.carried_states import CarryingEncoder, lengths_if_needed
from ldnet_allennlp.modules.rnn.initialization import init_rnn_
from ldnet_allennlp.modules.rnn.layers import CELLS, LayerState, check_cell_type, run_layer


@Seq2SeqEncoder.register("stacked_rnn")
class StackedRnn(CarryingEncoder):
    """
    Stacked recurrent layers without the dense connections of an `LdRnn`: layer l reads layer l - 1, and the output is
    the top layer (`model_word_ada/basic.py` of the original LD-Net). An ELMo-style mixture reads `all_layers`.

    Registered as a `Seq2SeqEncoder` with name "stacked_rnn".

    # Parameters

    input_size : `int`
        The size D of the input vectors.
    hidden_size : `int`
        The size H of each layer.
    num_layers : `int`
        The number of layers, 1 or more.
    cell_type : `str`, optional (default = `"lstm"`)
        "lstm", "gru" or "rnn" (tanh).
    dropout : `float`, optional (default = `0.0`)
        Dropout on the output of every layer, also the last.
    stateful : `bool`, optional (default = `False`)
        Whether each call starts from the (detached) states in which the previous one ended.
    return_all_layers : `bool`, optional (default = `False`)
        Whether `forward` returns `all_layers`. allennlp-models' "language_model_token_embedder" sets it.

    Raises `ConfigurationError` for an unknown cell type, sizes below 1, or a dropout outside [0, 1].
    """

    layers: Sequence[torch.nn.RNNBase]

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        cell_type: str = "lstm",
        dropout: float = 0.0,
        stateful: bool = False,
        return_all_layers: bool = False,
    ) -> None:
        super().__init__(stateful=stateful)
        check_cell_type(cell_type, "a stacked_rnn")
        if min(input_size, hidden_size, num_layers) < 1:
            raise ConfigurationError(
                f"A stacked_rnn needs an input_size, a hidden_size and num_layers of at least 1, "
                f"but they are {input_size}, {hidden_size} and {num_layers}."
            )
        if not 0.0 <= dropout <= 1.0:
            raise ConfigurationError(f"dropout is a probability between 0 and 1, but it is {dropout}.")
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.cell_type = cell_type
        self.num_layers = num_layers
        self._returns_layers = return_all_layers
        self.layer_counts = [num_layers]
        self.layers = torch.nn.ModuleList(  # type: ignore[assignment]
            CELLS[cell_type].rnn(hidden_size if number else input_size, hidden_size, batch_first=True)
            for number in range(num_layers)
        )
        self.dropout = torch.nn.Dropout(dropout)
        for layer in self.layers:
            init_rnn_(layer)

    @overrides
    def get_input_dim(self) -> int:
        return self.input_size

    @overrides
    def get_output_dim(self) -> int:
        return self.hidden_size

    @overrides
    def is_bidirectional(self) -> bool:
        return False

    def describe(self) -> dict[str, Any]:
        """The constructor's arguments, except those for training only."""
        return {
            "type": "stacked_rnn",
            "input_size": self.input_size,
            "hidden_size": self.hidden_size,
            "num_layers": self.num_layers,
            "cell_type": self.cell_type,
        }

    @overrides(check_signature=False)  # torch declares that a forward returns None
    def forward(
        self, inputs: torch.Tensor, mask: torch.BoolTensor | None = None
    ) -> torch.Tensor | list[torch.Tensor]:
        """
        # Parameters

        inputs : `torch.Tensor`
            Shape (B, T, input_size).
        mask : `torch.BoolTensor`, optional
            Shape (B, T), `True` at real steps, at the left of each row.

        # Returns

        `Union[torch.Tensor, List[torch.Tensor]]`
            Shape (B, T, hidden_size): the top layer; zeros at padded steps. With `return_all_layers` all layers.
        """
        layers = self.all_layers(inputs, mask)
        return layers if self._returns_layers else layers[-1]

    def all_layers(self, inputs: torch.Tensor, mask: torch.BoolTensor | None = None) -> list[torch.Tensor]:
        """Like `forward`, with the outputs of all layers, the lowest first; each of shape (B, T, hidden_size)."""
        if inputs.size(-1) != self.input_size:
            raise ConfigurationError(
                f"The stacked_rnn was built for vectors of size {self.input_size} (input_size), "
                f"but its input has size {inputs.size(-1)}."
            )
        padding = None if mask is None else ~mask.unsqueeze(-1)  # (B, T, 1)
        if padding is not None:
            # Also before the layers, because a NaN in a padded cell would spread through the gradients.
            inputs = inputs.masked_fill(padding, 0.0)
        states = self.carried[0].for_batch(inputs.size(0)) if self.stateful else None
        lengths = lengths_if_needed(mask) if self.stateful else None
        outputs: list[torch.Tensor] = []
        final_states: list[LayerState] = []
        for number, layer in enumerate(self.layers):
            start = states[number] if states else None
            output, state = run_layer(layer, outputs[-1] if outputs else inputs, start, lengths)
            outputs.append(self.dropout(output))
            final_states.append(state)
        if self.stateful:
            self.carried[0].keep(final_states)
        return outputs if padding is None else [output.masked_fill(padding, 0.0) for output in outputs]
