"""
Reading pickles without executing what is in them.

A pickle is a program: it names functions and calls them. Here only a few names mean anything, and each of them
stands for something of our own that can do no harm. Everything else is an error before it is looked up.
"""

import collections
import io
import pickle
from typing import Any, BinaryIO, Callable, Dict, Optional, Tuple

import numpy
from allennlp.common.checks import ConfigurationError

# What a damaged pickle may raise, apart from the error for a name that is not known.
_DAMAGE = (
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
)
_SCALAR_KINDS = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")


class UnsafePickle(ConfigurationError):
    """A pickle that names something beyond what the original's files need."""


class _ScalarKind:
    """Stands for `numpy.dtype`: only the name of a number's kind is kept."""

    def __init__(self, kind: str, *_: Any) -> None:
        if kind not in _SCALAR_KINDS:
            raise UnsafePickle(f"it has a number of the kind {kind!r}")
        self.kind = kind
        self.order = "<"

    def __setstate__(self, state: Tuple[Any, ...]) -> None:
        if len(state) > 1 and state[1] == ">":
            self.order = ">"


def _scalar(kind: _ScalarKind, value: Any = b"") -> Any:
    """Stands for `numpy.core.multiarray.scalar`: a number as Python has it."""
    data = value.encode("latin-1") if isinstance(value, str) else value
    return numpy.frombuffer(data, dtype=kind.order + kind.kind, count=1)[0].item()


def _encode(text: str, encoding: str = "latin-1") -> bytes:
    """Stands for `_codecs.encode`, by which protocol 2 writes bytes."""
    if encoding != "latin1" and encoding != "latin-1":
        raise UnsafePickle(f"it has bytes in the encoding {encoding!r}")
    return text.encode("latin-1")


HARMLESS: Dict[Tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("numpy", "dtype"): _ScalarKind,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy._core.multiarray", "scalar"): _scalar,
    ("_codecs", "encode"): _encode,
}


class RestrictedUnpickler(pickle.Unpickler):
    """
    An unpickler that knows `HARMLESS` and nothing else.

    # Parameters

    file : `BinaryIO`
    known : `Dict[Tuple[str, str], Any]`, optional
        More names, as (module, name), and what stands for them.
    persistent_load : `Callable[[Any], Any]`, optional
        What resolves references to objects outside of the pickle; by default they are an error.
    """

    def __init__(
        self,
        file: BinaryIO,
        known: Optional[Dict[Tuple[str, str], Any]] = None,
        persistent_load: Optional[Callable[[Any], Any]] = None,
    ) -> None:
        super().__init__(file, encoding="utf-8")
        self._known = {**HARMLESS, **(known or {})}
        self._resolve = persistent_load

    def find_class(self, module: str, name: str) -> Any:
        """What stands for a name in the pickle. Raises `UnsafePickle` for one that is not known to be harmless."""
        if (module, name) not in self._known:
            raise UnsafePickle(f"it names '{module}.{name}'")
        return self._known[module, name]

    def persistent_load(self, reference: Any) -> Any:
        """What a reference stands for. Raises `UnsafePickle` where none is expected."""
        if self._resolve is None:
            raise UnsafePickle("it refers to an object outside of itself")
        return self._resolve(reference)


def read_part(file: BinaryIO, path: str, what: str, **options: Any) -> Any:
    """
    One pickle from an open file, which is left at the pickle's end.

    # Parameters

    file : `BinaryIO`
    path, what : `str`
        The file's name, and what it was expected to be, for messages.
    options : see `RestrictedUnpickler`

    Raises `ConfigurationError` if it is damaged, and its subclass `UnsafePickle` if it names anything unknown.
    """
    try:
        return RestrictedUnpickler(file, **options).load()
    except UnsafePickle as error:
        raise UnsafePickle(
            f"'{path}' was expected to be {what}, but {error}, which such a file does not need. It was not read "
            f"any further, and nothing in it was executed."
        ) from error
    except _DAMAGE as error:
        raise ConfigurationError(
            f"'{path}' was expected to be {what}, but it is damaged, truncated or of another kind: {error}"
        ) from error


def read_pickle(path: str, what: str) -> Any:
    """
    The only object in a pickle file. See `read_part`.

    # Parameters

    path : `str`
    what : `str`
        What the file was expected to be, for messages.
    """
    with open(path, "rb") as file:
        data = file.read()
    stream = io.BytesIO(data)
    return read_part(stream, path, what)
