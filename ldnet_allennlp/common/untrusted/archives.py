"""Load untrusted archives: nothing in them is executed, and only temporary files are written."""

import contextlib
import gzip
import json
import os
import shutil
import tarfile
import tempfile
from typing import Any

from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.common.file_utils import cached_path
from allennlp.common.meta import META_NAME, Meta
from allennlp.models import archival
from allennlp.models.archival import CONFIG_NAME, Archive, get_weights_path

from ldnet_allennlp.common.untrusted.config_types import (
    ForbiddenType,
    check_types,
    restricted_types,
    without_files,
)
from ldnet_allennlp.common.untrusted.pickles import check_torch_file, without_advice

MAX_UNPACKED, MAX_RATIO = 1 << 30, 20
"""An archive may unpack to a gibibyte, or to 20 times its own size if that is more."""
_MAX_JSON = 16 << 20
_MAX_MEMBERS = 10_000


def load_checked_archive(path: str, trust: bool = False, is_trained: bool = True) -> Archive:
    """
    AllenNLP's `load_archive` for untrusted archives, which may be damaged, wrong or hostile.

    AllenNLP evaluates the config as a program, constructs whatever a "type" names, writes to any path in the archive,
    and unpacks without limits. Here the config is plain JSON, only the types of `config_types` are allowed, weights are
    checked by `check_torch_file`, and sizes are limited.

    `path` is a `model.tar.gz` or a serialization directory. With `trust`, it may contain any type and have any size.
    For `is_trained` see `check_types`.

    Raises `FileNotFoundError` if `path` does not exist, and `ConfigurationError`, with the path, if it is not an
    archive, or if the archive is damaged, has forbidden parts, or is inconsistent.
    """
    resolved = str(cached_path(path))
    if os.path.isdir(resolved):
        return _load(path, resolved, trust, is_trained)
    with tempfile.TemporaryDirectory() as folder:
        limit = None if trust else max(MAX_UNPACKED, MAX_RATIO * os.path.getsize(resolved))
        _extract(path, resolved, folder, limit)
        return _load(path, folder, trust, is_trained)


def printable(text: str) -> str:
    """The text on one line, with terminal control characters escaped."""
    return "".join(
        letter if letter.isprintable() else ascii(letter)[1:-1] for letter in " ".join(text.split())
    )


class _LimitedGzip(gzip.GzipFile):
    """A gzip file with a limit on its unpacked size, checked before memory is allocated."""

    def __init__(self, path: str, limit: int | None) -> None:
        super().__init__(path, "rb")
        self._limit = limit

    def read(self, size: int | None = -1) -> bytes:
        self.require(size or 0)
        return super().read(size)

    def require(self, size: int) -> None:
        """Raise `ForbiddenType` if `size` more bytes exceed the limit."""
        if self._limit is not None and self.tell() + size > self._limit:
            raise ForbiddenType(
                f"it unpacks to more than {self._limit / 2**30:.3g} GiB, the larger of {MAX_UNPACKED / 2**30:g} GiB "
                f"and {MAX_RATIO} times its size"
            )


def _extract(path: str, resolved: str, folder: str, limit: int | None) -> None:
    try:
        with _LimitedGzip(resolved, limit) as unpacked, tarfile.open(fileobj=unpacked, mode="r:") as archive:
            for number, member in enumerate(archive):
                if number >= _MAX_MEMBERS:
                    raise ForbiddenType(f"it has more than {_MAX_MEMBERS:,} files")
                unpacked.require(member.size)
                _extract_member(path, archive, member, folder)
            while unpacked.read(1 << 20):
                pass  # the checksum is compared at the end of the file
    except ForbiddenType as error:
        raise ConfigurationError(_refused(path, error)) from error
    except ConfigurationError:
        raise
    except Exception as error:  # a damaged file can lead to any error
        problem = f"'{path}' was expected to be an archive (model.tar.gz), but it cannot be read"
        if isinstance(error, OSError) and not isinstance(error, gzip.BadGzipFile):
            problem = (
                f"'{path}' could not be read and unpacked to '{folder}' (set TMPDIR to use another folder)"
            )
        raise ConfigurationError(f"{problem}: {printable(str(error))}") from error


def _extract_member(path: str, archive: tarfile.TarFile, member: tarfile.TarInfo, folder: str) -> None:
    """Write one file. Only plain files and folders inside the archive's folder are allowed."""
    name = os.path.normpath(member.name)
    is_plain = member.type in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE) and not member.issparse()
    if os.path.isabs(name) or name.split(os.sep)[0] == os.pardir or "\0" in name or not is_plain:
        raise ConfigurationError(
            f"'{path}' was expected to contain plain files only, but it has '{printable(member.name):.200}', a link, a "
            f"device or a file elsewhere. Nothing was written to it."
        )
    target = os.path.join(folder, name)
    os.makedirs(target if member.isdir() else os.path.dirname(target), exist_ok=True)
    source = archive.extractfile(member)
    if source is not None:
        with open(target, "wb") as file:
            shutil.copyfileobj(source, file)


def _load(path: str, folder: str, trust: bool, is_trained: bool) -> Archive:
    weights = get_weights_path(folder)
    parts = {name: os.path.join(folder, name) for name in (CONFIG_NAME, "vocabulary")}
    for name, part in {**parts, "weights (weights.th or best.th)": weights}.items():
        if not os.path.exists(part):
            raise ConfigurationError(
                f"'{path}' was expected to be an archive or a serialization directory, but it has no {name}."
            )
    try:
        config = _read_json(parts[CONFIG_NAME])
        if not trust:
            check_types(config, is_trained)
            check_torch_file(weights)
        params = config if trust else without_files(config)
        with (
            contextlib.nullcontext() if trust else restricted_types()
        ):  # the steps of AllenNLP's `load_archive`
            reader, validation_reader = archival._load_dataset_readers(Params(params).duplicate(), folder)
            model = archival._load_model(Params(params).duplicate(), weights, folder, -1)
        meta_path = os.path.join(folder, META_NAME)
        meta = Meta(**_read_json(meta_path)) if os.path.exists(meta_path) else None
        return Archive(model, Params(config), reader, validation_reader, meta)
    except ForbiddenType as error:
        raise ConfigurationError(_refused(path, error)) from error
    except Exception as error:  # a damaged file can lead to any error
        message = printable(without_advice(str(error)).replace(folder, path))
        kind = "" if isinstance(error, ConfigurationError) else f"{type(error).__name__}: "
        raise ConfigurationError(
            f"The archive '{path}' is damaged or inconsistent: {kind}"
            f"{message if len(message) <= 500 else message[:497] + '...'}"
        ) from error


def _read_json(path: str) -> dict[str, Any]:
    name = os.path.basename(path)
    if os.path.getsize(path) > _MAX_JSON:
        raise ConfigurationError(f"its {name} is larger than {_MAX_JSON >> 20} MiB")
    try:
        with open(path, encoding="utf-8") as file:
            data = json.load(file)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"its {name} was expected to be JSON, but: {error}") from error
    if not isinstance(data, dict):
        raise ConfigurationError(f"its {name} was expected to be a JSON object")
    return data


def _refused(path: str, error: ForbiddenType) -> str:
    reason = printable(str(error.message))
    return f"The archive '{path}' was not opened: {reason}. If you trust it, pass --trust."
