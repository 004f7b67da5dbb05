"""Read and check files of the original LD-Net: checkpoints, word maps and the options of a run."""

import json
import os
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

    def weight(self, name: str) -> torch.Tensor:
        """The tensor of this name. Raises `ConfigurationError` if it is missing."""
        if name not in self.weights:
            raise ConfigurationError(
                f"'{self.path}' was expected to hold a model of the original LD-Net, but it has no '{name}'."
            )
        return self.weights[name]


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


def read_maps(path: str, names: list[str]) -> dict[str, Any]:
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


def checked_map(
    mapping: Any, name: str, path: str, size: int, rows: str, needed: list[str] | None = None
) -> Map:
    """
    Return `mapping`, the map `name` of the file `path`, if it is a map from strings to the `size` rows of a matrix
    (`rows` describes it in messages) and has the `needed` entries.

    Raises `ConfigurationError` otherwise.
    """
    if not isinstance(mapping, dict) or not all(
        isinstance(key, str) and type(number) is int for key, number in mapping.items()
    ):
        raise ConfigurationError(f"'{path}': {name} was expected to be a map from strings to numbers.")
    if len(mapping) != size:
        raise ConfigurationError(
            f"The maps do not match the weights: {name} of '{path}' has {len(mapping)} entries, but {rows} "
            f"has {size} rows."
        )
    if sorted(mapping.values()) != list(range(size)):
        raise ConfigurationError(
            f"'{path}': the numbers in {name} were expected to be those from 0 to {size - 1}, each once."
        )
    missing = [key for key in needed or [] if key not in mapping]
    if missing:
        raise ConfigurationError(f"'{path}': {name} has no {', '.join(map(repr, missing))}.")
    return mapping


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
            data = json.load(file)
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"'{options_path}' was expected to hold the options of a run as JSON, but: {error}"
        ) from error
    if not isinstance(data, dict):
        raise ConfigurationError(
            f"'{options_path}' was expected to hold the options of a run as a JSON object."
        )
    return data


def number_of(options: dict[str, Any], name: str, default: float, upper: float | None = None) -> float:
    """The value of an option that is a number of at least 0. Raises `ConfigurationError` for any other value."""
    value = options.get(name, default)
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float))
        or value < 0
        or value > (upper or value)
    ):
        raise ConfigurationError(
            f"The option {name} was expected to be a number of at least 0"
            f"{f' and at most {upper}' if upper else ''}, but it is {value!r}."
        )
    return value
