"""Reading, changing and writing model archives, so that a file is either whole or not there."""

import contextlib
import logging
import os
from typing import Any, Callable, Dict, Iterator, Mapping, Optional

import numpy
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.common.meta import Meta
from allennlp.data import Vocabulary
from allennlp.models.archival import CONFIG_NAME, Archive, archive_model, load_archive
from allennlp.models.model import Model

from ldnet_allennlp.common.atomic import save, workplace
from ldnet_allennlp.common.untrusted_archives import load_checked_archive

_WEIGHTS = "weights.th"
_META = "meta.json"
_PREFIX = ".archive-"
_PARTS = (CONFIG_NAME, _WEIGHTS, _META, "vocabulary")
ARRAY_ENDING = ".npy"

Weights = Mapping[str, torch.Tensor]


def read_archive(path: str) -> Archive:
    """
    Loads an archive, `model.tar.gz` or a serialization directory.

    Raises `ConfigurationError` if there is none at `path`, or if it is damaged or hostile, see `load_checked_archive`.
    """
    check_is_there(path)
    return load_checked_archive(path)


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
    weights: Optional[Weights] = None,
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
    weights : `Weights`, optional
        What is written as the model's state instead of it.

    Raises `OSError` if it cannot be written.
    """
    with workplace(path, _PREFIX) as folder:
        _write_parts(folder, model, config, weights)
        written = archive_model(folder, _WEIGHTS, archive_path=os.path.join(folder, "model.tar.gz"))
        archive = load_archive(written)
        if check is not None:
            check(archive)
        os.replace(written, path)


def write_directory(
    path: str,
    model: Model,
    config: Dict[str, Any],
    check: Optional[Callable[[Archive], None]] = None,
    weights: Optional[Weights] = None,
    arrays: Optional[Dict[str, numpy.ndarray]] = None,
) -> None:
    """
    Writes a model as a directory that AllenNLP loads like an archive, in the same way as `write_archive`.

    # Parameters

    path : `str`
        The directory. An old one is replaced if it is a directory that this function wrote.
    model, config, check, weights
        As in `write_archive`.
    arrays : `Dict[str, numpy.ndarray]`, optional
        Are saved beside, each in the file that its key names.

    Raises `ConfigurationError` if there is something else at `path`, and `OSError` if it cannot be written.
    """
    path = os.path.abspath(path)
    check_is_replaceable(path)
    with workplace(path, _PREFIX) as folder:
        written = os.path.join(folder, "model")
        os.mkdir(written)
        _write_parts(written, model, config, weights)
        for name, array in (arrays or {}).items():
            numpy.save(os.path.join(written, name), array, allow_pickle=False)
        archive = load_archive(written)
        if check is not None:
            check(archive)
        _put_in_place(written, path, os.path.join(folder, "old"))


def _put_in_place(written: str, path: str, aside: str) -> None:
    """Two directories cannot be exchanged in one step: for a moment there is none at `path`."""
    had_one = os.path.exists(path)
    if had_one:
        os.rename(path, aside)
    try:
        os.rename(written, path)
    except OSError:
        if had_one:
            os.rename(aside, path)
        raise


def check_is_replaceable(path: str) -> None:
    """Raises `ConfigurationError` if there is something at `path` that is no directory of a model alone."""
    if not os.path.exists(path):
        return
    if not os.path.isdir(path):
        raise ConfigurationError(f"A directory was to be written to '{path}', but there is a file.")
    others = [
        name for name in sorted(os.listdir(path)) if name not in _PARTS and not name.endswith(ARRAY_ENDING)
    ]
    if others:
        raise ConfigurationError(
            f"The directory '{path}' was to be replaced by that of a model, but it has other things in it: "
            f"{', '.join(others[:5])}. Give another output."
        )


def _write_parts(folder: str, model: Model, config: Dict[str, Any], weights: Optional[Weights]) -> None:
    Params(dict(config)).to_file(os.path.join(folder, CONFIG_NAME))
    save(model.state_dict() if weights is None else weights, os.path.join(folder, _WEIGHTS))
    model.vocab.save_to_files(os.path.join(folder, "vocabulary"))
    Meta.new().to_file(os.path.join(folder, _META))


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
    with workplace(path, ".writing-") as folder:
        place = os.path.join(folder, os.path.basename(path))
        yield place
        os.replace(place, path)
