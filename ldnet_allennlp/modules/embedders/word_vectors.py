"""Word vectors of a language model, stored in single or half precision."""

import torch
from allennlp.common.checks import ConfigurationError
from overrides import overrides

DTYPES = {"float32": torch.float32, "float16": torch.float16}


class WordVectors(torch.nn.Embedding):
    """
    Word vectors with optional storage in half precision. Lookups return vectors in the precision of the network.

    The vectors are NaN until a state is loaded.

    # Parameters

    num_words : `int`
        The size of the vocabulary. Its first word is the padding.
    size : `int`
        The size of a vector.
    dtype : `str`, optional (default = `"float32"`)
        "float32" or "float16". A half-precision number has 11 significant bits and is at most 65,504.
    trainable : `bool`, optional (default = `False`)
        Whether to train the vectors.

    Raises `ConfigurationError` for any other dtype, and for trainable vectors in half precision.
    """

    like: torch.Tensor

    def __init__(self, num_words: int, size: int, dtype: str = "float32", trainable: bool = False) -> None:
        if dtype not in DTYPES:
            raise ConfigurationError(
                f"The embedding_dtype of a language model is {' or '.join(DTYPES)}, not '{dtype}'."
            )
        if trainable and dtype != "float32":
            raise ConfigurationError(
                f"requires_grad trains the word vectors of a language model in float32, but embedding_dtype is {dtype}."
            )
        weight = torch.full((num_words, size), float("nan"), dtype=DTYPES[dtype])
        super().__init__(num_words, size, padding_idx=0, _weight=weight)
        self.weight.requires_grad_(trainable)
        self.dtype = dtype
        # An empty tensor that tracks the precision of the module.
        self.register_buffer("like", torch.zeros(0), persistent=False)

    @overrides(check_signature=False)
    def forward(self, word_ids: torch.Tensor) -> torch.Tensor:
        """Look up words: ids of shape (...) give vectors of shape (..., size)."""
        return super().forward(word_ids).to(self.like.dtype)
