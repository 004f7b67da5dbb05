"""Weights of the original's checkpoints: recurrent networks derived from them, and their names in our models."""

import re
from typing import Any, NamedTuple

import torch
from allennlp.common import Params
from allennlp.data import Vocabulary
from allennlp.models import Model

from ldnet_allennlp.convert.original_files import Checkpoint
from ldnet_allennlp.modules.rnn.layers import NUM_GATES

_CELL_TYPES = {num_gates: name for name, num_gates in NUM_GATES.items()}


class Network(NamedTuple):
    """The recurrent layers of a language model; the fields are the config section that builds them."""

    type: str
    """"ld_rnn" or "stacked_rnn"."""
    input_size: int
    hidden_size: int
    num_layers: int
    cell_type: str

    @property
    def output_size(self) -> int:
        """The size of the vectors that a tagger or the softmax reads."""
        if self.type == "stacked_rnn":
            return self.hidden_size
        return self.input_size + self.num_layers * self.hidden_size


class Converted(NamedTuple):
    """A converted model."""

    model: Model
    config: dict[str, Any]
    """The `config.json` that describes it."""
    notes: list[str]
    """Notes for the user."""


class Parts:
    """The weights of a checkpoint under the names of our model."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._parts: dict[str, tuple[str, torch.Tensor]] = {}

    def put(self, new: str, old: str, tensor: torch.Tensor) -> None:
        """Add a tensor that was made of the weight `old`."""
        self._parts[new] = (old, tensor)

    def copy(self, target: str, source: str, *names: str) -> None:
        """Add the weights whose names begin with `source`, or only `names` after it; `target` replaces `source`."""
        weights = self._checkpoint.weights
        for name in names or [name[len(source) :] for name in weights if name.startswith(source)]:
            self.put(target + name, source + name, self._checkpoint.weight(source + name))

    def copy_network(self, target: str, source: str, network: Network) -> None:
        """Add the layers `rnn.layer.*` of a language model."""
        inner = "stacks.0.layers" if network.type == "ld_rnn" else "layers"
        for number in range(network.num_layers):
            self.copy(f"{target}{inner}.{number}.", f"{source}rnn.layer.{number}.layer.")

    def build(self, config: dict[str, Any], vocab: Vocabulary, notes: list[str]) -> Converted:
        """
        Build the model of a config with these weights.

        Raises `ConfigurationError` if a size differs from the model's, if a weight of the model is missing, or if the
        checkpoint has an unused weight.
        """
        model = Model.from_params(Params(config["model"]).duplicate(), vocab=vocab)
        state = model.state_dict()
        unused = sorted(set(self._checkpoint.weights) - {old for old, _ in self._parts.values()})
        unused += [old for new, (old, _) in self._parts.items() if new not in state]
        if unused:
            raise self._checkpoint.error(f"no model of the original LD-Net has {', '.join(unused[:5])}.")
        for new, (old, tensor) in self._parts.items():
            if state[new].size() != tensor.size():
                raise self._checkpoint.error(
                    f"'{old}' was expected to make a tensor of size {tuple(state[new].size())} by the sizes of the "
                    f"other weights, but it makes one of {tuple(tensor.size())}."
                )
        missing = [
            name for name in state if name not in self._parts and not name.endswith("_constraint_mask")
        ]
        if missing:
            raise self._checkpoint.error(f"it has nothing for {', '.join(missing[:5])}.")
        tensors = {new: tensor for new, (_, tensor) in self._parts.items()}
        if any(tensor.dtype == torch.float64 for tensor in tensors.values()):
            model.double()
        model.load_state_dict({**state, **tensors})
        return Converted(model.eval(), config, notes)


def cell_of(checkpoint: Checkpoint, prefix: str) -> tuple[str, int]:
    """The cell type and hidden size of a one-layer RNN whose weight names begin with `prefix`."""
    rows, hidden_size = checkpoint.matrix_size(f"{prefix}weight_hh_l0")
    cell_type = _CELL_TYPES.get(rows // hidden_size) if hidden_size and rows % hidden_size == 0 else None
    if cell_type is None:
        raise checkpoint.error(
            f"'{prefix}weight_hh_l0' was expected to have 4, 3 or 1 times as many rows as columns (LSTM, GRU, RNN), "
            f"but it has {rows} and {hidden_size}."
        )
    return cell_type, hidden_size


def read_network(checkpoint: Checkpoint, prefix: str, output_size: int | None = None) -> Network:
    """
    The layers `rnn.layer.*` of a language model; `prefix` is "", or "f_lm." or "b_lm." in a tagger. `output_size`, the
    size of the output vectors, determines the kind of a network with a single layer.

    Raises `ConfigurationError` if the weights match no network of the original.
    """
    _, input_size = checkpoint.matrix_size(f"{prefix}word_embed.weight")
    num_layers = checkpoint.count(re.escape(prefix) + r"rnn\.layer\.(\d+)\.")
    if num_layers == 0:
        # All layers are pruned, so only the word vector remains. The size must be at least 1, but has no effect.
        return Network("ld_rnn", input_size, 1, 0, "lstm")
    cell_type, hidden_size = cell_of(checkpoint, f"{prefix}rnn.layer.0.layer.")
    dense = Network("ld_rnn", input_size, hidden_size, num_layers, cell_type)
    plain = dense._replace(type="stacked_rnn")
    if num_layers > 1:
        _, second = checkpoint.matrix_size(f"{prefix}rnn.layer.1.layer.weight_ih_l0")
        kinds = {input_size + hidden_size: dense, hidden_size: plain}
        if second not in kinds:
            raise checkpoint.error(
                f"the second layer of '{prefix}rnn' was expected to read {input_size + hidden_size} numbers (LDRNN, "
                f"DenseRNN) or {hidden_size} (BasicRNN), but it reads {second}."
            )
        return kinds[second]
    for network in (dense, plain):
        if output_size in (None, network.output_size):
            return network
    raise checkpoint.error(
        f"the layer that reads '{prefix}rnn' has the size {output_size}, but the vectors have the size "
        f"{dense.output_size} (LDRNN, DenseRNN) or {plain.output_size} (BasicRNN)."
    )
