"""Perplexity of a whole corpus."""

import math

import torch
from allennlp.nn.util import dist_reduce_sum
from allennlp.training.metrics import Metric
from overrides import overrides

from ldnet_allennlp.training.metrics.ranks import all_ranks_take_part


@Metric.register("corpus_perplexity")
class CorpusPerplexity(Metric):
    """
    The perplexity exp(sum of -log p / number of targets) of a corpus, independent of batches and of the ranks of a
    distributed run.

    AllenNLP's `Perplexity` is the exponential of the mean of the batches' means, which differs if batches have
    different numbers of targets.

    Registered as a `Metric` with name "corpus_perplexity".
    """

    supports_distributed = True

    def __init__(self) -> None:
        self._negative_log_likelihood = 0.0
        self._num_targets = 0.0

    @overrides(check_signature=False)
    def __call__(self, negative_log_likelihood: torch.Tensor, num_targets: int | torch.Tensor) -> None:
        """
        Add the sum of -log p over targets, in nats, a scalar, and their number. In distributed mode, all ranks must
        call this, and it sums over them (see `all_ranks_take_part`).
        """
        (total,) = self.detach_tensors(negative_log_likelihood)
        counts = torch.tensor([float(total), float(num_targets)], dtype=torch.float64)
        if all_ranks_take_part():
            counts = dist_reduce_sum(counts)
        self._negative_log_likelihood += float(counts[0])
        self._num_targets += float(counts[1])

    def state(self) -> tuple[float, float]:
        """The sums so far, for a checkpoint."""
        return self._negative_log_likelihood, self._num_targets

    def set_state(self, state: tuple[float, float]) -> None:
        """Restore the sums that `state` returned."""
        self._negative_log_likelihood, self._num_targets = state

    @overrides
    def get_metric(self, reset: bool = False) -> float:
        """The perplexity, infinite on overflow; 0 without targets, as in AllenNLP's metrics."""
        perplexity = 0.0
        if self._num_targets > 0:
            try:
                perplexity = math.exp(self._negative_log_likelihood / self._num_targets)
            except OverflowError:
                perplexity = math.inf
        if reset:
            self.reset()
        return perplexity

    @overrides
    def reset(self) -> None:
        self._negative_log_likelihood = 0.0
        self._num_targets = 0.0
