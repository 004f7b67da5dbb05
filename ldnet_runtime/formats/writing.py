"""
Write predictions: JSON lines, inline marks, CoNLL columns, files of annotation tools, or an HTML page.

All formats read the JSON form of a prediction (`Prediction.to_json`), plus `LAYOUT` if its words come from a file with
columns.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ldnet_runtime.formats.page import page_end, page_heading, page_start, page_text
from ldnet_runtime.tag_schemes import canonical_encoding, tags_from_spans

OUTPUTS = ("json", "inline", "conll", "html", "standoff", "doccano", "label_studio")

# Additional entries of a prediction: all columns of each word, and their separator.
LAYOUT = ("columns", "separator")
# Characters that some readers treat as line ends.
_LINE_ENDS = re.compile("[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]+")
_WITHIN_LINE = re.compile("[^\n\r\v\f\x1c-\x1e\x85\u2028\u2029]+")
_ASCII_WHITE_SPACE = re.compile(r"[\t\n\r\v\f ]+")


class Writer:
    """
    Formats predictions one by one for an output file.

    # Parameters

    output : `str`
        "json": one object per line, in UTF-8. "inline": one sentence per line with `<TYPE> ... </TYPE>` around spans,
        see `inline`. "conll": all columns of the input, or the word, and the predicted tag as the last column, see
        `column_lines`. "html": a self-contained page with marked entities. "standoff": brat's annotations; `texts`
        receives their text. "doccano": JSON lines, and "label_studio": a JSON array, which these tools import.
    span_types : `Sequence[str]`, optional
        All types, for the page's legend.
    tag_encoding : `str`, optional
        The span encoding of the tags in "conll", by default the tagger's.
    title : `str`, optional
        The title of the page.

    Raises `ValueError` for an unknown output.
    """

    def __init__(
        self,
        output: str = "json",
        span_types: Sequence[str] = (),
        tag_encoding: str | None = None,
        title: str = "Entities",
    ) -> None:
        if output not in OUTPUTS:
            raise ValueError(f"the output is {output!r}; expected one of {', '.join(OUTPUTS)}.")
        self.output = output
        self._span_types = sorted(span_types)
        self._tag_encoding = None if tag_encoding is None else canonical_encoding(tag_encoding)
        self._title = title
        self._file: str | None = None  # the last one on the page
        self._num_spans = 0
        self._offset = 0
        self._separator = ""  # before the next item of the array

    def start(self) -> str:
        """The text before the first prediction."""
        if self.output == "html":
            return page_start(self._title, self._span_types)
        return "[" if self.output == "label_studio" else ""

    def end(self) -> str:
        """The text after the last prediction."""
        return {"html": page_end(), "label_studio": "]\n"}.get(self.output, "")

    def write(self, output: Mapping[str, Any]) -> str:
        """The text of one prediction."""
        if self.output == "json":
            return _json_line({name: value for name, value in output.items() if name not in LAYOUT})
        if self.output == "inline":
            parts = (
                inline(output["words"][a:b], _inside(output["spans"], a, b)) for a, b in _sentences(output)
            )
            return "".join(parts)
        if self.output == "conll":
            return "".join(self._columns(output, start, end) for start, end in _sentences(output))
        text = text_of(output)
        if self.output == "html":
            return self._heading(output.get("file")) + page_text(text, output["spans"], self._span_types)
        if self.output == "standoff":
            return self._standoff(text, output["spans"])
        places = [(span["start_char"], span["end_char"], span["type"]) for span in output["spans"]]
        if self.output == "doccano":
            return _json_line({"text": text, "label": [list(place) for place in places]})
        task = {"data": {"text": text}, "predictions": [{"result": list(map(_label_studio, places))}]}
        separator, self._separator = self._separator, ",\n"
        return separator + _json_line(task).rstrip("\n")

    def _heading(self, file: str | None) -> str:
        if file is None or file == self._file:
            return ""
        self._file = file
        return page_heading(file)

    def _columns(self, output: Mapping[str, Any], start: int, end: int) -> str:
        tags = output["tags"][start:end]
        if self._tag_encoding is not None:
            spans = [
                (span["type"], span["start"], span["end"] - 1)
                for span in _inside(output["spans"], start, end)
            ]
            tags = tags_from_spans(spans, len(tags), self._tag_encoding)
        columns = output.get("columns")
        rows = None if columns is None else columns[start:end]
        return column_lines(output["words"][start:end], tags, rows, output.get("separator", " "))

    def _standoff(self, text: str, spans: Sequence[Mapping[str, Any]]) -> str:
        """One line per span with characters. A span across a line end has several ranges, as brat requires."""
        lines = []
        for span in spans:
            pieces = _WITHIN_LINE.finditer(text[span["start_char"] : span["end_char"]])
            begin = self._offset + span["start_char"]
            places = [(begin + piece.start(), begin + piece.end(), piece.group()) for piece in pieces]
            if not places:
                continue
            self._num_spans += 1
            where = ";".join(f"{start} {end}" for start, end, _ in places)
            surface = " ".join(piece for _, _, piece in places).replace("\t", " ")
            kind = re.sub(r"\s+", "_", span["type"]) or "span"
            lines.append(f"T{self._num_spans}\t{kind} {where}\t{surface}\n")
        self._offset += len(text) + 1
        return encodable("".join(lines))


def text_of(output: Mapping[str, Any]) -> str:
    """The text that offsets refer to; words are joined by blanks."""
    return str(output["text"]) if "text" in output else " ".join(output["words"])


def inline(words: Sequence[str], spans: Sequence[Mapping[str, Any]]) -> str:
    """
    One line: the words separated by blanks, with "<TYPE>" and "</TYPE>" as separate words around each span ("<span>" if
    the type is empty). In words and types "&", "<" and ">" become "&amp;", "&lt;" and "&gt;", and line ends become
    blanks, so each "<" in the line begins a mark, and the words can be recovered.
    """
    begin, end = {}, {}
    for span in spans:
        mark = _escape(span["type"]) or "span"
        begin[span["start"]] = f"<{mark}>"
        end[span["end"] - 1] = f"</{mark}>"
    parts: list[str] = []
    for position, word in enumerate(words):
        parts += [begin[position]] if position in begin else []
        parts.append(_escape(word))
        parts += [end[position]] if position in end else []
    return " ".join(parts) + "\n"


def column_lines(
    words: Sequence[str],
    tags: Sequence[str],
    columns: Sequence[Sequence[str]] | None = None,
    separator: str = " ",
) -> str:
    """
    One line per word, and an empty line at the end: the word's `columns`, or the word if there are none, and the
    predicted tag as the last column. Within a column, ASCII white space becomes "_" (blanks only if they are the
    separator), and an empty column becomes "_".
    """
    rows = [[word] for word in words] if columns is None else columns
    lines = [
        separator.join([*(_column(text, separator) for text in row), tag]) for row, tag in zip(rows, tags)
    ]
    return "".join(f"{encodable(line)}\n" for line in lines) + "\n"


def encodable(text: str) -> str:
    """Replace lone surrogates, which JSON allows but UTF-8 does not, by "?"."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _json_line(value: Any) -> str:
    """JSON in UTF-8; lone surrogates stay escaped."""
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        text = json.dumps(value)
    # JSON allows these in strings, but many readers treat them as line ends.
    return text.replace("\x85", "\\u0085").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029") + "\n"


def _label_studio(place: tuple[int, int, str]) -> dict[str, Any]:
    start, end, kind = place
    value = {"start": start, "end": end, "labels": [kind]}
    return {"from_name": "label", "to_name": "text", "type": "labels", "value": value}


def _sentences(output: Mapping[str, Any]) -> Sequence[Sequence[int]]:
    return output.get("sentences") or [[0, len(output["words"])]]


def _inside(spans: Sequence[Mapping[str, Any]], start: int, end: int) -> list[dict[str, Any]]:
    """The spans within the words [start, end), relative to `start`."""
    return [
        {**span, "start": span["start"] - start, "end": span["end"] - start}
        for span in spans
        if start <= span["start"] < end
    ]


def _column(text: str, separator: str) -> str:
    if separator == " ":
        return _ASCII_WHITE_SPACE.sub("_", text) or "_"
    return re.sub(r"[\t\n\r\v\f]+", "_", text).strip(" ") or "_"


def _escape(text: str) -> str:
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return encodable(_LINE_ENDS.sub(" ", text))
