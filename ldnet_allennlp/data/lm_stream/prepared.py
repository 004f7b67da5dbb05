"""Build files from source files once, and reuse them until the sources or the settings change."""

import json
import logging
import os
import shutil
import uuid
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, BinaryIO

from allennlp.common.checks import ConfigurationError

from ldnet_allennlp.common.files import LOCK, exclusive_lock

logger = logging.getLogger(__name__)

# Increase this number to rebuild everything, after each change of the format or the tokenization.
FORMAT = 3
INDEX = "index.json"


def prepare(
    folder: str, sources: Sequence[str], settings: dict[str, Any], make: Callable[[str], Any]
) -> tuple[Any, dict[str, BinaryIO]]:
    """
    Build files from source files, or open those of an earlier run if nothing has changed.

    The index is written last and renamed into place, so an interrupted run leaves no complete result. One process at a
    time builds files in a folder; others wait and then use them. Processes that read an older version keep reading it.
    Sources count as unchanged if their sizes and modification times are the same; the built files are checked by size
    and CRC-32. `settings` (JSON) are all other settings that affect the result, with names for the log.

    Returns the JSON that `make` has returned, and the files that it has written to its folder, open for reading. Raises
    `ConfigurationError` if they cannot be written (for example, on a full disk), or if a source changes meanwhile.
    """
    facts = _facts(sources, settings)
    with suppress(_Unusable):
        return _open(folder, facts)
    try:
        with exclusive_lock(folder, wait=True):
            try:
                return _open(folder, facts)  # another process may have made it by now
            except _Unusable as reason:
                logger.info("Preparing '%s': %s.", folder, reason)
            _make(folder, sources, settings, make)
            return _open(folder, facts)
    except OSError as error:
        raise ConfigurationError(
            f"Could not write the ids of the text to '{folder}' (shards of the lm_stream data loader): {error}. They "
            f"take 4 bytes per token; partial files were removed."
        ) from error


class _Unusable(Exception):
    """The reason for not reusing the files of an earlier run."""


def _facts(sources: Sequence[str], settings: dict[str, Any]) -> dict[str, Any]:
    """Everything that the files depend on, by names for the log."""
    stats = {path: os.stat(path) for path in sources}
    texts = {f"the text '{path}'": [facts.st_size, facts.st_mtime_ns] for path, facts in stats.items()}
    return {"format": FORMAT, **settings, **texts}


def _open(folder: str, facts: dict[str, Any]) -> tuple[Any, dict[str, BinaryIO]]:
    path = os.path.join(folder, INDEX)
    try:
        with open(path, "rb") as file:
            index = json.load(file)
        old = index["facts"]
        names = sorted(name for name in {*old, *facts} if old.get(name) != facts.get(name))
        if names:
            changes = (f"{name} was {old.get(name)!r} and is {facts.get(name)!r}" for name in names)
            raise _Unusable(", ".join(changes))
        files: dict[str, BinaryIO] = {}
        for name, checksum in index["files"].items():
            path = os.path.join(folder, index["data"], name)
            if _checksum(path) != checksum:
                raise ValueError("its checksum differs")
            files[name] = open(path, "rb")  # noqa: SIM115
        return index["content"], files
    except FileNotFoundError as error:
        raise _Unusable(f"'{error.filename}' does not exist yet") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _Unusable(f"'{path}' is damaged ({error!r})") from error


def _make(folder: str, sources: Sequence[str], settings: dict[str, Any], make: Callable[[str], Any]) -> None:
    facts = _facts(sources, settings)
    data = uuid.uuid4().hex
    new = os.path.join(folder, data)
    try:
        os.mkdir(new)
        index = {"facts": facts, "content": make(new), "data": data}
        index["files"] = {name: _checksum(os.path.join(new, name)) for name in sorted(os.listdir(new))}
        for name, value in _facts(sources, settings).items():
            if value != facts[name]:
                raise ConfigurationError(f"{name} changed while it was read. Start again.")
        with open(os.path.join(new, INDEX), "w", encoding="utf-8") as file:
            json.dump(index, file, indent=1)
        os.replace(os.path.join(new, INDEX), os.path.join(folder, INDEX))
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    for name in set(os.listdir(folder)) - {LOCK, INDEX, data}:  # older versions, and remains of killed runs
        shutil.rmtree(os.path.join(folder, name), ignore_errors=True)


def _checksum(path: str) -> list[int]:
    """The size and the CRC-32 of a file."""
    value = 0
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            value = zlib.crc32(block, value)
    return [os.path.getsize(path), value]
