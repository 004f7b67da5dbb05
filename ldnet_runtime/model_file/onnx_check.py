"""
Checks of an ONNX file's bytes before ONNX Runtime parses them.

The walk follows the protobuf encoding of `onnx.proto` and supports only the fields of an exported tagger. It reads
sizes, names and operators, and copies no weights. Files are untrusted: every length is compared with the rest of the
file. Unknown fields and repeated singular fields are rejected, because parsers may interpret them differently.
"""

import math
from typing import NamedTuple

from ldnet_runtime.errors import ModelFileError
from ldnet_runtime.model_file.protobuf import (
    ATTRIBUTE,
    ENTRY,
    GRAPH,
    MODEL,
    NODE,
    OPSET,
    TENSOR,
    VALUE_INFO,
    Field,
    fields,
    integers,
    message,
    text_of,
)

OPSETS = range(13, 25)
# The operators of the exporter, including AllenNLP's activations. Only Scan has a subgraph, and only Expand and Range
# create large tensors from small ones.
_OPERATORS = """
    Abs Add And Cast Clip Concat Constant Conv CumSum DequantizeLinear Div DynamicQuantizeLinear DynamicQuantizeLSTM
    Elu Equal Erf Exp Expand Flatten GRU Gather GatherElements GatherND Gelu Gemm Greater GreaterOrEqual HardSigmoid
    HardSwish Identity LSTM LayerNormalization LeakyRelu Less LessOrEqual Log MatMul MatMulInteger MatMulNBits Max
    MaxPool Min Mish Mod Mul Neg Not Or Pow QuantizeLinear RNN Range ReduceMax ReduceMean ReduceSum Relu Reshape
    ReverseSequence Scan ScatterElements Selu Shape Sigmoid Sign Slice Softmax Softplus Softsign Split Sqrt Squeeze Sub
    Sum Tanh ThresholdedRelu Transpose Unsqueeze Where
"""
OPERATORS = frozenset(_OPERATORS.split())
_DOMAINS = frozenset(["", "ai.onnx", "com.microsoft"])
# Bytes an element by TensorProto.DataType: float, uint8, int8, int32, int64, bool, float16, double.
_ITEM_SIZES = {1: 4, 2: 1, 3: 1, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8}
_INT64 = 7
_MAX_EXPANSION = 2**24


class GraphSummary(NamedTuple):
    """The parts of a model that the walk collects."""

    inputs: list[str]
    outputs: list[str]
    metadata: dict[str, str]


class _Tensor(NamedTuple):
    name: str
    data_type: int
    num_elements: int
    start: int
    stop: int


def check_onnx(data: memoryview) -> GraphSummary:
    """Walk over a model. Raises `ModelFileError` for anything that is not part of an exported tagger."""
    graph: Field | None = None
    metadata: dict[str, str] = {}
    versions: dict[str, int] = {}
    for field in fields(data, 0, len(data), MODEL, "the model"):
        if field.name == "graph":
            graph = field
        elif field.name == "opset_import":
            opset = message(data, field, OPSET, "an opset")
            versions[text_of(data, opset.get("domain"))] = (
                opset["version"].number if "version" in opset else 0
            )
        elif field.name == "metadata_props":
            entry = message(data, field, ENTRY, "the metadata")
            metadata[text_of(data, entry.get("key"))] = text_of(data, entry.get("value"))
    if graph is None:
        raise ModelFileError("the file holds no graph; expected an ONNX model")
    _check_versions(versions)
    inputs, outputs = _check_graph(data, graph, {})
    return GraphSummary(inputs, outputs, metadata)


def _check_versions(versions: dict[str, int]) -> None:
    for domain, version in versions.items():
        if domain not in _DOMAINS or (domain == "com.microsoft" and version != 1):
            raise ModelFileError(
                f"the operator set {domain!r} (version {version}) is not one that exported taggers use"
            )
    version = versions.get("", versions.get("ai.onnx", 0))
    if version not in OPSETS:
        raise ModelFileError(
            f"the ONNX opset is {version}; expected {OPSETS.start} to {OPSETS.stop - 1}: export the tagger again"
        )


def _check_graph(
    data: memoryview, graph: Field, outer: dict[str, _Tensor], depth: int = 0
) -> tuple[list[str], list[str]]:
    """The names of the graph's inputs and outputs. `outer` contains the constants of the enclosing graph."""
    inputs: list[str] = []
    outputs: list[str] = []
    nodes: list[Field] = []
    constants = dict(outer)
    for field in fields(data, graph.start, graph.stop, GRAPH, "the graph"):
        if field.name == "node":
            nodes.append(field)
        elif field.name == "initializer":
            tensor = _check_tensor(data, field)
            constants[tensor.name] = tensor
        elif field.name in ("input", "output"):
            info = message(data, field, VALUE_INFO, f"an {field.name}")
            (inputs if field.name == "input" else outputs).append(text_of(data, info.get("name")))
    for node in nodes:
        _check_node(data, node, constants, depth)
    return inputs, outputs


def _check_node(data: memoryview, node: Field, constants: dict[str, _Tensor], depth: int) -> None:
    operator, domain = "", ""
    inputs, outputs, attributes = [], [], []
    for field in fields(data, node.start, node.stop, NODE, "a node"):
        if field.name == "op_type":
            operator = text_of(data, field)
        elif field.name == "domain":
            domain = text_of(data, field)
        elif field.name == "attribute":
            attributes.append(field)
        elif field.name == "input":
            inputs.append(text_of(data, field))
        elif field.name == "output":
            outputs.append(text_of(data, field))
    if operator not in OPERATORS or domain not in _DOMAINS:
        name = f"{domain}.{operator}" if domain else operator
        raise ModelFileError(f"the operator {name!r} is not one that exported taggers use")
    for attribute in attributes:
        _check_attribute(data, attribute, operator, outputs, constants, depth)
    sizes = {"Expand": inputs[1:2], "Range": inputs}.get(operator, [])
    for name in sizes:
        if name in constants:
            _check_expansion(data, operator, constants[name])


def _check_attribute(
    data: memoryview,
    attribute: Field,
    operator: str,
    outputs: list[str],
    constants: dict[str, _Tensor],
    depth: int,
) -> None:
    """
    Check an attribute. The tensor of a `Constant` is added to the constants; a graph is allowed only in a `Scan` of the
    main graph.
    """
    for field in fields(data, attribute.start, attribute.stop, ATTRIBUTE, f"an attribute of {operator}"):
        if field.name == "t":
            tensor = _check_tensor(data, field)
            constants.update({output: tensor for output in outputs if operator == "Constant"})
        elif field.name == "g":
            if operator != "Scan" or depth > 0:
                raise ModelFileError(
                    f"the operator '{operator}' holds a graph, which exported taggers do not"
                )
            _check_graph(data, field, constants, depth + 1)


def _check_expansion(data: memoryview, operator: str, tensor: _Tensor) -> None:
    """Check that a constant size is moderate. Otherwise a tiny file could request all memory."""
    if tensor.data_type != _INT64:
        raise ModelFileError(f"the operator '{operator}' has a size that is not an int64 tensor")
    numbers = data[tensor.start : tensor.stop].cast("q").tolist()
    if math.prod(max(abs(number), 1) for number in numbers) > _MAX_EXPANSION:
        raise ModelFileError(
            f"the operator '{operator}' asks for a tensor of the size {numbers}, which is too large"
        )


def _check_tensor(data: memoryview, field: Field) -> _Tensor:
    """Check that the data of a weight are in the file and match its shape."""
    name, data_type, raw = "", 0, (0, 0)
    num_elements, bits = 1, 0
    for part in fields(data, field.start, field.stop, TENSOR, "a tensor (external or unusual data)"):
        if part.name == "dims":
            for size in integers(data, part):
                num_elements *= size
                bits += size.bit_length()
                if bits > 64:
                    raise ModelFileError(
                        f"a tensor has {num_elements} elements or more, more than the file holds"
                    )
        elif part.name == "data_type":
            data_type = part.number
        elif part.name == "name":
            name = text_of(data, part)
        elif part.name == "raw_data":
            raw = part.start, part.stop
    if data_type not in _ITEM_SIZES:
        raise ModelFileError(
            f"the tensor {name!r} has the data type {data_type}, which exported taggers do not use"
        )
    if num_elements * _ITEM_SIZES[data_type] != raw[1] - raw[0]:
        raise ModelFileError(
            f"the tensor {name!r} has {num_elements} elements of {_ITEM_SIZES[data_type]} bytes, but "
            f"{raw[1] - raw[0]} bytes of data"
        )
    return _Tensor(name, data_type, num_elements, *raw)
