"""What a network costs, counted as the LD-Net paper counts it."""

from typing import Optional

import torch

_GATES = {"LSTM": 4, "GRU": 3, "RNN_TANH": 1, "RNN_RELU": 1}


def rnn_multiply_adds(rnn: torch.nn.RNNBase) -> int:
    """
    The multiply-adds of one step: `gates * H * (input + H)` for every layer and direction.

    Biases, activations and the products of gates are free (LD-Net, section 4.1, counts so).
    """
    directions = 2 if rnn.bidirectional else 1
    total, input_size = 0, rnn.input_size
    for _ in range(rnn.num_layers):
        total += directions * _GATES[rnn.mode] * rnn.hidden_size * (input_size + rnn.hidden_size)
        input_size = directions * rnn.hidden_size
    return total


def multiply_adds(module: torch.nn.Module, characters_per_word: Optional[float] = None) -> float:
    """
    The multiply-adds that a tagger spends on a word: its RNNs and its linear layers, each once a word.

    A part that runs over characters has a method `multiply_adds(characters_per_word)` of its own. Embeddings,
    biases and decoding are free, as in the paper.

    # Parameters

    module : `torch.nn.Module`
        A model or a part of one.
    characters_per_word : `float`, optional
        The mean length of a word of the text, without the space. Needed if a part runs over characters.

    # Returns

    `float`
        Multiply-adds a word.

    Raises `ValueError` if a part runs over characters and `characters_per_word` is not given.
    """
    own_count = getattr(module, "multiply_adds", None)
    if own_count is not None:
        if characters_per_word is None:
            raise ValueError(
                f"A {type(module).__name__} runs over characters: characters_per_word was expected."
            )
        return float(own_count(characters_per_word))
    if isinstance(module, torch.nn.RNNBase):
        return float(rnn_multiply_adds(module))
    if isinstance(module, torch.nn.Linear):
        return float(module.in_features * module.out_features)
    return sum(multiply_adds(child, characters_per_word) for child in module.children())
