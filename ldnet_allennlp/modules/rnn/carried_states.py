"""Hidden states carried from one window of a text to the next."""

import copy
import itertools
from collections.abc import Sequence
from typing import Any

import torch
from allennlp.common.checks import ConfigurationError
from allennlp.modules.seq2seq_encoders import Seq2SeqEncoder
from overrides import overrides

from ldnet_allennlp.modules.rnn.layers import LayerState


class CarriedStates:
    """The detached final states of the layers of one direction; `layers` is `None` before the first window."""

    def __init__(self) -> None:
        self.layers: list[LayerState] | None = None

    def reset(self, mask: torch.BoolTensor | None = None) -> None:
        """
        # Parameters

        mask : `torch.BoolTensor`, optional
            Shape (B,): the rows to reset; all by default.
        """
        if mask is None or self.layers is None:
            self.layers = None
            return
        reset = mask.unsqueeze(-1)  # (B, 1)
        self.layers = [tuple(tensor.masked_fill(reset, 0.0) for tensor in state) for state in self.layers]

    def for_batch(self, batch_size: int) -> list[LayerState] | None:
        """The states to start from. Raises `ConfigurationError` if their number of rows differs."""
        if self.layers and self.layers[0][0].size(0) != batch_size:
            raise ConfigurationError(
                f"The states of this stateful encoder belong to a batch of {self.layers[0][0].size(0)} streams, "
                f"but the input has {batch_size}. Call reset_states() before the batch size changes."
            )
        return self.layers

    def keep(self, states: Sequence[LayerState]) -> None:
        """Store the final states of the layers."""
        self.layers = [tuple(tensor.detach() for tensor in state) for state in states]


class CarryingEncoder(Seq2SeqEncoder):
    """
    An encoder that, if `stateful`, starts each call from the final states of the previous call.

    # Parameters

    stateful : `bool`
    num_directions : `int`, optional (default = `1`)
    """

    def __init__(self, stateful: bool, num_directions: int = 1) -> None:
        super().__init__(stateful=stateful)
        self.carried = [CarriedStates() for _ in range(num_directions)]

    @overrides
    def reset_states(self, mask: torch.BoolTensor | None = None) -> None:
        """
        Clear the states of a `stateful` encoder.

        # Parameters

        mask : `torch.BoolTensor`, optional
            Shape (B,): the rows to reset; all by default.
        """
        for states in self.carried:
            states.reset(mask)

    def get_states(self) -> list[list[LayerState] | None]:
        """The states of each direction's layers, `None` before the first window. For checkpoints."""
        return [states.layers for states in self.carried]

    def set_states(self, states: list[list[LayerState] | None]) -> None:
        """Continue from the states that `get_states` returned."""
        for carried, layers in zip(self.carried, states):
            carried.layers = layers


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
