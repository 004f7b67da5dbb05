"""Read and check files of the original LD-Net: checkpoints, word maps and the options of a run."""

import json
import math
import os
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from allennlp.common.checks import ConfigurationError

from ldnet_allennlp.common.untrusted.pickles import read_pickle, read_torch_file

UNKNOWN = "<unk>"
NEWLINE = "\n"
"""The boundary in the language models' maps, and the marker in the character map."""
WORD_BOUNDARY = "<\n>"
"""The end-of-sentence step in the map of the tagger's own words."""
START_TAG, END_TAG = "<s>", "<eof>"
SPACE = " "

Map = dict[str, int]
Weights = dict[str, torch.Tensor]
TAGGER_MAPS = ("flm_map", "blm_map", "gw_map", "c_map", "y_map")


class Checkpoint(NamedTuple):
    """A checkpoint: of a language model (`ld0.th`) or of a tagger (`ner.th`, `pner0.th`)."""

    path: str
    weights: Weights
    maps: dict[str, Any]
    """The maps in the file itself, not checked."""
    config: dict[str, Any]
    """The description in the file itself, if any."""

    @property
    def is_tagger(self) -> bool:
        """Whether this is a tagger's checkpoint. Those of language models have no CRF."""
        return "crf.transitions" in self.weights

    def error(self, message: str) -> ConfigurationError:
        """An error about this file."""
        return ConfigurationError(f"'{self.path}': {message}")

    def weight(self, name: str) -> torch.Tensor:
        """The tensor of this name. Raises `ConfigurationError` if it is missing."""
        if name not in self.weights:
            raise self.error(f"expected a model of the original LD-Net, but it has no '{name}'.")
        return self.weights[name]

    def matrix_size(self, name: str) -> tuple[int, int]:
        """The size of a matrix. Raises `ConfigurationError` for any other tensor."""
        size = self.weight(name).size()
        if len(size) != 2:
            raise self.error(f"'{name}' was expected to be a matrix, but it has the size {tuple(size)}.")
        return size[0], size[1]

    def count(self, pattern: str) -> int:
        """The number of layers: of distinct values of the group in a regular expression for names."""
        return len({match[1] for name in self.weights if (match := re.match(pattern, name))})

    def rows_of(self, weight: str, mapping: Any, where: str, needed: Sequence[str]) -> Map:
        """
        The map, as `numbered`, whose entries are the rows of a matrix. Raises `ConfigurationError`, which begins with
        `where`, if it does not match or lacks a `needed` entry.
        """
        mapping = numbered(mapping, where)
        rows = self.matrix_size(weight)[0]
        if len(mapping) != rows:
            raise ConfigurationError(
                f"{where} has {len(mapping)} entries, but '{weight}' of '{self.path}' has {rows} rows: the maps do not "
                f"match the weights."
            )
        missing = [key for key in needed if key not in mapping]
        if missing:
            raise ConfigurationError(f"{where} has no {', '.join(map(repr, missing))}.")
        return mapping


def is_pickle_of_maps(path: str) -> bool:
    """
    Return whether a file is a pickle of the original's pre-processing. Checkpoints are zip files or begin with a
    number.

    Raises `ConfigurationError` if the file is missing.
    """
    if not os.path.isfile(path):
        raise ConfigurationError(f"The file '{path}' does not exist.")
    with open(path, "rb") as file:
        start = file.read(3)
    return start[:1] == b"\x80" and start[2:3] in (b"}", b"]", b"\x95")


def read_checkpoint(path: str) -> Checkpoint:
    """
    Read a checkpoint of the original's training scripts.

    Raises `ConfigurationError` if the file contains anything else, see also `read_torch_file`.
    """
    data = read_torch_file(path)
    if not isinstance(data, dict) or not isinstance(data.get("model"), dict):
        content = (
            f"the keys {', '.join(map(repr, data))}" if isinstance(data, dict) else f"a {type(data).__name__}"
        )
        raise ConfigurationError(
            f"'{path}' was expected to be a checkpoint of the original LD-Net, a dictionary with the weights "
            f"under 'model', but it holds {content[:200]}."
        )
    weights = data["model"]
    for name, tensor in weights.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            raise ConfigurationError(
                f"'{path}' was expected to have tensors under 'model', but {name!r} is a {type(tensor).__name__}."
            )
        if not tensor.is_floating_point() or not bool(torch.isfinite(tensor).all()):
            raise ConfigurationError(
                f"'{path}': the tensor '{name}' was expected to hold finite floating point numbers, but it does not."
            )
    config = data.get("config", {})
    return Checkpoint(
        path,
        dict(weights),
        {name: data[name] for name in TAGGER_MAPS if name in data},
        config if isinstance(config, dict) else {},
    )


def read_maps(path: str, names: Sequence[str]) -> dict[str, Any]:
    """
    Read entries of a pickle of the original's pre-processing (`test.pk` of a language model, `ner_dataset.pk` or
    `conll_map.pk` of a tagger), by name. Their values are not checked.

    Raises `ConfigurationError` if an entry is missing, see also `read_pickle`.
    """
    what = f"a pickle of the original LD-Net's pre-processing, with {', '.join(names)}"
    if not os.path.isfile(path):
        raise ConfigurationError(f"The file '{path}' does not exist; expected {what}.")
    data = read_pickle(path, what)
    missing = [name for name in names if not isinstance(data, dict) or name not in data]
    if missing:
        raise ConfigurationError(f"'{path}' was expected to be {what}, but it has no {', '.join(missing)}.")
    return {name: data[name] for name in names}


def numbered(mapping: Any, where: str) -> Map:
    """
    The map with its entries in the order of their numbers. Raises `ConfigurationError`, which begins with `where`,
    unless it maps strings to the numbers from 0 on.
    """
    if (
        not isinstance(mapping, dict)
        or not all(isinstance(key, str) and type(number) is int for key, number in mapping.items())
        or sorted(mapping.values()) != list(range(len(mapping)))
    ):
        raise ConfigurationError(
            f"{where} was expected to be a map from strings to the numbers from 0 on, each once."
        )
    return dict(sorted(mapping.items(), key=lambda item: item[1]))


def read_options(path: str, options: str | None) -> dict[str, Any]:
    """
    The options of the run that wrote the checkpoint `path`, as the original's scripts save them: from the file
    `options`, by default `ld0.config.json` next to `ld0.th`. Empty if the file is missing.

    Raises `ConfigurationError` if the file is not a JSON object.
    """
    options_path = options or os.path.splitext(path)[0] + ".config.json"
    if options is None and not os.path.isfile(options_path):
        return {}
    try:
        with open(options_path, encoding="utf-8") as file:
            return dict(json.load(file))
    except (OSError, ValueError, TypeError) as error:
        raise ConfigurationError(
            f"'{options_path}' was expected to hold the options of a run as JSON, but: {error}"
        ) from error


def number_of(options: dict[str, Any], name: str, default: float, upper: float | None = None) -> float:
    """The value of an option that is a number of at least 0. Raises `ConfigurationError` for any other value."""
    value = options.get(name, default)
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float))
        or not math.isfinite(value)
        or value < 0
        or value > (upper or value)
    ):
        raise ConfigurationError(
            f"The option {name} was expected to be a number of at least 0"
            f"{f' and at most {upper}' if upper else ''}, but it is {value!r}."
        )
    return value
