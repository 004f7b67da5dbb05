"""Files of words and sentences, and sentences for measurements and checks of models."""

from typing import Any, cast

from allennlp.common.checks import ConfigurationError
from allennlp.data.fields import MetadataField
from allennlp.models.archival import Archive

from ldnet_allennlp.common.lines import PathOrPaths, text_lines
from ldnet_allennlp.common.verification import random_sentences
from ldnet_allennlp.data.annotated.reader import AnnotatedJsonlReader
from ldnet_allennlp.data.conll.partial_tags import is_partial
from ldnet_allennlp.data.conll.reader import ConllColumnsReader
from ldnet_allennlp.data.language_model_archive import DEFAULT_BOUNDARY
from ldnet_allennlp.data.language_model_vocabulary import has_words, words_namespace, words_of
from ldnet_allennlp.data.tagged_sentence_reader import TaggedSentenceReader
from ldnet_allennlp.modules.embedders.ldnet_embedder import LdnetEmbedder

TEXT_FORMATS = ("auto", "plain", "conll", "annotated", "reader")
ENDINGS = {
    "conll": (".conll", ".conllu", ".iob", ".iob2", ".bio", ".bioes", ".tsv"),
    "annotated": (".jsonl", ".json", ".spacy", ".ann"),
}
_SEEDS = range(13, 29)  # 16 times the sentences of `random_sentences`, some 3,000 words

Sentences = list[list[str]]


def read_words(path: str) -> set[str]:
    """The words of a file, one per line. Raises `ConfigurationError` if it has none."""
    words = {line.strip() for _, line in text_lines(path)} - {""}
    if not words:
        raise ConfigurationError(f"'{path}' was expected to have one word per line, but it has none.")
    return words


def read_sentences(path: str) -> Sentences:
    """The words of each non-empty line of a text file. Raises `ConfigurationError` if there are none."""
    sentences = [words for _, line in text_lines(path) if (words := line.split())]
    if not sentences:
        raise ConfigurationError(f"'{path}' was expected to have one sentence per line, but it has none.")
    return sentences


def read_text(path: PathOrPaths, text_format: str, archive: Archive) -> Sentences:
    """
    The words of the sentences of a file: "plain" (one sentence per line, words separated by blanks), "conll" or
    "annotated" (read by the archive's reader if it is "conll_columns" or "annotated_jsonl"), "reader" (read by the
    archive's reader if it reads tagged sentences, else as "conll"), or "auto" (by the ending of the name). Readers also
    take several files, see `expand_paths`.

    Raises `ConfigurationError` if there are no sentences, or if the reader cannot read the file.
    """
    name = str(path).lower()
    if text_format == "auto":
        text_format = next((kind for kind, endings in ENDINGS.items() if name.endswith(endings)), "plain")
    if text_format == "plain":
        return read_sentences(str(path))
    readers = {"conll": ConllColumnsReader, "annotated": AnnotatedJsonlReader}
    reader: Any = archive.validation_dataset_reader
    if not isinstance(reader, readers.get(text_format, TaggedSentenceReader)):
        layout = "conllu" if name.endswith(".conllu") else "columns"
        reader = AnnotatedJsonlReader() if text_format == "annotated" else ConllColumnsReader(layout)
    instances = reader.for_prediction()._read(path)  # `read` would show a bar
    return [cast(MetadataField, instance["metadata"])["words"] for instance in instances]


def labeled_sentences(archive: Archive, path: str, option: str) -> list[tuple[list[str], list[str]]]:
    """
    The words and gold tags of the sentences of a file without partial labels, read by the archive's reader; boundary
    tags are "O".

    Raises `ConfigurationError`, with the command's `option`, if the file has no tags, or no sentence with full labels.
    """
    reader: Any = archive.validation_dataset_reader
    partial_label = reader.recoding.partial_label if isinstance(reader, TaggedSentenceReader) else None
    instances: list[Any] = list(reader.read(path))
    if not all("tags" in instance.fields for instance in instances):
        raise ConfigurationError(f"{option} needs gold tags, but '{path}' has none.")
    boundary_tags = getattr(archive.model, "boundary_tags", None) or []
    sentences = []
    for instance in instances:
        words = list(instance["metadata"]["words"])
        tags = instance["tags"].labels[: len(words)]  # without a sentence boundary
        if not is_partial(tags, partial_label):
            sentences.append((words, ["O" if tag in boundary_tags else tag for tag in tags]))
    if not sentences:
        raise ConfigurationError(f"{option} needs sentences with full labels, but '{path}' has none.")
    return sentences


def sentences_for(archive: Archive) -> Sentences:
    """Sentences of random words from the vocabulary of a model's language models, or of the model itself."""
    vocab = archive.model.vocab
    embedders = (part for part in archive.model.modules() if isinstance(part, LdnetEmbedder))
    namespaces = [words_namespace(embedder.namespace) for embedder in embedders] + ["tokens"]
    words = next(
        (words_of(vocab, namespace)[2:] for namespace in namespaces if has_words(vocab, namespace)), []
    )
    # The boundary between sentences is not a word.
    boundaries = {DEFAULT_BOUNDARY, getattr(archive.validation_dataset_reader, "end_of_sentence", "")}
    words = [word for word in words if word.strip() and word not in boundaries]
    return [sentence for seed in _SEEDS for sentence in random_sentences(words, seed)]
