"""Finding out which span encoding the tags of a corpus are in."""

from typing import Dict, Iterable, List, Optional, Sequence, Tuple

from ldnet_allennlp.data.conll.tag_schemes import OUTSIDE, native_letters, split_tag, validate

# In order of preference where several fit equally well: tags that are all "O" count as BIO, I- tags alone as
# IOB1, spans of one token with the letter S as IOBES. "IO" is not among them: whatever fits it, fits IOB1.
_CANDIDATES = ("BIO", "IOB1", "IOBES", "BIOUL", "BMES")


class EncodingDetector:
    """
    Judges the encoding of tag sequences that pass by once, keeping only counts.

    Tags without letters are "BARE" if "O" is among them, and no spans at all (parts of speech) otherwise.
    Among the encodings with letters the one wins in which the fewest tags are ill-formed, then the one whose
    own letters occur most often, then the more common one. The result does not depend on the order of the
    sequences.
    """

    def __init__(self) -> None:
        self._problems: Dict[str, int] = dict.fromkeys(_CANDIDATES, 0)
        self._native: Dict[str, int] = dict.fromkeys(_CANDIDATES, 0)
        self._has_outside = False
        # The first tag with a letter and a type, with a letter only, and with neither, each with its line.
        self._first: Dict[str, Tuple[str, Optional[int]]] = {}

    def add(self, tags: Sequence[str], lines: Optional[Sequence[int]] = None) -> None:
        """Takes in the tags of one sentence; `lines` are their line numbers, for messages."""
        kinds = set(tags)
        self._has_outside = self._has_outside or OUTSIDE in kinds
        if kinds <= {OUTSIDE}:
            return
        for kind in sorted(kinds - {OUTSIDE}):
            parts = split_tag(kind)
            shape = "no letter" if parts is None else "letter and type" if parts[1] else "letter only"
            if shape not in self._first:
                self._first[shape] = (kind, lines[list(tags).index(kind)] if lines else None)
        if "no letter" in self._first:
            return
        for encoding in _CANDIDATES:
            self._problems[encoding] += len(validate(tags, encoding))
            self._native[encoding] += native_letters(tags, encoding)

    def encoding(self) -> Optional[str]:
        """
        A name from `tag_schemes.ENCODINGS`, or `None` for tags that are no spans.

        Raises `ValueError` if some tags have a letter and a type ("B-PER") and others neither ("NOUN").
        """
        if "no letter" in self._first:
            if "letter and type" in self._first:
                found = " and ".join(self._seen(shape) for shape in ("letter and type", "no letter"))
                raise ValueError(
                    f"Found both {found}, from which the label encoding cannot be told. Expected span tags, "
                    f"or tags without such letters; or a label_encoding that is declared (null if the tags "
                    f"are no spans)."
                )
            return "BARE" if self._has_outside else None
        return min(
            _CANDIDATES,
            key=lambda name: (self._problems[name], -self._native[name], _CANDIDATES.index(name)),
        )

    def _seen(self, shape: str) -> str:
        tag, line = self._first[shape]
        return repr(tag) if line is None else f"{tag!r} (line {line})"


def detect_encoding(sequences: Iterable[Sequence[str]]) -> Optional[str]:
    """
    The encoding of these tag sequences, see `EncodingDetector`.

    # Returns

    `Optional[str]`
        A name from `tag_schemes.ENCODINGS`; `None` if the tags are no spans. Raises `ValueError` if it cannot
        be told.
    """
    detector = EncodingDetector()
    for tags in sequences:
        detector.add(tags)
    return detector.encoding()


__all__: List[str] = ["EncodingDetector", "detect_encoding"]
