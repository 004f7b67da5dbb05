"""LSTMs, GRUs and plain RNNs as ONNX operators."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy
import torch
from onnx import TensorProto

from ldnet_allennlp.export.checks import require, require_type
from ldnet_allennlp.export.graph import Graph

KINDS = {torch.nn.LSTM: "LSTM", torch.nn.GRU: "GRU", torch.nn.RNN: "RNN"}
# torch's gates in ONNX's order: i f g o -> i o f g; r z n -> z r n.
_GATES = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2), "RNN": (0,)}
# 7 bits: on processors without VNNI two products of 8 bits are added up in 16 bits, and would overflow.
_LARGEST = 63


class Cell(NamedTuple):
    """The weights of one layer in one direction, in torch's order of gates."""

    kind: str
    """ "LSTM", "GRU" or "RNN"."""
    input_weight: numpy.ndarray
    """Shape (gates * H, D)."""
    recurrent_weight: numpy.ndarray
    """Shape (gates * H, H)."""
    input_bias: numpy.ndarray
    recurrent_bias: numpy.ndarray
    activation: str = "Tanh"
    """Of a plain RNN."""

    @property
    def size(self) -> int:
        """H."""
        return self.recurrent_weight.shape[1]


class Steps(NamedTuple):
    """The sequence lengths of a recurrent layer's inputs."""

    lengths: str
    """int32, shape (B,)."""
    state_shape: str
    """int64, (1, B, 1): broadcasts a state to all sequences."""

    @classmethod
    def of(cls, graph: Graph, lengths: str) -> "Steps":
        """Build the steps from int64 lengths, shape (B,)."""
        batch = graph.node("Shape", lengths)
        one = graph.integers(1)
        lengths = graph.node("Cast", lengths, to=TensorProto.INT32)
        return cls(lengths, graph.concat([one, batch, one], axis=0))


def cells(rnn: Any, key: str) -> list[list[Cell]]:
    """The cells of a torch RNN: one per layer and direction, forward first."""
    require_type(rnn, key, *KINDS)
    require(not getattr(rnn, "proj_size", 0), key, "has a proj_size, which cannot be exported")
    kind = KINDS[type(rnn)]
    activation = {"relu": "Relu"}.get(getattr(rnn, "nonlinearity", "tanh"), "Tanh")
    directions = ["", "_reverse"][: 2 if rnn.bidirectional else 1]

    def array(name: str) -> numpy.ndarray:
        if not rnn.bias and name.startswith("bias"):
            return numpy.zeros(rnn.weight_hh_l0.size(0), dtype=numpy.float32)
        return getattr(rnn, name).detach().cpu().float().numpy()

    def cell(suffix: str) -> Cell:
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        input_weight, recurrent_weight, input_bias, recurrent_bias = (array(name + suffix) for name in names)
        return Cell(kind, input_weight, recurrent_weight, input_bias, recurrent_bias, activation)

    return [[cell(f"_l{layer}{direction}") for direction in directions] for layer in range(rnn.num_layers)]


def run_rnn(
    graph: Graph, rnn: Any, inputs: str, steps: Steps, key: str, reverse: bool = False
) -> tuple[str, str]:
    """
    All layers of a torch RNN.

    # Parameters

    inputs : `str`
        Shape (T, B, D): time first, as everywhere in the graph.
    reverse : `bool`, optional (default = `False`)
        Whether a unidirectional RNN reads each sequence from its end.

    # Returns

    `Tuple[str, str]`
        The outputs (T, B, directions * H), zero beyond a sequence's length, and the states after each
        sequence's last step, (directions, B, H), of the top layer.
    """
    final = ""
    for layer in cells(rnn, key):
        inputs, final = run_layer(graph, layer, inputs, steps, reverse)
    return inputs, final


def run_layer(
    graph: Graph,
    layer: Sequence[Cell],
    inputs: str,
    steps: Steps,
    reverse: bool = False,
    start: Sequence[torch.Tensor] | None = None,
) -> tuple[str, str]:
    """
    One layer.

    # Parameters

    layer : `Sequence[Cell]`
        A cell, or two for both directions.
    inputs : `str`
        Shape (T, B, D).
    steps : `Steps`
    reverse : `bool`, optional (default = `False`)
        Whether a single cell reads each sequence from its end.
    start : `Sequence[torch.Tensor]`, optional
        The state h, or h and c, of a single cell before the first step: H numbers each.

    # Returns

    `Tuple[str, str]`
        As `run_rnn`.
    """
    kind, size = layer[0].kind, layer[0].size
    attributes: dict[str, Any] = {"hidden_size": size}
    attributes["direction"] = "bidirectional" if len(layer) == 2 else "reverse" if reverse else "forward"
    if kind == "GRU":
        attributes["linear_before_reset"] = 1
    if kind == "RNN":
        attributes["activations"] = [cell.activation for cell in layer]
    bias = numpy.stack(
        [_ordered(kind, bias) for cell in layer for bias in (cell.input_bias, cell.recurrent_bias)]
    ).reshape(len(layer), -1)
    states = [_broadcast(graph, state, steps) for state in start or ()]
    # A GRU and a plain RNN have no cell state.
    last = [
        graph.constant(bias),
        steps.lengths,
        *states,
        *[None] * (2 - len(states) if kind == "LSTM" else 0),
    ]
    weights = [
        numpy.stack(
            [_ordered(kind, getattr(cell, name)) for cell in layer]
        )  # (directions, gates * H, columns)
        for name in ("input_weight", "recurrent_weight")
    ]
    if graph.int8 and kind == "LSTM":
        matrices = [_quantized(graph, weight) for weight in weights]
        operands = [inputs, *(matrix[0] for matrix in matrices), *last, None]
        operands += [name for matrix in matrices for name in matrix[1:]]
        found = graph.nodes("DynamicQuantizeLSTM", operands, 2, domain="com.microsoft", **attributes)
    else:
        while last and last[-1] is None:
            last.pop()
        found = graph.nodes(kind, [inputs, *map(graph.constant, weights), *last], 2, **attributes)
    outputs, final = found  # (T, directions, B, H), (directions, B, H)
    if len(layer) == 1:
        return graph.node("Squeeze", outputs, graph.integers(1)), final
    return graph.reshape(graph.transpose(outputs, 0, 2, 1, 3), 0, 0, 2 * size), final


def _ordered(kind: str, weight: numpy.ndarray) -> numpy.ndarray:
    """The rows of torch's gates, in ONNX's order."""
    gates = numpy.split(weight, len(_GATES[kind]))
    return numpy.concatenate([gates[number] for number in _GATES[kind]])


def _broadcast(graph: Graph, state: torch.Tensor, steps: Steps) -> str:
    return graph.node("Expand", graph.constant(state.reshape(1, 1, -1)), steps.state_shape)


def _quantized(graph: Graph, weight: numpy.ndarray) -> tuple[str, str, str]:
    """Weights (directions, rows, columns) as integers (directions, columns, rows), with scales and zero points."""
    scales = numpy.abs(weight).max(axis=2) / _LARGEST
    scales[scales == 0] = 1.0
    integers = numpy.rint(weight / scales[:, :, None]).transpose(0, 2, 1)
    return (
        graph.constant(integers, numpy.int8),
        graph.constant(scales),
        graph.constant(numpy.zeros_like(scales), numpy.int8),
    )
