"""Recurrent networks of the original's checkpoints: kinds and sizes, derived from the weights."""

import re
from typing import Any, NamedTuple

import torch
from allennlp.common.checks import ConfigurationError

from ldnet_allennlp.convert.original_files import Checkpoint, Weights
from ldnet_allennlp.modules.rnn.layers import CELLS

_CELL_TYPES = {cell.num_gates: name for name, cell in CELLS.items()}
RNN_TENSORS = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")

Parts = dict[str, tuple[str, torch.Tensor]]
"""The weights of a model: for each name, the name in the original's file and the tensor."""


class Network(NamedTuple):
    """The recurrent layers of a language model."""

    kind: str
    """"ld_rnn" or "stacked_rnn"."""
    input_size: int
    hidden_size: int
    num_layers: int
    cell_type: str

    def describe(self) -> dict[str, Any]:
        """The section of a config that builds it."""
        return {
            "type": self.kind,
            "input_size": self.input_size,
            "hidden_size": self.hidden_size,
            "num_layers": self.num_layers,
            "cell_type": self.cell_type,
        }

    @property
    def output_size(self) -> int:
        """The size of the vectors that a tagger or the softmax reads."""
        if self.kind == "stacked_rnn":
            return self.hidden_size
        return self.input_size + self.num_layers * self.hidden_size


def cell_of(checkpoint: Checkpoint, prefix: str) -> tuple[str, int]:
    """The cell type and hidden size of a one-layer RNN whose weight names begin with `prefix`."""
    rows, hidden_size = matrix_size(checkpoint, f"{prefix}weight_hh_l0")
    cell_type = _CELL_TYPES.get(rows // hidden_size) if hidden_size and rows % hidden_size == 0 else None
    if cell_type is None:
        raise ConfigurationError(
            f"'{checkpoint.path}': '{prefix}weight_hh_l0' was expected to have 4, 3 or 1 times as many rows as "
            f"columns (LSTM, GRU, RNN), but it has {rows} and {hidden_size}."
        )
    return cell_type, hidden_size


def matrix_size(checkpoint: Checkpoint, name: str) -> tuple[int, int]:
    """The size of a matrix. Raises `ConfigurationError` for any other tensor."""
    tensor = checkpoint.weight(name)
    if tensor.dim() != 2:
        raise ConfigurationError(
            f"'{checkpoint.path}': '{name}' was expected to be a matrix, but it has the size {tuple(tensor.size())}."
        )
    return int(tensor.size(0)), int(tensor.size(1))


def count_layers(weights: Weights, pattern: str) -> int:
    """The number of distinct values of a group in a regular expression for names."""
    matches = (re.match(pattern, name) for name in weights)
    numbers = {int(match.group(1)) for match in matches if match}
    return len(numbers)


def read_network(checkpoint: Checkpoint, prefix: str, output_size: int | None = None) -> Network:
    """
    The layers `rnn.layer.*` of a language model; `prefix` is "", or "f_lm." or "b_lm." in a tagger. `output_size`, the
    size of the output vectors, determines the kind of a network with a single layer.

    Raises `ConfigurationError` if the weights match no network of the original.
    """
    _, input_size = matrix_size(checkpoint, f"{prefix}word_embed.weight")
    num_layers = count_layers(checkpoint.weights, re.escape(prefix) + r"rnn\.layer\.(\d+)\.")
    if num_layers == 0:
        # All layers are pruned, so only the word vector remains. The size must be at least 1, but has no effect.
        return Network("ld_rnn", input_size, 1, 0, "lstm")
    cell_type, hidden_size = cell_of(checkpoint, f"{prefix}rnn.layer.0.layer.")
    candidates = [
        Network(kind, input_size, hidden_size, num_layers, cell_type) for kind in ("ld_rnn", "stacked_rnn")
    ]
    if num_layers > 1:
        _, second = matrix_size(checkpoint, f"{prefix}rnn.layer.1.layer.weight_ih_l0")
        kinds = {input_size + hidden_size: candidates[0], hidden_size: candidates[1]}
        if second not in kinds:
            raise ConfigurationError(
                f"'{checkpoint.path}': the second layer of '{prefix}rnn' was expected to read "
                f"{input_size + hidden_size} numbers (LDRNN, DenseRNN) or {hidden_size} (BasicRNN), but it reads "
                f"{second}."
            )
        return kinds[second]
    fitting = [network for network in candidates if output_size in (None, network.output_size)]
    if not fitting:
        raise ConfigurationError(
            f"'{checkpoint.path}': what reads '{prefix}rnn' has the size {output_size}, but its layer makes vectors "
            f"of size {candidates[0].output_size} (LDRNN, DenseRNN) or {candidates[1].output_size} (BasicRNN)."
        )
    return fitting[0]


def network_parts(checkpoint: Checkpoint, prefix: str, network: Network, target: str) -> Parts:
    """The weights of a network, under the names that begin with `target`."""
    inner = "stacks.0.layers" if network.kind == "ld_rnn" else "layers"
    return parts_of(
        checkpoint,
        {
            f"{target}{inner}.{number}.{name}": f"{prefix}rnn.layer.{number}.layer.{name}"
            for number in range(network.num_layers)
            for name in RNN_TENSORS
        },
    )


def parts_of(checkpoint: Checkpoint, names: dict[str, str]) -> Parts:
    """Renamed weights of the file: `names` maps new names to names in the file."""
    return {new: (old, checkpoint.weight(old)) for new, old in names.items()}


def rnn_parts(checkpoint: Checkpoint, prefix: str, target: str) -> Parts:
    """All weights of a torch RNN (several layers, both directions) under the names that begin with `target`."""
    names = [name for name in checkpoint.weights if name.startswith(prefix)]
    return parts_of(checkpoint, {target + name[len(prefix) :]: name for name in names})


def load_parts(checkpoint: Checkpoint, model: torch.nn.Module, parts: Parts) -> None:
    """
    Copy the weights into a model.

    Raises `ConfigurationError` if a size differs from the model's, if a weight of the model is missing, or if the
    checkpoint has an unused weight.
    """
    state = model.state_dict()
    unused = sorted(set(checkpoint.weights) - {old for old, _ in parts.values()})
    if unused:
        raise ConfigurationError(
            f"'{checkpoint.path}' was expected to hold a model of the original LD-Net, but nothing in such a model "
            f"is called {', '.join(unused[:5])}."
        )
    for new, (old, tensor) in parts.items():
        if new not in state:
            raise ConfigurationError(f"'{checkpoint.path}': the model has no place for '{old}'.")
        if state[new].size() != tensor.size():
            raise ConfigurationError(
                f"'{checkpoint.path}': '{old}' was expected to make a tensor of size {tuple(state[new].size())} by "
                f"the sizes of the other weights, but it makes one of {tuple(tensor.size())}."
            )
    missing = [name for name in state if name not in parts and not name.endswith("_constraint_mask")]
    if missing:
        raise ConfigurationError(f"'{checkpoint.path}' has nothing for {', '.join(missing[:5])}.")
    if any(tensor.dtype == torch.float64 for _, tensor in parts.values()):
        model.double()
    model.load_state_dict({**state, **{new: tensor for new, (_, tensor) in parts.items()}})
