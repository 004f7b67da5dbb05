"""
Convert the original's encoded datasets (`ner_dataset.pk`) to CoNLL files.

The datasets contain numbers only. Each word is restored from the language models' maps, which keep its case, or else
from its lower-cased form and its characters. Unknown characters become U+FFFD and are counted.
"""

import os
from collections.abc import Iterator
from typing import Any, NamedTuple

from allennlp.common.checks import ConfigurationError

from ldnet_allennlp.common.files import atomic_write, check_output
from ldnet_allennlp.convert.original_files import (
    END_TAG,
    START_TAG,
    TAGGER_MAPS,
    UNKNOWN,
    numbered,
    read_maps,
)

_SPLITS = ("train", "dev", "test")
_LOST = "\ufffd"


class _Inverse(NamedTuple):
    """The entries of each map of the dataset, in the order of their numbers."""

    forward: list[str]
    backward: list[str]
    words: list[str]
    characters: list[str]
    tags: list[str]


def write_dataset(source: str, output: str, force: bool = False) -> list[str]:
    """
    Write `train.conll`, `dev.conll` and `test.conll` to the folder `output`: one word and its tag per line, an empty
    line after each sentence.

    Returns the lines of a report. Raises `ConfigurationError`, and writes nothing, if the pickle contains anything
    else, or if a file exists and `force` is false.
    """
    targets = {split: os.path.join(output, f"{split}.conll") for split in _SPLITS}
    if not output or (os.path.lexists(output) and not os.path.isdir(output)):
        raise ConfigurationError(f"A dataset is written to a folder, but '{output}' is not a folder.")
    for path in targets.values():
        check_output(path, force)
    names = [*TAGGER_MAPS, *(f"{split}_data" for split in _SPLITS)]
    data = read_maps(source, names)
    inverse = _Inverse(*(list(numbered(data[name], f"'{source}': {name}")) for name in TAGGER_MAPS))
    texts: dict[str, str] = {}
    report = []
    for split in _SPLITS:
        sentences = list(_sentences(data[f"{split}_data"], inverse, f"{split}_data of '{source}'"))
        texts[split] = "".join(
            "".join(f"{word} {tag}\n" for word, tag in sentence) + "\n" for sentence in sentences
        )
        words = [word for sentence in sentences for word, _ in sentence]
        lost = sum(_LOST in word for word in words)
        report.append(
            f"{targets[split]}: {len(sentences)} sentences, {len(words)} words"
            + (f", of which {lost} could not be recovered in full" if lost else "")
            + "."
        )
    for split, text in texts.items():
        with atomic_write(targets[split]) as file:
            file.write(text)
    return report


def _sentences(data: Any, inverse: _Inverse, where: str) -> Iterator[list[tuple[str, str]]]:
    if not isinstance(data, list):
        raise ConfigurationError(
            f"{where} was expected to be a list of sentences, but it is a {type(data).__name__}."
        )
    for number, sentence in enumerate(data):
        if (
            not isinstance(sentence, list)
            or len(sentence) != 5
            or not all(isinstance(part, list) and len(part) == len(sentence[0]) for part in sentence)
        ):
            raise ConfigurationError(
                f"{where}: sentence {number} was expected to be five lists of one length (both language models' "
                f"words, words, characters, tags), but it is not."
            )
        try:
            rows = [_row(columns, inverse) for columns in zip(*sentence)]
        except (IndexError, TypeError) as error:
            raise ConfigurationError(
                f"{where}: sentence {number} has a number that is not in the maps: {error}."
            ) from error
        if any(tag in (START_TAG, END_TAG) for _, tag in rows):
            raise ConfigurationError(
                f"{where}: a word of sentence {number} has the tag of a sentence boundary."
            )
        if any(not word or word.split() != [word] for word, _ in rows):
            raise ConfigurationError(
                f"{where}: sentence {number} has a word with white space in it, or an empty one."
            )
        yield rows


def _row(columns: tuple[Any, ...], inverse: _Inverse) -> tuple[str, str]:
    forward, backward, word, characters, tag = columns
    if min(forward, backward, word, tag, *characters) < 0:
        raise IndexError("a number is below 0")
    spelling = [inverse.characters[number] for number in characters]
    for cased in (inverse.forward[forward], inverse.backward[backward]):
        if cased != UNKNOWN:
            return cased, inverse.tags[tag]
    lower = inverse.words[word]
    if lower == UNKNOWN or len(lower) != len(spelling):
        return "".join(_LOST if letter == UNKNOWN else letter for letter in spelling), inverse.tags[tag]
    alphabet = set(inverse.characters)
    letters = [_character(letter, small, alphabet) for letter, small in zip(spelling, lower)]
    return "".join(letters), inverse.tags[tag]


def _character(letter: str, small: str, alphabet: set[str]) -> str:
    """One character, from its entry in the character map and the lower-cased word."""
    if letter != UNKNOWN:
        return letter
    # If the map has the lower-case letter, an unknown character must be the upper-case one.
    return small.upper() if small in alphabet and len(small.upper()) == 1 else small
