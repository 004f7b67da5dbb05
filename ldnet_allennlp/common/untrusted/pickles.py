"""
Read pickles and files of `torch.save` without executing them.

A pickle is a program that names functions and calls them. Pickles of the original LD-Net are read here: a few names map
to harmless stand-ins, all other names are errors before any lookup, and memory and time are proportional to the size of
the file. Weights are read by `torch.load(weights_only=True)`, after the same check of names and keys: torch alone would
hash nested tuples, which can take exponential time.
"""

import contextlib
import io
import os
import pickle
import pickletools
import re
import struct
import zipfile
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, ClassVar

import numpy
import torch
from allennlp.common.checks import ConfigurationError

_SCALAR_KINDS = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")
_PythonUnpickler: Any = pickle._Unpickler  # type: ignore[attr-defined]
# Extensions, sets, byte arrays (their claimed length is allocated), instances of classes.
_REFUSED = (
    *(pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.EMPTY_SET, pickle.ADDITEMS, pickle.FROZENSET),
    *(pickle.BYTEARRAY8, pickle.NEXT_BUFFER, pickle.READONLY_BUFFER),
    *(pickle.INST, pickle.OBJ, pickle.NEWOBJ, pickle.NEWOBJ_EX, pickle.DICT),
)
_TORCH_FILE = "a file of torch.save (weights, a checkpoint)"
_ZIP_MAGIC = b"PK\x03\x04"
# The last parts of a zip file. Only zip64 files have the first two.
_END_64, _LOCATOR_64, _END = struct.Struct("<4sQ2H2L4Q"), struct.Struct("<4sLQL"), struct.Struct("<4s4H2LH")


_STORAGES = ("Double", "Float", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")
_TORCH_NAMES = {
    *(("torch._utils", name) for name in ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter")),
    *(("torch", f"{kind}Storage") for kind in _STORAGES),
}


class UnsafePickle(ConfigurationError):
    """A pickle names functions that plain data do not need."""


class _ScalarKind(str):
    """Stand-in for `numpy.dtype`: the name of a numeric type."""


def _dtype(kind: str, *_: Any) -> _ScalarKind:
    if kind not in _SCALAR_KINDS:
        raise UnsafePickle(f"it has a number of the kind {_shown(kind)}")
    return _ScalarKind(kind)


def _scalar(kind: Any, value: Any) -> Any:
    """Stand-in for `numpy.core.multiarray.scalar`: returns a Python number."""
    if not isinstance(kind, _ScalarKind):
        raise ValueError("a number has no type")
    data = value.encode("latin-1") if isinstance(value, str) else value
    return numpy.frombuffer(data, dtype=f"<{kind}", count=1)[0].item()


def _encode(text: str, encoding: str) -> bytes:
    """Stand-in for `_codecs.encode`, which protocol 2 uses for bytes."""
    if encoding not in ("latin1", "latin-1"):
        raise UnsafePickle(f"it has bytes in the encoding {_shown(encoding)}")
    return text.encode("latin-1")


def _shown(value: Any) -> str:
    """A value for messages. Nested tuples would take exponential time to print."""
    return f"{value!r:.40}" if isinstance(value, str) else type(value).__name__


class _Instructions(dict[int, Callable]):
    """The allowed instructions of a pickle by their codes; all others are errors."""

    def __missing__(self, code: int) -> Callable:
        names = {opcode.code: opcode.name for opcode in pickletools.opcodes}
        raise pickle.UnpicklingError(
            f"it has the pickle instruction {names.get(chr(code), chr(code))!r}, which torch and protocol 2 do not "
            f"write for plain data"
        )


class RestrictedUnpickler(_PythonUnpickler):
    """
    An unpickler that allows only the names in `HARMLESS`.

    Subclasses the Python implementation. The C implementation allocates its memo by the largest index, so nine bytes
    can request gigabytes.
    """

    HARMLESS: ClassVar[dict[tuple[str, str], Callable]] = {
        ("collections", "OrderedDict"): lambda: {},
        ("numpy", "dtype"): _dtype,
        ("numpy.core.multiarray", "scalar"): _scalar,
        ("numpy._core.multiarray", "scalar"): _scalar,
        ("_codecs", "encode"): _encode,
    }
    dispatch: ClassVar[_Instructions] = _Instructions(
        (code, load) for code, load in _PythonUnpickler.dispatch.items() if bytes([code]) not in _REFUSED
    )

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for a name. Raises `UnsafePickle` for any other name."""
        if (module, name) not in self.HARMLESS:
            raise UnsafePickle(f"it names {f'{module}.{name}'!r:.100}")
        return self.HARMLESS[module, name]

    def _set_items(self, items: list[Any]) -> None:
        for key, value in zip(items[::2], items[1::2]):
            # Nested tuples as keys would take exponential time to hash.
            if not isinstance(key, (str, bytes, int, float, type(None))):
                raise pickle.UnpicklingError(f"a dictionary has a key of the type {type(key).__name__}")
            self.stack[-1][key] = value

    dispatch[pickle.SETITEMS[0]] = lambda self: self._set_items(self.pop_mark())
    dispatch[pickle.SETITEM[0]] = lambda self: self._set_items([self.stack.pop(), self.stack.pop()][::-1])

    def _load_build(self) -> None:
        state = self.stack.pop()
        if not isinstance(self.stack[-1], _ScalarKind) or ">" in state:  # of another byte order
            raise pickle.UnpicklingError("it changes an object, or has numbers of another byte order")

    dispatch[pickle.BUILD[0]] = _load_build


class _WeightsChecker(RestrictedUnpickler):
    """Reads a pickle of `torch.save` with `None` in place of tensors."""

    dispatch: ClassVar[_Instructions] = _Instructions(RestrictedUnpickler.dispatch)
    dispatch[pickle.BUILD[0]] = lambda self: self.stack.pop()  # the metadata of a state dict

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _TORCH_NAMES:
            return lambda *_: None
        if (module, name) != ("collections", "OrderedDict"):
            raise UnsafePickle(f"it names {f'{module}.{name}'!r:.100}")
        return self.HARMLESS[module, name]

    def persistent_load(self, reference: Any) -> None:
        if any(isinstance(part, (tuple, dict, list)) for part in reference):
            raise ValueError("a storage has an invalid description")


def read_pickle(path: str, what: str) -> Any:
    """
    Read the only object in a pickle file. `what` is the expected kind of file, for messages.

    Raises `ConfigurationError` if the pickle is damaged, and its subclass `UnsafePickle` if it names functions.
    """
    with open(path, "rb") as file:
        content = io.BytesIO(file.read())
    with _named_errors(path, what):
        return RestrictedUnpickler(content, encoding="utf-8").load()


def check_torch_file(path: str) -> None:
    """
    Check the pickles in a file of `torch.save`, before torch reads them.

    Raises `ConfigurationError` if the file is damaged, truncated or of another kind, and its subclass `UnsafePickle` if
    the file names anything that tensors do not need.
    """
    with _named_errors(path, _TORCH_FILE), open(path, "rb") as file:
        if file.read(len(_ZIP_MAGIC)) == _ZIP_MAGIC:  # torch's criterion
            _WeightsChecker(io.BytesIO(_pickle_of_zip(file))).load()
        else:  # torch up to 1.5: five pickles before the numbers
            file.seek(0)
            for _ in range(5):
                _WeightsChecker(file).load()


def read_torch_file(path: str) -> Any:
    """
    Load a file of `torch.save`: dictionaries, lists, numbers, strings and tensors, on the CPU.

    Raises `ConfigurationError` as `check_torch_file` does, and if a tensor exceeds its numbers.
    """
    check_torch_file(path)
    with _named_errors(path, _TORCH_FILE):
        data = torch.load(path, map_location="cpu", weights_only=True)
        _check_sizes(data, set())
        return data


def _pickle_of_zip(file: BinaryIO) -> bytes:
    """
    The pickle in a zip file of torch. Raises `ValueError` for compressed parts, which unpack to an unknown size, and
    where `zipfile` and torch could read different pickles: if the directory is not directly before the end of the file,
    or if several parts may be the pickle (torch ignores case).
    """
    _check_directory_end(file)
    size = file.seek(0, os.SEEK_END)
    with zipfile.ZipFile(file) as archive:
        parts = archive.infolist()
        if sum(part.file_size for part in parts) > size:
            raise ValueError("its parts are compressed, unlike those of torch")
        pickles = [part for part in parts if part.filename.lower().endswith(".pkl")]
        if len(pickles) != 1:
            raise ValueError(f"it has {len(pickles)} pickles")
        return archive.read(pickles[0])


def _check_directory_end(file: BinaryIO) -> None:
    directory_end = file.seek(0, os.SEEK_END) - _END.size
    file.seek(max(0, directory_end - _LOCATOR_64.size - _END_64.size))
    tail = file.read()
    magic, *_, length, start, comment = _END.unpack(tail[-_END.size :])
    locator = tail[-_END.size - _LOCATOR_64.size : -_END.size]
    if locator.startswith(b"PK\x06\x07"):
        directory_end -= _LOCATOR_64.size + _END_64.size
        magic_64, *_, length, start = _END_64.unpack(tail[: _END_64.size])
        if magic_64 != b"PK\x06\x06" or _LOCATOR_64.unpack(locator)[2] != directory_end:
            raise ValueError("it does not end like a file of torch")
    if magic != b"PK\x05\x06" or comment or start + length != directory_end:
        raise ValueError("it does not end like a file of torch")


def _check_sizes(node: Any, seen: set[int]) -> None:
    """Raise `ValueError` for a huge tensor of few numbers, made by overlapping strides."""
    if isinstance(node, torch.Tensor):
        if node.nbytes > node.untyped_storage().nbytes():
            raise ValueError(f"a tensor of size {tuple(node.shape)} exceeds its numbers")
    elif isinstance(node, (dict, list, tuple)) and id(node) not in seen:
        seen.add(id(node))
        for child in node.values() if isinstance(node, dict) else node:
            _check_sizes(child, seen)


@contextlib.contextmanager
def _named_errors(path: str, what: str) -> Iterator[None]:
    """Context that turns all errors into `ConfigurationError`s with the path."""
    try:
        yield
    except UnsafePickle as error:
        raise UnsafePickle(
            f"'{path}' was expected to be {what}, but {error.message}, which such a file does not need. Reading "
            f"stopped there, and nothing in it was executed."
        ) from error
    except Exception as error:  # a damaged file can lead to any error
        reason = " ".join(without_advice(str(error)).split())
        raise ConfigurationError(
            f"'{path}' was expected to be {what}, but it is damaged, truncated or of another kind: {reason:.200}"
        ) from error


def without_advice(message: str) -> str:
    """An error message of torch without its advice to execute the file."""
    advice = r"(?s)Weights only load failed.*?WeightsUnpickler error:|Check the documentation.*"
    return re.sub(advice, "", message)
