"""
Checks of an ONNX file's bytes before ONNX Runtime parses them.

The walk follows the protobuf encoding of `onnx.proto` and supports only the fields of an exported tagger. It reads
sizes, names and operators, and copies no weights. Files are untrusted: every length is compared with the rest of the
file. Unknown fields and repeated singular fields are rejected, because parsers may interpret them differently.

The sizes that a graph computes are not checked: a hostile one can use any amount of memory and time.
"""

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
# The operators that the exporter writes, or has written. Only Scan has a subgraph.
_OPERATORS = """
    Add Cast Clip Concat Conv DynamicQuantizeLSTM Elu Erf Expand GRU Gather Identity LSTM LeakyRelu Less MatMul Max
    Min Mul RNN Range ReduceMax Relu Reshape Scan Selu Shape Sigmoid Slice Softplus Softsign Split Squeeze Sub Tanh
    Transpose Unsqueeze Where
"""
OPERATORS = frozenset(_OPERATORS.split())
_DOMAINS = frozenset(["", "ai.onnx", "com.microsoft"])
# Bytes an element by TensorProto.DataType: float, uint8, int8, int32, int64, bool, float16, double.
_ITEM_SIZES = {1: 4, 2: 1, 3: 1, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8}


class GraphSummary(NamedTuple):
    """The parts of a model that the walk collects."""

    inputs: list[str]
    outputs: list[str]
    metadata: dict[str, str]


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
    inputs, outputs = _check_graph(data, graph)
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


def _check_graph(data: memoryview, graph: Field, depth: int = 0) -> tuple[list[str], list[str]]:
    """The names of the graph's inputs and outputs."""
    inputs: list[str] = []
    outputs: list[str] = []
    for field in fields(data, graph.start, graph.stop, GRAPH, "the graph"):
        if field.name == "node":
            _check_node(data, field, depth)
        elif field.name == "initializer":
            _check_tensor(data, field)
        elif field.name in ("input", "output"):
            info = message(data, field, VALUE_INFO, f"an {field.name}")
            (inputs if field.name == "input" else outputs).append(text_of(data, info.get("name")))
    return inputs, outputs


def _check_node(data: memoryview, node: Field, depth: int) -> None:
    """Check the operator and its attributes; a graph is allowed only in a `Scan` of the main graph."""
    parts = list(fields(data, node.start, node.stop, NODE, "a node"))
    texts = {part.name: text_of(data, part) for part in parts if part.name in ("op_type", "domain")}
    operator, domain = texts.get("op_type", ""), texts.get("domain", "")
    if operator not in OPERATORS or domain not in _DOMAINS:
        name = f"{domain}.{operator}" if domain else operator
        raise ModelFileError(f"the operator {name!r} is not one that exported taggers use")
    for part in parts:
        if part.name == "attribute":
            for field in fields(data, part.start, part.stop, ATTRIBUTE, f"an attribute of {operator}"):
                if field.name == "t":
                    _check_tensor(data, field)
                elif field.name == "g":
                    if operator != "Scan" or depth > 0:
                        raise ModelFileError(
                            f"the operator '{operator}' holds a graph, which exported taggers do not"
                        )
                    _check_graph(data, field, depth + 1)


def _check_tensor(data: memoryview, field: Field) -> None:
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
