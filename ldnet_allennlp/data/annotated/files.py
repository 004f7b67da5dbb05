"""Read files of annotated documents: JSON lines and arrays, spaCy's DocBin, brat's pairs of .txt and .ann."""

import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import spacy
from allennlp.common.checks import ConfigurationError
from spacy.tokens import DocBin, Span

from ldnet_allennlp.common.lines import TEXT_ERRORS, decode_line, excerpt, numbered_lines, open_text
from ldnet_allennlp.data.annotated.documents import (
    CharSpan,
    Document,
    DocumentError,
    JsonDocuments,
    places_of,
)

REJECTED = "documents that the annotator rejected"
DOCBIN = re.compile(r"\.spacy(\.(gz|bz2|xz|zst))?$", re.IGNORECASE)
_BRAT_SPAN = re.compile(r"T\d+\t(\S+) (\d+ \d+(?:;\d+ \d+)*)(?:\t(.*))?")


def read_documents(path: str, parser: JsonDocuments, left_out: Counter) -> Iterator[Document]:
    """
    The documents of a file: `.spacy`, one of a pair of `.ann` and `.txt` (brat), or JSON (any name).

    Counts skipped items. Raises `ConfigurationError` with file and line (the number of the item in a JSON array).
    """
    kind = os.path.splitext(path)[1].lower()
    if DOCBIN.search(path):
        yield from _docbin(path)
        return
    if kind in (".ann", ".txt"):
        stem = path[: -len(kind)]
        if all(os.path.isfile(f"{stem}{suffix}") for suffix in (".ann", ".txt")) or not _is_json(path):
            yield _brat(stem, parser.offsets, left_out)
            return
    for line, item in _json_items(path):
        try:
            document = parser.parse(item, line)
        except DocumentError as error:
            raise ConfigurationError(f"{path}, line {line}: {error}.") from error
        if document is None:
            left_out[REJECTED] += 1
        else:
            yield document


def _json_items(path: str) -> Iterator[tuple[int, Any]]:
    """The items of a file of JSON lines or one JSON array, each with its number."""
    is_lines = False
    for number, line in numbered_lines(path):
        if not line.strip():
            continue
        text = decode_line(line, "utf-8", path, number)
        try:
            item = json.loads(text)
        except (ValueError, RecursionError) as error:
            if not is_lines and text.lstrip()[:1] in ("[", "{"):
                yield from _whole(path)
                return
            raise ConfigurationError(
                f"{path}, line {number}: found {excerpt(text)}, expected a JSON object: {error}."
            ) from error
        is_lines, item = True, _unwrapped(item)
        if _is_list(item):
            yield from enumerate(item, 1)
        else:
            yield number, item


def _whole(path: str) -> Iterator[tuple[int, Any]]:
    """The items of a JSON file whose array, or object, has several lines."""
    try:
        with open_text(path) as file:
            item = json.loads(file.read().decode("utf-8-sig"))
    except (ValueError, RecursionError, *TEXT_ERRORS) as error:
        raise ConfigurationError(f"{path}: found no JSON lines and no JSON array ({error}).") from error
    item = _unwrapped(item)
    yield from enumerate(item if _is_list(item) else [item], 1)


def _unwrapped(item: Any) -> Any:
    """The documents in an object of spaCy's training data, as some annotation tools write it; or else the item."""
    documents = item.get("annotations") if isinstance(item, dict) else None
    found = (
        [document for document in documents if document is not None] if isinstance(documents, list) else []
    )
    are_pairs = all(isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str) for pair in found)
    return found if found and are_pairs else item


def _is_list(item: Any) -> bool:
    """Return whether JSON is a list of documents, rather than one document of spaCy's training data."""
    return isinstance(item, list) and not (len(item) == 2 and isinstance(item[0], str))


def _is_json(path: str) -> bool:
    first = next((line for _, line in numbered_lines(path) if line.strip()), b"")
    return first.lstrip().startswith((b"{", b"["))


def _docbin(path: str) -> Iterator[Document]:
    try:
        with open_text(path) as file:
            docs = list(DocBin().from_bytes(file.read()).get_docs(spacy.blank("xx").vocab))
    except Exception as error:  # zlib's, msgpack's and spaCy's own
        raise ConfigurationError(f"{path}: found no .spacy file (DocBin): {error}.") from error
    for number, doc in enumerate(docs, 1):
        sentences: list[Span] = []
        for sentence in doc.sents if doc.has_annotation("SENT_START") else [doc[:]]:
            # An entity across their border joins two sentences.
            start = sentences.pop().start if sentences and sentence[0].ent_iob_ == "I" else sentence.start
            sentences.append(doc[start : sentence.end])
        for sentence in sentences:
            words = [word for word in sentence if not word.is_space]
            if words:
                first = sentence[0].idx
                yield Document(
                    number,
                    doc.text[first : sentence[-1].idx + len(sentence[-1])],
                    tokens=[word.text for word in words],
                    starts=[word.idx - first for word in words],
                    tags=list(map(_tag, words)) if doc.has_annotation("ENT_IOB") else None,
                )


def _tag(word: Any) -> str:
    """A word's tag; "-" without annotation. White space before it, which is left out, may begin its entity."""
    first = word
    while first.ent_iob_ == "I" and first.i > 0 and first.nbor(-1).is_space:
        first = first.nbor(-1)
    return f"{first.ent_iob_}-{word.ent_type_}" if word.ent_iob_ in ("B", "I") else word.ent_iob_ or "-"


def _brat(stem: str, unit: str, left_out: Counter) -> Document:
    text_path, path = f"{stem}.txt", f"{stem}.ann"
    if not (os.path.isfile(text_path) and os.path.isfile(path)):
        missing = path if os.path.isfile(text_path) else text_path
        raise ConfigurationError(f"{stem}.*: brat's files come in pairs, expected '{missing}', too.")
    with open(text_path, "rb") as file:
        text = decode_line(file.read(), "utf-8", text_path, 1)
    spans, places = [], places_of(text, unit)
    for number, line in numbered_lines(path):
        annotation = decode_line(line, "utf-8", path, number)
        if not annotation.startswith("T"):
            left_out["annotations other than spans"] += bool(annotation)
            continue
        match = _BRAT_SPAN.fullmatch(annotation)
        pieces = re.findall(r"(\d+) (\d+)", match[2]) if match else []
        pieces = sorted((int(start), int(end)) for start, end in pieces)
        if match is None or not all(start < end < len(places) for start, end in pieces):
            raise ConfigurationError(
                f"{path}, line {number}: found {excerpt(annotation)}, expected 'T1', a TAB, a type and offsets within "
                f"the {len(places) - 1} {unit} of '{text_path}'."
            )
        # A discontinuous span becomes one from its first to its last piece.
        span = CharSpan(places[pieces[0][0]], places[max(end for _, end in pieces)], match[1])
        covered = text[span.start : span.end]
        if len(pieces) == 1 and match[3] is not None and match[3].split() != covered.split():
            raise ConfigurationError(
                f"{path}, line {number}: found {excerpt(annotation)} at {excerpt(covered)}, expected its text there. "
                f"Are line ends in '{text_path}' CR LF, or offsets those of JavaScript (set offsets to \"utf16\")?"
            )
        spans.append(span)
    return Document(1, text, spans=spans)
