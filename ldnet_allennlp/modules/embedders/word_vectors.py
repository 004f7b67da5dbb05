"""Word vectors of a language model, stored in single or half precision."""

from typing import Any

import torch
from allennlp.common.checks import ConfigurationError
from overrides import overrides

from ldnet_allennlp.common.checks import check_choice

DTYPES = {"float32": torch.float32, "float16": torch.float16}


class WordVectors(torch.nn.Embedding):
    """
    Word vectors with optional storage in half precision, `dtype` "float16", whose numbers have 11 significant bits and
    are at most 65,504. Without a `dtype`, frozen vectors get half precision from the state that they load. Lookups
    return vectors in the precision of the network. The first word is the padding. The vectors are NaN until a state is
    loaded.

    Raises `ConfigurationError` for any other dtype, and for trainable vectors in half precision.
    """

    like: torch.Tensor

    def __init__(self, num_words: int, size: int, dtype: str | None = None, trainable: bool = False) -> None:
        check_choice(DTYPES, "a language model", embedding_dtype=dtype or "float32")
        if trainable and dtype == "float16":
            raise ConfigurationError(
                f"requires_grad trains the word vectors of a language model in float32, but embedding_dtype is {dtype}."
            )
        weight = torch.full((num_words, size), float("nan"), dtype=DTYPES[dtype or "float32"])
        super().__init__(num_words, size, padding_idx=0, _weight=weight)
        self.weight.requires_grad_(trainable)
        self._follows_state = dtype is None and not trainable
        # An empty tensor that tracks the precision of the module.
        self.register_buffer("like", torch.zeros(0), persistent=False)

    @overrides(check_signature=False)
    def _load_from_state_dict(self, state_dict: dict[str, torch.Tensor], prefix: str, *args: Any) -> None:
        stored = state_dict.get(f"{prefix}weight")
        if stored is not None and stored.dtype == torch.float16 and self._follows_state:
            self.weight.data = self.weight.data.half()
        super()._load_from_state_dict(state_dict, prefix, *args)

    @overrides(check_signature=False)
    def forward(self, word_ids: torch.Tensor) -> torch.Tensor:
        """Look up words: ids of shape (...) give vectors of shape (..., size)."""
        return super().forward(word_ids).to(self.like.dtype)
