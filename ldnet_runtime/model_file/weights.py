"""
Memory-mapped weights: ONNX Runtime maps large weights from the file instead of copying them.

Word vectors make up most of a tagger's file, and a text needs only a few of them. With mapping, only the pages in use
take memory, shared by all processes.
"""

from ldnet_runtime.model_file.protobuf import GRAPH, MODEL, TENSOR, encoded_bytes, encoded_varint, fields

# Smaller weights are not worth mapping: LSTMs copy theirs to another layout anyway.
_MIN_SIZE = 1 << 20
_GRAPH, _INITIALIZER, _EXTERNAL_DATA, _DATA_LOCATION = 7, 5, 13, 14
_EXTERNAL = 1


def without_large_weights(data: memoryview, location: str) -> bytes | None:
    """
    # Parameters

    data : `memoryview`
        A model that has passed `check_onnx`.
    location : `str`
        The name of its file.

    # Returns

    `bytes`, optional
        The same model, with file positions instead of its large weights; `None` if it has none.
    """
    content = bytearray()
    num_mapped = 0
    for field in fields(data, 0, len(data), MODEL, "the model"):
        if field.name != "graph":
            content += data[field.begin : field.stop]
            continue
        graph = bytearray()
        for part in fields(data, field.start, field.stop, GRAPH, "the graph"):
            if part.name == "initializer" and part.stop - part.start > _MIN_SIZE:
                graph += encoded_bytes(_INITIALIZER, _placed(data, part.start, part.stop, location))
                num_mapped += 1
            else:
                graph += data[part.begin : part.stop]
        content += encoded_bytes(_GRAPH, bytes(graph))
    return bytes(content) if num_mapped else None


def _placed(data: memoryview, start: int, stop: int, location: str) -> bytes:
    """A tensor with the position of its data."""
    tensor = bytearray()
    for part in fields(data, start, stop, TENSOR, "a tensor"):
        if part.name != "raw_data":
            tensor += data[part.begin : part.stop]
            continue
        place = {"location": location, "offset": str(part.start), "length": str(part.stop - part.start)}
        for name, value in place.items():
            entry = encoded_bytes(1, name.encode()) + encoded_bytes(2, value.encode())
            tensor += encoded_bytes(_EXTERNAL_DATA, entry)
    return bytes(tensor + encoded_varint(_DATA_LOCATION << 3) + encoded_varint(_EXTERNAL))
