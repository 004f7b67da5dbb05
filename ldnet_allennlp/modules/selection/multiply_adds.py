"""
Cost of a network in multiply-adds per word, counted as in the LD-Net paper.

The paper (section 4.1) counts the products with the weight matrices of RNNs and linear layers. Look-ups, biases,
activations, element-wise products and decoding are free. An LSTM with input size D and hidden size H costs 4 H (D + H)
per step.

The published tagger, in millions: a language model of 10 layers of 300 over word vectors of 300 in each direction,
whose layer l reads 300 l numbers and its own 300; a projection of all that to 100; character LSTMs of 150 over vectors
of 30 in both directions, projected to 100; word vectors of 100; a BiLSTM; 17 tags. The paper does not specify the word
length, or whether the BiLSTM's 300 is the size of one direction or both. With words of 8 characters
(`PUBLISHED_CHARACTERS_PER_WORD`, so 9 character steps, one for the space) and 300 in each direction:

    |                                                  | unpruned | 6 kept | 2 kept | no LM |
    |--------------------------------------------------|----------|--------|--------|-------|
    | LM layers     2 * 4*300 * (300*(1+..+l) + 300*l) |    46.80 |   6.48 |   1.44 |       |
    | LM projection 2 * (300 + 300 l) * 100            |     0.66 |   0.24 |   0.12 |       |
    | characters    9 * 2 * 4*150 * (30+150) + 300*100 |     1.97 |   1.97 |   1.97 |  1.97 |
    | BiLSTM        2 * 4*300 * (300 or 200 + 300)     |     1.44 |   1.44 |   1.44 |  1.20 |
    | tags          600 * 17                           |     0.01 |   0.01 |   0.01 |  0.01 |
    | sum                                              |    50.88 |  10.14 |   4.98 |  3.18 |
    | the paper                                        |    51    |  10    |   5    |  3    |

(l = 10, 3 and 1 layers in each direction; the choice of layers makes no difference, because they read only each other.)
All four figures match for words of 7 to 9 characters, or 11 to 13 with 150 in each direction. With newswire's 4.4
characters per word, and 150 in each direction, the sums are 49.2, 8.5, 3.3 and 1.6.
"""

from typing import Any, NamedTuple

import torch
from allennlp.modules.conditional_random_field import ConditionalRandomField
from allennlp.modules.token_embedders import (
    Embedding,
    PretrainedTransformerEmbedder,
    PretrainedTransformerMismatchedEmbedder,
    TokenCharactersEncoder,
)

from ldnet_allennlp.modules.rnn.layers import CELL_TYPES, CELLS

PUBLISHED_CHARACTERS_PER_WORD = 8.0

_EMBEDDINGS = (torch.nn.Embedding, torch.nn.EmbeddingBag, Embedding)
_OVER_WORD_PIECES = (PretrainedTransformerEmbedder, PretrainedTransformerMismatchedEmbedder)


class Count(NamedTuple):
    """The cost of a module."""

    multiply_adds: float
    """A word."""

    not_counted: list[str]
    """The parts that cannot be counted: name, class and reason."""


def rnn_multiply_adds(rnn: Any) -> int:
    """
    The multiply-adds of one step of a `torch.nn.RNNBase`: `gates * H * (input + H)` for every layer and direction.

    Biases, activations and gate products are free, as in LD-Net, section 4.1.
    """
    directions = 2 if rnn.bidirectional else 1
    total, input_size = 0, rnn.input_size
    for _ in range(rnn.num_layers):
        num_gates = CELLS[CELL_TYPES[rnn.mode]].num_gates
        total += directions * num_gates * rnn.hidden_size * (input_size + rnn.hidden_size)
        input_size = directions * rnn.hidden_size
    return total


def multiply_adds(module: torch.nn.Module, characters_per_word: float | None = None) -> float:
    """
    Multiply-adds per word of all parts of a module that `count_multiply_adds` supports.

    # Parameters

    module : `torch.nn.Module`
        A model or a part of one.
    characters_per_word : `float`, optional
        The mean length of a word of the text, without the space. Needed if a part runs over characters.

    # Returns

    `float`
        Multiply-adds per word.

    Raises `ValueError` if a part runs over characters and `characters_per_word` is not given.
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

    # Parameters

    module, characters_per_word
        As in `multiply_adds`; the same `ValueError` is raised.
    name : `str`, optional
        The module's name, for `not_counted`.

    # Returns

    `Count`
    """
    count_of_module = getattr(module, "multiply_adds", None)
    if count_of_module is not None or isinstance(module, TokenCharactersEncoder):
        if characters_per_word is None:
            raise ValueError(
                f"A {type(module).__name__} runs over characters: characters_per_word was expected."
            )
        if isinstance(module, TokenCharactersEncoder):
            return _count_over_characters(module, characters_per_word, name)
        return Count(float(count_of_module(characters_per_word)), [])  # type: ignore[misc]
    if _is_rnn(module):
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


def _count_over_characters(module: TokenCharactersEncoder, characters: float, name: str) -> Count:
    """RNNs run once per character; linear layers (after a convolution) once per word."""
    encoder = module._encoder
    counted = count_multiply_adds(encoder, characters, f"{name}._encoder")
    step = sum(rnn_multiply_adds(part) for part in encoder.modules() if _is_rnn(part))
    return Count(counted.multiply_adds + (characters - 1) * step, counted.not_counted)


def _is_rnn(module: Any) -> bool:
    # By its attributes, as linear layers are: torch's quantized modules have other classes.
    return getattr(module, "mode", None) in CELL_TYPES
