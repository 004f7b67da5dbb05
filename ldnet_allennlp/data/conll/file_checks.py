"""Checks for files of other formats; each error names the setting or reader to use."""

import json
import logging
import re
from collections.abc import Sequence

from allennlp.common.checks import ConfigurationError

from ldnet_allennlp.common.lines import excerpt

logger = logging.getLogger(__name__)

_OTHER_READER = re.compile(r"\.(jsonl?|ndjson|spacy|ann)(\.(gz|bz2|xz|zst))?$", re.IGNORECASE)
_SURROGATE_HALF = re.compile(b"\xed[\xa0-\xbf][\x80-\xbf]")
_CONLLU_COMMENT = re.compile(rb"# ?(global\.columns|newdoc|newpar|sent_id|text)\b.*=")


def check_is_columns(path: str, first_line: bytes) -> None:
    """Raise `ConfigurationError` for JSON, spaCy and brat files, which need the reader "annotated_jsonl"."""
    if _OTHER_READER.search(path) or _is_json(first_line):
        kind = "JSON" if _is_json(first_line) else "a file of annotations"
        raise ConfigurationError(
            f"{path}: found {kind}, expected columns. The reader 'annotated_jsonl' reads JSON lines and arrays, "
            f"spaCy's .spacy files and brat's .ann files: set dataset_reader.type to it."
        )


def check_layout(path: str, first_line: bytes) -> None:
    """Raise `ConfigurationError` for CoNLL-U and OntoNotes files, which need another layout."""
    if first_line.startswith(b"#begin document"):
        line, layout = "'#begin document', as in OntoNotes' .gold_conll files", "ontonotes"
    elif _CONLLU_COMMENT.match(first_line):
        line, layout = f"{excerpt(first_line.decode('utf-8', 'replace'))}, a comment of CoNLL-U", "conllu"
    else:
        return
    raise ConfigurationError(f'{path}: found {line}. Expected the layout "{layout}", or a comment_prefix.')


def join_surrogates(line: bytes, path: str, number: int) -> bytes:
    """
    UTF-8 for a line in which characters beyond U+FFFF are written as two surrogates (CESU-8), three bytes each.

    Raises `ConfigurationError` for a lone surrogate.
    """
    if not _SURROGATE_HALF.search(line):
        return line
    try:
        text = line.decode("utf-8", "surrogatepass")
        return text.encode("utf-16", "surrogatepass").decode("utf-16").encode()
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            f"{path}, line {number}: found half of a surrogate pair, or bytes that are not UTF-8, in {line[:80]!r}. "
            f"Expected whole characters: a tokenizer that counts UTF-16 units may have split an emoji between two "
            f"rows; join them."
        ) from error


class NumberedWords:
    """Detects a word column that contains word numbers (from 0 or 1 per sentence, or through the whole file)."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._num_words = 0
        self._numbered = 0  # sentences of several words that count up
        self._others = 0
        self._longest = 0

    def add(self, words: Sequence[str]) -> None:
        """The words of one sentence."""
        starts = ("0", "1", str(self._num_words), str(self._num_words + 1))
        counts_up = words[0] in starts and all(
            word == str(number) for number, word in enumerate(words, int(words[0]))
        )
        self._num_words += len(words)
        if not counts_up:
            self._others += 1
        elif len(words) > 1:
            self._numbered += 1
            self._longest = max(self._longest, len(words))

    def finish(self) -> None:
        """Raise `ConfigurationError` if all sentences count up, and warn if most do."""
        advice = "set word_column to the column of the words, such as 1"
        if not self._others and (self._numbered > 1 or self._longest > 3):
            raise ConfigurationError(
                f"{self._path}: found a word column that numbers the words of all sentences (0 or 1, 2, 3 ...), "
                f"expected words: {advice}."
            )
        if self._numbered > max(1, self._others):
            logger.warning("%s: most sentences consist of the numbers 1, 2, 3 ...: %s.", self._path, advice)


def _is_json(line: bytes) -> bool:
    line = line.strip()
    try:
        return line in (b"[", b"{") or isinstance(json.loads(line.rstrip(b",")), (dict, list))
    except (ValueError, RecursionError):
        return False
