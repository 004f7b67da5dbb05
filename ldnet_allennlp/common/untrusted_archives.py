"""Loading archives of unknown origin: nothing in them is executed or written anywhere, and damage is told in a line."""

import collections
import contextlib
import gzip
import os
import pickle
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from typing import Any, Iterator, Optional, Tuple

import torch
from allennlp.common import FromParams
from allennlp.common.checks import ConfigurationError
from allennlp.common.file_utils import cached_path
from allennlp.common.registrable import Registrable
from allennlp.models.archival import CONFIG_NAME, Archive, get_weights_path, load_archive

_ZIP_MAGIC = b"PK\x03\x04"
_BLOCK = 1 << 20
# What the weights of a model need beside numbers. `torch.load` before 2.6 would call anything else that is named.
_REBUILDING = (
    "_rebuild_tensor",
    "_rebuild_tensor_v2",
    "_rebuild_tensor_v3",
    "_rebuild_parameter",
    "_rebuild_qtensor",
)


def load_checked_archive(path: str) -> Archive:
    """
    AllenNLP's `load_archive` for archives that may be damaged, wrong or hostile.

    AllenNLP itself (2.10) writes wherever the names in an archive point to, calls whatever callable a "type" with a
    point in it names ("subprocess.Popen"), and leaves it to torch whether weights may run code. All three are errors
    here.

    # Parameters

    path : `str`
        `model.tar.gz`, or a serialization directory.

    # Returns

    `Archive`

    Raises `FileNotFoundError` if there is nothing at `path`, and `ConfigurationError`, which names it, if it is no
    archive, if it is damaged, if it holds what no archive needs, or if its parts do not fit each other.
    """
    resolved = str(cached_path(path))
    if os.path.isdir(resolved):
        return _load(path, resolved)
    with tempfile.TemporaryDirectory() as folder:
        _extract(path, resolved, folder)
        return _load(path, folder)


def _extract(path: str, resolved: str, folder: str) -> None:
    try:
        with tarfile.open(resolved, "r:gz") as archive:
            for member in archive:
                _extract_member(path, archive, member, folder)
            while archive.fileobj.read(_BLOCK):  # type: ignore[union-attr]
                pass  # only at the end of the file is its checksum compared
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ConfigurationError(
            f"'{path}' was expected to be an archive (model.tar.gz), but it cannot be read: {error}"
        ) from error
    except OSError as error:
        raise ConfigurationError(
            f"'{path}' could not be read and unpacked to '{folder}' (the variable TMPDIR names another place): {error}"
        ) from error


def _extract_member(path: str, archive: tarfile.TarFile, member: tarfile.TarInfo, folder: str) -> None:
    """Writes one file. The names of an archive are below its own folder, and stand for files and folders."""
    name = os.path.normpath(member.name)
    if os.path.isabs(name) or name.split(os.sep)[0] == os.pardir or not (member.isfile() or member.isdir()):
        raise ConfigurationError(
            f"'{path}' was expected to hold files of its own, but it has '{member.name}', a link, a device or a "
            f"file elsewhere. Nothing was written there."
        )
    target = os.path.join(folder, name)
    os.makedirs(target if member.isdir() else os.path.dirname(target), exist_ok=True)
    source = archive.extractfile(member)
    if source is not None:
        with open(target, "wb") as file:
            shutil.copyfileobj(source, file)


def _load(path: str, folder: str) -> Archive:
    weights = get_weights_path(folder)
    parts = {name: os.path.join(folder, name) for name in (CONFIG_NAME, "vocabulary")}
    for name, part in {**parts, "weights (weights.th or best.th)": weights}.items():
        if not os.path.exists(part):
            raise ConfigurationError(
                f"'{path}' was expected to be an archive or the directory of a training, but it has no {name}."
            )
    try:
        _check_weights(weights)
        with _classes_for_configs():
            return load_archive(folder)
    except Exception as error:  # what a damaged file leads to can be anything
        told = " ".join(f"{error}".split()).replace(folder, path)
        kind = "" if isinstance(error, ConfigurationError) else f"{type(error).__name__}: "
        raise ConfigurationError(
            f"The archive '{path}' is damaged, or its parts do not fit each other: {kind}"
            f"{told if len(told) <= 500 else told[:497] + '...'}"
        ) from error


def _check_weights(path: str) -> None:
    """Raises `pickle.UnpicklingError` if a file of `torch.save` names anything that a model's weights do not need."""
    with open(path, "rb") as file:
        if file.read(len(_ZIP_MAGIC)) != _ZIP_MAGIC:
            file.seek(0)
            for _ in range(5):  # what torch wrote before 1.6: five pickles, then the numbers
                _Names(file).load()
            return
        with zipfile.ZipFile(file) as archive:
            # In small letters: torch's reader takes capitals for them.
            names = [name.lower() for name in archive.namelist()]
            pickles = [name for name in archive.namelist() if name.lower().endswith(".pkl")]
            if len(pickles) != 1 or len(set(names)) != len(names) or not pickles[0].endswith("/data.pkl"):
                raise pickle.UnpicklingError(f"the weights have the parts {', '.join(names)[:200]}")
            with archive.open(pickles[0]) as part:
                _Names(part).load()


class _Names(pickle.Unpickler):
    """Goes through a pickle of weights and builds nothing but dictionaries."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (
            (module in ("torch", "torch.storage") and name.endswith("Storage"))
            or (module == "torch" and isinstance(getattr(torch, name, None), (torch.dtype, torch.qscheme)))
            or (module == "torch._utils" and name in _REBUILDING)
        ):
            return _nothing
        raise pickle.UnpicklingError(
            f"the weights name '{module}.{name}', which weights do not need. Nothing in them was executed"
        )

    def persistent_load(self, reference: Any) -> None:
        return None


def _nothing(*_: Any) -> None:
    return None


@contextlib.contextmanager
def _classes_for_configs() -> Iterator[None]:
    """Within it, a "type" that AllenNLP imports by its name ("package.Class") must be a class made for configs."""
    original = Registrable.__dict__["resolve_class_name"]

    def resolve(cls: Any, name: str) -> Tuple[Any, Optional[str]]:
        found, constructor = original.__func__(cls, name)
        if "." in name and not (isinstance(found, type) and issubclass(found, FromParams)):
            raise ConfigurationError(
                f"the config has the type '{name}', which is not a class that a config can build. It was not called"
            )
        return found, constructor

    Registrable.resolve_class_name = classmethod(resolve)  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        Registrable.resolve_class_name = original  # type: ignore[method-assign]
