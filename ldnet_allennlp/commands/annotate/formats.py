"""Read sentences of raw text, and write labeled ones as columns: CoNLL, or AutoNER's `.ck`."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from allennlp.common.checks import ConfigurationError

from ldnet_allennlp.commands.annotate.dictionary import Match
from ldnet_allennlp.common.lines import ascii_words, excerpt, text_lines
from ldnet_allennlp.data.rule_based_tokenizer import RuleBasedTokenizer

UNKNOWN = "?"
_BEGIN, _END, _NO_TYPE = "<s>", "<eof>", "None"


class Labeled(NamedTuple):
    """A sentence with its matches."""

    words: list[str]
    matches: list[Match]


def read_sentences(path: str, kind: str, language: str) -> Iterator[list[str]]:
    """
    The sentences of raw text, plain or compressed. `kind` is "tokens" (one word per line and a blank line after each
    sentence, as in AutoNER's raw text) or "text" (any text, split by the rules of the language; tokenized lines stay as
    they are).
    """
    tokenizer = RuleBasedTokenizer(language)
    words_of = ascii_words if kind == "tokens" else str.split  # a token may be a non-breaking space
    for is_blank, group in groupby(text_lines(path), key=lambda line: not words_of(line[1])):
        lines = [] if is_blank else list(group)
        if kind == "tokens":
            words = [_one_word(path, *line) for line in lines if line[1].strip() != "-DOCSTART-"]
            yield from [words] if words else []
        elif lines:
            sentences = tokenizer.split("\n".join(line for _, line in lines))
            yield from (sentence.words for sentence in sentences)


def _one_word(path: str, number: int, line: str) -> str:
    words = ascii_words(line)
    if len(words) > 1:
        raise ConfigurationError(
            f"{path}, line {number}: found {excerpt(line.strip())}, expected one word. Set --input text if lines are "
            f"text."
        )
    return words[0]


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
    for number, text in text_lines(path):
        columns = ascii_words(text)
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
