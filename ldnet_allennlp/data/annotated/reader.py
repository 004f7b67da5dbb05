"""Dataset reader for annotated documents (character spans, or tokens and tags)."""

from collections.abc import Iterator
from typing import Any, Optional

from allennlp.common.checks import ConfigurationError
from allennlp.data import DatasetReader, Token
from overrides import overrides

from ldnet_allennlp.common.checks import check_choice
from ldnet_allennlp.data.annotated.alignment import ON_OVERLAPPING, ON_UNALIGNED, SpanAligner
from ldnet_allennlp.data.annotated.documents import (
    KEYS,
    OFFSET_UNITS,
    Document,
    DocumentError,
    JsonDocuments,
)
from ldnet_allennlp.data.annotated.files import DOCBIN, read_documents
from ldnet_allennlp.data.conll.columns import LABELS
from ldnet_allennlp.data.conll.tag_detection import DetectedTags
from ldnet_allennlp.data.conll.tag_recoding import AUTO, TagRecoder
from ldnet_allennlp.data.tagged_file import Sentence, TaggedFile
from ldnet_allennlp.data.tagged_sentence_reader import TaggedSentenceReader
from ldnet_runtime.tag_schemes import ENCODINGS, tags_from_spans
from ldnet_runtime.text import Sentence as Words


class AnnotatedFile(TaggedFile):
    """A file of documents, read one at a time."""

    def __init__(self, path: str, reader: "AnnotatedJsonlReader") -> None:
        super().__init__(path)
        self._reader = reader
        self._aligner = SpanAligner(*reader.span_options, self.changed)

    def documents(self) -> Iterator[Document]:
        """The documents, before the split into sentences."""
        return read_documents(self.path, self._reader.parser, self.left_out)

    @overrides
    def sentences(self) -> Iterator[Sentence]:
        for document in self.documents():
            try:
                yield from list(self._sentences(document))
            except DocumentError as error:
                raise ConfigurationError(f"{self.path}, line {document.line}: {error}.") from error

    def _sentences(self, document: Document) -> Iterator[Sentence]:
        is_tagged = document.tags is not None or document.spans is not None
        if self._reader.labels == "required" and self._reader.reads_tags and not is_tagged:
            if document.is_open:
                self.left_out["tasks without an annotation"] += 1
                return
            raise DocumentError(
                f"found no annotation, expected {' or '.join(map(repr, KEYS['spans'][:4]))}, or tokens with "
                f'{" or ".join(map(repr, KEYS["tags"][:2]))}; fields: {{"spans": ...}} names others, and labels: '
                f'"optional" reads documents without'
            )
        tags, spans = (document.tags, document.spans) if self._reader.reads_tags else (None, None)
        if document.text is None or (document.tags is not None and document.starts is None):
            if document.tokens:
                yield _sentence(document, document.tokens, tags)
            return
        declared = self._reader.recoding.label_encoding
        encoding = declared if declared in ENCODINGS else "BIO"
        words = self._words(document, document.text)
        for sentence, aligned in self._aligner.align(document.text, words, spans or []):
            tokens = [Token(word, start, end) for word, start, end in zip(*sentence, strict=True)]
            if spans is not None:
                tags = tags_from_spans(aligned, len(tokens), encoding)
            yield _sentence(document, tokens, tags)

    def _words(self, document: Document, text: str) -> list[Words]:
        """The document's tokens as one sentence, or the tokenizer's sentences."""
        tokens, starts = document.tokens, document.starts
        if tokens is None or starts is None:
            return self._reader.tokenizer.split(text)
        ends = [start + len(token) for token, start in zip(tokens, starts, strict=True)]
        return [Words(tokens, starts, ends)] if tokens else []


def _sentence(document: Document, tokens: list[Any], tags: list[str] | None) -> Sentence:
    columns = [[token if isinstance(token, str) else token.text] for token in tokens]
    return Sentence([document.line] * len(tokens), tokens, tags, document.extra, columns)


@DatasetReader.register("annotated_jsonl")
class AnnotatedJsonlReader(TaggedSentenceReader):
    """
    Reads documents of annotation tools and data sets:

    - JSON lines, or a JSON array, of objects with a text and character spans (doccano's `label`, Prodigy's and Label
      Studio's `spans`, spaCy's `entities`, the JSON that a tagger predicts), or with tokens and tags (`tokens` and
      `ner_tags` of Hugging Face `datasets`, Prodigy's token objects)
    - spaCy's `.spacy` files (DocBin), and brat's pairs of `.txt` and `.ann` (give it one of the two)

    Files may be plain or compressed. The `tokenizer` splits texts into sentences and words. Invalid content raises
    `ConfigurationError` with file and line, unless an option allows it; then it is counted and logged.

    Registered as a `DatasetReader` with name "annotated_jsonl".

    # Parameters

    fields : `Dict[str, str]`, optional
        Names of "text", "spans", "tokens" and "tags" in the files, if they differ from `documents.KEYS`, for example
        `{"tags": "pos_tags"}`.
    tag_names : `List[str]`, optional
        The tags by integer id.
    offsets : `str`, optional (default = `"characters"`)
        The unit of offsets: "characters" (code points, as in Python), "utf16" (as in JavaScript) or "bytes".
    on_unaligned_spans : `str`, optional (default = `"move"`)
        Spans that begin or end within a word: "move" extends them to the word's boundary; "drop" or "error".
    on_overlapping_spans : `str`, optional (default = `"longest"`)
        Which of overlapping or nested spans to keep: the "longest", the "shortest", none ("drop"); or "error".
    labels : `str`, optional (default = `"required"`)
        "required"; "optional": a file may lack annotations, in all documents; or "ignored".
    token_indexers, label_encoding, tokenizer, ... : see `TaggedSentenceReader`
        The `label_encoding` applies to tags only, not to spans.
    """

    def __init__(
        self,
        fields: Optional[dict[str, str]] = None,
        tag_names: Optional[list[str]] = None,
        offsets: str = "characters",
        on_unaligned_spans: str = "move",
        on_overlapping_spans: str = "longest",
        labels: str = "required",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        owner = "an annotated_jsonl reader"
        check_choice(OFFSET_UNITS, owner, offsets=offsets)
        check_choice(ON_UNALIGNED, owner, on_unaligned_spans=on_unaligned_spans)
        check_choice(ON_OVERLAPPING, owner, on_overlapping_spans=on_overlapping_spans)
        check_choice(LABELS, owner, labels=labels)
        for name in fields or {}:
            check_choice(KEYS, owner, fields=name)
        self.parser = JsonDocuments(fields, tag_names, offsets)
        self.span_options: tuple[str, str] = (on_unaligned_spans, on_overlapping_spans)
        self.labels = labels
        self.reads_tags = labels != "ignored"

    @overrides
    def open_file(self, path: str) -> AnnotatedFile:
        return AnnotatedFile(path, self)

    @overrides
    def _sentences(self, paths: list[str]) -> Iterator[tuple[Sentence, TagRecoder]]:
        # The glob "brat/*" names both files of each pair.
        pairs = {f"{path.removesuffix('.ann')}.txt" for path in paths if path.endswith(".ann")}
        return super()._sentences([path for path in paths if path not in pairs])

    @overrides
    def _tags_of(self, path: str) -> DetectedTags:
        if self.reads_tags and self.recoding.label_encoding == AUTO:
            first = next(self.open_file(path).documents(), None)
            if first is not None and first.spans is not None:
                return DetectedTags("BIO")
        detected = super()._tags_of(path)
        if DOCBIN.search(path) and detected.outside == "-":
            raise ConfigurationError(
                f"{path}: found words without annotation, and none with the tag 'O'. Set partial_label: \"-\" to train "
                f'with unknown labels, or tag_map: {{"-": "O"}} to read these words as outside of spans.'
            )
        return detected
