"""Span F1 that takes tag sequences and adds up over the workers of a distributed run."""

from collections import defaultdict
from typing import Dict, List, Set, Tuple

import torch
import torch.distributed as dist
from allennlp.common.util import is_distributed
from allennlp.training.metrics import Metric, SpanBasedF1Measure
from overrides import overrides

from ldnet_allennlp.data.tag_schemes import spans_from_tags


@Metric.register("span_f1_of_tags")
class SpanF1(SpanBasedF1Measure):
    """
    AllenNLP's `SpanBasedF1Measure` for predicted tag sequences, which need no scores for every tag, and for
    several workers, on which the original raises.

    # Parameters

    vocabulary, tag_namespace, ignore_classes, label_encoding, tags_to_spans_function
        As in `SpanBasedF1Measure`. Ill-formed sequences are read as conlleval reads them.
    """

    supports_distributed = True

    def add_tags(self, predicted: List[List[int]], gold: torch.Tensor) -> None:
        """
        Counts the spans of a batch.

        # Parameters

        predicted : `List[List[int]]`
            The tag ids of each sentence, without padding.
        gold : `torch.LongTensor`
            Shape (B, T): the true tag ids. Only as many as were predicted count.
        """
        for tags, gold_tags in zip(predicted, gold.tolist()):
            if tags:
                self._count(tags, gold_tags[: len(tags)])

    def _count(self, predicted: List[int], gold: List[int]) -> None:
        predicted_spans, gold_spans = self._spans(predicted), self._spans(gold)
        for label, *_ in predicted_spans & gold_spans:
            self._true_positives[label] += 1
        for label, *_ in predicted_spans - gold_spans:
            self._false_positives[label] += 1
        for label, *_ in gold_spans - predicted_spans:
            self._false_negatives[label] += 1

    def _spans(self, tag_ids: List[int]) -> Set[Tuple[str, int, int]]:
        tags = [self._label_vocabulary[tag_id] for tag_id in tag_ids]
        if self._tags_to_spans_function is not None:
            found = self._tags_to_spans_function(tags, self._ignore_classes)
            return {(label, start, end) for label, (start, end) in found}
        assert self._label_encoding is not None  # the constructor takes one of the two
        spans = spans_from_tags(tags, self._label_encoding)
        return {span for span in spans if span[0] not in self._ignore_classes}

    @overrides
    def get_metric(self, reset: bool = False) -> Dict[str, float]:
        """
        # Returns

        `Dict[str, float]`
            `precision`, `recall` and `f1-measure`, each for every label and for all of them (`-overall`),
            over all workers.
        """
        counts: List[Dict[str, int]] = [self._true_positives, self._false_positives, self._false_negatives]
        if is_distributed():
            gathered: List = [None] * dist.get_world_size()
            # Objects and not tensors: workers that saw other labels than these have other counts to add.
            dist.all_gather_object(gathered, [dict(count) for count in counts])
            counts = [defaultdict(int) for _ in counts]
            for worker in gathered:
                for total, part in zip(counts, worker):
                    for label, number in part.items():
                        total[label] += number
        labels = sorted(set().union(*counts))
        metrics: Dict[str, float] = {}
        for label in labels:
            metrics.update(self._named(label, *(count[label] for count in counts)))
        metrics.update(self._named("overall", *(sum(count.values()) for count in counts)))
        if reset:
            self.reset()
        return metrics

    def _named(self, name: str, *counts: int) -> Dict[str, float]:
        values = self._compute_metrics(*counts)
        return {f"{key}-{name}": value for key, value in zip(("precision", "recall", "f1-measure"), values)}
