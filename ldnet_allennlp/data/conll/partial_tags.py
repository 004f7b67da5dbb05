"""Partial labels: `?` for any tag, and alternatives such as `B-Chemical|O`."""

from collections.abc import Sequence

from ldnet_runtime.tag_schemes import (
    OUTSIDE,
    TagProblem,
    UnreadableTag,
    join_tag,
    letter_of,
    role_of,
    split_tag,
    validate,
)

ALTERNATIVES = "|"
# Encodings in which a tag and its successor determine the tag in another encoding.
CONVERTIBLE = ("BIO", "BIOUL", "IOBES", "BMES")
CLOSED = CONVERTIBLE[1:]  # These mark the end of a span.

# The role of a word, by whether a span begins and whether it ends there.
_ROLES = {(True, False): "B", (True, True): "S", (False, False): "I", (False, True): "E"}


def is_partial(tags: Sequence[str], partial_label: str | None) -> bool:
    """Return whether one of the tags is partial."""
    return partial_label is not None and any(tag == partial_label or ALTERNATIVES in tag for tag in tags)


def alternatives(tag: str, partial_label: str | None) -> list[str]:
    """The tags that a label allows; empty for any tag."""
    if partial_label is None:
        return [tag]
    return [] if tag == partial_label else tag.split(ALTERNATIVES)


def validate_partial(tags: Sequence[str], encoding: str, partial_label: str | None) -> list[TagProblem]:
    """Like `validate`: full labels that fit no tag of the words beside them, and alternatives of other encodings."""
    if partial_label is None or not is_partial(tags, partial_label):
        return validate(tags, encoding)
    try:
        repaired = convert_partial(tags, encoding, encoding, partial_label)
    except UnreadableTag as error:
        return [TagProblem(error.position, error.tag, f"'O' or a tag of the encoding {encoding}")]
    return [
        TagProblem(position, tag, f"'{new}'")
        for position, (tag, new) in enumerate(zip(tags, repaired))
        if tag != new and set(_parse(tag, position)).isdisjoint(_parse(new, position))
    ]


def convert_partial(tags: Sequence[str], source: str, target: str, partial_label: str) -> list[str]:
    """
    Convert partial labels to another encoding, and repair ill-formed full labels as conlleval reads them: a span goes
    on wherever the words beside it allow that. The result for a tag depends on whether its span continues, so a tag
    before an unknown one has two alternatives ("B-PER" before "?" is "B-PER|U-PER" in BIOUL). The encodings are two of
    `CONVERTIBLE`, or the same; "BARE" has no ill-formed tags.

    Raises `UnreadableTag` for anything but span tags, alternatives and the `partial_label`.
    """
    if source == "BARE":
        return list(tags)
    choices = [None if tag == partial_label else _parse(tag, position) for position, tag in enumerate(tags)]
    edge = [(OUTSIDE, "")]
    converted = []
    for before, choice, after in zip([edge, *choices], choices, [*choices[1:], edge]):
        written = [] if choice else [partial_label]
        for role, span_type in choice or []:
            is_full = choice is not None and len(choice) == 1
            follows = before is None or not {("B", span_type), ("I", span_type)}.isdisjoint(before)
            begins = role in "BS" or (is_full and not follows)
            # Whether a span of this type goes on in the next word; both are possible before partial labels.
            goes_on = {other in "IE" and kind == span_type for other, kind in after or []} or {True, False}
            if role in "ES":
                goes_on = {False}
            elif source in CLOSED:
                goes_on = {not is_full or True in goes_on}
            for inside in sorted(goes_on, reverse=True):
                letter = OUTSIDE if role == OUTSIDE else letter_of(_ROLES[begins, not inside], target)
                if target == "IOB1" and role == "B" and (follows or not is_full):
                    letter = "B"
                written.append(join_tag(letter, span_type))
        converted.append(ALTERNATIVES.join(dict.fromkeys(written)))
    return converted


def _parse(tag: str, position: int) -> list[tuple[str, str]]:
    """The role and type of each alternative."""
    parts = [split_tag(alternative) for alternative in tag.split(ALTERNATIVES)]
    if None in parts:
        raise UnreadableTag(tag, position)
    return [(role_of(part[0]), part[1]) for part in parts if part is not None]
