"""Recurrent layers with the values of torch's and AllenNLP's own, and less work: most of them without gradients."""

import threading
from typing import Any, List, Optional, Sequence, Tuple

import torch
from allennlp.modules.seq2seq_encoders import PytorchSeq2SeqWrapper, Seq2SeqEncoder

from ldnet_allennlp.modules.rnn.sequences import reverse_sequences

# One layer's hidden state: (h,) for GRU and plain RNN, (h, c) for LSTM, each of shape (B, H).
LayerState = Tuple[torch.Tensor, ...]

# torch's own LSTM for CPUs (oneDNN) brings the weights into its own layout at each call and copies its input: from
# here on, in input sizes for each hidden unit, one product for the inputs of all steps and a loop are faster.
_LOOP_FROM = 4

# Up to so many positions a word, a network over the padding, too, is faster than one over packed sentences.
_MOST_PADDING = 1.75


def needs_graph(module: torch.nn.Module, *inputs: Optional[torch.Tensor]) -> bool:
    """Whether autograd must see what a module does with these inputs, of any shape."""
    if not torch.is_grad_enabled():
        return False
    return any(tensor is not None and tensor.requires_grad for tensor in (*inputs, *module.parameters()))


def run_dense_layers(
    layers: Sequence[Any],
    inputs: torch.Tensor,
    gates: Optional[torch.Tensor] = None,
    states: Optional[List[LayerState]] = None,
) -> Tuple[torch.Tensor, List[LayerState]]:
    """
    A densely connected stack in one buffer: each layer reads its first columns and writes the next ones.

    # Parameters

    layers : `Sequence[torch.nn.RNNBase]`
        One-layer networks, batch first, as in `DenseRnnStack`.
    inputs : `torch.Tensor`
        Shape (T, B, D), time first.
    gates : `torch.Tensor`, optional
        Shape (number of layers,).
    states : `List[LayerState]`, optional
        What each layer starts from; zeros if not given.

    # Returns

    `Tuple[torch.Tensor, List[LayerState]]`
        The outputs, shape (T, B, D + number of layers * H), and the state of each layer after the last step.
    """
    steps, rows, size = inputs.shape
    width = size + sum(layer.hidden_size for layer in layers)
    buffer = inputs.new_empty((steps, rows, width))
    buffer[:, :, :size] = inputs
    final_states = []
    for number, layer in enumerate(layers):
        read, place = buffer[:, :, :size], buffer[:, :, size : size + layer.hidden_size]
        start = states[number] if states is not None else None
        if _loop_is_faster(layer, read):
            state = _run_lstm_loop(layer, buffer.view(-1, width)[:, :size], start, place)
        else:
            output, state = _run_module(layer, read, start)
            place.copy_(output)
        if gates is not None:
            place.mul_(gates[number])
        final_states.append(state)
        size += layer.hidden_size
    return buffer, final_states


def encode(encoder: Seq2SeqEncoder, inputs: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """
    What `encoder(inputs, mask)` gives. On a CPU, AllenNLP's "lstm" and "gru" of one layer do not pack sentences of
    similar lengths, for which torch's code is slower: the backward direction reads each in reverse.

    # Parameters

    encoder : `Seq2SeqEncoder`
    inputs : `torch.Tensor`
        Shape (B, T, D).
    mask : `torch.BoolTensor`
        Shape (B, T), `True` at real steps, which stand at the left of each row.
    """
    rnn: Any = getattr(encoder, "_module", None)
    plain = (
        isinstance(encoder, PytorchSeq2SeqWrapper)
        and not encoder.stateful
        and type(rnn) in (torch.nn.LSTM, torch.nn.GRU)
        and rnn.num_layers == 1
        and rnn.batch_first
        and rnn.bias
        and not getattr(rnn, "proj_size", 0)
    )
    if not plain or inputs.device.type != "cpu" or inputs.numel() == 0:
        return encoder(inputs, mask)
    lengths = mask.sum(dim=1)
    if int(lengths.min()) == inputs.size(1):
        return rnn(inputs)[0]
    if mask.numel() > _MOST_PADDING * int(lengths.sum()):
        return encoder(inputs, mask)
    outputs = [_one_direction(rnn, inputs, 0)]
    if rnn.bidirectional:
        backward = _one_direction(rnn, reverse_sequences(inputs, lengths), 1)
        outputs.append(reverse_sequences(backward, lengths))
    return torch.cat(outputs, dim=2).masked_fill(~mask.unsqueeze(2), 0.0)


def _one_direction(rnn: torch.nn.RNNBase, inputs: torch.Tensor, direction: int) -> torch.Tensor:
    """One direction (0 forward, 1 backward) of a network of one layer, from left to right. (B, T, D) to (B, T, H)."""
    weights = rnn.all_weights[direction]
    start = inputs.new_zeros((1, inputs.size(0), rnn.hidden_size))
    # With biases, one layer, no dropout, whether for training, one direction, batch first.
    options: Any = (weights, True, 1, 0.0, torch.is_grad_enabled(), False, True)
    if isinstance(rnn, torch.nn.LSTM):
        return torch.lstm(inputs, (start, start), *options)[0]
    return torch.gru(inputs, start, *options)[0]


def _loop_is_faster(layer: Any, read: torch.Tensor) -> bool:
    return (
        type(layer) is torch.nn.LSTM
        and read.device.type == "cpu"
        and read.dtype == layer.weight_ih_l0.dtype == torch.float32
        and not torch.is_autocast_enabled()
        and not torch.is_autocast_cpu_enabled()
        and layer.bias
        and read.size(2) >= _LOOP_FROM * layer.hidden_size
        and read.size(0) > 0
        and read.size(1) > 0
    )


def _run_module(
    layer: Any, read: torch.Tensor, start: Optional[LayerState]
) -> Tuple[torch.Tensor, LayerState]:
    """The layer itself, time first. Outputs (T, B, H)."""
    hidden = None
    if start is not None:
        batched = tuple(tensor.to(read).unsqueeze(0).contiguous() for tensor in start)  # each (1, B, H)
        hidden = batched if len(batched) == 2 else batched[0]
    output, final = layer(read.transpose(0, 1), hidden)
    final = final if isinstance(final, tuple) else (final,)
    return output.transpose(0, 1), tuple(tensor.squeeze(0) for tensor in final)


def _run_lstm_loop(
    layer: Any, columns: torch.Tensor, start: Optional[LayerState], place: torch.Tensor
) -> LayerState:
    """Reads (T * B, size) and writes (T, B, H), which may be columns of one buffer."""
    steps, rows, _ = place.shape
    bias = layer.bias_ih_l0 + layer.bias_hh_l0
    # The matrix product reads the columns of the buffer in place.
    gates = torch.addmm(bias, columns, layer.weight_ih_l0.t()).view(steps, rows, -1)  # (T, B, 4 H)
    if start is None:
        start = tuple(columns.new_zeros((rows, layer.hidden_size)) for _ in range(2))
    cell = _lstm_steps(gates, layer.weight_hh_l0.t(), start[0], start[1], place)
    return place[-1].clone(), cell


def _lstm_steps_in_python(
    gates: torch.Tensor,
    recurrent: torch.Tensor,
    hidden: torch.Tensor,
    cell: torch.Tensor,
    place: torch.Tensor,
) -> torch.Tensor:
    """
    The recurrence of an LSTM. `gates` (T, B, 4 H) are the products with the inputs and the biases, in torch's order
    (input gate, forget gate, candidate, output gate), and are written over; `recurrent` is (H, 4 H). Outputs go into
    `place` (T, B, H); the last cell state is returned.
    """
    size = hidden.size(1)
    for step in range(gates.size(0)):
        at_step = gates[step].addmm_(hidden, recurrent)  # (B, 4 H)
        in_and_forget = at_step[:, : 2 * size].sigmoid_()
        candidate = at_step[:, 2 * size : 3 * size].tanh_()
        out_gate = at_step[:, 3 * size :].sigmoid_()
        cell = torch.addcmul(in_and_forget[:, size:] * cell, in_and_forget[:, :size], candidate)
        hidden = place[step].copy_(cell.tanh().mul_(out_gate))
    return cell


# Scripted at its first use: then it holds Python's lock no longer than a single operation does.
_scripted: List[Any] = []
_scripting = threading.Lock()


def _lstm_steps(
    gates: torch.Tensor,
    recurrent: torch.Tensor,
    hidden: torch.Tensor,
    cell: torch.Tensor,
    place: torch.Tensor,
) -> torch.Tensor:
    with _scripting:
        if not _scripted:
            _scripted.append(torch.jit.script(_lstm_steps_in_python))
    with torch.jit.optimized_execution(False):
        return _scripted[0](gates, recurrent, hidden, cell, place)
