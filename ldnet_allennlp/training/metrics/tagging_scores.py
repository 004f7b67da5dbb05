"""Scores of an "ldnet_tagger"."""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from allennlp.data import Vocabulary
from allennlp.training.metrics import FBetaVerboseMeasure

from ldnet_allennlp.data.conll.tag_field import PARTIAL
from ldnet_allennlp.data.language_model_vocabulary import words_of
from ldnet_allennlp.training.metrics.ranks import all_ranks_take_part, gather
from ldnet_allennlp.training.metrics.span_f1 import SpanF1
from ldnet_allennlp.training.metrics.unseen_labels import UnseenLabels
from ldnet_runtime.tag_schemes import Span

logger = logging.getLogger(__name__)


class TaggingScores:
    """
    Accuracy, span F1 (or scores by tag) and the number of unseen labels, over all participating ranks. The log gets a
    table of span scores by type at the end of each evaluation. "accuracy3" counts a word as correct if its gold tag is
    predicted or has one of the two highest other emissions.

    `spans` gives the spans of a tag sequence, for span F1. If `verbose`, there are scores per type or, without `spans`,
    per tag.
    """

    def __init__(
        self,
        vocab: Vocabulary,
        namespace: str,
        spans: Callable[[list[str]], list[Span]] | None = None,
        verbose: bool = False,
    ) -> None:
        self._labels = words_of(vocab, namespace)
        self._span_f1: SpanF1 | None = None
        if spans is not None:
            to_spans = partial(_with_ends, spans)
            self._span_f1 = SpanF1(vocab, namespace, label_encoding=None, tags_to_spans_function=to_spans)
        self._verbose = verbose
        self._unseen = UnseenLabels()
        self._reset()

    def _reset(self) -> None:
        size = len(self._labels)
        # Words by predicted tag and true tag, unseen ones last.
        self._confusion = torch.zeros(size, size + 1, dtype=torch.long)
        self._among_three = 0
        self._has_counted, self._all_ranks = False, False

    def update(
        self,
        predicted: list[list[int]],
        gold: torch.Tensor,
        mask: torch.Tensor,
        metadata: list[dict[str, Any]] | None = None,
        emissions: torch.Tensor | None = None,
    ) -> None:
        """
        Count a batch: predicted tag ids of each sentence, and true ones (B, T) with a mask (B, T). Unseen labels (-1)
        are errors; partial labels (-2) are ignored. `metadata` has "gold_tags" and "file" of each sentence. `accuracy3`
        needs the emissions (B, T, N).
        """
        self._has_counted, self._all_ranks = True, all_ranks_take_part()
        gold, mask = gold.cpu(), mask.cpu()
        size = len(self._labels)
        flat = torch.tensor([tag for tags in predicted for tag in tags], dtype=torch.long)  # (words,)
        true = gold[mask]
        scored = true != PARTIAL
        pairs = flat[scored] * (size + 1) + torch.where(true < 0, size, true)[scored]
        self._confusion += torch.bincount(pairs, minlength=size * (size + 1)).view(size, size + 1)
        if emissions is not None:
            best = emissions.detach().cpu()[mask].scatter(1, flat.unsqueeze(1), float("inf"))  # (words, N)
            three = best.topk(min(3, size), dim=1).indices
            self._among_three += int((three == true.unsqueeze(1)).sum())
        if self._span_f1 is not None:
            gold_tags = None if metadata is None else [sentence.get("gold_tags", ()) for sentence in metadata]
            self._span_f1.add_tags(predicted, gold, gold_tags)
        for row, step in ((gold == -1) & mask).nonzero().tolist():
            sentence = metadata[row] if metadata is not None else {}
            tag = sentence["gold_tags"][step] if "gold_tags" in sentence else "(unknown)"
            self._unseen([tag], sentence.get("file"))

    def get(self, reset: bool = False) -> dict[str, float]:
        """The scores by name; empty without data."""
        if not self._has_counted:
            return {}
        together = self._all_ranks
        confusions, among_three = zip(*gather((self._confusion, self._among_three), together))
        confusion = torch.stack(confusions).sum(0)
        total = max(1, int(confusion.sum()))
        scores = {"accuracy": int(confusion.diag().sum()) / total, "accuracy3": sum(among_three) / total}
        if self._span_f1 is not None:
            averages = ("-overall", "-macro")
            spans = self._span_f1.get_metric(reset, together)
            if reset:  # at the end of an epoch or an evaluation
                logger.info("Span scores in percent:\n%s", "\n".join(self._span_f1.table(spans)))
            scores.update({key: spans[key] for key in spans if self._verbose or key.endswith(averages)})
        elif self._verbose:
            scores.update(self._by_tag(confusion))
        unseen = self._unseen.get_metric(reset, together)
        if unseen:
            scores["unseen_labels"] = float(unseen)
        if reset:
            self._reset()
        return scores

    def _by_tag(self, confusion: torch.Tensor) -> dict[str, float]:
        measure = FBetaVerboseMeasure(index_to_label=dict(enumerate(self._labels)))
        size = len(self._labels)
        counts = confusion[:, :size].float()
        measure._true_positive_sum, measure._pred_sum = counts.diag(), counts.sum(1)
        measure._true_sum, measure._total_sum = counts.sum(0), counts.sum().expand(size)
        scores: dict[str, float] = measure.get_metric()
        return scores


def _with_ends(
    spans: Callable[[list[str]], list[Span]], tags: list[str], ignored: list[str] | None = None
) -> list[tuple[str, tuple[int, int]]]:
    """The spans in the format of AllenNLP's span metric."""
    return [(label, (start, end)) for label, start, end in spans(tags) if label not in (ignored or ())]
