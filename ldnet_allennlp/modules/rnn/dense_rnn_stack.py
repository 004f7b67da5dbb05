"""One direction of a densely connected recurrent network, with layer-wise dropout."""

from collections.abc import Sequence

import torch
from allennlp.common.checks import ConfigurationError
from overrides import overrides

from ldnet_allennlp.modules.rnn.initialization import init_rnn_
from ldnet_allennlp.modules.rnn.layers import CELLS, LayerState, reads_columns, run_layer


class LayerDropout(torch.nn.Module):
    """
    Layer-wise dropout: hides the whole output of a layer from the layers above it, in training only.

    One draw decides for all sentences and steps of the batch. Nothing is rescaled: the layers above learn to do without
    this one, so that layers can be pruned later (LD-Net, section 3.2).

    # Parameters

    p : `float`
        The probability that the layer is hidden.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        if not 0.0 <= p <= 1.0:
            raise ConfigurationError(f"layer_dropout is a probability between 0 and 1, but it is {p}.")
        self.p = p

    def is_hidden(self) -> bool:
        """Draw once; always `False` outside training."""
        # A draw on the CPU needs no synchronization with a GPU.
        return self.training and self.p > 0 and bool(torch.rand((), device="cpu") < self.p)

    @overrides(check_signature=False)  # torch declares that a forward returns None
    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(inputs) if self.is_hidden() else inputs

    @overrides
    def extra_repr(self) -> str:
        return f"p={self.p}"


class DenseRnnStack(torch.nn.Module):
    """
    One direction of an `LdRnn`: layer l reads the input and the outputs of the layers 1 to l-1.

    # Parameters

    input_size, hidden_size, num_layers, cell_type, dropout, layer_dropout
        As in `LdRnn`.
    """

    layers: Sequence[torch.nn.RNNBase]

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        cell_type: str,
        dropout: float,
        layer_dropout: float,
    ) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList(  # type: ignore[assignment]
            CELLS[cell_type].rnn(input_size + number * hidden_size, hidden_size, batch_first=True)
            for number in range(num_layers)
        )
        self.dropout = torch.nn.Dropout(dropout)
        self.layer_dropout = LayerDropout(layer_dropout)
        for layer in self.layers:
            init_rnn_(layer)

    @overrides(check_signature=False)
    def forward(
        self,
        inputs: torch.Tensor,
        gates: torch.Tensor | None = None,
        states: list[LayerState] | None = None,
        lengths: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, list[LayerState]]:
        """
        # Parameters

        inputs : `torch.Tensor`
            Shape (B, T, D).
        gates : `torch.Tensor`, optional
            Shape (num_layers,): layer l gives `gates[l]` times its output, to later layers and to the caller.
        states : `list[LayerState]`, optional
            The state each layer starts from; zeros by default.
        lengths : `torch.Tensor`, optional
            Shape (B,), on the CPU: the number of real steps per row, so that the final states are those of the last
            real steps. Outputs at padded steps are unspecified with and without it.

        # Returns

        `tuple[torch.Tensor, list[LayerState]]`
            The outputs (B, T, D + num_layers * hidden_size), and the state of each layer after the last step.
        """
        # Later layers skip a hidden layer and its weights, instead of reading zeros.
        can_skip = lengths is None and all(map(reads_columns, self.layers))
        outputs = [inputs]
        visible = [inputs]  # the input of later layers
        columns = [torch.arange(inputs.size(-1))]  # which columns of their input weights read it
        final_states = []
        for number, layer in enumerate(self.layers):
            is_complete = len(visible) == len(outputs)
            layer_input = self.dropout(torch.cat(visible, dim=-1))  # (B, T, D + visible layers * H)
            output, state = run_layer(
                layer,
                layer_input,
                start=None if states is None else states[number],
                lengths=lengths,
                columns=None if is_complete else torch.cat(columns).to(inputs.device, non_blocking=True),
            )
            if gates is not None:
                output = output * gates[number]
            first = inputs.size(-1) + number * layer.hidden_size
            if not can_skip:
                visible.append(self.layer_dropout(output))
            elif not self.layer_dropout.is_hidden():
                visible.append(output)
                columns.append(torch.arange(first, first + layer.hidden_size))
            outputs.append(output)
            final_states.append(state)
        return torch.cat(outputs, dim=-1), final_states
