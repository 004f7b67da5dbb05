"""
Read inputs from files: plain text, JSON lines, a JSON array or CoNLL columns; plain or compressed.

The format of each file is detected from its first lines. An item is an input of `words.words_of`: a text, or an object
with "tokens" and, if the file has columns, all their "columns".
"""

import json
import re
from collections.abc import Iterator
from itertools import chain
from typing import Any, BinaryIO, NamedTuple

from ldnet_runtime.errors import InputError
from ldnet_runtime.formats.compression import decompressed
from ldnet_runtime.formats.detection import (
    ASCII_BLANKS,
    TAG,
    are_words,
    columns_of,
    detect,
    is_mark,
    is_words_with_tags,
    starts_with_words,
)
from ldnet_runtime.formats.writing import LAYOUT

KINDS = ("auto", "text", "document", "jsonl", "conll")
# The number of bytes for detecting a file's format.
_HEAD = 1 << 16
_MAX_WHOLE = 1 << 25  # of a document or an array, which is held in memory
_BYTE_ORDER_MARK = "\ufeff"
_CONLLU_WIDTHS = (10, 11)  # 11: a TAB at the end of the row
_NO_WORD = re.compile(r"\d+[-.]\d+")  # CoNLL-U's multiword ranges and empty nodes


class Item(NamedTuple):
    """One input, and its place in the file: its first line, or its number in a JSON array."""

    value: Any
    place: str


def read_items(file: BinaryIO, name: str, kind: str = "auto") -> Iterator[Item]:
    """
    The inputs in a file.

    # Parameters

    file : `BinaryIO`
        Open for reading, plain or compressed (gzip, bzip2, xz, Zstandard).
    name : `str`
        The name of the file, for messages.
    kind : `str`, optional (default = `"auto"`)
        "text": one text per line, empty for a blank line. "document": one text per file. "jsonl": JSON lines, or one
        JSON array, of inputs of `words_of`; an array of words (see `are_words`) is one input. "conll": one word per
        line, in the first column (CoNLL-U: the second), with blank lines between sentences, or one sentence of
        `word###TAG` per line. "auto": see `detect`.

    Raises `InputError` with file and line for invalid input.
    """
    if kind not in KINDS:
        raise InputError(f"the input is {kind!r}; expected one of {', '.join(KINDS)}.")
    lines = _Lines(file, name)
    if kind == "auto":
        kind = detect(lines.head())
    readers = {"text": _texts, "document": _document, "jsonl": _json_items, "conll": _sentences}
    return readers[kind](lines)


def detect_file(file: BinaryIO) -> str:
    """The format of a file, plain or compressed. Restores the position to the start of the file."""
    head = _Lines(file, "the file").head()
    file.seek(0)
    return detect(head)


def read_json_line(line: str) -> Any:
    """The input in a line of JSON. Raises `InputError`, without the place, for invalid JSON."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f'expected JSON such as {{"text": ...}} or {{"tokens": [...]}}: {_without_line(error)}'
        ) from error
    if not isinstance(value, (dict, str, list)):
        raise InputError(f"expected an object, a text or a list of words, but it is {line.strip()[:40]}")
    return value


def _without_line(error: Exception) -> str:
    """The message of an error in JSON; it counts lines from the start of the JSON, not of the file."""
    return f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)


class _Lines:
    """The lines of a file as text. Damage and invalid UTF-8 are errors with their place."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        try:
            self._file = decompressed(file)  # reads the first bytes
        except OSError as error:
            raise InputError(f"{name}: the file cannot be read: {error.strerror}.") from error
        self._name = name
        self._start = b""
        self.number = 0

    def head(self) -> str:
        """Peek at the first characters."""
        if not self._start:
            self._start = self._read(_HEAD)
        return self._start.decode("utf-8", "replace").removeprefix(_BYTE_ORDER_MARK)

    def whole(self) -> str:
        """The rest of the file as one text."""
        content = self._start + self._read(_MAX_WHOLE + 1)
        if len(content) > _MAX_WHOLE:
            raise self.error(
                f"the file is larger than the {_MAX_WHOLE >> 20} MB that are read as one document or array; split it, "
                f"or write one text or object per line"
            )
        self.number = 1
        return self._decoded(content).removeprefix(_BYTE_ORDER_MARK)

    def __iter__(self) -> Iterator[str]:
        """Lines without their ends: LF or CR LF."""
        parts: list[bytes] = []
        for piece in self._pieces():
            *lines, rest = piece.split(b"\n")
            for line in lines:
                yield self._line(b"".join([*parts, line]))
                parts = []
            parts.append(rest)
        if any(parts):
            yield self._line(b"".join(parts))

    def _pieces(self) -> Iterator[bytes]:
        yield self._start
        while piece := self._read(_HEAD):
            yield piece

    def error(self, message: str) -> InputError:
        """An error at the current line."""
        return InputError(f"{self._name}, line {max(self.number, 1)}: {message}.")

    def _read(self, size: int) -> bytes:
        try:
            return self._file.read(size)
        except Exception as error:  # each compression raises different errors
            raise self.error(f"the file cannot be read any further: {error}") from error

    def _line(self, line: bytes) -> str:
        self.number += 1
        text = self._decoded(line.rstrip(b"\r"))
        return text.removeprefix(_BYTE_ORDER_MARK) if self.number == 1 else text

    def _decoded(self, content: bytes) -> str:
        try:
            return content.decode("utf-8")
        except UnicodeDecodeError as error:
            start = content.rfind(b"\n", 0, error.start) + 1
            self.number += content.count(b"\n", 0, start)
            raise self.error(
                f"byte {error.start - start + 1} is 0x{content[error.start]:02x}, which is not UTF-8; convert the file"
            ) from error


def _texts(lines: _Lines) -> Iterator[Item]:
    for line in lines:
        yield Item(line, f"line {lines.number}")


def _document(lines: _Lines) -> Iterator[Item]:
    yield Item(lines.whole(), "line 1")


def _json_items(lines: _Lines) -> Iterator[Item]:
    if lines.head().lstrip()[:1] == "[" and not starts_with_words(lines.head()):
        yield from _array(lines)
        return
    for line in lines:
        if not line.strip():
            continue
        try:
            yield Item(_without_layout(read_json_line(line)), f"line {lines.number}")
        except InputError as error:
            raise lines.error(str(error)) from error


def _array(lines: _Lines) -> Iterator[Item]:
    try:
        items = json.loads(lines.whole())
    except (ValueError, RecursionError) as error:
        lines.number = getattr(error, "lineno", 1)
        raise lines.error(f"expected a JSON array of inputs: {_without_line(error)}") from error
    for number, item in enumerate([items] if are_words(items) else items, 1):
        yield Item(_without_layout(item), f"item {number}")


def _without_layout(value: Any) -> Any:
    """Only files with columns have these entries."""
    return {key: value[key] for key in value if key not in LAYOUT} if isinstance(value, dict) else value


def _sentences(lines: _Lines) -> Iterator[Item]:
    rows: list[list[str]] = []
    first, separator, may_count = 1, " ", True
    has_tabs = "\t" in lines.head()
    for line in chain(lines, [""]):
        if not line.strip(ASCII_BLANKS):
            if rows:
                # After a sentence without numbers, a column of numbers has words, except in CoNLL-U.
                may_count = _counts(rows) and (may_count or len(rows[0]) in _CONLLU_WIDTHS)
                yield _sentence(rows, separator, first, may_count)
            rows = []
            continue
        if is_words_with_tags(line) and not rows:
            yield _tagged_sentence(line, lines.number)
            continue
        separator = "\t" if "\t" in line else " "
        columns = columns_of(line, separator)
        is_conllu = len(columns) in _CONLLU_WIDTHS and separator == "\t"
        is_comment = (
            line.startswith("# ")
            and not rows
            # In a row with a tag, and with the separator of the file, "#" is a word.
            and not (TAG.fullmatch(columns[-1]) and has_tabs == (separator == "\t"))
        )
        if (columns[0] == "-DOCSTART-" and not rows) or is_comment or is_mark(line):
            continue
        if is_conllu and _NO_WORD.fullmatch(columns[0]):
            continue
        if not rows:
            first = lines.number
        elif len(columns) != len(rows[0]) and not _fit(rows, columns):
            raise lines.error(
                f"the row has {len(columns)} columns; expected {len(rows[0])} as in line {first}"
            )
        rows.append(columns)


def _fit(rows: list[list[str]], columns: list[str]) -> bool:
    """Cut empty columns at the end of the longer rows; return whether all rows then have the same length."""
    width = min(len(columns), len(rows[0]))
    longer = [columns] if len(columns) > width else rows
    if any(any(row[width:]) for row in longer):
        return False
    for row in longer:
        del row[width:]
    return True


def _tagged_sentence(line: str, number: int) -> Item:
    """A sentence of `word###TAG`."""
    rows = [piece.rsplit("###", 1) for piece in line.split()]
    value = {"tokens": [word for word, _ in rows], "columns": rows, "separator": " "}
    return Item(value, f"line {number}")


def _counts(rows: list[list[str]]) -> bool:
    """Return whether the first column numbers the words."""
    numbers = [row[0] for row in rows]
    return any(numbers == [str(n) for n in range(start, start + len(rows))] for start in (0, 1))


def _sentence(rows: list[list[str]], separator: str, line: int, counts: bool) -> Item:
    """The words are in the first column; in the second one if the first numbers them."""
    word = 1 if counts and len(rows[0]) > 2 - (len(rows) > 1) else 0
    value = {"tokens": [row[word] for row in rows], "columns": rows, "separator": separator}
    return Item(value, f"line {line}")
