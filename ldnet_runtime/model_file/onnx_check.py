"""
Checks of an ONNX file's bytes before ONNX Runtime parses them.

The walk follows the protobuf encoding of `onnx.proto` and knows just the fields that a tagger's file has. It reads
sizes, names and operators; it copies no weights. Files come from strangers: every length is compared with what is
left of the file, and a field that is unknown or repeated where it is singular is refused, since two parsers might
read it in two ways.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

from ldnet_runtime.errors import ModelFileError

OPSETS = range(13, 25)
# Those of our exporter, the activations of AllenNLP among them. None but Scan runs a graph inside of the graph, and
# none but Expand and Range makes large tensors of small ones.
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
_MAX_FIELDS = 1_000_000  # of one message: a graph of ours has some hundreds
_MAX_EXPANSION = 2**24

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
# The fields of each message: number to name; those of `_REPEATED` may come more than once.
_MODEL = {
    **{1: "ir_version", 2: "producer_name", 3: "producer_version", 4: "domain", 5: "model_version"},
    **{6: "doc_string", 7: "graph", 8: "opset_import", 14: "metadata_props"},
}
_GRAPH = {
    **{1: "node", 2: "name", 5: "initializer", 10: "doc_string", 11: "input", 12: "output", 13: "value_info"},
    **{16: "metadata_props"},
}
_NODE = {1: "input", 2: "output", 3: "name", 4: "op_type", 5: "attribute", 6: "doc_string", 7: "domain"}
_ATTRIBUTE = {
    **{1: "name", 2: "f", 3: "i", 4: "s", 5: "t", 6: "g", 7: "floats", 8: "ints", 9: "strings"},
    **{13: "doc_string", 20: "type"},
}
_TENSOR = {1: "dims", 2: "data_type", 8: "name", 9: "raw_data", 12: "doc_string"}
_OPSET = {1: "domain", 2: "version"}
_ENTRY = {1: "key", 2: "value"}
_VALUE_INFO = {1: "name", 2: "type", 3: "doc_string", 4: "metadata_props"}
_REPEATED = {
    *(
        "opset_import",
        "metadata_props",
        "node",
        "initializer",
        "input",
        "output",
        "value_info",
        "attribute",
        "floats",
    ),
    *("ints", "strings", "dims"),
}


class Field(NamedTuple):
    """One field of a message: its name and its number, or where its bytes stand."""

    name: str
    number: int
    start: int
    stop: int


class GraphSummary(NamedTuple):
    """What the walk collects of a model."""

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
    """Walks over a model. Raises `ModelFileError` for anything that an exported tagger does not hold."""
    graph: Field | None = None
    metadata: dict[str, str] = {}
    versions: dict[str, int] = {}
    for field in _fields(data, 0, len(data), _MODEL, "the model"):
        if field.name == "graph":
            graph = field
        elif field.name == "opset_import":
            opset = _message(data, field, _OPSET, "an opset")
            versions[_text(data, opset.get("domain"))] = opset["version"].number if "version" in opset else 0
        elif field.name == "metadata_props":
            entry = _message(data, field, _ENTRY, "the metadata")
            metadata[_text(data, entry.get("key"))] = _text(data, entry.get("value"))
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
    """The names of the graph's inputs and outputs. `outer` are the constants of the graph that it stands in."""
    inputs: list[str] = []
    outputs: list[str] = []
    nodes: list[Field] = []
    constants = dict(outer)
    for field in _fields(data, graph.start, graph.stop, _GRAPH, "the graph"):
        if field.name == "node":
            nodes.append(field)
        elif field.name == "initializer":
            tensor = _check_tensor(data, field)
            constants[tensor.name] = tensor
        elif field.name in ("input", "output"):
            info = _message(data, field, _VALUE_INFO, f"an {field.name}")
            (inputs if field.name == "input" else outputs).append(_text(data, info.get("name")))
    for node in nodes:
        _check_node(data, node, constants, depth)
    return inputs, outputs


def _check_node(data: memoryview, node: Field, constants: dict[str, _Tensor], depth: int) -> None:
    operator, domain = "", ""
    inputs, outputs, attributes = [], [], []
    for field in _fields(data, node.start, node.stop, _NODE, "a node"):
        if field.name == "op_type":
            operator = _text(data, field)
        elif field.name == "domain":
            domain = _text(data, field)
        elif field.name == "attribute":
            attributes.append(field)
        elif field.name == "input":
            inputs.append(_text(data, field))
        elif field.name == "output":
            outputs.append(_text(data, field))
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
    """A tensor of a `Constant` joins the constants; a graph is allowed in a `Scan` of the main graph alone."""
    for field in _fields(data, attribute.start, attribute.stop, _ATTRIBUTE, f"an attribute of {operator}"):
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
    """A constant size must be a moderate one: a line of the file could ask for all memory otherwise."""
    if tensor.data_type != _INT64:
        raise ModelFileError(f"the operator '{operator}' has a size that is no int64 tensor")
    numbers = data[tensor.start : tensor.stop].cast("q").tolist()
    if math.prod(max(abs(number), 1) for number in numbers) > _MAX_EXPANSION:
        raise ModelFileError(
            f"the operator '{operator}' asks for a tensor of the size {numbers}, which is too large"
        )


def _check_tensor(data: memoryview, field: Field) -> _Tensor:
    """The data of a weight must be in the file, and of the size that its shape asks for."""
    name, data_type, raw = "", 0, (0, 0)
    num_elements, bits = 1, 0
    for part in _fields(data, field.start, field.stop, _TENSOR, "a tensor (external or unusual data)"):
        if part.name == "dims":
            for size in _integers(data, part):
                num_elements *= size
                bits += size.bit_length()
                if bits > 64:
                    raise ModelFileError(
                        f"a tensor has {num_elements} elements or more, more than the file holds"
                    )
        elif part.name == "data_type":
            data_type = part.number
        elif part.name == "name":
            name = _text(data, part)
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


def _message(data: memoryview, field: Field, names: dict[int, str], what: str) -> dict[str, Field]:
    return {part.name: part for part in _fields(data, field.start, field.stop, names, what)}


def _text(data: memoryview, field: Field | None) -> str:
    if field is None:
        return ""
    try:
        return str(data[field.start : field.stop], "utf-8")
    except UnicodeDecodeError as error:
        raise ModelFileError(f"the {field.name} at byte {field.start} is not UTF-8") from error


def _integers(data: memoryview, field: Field) -> list[int]:
    """A repeated number, packed or not."""
    if field.start == field.stop:
        return [field.number]
    numbers, position = [], field.start
    while position < field.stop:
        number, position = _varint(data, position, field.stop)
        numbers.append(number)
    return numbers


def _fields(data: memoryview, start: int, stop: int, names: dict[int, str], what: str) -> Iterator[Field]:
    """The fields of a message between two positions; `names` has those that are expected."""
    seen: set[str] = set()
    position, count = start, 0
    while position < stop:
        key, position = _varint(data, position, stop)
        number, wire_type = key >> 3, key & 7
        name = names.get(number)
        count += 1
        if name is None or (name in seen and name not in _REPEATED) or count > _MAX_FIELDS:
            raise ModelFileError(f"{what} has the field {number} at byte {position}, which was not expected")
        seen.add(name)
        value, size = 0, 0
        if wire_type == _VARINT:
            value, position = _varint(data, position, stop)
        elif wire_type == _BYTES:
            size, position = _varint(data, position, stop)
        elif wire_type in (_FIXED64, _FIXED32):
            size = 8 if wire_type == _FIXED64 else 4
        else:
            raise ModelFileError(f"{what} is damaged at byte {position}")
        if size > stop - position:
            raise ModelFileError(
                f"{what} is cut off: {size} bytes at byte {position}, but {stop - position} are left"
            )
        yield Field(name, value, position, position + size)
        position += size


def _varint(data: memoryview, position: int, stop: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= stop:
            break
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ModelFileError(f"a number at byte {position} is cut off")
