"""Sentences of a file of tagged sentences."""

from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple


class Sentence(NamedTuple):
    """
    One sentence: at least one word (a string or a token); the tags are `None` if the file has none. `lines` counts from
    1; `columns` are all columns of each word.
    """

    lines: list[int]
    words: list[Any]
    tags: list[str] | None
    extra: dict[str, Any]
    columns: list[list[str]]


class TaggedFile:
    """Streams the sentences of one file and keeps only counts: of parts left out, and of changes, by what they are."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.left_out: Counter[str] = Counter()
        self.changed: Counter[str] = Counter()

    def sentences(self) -> Iterator[Sentence]:
        """Raise `ConfigurationError` with file, line, found and expected content."""
        raise NotImplementedError
