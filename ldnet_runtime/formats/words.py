"""Words of an input: a text, a list of words, or an object with either."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ldnet_runtime.errors import InputError
from ldnet_runtime.text import split_text

_EXPECTED = (
    'expected a text, a list of words, or an object with "sentence" or "text" (a text) '
    'or "tokens" (a list of words)'
)


class Words(NamedTuple):
    """
    The sentences of an input and, if it has a text, the start and end offsets of their words, sentence by sentence.
    """

    sentences: list[list[str]]
    text: str | None = None
    offsets: tuple[list[int], list[int]] | None = None


def num_words(words: Words) -> int:
    """The number of words of an input."""
    return sum(map(len, words.sentences))


def words_of(value: Any, mode: str = "auto", language: str = "en") -> Words:
    """
    # Parameters

    value : `Any`
        A text, a list of words (strings, numbers or `{"text": "word"}`), or `{"sentence": text}`, `{"text": text}` or
        `{"tokens": words}`; words with a "text" beside them have their "start" and "end", or else the next places
        in the text at which they are, as offsets. Or a result of this function.
    mode, language : `str`
        Options for splitting texts, see `split_text`.

    Raises `InputError` for any other input, and for words that the text does not have, at their offsets or in order.
    """
    if isinstance(value, Words):
        return value
    if isinstance(value, str):
        return _of_text(value, mode, language)
    if isinstance(value, Mapping):
        if value.get("tokens") is not None:
            return _of_tokens(value["tokens"], value.get("text"))
        for name in ("sentence", "text"):
            if name in value:
                if not isinstance(value[name], str):
                    raise InputError(f"its {name!r} is {_shown(value[name])}; {_EXPECTED}.")
                return _of_text(value[name], mode, language)
        if "tokens" not in value:
            raise InputError(f"it has the entries {', '.join(map(str, value)) or 'none'}; {_EXPECTED}.")
        value = None
    return _of_tokens(value, None)


def _of_text(text: str, mode: str, language: str) -> Words:
    sentences = split_text(text, language=language, mode=mode)
    starts = [start for sentence in sentences for start in sentence.starts]
    ends = [end for sentence in sentences for end in sentence.ends]
    return Words([list(sentence.words) for sentence in sentences], text, (starts, ends))


def _of_tokens(tokens: Any, text: Any) -> Words:
    if not isinstance(tokens, Sequence) or isinstance(tokens, (str, bytes)):
        raise InputError(f"the words are {_shown(tokens)}; {_EXPECTED}.")
    words = [_word(token, number) for number, token in enumerate(tokens)]
    if not isinstance(text, str):
        return Words([words])
    if all(isinstance(token, Mapping) for token in tokens):
        starts, ends = ([token.get(name) for token in tokens] for name in ("start", "end"))
        if all(type(place) is int for place in (*starts, *ends)):
            for word, start, end in zip(words, starts, ends):
                if start < 0 or end - start != len(word) or text[start:end] != word:
                    raise InputError(
                        "the words' start and end (in code points) do not match the text: found "
                        f"{_shown(text[max(start, 0) : max(end, 0)])} at {start} to {end}, expected {_shown(word)}."
                    )
            if all(end <= start for end, start in zip(ends, starts[1:])):
                return Words([words], text, (starts, ends))
    places = _places(words, text)
    return Words([words], text, (places, [start + len(word) for start, word in zip(places, words)]))


def _places(words: list[str], text: str) -> list[int]:
    """The start of each word in the text, from left to right."""
    places, position = [], 0
    for word in words:
        start = text.find(word, position)
        if start < 0:
            raise InputError(
                f"the text does not have the word {_shown(word)} after {_shown(text[:position][-20:])}; leave out the "
                f"text or the tokens."
            )
        places.append(start)
        position = start + len(word)
    return places


def _word(token: Any, number: int) -> str:
    if isinstance(token, str):
        return token
    if isinstance(token, Mapping) and isinstance(token.get("text"), str):
        return str(token["text"])
    if isinstance(token, (int, float)) and not isinstance(token, bool):
        return str(token)
    raise InputError(f"word {number + 1} is {_shown(token)}; expected a string.")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
