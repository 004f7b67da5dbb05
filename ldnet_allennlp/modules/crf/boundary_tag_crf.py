"""CRF with sentence boundaries as ordinary tags, as in the original LD-Net."""

from typing import Optional

import torch
from allennlp.common.checks import ConfigurationError
from overrides import overrides

from ldnet_allennlp.modules.crf.conditional_random_field import FastConditionalRandomField
from ldnet_allennlp.modules.crf.log_partition import Scores, step_mask


class BoundaryTagCrf(FastConditionalRandomField):
    """
    A CRF without separate start and end transitions: the first of the `boundary_tags` (ids) precedes each sentence, the
    second one follows it, and both are otherwise ordinary tags, even for words (`model_seq/crf.py` of the original
    LD-Net, with its `<s>` and `<eof>`).
    """

    def __init__(
        self,
        num_tags: int,
        boundary_tags: tuple[int, int],
        constraints: Optional[list[tuple[int, int]]] = None,
    ) -> None:
        super().__init__(num_tags, constraints, include_start_end_transitions=False)
        self.boundary_tags = boundary_tags

    @overrides
    def _unconstrained_scores(self) -> Scores:
        start, end = self.boundary_tags
        return self.transitions, self.transitions[start], self.transitions[:, end]

    def without_end_step(
        self, emissions: torch.Tensor, mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Leave the last step of each sentence out of emissions (B, T, N) and a mask (B, T). Its tag is fixed, so its
        score is added to all tags of the last word. Path scores stay the same.
        """
        steps = mask.sum(dim=1)  # (B,)
        if int(steps.min()) < 2:
            raise ConfigurationError(
                "The ldnet_tagger has boundary_tags, so each sentence was expected to have a word and an end "
                "step, but one has a single token. Set the reader's end_token."
            )
        rows = torch.arange(emissions.size(0), device=emissions.device)
        words = emissions[:, :-1].clone()
        words[rows, steps - 2] += emissions[rows, steps - 1, self.boundary_tags[1], None]  # (B, 1)
        return words, step_mask(steps - 1, words.size(1)).t()
