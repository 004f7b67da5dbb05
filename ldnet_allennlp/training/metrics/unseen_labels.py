"""Metric: number of words whose gold label is not in the vocabulary."""

import logging
from collections import Counter
from collections import Counter as CounterType
from collections.abc import Sequence

import torch.distributed as dist
from allennlp.common.util import is_distributed
from allennlp.training.metrics import Metric
from overrides import overrides

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
        self._counts: CounterType[_Key] = Counter()
        self._logged: set[tuple[_Key, int]] = set()

    @overrides(check_signature=False)  # AllenNLP's take tensors
    def __call__(self, labels: Sequence[str], file: str | None = None) -> None:  # type: ignore[override]
        """
        # Parameters

        labels : `Sequence[str]`
            The labels of a sentence that are not in the vocabulary.
        file : `str`, optional
            The file of the sentence.
        """
        self._counts.update((file or "", label) for label in labels)

    @overrides(check_signature=False)
    def get_metric(self, reset: bool = False, all_ranks: bool | None = None) -> int:
        """
        # Parameters

        reset : `bool`, optional (default = `False`)
            Whether to log the counts and start again from 0.
        all_ranks : `bool`, optional
            Whether to sum over all ranks, which must all call this. By default in distributed mode.

        # Returns

        `int`
            The number of words, over all ranks if `reset` is True.
        """
        if not reset:
            return sum(self._counts.values())
        counts = self._counts
        if is_distributed() if all_ranks is None else all_ranks:
            gathered: list = [None] * dist.get_world_size()
            dist.all_gather_object(gathered, dict(counts))
            counts = sum((Counter(worker) for worker in gathered), Counter())
        if not is_distributed() or dist.get_rank() == 0:
            self._log(counts)
        self.reset()
        return sum(counts.values())

    def _log(self, counts: CounterType[_Key]) -> None:
        for key, number in sorted(counts.items()):
            if (key, number) not in self._logged:
                self._logged.add((key, number))
                file, label = key
                logger.warning(
                    "%sthe label %r of %d word%s is not in the vocabulary: these are counted as errors.",
                    f"{file}: " if file else "",
                    label,
                    number,
                    "" if number == 1 else "s",
                )

    @overrides
    def reset(self) -> None:
        self._counts = Counter()
