"""One direction of the densely connected recurrent network, with layer-wise dropout."""

from typing import List, Optional, Sequence, Tuple

import torch
from allennlp.common.checks import ConfigurationError
from overrides import overrides
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from ldnet_allennlp.modules.rnn.dense_lstm import can_fuse, dense_lstm
from ldnet_allennlp.modules.rnn.initialization import init_rnn_
from ldnet_allennlp.modules.rnn_inference import LayerState, needs_graph, run_dense_layers

CELLS = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn": torch.nn.RNN}


class LayerDropout(torch.nn.Module):
    """
    Hides the whole output of a layer from the layers above it, in training only.

    One draw decides for all sentences and steps of the batch. Nothing is rescaled: the layers above learn
    to do without this one, which is what makes it possible to cut layers out later (LD-Net, section 3.2).

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
        """Draws once; always `False` outside of training."""
        # The draw is made on the CPU: there it costs no synchronisation when the model is on a GPU.
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
            CELLS[cell_type](input_size + number * hidden_size, hidden_size, batch_first=True)
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
        gates: Optional[torch.Tensor] = None,
        states: Optional[List[LayerState]] = None,
        lengths: Optional[torch.Tensor] = None,
    ) -> Tuple[torch.Tensor, List[LayerState]]:
        """
        # Parameters

        inputs : `torch.Tensor`
            Shape (B, T, D).
        gates : `torch.Tensor`, optional
            Shape (num_layers,): layer l gives `gates[l]` times its output, to later layers and to the caller.
        states : `List[LayerState]`, optional
            The state each layer starts from; zeros if not given.
        lengths : `torch.Tensor`, optional
            Shape (B,), on the CPU. Given only when the final states are wanted as of each row's last real
            step: the rows then stop there. Outputs at padded steps are unspecified in any case.

        # Returns

        `Tuple[torch.Tensor, List[LayerState]]`
            The outputs (B, T, D + num_layers * hidden_size), and the state of each layer after the last step.
        """
        if lengths is None and not self._drops() and not needs_graph(self, inputs, gates):
            time_first, final_states = self.read(inputs.transpose(0, 1), gates, states)
            return time_first.transpose(0, 1), final_states
        hides_layers = self.training and self.layer_dropout.p > 0
        if lengths is None and gates is None and can_fuse(self.layers, inputs, states, hides_layers):
            hidden = [self.layer_dropout.is_hidden() for _ in self.layers]
            return dense_lstm(self.layers, inputs, states, hidden, self.dropout.p if self.training else 0.0)
        outputs = [inputs]
        visible = [inputs]  # what later layers read
        final_states = []
        for number, layer in enumerate(self.layers):
            layer_input = self.dropout(torch.cat(visible, dim=-1))  # (B, T, D + number * H)
            start = states[number] if states is not None else None
            output, state = run_layer(layer, layer_input, start, lengths)
            if gates is not None:
                output = output * gates[number]
            outputs.append(output)
            visible.append(self.layer_dropout(output))
            final_states.append(state)
        return torch.cat(outputs, dim=-1), final_states

    @torch.no_grad()
    def read(
        self,
        inputs: torch.Tensor,
        gates: Optional[torch.Tensor] = None,
        states: Optional[List[LayerState]] = None,
    ) -> Tuple[torch.Tensor, List[LayerState]]:
        """
        What `forward` gives in evaluation mode, faster and without autograd. Time first: inputs (T, B, D), outputs
        (T, B, D + num_layers * hidden_size).
        """
        return run_dense_layers(self.layers, inputs, gates, states)

    def _drops(self) -> bool:
        return self.training and (self.dropout.p > 0 or self.layer_dropout.p > 0)


def run_layer(
    layer: torch.nn.RNNBase,
    inputs: torch.Tensor,
    start: Optional[LayerState],
    lengths: Optional[torch.Tensor],
) -> Tuple[torch.Tensor, LayerState]:
    """
    Runs one layer.

    # Parameters

    layer : `torch.nn.RNNBase`
        One layer, one direction, batch first.
    inputs : `torch.Tensor`
        Shape (B, T, D).
    start : `LayerState`, optional
        Its (h, c), or its (h,), before the first step, (B, H) each; zeros by default.
    lengths : `torch.Tensor`, optional
        Shape (B,), on the CPU: the steps that count. Rows of length 0 keep the state they started from.

    # Returns

    `Tuple[torch.Tensor, LayerState]`
        The outputs (B, T, H), 0 beyond a row's length, and the state after its last step.
    """
    hidden = None
    if start is not None:
        # `to`: a state from before the model moved, or from under autocast, may be of another kind.
        start = tuple(tensor.to(inputs) for tensor in start)
        batched = tuple(tensor.unsqueeze(0) for tensor in start)  # each (1, B, H)
        hidden = batched if len(batched) == 2 else batched[0]
    if lengths is None:
        output, final = layer(inputs, hidden)
    else:
        # Packing takes no empty rows: they run one step, and their state is put back below.
        packed = pack_padded_sequence(inputs, lengths.clamp(min=1), batch_first=True, enforce_sorted=False)
        output, final = layer(packed, hidden)
        output, _ = pad_packed_sequence(output, batch_first=True, total_length=inputs.size(1))
    final = final if isinstance(final, tuple) else (final,)
    state = tuple(tensor.squeeze(0) for tensor in final)  # each (B, H)
    if lengths is not None:
        empty = (lengths == 0).unsqueeze(-1).to(inputs.device)  # (B, 1)
        before = start if start is not None else tuple(torch.zeros_like(tensor) for tensor in state)
        state = tuple(torch.where(empty, old.to(new.dtype), new) for old, new in zip(before, state))
    return output, state
