"""Columns of a CoNLL-like file: the word, the tag, and extra columns."""

import codecs
import re
from collections.abc import Sequence
from typing import NamedTuple

from allennlp.common.checks import ConfigurationError

from ldnet_allennlp.common.checks import check_choice
from ldnet_allennlp.common.lines import excerpt

CONLLU_COLUMNS = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")
LAYOUTS = ("columns", "conllu", "ontonotes")
LABELS = ("required", "optional", "ignored")
SEPARATORS = {"whitespace": None, "tab": b"\t", "\t": b"\t"}

# Default columns of the word and the tag.
_DEFAULTS: dict[str, tuple[int, int | str]] = {"columns": (0, -1), "conllu": (1, -1), "ontonotes": (3, 10)}

Column = int | str


class Row(NamedTuple):
    """The fields of one line of a file, the line counted from 1."""

    line: int
    fields: list[str]


class ColumnLayout:
    """
    Splits rows into columns and picks the word, the tag and extra columns.

    The parameters are those of the "conll_columns" reader, which documents them. Raises `ConfigurationError` for names
    that are not in `column_names` and for contradicting options.
    """

    def __init__(
        self,
        layout: str = "columns",
        column_names: Sequence[str] | None = None,
        word_column: Column | None = None,
        tag_column: Column | None = None,
        missing_tag: str | None = None,
        extra_columns: Sequence[Column] = (),
        separator: str | None = None,
        comment_prefix: str | None = None,
        same_columns: bool = True,
        encoding: str = "utf-8",
        labels: str = "required",
        empty_word: str | None = None,
        word_tag_delimiter: str | None = None,
    ) -> None:
        separator = separator or ("tab" if layout == "conllu" else "whitespace")
        owner = "a conll_columns reader"
        check_choice(LAYOUTS, owner, layout=layout)
        check_choice(LABELS, owner, labels=labels)
        check_choice(SEPARATORS, owner, separator=separator)
        self.labels = labels
        self.is_conllu = layout == "conllu"
        self.is_columns = layout == "columns"
        if self.is_conllu and column_names is None:
            column_names = CONLLU_COLUMNS
        self.column_names = list(column_names) if column_names is not None else None
        self.separator = SEPARATORS[separator]
        self.encoding = _text_encoding(encoding)
        if comment_prefix == "" or (comment_prefix and not self.is_columns):
            raise ConfigurationError(
                f"Found comment_prefix {comment_prefix!r} in the layout {layout!r}, expected null or at "
                f"least one character (in the layouts 'conllu' and 'ontonotes' each line that starts with '#' is a "
                f"comment anyway)."
            )
        self.comment_prefix = comment_prefix.encode(self.encoding) if comment_prefix else None
        self.same_columns = same_columns and layout != "ontonotes"
        self.empty_word = empty_word
        self.word_tag_delimiter = word_tag_delimiter
        self.missing_tag = missing_tag

        default_word, default_tag = _DEFAULTS[layout]
        if self.column_names == list(CONLLU_COLUMNS):
            default_tag = "upos"
        self.word_column: Column = default_word if word_column is None else word_column
        self.tag_column: Column = default_tag if tag_column is None else tag_column
        self.word = self._index(self.word_column)
        self.tag_key: str | None = None
        column = self.tag_column
        if isinstance(column, str) and ":" in column and column not in (self.column_names or ()):
            column, _, self.tag_key = column.partition(":")  # a feature, such as "feats:Number"
        self.tag = self._index(column) if labels != "ignored" else -1
        if missing_tag is not None and not self.tag_key:
            raise ConfigurationError(
                f"Found missing_tag {missing_tag!r} with the tag_column {self.tag_column!r}, expected a "
                f"tag_column with a key, such as 'feats:Number': only there a tag can be missing."
            )
        if labels != "ignored" and self.word == self.tag and not self.tag_key:
            raise ConfigurationError(
                f"Found word_column {self.word_column!r} and tag_column {self.tag_column!r}, which are the "
                f"same column, expected two columns."
            )
        self.extra = {
            self.column_names[index] if self.column_names else f"column_{index}": index
            for index in map(self._index, extra_columns)
        }

    def words(self, rows: Sequence[Row], path: str) -> list[str]:
        """The word of each row. Raises `ConfigurationError` if a row lacks the column or has an empty word."""
        allow_empty = self.empty_word is not None
        words = self._pick(rows, self.word, "word_column", self.word_column, path, allow_empty)
        return [word or str(self.empty_word) for word in words]

    def extra_values(self, rows: Sequence[Row], path: str) -> dict[str, list[str]]:
        """The extra columns by name; empty fields are allowed."""
        return {
            name: self._pick(rows, index, "extra column", name, path, allow_empty=True)
            for name, index in self.extra.items()
        }

    def tags(self, rows: Sequence[Row], path: str) -> list[str]:
        """The tag of each row. Raises `ConfigurationError` if the column or key is missing."""
        for row in rows:
            if not self.has_tag(row):
                raise ConfigurationError(
                    f"{path}, line {row.line}: found {_columns(row)}, expected a tag in tag_column "
                    f"{self.tag_column!r} (counted from 0) beside the word in word_column "
                    f"{self.word_column!r}."
                )
        values = self._pick(rows, self.tag, "tag_column", self.tag_column, path)
        if self.tag_key is None:
            return values
        return [self._value_of_key(row, value, path) for row, value in zip(rows, values)]

    def has_tag(self, row: Row) -> bool:
        """Return whether the row has a separate tag column."""
        count = len(row.fields)
        return -count <= self.tag < count and (
            self.tag_key is not None or self.tag % count != self.word % count
        )

    def split(self, line: bytes, count: int | None) -> list[bytes]:
        """
        The fields of a line; `count` is the number of columns of the previous rows, if any. A TAB at the end of a row,
        after its last column, is dropped; one at its start is an empty word.
        """
        expected = len(self.column_names) if self.column_names else count
        if self.separator is not None:
            fields = [field.strip() for field in line.split(self.separator)]
            if not fields[-1] and len(fields) - 1 == expected:
                fields.pop()
            return fields
        fields = line.split()  # bytes are split at ASCII white space only, other than str
        if line.startswith(b"\t") and len(fields) + 1 == expected and self.word == 0:
            fields.insert(0, b"")
        return fields

    def check_count(self, row: Row, count: int | None, path: str) -> None:
        """
        Raise `ConfigurationError` unless a row has as many columns as there are names (fewer only if tags are
        optional) and as the file's first row, which has `count`.
        """
        if not self.same_columns:
            return
        size = len(row.fields)
        if self.column_names is not None:
            names = len(self.column_names)
            if size > names or (size < names and self.labels == "required"):
                raise ConfigurationError(
                    f"{path}, line {row.line}: found {_columns(row)}, expected {names} "
                    f"({', '.join(self.column_names)})."
                )
        if count is not None and size != count:
            raise ConfigurationError(
                f"{path}, line {row.line}: found {_columns(row)}, expected {count} as in the rows before. A "
                f"word with a blank in it needs the separator 'tab'; if rows may differ, set same_columns to "
                f"false."
            )

    def _index(self, column: Column) -> int:
        """The number of a column, counted from 0, or from the end if negative and there are no names."""
        names = self.column_names
        if isinstance(column, str):
            if names and column in names:
                return names.index(column)
            if not re.fullmatch(r"-?[0-9]+", column):
                choices = (
                    f"one of {', '.join(names)}, or a number" if names else "a number (or set column_names)"
                )
                raise ConfigurationError(f"Found the column {column!r}, expected {choices}.")
            column = int(column)
        if names is None:
            return column
        if not -len(names) <= column < len(names):
            raise ConfigurationError(
                f"Found the column {column}, expected a number below {len(names)}: column_names has "
                f"{len(names)} ({', '.join(names)})."
            )
        return column % len(names)

    def _pick(
        self, rows: Sequence[Row], index: int, what: str, column: Column, path: str, allow_empty: bool = False
    ) -> list[str]:
        values = []
        for row in rows:
            if not -len(row.fields) <= index < len(row.fields):
                raise ConfigurationError(
                    f"{path}, line {row.line}: found {_columns(row)}, expected at least "
                    f"{index + 1 if index >= 0 else -index} ({what} is {column!r}, counted from 0)."
                )
            value = row.fields[index]
            if not value and not allow_empty:
                raise ConfigurationError(
                    f"{path}, line {row.line}: found nothing in the {what} {column!r} of {_columns(row)}, "
                    f"expected a {'word (empty_word sets one)' if what == 'word_column' else 'tag'}."
                )
            values.append(value)
        return values

    def _value_of_key(self, row: Row, value: str, path: str) -> str:
        """The value of `tag_key` in a list such as "Number=Sing|Person=3"."""
        for part in value.split("|"):
            key, _, tag = part.partition("=")
            if key == self.tag_key and tag:
                return tag
        if self.missing_tag is None:
            raise ConfigurationError(
                f"{path}, line {row.line}: found {excerpt(value)} in the column of {self.tag_column!r}, "
                f"expected the key {self.tag_key!r} there. Set missing_tag to the tag of words without it."
            )
        return self.missing_tag


def _columns(row: Row) -> str:
    count = len(row.fields)
    return f"{count} column{'' if count == 1 else 's'} ({excerpt(' '.join(row.fields))})"


def _text_encoding(name: str) -> str:
    """The canonical name of a text encoding in which blanks, TABs and line ends are the bytes of ASCII."""
    try:
        # A byte order mark is dropped at the start of the file; "utf-8-sig" would drop one at each line's
        # start.
        canonical = codecs.lookup(name).name.replace("utf-8-sig", "utf-8")
        if "\n\t #-".encode(canonical) == b"\n\t #-":
            return canonical
    except LookupError:
        pass
    raise ConfigurationError(
        f"Found the encoding {name!r}, expected the name of an encoding that contains ASCII, such as 'utf-8' "
        f"or 'latin-1'."
    )
