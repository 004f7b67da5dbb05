"""Compressed files: gzip, bzip2, xz and Zstandard, recognized by their first bytes, or written by their suffix."""

import bz2
import contextlib
import functools
import gzip
import io
import lzma
import os
import re
import zlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, cast

from ldnet_runtime.errors import InputError


def _zstandard() -> Any:
    try:
        import zstandard
    except ImportError as error:
        raise InputError("a .zst file needs zstandard: pip install 'ldnet-runtime[zst]'.") from error
    return zstandard


# By the first bytes of a file. All of these decompressors have `decompress`, `eof` and `unused_data`.
_DECOMPRESSORS: dict[bytes, Callable[[], Any]] = {
    rb"\x1f\x8b": lambda: zlib.decompressobj(wbits=31),
    rb"BZh[1-9](1AY&SY|\x17rE8P\x90)": bz2.BZ2Decompressor,
    rb"\xfd7zXZ\x00": lzma.LZMADecompressor,
    rb"\x28\xb5\x2f\xfd": lambda: _zstandard().ZstdDecompressor().decompressobj(),
}
_COMPRESSED_AT_ONCE = 1 << 14
# By the suffix of a file. Without name and time, gzip writes the same bytes for the same content.
_COMPRESSORS: dict[str, Callable[[BinaryIO], Any]] = {
    ".gz": lambda file: gzip.GzipFile("", "wb", 6, file, mtime=0),
    ".bz2": functools.partial(bz2.BZ2File, mode="wb"),
    ".xz": functools.partial(lzma.LZMAFile, mode="wb"),
    ".zst": lambda file: _zstandard().ZstdCompressor().stream_writer(file, closefd=False),
}


def compressed(file: BinaryIO, name: str) -> contextlib.AbstractContextManager[BinaryIO]:
    """Context with a file whose content is written to `file`, compressed as the suffix of `name` states."""
    new_compressor = _COMPRESSORS.get(os.path.splitext(name)[1].lower())
    return contextlib.nullcontext(file) if new_compressor is None else new_compressor(file)


def decompressed(file: BinaryIO) -> BinaryIO:
    """
    The content of a file, decompressed if its first bytes are those of gzip, bzip2, xz or Zstandard.

    Concatenated streams are read as one. Reading raises `EOFError` if the data are cut off, and `OSError` if they are
    damaged.
    """
    buffered: Any = file if hasattr(file, "peek") else io.BufferedReader(file)  # type: ignore[arg-type]
    first = buffered.peek(10)[:10]
    for pattern, new_decompressor in _DECOMPRESSORS.items():
        if re.match(pattern, first):
            new_decompressor()  # raises an error if the package is missing
            return cast(BinaryIO, io.BufferedReader(_Decompressed(buffered, new_decompressor), 1 << 18))
    return cast(BinaryIO, buffered)


class _Decompressed(io.RawIOBase):
    """The decompressed bytes of one or more compressed streams. Does not close the file."""

    def __init__(self, file: BinaryIO, new_decompressor: Callable[[], Any]) -> None:
        self._content = self._decompress(file, new_decompressor)
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

    @staticmethod
    def _decompress(file: BinaryIO, new_decompressor: Callable[[], Any]) -> Iterator[bytes]:
        content = file.read(_COMPRESSED_AT_ONCE)
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
                content = b"" if decompressor.eof else file.read(_COMPRESSED_AT_ONCE)
            # gzip and xz allow zero bytes between and after streams.
            content = decompressor.unused_data.lstrip(b"\0")
            while not content and (more := file.read(_COMPRESSED_AT_ONCE)):
                content = more.lstrip(b"\0")
