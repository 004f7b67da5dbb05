"""LD-Net's stacks of recurrent layers as ONNX operators."""

from collections.abc import Sequence
from functools import reduce
from typing import Any, NamedTuple

import numpy
import torch

from ldnet_allennlp.export.graph import Graph
from ldnet_allennlp.export.recurrent import Steps, cells, run_layer
from ldnet_allennlp.modules.rnn.ld_rnn import LdRnn


class Vectors(NamedTuple):
    """
    Vectors in parts. A linear layer that reads the parts needs no product with gates, and skips layers with gate 0.
    """

    parts: list[str]
    """Tensors (T, B, ...), side by side."""
    columns: list[int]
    """The columns of the whole vectors that the parts hold."""
    scales: list[float]
    """What each of these columns is to be multiplied with."""
    size: int
    """The number of all columns; those that no part holds are 0."""

    @classmethod
    def of(cls, tensor: str, size: int, scale: float = 1.0) -> "Vectors":
        """One tensor, times `scale`."""
        return cls([tensor], list(range(size)), [scale] * size, size)

    def beside(self, other: "Vectors") -> "Vectors":
        """Both vectors, concatenated."""
        columns = [*self.columns, *(self.size + column for column in other.columns)]
        return Vectors(self.parts + other.parts, columns, self.scales + other.scales, self.size + other.size)

    def weight(self, weight: numpy.ndarray) -> numpy.ndarray:
        """The weight of a layer that reads the whole vectors, shape (rows, size), converted for the parts."""
        return weight[:, self.columns] * numpy.asarray(self.scales, dtype=numpy.float32)

    def joined(self, graph: Graph) -> str:
        """The whole vectors as one tensor."""
        whole = graph.concat(self.parts)
        if set(self.scales) != {1.0}:
            whole = graph.node("Mul", whole, graph.constant(self.scales))
        return whole


def run_ld_rnn(
    graph: Graph,
    encoder: LdRnn,
    gates: Sequence[Sequence[float]],
    inputs: str,
    steps: Steps,
    key: str,
    backward: bool = False,
    boundary: torch.Tensor | None = None,
    skip_closed: bool = False,
) -> Vectors:
    """
    An `LdRnn`: each layer of a stack reads the input and all earlier layers.

    # Parameters

    gates
        The factors of the layers' outputs, for each stack.
    inputs : `str`
        Shape (T, B, D).
    backward : `bool`, optional (default = `False`)
        Whether a single stack reads each sequence from its end.
    boundary : `torch.Tensor`, optional
        Shape (D,): a vector before each sequence. The layers start from the states after reading it.
    skip_closed : `bool`, optional (default = `False`)
        Whether to leave out layers with gate 0. Only linear layers can then read the vectors.
    """
    directions = []
    for number, (stack, factors) in enumerate(zip(encoder.stacks, gates)):
        vectors = Vectors.of(inputs, encoder.input_size)
        read = None if boundary is None else [boundary.detach().float()]
        for index, (layer, gate) in enumerate(zip(stack.layers, factors)):
            (cell,) = cells(layer, f"{key}.layers.{index}")[0]
            start = None
            if read is not None:
                start = _states_after(layer, torch.cat(read))
                read.append(start[0] * gate)
            if gate == 0 and skip_closed:
                vectors = vectors._replace(size=vectors.size + cell.size)
                continue
            cell = cell._replace(input_weight=vectors.weight(cell.input_weight))
            reverse = backward or number == 1
            output, _ = run_layer(graph, [cell], graph.concat(vectors.parts), steps, reverse, start)
            vectors = vectors.beside(Vectors.of(output, cell.size, gate))
        directions.append(vectors)
    return reduce(Vectors.beside, directions)


def run_plain_stack(
    graph: Graph,
    layers: Sequence[Any],
    inputs: str,
    steps: Steps,
    key: str,
    backward: bool = False,
    boundary: torch.Tensor | None = None,
) -> list[str]:
    """The outputs of all layers of a `StackedRnn`; the arguments are those of `run_ld_rnn`."""
    outputs = []
    for number, layer in enumerate(layers):
        start = None
        if boundary is not None:
            start = _states_after(layer, boundary.detach().float())
            boundary = start[0]
        inputs, _ = run_layer(
            graph, cells(layer, f"{key}.layers.{number}")[0], inputs, steps, backward, start
        )
        outputs.append(inputs)
    return outputs


@torch.no_grad()
def _states_after(layer: Any, vector: torch.Tensor) -> list[torch.Tensor]:
    """The state h, or h and c, of a one-layer RNN after a single step, H numbers each."""
    _, state = layer(vector.to(layer.weight_ih_l0).reshape(1, 1, -1))
    states = state if isinstance(state, tuple) else (state,)
    return [part.flatten().cpu().float() for part in states]
