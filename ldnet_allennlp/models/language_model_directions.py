"""Directions of a language model: targets, vectors and checks."""

import torch
from allennlp.common.checks import ConfigurationError
from allennlp.data import TextFieldTensors
from allennlp.modules import TextFieldEmbedder
from allennlp.modules.seq2seq_encoders import Seq2SeqEncoder


def sentence_targets(
    source: TextFieldTensors, mask: torch.BoolTensor, direction: str
) -> dict[str, torch.Tensor]:
    """
    The target of each step in whole sentences.

    # Parameters

    source : `TextFieldTensors`
        Tokens come from the entry "tokens" of a `SingleIdTokenIndexer`; without it there are no targets.
    mask : `torch.BoolTensor`
        Shape (B, T).
    direction : `str`
        "forward" (the next token), "backward" (the previous one) or "bidirectional" (both).

    # Returns

    `dict[str, torch.Tensor]`
        Shape (B, T) for "forward" and/or "backward"; 0 where there is no target.
    """
    token_ids = source.get("tokens", {}).get("tokens")  # (B, T)
    if token_ids is None:
        return {}
    nothing = torch.zeros_like(token_ids[:, :1])
    targets = {}
    if direction != "backward":
        targets["forward"] = torch.cat([token_ids[:, 1:], nothing], dim=1)
    if direction != "forward":
        # Without the mask, the first step of the padding would have the last token as its target.
        targets["backward"] = torch.cat([nothing, token_ids[:, :-1]], dim=1) * mask
    return targets


def direction_part(contextual: torch.Tensor, direction: str, bidirectional: bool) -> torch.Tensor:
    """The vectors for the "forward" or "backward" predictions: a half (B, T, D / 2) if the model is bidirectional."""
    if not bidirectional:
        return contextual
    return contextual.chunk(2, dim=-1)[0 if direction == "forward" else 1]


def check_stream_direction(stream_direction: str | None, direction: str) -> None:
    """Raise `ConfigurationError` if the direction of a stream's windows is not the model's."""
    if stream_direction is not None and stream_direction != direction:
        raise ConfigurationError(
            f"The direction of this adaptive_language_model is {direction}, but that of its lm_stream data "
            f'loader is {stream_direction}. (A bidirectional language model needs the loader\'s direction "both".)'
        )


def check_directions(
    text_field_embedder: TextFieldEmbedder,
    contextualizer: Seq2SeqEncoder,
    direction: str,
    bidirectional: bool,
) -> None:
    """Raise `ConfigurationError` if sizes or directions of a model's parts contradict its options."""
    if contextualizer.is_bidirectional() is not bidirectional:
        raise ConfigurationError(
            f"Whether the language model is bidirectional ({bidirectional}) must match its contextualizer, whose "
            f"is_bidirectional() is {contextualizer.is_bidirectional()}."
        )
    if direction not in ("forward", "backward") or (bidirectional and direction != "forward"):
        raise ConfigurationError(
            f"The direction of a unidirectional language model is forward or backward, and a bidirectional one "
            f"has none, but direction is '{direction}' and bidirectional is {bidirectional}."
        )
    output_dim, input_dim = text_field_embedder.get_output_dim(), contextualizer.get_input_dim()
    if output_dim != input_dim:
        raise ConfigurationError(
            f"The contextualizer of the language model reads vectors of size {input_dim} (its input_size), "
            f"but the text_field_embedder gives vectors of size {output_dim}."
        )
