"""Detect the encoding and spelling of a corpus's tags."""

from collections.abc import Sequence
from typing import NamedTuple

from ldnet_allennlp.data.conll.partial_tags import ALTERNATIVES, alternatives, validate_partial
from ldnet_allennlp.data.conll.tag_spelling import TagSpelling, common_spelling, is_bracketed, respell
from ldnet_runtime.tag_schemes import OUTSIDE, native_letters, split_tag

BRACKETS = "BRACKETS"

# In order of preference among ties: all "O" counts as BIO, only I- tags as IOB1, and spans of one token with the letter
# S as IOBES. "IO" is missing, because all its tags are valid IOB1.
_CANDIDATES = ("BIO", "IOB1", "IOBES", "BIOUL", "BMES")
# Tags of words without a label where no word has "O".
_BLANK = ("-", "_")
# A column with more distinct tags than this has no spans.
_MOST_TAGS = 10_000


class DetectedTags(NamedTuple):
    """
    An encoding (a name from `tag_schemes.ENCODINGS`, "BRACKETS", or `None` for tags without spans), a spelling (`None`:
    letter, hyphen and type), and the tag of outside words.
    """

    encoding: str | None
    spelling: TagSpelling | None = None
    outside: str = OUTSIDE


class EncodingDetector:
    """
    Classifies tag sequences in one pass, and keeps only counts and the set of tags.

    Tags without letters are "BARE" if "O" is among them, and otherwise not spans (parts of speech). Among the encodings
    with letters, the one with the fewest ill-formed tags wins, then the one whose letters occur most often, then the
    more common one. The result does not depend on the order of the sequences. Partial labels count only if all their
    alternatives ("U-PER|U-LOC") belong to another encoding.
    """

    def __init__(self, partial_label: str | None = None) -> None:
        self._partial_label = partial_label
        self._letters: set[str] = set()  # of full labels
        self._problems = dict.fromkeys(_CANDIDATES, 0)
        self._native = dict.fromkeys(_CANDIDATES, 0)
        self._lines: dict[str, int | None] = {}  # where each tag first occurs

    def add(self, tags: Sequence[str], lines: Sequence[int] | None = None) -> None:
        """Add the tags of one sentence; `lines` are their line numbers, for messages."""
        choices = [alternatives(tag, self._partial_label) for tag in tags]
        for position, (tag, choice) in enumerate(zip(tags, choices)):
            if len(choice) == 1 and tag not in self._lines and len(self._lines) < _MOST_TAGS:
                self._lines[tag] = lines[position] if lines else None
        if set(tags) <= {OUTSIDE}:
            return
        read = [[OUTSIDE if tag in _BLANK else respell(tag) or "" for tag in choice] for choice in choices]
        letters = [tag for choice in read for tag in choice]
        if all(letters):
            self._letters.update(choice[0][0] for choice in read if len(choice) == 1)
            readable = [ALTERNATIVES.join(choice) or str(self._partial_label) for choice in read]
            for encoding in _CANDIDATES:
                self._problems[encoding] += len(validate_partial(readable, encoding, self._partial_label))
                self._native[encoding] += native_letters(letters, encoding)

    def detect(self) -> DetectedTags:
        """
        The encoding and spelling of all tags so far.

        Raises `ValueError` if there are span tags ("B-PER") and others ("NOUN"), or tags that resemble span tags in an
        unknown spelling.
        """
        tags = set(self._lines) - {OUTSIDE, "o"}
        has_outside = OUTSIDE in self._lines or ("o" in self._lines and all(t == t.lower() for t in tags))
        if is_bracketed(self._lines):
            return DetectedTags(BRACKETS)
        standard = {tag for tag in tags if split_tag(tag)}
        blank = next((tag for tag in _BLANK if tag in tags), None)
        if blank and OUTSIDE in self._lines:
            raise ValueError(
                f"Found the tag {self._quote(blank)} beside {self._quote(OUTSIDE)}; spaCy writes '-' for words whose "
                f'label is unknown. Set partial_label: "{blank}" to train with unknown labels, or '
                f'tag_map: {{"{blank}": "O"}} to read these words as outside of spans.'
            )
        if tags == standard or (blank and standard and tags - standard == {blank}):
            return DetectedTags(self._best(), None, blank or OUTSIDE)
        spelling = common_spelling(tags)
        if spelling is not None:
            return DetectedTags(self._best(), spelling)
        typed = {tag for tag in standard if "-" in tag}
        if typed:
            raise ValueError(
                f"Found both {self._first(typed)} and {self._first(tags - standard)}, so the label_encoding is not "
                f"clear. Expected span tags in one spelling, or tags without letters. Rewrite the odd ones with "
                f"tag_map, or declare the label_encoding (null if the tags are no spans)."
            )
        if not has_outside:
            return DetectedTags(None)
        self._check_bare(tags)
        return DetectedTags("BARE")

    def _best(self) -> str:
        # Full labels without a B are not BIO, even if partial ones may begin their spans.
        return min(
            _CANDIDATES[self._letters - {OUTSIDE} == {"I"} :],
            key=lambda name: (self._problems[name], -self._native[name], _CANDIDATES.index(name)),
        )

    def _check_bare(self, tags: set[str]) -> None:
        """Raise `ValueError` if two types differ in a first (or last) letter B and I only."""
        for tag in sorted(tags):
            for pair in ("BI", "bi"):
                for other in (pair[1] + tag[1:], tag[:-1] + pair[1]):
                    begins = tag[0] == pair[0] if other[1:] == tag[1:] else tag[-1] == pair[0]
                    if begins and other in tags and len(tag) > 1:
                        raise ValueError(
                            f"Found the tags {self._quote(tag)} and {self._quote(other)}, which look like the begin "
                            f"and the inside of a span in a spelling that is not known. Expected tags such as "
                            f'"B-PER": rewrite these with tag_map, or declare the label_encoding "BARE" if they are '
                            f"types."
                        )

    def _first(self, tags: set[str]) -> str:
        return self._quote(min(tags, key=lambda tag: (self._lines[tag] or 0, tag)))

    def _quote(self, tag: str) -> str:
        line = self._lines[tag]
        return repr(tag) if line is None else f"{tag!r} (line {line})"
