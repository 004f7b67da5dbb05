"""
Reading what `torch.save` wrote, with any version of torch, without executing anything in it.

`torch.load(weights_only=True)` exists from torch 1.13 on only, and its reader of old files could be made to execute
code up to 2.5. So the two containers are read here: the one of torch up to 1.5, which the original LD-Net wrote (five
pickles, then the raw numbers), and the zip file of later versions. Every storage becomes a tensor on the CPU,
whatever device it names.
"""

import io
import os
import struct
import zipfile
from typing import Any, BinaryIO, Dict, List, NamedTuple, Tuple

import torch
from allennlp.common.checks import ConfigurationError

from ldnet_allennlp.common.restricted_pickle import UnsafePickle, read_part

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_WHAT = "a checkpoint of the original LD-Net (a file of torch.save)"
_STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_SIZES = {dtype: torch.tensor([], dtype=dtype).element_size() for dtype in _STORAGES.values()}


class _Storage(NamedTuple):
    """A storage that the pickle names; its numbers may stand behind the pickle."""

    key: str
    dtype: torch.dtype
    size: int


class _TensorPlan:
    """What a tensor is made of, until its storage is read."""

    def __init__(
        self, storage: _Storage, offset: int, size: Tuple[int, ...], stride: Tuple[int, ...]
    ) -> None:
        self.storage, self.offset, self.size, self.stride = storage, offset, tuple(size), tuple(stride)

    def build(self, storages: Dict[str, torch.Tensor]) -> torch.Tensor:
        """The tensor, a copy. Raises `ValueError` if it does not lie within its storage."""
        numbers = storages[self.storage.key]
        fields = (self.offset, *self.size, *self.stride)
        if len(self.size) != len(self.stride) or not all(
            type(field) is int and field >= 0 for field in fields
        ):
            raise ValueError(f"a tensor has the size {self.size} and the strides {self.stride}")
        empty = 0 in self.size
        last = self.offset + sum((size - 1) * stride for size, stride in zip(self.size, self.stride))
        # A stride of 0 would make a huge tensor of few numbers.
        if any(stride == 0 and size > 1 for size, stride in zip(self.size, self.stride)) or (
            not empty and last >= numbers.numel()
        ):
            raise ValueError(
                f"a tensor of size {self.size} does not lie within its {numbers.numel()} numbers"
            )
        if empty:
            return torch.zeros(self.size, dtype=numbers.dtype)
        return numbers.as_strided(self.size, self.stride, self.offset).clone()


def _rebuild(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> _TensorPlan:
    if not isinstance(storage, _Storage) or not isinstance(size, tuple) or not isinstance(stride, tuple):
        raise ValueError("a tensor is not described as torch describes one")
    return _TensorPlan(storage, offset, size, stride)


def _rebuild_parameter(data: Any, *_: Any) -> Any:
    return data


_KNOWN = {
    ("torch._utils", "_rebuild_tensor"): _rebuild,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    **{("torch", name): dtype for name, dtype in _STORAGES.items()},
}


def read_torch_file(path: str) -> Any:
    """
    What `torch.save` wrote to a file: dictionaries, lists, numbers, strings and tensors, on the CPU.

    # Parameters

    path : `str`

    Raises `ConfigurationError` if the file is damaged, truncated or of another kind, and its subclass
    `UnsafePickle` if it names anything but what tensors need.
    """
    with open(path, "rb") as file:
        try:
            if zipfile.is_zipfile(file):
                return _read_zip(file, path)
            file.seek(0)
            return _read_legacy(file, path)
        except UnsafePickle:
            raise
        except (ValueError, KeyError, TypeError, struct.error, zipfile.BadZipFile, EOFError) as error:
            raise ConfigurationError(
                f"'{path}' was expected to be {_WHAT}, but it is damaged, truncated or of another kind: {error}"
            ) from error


def _storage_of(reference: Any) -> _Storage:
    # ("storage", type, key, device, number of elements, and in old files a view, which is None)
    if not (isinstance(reference, tuple) and len(reference) >= 5 and reference[0] == "storage"):
        raise ValueError("a storage is not described as torch describes one")
    dtype, key, _, size = reference[1:5]
    if not (isinstance(dtype, torch.dtype) and type(size) is int and size >= 0):
        raise ValueError("a storage has no type or size")
    if len(reference) > 5 and reference[5] is not None:
        raise ValueError("a storage is a part of another one, which LD-Net never wrote")
    return _Storage(str(key), dtype, size)


def _read_legacy(file: BinaryIO, path: str) -> Any:
    named: Dict[str, _Storage] = {}

    def resolve(reference: Any) -> _Storage:
        storage = _storage_of(reference)
        if named.setdefault(storage.key, storage) != storage:
            raise ValueError(f"the storage {storage.key} is described in two ways")
        return storage

    if read_part(file, path, _WHAT) != _MAGIC or read_part(file, path, _WHAT) != _PROTOCOL:
        raise ValueError("it does not begin as torch begins a file")
    system = read_part(file, path, _WHAT)
    if not isinstance(system, dict) or not system.get("little_endian", True):
        raise ValueError("it comes from a machine with another order of bytes")
    data = read_part(file, path, _WHAT, known=_KNOWN, persistent_load=resolve)
    keys = read_part(file, path, _WHAT)
    if not isinstance(keys, list) or {str(key) for key in keys} != set(named) or len(keys) != len(named):
        raise ValueError("its storages are not those that it names")
    end = os.fstat(file.fileno()).st_size
    storages = {}
    for key in map(str, keys):
        storage = named[key]
        (count,) = struct.unpack("<q", file.read(8))
        length = count * _SIZES[storage.dtype]
        if count != storage.size or length > end - file.tell():
            raise ValueError(f"the storage {key} of {storage.size} numbers is not there in full")
        storages[key] = _numbers(file.read(length), storage)
    return _with_tensors(data, storages)


def _read_zip(file: BinaryIO, path: str) -> Any:
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
        pickles = [name for name in names if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ValueError("it has no data.pkl")
        folder = pickles[0][: -len("data.pkl")]
        storages: Dict[str, torch.Tensor] = {}

        def resolve(reference: Any) -> _Storage:
            storage = _storage_of(reference)
            if storage.key not in storages:
                entry = archive.getinfo(f"{folder}data/{storage.key}")
                length = storage.size * _SIZES[storage.dtype]
                # torch stores without compression: what claims to be more than the file holds is a bomb.
                if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != length:
                    raise ValueError(
                        f"the storage {storage.key} of {storage.size} numbers is not there in full"
                    )
                storages[storage.key] = _numbers(archive.read(entry), storage)
            return storage

        if archive.getinfo(pickles[0]).compress_type != zipfile.ZIP_STORED:
            raise ValueError("its data.pkl is compressed")
        stream = io.BytesIO(archive.read(pickles[0]))
        data = read_part(stream, path, _WHAT, known=_KNOWN, persistent_load=resolve)
    return _with_tensors(data, storages)


def _numbers(data: bytes, storage: _Storage) -> torch.Tensor:
    if not data:
        return torch.zeros(0, dtype=storage.dtype)
    return torch.frombuffer(bytearray(data), dtype=storage.dtype)


def _with_tensors(data: Any, storages: Dict[str, torch.Tensor]) -> Any:
    """
    The data with its tensors in place. Dictionaries and lists are changed where they stand, each once, and
    without recursion: a file may nest them deeply, or within themselves.
    """
    holder = [data]
    waiting: List[Any] = [holder]
    seen = {id(holder)}
    while waiting:
        container = waiting.pop()
        places = list(container.items()) if isinstance(container, dict) else list(enumerate(container))
        for place, value in places:
            if isinstance(value, _TensorPlan):
                container[place] = value.build(storages)
            elif isinstance(value, (dict, list)) and id(value) not in seen:
                seen.add(id(value))
                waiting.append(value)
    return holder[0]
