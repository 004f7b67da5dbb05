"""Validate, repair, convert and count tags."""

from collections.abc import Sequence
from dataclasses import dataclass

from allennlp.common.checks import ConfigurationError

from ldnet_allennlp.common.checks import check_choice
from ldnet_allennlp.common.lines import excerpt
from ldnet_allennlp.data.conll.partial_tags import (
    ALTERNATIVES,
    CONVERTIBLE,
    alternatives,
    convert_partial,
    is_partial,
    validate_partial,
)
from ldnet_allennlp.data.conll.tag_detection import BRACKETS, DetectedTags, EncodingDetector
from ldnet_allennlp.data.conll.tag_spelling import respell, unbracket
from ldnet_runtime.tag_schemes import (
    OUTSIDE,
    UnreadableTag,
    canonical_encoding,
    convert,
    spans_from_tags,
)

AUTO = "auto"
ON_INVALID_TAGS = ("repair", "keep", "error")
# "IO" and "BARE" are not targets, because they merge adjacent spans of one type.
TARGETS = ("BIO", "BIOUL", "IOB1", "BMES", "IOBES")

# With a declared encoding, this many ill-formed spans and this share of all spans indicate a wrong declaration.
_MANY_PROBLEMS, _MOST_SPANS = 3, 0.8
# Number of sentences with spans for detecting the actual encoding of such a file.
_DETECTED_SENTENCES = 500


@dataclass
class RecodingOptions:
    """
    The tag options of the readers, checked: see `TaggedSentenceReader`.

    Raises `ConfigurationError` for an unknown name and for incompatible options.
    """

    label_encoding: str | None = AUTO
    target_label_encoding: str | None = None
    on_invalid_tags: str = "repair"
    partial_label: str | None = None
    tag_map: dict[str, str] | None = None

    def __post_init__(self) -> None:
        if self.label_encoding not in (None, AUTO, BRACKETS):
            self.label_encoding = _canonical("label_encoding", self.label_encoding)
        target = self.target_label_encoding
        if target is not None:
            target = self.target_label_encoding = _canonical("target_label_encoding", target)
            if target not in TARGETS:
                raise ConfigurationError(
                    f"Found the target_label_encoding {target!r}, expected one of {', '.join(TARGETS)}, or null to "
                    f"keep the encoding of the file."
                )
            if self.label_encoding is None:
                raise ConfigurationError(
                    f"Found the target_label_encoding {target!r} with the label_encoding null (the tags are no spans). "
                    f"Expected no target, or the encoding of the file (or 'auto')."
                )
        check_choice(ON_INVALID_TAGS, "a reader of tagged sentences", on_invalid_tags=self.on_invalid_tags)
        if self.on_invalid_tags == "keep" and target is not None:
            raise ConfigurationError(
                f"Found on_invalid_tags 'keep' with the target_label_encoding {target!r}, expected no target: "
                f"ill-formed tags cannot both stay as they are and be converted."
            )
        if self.partial_label is not None and (not self.partial_label or ALTERNATIVES in self.partial_label):
            raise ConfigurationError(
                f"Found the partial_label {self.partial_label!r}, expected a tag without '{ALTERNATIVES}' such as '?'."
            )

    def rename(self, tags: Sequence[str]) -> list[str]:
        """The tags after `tag_map`."""
        tag_map = self.tag_map or {}
        return [tag_map.get(tag, tag) for tag in tags]


class TagRecoder:
    """Checks and converts the tags of one file, and counts ill-formed tags."""

    def __init__(self, path: str, detected: DetectedTags, options: RecodingOptions) -> None:
        if detected.encoding is None and options.target_label_encoding is not None:
            raise ConfigurationError(
                f"{path}: found tags without spans, expected span tags that can be converted to the "
                f"target_label_encoding '{options.target_label_encoding}'. Declare label_encoding if they "
                f"are spans."
            )
        self.path = path
        self.detected = detected
        self.source = "BIO" if detected.encoding == BRACKETS else detected.encoding
        self.target = options.target_label_encoding or self.source
        self.options = options
        self.num_ill_formed_tags = 0
        self.num_ill_formed_sentences = 0
        self.first_problem: str | None = None
        self.first_respelled: tuple[str, str] | None = None
        self.has_spans = False  # whether any tag but "O" has been checked
        self._num_spans = 0
        # Detects the encoding of a file with a declared encoding.
        is_declared = options.label_encoding not in (AUTO, None, BRACKETS)
        self._detector = EncodingDetector(options.partial_label) if is_declared else None
        self._num_judged = 0
        self._standard: dict[str, str] = {OUTSIDE: OUTSIDE, detected.outside: OUTSIDE}

    def check(self, tags: Sequence[str], lines: Sequence[int]) -> None:
        """
        Count the ill-formed tags of a sentence; `lines` are the line numbers of its tags.

        Raises `ConfigurationError` for an ill-formed sequence if `on_invalid_tags` is "error".
        """
        if self.source is None or all(tag == OUTSIDE for tag in tags):
            return
        standard = self._read(tags, lines)
        self.has_spans = self.has_spans or any(tag != OUTSIDE for tag in standard)
        self._judge(tags, standard)
        problems = validate_partial(standard, self.source, self.options.partial_label)
        if not problems:
            return
        self.num_ill_formed_tags += len(problems)
        self.num_ill_formed_sentences += 1
        first = problems[0]
        message = (
            f"line {lines[first.position]}: found the tag {excerpt(tags[first.position])}, expected "
            f"{first.expected}"
        )
        self.first_problem = self.first_problem or message
        if self.options.on_invalid_tags == "error":
            raise ConfigurationError(
                f"{self.path}, {message}. The label encoding is {self.source}; on_invalid_tags 'repair' "
                f"reads such tags as conlleval does."
            )

    def recode(self, tags: Sequence[str], lines: Sequence[int]) -> list[str]:
        """
        The tags in the target encoding, ill-formed ones repaired unless `on_invalid_tags` is "keep".

        Raises `ConfigurationError` for a tag that is not a span tag, unless `on_invalid_tags` is "keep", and for
        partial tags if the encodings differ and one of them is not in `CONVERTIBLE`.
        """
        if self.source is None or self.target is None or self.options.on_invalid_tags == "keep":
            return list(tags)
        standard = self._read(tags, lines)
        try:
            if not is_partial(tags, self.options.partial_label):
                return convert(standard, self.source, self.target)
            if self.source != self.target and not {self.source, self.target} <= set(CONVERTIBLE):
                raise ConfigurationError(
                    f"{self.path}, line {lines[0]}: found partial labels in the encoding {self.source}, which cannot "
                    f"be converted to {self.target}. Expected two of {', '.join(CONVERTIBLE)}, or no "
                    f"target_label_encoding. Declare the label_encoding if it is another."
                )
            return convert_partial(standard, self.source, self.target, self.options.partial_label or "")
        except UnreadableTag as error:
            raise self._unreadable(tags[error.position], lines[error.position]) from error

    def finish(self) -> None:
        """
        Check the totals; call this after the file's last sentence.

        Raises `ConfigurationError` if nearly all spans are ill-formed in the declared encoding.
        """
        many = max(_MANY_PROBLEMS, _MOST_SPANS * self._num_spans)
        if (
            self._detector is None
            or self.options.on_invalid_tags == "keep"
            or self.num_ill_formed_tags < many
        ):
            return
        try:
            looks_like = self._detector.detect().encoding
        except ValueError:
            looks_like = None
        if looks_like != self.source:
            raise ConfigurationError(
                f"{self.path}: found {self.num_ill_formed_tags} tags that are ill-formed {self.source} (the first: "
                f"{self.first_problem}) among {self._num_spans} spans, expected the declared label_encoding "
                f"{self.source}. The tags look like {looks_like or 'no span tags'}: declare that label_encoding "
                f"({'null' if looks_like is None else looks_like}), or 'auto'."
            )

    def report(self) -> str:
        """A clause for the log about the ill-formed tags; empty without any."""
        if not self.num_ill_formed_tags:
            return ""
        done = "kept" if self.options.on_invalid_tags == "keep" else "read as conlleval does and rewritten"
        return (
            f"{self.num_ill_formed_tags} tags in {self.num_ill_formed_sentences} sentences are ill-formed "
            f"{self.source} and were {done} (the first: {self.first_problem})"
        )

    def _read(self, tags: Sequence[str], lines: Sequence[int]) -> list[str]:
        """The tags in the standard spelling; tags without one stay as they are."""
        if self.detected.encoding == BRACKETS:
            try:
                return unbracket(tags)
            except UnreadableTag as error:
                raise self._unreadable(tags[error.position], lines[error.position]) from error
        standard = self._standard
        for tag in tags:
            if tag not in standard:
                standard[tag] = self._respell(tag)
                if standard[tag] != tag and self.first_respelled is None:
                    self.first_respelled = tag, standard[tag]
        return [standard[tag] for tag in tags]

    def _respell(self, tag: str) -> str:
        if self.source == "BARE":
            return OUTSIDE if tag == "o" else tag
        parts = alternatives(tag, self.options.partial_label)
        return ALTERNATIVES.join(respell(part, self.detected.spelling) or part for part in parts) or tag

    def _judge(self, tags: Sequence[str], standard: Sequence[str]) -> None:
        """Count the spans of a file with a declared encoding, and add the first ones to the detector."""
        if self._detector is None or self.source is None:
            return
        try:
            full = [OUTSIDE if is_partial([tag], self.options.partial_label) else tag for tag in standard]
            self._num_spans += len(spans_from_tags(full, self.source))
        except UnreadableTag:
            return
        if self._num_judged < _DETECTED_SENTENCES:
            self._num_judged += 1
            self._detector.add(tags)

    def _unreadable(self, tag: str, line: int) -> ConfigurationError:
        hint = ""
        if tag in ("-", "_"):
            hint = f' Set partial_label: "{tag}" if the label is unknown, or tag_map: {{"{tag}": "O"}}.'
        elif self.detected.encoding == BRACKETS:
            hint = " Brackets must be balanced and not nested."
        return ConfigurationError(
            f"{self.path}, line {line}: found the tag {excerpt(tag)}, expected 'O' or a tag of the label encoding "
            f"{self.detected.encoding}. Is this the tag column, and the label encoding that of the file (null for "
            f"tags that are no spans)?{hint}"
        )


def _canonical(option: str, name: str) -> str:
    try:
        return canonical_encoding(name)
    except ValueError as error:
        raise ConfigurationError(f"{option}: {error}") from error
