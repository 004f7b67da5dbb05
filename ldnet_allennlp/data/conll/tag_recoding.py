"""What becomes of the tags of a corpus on their way into instances: checked, repaired, converted, counted."""

from typing import List, Optional, Sequence

from allennlp.common.checks import ConfigurationError

from ldnet_allennlp.common.lines import shown
from ldnet_allennlp.data.conll.tag_schemes import (
    OUTSIDE,
    UnreadableTag,
    canonical_encoding,
    convert,
    validate,
)

AUTO = "auto"
ON_INVALID_TAGS = ("repair", "keep", "error")
# "IO" and "BARE" are no targets: they would lose the border between neighbouring spans of one type.
TARGETS = ("BIO", "BIOUL", "IOB1", "BMES", "IOBES")


class RecodingOptions:
    """
    The options `label_encoding`, `target_label_encoding` and `on_invalid_tags` of the "conll_columns" reader,
    checked.

    Raises `ConfigurationError` for an unknown name and for options that exclude each other.
    """

    def __init__(
        self,
        label_encoding: Optional[str] = AUTO,
        target_label_encoding: Optional[str] = None,
        on_invalid_tags: str = "repair",
    ) -> None:
        if label_encoding not in (None, AUTO):
            label_encoding = _canonical("label_encoding", label_encoding)
        if target_label_encoding is not None:
            target_label_encoding = _canonical("target_label_encoding", target_label_encoding)
            if target_label_encoding not in TARGETS:
                raise ConfigurationError(
                    f"Found the target_label_encoding {target_label_encoding!r}, expected one of "
                    f"{', '.join(TARGETS)}, or null to keep the encoding of the file."
                )
            if label_encoding is None:
                raise ConfigurationError(
                    f"Found the target_label_encoding {target_label_encoding!r} with the label_encoding "
                    f"null, which says that the tags are no spans. Expected no target, or the encoding of "
                    f"the file (or 'auto')."
                )
        if on_invalid_tags not in ON_INVALID_TAGS:
            raise ConfigurationError(
                f"Found on_invalid_tags {on_invalid_tags!r}, expected one of {', '.join(ON_INVALID_TAGS)}."
            )
        if on_invalid_tags == "keep" and target_label_encoding is not None:
            raise ConfigurationError(
                f"Found on_invalid_tags 'keep' with the target_label_encoding {target_label_encoding!r}, "
                f"expected no target: ill-formed tags cannot both stay as they are and be converted."
            )
        self.label_encoding = label_encoding
        self.target_label_encoding = target_label_encoding
        self.on_invalid_tags = on_invalid_tags


class TagRecoder:
    """
    Checks and converts the tags of one file, and counts what was ill-formed.

    # Parameters

    path : `str`
        The file, for messages.
    source : `str`, optional
        The encoding of the file, `None` for tags that are no spans.
    options : `RecodingOptions`
        Which encoding to convert to, and what to do with ill-formed tags.
    """

    def __init__(self, path: str, source: Optional[str], options: RecodingOptions) -> None:
        if source is None and options.target_label_encoding is not None:
            raise ConfigurationError(
                f"{path}: found tags that are no spans, expected span tags that can be converted to the "
                f"target_label_encoding '{options.target_label_encoding}'. Declare label_encoding if they "
                f"are spans."
            )
        self.path = path
        self.source = source
        self.target = options.target_label_encoding or source
        self._on_invalid = options.on_invalid_tags
        self.num_ill_formed_tags = 0
        self.num_ill_formed_sentences = 0
        self.first_problem: Optional[str] = None
        self.has_spans = False  # whether any tag but "O" has been checked

    def check(self, tags: Sequence[str], lines: Sequence[int]) -> None:
        """
        Counts what is ill-formed in a sentence; `lines` are the line numbers of its tags.

        Raises `ConfigurationError` for an ill-formed sequence if `on_invalid_tags` is "error".
        """
        self.has_spans = self.has_spans or any(tag != OUTSIDE for tag in tags)
        problems = validate(tags, self.source) if self.source is not None else []
        if not problems:
            return
        self.num_ill_formed_tags += len(problems)
        self.num_ill_formed_sentences += 1
        first = problems[0]
        message = (
            f"line {lines[first.position]}: found the tag {shown(first.found)}, expected {first.expected}"
        )
        self.first_problem = self.first_problem or message
        if self._on_invalid == "error":
            raise ConfigurationError(
                f"{self.path}, {message}. The label encoding is {self.source}; on_invalid_tags 'repair' "
                f"reads such tags as conlleval does."
            )

    def recode(self, tags: Sequence[str], lines: Sequence[int]) -> List[str]:
        """
        The tags in the target encoding, ill-formed ones repaired unless `on_invalid_tags` is "keep".

        Raises `ConfigurationError` for a tag that is no span tag at all, unless it is "keep".
        """
        if self.source is None or self.target is None or self._on_invalid == "keep":
            return list(tags)
        try:
            return convert(tags, self.source, self.target)
        except UnreadableTag as error:
            raise ConfigurationError(
                f"{self.path}, line {lines[error.position]}: found the tag {shown(error.tag)}, expected 'O' "
                f"or a tag of the label encoding {self.source}. Is this the tag column, and the label "
                f"encoding that of the file (null for tags that are no spans)?"
            ) from error

    def report(self) -> str:
        """What happened to the tags, as a clause for the log; empty if nothing was ill-formed."""
        if not self.num_ill_formed_tags:
            return ""
        done = "kept" if self._on_invalid == "keep" else "read as conlleval does and rewritten"
        return (
            f"{self.num_ill_formed_tags} tags in {self.num_ill_formed_sentences} sentences are ill-formed "
            f"{self.source} and were {done} (the first: {self.first_problem})"
        )


def _canonical(option: str, name: str) -> str:
    try:
        return canonical_encoding(name)
    except ValueError as error:
        raise ConfigurationError(f"{option}: {error}") from error
