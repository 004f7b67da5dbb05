"""Read the sentences of a CoNLL-like file."""

import logging
import re
from collections.abc import Iterator

from allennlp.common.checks import ConfigurationError
from overrides import overrides

from ldnet_allennlp.common.lines import decode_line, excerpt, numbered_lines
from ldnet_allennlp.data.conll import file_checks
from ldnet_allennlp.data.conll.columns import ColumnLayout, Row
from ldnet_allennlp.data.tagged_file import Sentence, TaggedFile
from ldnet_runtime.formats.detection import is_mark

logger = logging.getLogger(__name__)

DOCSTART = "-DOCSTART-"
_LONGEST_SENTENCE = 1000  # longer ones are probably several
# Delimiter between word and tag in files of allennlp-models' "sequence_tagging" reader.
WORD_TAG_DELIMITER = "###"

# Skipped parts of a file; the keys of `ColumnFile.left_out`.
DOCUMENT_MARKS = "document marks"
COMMENTS = "comments"

_NO_WORDS = {r"[0-9]+-[0-9]+": "multiword ranges", r"[0-9]+\.[0-9]+": "empty nodes"}  # CoNLL-U's ids


class ColumnFile(TaggedFile):
    """
    One CoNLL-like file, plain or compressed.

    A sentence ends at an empty line (or one of ASCII white space), at a mark (skipped), and at the end of the file.
    Marks are `-DOCSTART-` rows (first field or word; any number of columns) and rows with nothing but `<HEADLINE>` or
    the like and empty columns. Only ASCII white space separates: U+00A0, U+200B, U+FEFF and the like belong to words.
    In the layout "conllu", lines that start with "#", multiword ranges ("1-2") and empty nodes ("8.1") are skipped, and
    words must be numbered 1, 2, 3 in each sentence. The layout "ontonotes" has comments, too. In other layouts "#" is a
    word, unless `comment_prefix` is set. Lines with that prefix before a sentence's first row are comments, except
    lines with a TAB if that is the separator.
    """

    def __init__(self, path: str, layout: ColumnLayout) -> None:
        super().__init__(path)
        self._layout = layout
        # The number of columns per row, and whether sentences have tags; `None` before the first row.
        self._num_columns: int | None = None
        self._has_tags: bool | None = None
        self._delimiter = layout.word_tag_delimiter
        self._longest = _LONGEST_SENTENCE

    @overrides
    def sentences(self) -> Iterator[Sentence]:
        numbered = file_checks.NumberedWords(self.path)
        for rows in self._blocks():
            sentence = self._sentence(rows)
            numbered.add(sentence.words)
            yield sentence
        numbered.finish()

    def _blocks(self) -> Iterator[list[Row]]:
        """The rows of each sentence."""
        rows: list[Row] = []
        is_first = True
        for number, line in numbered_lines(self.path):
            is_mark = not line.strip()
            if not is_mark and is_first:
                self._check_first(line)
                is_first = False
            if not is_mark and self._is_comment(line, is_first=not rows):
                self.left_out[COMMENTS] += 1
                continue
            if self._delimiter is not None:
                if not is_mark:
                    yield self._tagged_words(number, line, self._delimiter)
                continue
            row = None if is_mark else self._row(number, line)
            if row is None or self._is_document_mark(row, line):
                if row is not None:
                    self.left_out[DOCUMENT_MARKS] += 1
                if rows:
                    yield rows
                rows = []
                continue
            self._layout.check_count(row, self._num_columns, self.path)
            self._num_columns = len(row.fields)
            if not self._layout.is_conllu or self._is_word(row, len(rows) + 1):
                rows.append(row)
        if rows:
            yield rows

    def _check_first(self, line: bytes) -> None:
        """Detect other formats at the first non-empty line."""
        file_checks.check_is_columns(self.path, line)
        layout = self._layout
        if not layout.is_columns or layout.comment_prefix:
            return
        file_checks.check_layout(self.path, line)
        parts = [part.rpartition(WORD_TAG_DELIMITER.encode()) for part in line.split()]
        if self._delimiter is None and all(a and d and b for a, d, b in parts):
            self._delimiter = WORD_TAG_DELIMITER

    def _row(self, number: int, line: bytes) -> Row:
        fields = self._layout.split(line, self._num_columns)
        return Row(number, self._decode(b"\t".join(fields), number).split("\t"))

    def _tagged_words(self, number: int, line: bytes, delimiter: str) -> list[Row]:
        """The rows of a sentence in one line."""
        rows = []
        for part in self._decode(b" ".join(line.split()), number).split(" "):
            word, mark, tag = part.rpartition(delimiter)
            if not mark and self._layout.labels == "required":
                raise ConfigurationError(
                    f"{self.path}, line {number}: found {excerpt(part)}, expected a word, '{delimiter}' and its tag "
                    f"(word_tag_delimiter), as in the file's first line."
                )
            rows.append(Row(number, [word, tag] if mark else [part]))
        return rows

    def _decode(self, line: bytes, number: int) -> str:
        if self._layout.encoding == "utf-8":
            line = file_checks.join_surrogates(line, self.path, number)
        return decode_line(line, self._layout.encoding, self.path, number)

    def _is_comment(self, line: bytes, is_first: bool) -> bool:
        if not self._layout.is_columns:
            return line.startswith(b"#")
        prefix = self._layout.comment_prefix
        if prefix is None or not is_first or not line.startswith(prefix):
            return False
        return self._layout.separator is None or self._layout.separator not in line

    def _is_document_mark(self, row: Row, line: bytes) -> bool:
        if row.fields[0] == DOCSTART:
            return True
        if self._layout.is_conllu:
            return False
        is_word = self._layout.word >= 0 and row.fields[self._layout.word :][:1] == [DOCSTART]
        return is_word or is_mark(line.decode("latin-1"))

    def _is_word(self, row: Row, expected: int) -> bool:
        """Return whether a CoNLL-U row is a word; `expected` is its number."""
        identifier = row.fields[0]
        for pattern, kind in _NO_WORDS.items():
            if re.fullmatch(pattern, identifier):
                self.left_out[kind] += 1
                return False
        if identifier != str(expected):
            raise ConfigurationError(
                f"{self.path}, line {row.line}: found {excerpt(identifier)} in the first column, expected the "
                f"word number {expected} (or a range such as '1-2', or an empty node such as '8.1'). "
                f"Sentences are separated by empty lines."
            )
        return True

    def _sentence(self, rows: list[Row]) -> Sentence:
        layout = self._layout
        words = layout.words(rows, self.path)
        if layout.empty_word is not None:
            self.changed["empty words"] += sum(not row.fields[layout.word] for row in rows)
        if self._has_tags is None:
            # The file's first row decides, so that a row without its tag in a file with tags is an error.
            self._has_tags = layout.labels == "required" or (
                layout.labels == "optional" and layout.has_tag(rows[0])
            )
        tagged = next((row for row in rows if layout.labels == "optional" and layout.has_tag(row)), None)
        if tagged is not None and not self._has_tags:
            raise ConfigurationError(
                f"{self.path}, line {tagged.line}: found a row with a tag ({excerpt(' '.join(tagged.fields))}) "
                f"in a file that has none before, expected tags in each row or in no row."
            )
        tags = layout.tags(rows, self.path) if self._has_tags else None
        if len(rows) > self._longest:
            self._longest = len(rows)
            logger.warning(
                "%s, line %d: found a sentence of %d words. Does the file lack empty lines between sentences?",
                self.path,
                rows[0].line,
                len(rows),
            )
        extra = layout.extra_values(rows, self.path)
        return Sentence([row.line for row in rows], words, tags, extra, [row.fields for row in rows])
