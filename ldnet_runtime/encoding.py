"""
Encode sentences as the integer inputs of a tagger's graph.

Each input looks up a word once per batch. Encoders keep no state between calls, so threads can share them.
"""

from collections.abc import Callable, Sequence

import numpy
from numpy.typing import NDArray

from ldnet_runtime.errors import InputError
from ldnet_runtime.model_file import (
    Input,
    SentenceCharacterInput,
    TaggerDescription,
    WordCharacterInput,
    WordInput,
)

Arrays = dict[str, NDArray[numpy.int64]]
# Makes the arrays of one input: from the batch's unique words, and for each sentence the numbers of its words among
# these, (B, T), with -1 beyond its length; and the lengths, (B,).
_Encoder = Callable[[list[str], NDArray[numpy.int64], NDArray[numpy.int64]], Arrays]

_UNKNOWN = 1
_MAX_CHARACTERS = 2**22  # of a batch's unique words, with padding
_SPACE, _MARKER, _FIRST_CHARACTER = 0, 1, 2


class SentenceEncoder:
    """
    Encodes sentences as the inputs of a tagger's graph.

    # Parameters

    description : `TaggerDescription`
    """

    def __init__(self, description: TaggerDescription) -> None:
        self._end_token = description.end_token
        ids: dict[str, dict[str, int]] = {}
        for name, tokens in description.vocabularies.items():
            ids[name] = {token: number for number, token in enumerate(tokens) if number > 0}
        self._encoders = [_encoder(one, ids) for one in description.inputs]

    def encode(self, sentences: Sequence[Sequence[str]]) -> Arrays:
        """
        # Parameters

        sentences : `Sequence[Sequence[str]]`
            One or more sentences of at least one word each.

        # Returns

        `Arrays`
            Arrays by input name; `lengths` (B,) includes the end token, if any.
        """
        numbers: dict[str, int] = {}
        extra = () if self._end_token is None else (self._end_token,)
        of_sentences = [
            [numbers.setdefault(word, len(numbers)) for word in (*sentence, *extra)] for sentence in sentences
        ]
        lengths = numpy.array([len(sentence) for sentence in of_sentences], numpy.int64)
        places = numpy.full((len(sentences), int(lengths.max())), -1, numpy.int64)
        for row, sentence in enumerate(of_sentences):
            places[row, : len(sentence)] = sentence
        words = [_readable(word) for word in numbers]
        arrays: Arrays = {"lengths": lengths}
        for encoder in self._encoders:
            arrays.update(encoder(words, places, lengths))
        return arrays


def _readable(word: str) -> str:
    """The word as valid UTF-8: lone surrogates, which JSON allows, become "?"."""
    if word.isascii():
        return word
    return word.encode("utf-8", "replace").decode("utf-8")


def _encoder(one: Input, ids: dict[str, dict[str, int]]) -> _Encoder:
    if isinstance(one, WordInput):
        return _WordEncoder(one, ids[one.vocabulary])
    characters = _Characters(one, None if one.vocabulary is None else ids[one.vocabulary])
    if isinstance(one, WordCharacterInput):
        return _WordCharacterEncoder(one, characters)
    return _SentenceCharacterEncoder(one, characters)


class _WordEncoder:
    """Word ids."""

    def __init__(self, one: WordInput, ids: dict[str, int]) -> None:
        self._input = one
        self._ids = ids

    def __call__(
        self, words: list[str], places: NDArray[numpy.int64], lengths: NDArray[numpy.int64]
    ) -> Arrays:
        find = self._ids.get
        if self._input.lowercase:
            words = [word.lower() for word in words]
        # The last one, 0, is the target of position -1.
        found = numpy.array([*(find(word, _UNKNOWN) for word in words), 0], numpy.int64)[places]
        return {self._input.name: found}


class _Characters:
    """The ids of a word's characters."""

    def __init__(self, one: WordCharacterInput | SentenceCharacterInput, ids: dict[str, int] | None) -> None:
        self._lowercase = one.lowercase
        self._ids = ids
        self._start, self._end = list(one.start), list(one.end)

    def __call__(self, word: str) -> list[int]:
        if self._lowercase:
            word = word.lower()
        if self._ids is None:
            ids = [byte + 1 for byte in word.encode("utf-8")]
        else:
            find = self._ids.get
            ids = [find(character, _UNKNOWN) for character in word]
        return [*self._start, *ids, *self._end] if self._start or self._end else ids


class _WordCharacterEncoder:
    """The characters of the batch's unique words, one row each, after a row of padding."""

    def __init__(self, one: WordCharacterInput, characters: _Characters) -> None:
        self._input = one
        self._characters = characters

    def __call__(
        self, words: list[str], places: NDArray[numpy.int64], lengths: NDArray[numpy.int64]
    ) -> Arrays:
        ids = [[], *map(self._characters, words)]
        sizes = numpy.array([len(of_word) for of_word in ids], numpy.int64)
        width = max(int(sizes.max()), self._input.min_length)
        if len(words) * width > _MAX_CHARACTERS:
            raise InputError(
                f"{len(words):,} different words of up to {width:,} characters are too much for a batch; expected at "
                f"most {_MAX_CHARACTERS:,} characters, padding included."
            )
        rows = numpy.zeros((len(ids), width), numpy.int64)
        rows[numpy.arange(rows.shape[1]) < sizes[:, None]] = [number for of_word in ids for number in of_word]
        name = self._input.name
        return {name: rows, f"{name}_lengths": sizes, f"{name}_rows": places + 1}


class _SentenceCharacterEncoder:
    """Each sentence's words with a space after each and a marker at the end. Empty words are skipped."""

    def __init__(self, one: SentenceCharacterInput, characters: _Characters) -> None:
        self._input = one
        self._characters = characters

    def __call__(
        self, words: list[str], places: NDArray[numpy.int64], lengths: NDArray[numpy.int64]
    ) -> Arrays:
        codes = [[number + _FIRST_CHARACTER for number in self._characters(word)] for word in words]
        pieces = [[*of_word, _SPACE] if of_word else [] for of_word in codes]
        sizes = numpy.array([*(len(piece) for piece in pieces), 0], numpy.int64)[
            places
        ]  # (B, T), with the spaces
        rows = numpy.arange(len(lengths))
        last_is_end = self._input.end_position == "last_token"
        if last_is_end:
            sizes[rows, lengths - 1] = 0
        ends = sizes.cumsum(1)  # behind the space after each word
        string_lengths = ends[:, -1] + 1
        stream = numpy.full((len(lengths), int(string_lengths.max())), _MARKER, numpy.int64)
        for row, (of_sentence, length) in enumerate(zip(places.tolist(), (lengths - last_is_end).tolist())):
            string = [code for place in of_sentence[:length] for code in pieces[place]]
            stream[row, : len(string)] = string
        forward = numpy.where(sizes > 0, (ends - 1) * len(rows) + rows[:, None], -1)
        backward = numpy.where(sizes > 0, (ends - sizes) * len(rows) + rows[:, None], -1)
        if last_is_end:
            marker = (string_lengths - 1) * len(rows) + rows
            forward[rows, lengths - 1] = backward[rows, lengths - 1] = marker
        name = self._input.name
        return {
            name: stream,
            f"{name}_lengths": string_lengths,
            f"{name}_forward": forward,
            f"{name}_backward": backward,
        }
