"""Recurrent layers: cell types, and one layer of a stack."""

from typing import Any

import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

# One layer's hidden state: (h, c) for an LSTM, (h,) for a GRU or a plain RNN, each of shape (B, H).
LayerState = tuple[torch.Tensor, ...]


# Keyed by the `cell_type` of configs.
CELLS: dict[str, Any] = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn": torch.nn.RNN}
# Weight matrices of shape (H, D) for the input, and as many of shape (H, H) for the state.
NUM_GATES = {"lstm": 4, "gru": 3, "rnn": 1}


def run_layer(
    layer: torch.nn.RNNBase,
    inputs: torch.Tensor,
    start: LayerState | None = None,
    lengths: torch.Tensor | None = None,
    columns: torch.Tensor | None = None,
) -> tuple[torch.Tensor, LayerState]:
    """
    Run one layer of a stack, one direction, batch first, on inputs (B, T, D).

    # Parameters

    start : `LayerState`, optional
        The state before the first step, (B, H) each; zeros by default.
    lengths : `torch.Tensor`, optional
        Shape (B,), on the CPU: the steps that count. Rows of length 0 keep the state they started from.
    columns : `torch.Tensor`, optional
        Shape (D,), on the inputs' device, for an LSTM without `lengths`: the columns of its input weights that belong
        to the inputs. The other columns count as reading zeros.

    # Returns

    `tuple[torch.Tensor, LayerState]`
        The outputs (B, T, H), 0 beyond a row's length, and the state after its last step.
    """
    hidden: Any = None
    if start is not None:
        # A state from before the model moved, or from under autocast, may have another device or precision.
        start = tuple(tensor.to(inputs) for tensor in start)
        batched = tuple(tensor.unsqueeze(0) for tensor in start)  # each (1, B, H)
        hidden = batched if len(batched) == 2 else batched[0]
    if columns is not None:
        output, final = _run_lstm_columns(layer, inputs, hidden, columns)
    elif lengths is None:
        output, final = layer(inputs, hidden)
    else:
        # Packing does not support empty rows, so they run one step, and their state is restored below.
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


def reads_columns(layer: torch.nn.Module) -> bool:
    """
    Return whether `run_layer` takes `columns` for a layer: for torch's LSTM alone, not for subclasses. Hooks do not
    matter: AllenNLP's trainer adds and removes some, which must not change the random numbers of dropout.
    """
    return type(layer) is torch.nn.LSTM


def _run_lstm_columns(
    layer: Any, inputs: torch.Tensor, hidden: Any, columns: torch.Tensor
) -> tuple[torch.Tensor, LayerState]:
    weight_ih, *others = layer.all_weights[0]
    if hidden is None:
        zeros = inputs.new_zeros(1, inputs.size(0), layer.hidden_size)
        hidden = (zeros, zeros)
    weights = [weight_ih.index_select(1, columns), *others]
    # With biases, one layer, no dropout, in training or not, one direction, batch first.
    output, *final = torch.lstm(inputs, hidden, weights, True, 1, 0.0, layer.training, False, True)
    return output, tuple(final)


def reverse_sequences(inputs: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """
    Reverse each sequence of a padded batch, (B, T) or (B, T, D), within its length (B,); padding stays where it is.
    Applying the function twice restores `inputs`.
    """
    steps = torch.arange(inputs.size(1), device=inputs.device).unsqueeze(0)  # (1, T)
    ends = lengths.unsqueeze(1)  # (B, 1)
    index = torch.where(steps < ends, ends - 1 - steps, steps)  # (B, T)
    if inputs.dim() == 3:
        index = index.unsqueeze(-1).expand_as(inputs)  # (B, T, D)
    return inputs.gather(1, index)
