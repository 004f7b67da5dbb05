"""
Cost of a network in multiply-adds per word, counted as in the LD-Net paper.

The paper (section 4.1) counts the products with the weight matrices of RNNs and linear layers. Look-ups, biases,
activations, element-wise products and decoding are free. An LSTM with input size D and hidden size H costs 4 H (D + H)
per step.

The paper does not specify the word length. With words of 8 characters, its four figures match: see "Cost of the
published tagger" in `docs/layer_selection.md`.
"""

from typing import NamedTuple

import torch
from allennlp.modules.conditional_random_field import ConditionalRandomField
from allennlp.modules.token_embedders import (
    Embedding,
    PretrainedTransformerEmbedder,
    PretrainedTransformerMismatchedEmbedder,
    TokenCharactersEncoder,
)

_EMBEDDINGS = (torch.nn.Embedding, torch.nn.EmbeddingBag, Embedding)
_OVER_WORD_PIECES = (PretrainedTransformerEmbedder, PretrainedTransformerMismatchedEmbedder)


class Count(NamedTuple):
    """The cost of a module."""

    multiply_adds: float
    """A word."""

    not_counted: list[str]
    """The parts that cannot be counted: name, class and reason."""


def rnn_multiply_adds(rnn: torch.nn.RNNBase) -> int:
    """The multiply-adds of one step: the sizes of the weight matrices."""
    return sum(weight.numel() for name, weight in rnn.named_parameters() if name.startswith("weight"))


def multiply_adds(module: torch.nn.Module, characters_per_word: float | None = None) -> float:
    """
    Multiply-adds per word of all parts of a module that `count_multiply_adds` supports. `characters_per_word` is the
    mean length of a word of the text, without the space.
    """
    return count_multiply_adds(module, characters_per_word).multiply_adds


def count_multiply_adds(
    module: torch.nn.Module, characters_per_word: float | None = None, name: str = ""
) -> Count:
    """
    Count a part that runs once per word: its RNNs and its linear layers.

    A part that runs over characters has a method `multiply_adds(characters_per_word)`, or is AllenNLP's
    `TokenCharactersEncoder`, whose RNN runs once per character. Embeddings, biases and decoding are free, as in the
    paper. Other modules with matrices (convolutions, attention, bilinear forms) are not counted. Neither are
    transformers, which run over word pieces.

    Raises `ValueError` if a part runs over characters and `characters_per_word` is not given.
    """
    count_of_module = getattr(module, "multiply_adds", None)
    if count_of_module is not None or isinstance(module, TokenCharactersEncoder):
        if characters_per_word is None:
            raise ValueError(
                f"A {type(module).__name__} runs over characters: characters_per_word was expected."
            )
        if isinstance(module, TokenCharactersEncoder):
            # RNNs run once per character; linear layers (after a convolution) once per word.
            encoder = module._encoder
            counted = count_multiply_adds(encoder, characters_per_word, f"{name}._encoder")
            rnns = (part for part in encoder.modules() if isinstance(part, torch.nn.RNNBase))
            step = sum(map(rnn_multiply_adds, rnns))
            return counted._replace(multiply_adds=counted.multiply_adds + (characters_per_word - 1) * step)
        return Count(float(count_of_module(characters_per_word)), [])  # type: ignore[misc]
    if isinstance(module, torch.nn.RNNBase):
        return Count(float(rnn_multiply_adds(module)), [])
    if hasattr(module, "in_features") and hasattr(module, "out_features"):
        return Count(float(module.in_features * module.out_features), [])  # type: ignore[operator]
    if isinstance(module, ConditionalRandomField):
        return Count(0.0, [])
    label = f"{name or 'the model'} ({type(module).__name__})"
    if isinstance(module, _OVER_WORD_PIECES):
        return Count(0.0, [f"{label}: it runs over word pieces, whose number is unknown"])
    if not isinstance(module, _EMBEDDINGS) and any(
        parameter.dim() > 1 for parameter in module.parameters(recurse=False)
    ):
        return Count(0.0, [f"{label}: the number of uses of its weights is unknown"])
    parts = [
        count_multiply_adds(child, characters_per_word, f"{name}.{key}" if name else key)
        for key, child in module.named_children()
    ]
    return Count(
        sum(part.multiply_adds for part in parts), [text for part in parts for text in part.not_counted]
    )
