"""Compressed files: gzip, bzip2, xz and Zstandard, recognized by their first bytes."""

import bz2
import io
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from os import PathLike
from typing import Any, BinaryIO, cast


def _zstd_decompressor() -> Any:
    try:
        import zstandard
    except ImportError as error:
        raise OSError("Zstandard files need the package zstandard (pip install zstandard)") from error
    return zstandard.ZstdDecompressor().decompressobj()


# By the first bytes of a file. All of these decompressors have `decompress`, `eof` and `unused_data`.
_DECOMPRESSORS: dict[bytes, Callable[[], Any]] = {
    rb"\x1f\x8b": lambda: zlib.decompressobj(wbits=31),
    rb"BZh[1-9](1AY&SY|\x17rE8P\x90)": bz2.BZ2Decompressor,
    rb"\xfd7zXZ\x00": lzma.LZMADecompressor,
    rb"\x28\xb5\x2f\xfd": _zstd_decompressor,
}
_COMPRESSED_AT_ONCE = 1 << 14

TEXT_ERRORS = (EOFError, OSError)
"""Exceptions that reading from `open_text` can raise."""


def open_text(path: str | PathLike, on_read: Callable[[int], None] | None = None) -> BinaryIO:
    """
    Open a file for reading bytes, decompressed if its first bytes are those of gzip, bzip2, xz or Zstandard.

    Concatenated streams are read as one. Reading raises one of `TEXT_ERRORS` if the file is damaged or cut off.

    # Parameters

    path : `str | PathLike`
    on_read : `Callable[[int], None]`, optional
        Called with the number of bytes that were read from a compressed file.
    """
    file = open(path, "rb")  # noqa: SIM115
    decompressor = _decompressor_of(file)
    if decompressor is None:
        return file
    return cast(BinaryIO, io.BufferedReader(_Decompressed(file, decompressor, on_read), 1 << 18))


def is_compressed(path: str | PathLike) -> bool:
    """Return whether `open_text` decompresses a file."""
    with open(path, "rb") as file:
        return _decompressor_of(file) is not None


class _Decompressed(io.RawIOBase):
    """The decompressed bytes of a file with one or more compressed streams."""

    def __init__(
        self, file: BinaryIO, decompressor: Callable[[], Any], on_read: Callable[[int], None] | None
    ) -> None:
        self._file = file
        self._on_read = on_read
        self._content = self._decompress(decompressor)
        self._waiting = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._waiting:
            chunk = next(self._content, None)
            if chunk is None:
                return 0
            self._waiting = memoryview(chunk)
        count = min(len(buffer), len(self._waiting))
        buffer[:count] = self._waiting[:count]
        self._waiting = self._waiting[count:]
        return count

    def close(self) -> None:
        self._file.close()
        super().close()

    def _decompress(self, new_decompressor: Callable[[], Any]) -> Iterator[bytes]:
        content = self._read()
        while content:
            decompressor = new_decompressor()
            while not decompressor.eof:
                if not content:
                    raise EOFError("the compressed data end too early")
                try:
                    chunk = decompressor.decompress(content)
                except Exception as error:  # each library has its own
                    raise OSError(f"the compressed data are damaged ({error})") from error
                yield chunk
                content = b"" if decompressor.eof else self._read()
            # gzip and xz allow zero bytes between and after streams.
            content = decompressor.unused_data.lstrip(b"\0")
            while not content and (more := self._read()):
                content = more.lstrip(b"\0")

    def _read(self) -> bytes:
        content = self._file.read(_COMPRESSED_AT_ONCE)
        if self._on_read is not None:
            self._on_read(len(content))
        return content


def _decompressor_of(file: BinaryIO) -> Callable[[], Any] | None:
    first = file.read(10)
    file.seek(0)
    return next((new for pattern, new in _DECOMPRESSORS.items() if re.match(pattern, first)), None)
