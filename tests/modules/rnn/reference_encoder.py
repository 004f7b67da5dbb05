"""Builds an `LdRnn` from the parameters of a reference file, for the tests of the encoders."""

import re
from typing import Any

import torch

from ldnet_allennlp.modules.rnn.ld_rnn import LdRnn

CELL_OF_BLOCKS = {4: "lstm", 3: "gru", 1: "rnn"}


def stack_parameters(parameters: dict[str, torch.Tensor], direction: int = 0) -> dict[str, torch.Tensor]:
    """The original's `[rnn.]layer.{k}.layer.*`, under the names of one direction of an `LdRnn`."""
    renamed = {}
    for key, value in parameters.items():
        match = re.fullmatch(r"(?:rnn\.)?layer\.(\d+)\.layer\.(\w+)", key)
        if match:
            renamed[f"stacks.{direction}.layers.{match.group(1)}.{match.group(2)}"] = value
    return renamed


def build_encoder(
    parameters: dict[str, torch.Tensor], dtype: torch.dtype = torch.float64, **options: Any
) -> LdRnn:
    """An `LdRnn` in evaluation mode; a bidirectional one has the parameters in both directions."""
    first = stack_parameters(parameters)
    recurrent = first["stacks.0.layers.0.weight_hh_l0"]
    encoder = LdRnn(
        input_size=first["stacks.0.layers.0.weight_ih_l0"].size(1),
        hidden_size=recurrent.size(1),
        num_layers=sum(name.endswith("weight_hh_l0") for name in first),
        cell_type=CELL_OF_BLOCKS[recurrent.size(0) // recurrent.size(1)],
        **options,
    ).to(dtype)
    for direction in range(len(encoder.stacks)):
        first.update(stack_parameters(parameters, direction))
    encoder.load_state_dict(first)
    return encoder.eval()


def batch_first(array: Any, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """A reference array, which is time first, as a batch-first tensor."""
    return torch.as_tensor(array).transpose(0, 1).to(dtype)
