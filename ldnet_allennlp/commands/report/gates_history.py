"""Gate values per epoch, from the log of the "layer_selection" callback."""

import json
import os
import re
from typing import NamedTuple

from allennlp.common.checks import ConfigurationError

from ldnet_allennlp.modules.embedders.ldnet_embedder import stack_names
from ldnet_allennlp.training.layer_selection_callback import GATES_FILE


class GatesHistory(NamedTuple):
    """The gates of a training run."""

    epochs: list[int]
    """In order, each once."""
    gates: dict[str, list[float]]
    """The values of each gate, one an epoch, by its name: "forward 1", numbered from 1."""


def read_gates_history(archive: str) -> GatesHistory | None:
    """
    Read the log next to an archive, or in `archive` if that is a directory. `None` without a log. If a recovered run
    logged an epoch twice, the later record counts.

    Raises `ConfigurationError` if a line is invalid.
    """
    folder = archive if os.path.isdir(archive) else os.path.dirname(archive)
    path = os.path.join(folder, GATES_FILE)
    if not os.path.exists(path):
        return None
    by_epoch: dict[int, dict[str, float]] = {}
    with open(path, encoding="utf-8") as log:
        for number, line in enumerate(log, start=1):
            try:
                record = json.loads(line)
                by_epoch[int(record["epoch"])] = _named_gates(record["gates"])
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise ConfigurationError(
                    f"{path}, line {number}: the gates of an epoch were expected as JSON, as the layer_selection "
                    f"callback logs them, but it cannot be read ({type(error).__name__}: {error})."
                ) from error
    epochs = sorted(by_epoch)
    names = list(dict.fromkeys(name for epoch in epochs for name in by_epoch[epoch]))
    gates = {name: [by_epoch[epoch].get(name, float("nan")) for epoch in epochs] for name in names}
    return GatesHistory(epochs, gates) if names else None


def _named_gates(gates: dict[str, list[list[float]]]) -> dict[str, float]:
    named: dict[str, float] = {}
    for module, directions in gates.items():
        language_model = re.search(r"\b(forward|backward|bidirectional)_lm\b", module)
        stacks = stack_names(language_model[1] if language_model else "bidirectional")
        for stack, values in zip(stacks, directions):
            for number, value in enumerate(values, start=1):
                name = f"{stack} {number}"
                if language_model is None or name in named:  # an encoder, or one of several ldnet embedders
                    name = f"{module} {name}"
                named[name] = float(value)
    return named
