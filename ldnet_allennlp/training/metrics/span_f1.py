"""Span F1 of tag sequences with conlleval's numbers, summed over the ranks of a distributed run."""

from collections import Counter
from collections.abc import Sequence

import torch
from allennlp.training.metrics import Metric, SpanBasedF1Measure
from overrides import overrides

from ldnet_allennlp.data.conll.tag_field import PARTIAL
from ldnet_allennlp.training.metrics.ranks import gather
from ldnet_runtime.tag_schemes import Span, spans_from_tags

_NAMES = ("precision", "recall", "f1-measure")
_AVERAGES = ("overall", "macro")


@Metric.register("span_f1_of_tags")
class SpanF1(SpanBasedF1Measure):
    """
    AllenNLP's `SpanBasedF1Measure` for predicted tag sequences instead of scores for every tag, and for distributed
    runs, which the original does not support.

    The numbers are those of conlleval, the scorer of the CoNLL shared tasks, as fractions: a predicted span is correct
    if the gold standard has one of the same type with the same first and last word. Ill-formed sequences have spans,
    too, as in conlleval (see `tag_schemes`). AllenNLP's measure agrees for "BIO", but raises an error for ill-formed
    "BIOUL" and "BMES". "-overall" is the micro average, over the counts of all types; "-macro" is the mean of the
    types' values, over all predicted and gold types.

    # Parameters

    vocabulary, tag_namespace, ignore_classes, label_encoding, tags_to_spans_function
        As in `SpanBasedF1Measure`.
    """

    supports_distributed = True

    def add_tags(
        self,
        predicted: list[list[int]],
        gold: torch.Tensor,
        gold_tags: Sequence[Sequence[str]] | None = None,
    ) -> None:
        """
        Count the spans of a batch: predicted tag ids without padding, and gold tag ids (B, T), of which only the
        predicted positions count. Sentences with partial labels (-2) are skipped. Those with gold tags that are not in
        the vocabulary (negative ids) need the `gold_tags` themselves, or raise `ValueError`.
        """
        for number, (tags, gold_ids) in enumerate(zip(predicted, gold.tolist())):
            gold_ids = gold_ids[: len(tags)]
            if not tags or PARTIAL in gold_ids:
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

    def _count(self, predicted: set[Span], gold: set[Span]) -> None:
        for label, *_ in predicted & gold:
            self._true_positives[label] += 1
        for label, *_ in predicted - gold:
            self._false_positives[label] += 1
        for label, *_ in gold - predicted:
            self._false_negatives[label] += 1

    def _in_words(self, tag_ids: list[int]) -> list[str]:
        return [self._label_vocabulary[tag_id] for tag_id in tag_ids]

    def _spans(self, tags: Sequence[str]) -> set[Span]:
        if self._tags_to_spans_function is not None:
            spans_with_ends = self._tags_to_spans_function(list(tags), self._ignore_classes)
            return {(label, start, end) for label, (start, end) in spans_with_ends}
        assert self._label_encoding is not None  # the constructor takes one of the two
        spans = spans_from_tags(tags, self._label_encoding)
        return {span for span in spans if span[0] not in self._ignore_classes}

    def table(self, metrics: dict[str, float]) -> list[str]:
        """
        The `metrics` of the last call of `get_metric` as the lines of a table: precision, recall and F1 in percent and
        the number of gold spans, per type and on average.
        """
        names = {
            f"type:{kind}" if kind in _AVERAGES else kind: count for kind, count in self._support.items()
        }
        rows = {**names, "micro average": sum(names.values()), "macro average": sum(names.values())}
        keys = {"micro average": "overall", "macro average": "macro"}
        width = max(map(len, rows))
        lines = [f"{'type':<{width}}  precision  recall      F1  support"]
        for name, support in rows.items():
            precision, recall, f1 = (100 * metrics[f"{score}-{keys.get(name, name)}"] for score in _NAMES)
            lines.append(f"{name:<{width}}  {precision:9.2f}  {recall:6.2f}  {f1:6.2f}  {support:7,}")
        return lines

    @overrides(check_signature=False)
    def get_metric(self, reset: bool = False, all_ranks: bool | None = None) -> dict[str, float]:
        """
        `precision`, `recall` and `f1-measure`, each for every type, for all of them (`-overall`, the micro average) and
        as the mean over the types (`-macro`; 0 if there is no span). The scores of types named "overall" and "macro"
        are under `-type:overall` and `-type:macro`. `reset` and `all_ranks` are those of `UnseenLabels`.
        """
        counts = [self._true_positives, self._false_positives, self._false_negatives]
        counts = [sum(map(Counter, parts), Counter()) for parts in zip(*gather(counts, all_ranks))]
        types = sorted(set().union(*counts))
        scores = {span_type: _scores(*(count[span_type] for count in counts)) for span_type in types}
        true_positives, _, false_negatives = counts
        self._support = {
            span_type: true_positives[span_type] + false_negatives[span_type] for span_type in types
        }
        metrics = {
            f"{name}-{f'type:{span_type}' if span_type in _AVERAGES else span_type}": value
            for span_type in types
            for name, value in zip(_NAMES, scores[span_type])
        }
        macro = [sum(column) / len(types) for column in zip(*scores.values())] or [0.0] * len(_NAMES)
        overall = _scores(*(sum(count.values()) for count in counts))
        metrics.update({f"{name}-macro": value for name, value in zip(_NAMES, macro)})
        metrics.update({f"{name}-overall": value for name, value in zip(_NAMES, overall)})
        if reset:
            self.reset()
        return metrics


def _scores(true_positives: int, false_positives: int, false_negatives: int) -> tuple[float, float, float]:
    """Precision, recall and F1, 0 where they are undefined."""
    precision = true_positives / max(1, true_positives + false_positives)
    recall = true_positives / max(1, true_positives + false_negatives)
    f1 = 2 * true_positives / max(1, 2 * true_positives + false_positives + false_negatives)
    return precision, recall, f1
