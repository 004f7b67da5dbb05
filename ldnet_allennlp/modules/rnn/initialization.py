"""Initialization as in the original LD-Net (`model_word_ada/utils.py`, `model_seq/utils.py`)."""

import math

import torch


@torch.no_grad()
def init_rnn_(module: torch.nn.RNNBase) -> None:
    """
    Initialize a recurrent network in place, as in the original: every weight matrix of an LSTM is drawn from U(-a, a)
    with a = sqrt(6 / (rows / 4 + columns)), Glorot's range for each of the four gates; both biases are 0, but 1 for
    the forget gate. A GRU and a plain RNN keep PyTorch's initialization.
    """
    if not isinstance(module, torch.nn.LSTM):
        return
    forget_gate = slice(module.hidden_size, 2 * module.hidden_size)  # rows are in the order i, f, g, o
    for name, parameter in module.named_parameters():
        if name.startswith("weight"):
            _uniform_(parameter, 6.0 / (parameter.size(0) / 4 + parameter.size(1)))
        else:
            parameter.zero_()
            parameter[forget_gate] = 1.0


@torch.no_grad()
def init_embedding_(weight: torch.Tensor) -> None:
    """
    Fill a matrix of embeddings, shape (number of embeddings, dimension), in place from U(-a, a) with
    a = sqrt(3 / dimension), which gives every vector an expected squared length of 1.
    """
    _uniform_(weight, 3.0 / weight.size(-1))


@torch.no_grad()
def init_linear_(linear: torch.nn.Linear) -> None:
    """
    Initialize a linear layer in place: the weight from U(-a, a) with a = sqrt(6 / (inputs + outputs)) (Glorot's
    range), the bias, if any, with 0.
    """
    _uniform_(linear.weight, 6.0 / (linear.in_features + linear.out_features))
    if linear.bias is not None:
        linear.bias.zero_()


def _uniform_(parameter: torch.Tensor, squared_bound: float) -> None:
    bound = math.sqrt(squared_bound)
    parameter.uniform_(-bound, bound)
