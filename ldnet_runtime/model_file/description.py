"""Description of a tagger besides its graph: vocabularies, inputs, labels and transition scores."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy
from numpy.typing import NDArray

from ldnet_runtime.decoding.chunks import CHUNK_ENCODINGS, num_chunk_scores
from ldnet_runtime.errors import ModelFileError
from ldnet_runtime.tag_schemes import canonical_encoding
from ldnet_runtime.text import MODES

LENGTHS, EMISSIONS = "lengths", "emissions"
TIE_OR_BREAK = "tie_or_break"
DECODERS = ("crf", "softmax", TIE_OR_BREAK)


@dataclass(frozen=True)
class WordInput:
    """Word ids, (B, T): the words of a vocabulary."""

    kind: ClassVar[str] = "words"

    name: str
    vocabulary: str
    lowercase: bool = False

    @property
    def tensors(self) -> list[str]:
        """The graph inputs of this one."""
        return [self.name]


@dataclass(frozen=True)
class WordCharacterInput:
    """
    Characters of single words, for the unique words of a batch: `NAME` (U, C), their numbers `NAME_lengths` (U,), and
    the row of each word, `NAME_rows` (B, T). Row 0 is padding. Without a vocabulary, ids are UTF-8 bytes plus 1.
    """

    kind: ClassVar[str] = "word_characters"

    name: str
    vocabulary: str | None
    lowercase: bool = False
    start: tuple[int, ...] = ()
    end: tuple[int, ...] = ()
    min_length: int = 1

    @property
    def tensors(self) -> list[str]:
        """The graph inputs of this one."""
        return [self.name, f"{self.name}_lengths", f"{self.name}_rows"]


@dataclass(frozen=True)
class SentenceCharacterInput:
    """
    Characters of whole sentences: `NAME` (B, S) with a space (0) after each word, a marker (1) at the end, and other
    ids plus 2; `NAME_lengths` (B,); and the read position of each word, `NAME_forward` and `NAME_backward` (B, T), as
    position * B + row, or -1 for none.
    """

    kind: ClassVar[str] = "sentence_characters"

    name: str
    vocabulary: str | None
    lowercase: bool = False
    start: tuple[int, ...] = ()
    end: tuple[int, ...] = ()
    end_position: str | None = None

    @property
    def tensors(self) -> list[str]:
        """The graph inputs of this one."""
        return [self.name, *(f"{self.name}_{part}" for part in ("lengths", "forward", "backward"))]


Input = WordInput | WordCharacterInput | SentenceCharacterInput


@dataclass(frozen=True)
class TaggerDescription:
    """
    Description of a tagger besides its graph.

    # Parameters

    vocabularies : `Mapping[str, Sequence[str]]`
        Tokens in the order of their ids: padding (0), which is never looked up, the unknown token (1), and the rest.
    inputs : `Sequence[Input]`
        The graph's inputs, except `lengths`.
    labels : `Sequence[str]`
        The N labels in the order of their ids.
    label_encoding : `str`, optional
        The span encoding of the labels, see `tag_schemes`; `None` for labels without spans.
    transitions, start, end : `NDArray`
        (N, N), from the row's label to the column's, (N,) and (N,): scores, without the constraints.
    allowed : `NDArray`, optional
        (N + 2, N + 2), boolean: the allowed transitions in decoding; N is the start and N + 1 the end.
    end_token : `str`, optional
        A token that the graph expects at the end of each sentence.
    boundary_tags : `tuple[int, int]`, optional
        The labels before and after a sentence, which are not part of spans. Requires an `end_token`.
    decoder : `str`
        "crf", "softmax" with transition scores of 0, or "tie_or_break", see `decoding.chunks`, which has none.
    mode, language : `str`
        Options for splitting text, see `text.split_text`.
    provenance : `Mapping[str, str]`
        The origin of the tagger, for information.

    Raises `ModelFileError` if the parts are inconsistent.
    """

    vocabularies: Mapping[str, Sequence[str]]
    inputs: Sequence[Input]
    labels: Sequence[str]
    label_encoding: str | None
    transitions: NDArray[numpy.float32]
    start: NDArray[numpy.float32]
    end: NDArray[numpy.float32]
    allowed: NDArray[numpy.bool_] | None = None
    end_token: str | None = None
    boundary_tags: tuple[int, int] | None = None
    decoder: str = "crf"
    mode: str = "auto"
    language: str = "en"
    provenance: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._check_labels()
        self._check_scores()
        _check_vocabularies(self.vocabularies)
        for one in self.inputs:
            _check_input(one, self.vocabularies)
        tensors = self.tensors
        expect(
            len(set(tensors)) == len(tensors), f"the names of the graph's inputs are not unique: {tensors}"
        )
        expect(bool(self.inputs), "the tagger has no input")
        expect(
            self.mode in MODES, f"the tokenizer's mode is {self.mode!r}; expected one of {', '.join(MODES)}"
        )
        # It is part of the name of the module that spaCy imports.
        is_code = re.fullmatch(r"[a-z]{2,3}", self.language)
        expect(is_code is not None, f"the language is {self.language!r}; expected two or three letters")

    @property
    def tensors(self) -> list[str]:
        """The names of all inputs of the graph."""
        return [LENGTHS, *(name for one in self.inputs for name in one.tensors)]

    @property
    def num_scores(self) -> int:
        """The number of scores of a word."""
        return num_chunk_scores(self.labels) if self.decoder == TIE_OR_BREAK else len(self.labels)

    def _check_labels(self) -> None:
        size = len(self.labels)
        expect(0 < size == len(set(self.labels)), "the labels are missing or not unique")
        for label in self.labels:
            is_line = len(f"{label}.".splitlines()) == 1 and "\t" not in label
            expect(is_line, f"the label {label!r} has a line end or a TAB")
        expect(
            self.decoder in DECODERS,
            f"the decoder is {self.decoder!r}; expected one of {', '.join(DECODERS)}",
        )
        if self.label_encoding is not None:
            try:
                canonical_encoding(self.label_encoding)
            except ValueError as error:
                raise ModelFileError(str(error)) from error
        if self.decoder == TIE_OR_BREAK:
            expect(
                canonical_encoding(self.label_encoding or "BARE") in CHUNK_ENCODINGS
                and self.end_token is None,
                f"the decoder {TIE_OR_BREAK!r} needs a label_encoding of {', '.join(CHUNK_ENCODINGS)} and no end_token",
            )
        if self.boundary_tags is not None:
            inside = len(self.boundary_tags) == 2 and all(0 <= tag < size for tag in self.boundary_tags)
            expect(inside, f"the boundary tags are {self.boundary_tags}; expected two ids below {size}")
            expect(self.end_token is not None, "there are boundary tags but no end_token")

    def _check_scores(self) -> None:
        size = len(self.labels)
        for name, shape in (("transitions", (size, size)), ("start", (size,)), ("end", (size,))):
            array = getattr(self, name)
            expect(
                array.shape == shape,
                f"{name} has the shape {array.shape}; expected {shape} for {size} labels",
            )
            expect(bool(numpy.isfinite(array).all()), f"{name} has numbers that are not finite")
        if self.allowed is not None:
            shape = size + 2, size + 2
            expect(
                self.allowed.shape == shape, f"allowed has the shape {self.allowed.shape}; expected {shape}"
            )


def _check_vocabularies(vocabularies: Mapping[str, Sequence[str]]) -> None:
    for name, tokens in vocabularies.items():
        expect(len(tokens) >= 2, f"the vocabulary {name!r} lacks a padding and an unknown token")
        expect(len(set(tokens)) == len(tokens), f"the vocabulary {name!r} has a token twice")


def _check_input(one: Input, vocabularies: Mapping[str, Sequence[str]]) -> None:
    where = f"the input {one.name!r}"
    if one.vocabulary is not None:
        expect(
            one.vocabulary in vocabularies, f"{where} has the vocabulary {one.vocabulary!r}, which is missing"
        )
    if isinstance(one, WordInput):
        return
    size = 257 if one.vocabulary is None else len(vocabularies[one.vocabulary])
    expect(
        all(0 < tag < size for tag in (*one.start, *one.end)),
        f"{where} has start or end ids outside of its ids",
    )
    if isinstance(one, WordCharacterInput):
        expect(
            1 <= one.min_length <= 1000, f"{where} has the min_length {one.min_length}; expected 1 to 1000"
        )
    else:
        known = one.end_position in (None, "last_token")
        expect(known, f"{where} has the end_position {one.end_position!r}; expected null or 'last_token'")


def expect(condition: bool, message: str) -> None:
    """Raise `ModelFileError` unless the condition holds."""
    if not condition:
        raise ModelFileError(message)
