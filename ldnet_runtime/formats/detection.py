"""Detect the format of a file: JSON, CoNLL columns, text with one sentence per line, or a document."""

import json
import re
from collections import Counter
from typing import Any

from ldnet_runtime.errors import InputError
from ldnet_runtime.formats.words import words_of
from ldnet_runtime.text import looks_tokenized

ASCII_BLANKS = " \t\v\f"
_MAX_ROWS = 200  # rows inspected
_REGULAR_SHARE = 0.9
TAG = re.compile(r"O|[BILUESMW]-\S+")
# Also B_PER, b-per and PER-B, with any dash.
_SEPARATOR = r"[-_:./|@+=#~\u2010-\u2015\u2212]"
_ANY_TAG = re.compile(rf"[Oo]|[BILUESMWbiluesmw]{_SEPARATOR}\S+|\S+{_SEPARATOR}[BILUESMWbiluesmw]")
_WORD_WITH_TAG = re.compile(r"\S+###\S+")
_MARK = re.compile(r"[ \v\f]*<[A-Za-z][\w-]*>[ \v\f]*\t\s*")


def detect(head: str) -> str:
    """
    The format of a file that begins with these characters: JSON, CoNLL columns (see `looks_like_columns`), text with
    one sentence per line (if all of it looks tokenized), or a document.
    """
    lines = head.split("\n")
    first = next((line for line in lines if line.strip()), "")
    if _looks_like_json(first, head):
        return "jsonl"
    if looks_like_columns(lines):
        return "conll"
    return "text" if looks_tokenized("\n".join(lines[:_MAX_ROWS])) else "document"


def looks_like_columns(lines: list[str]) -> bool:
    """
    Return whether lines are rows of columns: all rows have the same number of columns, and the last column contains
    tags, the first one counts, or they look like words with labels (see `_are_words`). Comments and `-DOCSTART-` rows
    are ignored, but a file that begins with such a row has columns. Lines of `word###TAG` count as columns, too. So do
    rows with tags of which at most a tenth has another number of columns, or rows that all end in tags: the reader
    reports the irregular ones as errors.
    """
    contents = (line for line in lines if line.strip() and not line.startswith("# "))
    if next(contents, "").startswith("-DOCSTART-"):
        return True
    lines = lines[:-1] if len(lines) > 1 else lines  # the last one may be cut off
    lines = [line.rstrip(" \r") for line in lines if not line.startswith(("# ", "-DOCSTART-"))][:_MAX_ROWS]
    filled = [line for line in lines if line.strip(ASCII_BLANKS) and not is_mark(line)]
    if filled and all(map(is_words_with_tags, filled)):
        return True
    with_tabs = bool(filled) and all("\t" in line for line in filled)
    mostly_tabs = sum("\t" in line for line in filled) > _REGULAR_SHARE * len(filled)
    rows = [columns_of(line, "\t" if mostly_tabs else " ") for line in filled]
    # Cells with blanks are those of a table, or texts; few words have any.
    is_table = with_tabs and sum(" " in row[0] or " " in row[1] for row in rows) > (1 - _REGULAR_SHARE) * len(
        rows
    )
    if with_tabs and not is_table and all(re.fullmatch(r"\d+([-.]\d+)?", row[0]) for row in rows):
        return True
    widths = Counter(map(len, rows))
    if len(widths) != 1:
        return bool(rows) and (
            _are_mostly_regular(rows, *widths.most_common(1)[0])
            or all(len(row) > 1 and _ANY_TAG.fullmatch(row[-1]) for row in rows)
        )
    tags = [row[-1] for row in rows]
    pattern = _ANY_TAG if len(rows) > 1 else TAG
    if len(rows[0]) > 1 and all(map(pattern.fullmatch, tags)) and (len(rows) > 1 or tags != ["O"]):
        return True
    return len(rows) > 3 and not is_table and _are_words(rows, lines, with_tabs)


def _are_words(rows: list[list[str]], lines: list[str], with_tabs: bool) -> bool:
    """
    Return whether rows have a word in the first column: one is a mark, or only the last column is in capitals, and TABs
    separate columns or blank lines end groups of rows. Rows of one column, or with TABs, need no such sign if blank
    lines separate groups of them. Otherwise, the lines are text.
    """
    text = "\n".join(line.strip(ASCII_BLANKS) for line in lines)
    are_groups = 0 < len(re.findall("\n\n+", text.strip("\n"))) < len(rows) - 1
    words, tags = ("".join(row[column] for row in rows) for column in (0, -1))
    has_signs = any(row[0] in (".", ",") for row in rows) or (tags.isupper() and not words.isupper())
    if are_groups and (with_tabs or len(rows[0]) == 1):
        return True
    return has_signs and (with_tabs or len(rows) < len(lines))


def _are_mostly_regular(rows: list[list[str]], width: int, count: int) -> bool:
    tags = [row[-1] for row in rows if len(row) == width]
    return width > 1 and count > _REGULAR_SHARE * len(rows) and all(map(_ANY_TAG.fullmatch, tags))


def columns_of(line: str, separator: str) -> list[str]:
    """The columns of a row: between TABs, or between any blanks."""
    return (
        line.rstrip(" ").split("\t") if separator == "\t" else re.split("[ \v\f]+", line.strip(ASCII_BLANKS))
    )


def is_mark(line: str) -> bool:
    """Return whether a row contains only a mark such as `<HEADLINE>`, and empty columns."""
    return _MARK.fullmatch(line) is not None


def is_words_with_tags(line: str) -> bool:
    """Return whether a line is a sentence of `word###TAG`, as AllenNLP's "sequence_tagging" reader takes it."""
    pieces = line.split()
    return bool(pieces) and all(map(_WORD_WITH_TAG.fullmatch, pieces))


def _looks_like_json(line: str, head: str) -> bool:
    start = line.lstrip()[:1]
    if start == "{":
        return re.match(r'\s*\{\s*("|\}|$)', line) is not None
    if start == "[":
        return re.match(r'\s*\[\s*([\[{"\]]|$)', head) is not None
    return False


def starts_with_words(head: str) -> bool:
    """Return whether the first line is a complete array of words."""
    try:
        return are_words(json.loads(head.lstrip().split("\n")[0]))
    except (ValueError, RecursionError):
        return False


def are_words(value: Any) -> bool:
    """Return whether an array is a list of words, not of texts: no blanks in them, and a "start" in each object."""
    try:
        (words,) = words_of(value).sentences
    except InputError:
        return False
    has_starts = all("start" in word for word in value if isinstance(word, dict))
    return bool(words) and has_starts and not any(" " in word for word in words)
