"""Partial labels: `?` for any tag, and alternatives such as `B-Chemical|O`."""

from collections.abc import Sequence

from ldnet_runtime.tag_schemes import (
    OUTSIDE,
    UnreadableTag,
    join_tag,
    letter_of,
    role_of,
    split_tag,
)

ALTERNATIVES = "|"
# Encodings in which a tag and its successor determine the tag in another encoding.
CONVERTIBLE = ("BIO", "BIOUL", "IOBES", "BMES")

# For each role in an encoding that marks the end of spans: the role in BIO, and whether the span continues.
_CLOSED_ROLE = {("B", True): "B", ("B", False): "S", ("I", True): "I", ("I", False): "E"}


def is_partial(tags: Sequence[str], partial_label: str | None) -> bool:
    """Return whether one of the tags is partial."""
    return partial_label is not None and any(tag == partial_label or ALTERNATIVES in tag for tag in tags)


def convert_partial(tags: Sequence[str], source: str, target: str, partial_label: str) -> list[str]:
    """
    Convert partial labels to another encoding. The result for a tag depends on whether its span continues, so a tag
    before an unknown one has two alternatives ("B-PER" before "?" is "B-PER|U-PER" in BIOUL).

    # Parameters

    tags : `Sequence[str]`
        One per word: a span tag, alternatives separated by "|", or `partial_label`.
    source, target : `str`
        Two of `CONVERTIBLE`.

    Raises `UnreadableTag` for any other tag.
    """
    choices = [None if tag == partial_label else _parse(tag, position) for position, tag in enumerate(tags)]
    converted = []
    for position, choice in enumerate(choices):
        if choice is None:
            converted.append(partial_label)
            continue
        last = position + 1 == len(choices)
        successors = [(OUTSIDE, "")] if last else choices[position + 1]
        written = []
        for role, span_type in choice:
            for goes_on in _continuations(span_type, successors) if source == "BIO" else (None,):
                closed = role if goes_on is None else _CLOSED_ROLE.get((role, goes_on), role)
                letter = OUTSIDE if role == OUTSIDE else letter_of(closed, target)
                written.append(join_tag(letter, span_type))
        converted.append(ALTERNATIVES.join(dict.fromkeys(written)))
    return converted


def _continuations(span_type: str, successors: list[tuple[str, str]] | None) -> tuple[bool, ...]:
    """Return whether a span of this type can go on (`True`) or end (`False`) before these tags; `None` is any tag."""
    if successors is None:
        return True, False
    answers = {role == "I" and successor == span_type for role, successor in successors}
    return tuple(sorted(answers, reverse=True))


def _parse(tag: str, position: int) -> list[tuple[str, str]]:
    """The role and type of each alternative."""
    parts = [split_tag(alternative) for alternative in tag.split(ALTERNATIVES)]
    if None in parts:
        raise UnreadableTag(tag, position)
    return [(role_of(part[0]), part[1]) for part in parts if part is not None]
