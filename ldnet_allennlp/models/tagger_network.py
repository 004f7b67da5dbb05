"""Parts that all taggers share: embedder, encoder and projection, and the penalty of layer selection."""

from contextlib import nullcontext
from typing import Protocol

import torch
from allennlp.common.checks import ConfigurationError
from allennlp.data import TextFieldTensors
from allennlp.modules import FeedForward, Seq2SeqEncoder, TextFieldEmbedder, TimeDistributed
from allennlp.nn.util import get_text_field_mask

from ldnet_allennlp.modules.selection.gated_modules import gated_modules


class TaggerParts(Protocol):
    """The parts of allennlp-models' `CrfTagger` that compute scores."""

    text_field_embedder: TextFieldEmbedder
    dropout: torch.nn.Dropout | None
    encoder: Seq2SeqEncoder
    _feedforward: FeedForward | None
    tag_projection_layer: TimeDistributed


def word_scores(
    tagger: TaggerParts, tokens: TextFieldTensors, autocast: torch.dtype | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    The scores (B, T, N) of tokens, in float32 (float64 if the model is), and their mask (B, T). `autocast` is the
    precision of the networks.

    Raises `ConfigurationError` if a word within a sentence has the id of padding.
    """
    mask = get_text_field_mask(tokens)
    if mask.device.type == "cpu" and bool((mask[:, 1:] > mask[:, :-1]).any()):
        raise ConfigurationError(
            "A word within a sentence has the id of padding, so tags and words would not align. Let the token "
            "indexers give such words the id of unknown words."
        )
    with nullcontext() if autocast is None else torch.autocast(mask.device.type, dtype=autocast):
        vectors = tagger.text_field_embedder(tokens)  # (B, T, embedding size)
        if tagger.dropout:
            vectors = tagger.dropout(vectors)
        encoded = tagger.encoder(vectors, mask)  # (B, T, encoder's output size)
        if tagger.dropout:
            encoded = tagger.dropout(encoded)
        if tagger._feedforward is not None:
            encoded = tagger._feedforward(encoded)
        scores: torch.Tensor = tagger.tag_projection_layer(encoded)
    # Losses sum scores, so half precision is not enough.
    return scores if scores.dtype == torch.float64 else scores.float(), mask


def with_gate_penalty(tagger: torch.nn.Module, penalty: torch.Tensor | None) -> torch.Tensor | None:
    """The regularizer's penalty plus those of the trained gates."""
    for module in gated_modules(tagger):
        of_gates = module.penalty()
        penalty = of_gates if penalty is None or of_gates is None else penalty + of_gates
    return penalty
