"""Feed-forward parts as ONNX operators: activations, linear and highway layers."""

import math
from collections.abc import Callable
from typing import Any

import torch
from allennlp.modules import FeedForward, Highway
from allennlp.nn.activations import GeluFast, GeluNew, LinearActivation, MishActivation, SwishActivation

from ldnet_allennlp.export.checks import refusal, require, require_type
from ldnet_allennlp.export.graph import Graph


def linear(graph: Graph, layer: Any, inputs: str, key: str) -> str:
    """A `torch.nn.Linear`."""
    require_type(layer, key, torch.nn.Linear)
    bias = None if layer.bias is None else layer.bias
    return graph.linear(inputs, layer.weight.detach().cpu(), bias)


def feedforward(graph: Graph, layers: FeedForward, inputs: str, key: str) -> str:
    """AllenNLP's `FeedForward`."""
    require_type(layers, key, FeedForward)
    for layer, function in zip(layers._linear_layers, layers._activations):
        inputs = activation(graph, function, linear(graph, layer, inputs, key), f"{key}.activations")
    return inputs


def highway(graph: Graph, layers: Highway, inputs: str, key: str) -> str:
    """AllenNLP's `Highway`, y = g * x + (1 - g) * relu(A x), as relu(A x) + g * (x - relu(A x))."""
    require_type(layers, key, Highway)
    require(layers._activation is torch.nn.functional.relu, key, "has an activation other than relu")
    for layer in layers._layers:
        nonlinear, gate = graph.nodes("Split", [linear(graph, layer, inputs, key)], 2, axis=-1)
        nonlinear, gate = graph.node("Relu", nonlinear), graph.node("Sigmoid", gate)
        inputs = blend(graph, gate, inputs, nonlinear)
    return inputs


def blend(graph: Graph, gate: str, first: str, second: str) -> str:
    """gate * first + (1 - gate) * second."""
    change = graph.node("Mul", gate, graph.node("Sub", first, second))
    return graph.node("Add", second, change)


def activation(graph: Graph, function: torch.nn.Module, inputs: str, key: str) -> str:
    """An element-wise activation function of a config."""
    build = _ACTIVATIONS.get(type(function))
    if build is None:
        raise refusal(function, key, tuple(_ACTIVATIONS))
    return build(graph, function, inputs)


def _operator(kind: str, **names: str) -> Callable[[Graph, Any, str], str]:
    """An ONNX operator whose attributes are those of the module with these names."""

    def build(graph: Graph, function: Any, inputs: str) -> str:
        attributes: dict[str, Any] = {
            attribute: float(getattr(function, name)) for attribute, name in names.items()
        }
        return graph.node(kind, inputs, **attributes)

    return build


def _clipped(graph: Graph, function: Any, inputs: str) -> str:
    return graph.node("Clip", inputs, graph.constant(function.min_val), graph.constant(function.max_val))


def _gelu(graph: Graph, function: Any, inputs: str) -> str:
    if getattr(function, "approximate", "none") == "tanh":
        return _tanh_gelu(graph, function, inputs)
    error = graph.node("Erf", graph.node("Mul", inputs, graph.constant(math.sqrt(0.5))))
    return _half_gated(graph, inputs, error)


def _tanh_gelu(graph: Graph, function: Any, inputs: str) -> str:
    """x / 2 * (1 + tanh(sqrt(2 / pi) * x * (1 + 0.044715 x^2)))."""
    square = graph.node("Mul", inputs, inputs)
    inner = graph.node("Add", graph.node("Mul", square, graph.constant(0.044715)), graph.constant(1.0))
    scaled = graph.node("Mul", inputs, graph.constant(math.sqrt(2.0 / math.pi)))
    return _half_gated(graph, inputs, graph.node("Tanh", graph.node("Mul", scaled, inner)))


def _half_gated(graph: Graph, inputs: str, gate: str) -> str:
    """x / 2 * (1 + gate)."""
    half = graph.node("Mul", inputs, graph.constant(0.5))
    return graph.node("Mul", half, graph.node("Add", gate, graph.constant(1.0)))


def _mish(graph: Graph, function: Any, inputs: str) -> str:
    return graph.node("Mul", inputs, graph.node("Tanh", graph.node("Softplus", inputs)))


_ACTIVATIONS: dict[type, Callable[[Graph, Any, str], str]] = {
    LinearActivation: lambda graph, function, inputs: inputs,
    torch.nn.ReLU: _operator("Relu"),
    torch.nn.Tanh: _operator("Tanh"),
    torch.nn.Sigmoid: _operator("Sigmoid"),
    torch.nn.Softsign: _operator("Softsign"),
    torch.nn.ELU: _operator("Elu", alpha="alpha"),
    torch.nn.SELU: _operator("Selu"),
    torch.nn.LeakyReLU: _operator("LeakyRelu", alpha="negative_slope"),
    torch.nn.ReLU6: _clipped,
    torch.nn.Hardtanh: _clipped,
    torch.nn.GELU: _gelu,
    GeluNew: _tanh_gelu,
    GeluFast: _tanh_gelu,
    MishActivation: _mish,
    SwishActivation: lambda graph, function, inputs: graph.node("Mul", inputs, graph.node("Sigmoid", inputs)),
}
