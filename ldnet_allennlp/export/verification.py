"""Compare an exported tagger with its torch model."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy
import torch
from allennlp.data import Batch, DatasetReader
from allennlp.models import Model

from ldnet_allennlp.common.verification import instance_of
from ldnet_allennlp.data.language_model_vocabulary import words_of
from ldnet_allennlp.models.ldnet_tagger import LdnetTagger
from ldnet_allennlp.models.tie_or_break_tagger import TieOrBreakTagger
from ldnet_runtime import Options, Tagger

TOLERANCE = 1e-4
"""Tolerance of scores, relative to the larger of 1 and the largest score of a batch."""
_BATCH = 32

Sentences = Sequence[Sequence[str]]


class Comparison(NamedTuple):
    """Differences between an exported tagger and its model."""

    before: list[list[str]]
    """The model's tags of each sentence."""
    after: list[list[str]]
    """Those of the exported tagger."""
    largest: float
    """The largest difference of a score."""
    agrees: bool
    """Whether all scores agree to `TOLERANCE`."""

    @property
    def num_words(self) -> int:
        """The number of words in all sentences."""
        return sum(map(len, self.before))

    @property
    def changed(self) -> int:
        """The number of words with different tags."""
        pairs = zip(self.before, self.after, strict=True)
        return sum(one != other for pair in pairs for one, other in zip(*pair, strict=True))


def compare(model: Model, reader: DatasetReader, tagger: Tagger, sentences: Sentences) -> Comparison:
    """
    Tag sentences (lists of words, none empty) with a model that `export_tagger` supports and with its exported tagger,
    and compare the results. Puts the model into evaluation mode.
    """
    model.eval()
    before: list[list[str]] = []
    after: list[list[str]] = []
    largest, agrees = 0.0, True
    for start in range(0, len(sentences), _BATCH):
        batch = sentences[start : start + _BATCH]
        truth, tags = torch_tags(model, reader, batch)
        scores, lengths = tagger.emissions(batch)
        is_word = numpy.arange(scores.shape[1]) < lengths[:, None]
        distance = float(numpy.abs(scores - truth)[is_word].max())
        largest = max(largest, distance)
        agrees = agrees and distance <= TOLERANCE * max(1.0, float(numpy.abs(truth[is_word]).max()))
        before += tags
        after += (one.tags for one in tagger.decoder.decode(scores, lengths, Options(confidences=False)))
    return Comparison(before, after, largest, agrees)


@torch.no_grad()
def torch_tags(
    model: Any, reader: DatasetReader, sentences: Sentences
) -> tuple[numpy.ndarray, list[list[str]]]:
    """A model's scores (B, T, N) and tags for the words of sentences."""
    batch = Batch([instance_of(reader, list(words)) for words in sentences])
    batch.index_instances(model.vocab)
    tensors: dict[str, Any] = batch.as_tensor_dict()
    if type(model) in (LdnetTagger, TieOrBreakTagger):
        emissions, mask = model.score(tensors["tokens"])
        ids = model.decode(emissions, mask)["tags"]
    else:
        output = model(**tensors)
        emissions = output["logits"]
        ids = output.get("tags", emissions.argmax(dim=2).tolist())
    labels = words_of(model.vocab, model.label_namespace)
    rows = zip(ids, sentences, strict=True)
    return emissions.numpy(), [[labels[tag] for tag in row[: len(words)]] for row, words in rows]
