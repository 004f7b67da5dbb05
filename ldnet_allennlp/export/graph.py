"""ONNX graphs, built node by node."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from ldnet_allennlp.export.checks import NotExportable

# Every ONNX Runtime from 1.15 on reads these.
_OPSET, _IR_VERSION = 17, 8
# Protocol buffers hold less than 2 GiB.
_MAX_BYTES = 2**31 - 2**24


class Graph:
    """
    Nodes, constants and inputs of an ONNX graph. A tensor is its name, a `str`. With `int8`, LSTM weights have 8 bits;
    with `int8_embeddings`, embedding tables do.
    """

    def __init__(self, int8: bool = False, int8_embeddings: bool = False) -> None:
        self.int8 = int8
        self.int8_embeddings = int8_embeddings
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[tuple[str, tuple[int, ...], bytes], onnx.TensorProto] = {}
        self._inputs: dict[str, onnx.ValueInfoProto] = {}

    def input(self, name: str, *axes: str) -> str:
        """An int64 input whose axes have these names."""
        if name not in self._inputs:
            self._inputs[name] = helper.make_tensor_value_info(name, TensorProto.INT64, list(axes))
        return name

    def constant(self, values: Any, dtype: Any = numpy.float32) -> str:
        """A tensor, array or number stored in the file. Equal constants are stored once."""
        if isinstance(values, torch.Tensor):
            values = values.detach().cpu().numpy()
        array = numpy.ascontiguousarray(values, dtype=dtype).reshape(numpy.shape(values))
        # A digest, because the bytes would be a second copy of all weights.
        key = str(array.dtype), array.shape, hashlib.sha256(array.data).digest()
        if key not in self._constants:
            self._constants[key] = numpy_helper.from_array(array, f"constant_{len(self._constants)}")
        return self._constants[key].name

    def integers(self, *values: int) -> str:
        """A vector of int64 constants."""
        return self.constant(values, numpy.int64)

    def node(self, kind: str, *inputs: str | None, domain: str = "", **attributes: Any) -> str:
        """Add an operator with one output. `None` stands for an omitted optional input."""
        return self.nodes(kind, inputs, 1, domain, **attributes)[0]

    def nodes(
        self, kind: str, inputs: Sequence[str | None], count: int, domain: str = "", **attributes: Any
    ) -> list[str]:
        """Add an operator with `count` outputs."""
        outputs = [f"{kind.lower()}_{len(self._nodes)}_{number}" for number in range(count)]
        names = [name or "" for name in inputs]
        self._nodes.append(helper.make_node(kind, names, outputs, domain=domain, **attributes))
        return outputs

    def concat(self, parts: Sequence[str], axis: int = -1) -> str:
        """The concatenation of tensors, or the tensor itself if there is one."""
        return parts[0] if len(parts) == 1 else self.node("Concat", *parts, axis=axis)

    def reshape(self, tensor: str, *shape: int) -> str:
        """Reshape a tensor. As in ONNX, 0 copies an axis and -1 is inferred."""
        return self.node("Reshape", tensor, self.integers(*shape))

    def transpose(self, tensor: str, *axes: int) -> str:
        """The tensor with its axes in this order."""
        return self.node("Transpose", tensor, perm=axes)

    def positions(self, tensor: str, axis: int) -> str:
        """The int64 numbers from 0 to the length of an axis."""
        length = self.node("Gather", self.node("Shape", tensor), self.constant(axis, numpy.int64), axis=0)
        return self.node("Range", self.constant(0, numpy.int64), length, self.constant(1, numpy.int64))

    def linear(self, tensor: str, weight: Any, bias: Any = None) -> str:
        """A linear layer with torch's weight, shape (output size, input size)."""
        product = self.node("MatMul", tensor, self.constant(numpy.asarray(weight).T))
        return product if bias is None else self.node("Add", product, self.constant(bias))

    def table(self, weight: torch.Tensor, ids: str) -> str:
        """
        Look up rows of an embedding table, shape (number of rows, D), by int64 `ids`. The result is float32 and has the
        shape of `ids` plus an axis of D.
        """
        if self.int8_embeddings:
            values = weight.detach().float()
            scales = values.abs().amax(1, keepdim=True).clamp(min=1e-30) / 127
            rows = self.node("Gather", self.constant((values / scales).round(), numpy.int8), ids, axis=0)
            scale = self.node("Gather", self.constant(scales), ids, axis=0)
            return self.node("Mul", self.node("Cast", rows, to=TensorProto.FLOAT), scale)
        if weight.dtype == torch.float16:
            rows = self.node("Gather", self.constant(weight, numpy.float16), ids, axis=0)
            return self.node("Cast", rows, to=TensorProto.FLOAT)
        return self.node("Gather", self.constant(weight), ids, axis=0)

    def body(self, name: str, inputs: Sequence[str], outputs: Sequence[str]) -> onnx.GraphProto:
        """This graph as the body of a `Scan`, with its constants."""
        return helper.make_graph(
            self._nodes, name, _untyped(inputs), _untyped(outputs), list(self._constants.values())
        )

    def serialize(self, output: str, metadata: dict[str, str]) -> bytes:
        """
        The file. `output` are the scores, shape (B, T, N), named "emissions" in it.

        Raises `NotExportable` if the file would exceed the size limit of the format.
        """
        size = sum(len(constant.raw_data) for constant in self._constants.values())
        if size > _MAX_BYTES:
            raise NotExportable(
                f"The model has {size / 2**30:.1f} GiB of weights, but an .onnx file holds less than 2: export it with "
                f"--int8-embeddings or --keep-words."
            )
        self._nodes.append(helper.make_node("Identity", [output], ["emissions"]))
        emissions = helper.make_tensor_value_info("emissions", TensorProto.FLOAT, ["batch", "steps", "tags"])
        graph = helper.make_graph(
            self._nodes, "tagger", list(self._inputs.values()), [emissions], list(self._constants.values())
        )
        domains = {node.domain for node in self._nodes} - {""}
        opsets = [helper.make_opsetid("", _OPSET), *(helper.make_opsetid(domain, 1) for domain in domains)]
        model = helper.make_model(
            graph, opset_imports=opsets, ir_version=_IR_VERSION, producer_name="ldnet_allennlp"
        )
        helper.set_model_props(model, metadata)
        return model.SerializeToString()


def _untyped(names: Sequence[str]) -> list[onnx.ValueInfoProto]:
    return [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names]
