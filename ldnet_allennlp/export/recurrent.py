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
    """The weights of one layer in one direction, in ONNX's order of gates."""

    kind: str
    """ "LSTM", "GRU" or "RNN"."""
    input_weight: numpy.ndarray
    """Shape (gates * H, D)."""
    recurrent_weight: numpy.ndarray
    """Shape (gates * H, H)."""
    bias: numpy.ndarray
    """Of the input, then of the recurrence; shape (2 * gates * H,)."""
    activation: str = "Tanh"
    """Of a plain RNN."""

    @property
    def size(self) -> int:
        """H."""
        return self.recurrent_weight.shape[1]

    @classmethod
    def of(
        cls,
        kind: str,
        weights: Sequence[torch.Tensor],
        biases: Sequence[torch.Tensor | None],
        activation: str = "Tanh",
    ) -> "Cell":
        """Build a cell from torch's weights and biases: of the input, and of the recurrence."""

        def ordered(tensor: torch.Tensor | None) -> numpy.ndarray:
            tensor = torch.zeros(len(weights[0])) if tensor is None else tensor.detach().cpu().float()
            gates = tensor.chunk(len(_GATES[kind]))
            return torch.cat([gates[number] for number in _GATES[kind]]).numpy()

        bias = numpy.concatenate([ordered(bias) for bias in biases])
        return cls(kind, ordered(weights[0]), ordered(weights[1]), bias, activation)


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
    activation = "Relu" if getattr(rnn, "nonlinearity", "") == "relu" else "Tanh"

    def cell(suffix: str) -> Cell:
        weights = [getattr(rnn, f"weight_{part}{suffix}") for part in ("ih", "hh")]
        biases = [getattr(rnn, f"bias_{part}{suffix}", None) for part in ("ih", "hh")]
        return Cell.of(KINDS[type(rnn)], weights, biases, activation)

    directions = ["", "_reverse"][: 2 if rnn.bidirectional else 1]
    return [[cell(f"_l{layer}{direction}") for direction in directions] for layer in range(rnn.num_layers)]


def run_rnn(
    graph: Graph, rnn: Any, inputs: str, steps: Steps, key: str, reverse: bool = False
) -> tuple[str, str]:
    """All layers of a torch RNN. Arguments and results are those of `run_layer`; the states are of the top layer."""
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
        Shape (T, B, D): time first, as everywhere in the graph.
    reverse : `bool`, optional (default = `False`)
        Whether a single cell reads each sequence from its end.
    start : `Sequence[torch.Tensor]`, optional
        The state h, or h and c, of a single cell before the first step: H numbers each.

    # Returns

    `Tuple[str, str]`
        The outputs (T, B, directions * H), zero beyond a sequence's length, and the states after each sequence's last
        step, (directions, B, H).
    """
    kind, size = layer[0].kind, layer[0].size
    attributes: dict[str, Any] = {"hidden_size": size}
    attributes["direction"] = "bidirectional" if len(layer) == 2 else "reverse" if reverse else "forward"
    if kind == "GRU":
        attributes["linear_before_reset"] = 1
    if kind == "RNN":
        attributes["activations"] = [cell.activation for cell in layer]
    # (directions, gates * H, columns)
    weights = [
        numpy.stack([getattr(cell, name) for cell in layer]) for name in ("input_weight", "recurrent_weight")
    ]
    bias = graph.constant(numpy.stack([cell.bias for cell in layer]))
    states = [
        graph.node("Expand", graph.constant(state.reshape(1, 1, -1)), steps.state_shape)
        for state in start or ()
    ]
    if graph.int8 and kind == "LSTM":
        matrices = [_quantized(graph, weight) for weight in weights]
        absent = [None] * (3 - len(states))  # states, and weights of peepholes
        operands = [inputs, *(matrix[0] for matrix in matrices), bias, steps.lengths, *states, *absent]
        operands += [name for matrix in matrices for name in matrix[1:]]
        outputs, final = graph.nodes("DynamicQuantizeLSTM", operands, 2, domain="com.microsoft", **attributes)
    else:
        operands = [inputs, *map(graph.constant, weights), bias, steps.lengths, *states]
        outputs, final = graph.nodes(kind, operands, 2, **attributes)
    # (T, directions, B, H), (directions, B, H)
    if len(layer) == 1:
        return graph.node("Squeeze", outputs, graph.integers(1)), final
    return graph.reshape(graph.transpose(outputs, 0, 2, 1, 3), 0, 0, 2 * size), final


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
