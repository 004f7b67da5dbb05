"""
Tag schemes: read, write, check and convert span encodings of sequence labels.

A span is `(type, start, end)`, `end` inclusive. An encoding represents spans by one tag per token: "O" outside spans,
otherwise a letter, a hyphen and the type. Only the first hyphen separates ("B-creative-work" has the type
"creative-work"); a lone letter ("B") is a span without a type. The encodings:

- "IOB1": I; a span that directly follows another of its type begins with B (CoNLL-2003 as published)
- "BIO" (alias "IOB2"): every span begins with B (CoNLL-2000, CoNLL-2002)
- "BIOUL" (alias "BILOU"): B, I, L for the last token, U for a span of one token
- "IOBES" (alias "BIOES"): the same with the letters E and S
- "BMES" (alias "BMEWO"): the same with M for I
- "IO": I only, so adjacent spans of one type merge
- "BARE": the type only, without a letter; adjacent spans merge, too

Tags are interpreted as by conlleval, the scorer of the CoNLL shared tasks: B and S (U, W) always begin a span, E (L)
and S always end one, and I (M) and E continue a span of the same type or begin a new one. So ill-formed sequences have
spans, too, and the interpretation is the same for all encodings with letters.
"""

from collections.abc import Sequence
from typing import NamedTuple

ENCODINGS = ("BIO", "IOB1", "IOBES", "BIOUL", "BMES", "IO", "BARE")
OUTSIDE = "O"

_ALIASES = {
    "IOB2": "BIO",
    "BILOU": "BIOUL",
    "BIOES": "IOBES",
    "BMESO": "BMES",
    "BMEWO": "BMES",
    "BMEOW": "BMES",
}

# Every letter read as one of the roles B (begin), I (inside), E (end), S (span of one token).
_ROLE_OF = {"B": "B", "I": "I", "M": "I", "E": "E", "L": "E", "S": "S", "U": "S", "W": "S"}

# The letter each encoding writes for a role.
_LETTER_OF: dict[str, dict[str, str]] = {
    "BIO": {"B": "B", "I": "I", "E": "I", "S": "B"},
    "BIOUL": {"B": "B", "I": "I", "E": "L", "S": "U"},
    "IOBES": {"B": "B", "I": "I", "E": "E", "S": "S"},
    "BMES": {"B": "B", "I": "M", "E": "E", "S": "S"},
    "IOB1": {"B": "I", "I": "I", "E": "I", "S": "I"},
    "IO": {"B": "I", "I": "I", "E": "I", "S": "I"},
}

# The letters that are valid in input. BIOUL and IOBES are two spellings of one scheme, so each accepts the
# other's.
_VALID_LETTERS = {"BIO": "BI", "IOB1": "BI", "IO": "I", "BIOUL": "BILUES", "IOBES": "BIESLU", "BMES": "BMESW"}
_CLOSED = ("BIOUL", "IOBES", "BMES")  # encodings that mark the end of a span

Span = tuple[str, int, int]


class UnreadableTag(ValueError):
    """An invalid tag, which is neither "O" nor a letter and a type, and its position."""

    def __init__(self, tag: str, position: int) -> None:
        super().__init__(tag, position)
        self.tag = tag
        self.position = position

    def __str__(self) -> str:
        return (
            f"Found the tag {self.tag!r} at position {self.position}, expected 'O' or one of the letters "
            f"B, I, M, E, L, S, U, W, followed by a hyphen and a type."
        )


class TagProblem(NamedTuple):
    """An ill-formed tag: its position, the tag, and the possible tags at this position."""

    position: int
    tag: str
    expected: str


def canonical_encoding(name: str) -> str:
    """The member of `ENCODINGS` for a name or an alias (case-insensitive). Raises `ValueError` for an unknown name."""
    upper = name.upper()
    upper = _ALIASES.get(upper, upper)
    if upper not in ENCODINGS:
        names = ", ".join([*ENCODINGS, *_ALIASES])
        raise ValueError(f"Found the label encoding {name!r}, expected one of {names}.")
    return upper


def split_tag(tag: str) -> tuple[str, str] | None:
    """The letter and the type of a tag, `("O", "")` for "O", and `None` for any other text."""
    if tag == OUTSIDE:
        return OUTSIDE, ""
    letter, hyphen, span_type = tag.partition("-")
    if letter not in _ROLE_OF or bool(hyphen) != bool(span_type):
        return None
    return letter, span_type


def role_of(letter: str) -> str:
    """The role of a letter: B (begin), I (inside), E (end), S (span of one token) or O."""
    return _ROLE_OF.get(letter, OUTSIDE)


def letter_of(role: str, encoding: str) -> str:
    """The letter of an encoding for the role B, I, E or S."""
    return _LETTER_OF[encoding][role]


def join_tag(letter: str, span_type: str) -> str:
    """The inverse of `split_tag`."""
    return f"{letter}-{span_type}" if span_type else letter


def spans_from_tags(tags: Sequence[str], encoding: str) -> list[Span]:
    """
    The spans of a tag sequence, well-formed or not, in order and without overlap, as conlleval reads them.

    # Parameters

    tags : `Sequence[str]`
        One tag per token.
    encoding : `str`
        The name of an encoding. It matters only for "BARE"; all others are read the same way.

    # Returns

    `List[Tuple[str, int, int]]`
        The type, first and last token of each span.

    Raises `UnreadableTag` for an invalid tag, except in "BARE", where each tag except "O" is a type.
    """
    bare = canonical_encoding(encoding) == "BARE"
    spans: list[Span] = []
    start, open_type = -1, ""  # start is -1 while no span is open
    for position, tag in enumerate(tags):
        if tag == OUTSIDE and start < 0:
            continue  # most words of most texts
        role, span_type = _read_bare(tag) if bare else _read(tag, position)
        continues = start >= 0 and role in "IE" and span_type == open_type
        if start >= 0 and not continues:
            spans.append((open_type, start, position - 1))
            start = -1
        if role != OUTSIDE and not continues:
            start, open_type = position, span_type
        if role in "ES":
            spans.append((open_type, start, position))
            start = -1
    if start >= 0:
        spans.append((open_type, start, len(tags) - 1))
    return spans


def tags_from_spans(spans: Sequence[Span], length: int, encoding: str) -> list[str]:
    """
    The tags of a sentence of `length` tokens with these spans, in any order.

    "IO" and "BARE" merge adjacent spans of one type. Raises `ValueError` for a span outside the sentence, for
    overlapping spans, and for a span that the encoding cannot represent ("BARE" has no tag for a span without a type or
    with the type "O").
    """
    encoding = canonical_encoding(encoding)
    tags = [OUTSIDE] * length
    end_of_previous, previous_type = -1, ""
    for span_type, start, end in sorted(spans, key=lambda span: span[1]):
        if not end_of_previous < start <= end < length:
            raise ValueError(
                f"Found the span {(span_type, start, end)} in a sentence of {length} tokens after a span "
                f"that ends at {end_of_previous}, expected spans within the sentence that do not overlap."
            )
        if encoding == "BARE":
            if span_type in ("", OUTSIDE):
                raise ValueError(
                    f"Found a span of type {span_type!r}, for which the encoding BARE has no tag."
                )
            tags[start : end + 1] = [span_type] * (end + 1 - start)
        else:
            letters = _LETTER_OF[encoding]
            roles = ["S"] if start == end else ["B", *"I" * (end - start - 1), "E"]
            tags[start : end + 1] = [join_tag(letters[role], span_type) for role in roles]
            if (
                encoding == "IOB1"
                and end_of_previous == start - 1
                and start > 0
                and previous_type == span_type
            ):
                tags[start] = join_tag("B", span_type)
        end_of_previous, previous_type = end, span_type
    return tags


def convert(tags: Sequence[str], source: str, target: str) -> list[str]:
    """
    The same spans in another encoding; `convert(tags, e, e)` repairs an ill-formed sequence as conlleval reads it, and
    writes a well-formed one with the letters of `e`. Raises like `spans_from_tags` and `tags_from_spans`.
    """
    return tags_from_spans(spans_from_tags(tags, source), len(tags), target)


def validate(tags: Sequence[str], encoding: str) -> list[TagProblem]:
    """
    The ill-formed tags of a sequence, in order. The letters E and S are equivalent to L and U. Each mistake counts
    once: the next tags are judged by conlleval's reading of the mistake.
    """
    encoding = canonical_encoding(encoding)
    if encoding == "BARE":
        return [TagProblem(i, tag, "a span type or 'O'") for i, tag in enumerate(tags) if not tag]
    problems = []
    previous: tuple[str, str] = (OUTSIDE, "")
    for position, tag in enumerate(tags):
        parts = split_tag(tag)
        expected = _expected(encoding, previous, parts)
        if expected:
            problems.append(TagProblem(position, tag, expected))
        previous = (_ROLE_OF.get(parts[0], OUTSIDE), parts[1]) if parts else (OUTSIDE, "")
    if (
        encoding in _CLOSED
        and previous[0] in "BI"
        and not (problems and problems[-1].position == len(tags) - 1)
    ):
        letters = _LETTER_OF[encoding]
        ending = join_tag(letters["S" if previous[0] == "B" else "E"], previous[1])
        problems.append(TagProblem(len(tags) - 1, tags[-1], f"'{ending}', as the sentence ends here"))
    return problems


def native_letters(tags: Sequence[str], encoding: str) -> int:
    """The number of tags with a letter of `encoding` itself (E is not native to "BIOUL")."""
    encoding = canonical_encoding(encoding)
    letters = set(_LETTER_OF.get(encoding, {}).values()) | ({"B"} if encoding == "IOB1" else set())
    return sum(1 for tag in tags if tag != OUTSIDE and tag.partition("-")[0] in letters)


def _read_bare(tag: str) -> tuple[str, str]:
    return (OUTSIDE, "") if tag == OUTSIDE else ("I", tag)


def _read(tag: str, position: int) -> tuple[str, str]:
    """The role and the type of a tag."""
    parts = split_tag(tag)
    if parts is None:
        raise UnreadableTag(tag, position)
    letter, span_type = parts
    return _ROLE_OF.get(letter, OUTSIDE), span_type


def _expected(encoding: str, previous: tuple[str, str], parts: tuple[str, str] | None) -> str:
    """
    The correction of a tag (letter and type, `None` if invalid) after another (role and type); empty if the tag is
    well-formed.
    """
    valid = _VALID_LETTERS[encoding]
    if parts is None or (parts[0] != OUTSIDE and parts[0] not in valid):
        letters = sorted({*_LETTER_OF[encoding].values(), *("B" if encoding == "IOB1" else "")})
        return f"'O' or a tag of the encoding {encoding} (letters {', '.join(letters)})"
    letter, span_type = parts
    role = _ROLE_OF.get(letter, OUTSIDE)
    previous_role, previous_type = previous
    if encoding in _CLOSED:
        is_open = previous_role in "BI"
        if is_open and not (role in "IE" and span_type == previous_type):
            written = [join_tag(_LETTER_OF[encoding][r], previous_type) for r in "IE"]
            return f"'{written[0]}' or '{written[1]}', as a span is open"
        if not is_open and role in "IE":
            written = [join_tag(_LETTER_OF[encoding][r], span_type) for r in "BS"]
            return f"'{written[0]}' or '{written[1]}', as no span is open"
        return ""
    follows_its_type = previous_role != OUTSIDE and span_type == previous_type
    if encoding == "BIO" and role == "I" and not follows_its_type:
        return f"'{join_tag('B', span_type)}', as a span begins here"
    if encoding == "IOB1" and role == "B" and not follows_its_type:
        return f"'{join_tag('I', span_type)}', as no span of that type ends just before"
    return ""
