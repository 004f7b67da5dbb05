"""Cutoffs of an adaptive softmax: the first words of its tail clusters."""

import logging
from collections.abc import Sequence

from allennlp.common.checks import ConfigurationError

logger = logging.getLogger(__name__)


def cutoffs_within(cutoffs: Sequence[int], num_words: int) -> list[int]:
    """The cutoffs within a vocabulary of `num_words` words; a warning names the others."""
    within = [cutoff for cutoff in cutoffs if not isinstance(cutoff, int) or cutoff <= num_words]
    if len(within) < len(cutoffs):
        logger.warning(
            "The cutoffs %s exceed the vocabulary of %d words and are ignored.",
            [cutoff for cutoff in cutoffs if cutoff not in within],
            num_words,
        )
    return within if within or not cutoffs else [num_words]


def checked_cutoffs(cutoffs: Sequence[int], num_words: int) -> list[int]:
    """The cutoffs with `num_words` at the end. Raises `ConfigurationError` if they do not increase from 1 to it."""
    checked = list(cutoffs)
    if not checked or any(isinstance(cutoff, bool) or not isinstance(cutoff, int) for cutoff in checked):
        raise ConfigurationError(
            f"The cutoffs of an adaptive softmax are a list of one or more integers, such as [4000, 40000], "
            f"or [{num_words}] (num_words) for no clusters, but {cutoffs} was found."
        )
    if checked[0] < 1 or any(first >= second for first, second in zip(checked, checked[1:])):
        raise ConfigurationError(
            f"The cutoffs of an adaptive softmax start at 1 or more and increase, but {checked} was found."
        )
    if checked[-1] > num_words:
        raise ConfigurationError(
            f"The last of the cutoffs of an adaptive softmax is at most the number of words (num_words), which "
            f"is {num_words}, but the cutoffs are {checked}."
        )
    return checked if checked[-1] == num_words else [*checked, num_words]
