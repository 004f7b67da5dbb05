"""The softmax of a language model, as its config describes it."""

import logging
from typing import List, Optional, Sequence

from allennlp.common.checks import ConfigurationError
from allennlp.modules import TextFieldEmbedder
from allennlp.modules.token_embedders import Embedding

from ldnet_allennlp.modules.softmax.adaptive_softmax import AdaptiveSoftmax
from ldnet_allennlp.modules.softmax.tied_adaptive_softmax import TiedAdaptiveSoftmax

logger = logging.getLogger(__name__)

TIED_EMBEDDING = "tokens"


def build_softmax(
    embedding_dim: int,
    num_words: int,
    cutoffs: Sequence[int],
    div_value: float,
    tail_offset: int,
    tail_samples: Optional[int],
    tied_to: Optional[TextFieldEmbedder],
) -> AdaptiveSoftmax:
    """
    # Parameters

    embedding_dim : `int`
        The size of the vectors that it reads.
    num_words : `int`
        The size of the vocabulary, without the padding.
    cutoffs : `Sequence[int]`
        Those beyond the vocabulary are left out, with a warning.
    div_value, tail_offset, tail_samples
        As in `AdaptiveSoftmax`.
    tied_to : `TextFieldEmbedder`, optional
        Where the embedding "tokens" is whose vectors are to be the words' weights.

    Raises `ConfigurationError` for sizes that do not fit.
    """
    within = _cutoffs_within(cutoffs, num_words)
    if tied_to is None:
        return AdaptiveSoftmax(
            num_words,
            embedding_dim,
            within,
            div_value=div_value,
            tail_offset=tail_offset,
            tail_samples=tail_samples,
        )
    embedding = getattr(tied_to, f"token_embedder_{TIED_EMBEDDING}", None)
    if not isinstance(embedding, Embedding) or embedding.weight.size(0) != num_words + 1:
        found = (
            f"one of {embedding.weight.size(0)} rows"
            if isinstance(embedding, Embedding)
            else f"{type(embedding).__name__} in a {type(tied_to).__name__}"
        )
        raise ConfigurationError(
            f"tie_weights needs an embedding named '{TIED_EMBEDDING}' in the text_field_embedder, with a row for each "
            f"of the {num_words} words of the softmax and one for the padding, but {found} was found."
        )
    return TiedAdaptiveSoftmax(embedding, embedding_dim, within, tail_samples=tail_samples)


def _cutoffs_within(cutoffs: Sequence[int], num_words: int) -> List[int]:
    """The cutoffs that a vocabulary of `num_words` words has a use for."""
    within = [cutoff for cutoff in cutoffs if not isinstance(cutoff, int) or cutoff <= num_words]
    if len(within) < len(cutoffs):
        logger.warning(
            "The cutoffs %s lie beyond the vocabulary of %d words and are left out.",
            [cutoff for cutoff in cutoffs if cutoff not in within],
            num_words,
        )
    return within if within or not cutoffs else [num_words]
