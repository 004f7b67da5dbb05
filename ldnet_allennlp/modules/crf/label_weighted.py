"""
The fast forms of AllenNLP's conditional random fields with label weights, and the choice among all forms.
"""

from typing import Dict, List, Optional, Tuple, Type

import torch
from allennlp.common.checks import ConfigurationError
from allennlp.modules.conditional_random_field import (
    ConditionalRandomFieldWeightEmission,
    ConditionalRandomFieldWeightLannoy,
    ConditionalRandomFieldWeightTrans,
)
from overrides import overrides

from ldnet_allennlp.modules.crf.conditional_random_field import FastConditionalRandomField


class _LabelWeighted(FastConditionalRandomField):
    """
    What the variants share. Each also inherits from AllenNLP's variant, whose constructor is the next one.
    """

    label_weights: torch.Tensor

    def __init__(
        self,
        num_tags: int,
        label_weights: List[float],
        constraints: Optional[List[Tuple[int, int]]] = None,
        include_start_end_transitions: bool = True,
    ) -> None:
        super().__init__(num_tags, label_weights, constraints, include_start_end_transitions)  # type: ignore
        if len(label_weights) != num_tags:
            raise ConfigurationError(
                f"There are {len(label_weights)} label_weights for {num_tags} tags; the CRF needs one a tag."
            )

    @overrides
    def perceptron_loss(
        self, inputs: torch.Tensor, tags: torch.Tensor, mask: Optional[torch.Tensor] = None
    ) -> torch.Tensor:
        raise ConfigurationError(
            "Label weights are defined for the log-likelihood only; the structured perceptron's loss needs a "
            "CRF without label_weights."
        )


class FastConditionalRandomFieldWeightEmission(_LabelWeighted, ConditionalRandomFieldWeightEmission):
    """
    The fast form of AllenNLP's `ConditionalRandomFieldWeightEmission`: in the loss, the logits of each tag
    are multiplied by the tag's weight. Decoding, marginals and `log_partition` know no weights.

    # Parameters

    num_tags : `int`
        The number of tags.
    label_weights : `List[float]`
        One weight a tag.
    constraints : `List[Tuple[int, int]]`, optional (default = `None`)
        The allowed transitions.
    include_start_end_transitions : `bool`, optional (default = `True`)
        Whether the first and the last tag of a sentence have scores of their own.
    """

    @overrides
    def _weighted(self, logits: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        return logits * self.label_weights, self.transitions


class FastConditionalRandomFieldWeightTrans(_LabelWeighted, ConditionalRandomFieldWeightTrans):
    """
    The fast form of AllenNLP's `ConditionalRandomFieldWeightTrans`: in the loss, the logits of each tag and
    the transitions from it are multiplied by the tag's weight. Decoding, marginals and `log_partition` know
    no weights. The parameters are those of `FastConditionalRandomFieldWeightEmission`.
    """

    @overrides
    def _weighted(self, logits: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        return logits * self.label_weights, self.transitions * self.label_weights.unsqueeze(1)


class FastConditionalRandomFieldWeightLannoy(_LabelWeighted, ConditionalRandomFieldWeightLannoy):
    """
    The fast form of AllenNLP's `ConditionalRandomFieldWeightLannoy` (De Lannoy et al. 2012, "Weighted
    conditional random fields for supervised interpatient heartbeat classification"): in the loss, what a step
    adds to the score and to log Z is multiplied by the weight of the step's tag. Decoding, marginals and
    `log_partition` know no weights. The parameters are those of `FastConditionalRandomFieldWeightEmission`.
    """

    @overrides
    def forward(
        self, inputs: torch.Tensor, tags: torch.Tensor, mask: Optional[torch.BoolTensor] = None
    ) -> torch.Tensor:
        kept = self._kept(inputs, mask)
        if mask is not None:
            tags = tags.masked_fill(~mask.to(torch.bool), 0)
        weights = self.label_weights
        transitions, start, end = self.scores()
        weighted = transitions * weights.unsqueeze(1), start, end
        score = self._path_score(inputs * weights, weighted, kept, tags)
        minus_log_z = self._log_likelihood(inputs, (transitions, start, end), kept)
        # What the end adds to log Z has the weight 1: only what the steps add is corrected.
        without_end = transitions, start, torch.zeros_like(end)
        correction = self._log_likelihood(inputs, without_end, kept, step_weights=weights[tags] - 1.0)
        return (score + minus_log_z + correction).sum()


def build_crf(
    num_tags: int,
    constraints: Optional[List[Tuple[int, int]]] = None,
    include_start_end_transitions: bool = True,
    label_weights: Optional[List[float]] = None,
    weight_strategy: Optional[str] = None,
) -> FastConditionalRandomField:
    """
    The CRF for a tagger's options, which are those of allennlp-models' `CrfTagger`.

    # Parameters

    num_tags : `int`
        The number of tags.
    constraints : `List[Tuple[int, int]]`, optional (default = `None`)
        The allowed transitions, see `FastConditionalRandomField`.
    include_start_end_transitions : `bool`, optional (default = `True`)
        Whether the first and the last tag of a sentence have scores of their own.
    label_weights : `List[float]`, optional (default = `None`)
        One weight a tag, for the loss.
    weight_strategy : `str`, optional (default = `None`)
        What the weights multiply: "emission" (also if `None`), "emission_transition" or "lannoy".

    # Returns

    `FastConditionalRandomField`

    # Raises

    `ConfigurationError` for a strategy without weights, an unknown strategy, or a wrong number of weights.
    """
    if label_weights is None:
        if weight_strategy is not None:
            raise ConfigurationError(
                f'The weight_strategy "{weight_strategy}" needs label_weights; there are none.'
            )
        return FastConditionalRandomField(num_tags, constraints, include_start_end_transitions)
    strategies: Dict[str, Type[_LabelWeighted]] = {
        "emission": FastConditionalRandomFieldWeightEmission,
        "emission_transition": FastConditionalRandomFieldWeightTrans,
        "lannoy": FastConditionalRandomFieldWeightLannoy,
    }
    crf = strategies.get(weight_strategy or "emission")
    if crf is None:
        raise ConfigurationError(
            f'The weight_strategy is "{weight_strategy}"; it must be one of {", ".join(strategies)}.'
        )
    return crf(num_tags, label_weights, constraints, include_start_end_transitions)
