"""Read sentences of raw text, and write labeled ones as columns: CoNLL, or AutoNER's `.ck`."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from allennlp.common.checks import ConfigurationError

from ldnet_allennlp.commands.annotate.dictionary import Match
from ldnet_allennlp.common.lines import decode_line, excerpt, numbered_lines
from ldnet_runtime.text import TextError, split_text

UNKNOWN = "?"
_BEGIN, _END, _NO_TYPE = "<s>", "<eof>", "None"


class Labeled(NamedTuple):
    """A sentence with its matches."""

    words: list[str]
    matches: list[Match]


def read_sentences(path: str, kind: str, language: str) -> Iterator[list[str]]:
    """
    The sentences of raw text.

    # Parameters

    path : `str`
        Plain or compressed.
    kind : `str`
        "tokens": one word per line and a blank line after each sentence, as in AutoNER's raw text; "text": any text,
        split by the `rule_based` tokenizer (tokenized lines stay as they are).
    language : `str`
        For "text".
    """
    if kind == "tokens":
        yield from _sentences_of_columns(path)
        return
    for number, text in _paragraphs(path):
        try:
            sentences = split_text(text, language=language)
        except TextError as error:
            raise ConfigurationError(f"{path}, line {number}: {error}") from error
        yield from (sentence.words for sentence in sentences)


def _sentences_of_columns(path: str) -> Iterator[list[str]]:
    words: list[str] = []
    for number, line in numbered_lines(path):
        text = decode_line(line, "utf-8", path, number).strip()
        if not text or text == "-DOCSTART-":
            if words:
                yield words
            words = []
        elif len(text.split()) > 1:
            raise ConfigurationError(
                f"{path}, line {number}: found {excerpt(text)}, expected one word. Set --input text if lines are text."
            )
        else:
            words.append(text)
    if words:
        yield words


def _paragraphs(path: str) -> Iterator[tuple[int, str]]:
    """Blocks of lines between blank lines, with their first line numbers."""
    lines: list[str] = []
    start = 1
    for number, line in numbered_lines(path):
        text = decode_line(line, "utf-8", path, number)
        if text.strip():
            if not lines:
                start = number
            lines.append(text)
        elif lines:
            yield start, "\n".join(lines)
            lines = []
    if lines:
        yield start, "\n".join(lines)


def conll_rows(sentence: Labeled, outside: str) -> Iterator[str]:
    """
    `word<TAB>tag` in BIOUL. Words of a phrase of unknown type are "?", and a surface with several types gives
    alternatives such as "U-Chemical|U-Disease". All other words are `outside`.
    """
    tags = [outside] * len(sentence.words)
    for start, end, entry in sentence.matches:
        for position in range(start, end):
            letter = (
                "U" if end - start == 1 else "B" if position == start else "L" if position == end - 1 else "I"
            )
            tags[position] = "|".join(f"{letter}-{kind}" for kind in sorted(entry.types)) or UNKNOWN
    return (f"{word}\t{tag}" for word, tag in zip(sentence.words, tags))


def ck_rows(sentence: Labeled) -> Iterator[str]:
    """
    AutoNER's rows: word; I (break) or O (tie) before it; type; S, or D if the gap before the word is unknown. A gap is
    unknown inside and next to a phrase of unknown type, unless a typed match begins or ends there.
    """
    size = len(sentence.words)
    gaps = ["I"] * (size + 1)
    types = [_NO_TYPE] * (size + 1)
    known = [True] * (size + 1)
    for start, end, entry in sentence.matches:
        if entry.types:
            types[start:end] = [",".join(sorted(entry.types))] * (end - start)
            gaps[start + 1 : end] = ["O"] * (end - start - 1)
        else:
            known[start : end + 1] = [False] * (end - start + 1)
    for start, end, entry in sentence.matches:
        if entry.types:
            known[start : end + 1] = [True] * (end - start + 1)
    yield f"{_BEGIN} O {_NO_TYPE} S"
    for position, word in enumerate([*sentence.words, _END]):
        if known[position]:
            yield f"{word} {gaps[position]} {types[position]} S"
        else:
            yield f"{word} O {_NO_TYPE} D"


def read_ck(path: str) -> Iterator[tuple[list[str], list[tuple[str, int, int]]]]:
    """
    The sentences of a gold `.ck` file: words, and spans (type, start, end).

    Raises `ConfigurationError` with file and line for rows other than word, I or O, and type.
    """
    words: list[str] = []
    breaks: list[tuple[int, str]] = []
    for number, line in numbered_lines(path):
        text = decode_line(line, "utf-8", path, number)
        columns = text.split()
        if not columns or columns[0] == "-DOCSTART-":
            continue
        if len(columns) not in (3, 4) or columns[1] not in ("I", "O", "B"):
            raise ConfigurationError(
                f"{path}, line {number}: found {excerpt(text)}, expected a word, I or O, and a type, as AutoNER writes."
            )
        word, gap, kind = columns[:3]
        if word == _BEGIN and gap == "O" and not words:
            continue
        if gap != "O" or not words:
            breaks.append((len(words), kind))
        if word == _END:
            if words:
                yield words, _spans_between(breaks)
            words, breaks = [], []
        else:
            words.append(word)
    if words:
        raise ConfigurationError(f"{path}: the last sentence does not end with {_END}.")


def _spans_between(breaks: Sequence[tuple[int, str]]) -> list[tuple[str, int, int]]:
    return [
        (kind, start, end)
        for (start, kind), (end, _) in zip(breaks, breaks[1:])
        if kind != _NO_TYPE and end > start
    ]
