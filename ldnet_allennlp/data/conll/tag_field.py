"""Labels of which some may not be in the vocabulary."""

import logging
from typing import ClassVar, List, Set, Tuple

from allennlp.data import Vocabulary
from allennlp.data.fields import SequenceLabelField
from overrides import overrides

logger = logging.getLogger(__name__)

UNSEEN = -1


class TagField(SequenceLabelField):
    """
    A `SequenceLabelField` whose labels need not be in the vocabulary: those of a corpus with a type that the
    training data does not have. AllenNLP's raises `KeyError` for these; here their id is `UNSEEN` (-1), which
    "ldnet_tagger" leaves out of the loss and counts as an error in its scores. Each such label is logged once.

    # Parameters

    labels, sequence_field, label_namespace : as in `SequenceLabelField`
    """

    __slots__: List[str] = []

    _already_logged: ClassVar[Set[Tuple[str, str]]] = set()

    @overrides
    def index(self, vocab: Vocabulary) -> None:
        known = vocab.get_token_to_index_vocabulary(self._label_namespace)
        self._indexed_labels = [known.get(str(label), UNSEEN) for label in self.labels]
        if UNSEEN not in self._indexed_labels:
            return
        for label in self.labels:
            key = (self._label_namespace, str(label))
            if label not in known and key not in self._already_logged:
                self._already_logged.add(key)
                logger.warning(
                    "Found the label %r, which the vocabulary's namespace '%s' does not have. It is never "
                    "predicted and counts as an error (models other than ldnet_tagger may not take it).",
                    label,
                    self._label_namespace,
                )
