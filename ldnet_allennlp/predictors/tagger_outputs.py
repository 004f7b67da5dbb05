"""How a tagger's predictor writes sentences as text."""

import re
from typing import Any, Dict, List, Optional, Sequence

OUTPUTS = ("json", "inline", "conll")

# What ends a line for one reader or another.
_LINE_ENDS = re.compile("[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]+")
_ASCII_WHITE_SPACE = re.compile(r"[\t\n\r\v\f ]+")


def inline(words: Sequence[str], spans: Sequence[Dict[str, Any]]) -> str:
    """
    One line: the words with blanks between them, and around each span "<TYPE>" and "</TYPE>" as words of their own
    ("<span>" where the type is empty). In words and types "&", "<" and ">" become "&amp;", "&lt;" and "&gt;", and
    line ends become blanks; so each "<" in the line begins a mark, and the words can be read back.
    """
    begin, end = {}, {}
    for span in spans:
        mark = _escape(span["type"]) or "span"
        begin[span["start"]] = f"<{mark}>"
        end[span["end"] - 1] = f"</{mark}>"
    parts: List[str] = []
    for position, word in enumerate(words):
        parts += [begin[position]] if position in begin else []
        parts.append(_escape(word))
        parts += [end[position]] if position in end else []
    return " ".join(parts) + "\n"


def column_lines(
    words: Sequence[str],
    tags: Sequence[str],
    columns: Optional[Sequence[Sequence[str]]] = None,
    separator: str = " ",
) -> str:
    """
    A line for each word and an empty one after them: the word's `columns`, or the word alone where there are none,
    and the predicted tag as the last column. Inside of a column ASCII white space becomes "_" (blanks only if they
    are the separator), and an empty column is "_".
    """
    rows = [[word] for word in words] if columns is None else columns
    lines = [
        separator.join([*(_column(text, separator) for text in row), tag]) for row, tag in zip(rows, tags)
    ]
    return "".join(f"{_encodable(line)}\n" for line in lines) + "\n"


def _column(text: str, separator: str) -> str:
    if separator == " ":
        return _ASCII_WHITE_SPACE.sub("_", text) or "_"
    return re.sub(r"[\t\n\r\v\f]+", "_", text).strip(" ") or "_"


def _escape(text: str) -> str:
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _encodable(_LINE_ENDS.sub(" ", text))


def _encodable(text: str) -> str:
    """JSON can hold halves of surrogate pairs, which no file can: they become "?"."""
    return text.encode("utf-8", "replace").decode("utf-8")
