"""Metric: number of words whose gold label is not in the vocabulary."""

import logging
from collections import Counter
from collections.abc import Sequence

import torch.distributed as dist
from allennlp.common.util import is_distributed
from allennlp.training.metrics import Metric
from overrides import overrides

from ldnet_allennlp.training.metrics.ranks import gather

logger = logging.getLogger(__name__)

_Key = tuple[str, str]


@Metric.register("unseen_labels")
class UnseenLabels(Metric):
    """
    Counts the words whose gold label is not in the training data, by file and label. Resetting the metric, once per
    pass over a data set, logs the counts; identical counts are logged once.
    """

    supports_distributed = True

    def __init__(self) -> None:
        self._counts: Counter[_Key] = Counter()
        self._logged: set[tuple[_Key, int]] = set()

    @overrides(check_signature=False)  # AllenNLP's take tensors
    def __call__(self, labels: Sequence[str], file: str | None = None) -> None:  # type: ignore[override]
        """Count the labels of a sentence of a file that are not in the vocabulary."""
        self._counts.update((file or "", label) for label in labels)

    @overrides(check_signature=False)
    def get_metric(self, reset: bool = False, all_ranks: bool | None = None) -> int:
        """
        The number of words, over all ranks if `reset`, which logs the counts and starts again from 0. `all_ranks`, by
        default in distributed mode, means that all ranks call this, and sums over them.
        """
        if not reset:
            return sum(self._counts.values())
        counts: Counter[_Key] = sum(gather(self._counts, all_ranks), Counter())
        if not is_distributed() or dist.get_rank() == 0:
            self._log(counts)
        self.reset()
        return sum(counts.values())

    def _log(self, counts: Counter[_Key]) -> None:
        for (file, label), number in sorted(counts.items()):
            if ((file, label), number) not in self._logged:
                self._logged.add(((file, label), number))
                logger.warning(
                    f"{file and file + ': '}the label {label!r} of {number} word{'s' * (number != 1)} is not in the "
                    f"vocabulary: these are counted as errors."
                )

    @overrides
    def reset(self) -> None:
        self._counts = Counter()
