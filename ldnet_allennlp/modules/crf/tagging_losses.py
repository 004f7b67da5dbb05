"""Training losses of taggers."""

import torch
from allennlp.common.checks import ConfigurationError

from ldnet_allennlp.common.checks import check_choice
from ldnet_allennlp.modules.crf.conditional_random_field import FastConditionalRandomField

TAGGING_LOSSES = ("negative_log_likelihood", "structured_perceptron", "softmax")
"""
"negative_log_likelihood"
    -log p(tags | sentence) of the CRF, with its label weights where it has any.
"structured_perceptron"
    The score of the best tag sequence minus that of the true one (Collins 2002, "Discriminative training methods for
    hidden Markov models"). The best one is among all sequences, without the constraints of decoding, so the loss is
    never negative, even where the true tags break a constraint.
"softmax"
    The sum of the tokens' cross entropies. The CRF's transitions take no part in it.
"""


def tagging_loss(
    name: str,
    crf: FastConditionalRandomField,
    logits: torch.Tensor,
    tags: torch.Tensor,
    mask: torch.Tensor,
    allowed_tags: torch.Tensor | None = None,
) -> torch.Tensor:
    """
    The loss `name` of a batch, a scalar: the sum over the sentences. Tags (B, T) below 0 are unseen labels, which are
    ignored, or, with `allowed_tags` (B, T, N), the tags that each word may have, partial labels.
    """
    if allowed_tags is not None and bool((mask & (tags < 0)).any()):
        if name != "negative_log_likelihood" or hasattr(crf, "label_weights"):
            raise ConfigurationError(
                f"Partial labels need the loss 'negative_log_likelihood' without label_weights, but it is '{name}'"
                f"{' with label_weights' * hasattr(crf, 'label_weights')}."
            )
        return -crf.partial_log_likelihood(logits, allowed_tags, mask)
    mask, tags = mask & (tags >= 0), tags.clamp(min=0)
    if name == "softmax":
        return torch.nn.functional.cross_entropy(logits[mask], tags[mask], reduction="sum")
    if name == "structured_perceptron":
        return crf.perceptron_loss(logits, tags, mask)
    return -crf(logits, tags, mask)


def check_loss(name: str, has_label_weights: bool, has_boundary_tags: bool) -> None:
    """Raise `ConfigurationError` for an unknown loss and for incompatible options."""
    check_choice(TAGGING_LOSSES, "an ldnet_tagger", loss=name)
    if has_label_weights and name != "negative_log_likelihood":
        raise ConfigurationError(
            f"The loss is '{name}', and there are label_weights, which need the loss 'negative_log_likelihood'."
        )
    if has_boundary_tags and name == "softmax":
        raise ConfigurationError(
            "The loss is 'softmax', which has no transitions, but there are boundary_tags, which are scored by "
            "transitions."
        )
