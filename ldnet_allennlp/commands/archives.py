"""Reading, changing and writing model archives, so that a file is either whole or not there."""

import contextlib
import logging
import os
import shutil
import tarfile
import tempfile
import zlib
from typing import Any, Callable, Dict, Iterator, Optional

import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.common.meta import Meta
from allennlp.data import Vocabulary
from allennlp.models.archival import CONFIG_NAME, Archive, archive_model, load_archive
from allennlp.models.model import Model

_WEIGHTS = "weights.th"
_META = "meta.json"


def read_archive(path: str) -> Archive:
    """
    Loads an archive, `model.tar.gz` or a serialization directory.

    Raises `ConfigurationError` if there is none at `path`, or if the file is damaged.
    """
    check_is_there(path)
    try:
        return load_archive(path)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise ConfigurationError(
            f"'{path}' was expected to be an archive (model.tar.gz), but it cannot be read: {error}"
        ) from error


def check_is_there(path: str) -> None:
    """Raises `ConfigurationError` if there is no archive at `path`."""
    if not os.path.exists(path):
        raise ConfigurationError(
            f"No archive was found at '{path}': a model.tar.gz or the directory of a training was expected."
        )


def archive_path(path: str) -> str:
    """The file that an archive is written to: `path`, or `model.tar.gz` in it if it is a directory."""
    return os.path.join(path, "model.tar.gz") if os.path.isdir(path) or path.endswith("/") else path


def write_archive(
    path: str,
    model: Model,
    config: Dict[str, Any],
    check: Optional[Callable[[Archive], None]] = None,
) -> None:
    """
    Writes a model as an archive: beside its place first, and checked by loading it, then renamed.

    # Parameters

    path : `str`
        The file to write. An old one is replaced.
    model : `Model`
        Its weights and its vocabulary are written.
    config : `Dict[str, Any]`
        What becomes `config.json`. It must describe `model` as it is.
    check : `Callable[[Archive], None]`, optional
        Is called with what was written, loaded again, before it is put in its place. If it raises, nothing
        is written.
    """
    folder = os.path.dirname(os.path.abspath(path))
    os.makedirs(folder, exist_ok=True)
    # In the same folder: a rename is atomic only within one file system.
    workplace = tempfile.mkdtemp(prefix=".archive-", dir=folder)
    try:
        Params(dict(config)).to_file(os.path.join(workplace, CONFIG_NAME))
        torch.save(model.state_dict(), os.path.join(workplace, _WEIGHTS))
        model.vocab.save_to_files(os.path.join(workplace, "vocabulary"))
        Meta.new().to_file(os.path.join(workplace, _META))
        written = archive_model(workplace, _WEIGHTS, archive_path=os.path.join(workplace, "model.tar.gz"))
        archive = load_archive(written)
        if check is not None:
            check(archive)
        os.replace(written, path)
    finally:
        shutil.rmtree(workplace, ignore_errors=True)


def remove_namespace(vocab: Vocabulary, namespace: str) -> None:
    """Removes a namespace from a vocabulary, in place."""
    for mapping in (vocab._token_to_index, vocab._index_to_token):
        mapping.pop(namespace, None)


def find_sections(node: Any, type_name: str) -> Iterator[Dict[str, Any]]:
    """Every section of a config whose "type" is `type_name`, in the order in which they stand there."""
    if isinstance(node, dict):
        if node.get("type") == type_name:
            yield node
        for value in node.values():
            yield from find_sections(value, type_name)
    elif isinstance(node, list):
        for value in node:
            yield from find_sections(value, type_name)


@contextlib.contextmanager
def without_progress_messages() -> Iterator[None]:
    """Keeps AllenNLP's messages of level INFO off the screen. Who asked for DEBUG gets everything."""
    root = logging.getLogger()
    level = root.level
    if level == logging.INFO:
        root.setLevel(logging.WARNING)
    try:
        yield
    finally:
        root.setLevel(level)


@contextlib.contextmanager
def replacing(path: str) -> Iterator[str]:
    """
    A context that gives a path beside `path`, with the same ending, to write to. What was written takes the place of
    `path` when the context ends, and is removed if it ends with an error.
    """
    folder, name = os.path.split(os.path.abspath(path))
    os.makedirs(folder, exist_ok=True)
    workplace = tempfile.mkdtemp(prefix=".writing-", dir=folder)
    try:
        yield os.path.join(workplace, name)
        os.replace(os.path.join(workplace, name), path)
    finally:
        shutil.rmtree(workplace, ignore_errors=True)
