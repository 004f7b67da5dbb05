"""
Load files of `torch.save` after a check of their tensors' sizes and for code.

Two formats are supported: today's zip file, and the format of torch up to 1.5, which the original LD-Net wrote (five
pickles, then the numbers). The check reads names and sizes only; `torch.load(weights_only=True)` reads the numbers.
"""

import io
import math
import os
import struct
import zipfile
from typing import Any, BinaryIO, NamedTuple

import torch
from allennlp.common.checks import ConfigurationError

from ldnet_allennlp.common.untrusted.pickles import UnsafePickle, read_part

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_WHAT = "a file of torch.save (weights, a checkpoint)"
_STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_ZIP_MAGIC = b"PK\x03\x04"
_DIRECTORY_END, _DIRECTORY_END_64, _LOCATOR = struct.Struct("<4s4H2LH"), struct.Struct("<4sQ2H2L4Q"), 20


class _Storage(NamedTuple):
    """A storage that the pickle refers to; its numbers are outside the pickle."""

    key: str
    dtype: torch.dtype
    size: int

    @property
    def num_bytes(self) -> int:
        return self.size * self.dtype.itemsize


class _Tensor(NamedTuple):
    """Stand-in for a tensor."""

    storage: _Storage


def _rebuild(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> _Tensor:
    """Stand-in for `torch._utils._rebuild_tensor_v2`. Raises `ValueError` if the tensor exceeds its storage."""
    if not isinstance(storage, _Storage) or not isinstance(size, tuple) or not isinstance(stride, tuple):
        raise ValueError("a tensor has an invalid description")
    fields = (offset, *size, *stride)
    if len(size) != len(stride) or not all(type(field) is int and field >= 0 for field in fields):
        raise ValueError(f"a tensor has the size {size!s:.80} and the strides {stride!s:.80}")
    last = offset + sum((length - 1) * step for length, step in zip(size, stride))
    # Overlapping strides would make a huge tensor of few numbers.
    if 0 not in size and (last >= storage.size or math.prod(size) > storage.size):
        raise ValueError(f"a tensor of size {size!s:.80} exceeds its {storage.size} numbers")
    return _Tensor(storage)


def _rebuild_parameter(data: Any, *_: Any) -> Any:
    return data


_NAMES = {
    ("torch._utils", "_rebuild_tensor"): _rebuild,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    **{("torch", name): dtype for name, dtype in _STORAGES.items()},
}


def read_torch_file(path: str) -> Any:
    """
    Load a file of `torch.save`: dictionaries, lists, numbers, strings and tensors, on the CPU.

    Raises `ConfigurationError` like `check_torch_file`.
    """
    check_torch_file(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of a damaged file torch raises anything
        raise ConfigurationError(f"{_expected(path)}, but torch cannot read it: {error!s:.200}") from error


def check_torch_file(path: str) -> None:
    """
    Check the names and the sizes in a file of `torch.save`, without torch.

    Raises `ConfigurationError` if the file is damaged, truncated or of another kind, or if a tensor exceeds its
    storage, and its subclass `UnsafePickle` if the file names anything that tensors do not need.
    """
    with open(path, "rb") as file:
        try:
            is_zip = file.read(len(_ZIP_MAGIC)) == _ZIP_MAGIC  # torch's criterion
            file.seek(0)
            (_check_zip if is_zip else _check_legacy)(file, path)
        except UnsafePickle:
            raise
        except (ValueError, KeyError, TypeError, struct.error, zipfile.BadZipFile, EOFError) as error:
            raise ConfigurationError(
                f"{_expected(path)}, but it is damaged, truncated or of another kind: {error!s:.300}"
            ) from error


def _expected(path: str) -> str:
    return f"'{path}' was expected to be {_WHAT}"


class _Storages:
    """Collects the storages that a pickle refers to."""

    def __init__(self) -> None:
        self.by_key: dict[str, _Storage] = {}

    def __call__(self, reference: Any) -> _Storage:
        # ("storage", type, key, device, number of elements, and in old files a view, which is None)
        if not (isinstance(reference, tuple) and len(reference) >= 5 and reference[0] == "storage"):
            raise ValueError("a storage has an invalid description")
        dtype, key, _, size = reference[1:5]
        if not (isinstance(dtype, torch.dtype) and isinstance(key, str) and type(size) is int and size >= 0):
            raise ValueError("a storage has no type or size")
        if len(reference) > 5 and reference[5] is not None:
            raise ValueError("a storage is part of another one")
        storage = _Storage(key, dtype, size)
        if self.by_key.setdefault(key, storage) != storage:
            raise ValueError(f"the storage {key!r:.40} is described in two ways")
        return storage


def _check_legacy(file: BinaryIO, path: str) -> None:
    storages = _Storages()
    if read_part(file, path, _WHAT) != _MAGIC or read_part(file, path, _WHAT) != _PROTOCOL:
        raise ValueError("it does not begin like a file of torch")
    system = read_part(file, path, _WHAT)
    if not isinstance(system, dict) or not system.get("little_endian", True):
        raise ValueError("it has another byte order than this machine")
    read_part(file, path, _WHAT, names=_NAMES, persistent_load=storages)
    keys = read_part(file, path, _WHAT)
    if (
        not isinstance(keys, list)
        or len(keys) != len(storages.by_key)
        or not all(isinstance(key, str) and key in storages.by_key for key in keys)
        or len(set(keys)) != len(keys)
    ):
        raise ValueError("its storages are not those that it names")
    end = os.fstat(file.fileno()).st_size
    for key in keys:
        storage = storages.by_key[key]
        (size,) = struct.unpack("<q", file.read(8))
        if size != storage.size or file.tell() + storage.num_bytes > end:
            raise ValueError(f"the storage {key!r:.40} of {storage.size} numbers is incomplete")
        file.seek(storage.num_bytes, os.SEEK_CUR)


def _check_zip(file: BinaryIO, path: str) -> None:
    _check_directory_end(file)
    with zipfile.ZipFile(file) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        # In lower case, because torch's reader is case-insensitive.
        names = {name.lower() for name in entries}
        pickles = [name for name in entries if name.lower().endswith(".pkl")]
        if len(names) != len(archive.infolist()) or len(pickles) != 1 or not pickles[0].endswith("/data.pkl"):
            raise ValueError(f"it has the parts {', '.join(sorted(entries))!r:.200}")
        # torch stores without compression: anything else is a bomb.
        packed = [name for name, entry in entries.items() if entry.compress_type != zipfile.ZIP_STORED]
        if packed or any(entry.compress_size != entry.file_size for entry in entries.values()):
            raise ValueError("its parts are compressed, unlike those of torch")
        folder = pickles[0][: -len("data.pkl")]
        storages = _Storages()
        stream = io.BytesIO(archive.read(pickles[0]))
        read_part(stream, path, _WHAT, names=_NAMES, persistent_load=storages)
        for storage in storages.by_key.values():
            entry = entries.get(f"{folder}data/{storage.key}")
            if entry is None or entry.file_size != storage.num_bytes:
                raise ValueError(f"the storage {storage.key!r:.40} of {storage.size} numbers is incomplete")
            if entry.header_offset + entry.file_size > archive.start_dir:
                raise ValueError(f"the storage {storage.key!r:.40} lies beyond the end of the file")


def _check_directory_end(file: BinaryIO) -> None:
    """
    Check that the directory of a zip file is at the end of the file, where both `zipfile` and torch look for it.
    Otherwise the two could read different members.
    """
    end = file.seek(0, os.SEEK_END)
    tail_size = _DIRECTORY_END.size
    file.seek(max(0, end - tail_size - _LOCATOR - _DIRECTORY_END_64.size))
    tail = file.read()
    magic, *_, size, offset, comment = _DIRECTORY_END.unpack(tail[-tail_size:])
    if tail[-tail_size - _LOCATOR :].startswith(b"PK\x06\x07"):
        magic_64, *_, size, offset = _DIRECTORY_END_64.unpack(tail[: _DIRECTORY_END_64.size])
        if magic_64 != b"PK\x06\x06":
            raise ValueError("it does not end as torch ends a file")
        tail_size = len(tail)
    if magic != b"PK\x05\x06" or comment != 0 or offset + size + tail_size != end:
        raise ValueError("it does not end as torch ends a file")
