"""The losses that a tagger can be trained with."""

from typing import Callable

import torch

from ldnet_allennlp.modules.crf.conditional_random_field import FastConditionalRandomField

# Of a CRF, logits (B, T, N), tags (B, T) and a mask (B, T): a scalar, the sum over the sentences.
TaggingLoss = Callable[
    [FastConditionalRandomField, torch.Tensor, torch.Tensor, torch.BoolTensor], torch.Tensor
]

TAGGING_LOSSES: dict[str, TaggingLoss] = {
    "negative_log_likelihood": lambda crf, logits, tags, mask: -crf(logits, tags, mask),
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
    hidden Markov models"). The best one is that among all sequences, whatever decoding is constrained to, so the loss
    is never negative, even where the true tags break a constraint. The gradient is +1 for each logit and transition of
    the best sequence and -1 for each of the true one.
"softmax"
    The sum of the tokens' cross entropies. The CRF's transitions take no part in it.
"""
