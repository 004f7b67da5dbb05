"""Log-uniform sampling of words by their frequency rank."""

import math

import torch


class LogUniformSampler:
    """
    Draws words with the ranks `first` to `last - 1` of a vocabulary sorted by falling frequency, with about their
    frequency in text. The probability of the word of rank r (counted from 1) is proportional to log(1 + 1 / r), which
    is close to Zipf's 1 / r and has an invertible distribution function.

    # Parameters

    first, last : `int`
        The words, counted from 0.
    """

    def __init__(self, first: int, last: int) -> None:
        self.first = first
        self.num_words = last - first
        self._log_range = math.log((last + 1) / (first + 1))

    def draw(self, count: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Words counted from the first of the cluster, drawn with replacement, and the logarithms of their probabilities,
        (count,) each.
        """
        uniform = torch.rand(count, device=device, dtype=torch.float64)
        ranks = (self.first + 1) * torch.exp(uniform * self._log_range)  # (count,), real numbers
        words = (ranks.long() - (self.first + 1)).clamp(0, self.num_words - 1)
        return words, self.log_prob(words)

    def log_prob(self, words: torch.Tensor) -> torch.Tensor:
        """
        The log-probability of drawing each of `words`, counted from the first of the cluster: same shape, in float64.
        """
        ranks = (words + self.first + 1).double()
        return torch.log(torch.log1p(1 / ranks)) - math.log(self._log_range)
