"""Base of the recurrent encoders: sizes, padding, and hidden states carried from one window of a text to the next."""

import copy
import itertools
from collections.abc import Callable
from typing import Any

import torch
from allennlp.common.checks import ConfigurationError
from allennlp.modules.seq2seq_encoders import Seq2SeqEncoder
from overrides import overrides

from ldnet_allennlp.common.checks import check_at_least, check_choice, check_probability
from ldnet_allennlp.modules.rnn.layers import CELLS, LayerState


class CarryingEncoder(Seq2SeqEncoder):
    """
    An encoder that, if `stateful`, starts each call from the final states of the previous call. The other parameters
    are those of `LdRnn`.

    Raises `ConfigurationError` for an unknown cell type, sizes below 1, or a dropout outside [0, 1].
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        cell_type: str,
        dropout: float,
        stateful: bool,
        num_directions: int = 1,
    ) -> None:
        super().__init__(stateful=stateful)
        owner = "a recurrent encoder"
        check_choice(CELLS, owner, cell_type=cell_type)
        check_at_least(1, owner, input_size=input_size, hidden_size=hidden_size)
        check_probability(owner, dropout=dropout)
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.cell_type = cell_type
        # The detached final states of each direction's layers, `None` before the first window.
        self.carried: list[list[LayerState] | None] = [None] * num_directions

    @overrides
    def get_input_dim(self) -> int:
        return self.input_size

    def _without_padding(
        self, inputs: torch.Tensor, mask: torch.BoolTensor | None
    ) -> tuple[torch.Tensor, Callable[[torch.Tensor], torch.Tensor]]:
        """
        The inputs (B, T, D) with zeros at padded steps, because a NaN in a padded cell would spread through the
        gradients; and a function that does the same with an output.
        """
        if mask is None:
            return inputs, lambda output: output
        padding = ~mask.unsqueeze(-1)  # (B, T, 1)
        return inputs.masked_fill(padding, 0.0), lambda output: output.masked_fill(padding, 0.0)

    @overrides
    def reset_states(self, mask: torch.BoolTensor | None = None) -> None:
        """Clear the states of a `stateful` encoder: the rows of `mask` (B,), by default all."""
        for direction, layers in enumerate(self.carried):
            if mask is None or layers is None:
                self.carried[direction] = None
            else:
                rows = mask.unsqueeze(-1)  # (B, 1)
                self.carried[direction] = [
                    tuple(tensor.masked_fill(rows, 0.0) for tensor in state) for state in layers
                ]

    def _start(self, direction: int, batch_size: int) -> list[LayerState] | None:
        """The states to start from. Raises `ConfigurationError` if their number of rows differs."""
        layers = self.carried[direction]
        if layers and layers[0][0].size(0) != batch_size:
            raise ConfigurationError(
                f"The states of this stateful encoder belong to a batch of {layers[0][0].size(0)} streams, "
                f"but the input has {batch_size}. Call reset_states() before the batch size changes."
            )
        return layers

    def _keep(self, direction: int, states: list[LayerState]) -> None:
        self.carried[direction] = [tuple(tensor.detach() for tensor in state) for state in states]


def without_states(encoder: Any) -> Any:
    """
    An encoder with the same weights that starts each call from zeros and neither reads nor changes the carried states
    of `encoder`. Returns `encoder` itself if no module in it is stateful.
    """
    if not any(getattr(module, "stateful", False) for module in encoder.modules()):
        return encoder
    states = [state for module in encoder.modules() for state in getattr(module, "_states", None) or ()]
    shared = itertools.chain(encoder.parameters(), encoder.buffers(), states)
    fresh = copy.deepcopy(encoder, {id(tensor): tensor for tensor in shared})
    for module in fresh.modules():
        if getattr(module, "stateful", False):
            module.stateful, module._states = False, None
    return fresh


def lengths_if_needed(mask: torch.BoolTensor | None) -> torch.Tensor | None:
    """
    The length of each row, shape (B,), on the CPU; `None` if all rows fill the window. Only shorter rows require
    packing (slower) for correct final states.
    """
    if mask is None:
        return None
    lengths = mask.sum(dim=1).cpu()
    return lengths if int(lengths.min()) < mask.size(1) else None
