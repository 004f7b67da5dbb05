"""Sentences and words of a text, with their places in it. (White space only; the rules come with the tokenizer.)"""

import re
from typing import NamedTuple

MODES = ("auto", "rule_based", "whitespace")


class TextError(ValueError):
    """A text that cannot be split."""


class Sentence(NamedTuple):
    """Words, and where they start and end in the text."""

    words: list[str]
    starts: list[int]
    ends: list[int]


def split_text(text: str, language: str = "en", mode: str = "auto") -> list[Sentence]:
    """A sentence a line, words between ASCII white space."""
    sentences = []
    for line in re.finditer(r"[^\n\r]+", text):
        words = list(re.finditer(r"[^ \t\v\f]+", line.group()))
        if words:
            starts = [line.start() + word.start() for word in words]
            ends = [line.start() + word.end() for word in words]
            sentences.append(Sentence([word.group() for word in words], starts, ends))
    return sentences


def looks_tokenized(text: str) -> bool:
    """Whether punctuation stands apart."""
    return re.search(r"\w[.,!?;:](\s|$)", text) is None


def resolve_mode(text: str, mode: str) -> str:
    """What "auto" chooses."""
    return "whitespace"
