"""Training losses of taggers."""

from collections.abc import Callable

import torch
from allennlp.common.checks import ConfigurationError

from ldnet_allennlp.modules.crf.conditional_random_field import FastConditionalRandomField

# Of a CRF, logits (B, T, N), tags (B, T) and a mask (B, T): a scalar, the sum over the sentences.
TaggingLoss = Callable[[FastConditionalRandomField, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]

TAGGING_LOSSES: dict[str, TaggingLoss] = {
    "negative_log_likelihood": lambda crf, logits, tags, mask: -crf(logits, tags, mask),  # type: ignore[arg-type]
    "structured_perceptron": lambda crf, logits, tags, mask: crf.perceptron_loss(logits, tags, mask),
    "softmax": lambda crf, logits, tags, mask: torch.nn.functional.cross_entropy(
        logits[mask], tags[mask], reduction="sum"
    ),
}
"""
By name:

"negative_log_likelihood"
    -log p(tags | sentence) of the CRF, with its label weights where it has any.
"structured_perceptron"
    The score of the best tag sequence minus that of the true one (Collins 2002, "Discriminative training methods for
    hidden Markov models"). The best one is among all sequences, without the constraints of decoding, so the loss is
    never negative, even where the true tags break a constraint. The gradient is +1 for each logit and transition of the
    best sequence and -1 for each of the true one.
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
    The loss `name` of a batch, a scalar: the sum over the sentences.

    # Parameters

    logits : `torch.Tensor`
        (B, T, N)
    tags : `torch.Tensor`
        (B, T). Ids below 0 are unseen labels, which are ignored, or, with `allowed_tags`, partial labels.
    mask : `torch.Tensor`
        (B, T)
    allowed_tags : `torch.Tensor`, optional
        (B, T, N), boolean: the tags that each word may have. Needs the loss "negative_log_likelihood".
    """
    if allowed_tags is None or not bool((mask & (tags < 0)).any()):
        mask = mask & (tags >= 0)
        return TAGGING_LOSSES[name](crf, logits, tags.clamp(min=0), mask)
    if name != "negative_log_likelihood":
        raise ConfigurationError(
            f"Partial labels need the loss 'negative_log_likelihood', but it is '{name}'."
        )
    return -crf.partial_log_likelihood(logits, allowed_tags, mask)


def check_loss(name: str, has_label_weights: bool, has_boundary_tags: bool) -> None:
    """Raise `ConfigurationError` for an unknown loss and for incompatible options."""
    if name not in TAGGING_LOSSES:
        raise ConfigurationError(
            f"The loss of an ldnet_tagger is one of {', '.join(TAGGING_LOSSES)}, but it is '{name}'."
        )
    if has_label_weights and name != "negative_log_likelihood":
        raise ConfigurationError(
            f"The loss is '{name}', and there are label_weights, which need the loss 'negative_log_likelihood'."
        )
    if has_boundary_tags and name == "softmax":
        raise ConfigurationError(
            "The loss is 'softmax', which has no transitions, but there are boundary_tags, which are scored by "
            "transitions."
        )
