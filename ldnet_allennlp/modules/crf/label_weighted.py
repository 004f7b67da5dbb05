"""CRFs with label weights in the loss, like AllenNLP's, vectorized over the batch."""

from typing import Optional

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
    Base of the variants. Each also inherits from AllenNLP's variant, whose constructor is next in line. Decoding,
    marginals and `log_partition` ignore the weights.

    # Parameters

    num_tags, constraints, include_start_end_transitions : as in `FastConditionalRandomField`
    label_weights : `List[float]`
        One weight per tag.
    """

    label_weights: torch.Tensor

    def __init__(
        self,
        num_tags: int,
        label_weights: list[float],
        constraints: Optional[list[tuple[int, int]]] = None,
        include_start_end_transitions: bool = True,
    ) -> None:
        super().__init__(num_tags, label_weights, constraints, include_start_end_transitions)  # type: ignore
        if len(label_weights) != num_tags:
            raise ConfigurationError(
                f"Found {len(label_weights)} label_weights, expected one for each of the {num_tags} tags."
            )

    @overrides
    def perceptron_loss(
        self, inputs: torch.Tensor, tags: torch.Tensor, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        raise ConfigurationError("The loss 'structured_perceptron' needs a CRF without label_weights.")

    @overrides
    def partial_log_likelihood(
        self, logits: torch.Tensor, allowed: torch.Tensor, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        raise ConfigurationError(
            "Partial labels need a CRF without label_weights: a word with several allowed tags has no one weight."
        )


class FastConditionalRandomFieldWeightEmission(_LabelWeighted, ConditionalRandomFieldWeightEmission):
    """CRF whose loss multiplies the logits of each tag by the tag's weight."""

    @overrides
    def forward(
        self, inputs: torch.Tensor, tags: torch.Tensor, mask: torch.BoolTensor | None = None
    ) -> torch.Tensor:
        return FastConditionalRandomField.forward(self, inputs * self.label_weights, tags, mask)


class FastConditionalRandomFieldWeightTrans(_LabelWeighted, ConditionalRandomFieldWeightTrans):
    """CRF whose loss multiplies the logits of each tag and the transitions from it by the tag's weight."""

    @overrides
    def forward(
        self, inputs: torch.Tensor, tags: torch.Tensor, mask: torch.BoolTensor | None = None
    ) -> torch.Tensor:
        kept, inputs = self._kept(inputs, mask, tags), inputs * self.label_weights
        transitions, start, end = self.scores()
        scores = transitions * self.label_weights.unsqueeze(1), start, end
        return (self._path_score(inputs, scores, kept, tags) - self._log_z(inputs, scores, kept)).sum()


class FastConditionalRandomFieldWeightLannoy(_LabelWeighted, ConditionalRandomFieldWeightLannoy):
    """
    CRF whose loss multiplies the increments of the score and of log Z at a step by the weight of the step's tag (De
    Lannoy et al. 2012, "Weighted conditional random fields for supervised interpatient heartbeat classification").
    """

    @overrides
    def forward(
        self, inputs: torch.Tensor, tags: torch.Tensor, mask: torch.BoolTensor | None = None
    ) -> torch.Tensor:
        kept = self._kept(inputs, mask, tags)
        if mask is not None:
            tags = tags.masked_fill(~mask.to(torch.bool), 0)
        weights = self.label_weights
        transitions, start, end = self.scores()
        weighted = transitions * weights.unsqueeze(1), start, end
        score = self._path_score(inputs * weights, weighted, kept, tags)
        log_z = self._log_z(inputs, (transitions, start, end), kept)
        # The end's summand of log Z has the weight 1; only those of the steps are corrected.
        without_end = transitions, start, torch.zeros_like(end)
        correction = self._log_z(inputs, without_end, kept, step_weights=weights[tags] - 1.0)
        return (score - log_z - correction).sum()


def build_crf(
    num_tags: int,
    constraints: list[tuple[int, int]] | None = None,
    include_start_end_transitions: bool = True,
    label_weights: list[float] | None = None,
    weight_strategy: str | None = None,
) -> FastConditionalRandomField:
    """
    The CRF for the options of allennlp-models' `CrfTagger`.

    # Parameters

    num_tags, constraints, include_start_end_transitions : as in `FastConditionalRandomField`
    label_weights : `List[float]`, optional (default = `None`)
        One weight per tag, for the loss.
    weight_strategy : `str`, optional (default = `None`)
        What the weights multiply: "emission" (also if `None`), "emission_transition" or "lannoy".

    Raises `ConfigurationError` for a strategy without weights, an unknown strategy, or a wrong number of weights.
    """
    if label_weights is None:
        if weight_strategy is not None:
            raise ConfigurationError(f'The weight_strategy "{weight_strategy}" needs label_weights.')
        return FastConditionalRandomField(num_tags, constraints, include_start_end_transitions)
    strategies: dict[str, type[_LabelWeighted]] = {
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
