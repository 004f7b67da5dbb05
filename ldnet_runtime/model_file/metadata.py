"""JSON form of a `TaggerDescription`: written by the exporter, read with type checks of all entries."""

import json
import math
from dataclasses import fields
from typing import Any

import numpy
from numpy.typing import NDArray

from ldnet_runtime.errors import ModelFileError
from ldnet_runtime.model_file.description import (
    Input,
    SentenceCharacterInput,
    TaggerDescription,
    WordCharacterInput,
    WordInput,
    expect,
)

FORMAT = 1
METADATA_KEY = "ldnet"

_INPUTS: dict[str, type[Input]] = {
    one.kind: one for one in (WordInput, WordCharacterInput, SentenceCharacterInput)
}


def to_json(description: TaggerDescription) -> str:
    """The text for the file's metadata, under `METADATA_KEY`."""
    allowed, boundary_tags = None, None
    if description.allowed is not None:
        allowed = ["".join("01"[int(cell)] for cell in row) for row in description.allowed]
    if description.boundary_tags is not None:
        boundary_tags = dict(zip(("start", "end"), map(int, description.boundary_tags)))
    content = {
        "format": FORMAT,
        "vocabularies": {name: list(tokens) for name, tokens in description.vocabularies.items()},
        "inputs": [{"kind": one.kind, **vars(one)} for one in description.inputs],
        "labels": list(description.labels),
        "label_encoding": description.label_encoding,
        **{name: getattr(description, name).tolist() for name in ("transitions", "start", "end")},
        "allowed": allowed,
        "end_token": description.end_token,
        "boundary_tags": boundary_tags,
        "decoder": description.decoder,
        "tokenizer": {"type": description.mode, "language": description.language},
        "provenance": dict(description.provenance),
    }
    return json.dumps(content)


def from_json(text: str) -> TaggerDescription:
    """The inverse of `to_json`. Raises a `ModelFileError` that names an invalid entry."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"the metadata {METADATA_KEY!r} are not valid JSON: {error}") from error
    get = _Getter(content, "the metadata")
    number = get("format", int)
    if number != FORMAT:
        raise ModelFileError(
            f"the format is {number}; this version of ldnet_runtime reads {FORMAT}: update it"
        )
    size = len(get.strings("labels"))
    boundary_tags = get("boundary_tags", dict, optional=True)
    tokenizer = _Getter(get("tokenizer", dict), "tokenizer")
    pair = None if boundary_tags is None else _Getter(boundary_tags, "boundary_tags")
    vocabularies = _Getter(get("vocabularies", dict), "vocabularies")
    provenance = _Getter(get("provenance", dict), "provenance")
    return TaggerDescription(
        vocabularies={name: vocabularies.strings(name) for name in vocabularies.names},
        inputs=[_read_input(one) for one in get("inputs", list)],
        labels=get.strings("labels"),
        label_encoding=get("label_encoding", str, optional=True),
        transitions=get.numbers("transitions", (size, size)),
        start=get.numbers("start", (size,)),
        end=get.numbers("end", (size,)),
        allowed=_read_allowed(get("allowed", list, optional=True), size + 2),
        end_token=get("end_token", str, optional=True),
        boundary_tags=None if pair is None else (pair("start", int), pair("end", int)),
        decoder=get("decoder", str),
        mode=tokenizer("type", str),
        language=tokenizer("language", str),
        provenance={name: provenance(name, str) for name in provenance.names},
    )


def _read_input(content: Any) -> Input:
    get = _Getter(content, "an input")
    kind = get("kind", str)
    if kind not in _INPUTS:
        raise ModelFileError(f"an input has the kind {kind!r}; expected one of {', '.join(_INPUTS)}")
    values: dict[str, Any] = {}
    for entry in fields(_INPUTS[kind]):
        if entry.name in ("start", "end"):
            numbers = get(entry.name, list)
            expect(
                all(type(number) is int for number in numbers),
                f"{entry.name} of an input is not a list of ids",
            )
            values[entry.name] = tuple(numbers)
        elif entry.name == "lowercase":
            values[entry.name] = get(entry.name, bool)
        elif entry.name == "min_length":
            values[entry.name] = get(entry.name, int)
        else:
            optional = entry.name == "end_position" or (entry.name == "vocabulary" and kind != WordInput.kind)
            values[entry.name] = get(entry.name, str, optional=optional)
    return _INPUTS[kind](**values)


def _read_allowed(rows: list[Any] | None, size: int) -> NDArray[numpy.bool_] | None:
    if rows is None:
        return None
    strings = len(rows) == size and all(isinstance(row, str) and len(row) == size for row in rows)
    if not strings or set("".join(rows)) - set("01"):
        raise ModelFileError(f"allowed is not {size} strings of {size} zeros and ones")
    return numpy.array([[cell == "1" for cell in row] for row in rows], dtype=numpy.bool_)


class _Getter:
    """Reads the entries of a JSON object and checks their types."""

    def __init__(self, content: Any, where: str) -> None:
        expect(isinstance(content, dict), f"{where}: expected an object, but it is {type(content).__name__}")
        self._content: dict[str, Any] = content
        self._where = where
        self.names = list(content)

    def __call__(self, name: str, kind: type, optional: bool = False) -> Any:
        value = self._content.get(name)
        if value is None and optional:
            return None
        if type(value) is not kind:
            found = "missing" if value is None else f"of type {type(value).__name__}"
            raise ModelFileError(f"{self._where}: {name!r} is {found}; expected {kind.__name__}")
        return value

    def strings(self, name: str) -> list[str]:
        """A list of strings."""
        value = self(name, list)
        expect(all(type(one) is str for one in value), f"{self._where}: {name!r} is not a list of strings")
        return value

    def numbers(self, name: str, shape: tuple[int, ...]) -> NDArray[numpy.float32]:
        """A list of numbers, or of lists of numbers."""
        rows = self(name, list)
        flat: list[Any] = rows
        if len(shape) == 2:
            regular = len(rows) == shape[0] and all(
                type(row) is list and len(row) == shape[1] for row in rows
            )
            flat = [number for row in rows for number in row] if regular else []
        right = len(flat) == math.prod(shape) and all(type(number) in (int, float) for number in flat)
        expect(right, f"{self._where}: {name!r} is not an array of numbers of the shape {shape}")
        limited = [float(number) if abs(number) < 1e38 else math.inf for number in flat]
        return numpy.array(limited, numpy.float32).reshape(shape)
