"""
Read pickles without executing them.

A pickle is a program that names functions and calls them. Here a few names map to harmless stand-ins, and all other
names are errors before any lookup. Memory and time are proportional to the size of the file.
"""

import collections
import io
import pickle
import struct
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, ClassVar

import numpy
from allennlp.common.checks import ConfigurationError

# The errors that a damaged pickle may raise, apart from a forbidden name.
DAMAGE = (
    pickle.UnpicklingError,
    EOFError,
    AttributeError,
    ImportError,
    IndexError,
    KeyError,
    MemoryError,
    OverflowError,
    RecursionError,
    TypeError,
    ValueError,
    AssertionError,
    struct.error,
)
_SCALAR_KINDS = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")
_KEYS = (str, bytes, int, float, bool, type(None))
Names = Mapping[tuple[str, str], Any]
_PythonUnpickler: Any = pickle._Unpickler  # type: ignore[attr-defined]


class UnsafePickle(ConfigurationError):
    """A pickle names functions that plain data do not need."""


class _ScalarKind:
    """Stand-in for `numpy.dtype`: the name of a numeric type."""

    def __init__(self, kind: str, *_: Any) -> None:
        if kind not in _SCALAR_KINDS:
            raise UnsafePickle(f"it has a number of the kind {kind!r:.40}")
        self.kind = kind
        self.order = "<"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if len(state) > 1 and state[1] == ">":
            self.order = ">"


def _scalar(kind: _ScalarKind, value: Any = b"") -> Any:
    """Stand-in for `numpy.core.multiarray.scalar`: returns a Python number."""
    data = value.encode("latin-1") if isinstance(value, str) else value
    return numpy.frombuffer(data, dtype=kind.order + kind.kind, count=1)[0].item()


def _encode(text: str, encoding: str = "latin-1") -> bytes:
    """Stand-in for `_codecs.encode`, which protocol 2 uses for bytes."""
    if encoding not in ("latin1", "latin-1"):
        raise UnsafePickle(f"it has bytes in the encoding {encoding!r:.40}")
    return text.encode("latin-1")


def _ordered_dict(items: Any = ()) -> collections.OrderedDict:
    """Stand-in for `collections.OrderedDict`."""
    pairs = [(key, value) for key, value in items]
    _check_keys([key for key, _ in pairs])
    return collections.OrderedDict(pairs)


HARMLESS: Names = {
    ("collections", "OrderedDict"): _ordered_dict,
    ("numpy", "dtype"): _ScalarKind,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy._core.multiarray", "scalar"): _scalar,
    ("_codecs", "encode"): _encode,
}


def _check_keys(keys: list[Any]) -> None:
    """Nested tuples as keys would take exponential time to hash."""
    for key in keys:
        if not isinstance(key, _KEYS):
            raise pickle.UnpicklingError(f"a dictionary has a key of the type {type(key).__name__}")


class RestrictedUnpickler(_PythonUnpickler):
    """
    An unpickler that allows only the names in `HARMLESS`.

    Subclasses the Python implementation. The C implementation allocates its memo by the largest index, so nine bytes
    can request gigabytes.

    # Parameters

    file : `BinaryIO`
    names : `Names`, optional
        Additional names, as (module, name), with their stand-ins.
    persistent_load : `Callable[[Any], Any]`, optional
        Resolves references to objects outside the pickle; by default they are errors.
    """

    dispatch: ClassVar[dict[int, Callable]] = dict(_PythonUnpickler.dispatch)

    def __init__(
        self, file: BinaryIO, names: Names | None = None, persistent_load: Callable[[Any], Any] | None = None
    ) -> None:
        super().__init__(file, encoding="utf-8")
        self._names = {**HARMLESS, **(names or {})}
        self._resolve = persistent_load

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for a name. Raises `UnsafePickle` for any other name."""
        if (module, name) not in self._names:
            raise UnsafePickle(f"it names {f'{module}.{name}'!r:.100}")
        return self._names[module, name]

    def persistent_load(self, reference: Any) -> Any:
        """The object of a reference. Raises `UnsafePickle` if none is expected."""
        if self._resolve is None:
            raise UnsafePickle("it refers to an external object")
        return self._resolve(reference)

    def _refuse(self) -> None:
        raise pickle.UnpicklingError("it has an instruction that such files do not need")

    # Extensions, sets, byte arrays (their claimed length is allocated), instances of classes.
    for _code in (
        *(pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.EMPTY_SET, pickle.ADDITEMS, pickle.FROZENSET),
        *(pickle.BYTEARRAY8, pickle.NEXT_BUFFER, pickle.READONLY_BUFFER),
        *(pickle.INST, pickle.OBJ, pickle.NEWOBJ, pickle.NEWOBJ_EX),
    ):
        dispatch[_code[0]] = _refuse

    def _load_dict(self) -> None:
        items = self.pop_mark()
        _check_keys(items[::2])
        self.append({items[place]: items[place + 1] for place in range(0, len(items), 2)})

    dispatch[pickle.DICT[0]] = _load_dict

    def _load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set_items([key, value])

    dispatch[pickle.SETITEM[0]] = _load_setitem

    def _load_setitems(self) -> None:
        self._set_items(self.pop_mark())

    dispatch[pickle.SETITEMS[0]] = _load_setitems

    def _set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict):
            raise pickle.UnpicklingError(f"it sets items of an object of the type {type(target).__name__}")
        _check_keys(items[::2])
        for place in range(0, len(items), 2):
            target[items[place]] = items[place + 1]

    def _load_build(self) -> None:
        state, instance = self.stack.pop(), self.stack[-1]
        if isinstance(instance, _ScalarKind):
            instance.__setstate__(state)
        elif not isinstance(instance, collections.OrderedDict) or not isinstance(state, dict):
            raise pickle.UnpicklingError(f"it changes an object of the type {type(instance).__name__}")
        # The attributes of a state dict (`_metadata`) are not needed.

    dispatch[pickle.BUILD[0]] = _load_build

    def _load_append(self) -> None:
        value = self.stack.pop()
        self._extend([value])

    dispatch[pickle.APPEND[0]] = _load_append

    def _load_appends(self) -> None:
        self._extend(self.pop_mark())

    dispatch[pickle.APPENDS[0]] = _load_appends

    def _extend(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, list):
            raise pickle.UnpicklingError(f"it appends to an object of the type {type(target).__name__}")
        target.extend(items)


def read_part(file: BinaryIO, path: str, what: str, **options: Any) -> Any:
    """
    Read one pickle from an open file, up to its end. `path` and `what`, the expected kind of file, are for messages;
    the options are those of `RestrictedUnpickler`.

    Raises `ConfigurationError` if the pickle is damaged, and its subclass `UnsafePickle` if it names functions.
    """
    try:
        return RestrictedUnpickler(file, **options).load()
    except UnsafePickle as error:
        raise UnsafePickle(
            f"'{path}' was expected to be {what}, but {error.message}, which such a file does not need. Reading "
            f"stopped there, and nothing in it was executed."
        ) from error
    except DAMAGE as error:
        raise ConfigurationError(
            f"'{path}' was expected to be {what}, but it is damaged, truncated or of another kind: {error!s:.200}"
        ) from error


def read_pickle(path: str, what: str) -> Any:
    """Read the only object in a pickle file, as `read_part` does. `what` is the expected kind of file."""
    with open(path, "rb") as file:
        return read_part(io.BytesIO(file.read()), path, what)
