"""Field for the tags of a sentence, with labels outside the vocabulary and partial labels."""

import logging
from typing import ClassVar, Optional

import torch
from allennlp.data import Vocabulary
from allennlp.data.fields import SequenceField, SequenceLabelField
from overrides import overrides

from ldnet_allennlp.data.conll.partial_tags import alternatives

logger = logging.getLogger(__name__)

UNSEEN = -1
"""The id of a label that is not in the vocabulary."""
PARTIAL = -2
"""The id of a partial label: the word has one of several tags."""


class TagField(SequenceLabelField):
    """
    A `SequenceLabelField` that allows labels outside the vocabulary, for corpora with types that the training data
    lack. AllenNLP's field raises `KeyError` for these; here their id is `UNSEEN` (-1), which "ldnet_tagger" ignores in
    the loss and counts as an error in its scores. Each such label is logged once.

    With `partial_label`, that tag means any tag, and "B-Chemical|O" one of these. They have the id `PARTIAL` (-2), and
    the alternatives are counted into the vocabulary.
    """

    __slots__ = ["_partial_label"]

    _already_logged: ClassVar[set[tuple[str, str]]] = set()

    def __init__(
        self,
        labels: list[str],
        sequence_field: SequenceField,
        label_namespace: str = "labels",
        partial_label: Optional[str] = None,
    ) -> None:
        super().__init__(labels, sequence_field, label_namespace)
        self._partial_label = partial_label

    def alternatives(self, label: str) -> list[str]:
        """The tags that a label allows; empty for any tag."""
        return alternatives(label, self._partial_label)

    @overrides
    def count_vocab_items(self, counter: dict[str, dict[str, int]]) -> None:
        for label in self.labels:
            for tag in self.alternatives(str(label)):
                counter[self._label_namespace][tag] += 1

    @overrides
    def index(self, vocab: Vocabulary) -> None:
        ids = vocab.get_token_to_index_vocabulary(self._label_namespace)
        self._indexed_labels = [
            ids.get(tags[0], UNSEEN) if len(tags) == 1 else PARTIAL
            for tags in (self.alternatives(str(label)) for label in self.labels)
        ]
        if UNSEEN not in self._indexed_labels:
            return
        for label, index in zip(self.labels, self._indexed_labels):
            key = (self._label_namespace, str(label))
            if index == UNSEEN and key not in self._already_logged:
                self._already_logged.add(key)
                logger.warning(
                    "Found the label %r, which the vocabulary's namespace '%s' does not have. It is never "
                    "predicted and counts as an error (models other than ldnet_tagger may not take it).",
                    label,
                    self._label_namespace,
                )


class AllowedTagsField(TagField):
    """
    The allowed tags of each word, as a mask (words, tags): one tag for a full label, several for "B-Chemical|O", all
    for the `partial_label` and for labels that are not in the vocabulary. For readers with partial labels, in addition
    to the `TagField`.
    """

    __slots__ = ["_allowed", "_num_tags"]

    @overrides
    def count_vocab_items(self, counter: dict[str, dict[str, int]]) -> None:
        """Does nothing: the `TagField` counts the labels."""

    @overrides
    def index(self, vocab: Vocabulary) -> None:
        super().index(vocab)
        ids = vocab.get_token_to_index_vocabulary(self._label_namespace)
        self._num_tags = len(ids)
        self._allowed = [
            [ids[tag] for tag in self.alternatives(str(label)) if tag in ids] for label in self.labels
        ]

    @overrides
    def as_tensor(self, padding_lengths: dict[str, int]) -> torch.Tensor:
        allowed = torch.zeros(padding_lengths["num_tokens"], self._num_tags, dtype=torch.bool)
        for step, tags in enumerate(self._allowed):
            if tags:
                allowed[step, tags] = True
            else:
                allowed[step] = True
        return allowed
