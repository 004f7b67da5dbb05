"""Keeps what was made from a text on disk, and makes it again when the text or the options have changed."""

import json
import logging
import os
import shutil
import uuid
import weakref
import zlib
from contextlib import contextmanager, suppress
from hashlib import sha256
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Sequence, Tuple

from allennlp.common.checks import ConfigurationError
from filelock import FileLock, Timeout

logger = logging.getLogger(__name__)

# Another number makes everything anew: for each change of what is stored, or of how a text becomes tokens.
FORMAT = 1
INDEX = "index.json"
UNFINISHED = ".unfinished-"
READ_AT_ONCE = 1 << 20


class StoredFile:
    """
    A file that is open for reading at any place. What is read leaves no trace in this process's memory, as the pages
    of a memory map would; it stays the same file when another one takes its name.

    # Parameters

    path : `str`
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        weakref.finalize(self, os.close, self._descriptor)

    def __len__(self) -> int:
        return os.fstat(self._descriptor).st_size

    def read(self, start: int, length: int) -> bytes:
        """`length` bytes from `start` on. Raises `RuntimeError` if there are fewer."""
        content = os.pread(self._descriptor, length, start)
        while len(content) < length:
            more = os.pread(self._descriptor, length - len(content), start + len(content))
            if not more:
                raise RuntimeError(
                    f"The file '{self.path}' was cut off while it was read: found {len(self)} bytes, expected "
                    f"{start + length} or more. Start again, and it is made anew."
                )
            content += more
        return content

    def checksum(self) -> int:
        """The CRC-32 of the content, which takes about half a second a gigabyte."""
        value, size = 0, len(self)
        for start in range(0, size, READ_AT_ONCE):
            value = zlib.crc32(self.read(start, min(READ_AT_ONCE, size - start)), value)
        return value


class Prepared(NamedTuple):
    """What `prepare` gives: what `make` returned, and the files that it wrote, by name."""

    content: Any
    files: Dict[str, StoredFile]


def prepare(
    directory: str,
    name: str,
    sources: Sequence[str],
    settings: Dict[str, Any],
    make: Callable[[str], Any],
) -> Prepared:
    """
    Gives what was made from some source files: from an earlier run if nothing has changed since then, or newly made.

    `directory/name` appears only when it is complete, so an interrupted run leaves nothing that could be taken for
    a result; the next run removes its remains. One process at a time makes something in a directory. Others wait, and
    then use what it has made. Processes that still read an older version go on reading that.

    Sources count as unchanged if their sizes and times of change are the same, or else their SHA-256. The files that
    were made are checked by their size and CRC-32, and are made anew if they are damaged.

    # Parameters

    directory : `str`
        Is created if it is not there.
    name : `str`
        Of the result within it.
    sources : `Sequence[str]`
        Files.
    settings : `Dict[str, Any]`
        What else the result depends on, by names for the log. Strings, numbers, None.
    make : `Callable[[str], Any]`
        Writes the files of the result into the directory that it is given, and returns what is to be kept in the
        index, as JSON.

    # Returns

    `Prepared`

    Raises `ConfigurationError` if the directory cannot be written (a full disk), or if a source changes in between.
    """
    try:
        return _open(directory, name, sources, settings)
    except _Unusable:
        pass
    with _writing(directory):
        os.makedirs(directory, exist_ok=True)
        with _locked(directory):
            _remove_unfinished(directory)
            try:
                return _open(directory, name, sources, settings)  # another process may have made it by now
            except _Unusable as reason:
                logger.info("Preparing '%s': %s.", os.path.join(directory, name), reason)
            _make(directory, name, sources, settings, make)
            try:
                return _open(directory, name, sources, settings)
            except _Unusable as reason:
                raise ConfigurationError(
                    f"'{os.path.join(directory, name)}' was just made, but cannot be used: {reason}."
                ) from reason


class _Unusable(Exception):
    """Says why what is there cannot be used."""


def _open(directory: str, name: str, sources: Sequence[str], settings: Dict[str, Any]) -> Prepared:
    folder = os.path.join(directory, name)
    path = os.path.join(folder, INDEX)
    try:
        with open(path, "rb") as file:
            index = json.load(file)
        if index.pop("checksum") != _checksum(index):
            raise _Unusable(f"'{path}' is damaged")
    except FileNotFoundError as error:
        raise _Unusable("there is nothing from an earlier run") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _Unusable(f"'{path}' is damaged ({error!r})") from error
    try:
        if index["format"] != FORMAT:
            raise _Unusable(f"it has the format {index['format']}, expected {FORMAT}")
        found = index["settings"]
        changed = sorted(
            key for key in {*found, *settings} if key not in found or found[key] != settings.get(key)
        )
        if changed:
            differences = (f"{key} was {found.get(key)!r} and is {settings.get(key)!r}" for key in changed)
            raise _Unusable(", ".join(differences))
        times_changed = _compare_sources(index["sources"], sources)
        files = {
            file: _check_file(os.path.join(folder, file), *facts) for file, facts in index["files"].items()
        }
        content = index["content"]
    except (KeyError, TypeError, AttributeError) as error:
        raise _Unusable(f"'{path}' is not an index ({error!r})") from error
    if times_changed:
        index["sources"] = [
            _describe(source, old["sha256"]) for source, old in zip(sources, index["sources"])
        ]
        with suppress(OSError):  # it only saves the next run the comparison
            temporary = os.path.join(directory, UNFINISHED + uuid.uuid4().hex)
            _write_index(temporary, index)
            os.replace(temporary, path)
    return Prepared(content, files)


def _compare_sources(found: List[Dict[str, Any]], sources: Sequence[str]) -> bool:
    """Whether the same sources have other times of change now."""
    if [source["path"] for source in found] != list(sources):
        raise _Unusable("the text has other files")
    times_changed = False
    for old, path in zip(found, sources):
        size, mtime = _size_and_time(path)
        if size != old["size"]:
            raise _Unusable(f"the text '{path}' had {old['size']} bytes and has {size}")
        if mtime != old["mtime_ns"]:
            times_changed = True
            if _sha256(path) != old["sha256"]:
                raise _Unusable(f"the text '{path}' has changed")
    return times_changed


def _check_file(path: str, size: int, checksum: int) -> StoredFile:
    try:
        file = StoredFile(path)
        if len(file) != size:
            raise _Unusable(f"'{path}' is damaged: found {len(file)} bytes, expected {size}")
        if file.checksum() != checksum:
            raise _Unusable(f"'{path}' is damaged: its checksum is not {checksum}")
    except OSError as error:
        raise _Unusable(f"'{path}' cannot be read ({error})") from error
    return file


def _make(
    directory: str,
    name: str,
    sources: Sequence[str],
    settings: Dict[str, Any],
    make: Callable[[str], Any],
) -> None:
    folder = os.path.join(directory, name)
    new = os.path.join(directory, UNFINISHED + uuid.uuid4().hex)
    old = new + "-old"
    os.mkdir(new)
    try:
        before = [_size_and_time(path) for path in sources]
        content = make(new)
        files = {file: StoredFile(os.path.join(new, file)) for file in sorted(os.listdir(new))}
        index = {
            "format": FORMAT,
            "sources": [_describe(path, _sha256(path)) for path in sources],
            "settings": settings,
            "files": {file: [len(stored), stored.checksum()] for file, stored in files.items()},
            "content": content,
        }
        _write_index(os.path.join(new, INDEX), index)
        for path, facts in zip(sources, before):
            if _size_and_time(path) != facts:
                raise ConfigurationError(f"The text '{path}' was changed while it was read. Start again.")
        if os.path.lexists(folder):
            os.rename(folder, old)
        os.rename(new, folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _describe(path: str, digest: str) -> Dict[str, Any]:
    size, mtime = _size_and_time(path)
    return {"path": path, "size": size, "mtime_ns": mtime, "sha256": digest}


def _size_and_time(path: str) -> Tuple[int, int]:
    facts = os.stat(path)
    return facts.st_size, facts.st_mtime_ns


def _sha256(path: str) -> str:
    digest = sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(READ_AT_ONCE), b""):
            digest.update(block)
    return digest.hexdigest()


def _write_index(path: str, index: Dict[str, Any]) -> None:
    with open(path, "w", encoding="utf-8") as file:
        json.dump({**index, "checksum": _checksum(index)}, file, indent=1)


def _checksum(index: Dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(index, sort_keys=True).encode("utf-8"))


@contextmanager
def _writing(directory: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigurationError(
            f"Could not write what is made from the text to '{directory}' (shards of the lm_stream data loader): "
            f"{error}. It takes 4 bytes a token; nothing unfinished was kept."
        ) from error


@contextmanager
def _locked(directory: str) -> Iterator[None]:
    lock = FileLock(os.path.join(directory, ".lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        logger.info("Waiting for another process that prepares something in '%s'.", directory)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _remove_unfinished(directory: str) -> None:
    for name in os.listdir(directory):
        if name.startswith(UNFINISHED):
            path = os.path.join(directory, name)
            logger.info("Removing '%s', which an interrupted run has left.", path)
            shutil.rmtree(path, ignore_errors=True)
            if os.path.isfile(path):
                os.remove(path)
