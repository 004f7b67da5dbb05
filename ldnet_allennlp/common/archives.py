"""Read and write model archives, and inspect their configs."""

import contextlib
import hashlib
import logging
import os
from collections.abc import Callable, Iterator
from typing import Any

from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.common.meta import META_NAME, Meta
from allennlp.data import Vocabulary
from allennlp.models.archival import CONFIG_NAME, Archive, archive_model, get_weights_path
from allennlp.models.model import Model

from ldnet_allennlp.common.files import save_tensors, scratch_directory
from ldnet_allennlp.common.untrusted.archives import load_checked_archive
from ldnet_allennlp.common.untrusted.config_types import items

_WEIGHTS = "weights.th"


def read_archive(path: str, trust: bool = False) -> Archive:
    """
    Load an untrusted archive, `model.tar.gz` or a serialization directory; with `trust`, lift the limits, see
    `load_checked_archive`.

    Raises `ConfigurationError` if the archive is missing, damaged or hostile.
    """
    check_exists(path)
    return load_checked_archive(path, trust)


def check_exists(path: str) -> None:
    """Raise `ConfigurationError` if there is no archive at `path`."""
    if not os.path.exists(path):
        raise ConfigurationError(
            f"No archive was found at '{path}': expected a model.tar.gz or a serialization directory."
        )


def archive_path(path: str) -> str:
    """The file of a new archive: `path`, or `model.tar.gz` in it if it is a directory."""
    is_directory = os.path.isdir(path) or path.endswith(("/", os.sep))
    return os.path.join(path, "model.tar.gz") if is_directory else path


def digest_of(path: str) -> str:
    """The SHA-256 digest of an archive's file, or of the weights in its directory."""
    with open(get_weights_path(path) if os.path.isdir(path) else path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_archive(
    path: str,
    model: Model,
    config: dict[str, Any],
    check: Callable[[Archive], None] | None = None,
    trust: bool = True,
) -> None:
    """
    Write a model as an archive, load it again, and rename it to its final name. Replaces an old file. `config` is the
    content of `config.json`, which must describe the current model. If `check`, called with the loaded archive, raises
    an error, nothing is written. For `trust` see `load_checked_archive`.

    Raises `OSError` if it cannot be written, and `ConfigurationError` if `config` does not describe the model.
    """
    with scratch_directory(path) as folder:
        Params(dict(config)).to_file(os.path.join(folder, CONFIG_NAME))
        save_tensors(model.state_dict(), os.path.join(folder, _WEIGHTS))
        model.vocab.save_to_files(os.path.join(folder, "vocabulary"))
        Meta.new().to_file(os.path.join(folder, META_NAME))
        written = archive_model(folder, _WEIGHTS, archive_path=os.path.join(folder, "model.tar.gz"))
        archive = load_checked_archive(written, trust)
        if check is not None:
            check(archive)
        os.replace(written, path)


def remove_namespace(vocab: Vocabulary, namespace: str) -> None:
    """Remove a namespace from a vocabulary, in place."""
    for mapping in (vocab._token_to_index, vocab._index_to_token):
        mapping.pop(namespace, None)


def find_sections(node: Any, type_name: str) -> Iterator[dict[str, Any]]:
    """Every section of a config whose "type" is `type_name`, in the config's order."""
    return (value for _, value in items(node) if isinstance(value, dict) and value.get("type") == type_name)


@contextlib.contextmanager
def without_progress_messages() -> Iterator[None]:
    """Hide AllenNLP's messages of level INFO, unless the level is DEBUG."""
    root = logging.getLogger()
    level = root.level
    if level == logging.INFO:
        root.setLevel(logging.WARNING)
    try:
        yield
    finally:
        root.setLevel(level)
