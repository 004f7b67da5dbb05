"""Cutting a CoNLL-like file into sentences."""

import re
from collections import Counter
from typing import Counter as CounterType
from typing import Dict, Iterator, List, NamedTuple, Optional

from allennlp.common.checks import ConfigurationError

from ldnet_allennlp.common.lines import decode_line, numbered_lines, shown
from ldnet_allennlp.data.conll.columns import ColumnLayout, Row

DOCSTART = "-DOCSTART-"

# What a file may hold beside words; the keys of `ColumnFile.left_out`.
DOCUMENT_MARKS = "document marks"
COMMENTS = "comments"
MULTIWORD_RANGES = "multiword ranges"
EMPTY_NODES = "empty nodes"

_RANGE_ID = re.compile(r"[0-9]+-[0-9]+")
_EMPTY_NODE_ID = re.compile(r"[0-9]+\.[0-9]+")


class Sentence(NamedTuple):
    """
    One sentence: at least one word; the tags are `None` if the file has none. `lines` counts from 1; `columns`
    are all columns of each word.
    """

    lines: List[int]
    words: List[str]
    tags: Optional[List[str]]
    extra: Dict[str, List[str]]
    columns: List[List[str]]


class ColumnFile:
    """
    The sentences of one CoNLL-like file, one at a time; nothing but counts is kept.

    A sentence ends at a line that is empty or all ASCII white space, at a `-DOCSTART-` row (first field or
    word; any number of columns; left out), and at the end of the file. White space is ASCII's only: U+00A0,
    U+200B, U+FEFF and their like belong to words. In the layout "conllu", lines that start with "#",
    multiword ranges ("1-2") and empty nodes ("8.1") are left out, and words must be numbered 1, 2, 3 in each
    sentence. Elsewhere "#" is a word, unless `comment_prefix` is set: then lines with that prefix before a
    sentence's first row are comments, though not if the separator is a TAB and they hold one.

    # Parameters

    path : `str`
        A file, plain or gzip.
    layout : `ColumnLayout`
        Which column is what, and whether tags must be there.
    """

    def __init__(self, path: str, layout: ColumnLayout) -> None:
        self.path = path
        self._layout = layout
        self.left_out: CounterType[str] = Counter()
        self.num_sentences = 0
        self.num_words = 0
        # How many columns each row of the file has, and whether its sentences have tags; `None` before the
        # first.
        self._num_columns: Optional[int] = None
        self.has_tags: Optional[bool] = None

    def sentences(self) -> Iterator[Sentence]:
        """Raises `ConfigurationError` with file, line, what was found and what was expected."""
        rows: List[Row] = []
        for number, line in numbered_lines(self.path):
            if not line.strip():
                if rows:
                    yield self._sentence(rows)
                rows = []
                continue
            if self._is_comment(line, is_first=not rows):
                self.left_out[COMMENTS] += 1
                continue
            row = self._row(number, line)
            if self._is_document_mark(row):
                self.left_out[DOCUMENT_MARKS] += 1
                if rows:
                    yield self._sentence(rows)
                rows = []
                continue
            self._layout.check_count(row, self._num_columns, self.path)
            self._num_columns = len(row.fields)
            if not self._layout.is_conllu or self._is_word(row, len(rows) + 1):
                rows.append(row)
        if rows:
            yield self._sentence(rows)

    def _row(self, number: int, line: bytes) -> Row:
        separator = self._layout.separator
        if separator is None:
            fields = line.split()  # bytes are split at ASCII white space only, other than str
        else:
            fields = [field.strip() for field in line.split(separator)]
        return Row(
            number, decode_line(b"\t".join(fields), self._layout.encoding, self.path, number).split("\t")
        )

    def _is_comment(self, line: bytes, is_first: bool) -> bool:
        if self._layout.is_conllu:
            return line.startswith(b"#")
        prefix = self._layout.comment_prefix
        if prefix is None or not is_first or not line.startswith(prefix):
            return False
        return self._layout.separator is None or self._layout.separator not in line

    def _is_document_mark(self, row: Row) -> bool:
        if row.fields[0] == DOCSTART:
            return True
        word = self._layout.word
        return not self._layout.is_conllu and 0 <= word < len(row.fields) and row.fields[word] == DOCSTART

    def _is_word(self, row: Row, expected: int) -> bool:
        """Whether a CoNLL-U row is a word; `expected` is its number."""
        identifier = row.fields[0]
        if _RANGE_ID.fullmatch(identifier):
            self.left_out[MULTIWORD_RANGES] += 1
            return False
        if _EMPTY_NODE_ID.fullmatch(identifier):
            self.left_out[EMPTY_NODES] += 1
            return False
        if identifier != str(expected):
            raise ConfigurationError(
                f"{self.path}, line {row.line}: found {shown(identifier)} in the first column, expected the "
                f"word number {expected} (or a range such as '1-2', or an empty node such as '8.1'). "
                f"Sentences are separated by empty lines."
            )
        return True

    def _sentence(self, rows: List[Row]) -> Sentence:
        layout = self._layout
        words = layout.words(rows, self.path)
        tags: Optional[List[str]] = None
        if layout.labels == "required":
            tags = layout.tags(rows, self.path)
        elif layout.labels == "optional":
            # The file's first row decides, so that a row without its tag in a file with tags is an error.
            if self.has_tags is None:
                self.has_tags = layout.has_tag(rows[0])
            if self.has_tags:
                tags = layout.tags(rows, self.path)
            else:
                self._check_untagged(rows)
        self.has_tags = tags is not None
        self.num_sentences += 1
        self.num_words += len(rows)
        extra = layout.extra_values(rows, self.path)
        return Sentence([row.line for row in rows], words, tags, extra, [row.fields for row in rows])

    def _check_untagged(self, rows: List[Row]) -> None:
        for row in rows:
            if self._layout.has_tag(row):
                raise ConfigurationError(
                    f"{self.path}, line {row.line}: found a row with a tag ({shown(' '.join(row.fields))}) "
                    f"in a file that has none before, expected tags in each row or in no row."
                )
