"""Visible characters of several code points: emoji with joiners, flags, accents."""

import re
import unicodedata

# Characters that belong to the one before: joiners, variation selectors, skin tones, flags, tags, combining marks.
JOINING = re.compile(
    "[\u0300-\u036f\u200c\u200d\u20d0-\u20ff\ufe00-\ufe0f\U0001f1e6-\U0001f1ff\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f]"
)


def join_graphemes(text: str, words: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Join words that a tokenizer has split within one visible character, such as a family emoji or a flag."""
    joined: list[tuple[int, int]] = []
    for start, end in words:
        if joined and joined[-1][1] == start and _is_inside_grapheme(text, joined[-1][0], start):
            joined[-1] = joined[-1][0], end
        else:
            joined.append((start, end))
    return joined


def _is_inside_grapheme(text: str, word_start: int, position: int) -> bool:
    before, after = text[position - 1], text[position]
    if (
        before in "\u200c\u200d"
        or after in "\u200c\u200d"
        or unicodedata.category(after) in ("Mn", "Me", "Mc")
    ):
        return True
    if "\U0001f3fb" <= after <= "\U0001f3ff" or "\U000e0020" <= after <= "\U000e007f":
        return True
    if not "\U0001f1e6" <= after <= "\U0001f1ff":
        return False
    start = position
    while start > word_start and "\U0001f1e6" <= text[start - 1] <= "\U0001f1ff":
        start -= 1
    return (position - start) % 2 == 1
