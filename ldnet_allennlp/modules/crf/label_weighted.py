"""CRF with label weights in the loss, like AllenNLP's, vectorized over the batch."""

from typing import Optional

import torch
from overrides import overrides

from ldnet_allennlp.modules.crf.conditional_random_field import FastConditionalRandomField, path_score
from ldnet_allennlp.modules.crf.log_partition import log_partition


class LabelWeightedCrf(FastConditionalRandomField):
    """
    A CRF with the loss of AllenNLP's `ConditionalRandomFieldWeightEmission`, `...WeightTrans` or `...WeightLannoy`.
    Decoding and `log_partition` ignore the weights.

    # Parameters

    num_tags, constraints, include_start_end_transitions : as in `FastConditionalRandomField`
    label_weights : `List[float]`
        One weight per tag.
    weight_strategy : `str`, optional
        What the weights multiply: "emission" (also if `None`) the logits of the tag; "emission_transition" also the
        transitions from it; "lannoy" the increments of the score and of log Z at steps with the tag (De Lannoy et al.
        2012, "Weighted conditional random fields for supervised interpatient heartbeat classification").
    """

    label_weights: torch.Tensor

    def __init__(
        self,
        num_tags: int,
        label_weights: list[float],
        constraints: Optional[list[tuple[int, int]]] = None,
        include_start_end_transitions: bool = True,
        weight_strategy: Optional[str] = None,
    ) -> None:
        super().__init__(num_tags, constraints, include_start_end_transitions)
        self.weight_strategy = weight_strategy or "emission"
        self.register_buffer("label_weights", torch.tensor(label_weights))

    @overrides
    def forward(
        self, inputs: torch.Tensor, tags: torch.Tensor, mask: torch.BoolTensor | None = None
    ) -> torch.Tensor:
        inputs, lengths, tags = self._aligned(inputs, mask, tags)
        transitions, start, end = self.scores()
        weighted_inputs, scores = inputs * self.label_weights, (transitions, start, end)
        if self.weight_strategy != "emission":
            scores = transitions * self.label_weights.unsqueeze(1), start, end
        score = path_score(weighted_inputs, tags, scores, lengths)
        if self.weight_strategy != "lannoy":
            return (score - log_partition(weighted_inputs, scores, lengths)).sum()
        log_z = log_partition(inputs, (transitions, start, end), lengths)
        # The end's summand of log Z has the weight 1; only those of the steps are corrected.
        without_end = transitions, start, torch.zeros_like(end)
        correction = log_partition(inputs, without_end, lengths, self.label_weights[tags] - 1.0)
        return (score - log_z - correction).sum()
