"""Read a model file, after a check of its bytes."""

import mmap
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ldnet_runtime.errors import ModelFileError
from ldnet_runtime.model_file.description import EMISSIONS, TaggerDescription
from ldnet_runtime.model_file.metadata import METADATA_KEY, from_json
from ldnet_runtime.model_file.onnx_check import check_onnx
from ldnet_runtime.model_file.weights import without_large_weights

_FIRST_BYTE = b"\x08"  # of the field ir_version, which every ONNX file begins with


class ModelFile(NamedTuple):
    """
    A checked file: its description; its size and modification time at the check; and, if it has large weights, the
    model without them, see `without_large_weights`.
    """

    description: TaggerDescription
    fingerprint: tuple[int, int]
    mapped: bytes | None = None


def read_model_file(source: str | os.PathLike[str] | bytes) -> ModelFile:
    """
    Check a model file, or its bytes, and read its description, without ONNX Runtime.

    Raises `ModelFileError`, with the path, if the exporter has not written it, and `OSError` if it cannot be read.
    """
    if isinstance(source, bytes):
        return ModelFile(_described(lambda: _check(memoryview(source)), "the model"), (len(source), 0))
    path = Path(source)
    with open(path, "rb") as file:
        status = os.fstat(file.fileno())
        if not path.is_file() or status.st_size == 0:
            raise ModelFileError(
                f"{path}: expected an exported tagger (.onnx), but it is empty or not a regular file"
            )
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as memory, memoryview(memory) as data:
            description = _described(lambda: _check(data), str(path))
            mapped = without_large_weights(data, path.resolve().name)
    return ModelFile(description, (status.st_size, status.st_mtime_ns), mapped)


def check_model(data: bytes) -> TaggerDescription:
    """`read_model_file` for the bytes of a file."""
    return read_model_file(data).description


def _described(check: Callable[[], TaggerDescription], name: str) -> TaggerDescription:
    message = ""
    try:
        return check()
    except ModelFileError as error:
        message = f"{name}: {error}."
    # Raised outside the handler, because the traceback would keep the mapped file open.
    raise ModelFileError(message)


def _check(data: memoryview) -> TaggerDescription:
    try:
        summary = check_onnx(data)
    except ModelFileError:
        if data[:1] == _FIRST_BYTE:
            raise
        raise ModelFileError(
            "this is not an ONNX file; expected a tagger that 'allennlp ldnet-export' has written"
        ) from None
    if METADATA_KEY not in summary.metadata:
        raise ModelFileError(
            f"the ONNX file has no metadata {METADATA_KEY!r}; expected a file of 'allennlp ldnet-export'"
        )
    description = from_json(summary.metadata[METADATA_KEY])
    if sorted(summary.inputs) != sorted(description.tensors) or summary.outputs != [EMISSIONS]:
        raise ModelFileError(
            f"the graph reads {sorted(summary.inputs)} and returns {summary.outputs}; expected "
            f"{sorted(description.tensors)} and {[EMISSIONS]}"
        )
    return description
