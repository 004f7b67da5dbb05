"""
Protobuf encoding of `onnx.proto`: walk over the fields of messages without copying their data.

Only the fields of an exported tagger are supported. Files are untrusted: every length is compared with the rest of the
file. Unknown fields and repeated singular fields are rejected, because parsers may interpret them differently.
"""

from collections.abc import Iterator
from typing import NamedTuple

from ldnet_runtime.errors import ModelFileError

_MAX_FIELDS = 1_000_000  # of one message: a graph of ours has some hundreds
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
# The fields of each message: number to name; those of `_REPEATED` may come more than once.
MODEL = {
    **{1: "ir_version", 2: "producer_name", 3: "producer_version", 4: "domain", 5: "model_version"},
    **{6: "doc_string", 7: "graph", 8: "opset_import", 14: "metadata_props"},
}
GRAPH = {
    **{1: "node", 2: "name", 5: "initializer", 10: "doc_string", 11: "input", 12: "output", 13: "value_info"},
    **{16: "metadata_props"},
}
NODE = {1: "input", 2: "output", 3: "name", 4: "op_type", 5: "attribute", 6: "doc_string", 7: "domain"}
ATTRIBUTE = {
    **{1: "name", 2: "f", 3: "i", 4: "s", 5: "t", 6: "g", 7: "floats", 8: "ints", 9: "strings"},
    **{13: "doc_string", 20: "type"},
}
TENSOR = {1: "dims", 2: "data_type", 8: "name", 9: "raw_data", 12: "doc_string"}
OPSET = {1: "domain", 2: "version"}
ENTRY = {1: "key", 2: "value"}
VALUE_INFO = {1: "name", 2: "type", 3: "doc_string", 4: "metadata_props"}
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
    """One field of a message: its start, its name, and its number or the position of its bytes."""

    begin: int
    name: str
    number: int
    start: int
    stop: int


def message(data: memoryview, field: Field, names: dict[int, str], what: str) -> dict[str, Field]:
    """The singular fields of a message."""
    return {part.name: part for part in fields(data, field.start, field.stop, names, what)}


def text_of(data: memoryview, field: Field | None) -> str:
    """The text of a field, "" if it is missing."""
    if field is None:
        return ""
    try:
        return str(data[field.start : field.stop], "utf-8")
    except UnicodeDecodeError as error:
        raise ModelFileError(f"the {field.name} at byte {field.start} is not UTF-8") from error


def integers(data: memoryview, field: Field) -> list[int]:
    """A repeated number, packed or not."""
    if field.start == field.stop:
        return [field.number]
    numbers, position = [], field.start
    while position < field.stop:
        number, position = varint(data, position, field.stop)
        numbers.append(number)
    return numbers


def fields(data: memoryview, start: int, stop: int, names: dict[int, str], what: str) -> Iterator[Field]:
    """The fields of a message between two positions; `names` are the expected ones."""
    seen: set[str] = set()
    position, count = start, 0
    while position < stop:
        begin = position
        key, position = varint(data, position, stop)
        number, wire_type = key >> 3, key & 7
        name = names.get(number)
        count += 1
        if name is None or (name in seen and name not in _REPEATED) or count > _MAX_FIELDS:
            raise ModelFileError(f"{what} has the field {number} at byte {position}, which is unexpected")
        seen.add(name)
        value, size = 0, 0
        if wire_type == _VARINT:
            value, position = varint(data, position, stop)
        elif wire_type == _BYTES:
            size, position = varint(data, position, stop)
        elif wire_type in (_FIXED64, _FIXED32):
            size = 8 if wire_type == _FIXED64 else 4
        else:
            raise ModelFileError(f"{what} is damaged at byte {position}")
        if size > stop - position:
            raise ModelFileError(
                f"{what} is cut off: {size} bytes at byte {position}, but {stop - position} are left"
            )
        yield Field(begin, name, value, position, position + size)
        position += size


def varint(data: memoryview, position: int, stop: int) -> tuple[int, int]:
    """A variable-length number, and the position after it."""
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


def encoded_varint(number: int) -> bytes:
    """The inverse of `varint`."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def encoded_bytes(number: int, content: bytes) -> bytes:
    """Encode a field of bytes, text or a message."""
    return encoded_varint(number << 3 | _BYTES) + encoded_varint(len(content)) + content
