"""Span F1 with conlleval's numbers, which takes tag sequences and adds up over the workers of a distributed run."""

from collections import defaultdict
from typing import Dict, List, Optional, Sequence, Set

import torch
import torch.distributed as dist
from allennlp.common.util import is_distributed
from allennlp.training.metrics import Metric, SpanBasedF1Measure
from overrides import overrides

from ldnet_runtime.tag_schemes import Span, spans_from_tags

_NAMES = ("precision", "recall", "f1-measure")


@Metric.register("span_f1_of_tags")
class SpanF1(SpanBasedF1Measure):
    """
    AllenNLP's `SpanBasedF1Measure` for predicted tag sequences, which need no scores for every tag, and for
    several workers, on which the original raises.

    The numbers are those of conlleval, the scorer of the CoNLL shared tasks, as fractions: a predicted span is
    correct if the gold standard has one of the same type with the same first and last word. Ill-formed
    sequences have spans, too, as conlleval reads them (see `tag_schemes`); AllenNLP's measure reads those of
    "BIO" alike, but raises for ill-formed "BIOUL" and "BMES". "-overall" is the micro average, over the counts
    of all types; "-macro" is the mean of the types' values, each type that is predicted or true counting once.

    # Parameters

    vocabulary, tag_namespace, ignore_classes, label_encoding, tags_to_spans_function
        As in `SpanBasedF1Measure`.
    """

    supports_distributed = True

    def add_tags(
        self,
        predicted: List[List[int]],
        gold: torch.Tensor,
        gold_tags: Optional[Sequence[Sequence[str]]] = None,
    ) -> None:
        """
        Counts the spans of a batch.

        # Parameters

        predicted : `List[List[int]]`
            The tag ids of each sentence, without padding.
        gold : `torch.LongTensor`
            Shape (B, T): the true tag ids. Only as many as were predicted count.
        gold_tags : `Sequence[Sequence[str]]`, optional
            The true tags themselves, for sentences with tags that are not in the vocabulary, whose ids in `gold`
            are below 0. Raises `ValueError` if there are such ids and no tags.
        """
        for number, (tags, gold_ids) in enumerate(zip(predicted, gold.tolist())):
            gold_ids = gold_ids[: len(tags)]
            if not tags:
                continue
            if min(gold_ids) >= 0:
                true = self._spans(self._in_words(gold_ids))
            elif gold_tags is not None:
                true = self._spans(gold_tags[number][: len(tags)])
            else:
                raise ValueError(
                    f"Found the tag id {min(gold_ids)}, which stands for a tag that is not in the vocabulary, "
                    f'expected such tags themselves, too ("gold_tags" in the metadata of the instance).'
                )
            self._count(self._spans(self._in_words(tags)), true)

    def _count(self, predicted: Set[Span], gold: Set[Span]) -> None:
        for label, *_ in predicted & gold:
            self._true_positives[label] += 1
        for label, *_ in predicted - gold:
            self._false_positives[label] += 1
        for label, *_ in gold - predicted:
            self._false_negatives[label] += 1

    def _in_words(self, tag_ids: List[int]) -> List[str]:
        return [self._label_vocabulary[tag_id] for tag_id in tag_ids]

    def _spans(self, tags: Sequence[str]) -> Set[Span]:
        if self._tags_to_spans_function is not None:
            found = self._tags_to_spans_function(list(tags), self._ignore_classes)
            return {(label, start, end) for label, (start, end) in found}
        assert self._label_encoding is not None  # the constructor takes one of the two
        spans = spans_from_tags(tags, self._label_encoding)
        return {span for span in spans if span[0] not in self._ignore_classes}

    @overrides
    def get_metric(self, reset: bool = False) -> Dict[str, float]:
        """
        # Returns

        `Dict[str, float]`
            `precision`, `recall` and `f1-measure`, each for every type, for all of them (`-overall`, the micro
            average) and as the mean over the types (`-macro`; 0 if there is no span), over all workers.
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
        for name in _NAMES:
            of_types = [metrics[f"{name}-{label}"] for label in labels]
            metrics[f"{name}-macro"] = sum(of_types) / max(1, len(of_types))
        metrics.update(self._named("overall", *(sum(count.values()) for count in counts)))
        if reset:
            self.reset()
        return metrics

    def _named(self, name: str, *counts: int) -> Dict[str, float]:
        values = self._compute_metrics(*counts)
        return {f"{key}-{name}": value for key, value in zip(_NAMES, values)}
