"""Alternative spellings of span tags, read as `B-PER`: `B_PER`, `b-per`, `PER-B`, `B:PER`, OntoNotes' `(PER*`."""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ldnet_runtime.tag_schemes import OUTSIDE, UnreadableTag, join_tag, split_tag

_LETTERS = "BIMELSUWbimelsuw"
_DASHES = "-\u00ad\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe58\ufe63\uff0d"
_SEPARATORS = re.escape(_DASHES + "_:./|@+=#~")
_PREFIXED = re.compile(rf"([{_LETTERS}])([{_SEPARATORS}])(.+)", re.DOTALL)
_SUFFIXED = re.compile(rf"(.+)([{_SEPARATORS}])([{_LETTERS}])", re.DOTALL)
_BRACKETS = re.compile(r"((?:\([^()*|]+)*)\*?(\)*)")


class TagSpelling(NamedTuple):
    """The position of a tag's letter, and the separator before or after the type ("-" for any dash)."""

    is_suffix: bool = False
    separator: str = "-"

    def parse(self, tag: str) -> tuple[str, str] | None:
        """The letter in upper case and the type, or `None` if the tag has another spelling."""
        match = (_SUFFIXED if self.is_suffix else _PREFIXED).fullmatch(tag)
        if match is None:
            return (tag.upper(), "") if len(tag) == 1 and tag in _LETTERS else None
        span_type, separator, letter = match.groups() if self.is_suffix else match.groups()[::-1]
        if ("-" if separator in _DASHES else separator) != self.separator:
            return None
        # A lower-case file; its types become upper case.
        is_lower = letter.islower() and span_type == span_type.lower()
        return letter.upper(), span_type.upper() if is_lower else span_type


_SPELLINGS = [TagSpelling(is_suffix, separator) for is_suffix in (False, True) for separator in "-_:./|@+=#~"]


def common_spelling(tags: Iterable[str]) -> TagSpelling | None:
    """The spelling in which all these tags are span tags, or `None`. Leave out the tag of outside words."""
    tags = list(tags)
    return next((spelling for spelling in _SPELLINGS if all(map(spelling.parse, tags))), None)


def respell(tag: str, spelling: TagSpelling | None = None) -> str | None:
    """
    The tag with its letter first and a hyphen, "O" for "o"; `None` if it is not a span tag in the given spelling (by
    default, in any spelling).
    """
    if tag in (OUTSIDE, "o"):
        return OUTSIDE
    if spelling is None and split_tag(tag):
        return tag
    for candidate in _SPELLINGS if spelling is None else [spelling]:
        parts = candidate.parse(tag)
        if parts is not None:
            return join_tag(*parts)
    return None


def is_bracketed(tags: Iterable[str]) -> bool:
    """Return whether all tags are OntoNotes' brackets, as in "(PER*", "*", "*)" and "(LOC)", and one opens a span."""
    tags = list(tags)
    return all(tag and _BRACKETS.fullmatch(tag) for tag in tags) and any("(" in tag for tag in tags)


def unbracket(tags: Sequence[str]) -> list[str]:
    """BIO tags for OntoNotes' brackets. Raises `UnreadableTag` for nested and unbalanced brackets."""
    span_type, written = "", []
    for position, tag in enumerate(tags):
        match = _BRACKETS.fullmatch(tag)
        opening = match[1].split("(")[1:] if match else []
        closing = len(match[2]) if match else 0
        is_open = bool(span_type or opening)
        if match is None or len(opening) > (not span_type) or closing > is_open:
            raise UnreadableTag(tag, position)
        if opening:
            span_type = opening[0]
        written.append(f"{'B' if opening else 'I'}-{span_type}" if span_type else OUTSIDE)
        if closing:
            span_type = ""
    if span_type:
        raise UnreadableTag(tags[-1], len(tags) - 1)
    return written
