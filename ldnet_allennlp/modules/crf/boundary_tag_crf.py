"""CRF with sentence boundaries as ordinary tags, as in the original LD-Net."""

from typing import Optional

import torch
from allennlp.common.checks import ConfigurationError
from overrides import overrides

from ldnet_allennlp.modules.crf.conditional_random_field import FastConditionalRandomField
from ldnet_allennlp.modules.crf.log_partition import Scores


class BoundaryTagCrf(FastConditionalRandomField):
    """
    A CRF without separate start and end transitions: one tag precedes each sentence, another one follows it, and both
    are otherwise ordinary tags, even for words (`model_seq/crf.py` of the original LD-Net, with its `<s>` and `<eof>`).

    # Parameters

    num_tags, constraints : as in `FastConditionalRandomField`
        The two tags are among the `num_tags`.
    boundary_tags : `Tuple[int, int]`
        The ids of the tags at the start and the end.
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

        Raises `ConfigurationError` for a sentence of one step.
        """
        steps = mask.sum(dim=1)  # (B,)
        if int(steps.min()) < 2:
            raise ConfigurationError(
                "The ldnet_tagger has boundary_tags, so each sentence was expected to have a word and an end "
                "step, but one has a single token. Set the reader's end_token."
            )
        rows = torch.arange(emissions.size(0), device=emissions.device)
        end_scores = emissions[rows, steps - 1, self.boundary_tags[1]]  # (B,)
        numbers = torch.arange(emissions.size(1) - 1, device=emissions.device)
        is_last_word = numbers == (steps - 2).unsqueeze(1)  # (B, T - 1)
        emissions = emissions[:, :-1] + (is_last_word * end_scores.unsqueeze(1)).unsqueeze(2)
        return emissions, numbers < (steps - 1).unsqueeze(1)
