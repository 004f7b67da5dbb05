"""Archives as checkpoints in the original's format, where the original has such a model."""

import collections
import json
import os
import pickle
from typing import Any, Callable, Dict, List

from allennlp.common.checks import ConfigurationError
from allennlp.models.archival import Archive

from ldnet_allennlp.common.atomic import save, workplace
from ldnet_allennlp.convert.language_models_to_original import language_model_files
from ldnet_allennlp.convert.taggers_to_original import tagger_checkpoint
from ldnet_allennlp.models.adaptive_language_model import AdaptiveLanguageModel
from ldnet_allennlp.models.ldnet_tagger import LdnetTagger


def write_original(archive: Archive, output: str) -> List[str]:
    """
    Writes a model as the original's files: a tagger as one checkpoint with its maps in itself (the layout of
    `pner0.th`, which LightNER reads), a language model as a checkpoint, the pickle of its words and the options.

    # Parameters

    archive : `Archive`
        Of an "ldnet_tagger" or a unidirectional "adaptive_language_model".
    output : `str`
        The checkpoint to write. For `x.th` a language model's other files are `x.test.pk` and `x.config.json`.

    # Returns

    `List[str]`
        What was done, in lines for the user.

    Raises `ConfigurationError` if the original has no such model, with the reasons.
    """
    model, config = archive.model, archive.config.as_dict(quiet=True)
    stem = os.path.splitext(output)[0]
    writers: Dict[str, Callable[[str], None]] = {}
    if isinstance(model, LdnetTagger):
        checkpoint = tagger_checkpoint(model, archive.validation_dataset_reader)
        writers[output] = _saver(checkpoint)
    elif isinstance(model, AdaptiveLanguageModel):
        files = language_model_files(model, config)
        writers[output] = _saver({"model": files.weights})
        writers[f"{stem}.test.pk"] = _pickler(files.maps)
        writers[f"{stem}.config.json"] = _json_writer(files.options)
    else:
        raise ConfigurationError(
            f"The original LD-Net has taggers (ldnet_tagger) and language models (adaptive_language_model), but the "
            f"archive holds a {type(model).__name__}."
        )
    _write_all(writers)
    return [f"Written to {path} ({os.path.getsize(path) / 2**20:.1f} MiB)." for path in writers]


def _write_all(writers: Dict[str, Callable[[str], None]]) -> None:
    """Writes all files beside their places first, and then puts them there."""
    with workplace(next(iter(writers)), ".original-") as folder:
        for number, write in enumerate(writers.values()):
            write(os.path.join(folder, str(number)))
        for number, path in enumerate(writers):
            os.replace(os.path.join(folder, str(number)), path)


def _saver(checkpoint: Dict[str, Any]) -> Callable[[str], None]:
    weights = collections.OrderedDict(
        (name, tensor.detach().cpu().float().clone()) for name, tensor in checkpoint["model"].items()
    )
    # torch 0.4.1 reads the old container only.
    return lambda path: save({**checkpoint, "model": weights}, path, _use_new_zipfile_serialization=False)


def _pickler(data: Any) -> Callable[[str], None]:
    def write(path: str) -> None:
        with open(path, "wb") as file:
            pickle.dump(data, file, protocol=3)

    return write


def _json_writer(data: Any) -> Callable[[str], None]:
    def write(path: str) -> None:
        with open(path, "w", encoding="utf-8") as file:
            json.dump(data, file, indent=2)
            file.write("\n")

    return write
