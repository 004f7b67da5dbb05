"""The word vectors of a language model: how they are stored, and how they are looked up."""

import os
from typing import Any, Dict, Optional

import numpy
import torch
from allennlp.common.checks import ConfigurationError
from overrides import overrides

DTYPES = {"float32": torch.float32, "float16": torch.float16}


class WordVectors(torch.nn.Embedding):
    """
    Word vectors that can be stored as half-precision numbers, and that can lie in a file that is mapped into memory:
    the processes of a machine that map the same file share its pages. What is looked up is in the precision of the
    network in any case.

    # Parameters

    num_words : `int`
        The size of the vocabulary. Its first word is the padding.
    size : `int`
        The size of a vector.
    dtype : `str`, optional (default = `"float32"`)
        "float32" or "float16". A half-precision number has 11 significant bits and is at most 65,504.
    file : `str`, optional
        The path of an array of shape (num_words, size) and of this dtype, as `numpy.save` writes it. It stays as it
        is, and the vectors are not part of the module's state. Without it they are NaN until a state is loaded.
    trainable : `bool`, optional (default = `False`)
        Whether the vectors have a gradient.

    Raises `ConfigurationError` if the dtype is not one of the two, if vectors of half precision or of a file are to be
    trained, or if the file is not there or holds something else.
    """

    like: torch.Tensor

    def __init__(
        self,
        num_words: int,
        size: int,
        dtype: str = "float32",
        file: Optional[str] = None,
        trainable: bool = False,
    ) -> None:
        if dtype not in DTYPES:
            raise ConfigurationError(
                f"The embedding_dtype of a language model is {' or '.join(DTYPES)}, but '{dtype}' was found."
            )
        if trainable and (file is not None or dtype != "float32"):
            raise ConfigurationError(
                f"The word vectors of a language model are trained with requires_grad, which takes float32 in memory, "
                f"but embedding_dtype is {dtype}{'' if file is None else ' and embedding_file is given'}."
            )
        if file is None:
            weight = torch.full((num_words, size), float("nan"), dtype=DTYPES[dtype])
        else:
            weight = _mapped(file, num_words, size, dtype)
        super().__init__(num_words, size, padding_idx=0, _weight=weight)
        self.weight.requires_grad_(trainable)
        self.dtype = dtype
        self.file = file
        # Without elements: it tells which precision the module has been moved to.
        self.register_buffer("like", torch.zeros(0), persistent=False)

    @overrides(check_signature=False)
    def forward(self, word_ids: torch.Tensor) -> torch.Tensor:
        """The vectors of words: shape (..., size) for ids of shape (...)."""
        return super().forward(word_ids).to(self.like.dtype)

    @overrides(check_signature=False)
    def _save_to_state_dict(self, destination: Dict[str, Any], prefix: str, keep_vars: bool) -> None:
        if self.file is None:
            super()._save_to_state_dict(destination, prefix, keep_vars)

    @overrides(check_signature=False)
    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        if self.file is None:
            super()._load_from_state_dict(*args, **kwargs)


def _mapped(path: str, num_words: int, size: int, dtype: str) -> torch.Tensor:
    """An array of a file without reading it: the system reads the pages that are looked at."""
    try:
        # "c": nothing that happened to be written to it would reach the file, or another process.
        array = numpy.load(path, mmap_mode="c", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        found = "it was not found" if not os.path.exists(path) else f"it cannot be read: {error}"
        raise ConfigurationError(
            f"The word vectors of a language model were expected in '{path}' (embedding_file), but {found}. The file "
            f"belongs to a model's directory as ldnet-compress --mapped-embeddings writes it; a model whose "
            f"vectors are mapped is loaded from there, and not trained anew from its config."
        ) from error
    if getattr(array, "shape", None) != (num_words, size) or array.dtype != numpy.dtype(dtype):
        raise ConfigurationError(
            f"'{path}' (embedding_file) was expected to hold {num_words} vectors of size {size} as {dtype}, the words "
            f"of the vocabulary and the language model's input size, but it holds {array.dtype} of shape {array.shape}."
        )
    return torch.from_numpy(array)
