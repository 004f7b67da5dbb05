"""AllenNLP's encoders as ONNX operators."""

from collections.abc import Callable
from typing import Any

import numpy
from allennlp.modules.augmented_lstm import AugmentedLstm, AugmentedLSTMCell
from allennlp.modules.seq2seq_encoders import (
    ComposeEncoder,
    FeedForwardEncoder,
    GruSeq2SeqEncoder,
    LstmSeq2SeqEncoder,
    PassThroughEncoder,
    RnnSeq2SeqEncoder,
    StackedBidirectionalLstmSeq2SeqEncoder,
)
from allennlp.modules.stacked_bidirectional_lstm import StackedBidirectionalLstm
from onnx import TensorProto

from ldnet_allennlp.export.checks import refusal, require, require_type
from ldnet_allennlp.export.dense import run_ld_rnn, run_plain_stack
from ldnet_allennlp.export.graph import Graph
from ldnet_allennlp.export.layers import blend, feedforward
from ldnet_allennlp.export.recurrent import Cell, Steps, run_layer, run_rnn
from ldnet_allennlp.modules.rnn.ld_rnn import LdRnn
from ldnet_allennlp.modules.rnn.stacked_rnn import StackedRnn
from ldnet_allennlp.modules.selection.layer_selection import LayerSelection


def encode(graph: Graph, encoder: Any, inputs: str, steps: Steps, key: str) -> str:
    """
    A `Seq2SeqEncoder`: inputs (T, B, input size), outputs (T, B, output size). Outputs beyond a sequence's length are
    unspecified.
    """
    build = _ENCODERS.get(type(encoder))
    if build is None:
        raise refusal(encoder, key, tuple(_ENCODERS))
    require(not encoder.stateful, key, "is stateful: its output depends on the sentences before")
    return build(graph, encoder, inputs, steps, key)


def _torch_rnn(graph: Graph, encoder: Any, inputs: str, steps: Steps, key: str) -> str:
    return run_rnn(graph, encoder._module, inputs, steps, key)[0]


def _compose(graph: Graph, encoder: Any, inputs: str, steps: Steps, key: str) -> str:
    for number, part in enumerate(encoder.encoders):
        inputs = encode(graph, part, inputs, steps, f"{key}.encoders.{number}")
    return inputs


def _ld_rnn(graph: Graph, encoder: Any, inputs: str, steps: Steps, key: str) -> str:
    gates = [[1.0] * count for count in encoder.layer_counts]
    return run_ld_rnn(graph, encoder, gates, inputs, steps, key).joined(graph)


def _layer_selection(graph: Graph, encoder: Any, inputs: str, steps: Steps, key: str) -> str:
    require_type(encoder.encoder, f"{key}.encoder", LdRnn)
    gates = [gates.tolist() for gates in encoder.direction_gates()]
    return run_ld_rnn(graph, encoder.encoder, gates, inputs, steps, f"{key}.encoder").joined(graph)


def _stacked_rnn(graph: Graph, encoder: Any, inputs: str, steps: Steps, key: str) -> str:
    return run_plain_stack(graph, encoder.layers, inputs, steps, key)[-1]


def _stacked_bidirectional_lstm(graph: Graph, encoder: Any, inputs: str, steps: Steps, key: str) -> str:
    stack = encoder._module
    require_type(stack, key, StackedBidirectionalLstm)
    for number in range(stack.num_layers):
        directions = [
            _augmented_lstm(graph, getattr(stack, f"{name}_layer_{number}"), inputs, steps, key)
            for name in ("forward", "backward")
        ]
        inputs = graph.concat(directions)
    return inputs


def _augmented_lstm(graph: Graph, layer: Any, inputs: str, steps: Steps, key: str) -> str:
    """AllenNLP's `AugmentedLstm`, an LSTM with an optional highway from input to output."""
    require_type(layer, key, AugmentedLstm)
    require_type(layer.cell, key, AugmentedLSTMCell)
    if layer.use_highway:
        return _highway_lstm(graph, layer.cell, inputs, steps, not layer.go_forward)
    read, recurrent = layer.cell.input_linearity, layer.cell.state_linearity
    cell = Cell.of("LSTM", [read.weight, recurrent.weight], [read.bias, recurrent.bias])
    return run_layer(graph, [cell], inputs, steps, reverse=not layer.go_forward)[0]


def _highway_lstm(graph: Graph, cell: Any, inputs: str, steps: Steps, reverse: bool) -> str:
    """
    A `Scan` over the steps, because the next state of an `AugmentedLSTMCell` is the output of its highway and ONNX has
    no such operator. In reverse it starts with the padding of shorter sequences, where the states stay 0.
    """
    read, recurrent = cell.input_linearity, cell.state_linearity
    size = cell.lstm_dim
    projected = graph.linear(inputs, read.weight.detach().cpu(), read.bias)  # (T, B, 6 H)
    body = Graph()
    inner = ["h", "c", "projected", "is_word"]
    preactivations, direct = body.nodes("Split", ["projected", body.integers(5 * size, size)], 2, axis=-1)
    state = body.linear("h", recurrent.weight.detach().cpu(), recurrent.bias)  # (B, 5 H)
    gates = body.nodes("Split", [body.node("Add", preactivations, state)], 5, axis=-1)
    in_gate, forget_gate, out_gate, highway_gate = (
        body.node("Sigmoid", gates[number]) for number in (0, 1, 3, 4)
    )
    remembered = body.node("Mul", forget_gate, "c")
    new = body.node("Mul", in_gate, body.node("Tanh", gates[2]))
    memory = body.node("Add", new, remembered)
    output = blend(body, highway_gate, body.node("Mul", out_gate, body.node("Tanh", memory)), direct)
    final = [body.node("Mul", part, "is_word") for part in (output, memory)]
    final.append(body.node("Identity", final[0]))
    zeros = graph.node("Expand", graph.constant(numpy.zeros((1, size))), _row_shape(graph, steps))
    direction = [int(reverse)]
    return graph.nodes(
        "Scan",
        [zeros, zeros, projected, _is_word(graph, inputs, steps)],
        3,
        num_scan_inputs=2,
        body=body.body("highway_lstm", inner, final),
        scan_input_directions=direction * 2,
        scan_output_directions=direction,
    )[2]


def _row_shape(graph: Graph, steps: Steps) -> str:
    """(B, 1): broadcasts a row of H numbers to all sequences."""
    return graph.node("Slice", steps.state_shape, graph.integers(1), graph.integers(3))


def _is_word(graph: Graph, inputs: str, steps: Steps) -> str:
    """The mask of inputs (T, B, D): 1 at the steps of a sequence, 0 at padding. Float32, shape (T, B, 1)."""
    numbers = graph.positions(inputs, 0)
    lengths = graph.node("Cast", steps.lengths, to=TensorProto.INT64)
    is_word = graph.node("Less", graph.reshape(numbers, -1, 1), graph.reshape(lengths, 1, -1))
    return graph.node("Unsqueeze", graph.node("Cast", is_word, to=TensorProto.FLOAT), graph.integers(2))


_Build = Callable[[Graph, Any, str, Steps, str], str]
_ENCODERS: dict[type, _Build] = {
    LstmSeq2SeqEncoder: _torch_rnn,
    GruSeq2SeqEncoder: _torch_rnn,
    RnnSeq2SeqEncoder: _torch_rnn,
    StackedBidirectionalLstmSeq2SeqEncoder: _stacked_bidirectional_lstm,
    LdRnn: _ld_rnn,
    StackedRnn: _stacked_rnn,
    LayerSelection: _layer_selection,
    ComposeEncoder: _compose,
    PassThroughEncoder: lambda graph, encoder, inputs, steps, key: inputs,
    FeedForwardEncoder: lambda graph, encoder, inputs, steps, key: feedforward(
        graph, encoder._feedforward, inputs, f"{key}.feedforward"
    ),
}
