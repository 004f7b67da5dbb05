"""Parse and check annotated documents (JSON items) of annotation tools and data sets."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, NamedTuple

from ldnet_allennlp.common.lines import excerpt

# Names of the parts of documents, in order of preference. The option `fields` adds a name in front.
KEYS = {
    "text": ("text", "sentence", "content"),
    "spans": ("spans", "entities", "ents", "label", "labels", "annotations"),
    "tokens": ("tokens", "words"),
    "tags": ("ner_tags", "tags", "labels", "label", "ner"),
}
# The same in spans that are objects. `start_char` precedes `start`, which may count tokens if both exist.
_START = ("start_char", "start_offset", "start", "begin")
_END = ("end_char", "end_offset", "end")
_LABEL = ("label", "labels", "type", "entity_group", "tag")
_PREDICTED = {"words", "tags", "spans"}

OFFSET_UNITS = ("characters", "utf16", "bytes")

_SURROGATE = re.compile("[\ud800-\udfff]")


class CharSpan(NamedTuple):
    """An annotation: characters `start` to `end` (exclusive) of the text."""

    start: int
    end: int
    label: str


@dataclass
class Document:
    """
    A document with its annotations. `tokens` are words and, if known, their start positions in the text; `spans` or
    `tags` may be `None`. `is_open` marks a task that nobody has annotated yet.
    """

    line: int
    text: str | None = None
    spans: list[CharSpan] | None = None
    tokens: list[str] | None = None
    starts: list[int] | None = None
    tags: list[str] | None = None
    is_open: bool = False
    extra: dict[str, Any] = field(default_factory=dict)


class DocumentError(ValueError):
    """An invalid document; the message is a clause without file and line."""


class JsonDocuments:
    """
    Parses documents of JSON: doccano, Label Studio, Prodigy, spaCy, Hugging Face `datasets`, and this package's own
    predictions. The options are those of the "annotated_jsonl" reader.
    """

    def __init__(
        self,
        fields: Mapping[str, str] | None = None,
        tag_names: Sequence[str] | None = None,
        offsets: str = "characters",
    ) -> None:
        self._keys = {part: ((fields or {}).get(part), *names) for part, names in KEYS.items()}
        self._tag_names = None if tag_names is None else list(tag_names)
        self.offsets = offsets

    def parse(self, item: Any, line: int) -> Document | None:
        """
        The document of an object, or of a pair of text and object; `None` for a document that the annotator rejected.

        Raises `DocumentError` for anything else.
        """
        match item:
            case [str(text), dict(annotations)]:  # spaCy's training data
                item = {"text": text, **annotations}
        if not isinstance(item, Mapping):
            raise DocumentError(f"found {excerpt(item)}, expected an object with a text, or with tokens")
        is_open = isinstance(item.get("data"), Mapping) and item.get("annotations") == []  # Label Studio
        item = self._unpacked(item)
        if item is None:
            return None
        text = self._part(item, "text", str)
        tokens = self._part(item, "tokens", list)
        if text is None and tokens is None:
            names = ", ".join(str(key) for key in item)
            raise DocumentError(
                f"found an object with {names or 'nothing'}, expected 'text' or 'sentence', or 'tokens' or 'words'; "
                f'fields: {{"text": ...}} names others'
            )
        if tokens is not None and text is not None and item.keys() >= _PREDICTED:
            tokens = None  # a prediction for a text, which may be several sentences
        elif tokens is None and text is not None and self._are_tags(item, text.split()):
            tokens = text.split()
        document = Document(line, text, is_open=is_open)
        if tokens is not None:
            document.tokens, document.starts = _read_tokens(tokens, text)
            document.tags = self._tags(item, len(document.tokens), len(tokens))
        if document.tags is None and text is not None:
            spans = self._part(item, "spans", list)
            document.spans = None if spans is None else self._spans(spans, text)
        for content in [text or "", *(document.tokens or ())]:
            if _SURROGATE.search(content):
                raise DocumentError(
                    f"found half of a surrogate pair in {excerpt(content)}, expected characters"
                )
        if "id" in item:
            document.extra["id"] = item["id"]
        return document

    def _part(self, item: Mapping, part: str, expected: type) -> Any:
        """The first value of that type under the names of a part."""
        for key in self._keys[part]:
            if key is not None and isinstance(item.get(key), expected):
                return item[key]
        return None

    def _are_tags(self, item: Mapping, words: list[str]) -> bool:
        """Return whether a text without tokens and spans has one tag per blank-separated word."""
        values = self._part(item, "tags", list)
        lists = [item[key] for key in self._keys["spans"] if isinstance(item.get(key), list)]
        if any(isinstance(part, (dict, list)) for part in chain(*lists)):
            return False
        return bool(values) and len(values) == len(words) and all(isinstance(value, str) for value in values)

    def _tags(self, item: Mapping, num_words: int, num_tokens: int) -> list[str] | None:
        for key in self._keys["tags"]:
            values = item.get(key or "")
            if not isinstance(values, list) or any(isinstance(value, (dict, list)) for value in values):
                continue
            if not values and num_tokens:
                continue  # no spans
            if len(values) != num_tokens or num_words != num_tokens:
                raise DocumentError(
                    f"found {len(values)} {key} for {num_words} tokens, expected one tag per token"
                )
            return [self._tag(value, str(key)) for value in values]
        return None

    def _tag(self, value: Any, key: str) -> str:
        if isinstance(value, str) and value:
            return value
        if isinstance(value, int) and not isinstance(value, bool):
            names = self._tag_names
            if names is None:
                raise DocumentError(
                    f"found the number {value} in {key}, expected names; set tag_names to the list of them, such as "
                    f'["O", "B-PER", "I-PER"]'
                )
            if 0 <= value < len(names):
                return names[value]
            raise DocumentError(
                f"found the tag {value}, expected a number below {len(names)}, as tag_names has"
            )
        raise DocumentError(f"found the tag {excerpt(value)} in {key}, expected a name or a number")

    def _spans(self, values: list, text: str) -> list[CharSpan]:
        places = places_of(text, self.offsets)
        spans = []
        for value in values:
            start, end, label, quoted = _span_parts(value)
            if not (0 <= start < end < len(places)):
                raise DocumentError(
                    f"found the span {excerpt(value)} in a text of {len(places) - 1} {self.offsets}, expected "
                    f"0 <= start < end <= {len(places) - 1}"
                )
            span = CharSpan(places[start], places[end], label)
            if quoted is not None and quoted.split() != text[span.start : span.end].split():
                raise DocumentError(
                    f"found the span {excerpt(value)} at {excerpt(text[span.start : span.end])}, expected its text "
                    f'there; set offsets to "utf16" if the offsets are JavaScript\'s, or to "bytes"'
                )
            spans.append(span)
        return spans

    def _unpacked(self, item: Mapping) -> Mapping | None:
        """An object with text or tokens and, if it is annotated, spans or tags; `None` if the annotator rejected it."""
        if item.get("answer") in ("reject", "ignore"):  # Prodigy
            return None
        # Tasks to import have predictions instead.
        data, annotations = item.get("data"), item.get("annotations", item.get("predictions"))
        if isinstance(data, Mapping) and isinstance(annotations, list):
            return self._of_label_studio(item, data, [part for part in annotations if isinstance(part, dict)])
        # Prodigy and Label Studio's JSON_MIN leave out empty spans. Another list may be spans, too.
        leaves_out = item.get("answer") == "accept" or "annotation_id" in item
        lists = {key for key, value in item.items() if isinstance(value, list)}
        return item if not leaves_out or lists - {*self._keys["tokens"]} else {**item, "spans": []}

    def _of_label_studio(self, task: Mapping, data: Mapping, annotations: list[dict]) -> Mapping | None:
        """A task with its ground truth, or else its first annotation that was not cancelled."""
        valid = [part for part in annotations if not part.get("was_cancelled")]
        valid.sort(key=lambda part: not part.get("ground_truth"))
        if annotations and not valid:
            return None
        strings = [value for value in data.values() if isinstance(value, str)]
        text = self._part(data, "text", str)
        if text is None and len(strings) != 1:
            return dict.fromkeys(data)
        results = next((part["result"] for part in valid if isinstance(part.get("result"), list)), None)
        values = [result.get("value") for result in results or [] if isinstance(result, dict)]
        spans = [value for value in values if isinstance(value, dict) and "start" in value]
        # Choices and ratings of a span have its offsets, too.
        spans = [span for span in spans if any(key.endswith("labels") for key in span)]
        item = {"text": strings[0] if text is None else text, "spans": None if results is None else spans}
        return {**item, "id": task["id"]} if "id" in task else item


def _read_tokens(tokens: list, text: str | None) -> tuple[list[str], list[int] | None]:
    """The words of a list of strings or of objects with a text, without white-space objects (Prodigy)."""
    words, starts = [], []
    for token in tokens:
        word = token.get("text") if isinstance(token, dict) else token
        if word is None and text is not None and isinstance(token, dict):  # of spaCy's Doc.to_json
            start, end = token.get("start"), token.get("end")
            word = text[start:end] if isinstance(start, int) and isinstance(end, int) else None
        if not isinstance(word, str) or not word or word.endswith("\r"):
            raise DocumentError(
                f"found the token {excerpt(token)}, expected a string or an object with a text, and no line end"
            )
        if isinstance(token, dict) and word.isspace():
            continue
        words.append(word)
        if isinstance(token, dict) and isinstance(token.get("start"), int):
            starts.append(token["start"])
    if text is None or len(starts) != len(words):
        return words, None
    for word, start in zip(words, starts, strict=True):
        if text[start : start + len(word)] != word:
            raise DocumentError(f"found the token {excerpt(word)} at {start}, where the text differs")
    return words, starts


def _span_parts(value: Any) -> tuple[int, int, str, str | None]:
    """Start, end, label and optional text of a span: an object, or a list of the first three."""
    if isinstance(value, Mapping):
        parts = [next((value[key] for key in keys if key in value), None) for keys in (_START, _END, _LABEL)]
        quoted = value.get("text")
    else:
        parts, quoted = list(value) if isinstance(value, (list, tuple)) else [], None
    if len(parts) == 3 and isinstance(parts[2], list) and len(parts[2]) == 1:
        parts[2] = parts[2][0]  # Label Studio's labels
    match parts:
        case [int(start), int(end), str(label)] if label and bool not in (type(start), type(end)):
            return start, end, label, quoted if isinstance(quoted, str) else None
    raise DocumentError(f"found the span {excerpt(value)}, expected a start, an end and a label")


def places_of(text: str, unit: str) -> Sequence[int]:
    """The character at each offset of a unit, and the end; offsets within a character are those of its start."""
    if unit == "characters" or text.isascii():
        return range(len(text) + 1)
    places = []
    for position, character in enumerate(text):
        width = len(character.encode()) if unit == "bytes" else 1 + (character > "\uffff")
        places += [position] * width
    return [*places, len(text)]
