"""A CRF whose sentence boundaries are tags among the others, as in the original LD-Net."""

from dataclasses import dataclass
from typing import List, Optional, Tuple

import torch
from allennlp.common.checks import ConfigurationError
from overrides import overrides

from ldnet_allennlp.modules.crf.conditional_random_field import FastConditionalRandomField


@dataclass(frozen=True)
class BoundaryTags:
    """The ids of the two tags that stand for the boundaries of a sentence."""

    start: int
    end: int


class BoundaryTagCrf(FastConditionalRandomField):
    """
    A CRF without start and end transitions of its own: what comes before a sentence is the tag `start`, what
    comes after it the tag `end`, and both are ordinary tags otherwise, also of words (`model_seq/crf.py` of
    the original LD-Net, with its `<s>` and `<eof>`). One parameter serves both purposes, so it is trained as
    there.

    # Parameters

    num_tags : `int`
        The number of tags, the two included.
    boundary_tags : `BoundaryTags`
        The two tags.
    constraints : `List[Tuple[int, int]]`, optional (default = `None`)
        As in `FastConditionalRandomField`.

    Raises `ConfigurationError` if a boundary tag is not below `num_tags`.
    """

    def __init__(
        self,
        num_tags: int,
        boundary_tags: BoundaryTags,
        constraints: Optional[List[Tuple[int, int]]] = None,
    ) -> None:
        super().__init__(num_tags, constraints, include_start_end_transitions=False)
        if not (0 <= boundary_tags.start < num_tags and 0 <= boundary_tags.end < num_tags):
            raise ConfigurationError(
                f"The boundary tags of a CRF with {num_tags} tags have ids below that, but they are "
                f"{boundary_tags.start} and {boundary_tags.end}."
            )
        self.boundary_tags = boundary_tags

    @overrides
    def scores(
        self, constrained: bool = False, forbidden: float = float("-inf")
    ) -> Tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        start = self.transitions[self.boundary_tags.start]  # (N,), to the first tag
        end = self.transitions[:, self.boundary_tags.end]  # (N,), from the last tag
        transitions, _, _ = super().scores(constrained, forbidden)
        if constrained:
            barred, tags = self._constraint_mask == 0, slice(self.num_tags)
            start = start.masked_fill(barred[self.num_tags, tags], forbidden)
            end = end.masked_fill(barred[tags, self.num_tags + 1], forbidden)
        return transitions, start, end
