"""Predictions as labeled instances, for AllenNLP's interpreters."""

from typing import cast

from allennlp.data import Instance
from allennlp.data.fields import SequenceLabelField, TextField
from allennlp.models import Model

from ldnet_allennlp.models.ldnet_tagger import LdnetTagger
from ldnet_runtime.tag_schemes import OUTSIDE, spans_from_tags


def span_instances(model: Model, instance: Instance, tags: list[str]) -> list[Instance]:
    """
    One instance per predicted span, with the labels of the span and "O" elsewhere. Without a label encoding, one
    instance with all predicted tags.

    # Parameters

    model : `Model`
        The tagger.
    instance : `Instance`
        The predicted instance. It may have an end step after the words, without a tag.
    tags : `list[str]`
        The predicted tags.
    """
    words = TextField(cast(TextField, instance["tokens"]).tokens[: len(tags)])
    encoding: str | None = getattr(model, "label_encoding", None)
    targets = [tags]
    if encoding is not None:
        spans = model.spans(tags) if isinstance(model, LdnetTagger) else spans_from_tags(tags, encoding)
        targets = [
            [tag if start <= number <= end else OUTSIDE for number, tag in enumerate(tags)]
            for _, start, end in spans
        ]
    namespace: str = getattr(model, "label_namespace", "labels")
    labeled = [instance.duplicate() for _ in targets]
    for copy, labels in zip(labeled, targets):
        copy.add_field("tags", SequenceLabelField(labels, words, namespace), vocab=model.vocab)
    return labeled
