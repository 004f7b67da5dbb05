"""The states of two character networks at the word boundaries of sentences."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

import torch


class CharacterStates(NamedTuple):
    """
    States of both character networks at the word boundaries, before dropout, highway layers and projection.

    A language model on top of them predicts the next word from `forward[:, t]`, the state after word t and its space,
    and the previous word from `backward[:, t]`, the state after the words from the last one back to word t. At the end
    position the backward network has read only the marker.
    The states are (B, T, H), zero where the mask (B, T) of words and end positions is false; with an appended end
    position, T is T + 1.
    """

    forward: torch.Tensor
    backward: torch.Tensor
    mask: torch.Tensor

    def is_end(self) -> torch.Tensor:
        """The end positions, (B, T or T + 1), if the states have them: the last position of each sentence."""
        remaining = self.mask.long().flip(1).cumsum(1).flip(1)  # positions from here to the end
        return self.mask & (remaining == 1)

    def without_end(self) -> "CharacterStates":
        """The states of the words alone, (B, T, H), if an end position was appended."""
        mask = self.mask & ~self.is_end()
        return CharacterStates(self.forward[:, :-1], self.backward[:, :-1], mask[:, :-1])


# The modules that are being recorded in this thread (or task), by identity.
_RECORDINGS: ContextVar[dict[int, list[CharacterStates]] | None] = ContextVar(
    "ldnet_character_states", default=None
)


@contextmanager
def recording_states(module: torch.nn.Module) -> Iterator[list[CharacterStates]]:
    """
    Context that yields a list. Calls of a `SentenceCharacterLstm` in this thread add their states to it, always with
    end positions, and return the same vectors as without the context, so that a language model and a tagger can share
    one pass of the networks.
    """
    states: list[CharacterStates] = []
    token = _RECORDINGS.set({**(_RECORDINGS.get() or {}), id(module): states})
    try:
        yield states
    finally:
        _RECORDINGS.reset(token)


def recorded_states(module: torch.nn.Module) -> list[CharacterStates] | None:
    """The list of the active `recording_states` of a module; `None` without one."""
    return (_RECORDINGS.get() or {}).get(id(module))
