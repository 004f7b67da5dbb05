"""Gold and predicted spans of a tagger on a tagged file."""

from typing import Any, cast

from allennlp.common.checks import ConfigurationError
from allennlp.data import Instance
from allennlp.data.fields import MetadataField, SequenceLabelField
from allennlp.models.archival import Archive

from ldnet_allennlp.commands.report.errors import Span, TaggedSentence
from ldnet_allennlp.predictors.ldnet_tagger import LdnetTaggerPredictor
from ldnet_runtime.tag_schemes import spans_from_tags

_AT_ONCE = 1024  # sentences


def tagged_sentences(archive: Archive, path: str, source: str) -> list[TaggedSentence]:
    """
    Tag the sentences of a file with gold tags, read by the tagger's reader. `source` is the path of the archive.

    Raises `ConfigurationError` if the model has no spans, or if the file has no tags.
    """
    model = archive.model
    encoding = getattr(model, "label_encoding", None)
    if encoding is None:
        raise ConfigurationError(
            f"--errors compares spans, but the {type(model).__name__} of '{source}' has no label_encoding."
        )
    instances = list(archive.validation_dataset_reader.read(path))
    if not all("tags" in instance.fields for instance in instances):
        raise ConfigurationError(f"--errors compares with gold tags, but '{path}' has none.")
    boundary_tags = getattr(model, "boundary_tags", None) or []

    def gold_spans(instance: Instance, num_words: int) -> list[Span]:
        tags = cast(SequenceLabelField, instance["tags"]).labels[:num_words]  # without a sentence boundary
        plain = ["O" if tag in boundary_tags else str(tag) for tag in tags]
        return [Span(*span) for span in spans_from_tags(plain, encoding)]

    words = [cast(MetadataField, instance["metadata"])["words"] for instance in instances]
    predictor = LdnetTaggerPredictor(model, archive.validation_dataset_reader)
    outputs: list[dict[str, Any]] = []
    for start in range(0, len(words), _AT_ONCE):
        outputs += predictor.predict_batch_json(
            [{"tokens": tokens} for tokens in words[start : start + _AT_ONCE]]
        )
    return [
        TaggedSentence(list(tokens), gold_spans(instance, len(tokens)), _predicted_spans(output))
        for instance, tokens, output in zip(instances, words, outputs)
    ]


def _predicted_spans(output: dict[str, Any]) -> list[Span]:
    return [
        Span(span["type"], span["start"], span["end"] - 1, span.get("confidence")) for span in output["spans"]
    ]
