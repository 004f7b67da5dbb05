"""A CRF whose sentence boundaries are tags among the others, as in the original LD-Net."""

from dataclasses import dataclass
from typing import List, Optional, Tuple

from allennlp.common.checks import ConfigurationError
from overrides import overrides

from ldnet_allennlp.modules.crf.conditional_random_field import FastConditionalRandomField, Scores


@dataclass(frozen=True)
class BoundaryTags:
    """The ids of the two tags that stand for the boundaries of a sentence."""

    start: int
    end: int


class BoundaryTagCrf(FastConditionalRandomField):
    """
    A CRF without start and end transitions of its own: the tag `start` stands before each sentence, the tag `end`
    after it, and both are ordinary tags otherwise, also of words (`model_seq/crf.py` of the original LD-Net, with its
    `<s>` and `<eof>`).

    # Parameters

    num_tags, constraints : as in `FastConditionalRandomField`
        The two tags are among the `num_tags`.
    boundary_tags : `BoundaryTags`
        The two tags.

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
    def _unconstrained_scores(self) -> Scores:
        transitions = self.transitions
        return transitions, transitions[self.boundary_tags.start], transitions[:, self.boundary_tags.end]
