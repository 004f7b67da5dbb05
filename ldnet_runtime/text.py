"""
Split plain text into sentences and words, with offsets.

Words follow spaCy's rules for a language, and sentences the rules below, without a statistical model or downloads.
spaCy is imported for the first raw text; tokenized text does not need it.
"""

import functools
import logging
import os
import re
import threading
import unicodedata
from collections.abc import Iterator
from typing import Any, NamedTuple

from ldnet_runtime.errors import InputError
from ldnet_runtime.graphemes import JOINING, join_graphemes

logger = logging.getLogger(__name__)

MODES = ("auto", "rule_based", "whitespace")

# spaCy stores every word that it reads. Beyond this number, its tokenizer is rebuilt.
_MOST_WORDS = 500_000
# Maximum number of quotes and brackets to check around the end of a sentence.
_MOST_MARKS = 6
# For longer pieces without a blank, only their ends are checked.
_LONGEST_PIECE = 1000
_RUN = re.compile(r"\S{50,}")
_LONG = re.compile(r"[^\w\s]{50}|\S{1000}")

_TERMINALS = ".!?\u2026\u203d\u3002\uff01\uff1f\uff61\u061f\u06d4\u0964\u0965"
_WIDE_TERMINALS = "\u3002\uff01\uff1f\uff61"  # no blank follows these
_CLOSERS = "\"'\u201d\u2019\u00bb\u203a)]}\u300d\u300f\uff09*_"
_OPENERS = "\"'\u201c\u2018\u00ab\u2039\u201e([{\u300c\u300e\uff08\u00bf\u00a1*_"
# Abbreviations before a name, which do not end a sentence ...
_TITLE_LIST = """mr mrs ms messrs mx dr prof sen rep gov gen st ste rev lt col capt cpt maj sgt cpl adm cmdr pres hon
    supt insp fr mme mlle mm hr fru herr sr sra srta vs cf e.g i.e z.b d.h p.ex v"""
_TITLES = frozenset(_TITLE_LIST.split())
# ... and before a number.
_NUMBERED_LIST = "no nos nr art fig figs p pp vol vols ch sec par eq tab ca approx op sect"
_BEFORE_NUMBERS = frozenset(_NUMBERED_LIST.split())

# White space to a tokenizer, though Unicode counts them as format characters: zero-width space, directional marks, word
# joiner, BOM.
_BLANKS = dict.fromkeys(
    [0x200B, 0x200E, 0x200F, *range(0x202A, 0x202F), 0x2060, *range(0x2066, 0x206A), 0xFEFF], " "
)
_SHADOW = {0x0D: "\n", 0x85: "\n", 0x2028: "\n", 0x0B: "\n", **_BLANKS}
_SURROGATE = re.compile("[\ud800-\udfff]")

_PARAGRAPH = re.compile(
    r"\n[^\S\n]*(?=\n)|[\f\u2029]"  # an empty line
    r"|\n(?=[^\S\n]*(?:[-*\u2022\u2023\u25aa\u25cf]|(\d{1,3})[.)])[^\S\n])"  # an item of a list
)
_LINE = re.compile(r"[^\r\n]+")
_ASCII_WORD = re.compile(r"[^ \t\n\r\f\v]+")

_FREE_MARKS = frozenset([".", ",", ";", "(", ")", '"', "''", "``", "-LRB-", "-RRB-"])
_GLUED = re.compile(
    r".*\w[\"'\u201d\u2019\u00bb)\]}]*[,;:!?\u2026\u3002\uff0c\uff01\uff1f]+[\"'\u201d\u2019\u00bb)\]}]*"  # deal,"
    r"|.*\w[\"\u201d\u00bb)\]}]+[.,;:!?]*|[(\[{\"\u201c\u00ab\u201e]+\w.*|.*[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff]{8}.*",
    re.DOTALL,
)
_LAST = re.compile(r"[^\W_][\w'\u2019-]*\.")  # a word and a full stop, no other one
_STOP = re.compile(r".*[\w%]\.", re.DOTALL)
_INITIALS = re.compile(r"(?:[^\W\d_]\.)+")
_CLITIC = re.compile(r"\w+(?:n['\u2019]t|['\u2019](?:s|re|ve|ll|m|d))", re.IGNORECASE)


_reported: set[str] = set()  # the modes that "auto" has become in this process


class TextError(InputError):
    """Splitting failed: unknown mode or language, or spaCy is missing."""


class Sentence(NamedTuple):
    """The words of a sentence: word i is `text[starts[i]:ends[i]]`, in code points of the text."""

    words: list[str]
    starts: list[int]
    ends: list[int]


def split_text(text: str, language: str = "en", mode: str = "auto") -> list[Sentence]:
    """
    The sentences of a text; each has at least one word.

    # Parameters

    text : `str`
        The text. Blank lines separate paragraphs, and other line ends count as blanks (except in "whitespace").
    language : `str`, optional (default = `"en"`)
        The code of a spaCy language; "xx" for language-independent rules.
    mode : `str`, optional (default = `"auto"`)
        "rule_based"; "whitespace": each line is a sentence, ASCII white space separates its words; or "auto":
        "whitespace" if the text looks tokenized, else "rule_based". The log reports the first text of each kind.

    Raises `TextError` for an unknown mode or language, and if spaCy is missing.
    """
    resolved = resolve_mode(text, mode)
    if mode == "auto" and resolved not in _reported:
        _reported.add(resolved)
        outcome = "is split by rules" if resolved == "rule_based" else "is taken as tokenized"
        logger.info('Tokenizer mode "auto": text such as %r %s ("mode": "%s").', text[:60], outcome, resolved)
    if resolved == "whitespace":
        lines = (_spans(_ASCII_WORD, text, line.start(), line.end()) for line in _LINE.finditer(text))
        return [_sentence(text, line) for line in lines if line]
    shadow = _SURROGATE.sub("\ufffd", text.replace("\r\n", " \n").translate(_SHADOW))
    return [_sentence(text, words) for words in _Rules.of(language).sentences(shadow)]


def resolve_mode(text: str, mode: str) -> str:
    """The mode for a text: "auto" becomes "whitespace" or "rule_based". Raises `TextError` for an unknown mode."""
    if mode not in MODES:
        raise TextError(f"Found the tokenizer mode {mode!r}, expected one of {', '.join(MODES)}.")
    if mode == "auto":
        return "whitespace" if looks_tokenized(text) else "rule_based"
    return mode


def looks_tokenized(text: str) -> bool:
    """
    Return whether more punctuation is separated from words (as in the Penn Treebank) than attached to them. Text
    without punctuation is tokenized, unless it has clitics, words with a full stop, or blanks that are not ASCII.
    """
    free = glued = signs = 0
    for line in _LINE.finditer(text):
        chunks = [  # \w matches no combining mark; long runs of them take quadratic time
            unicodedata.normalize("NFC", chunk if len(chunk) < _LONGEST_PIECE else chunk[:100] + chunk[-100:])
            for chunk in line[0].split()
        ]
        free += sum(chunk in _FREE_MARKS for chunk in chunks)
        glued += sum(_GLUED.fullmatch(chunk) is not None for chunk in chunks)
        glued += bool(chunks) and _LAST.fullmatch(chunks[-1]) is not None
        glued += sum(
            _LAST.fullmatch(chunk) is not None and len(chunk) > 4 and follower[0].isupper()
            for chunk, follower in zip(chunks, chunks[1:], strict=False)
            if chunk[:-1].lower() not in _TITLES
        )
        signs += sum(_CLITIC.fullmatch(chunk) is not None for chunk in chunks)
        signs += sum(
            _STOP.fullmatch(chunk) is not None and _INITIALS.fullmatch(chunk) is None
            for chunk in chunks
            if chunk[:-1].lower() not in _TITLES
        )
    if free or glued:
        return free > glued
    return not signs and text.translate(_BLANKS).split() == _ASCII_WORD.findall(text)


def _sentence(text: str, words: list[tuple[int, int]]) -> Sentence:
    return Sentence(
        [text[start:end] for start, end in words], [start for start, _ in words], [end for _, end in words]
    )


def _spans(pattern: re.Pattern[str], text: str, start: int, end: int) -> list[tuple[int, int]]:
    return [match.span() for match in pattern.finditer(text, start, end)]


class _Rules:
    """spaCy's tokenizer of a language, for one process, and the rules for sentences."""

    def __init__(self, language: str) -> None:
        self._language = language
        self._lock = threading.Lock()  # spaCy's tokenizer writes to its caches
        self._nlp = _blank(language)
        self._stop_words: set[str] = self._nlp.Defaults.stop_words

    @staticmethod
    def of(language: str) -> "_Rules":
        """
        The tokenizer of this process. A forked process gets a new one, because another thread may have held the lock.
        """
        return _cached_rules(language, os.getpid())

    def sentences(self, text: str) -> Iterator[list[tuple[int, int]]]:
        """Starts and ends of the words of each sentence. `text` is a copy of equal length, see `_SHADOW`."""
        first = 0
        for end in [*_paragraph_ends(text), len(text)]:
            words = self._words(text, first, end)
            first = end
            start = 0
            for position in range(1, len(words)):
                is_item = position == start + 2 and text[slice(*words[start])].isdigit()
                if not is_item and self._begins_sentence(text, words, position):
                    yield words[start:position]
                    start = position
            if words:
                yield words[start:]

    def _words(self, text: str, start: int, end: int) -> list[tuple[int, int]]:
        paragraph = text[start:end]
        if paragraph.isspace() or not paragraph:
            return []
        words = []
        with self._lock:
            for first, last in _pieces(text, start, end):
                places = self._nlp.tokenizer(text[first:last]).to_array(["IDX", "LENGTH"]).tolist()
                words += [(first + place, first + place + length) for place, length in places]
            if len(self._nlp.vocab.strings) > _MOST_WORDS:
                self._nlp = _blank(self._language)
        words = [(first, last) for first, last in words if not text[first:last].isspace()]
        return join_graphemes(text, words) if JOINING.search(paragraph) else words

    def _begins_sentence(self, text: str, words: list[tuple[int, int]], position: int) -> bool:
        """Return whether a sentence ends before the word at `position`."""
        last = position - 1
        while (
            last > max(0, position - _MOST_MARKS)
            and _is_all(text, words[last], _CLOSERS)
            and words[last - 1][1] == words[last][0]
        ):
            last -= 1  # a closing quote or bracket
        start, end = words[last]
        following = text[words[position][0]]
        if text[end - 1] in _WIDE_TERMINALS:
            return following not in _CLOSERS + _TERMINALS
        if text[end - 1] not in _TERMINALS or words[position - 1][1] == words[position][0]:
            return False
        name = _next_word(text, words, position)
        if name[:1].islower() or following in ",;:)]}":
            return False
        if not _is_all(text, (start, end), _TERMINALS):  # "Inc.", "U.S."
            abbreviation = text[start : end - 1].lower()
            is_title = abbreviation in _TITLES or len(abbreviation) == 1 or text[end - 1] != "."
            return not is_title and name.lower() in self._stop_words
        if text[start:end] != "." or last == 0 or words[last - 1][1] != start:
            return True
        before = text[slice(*words[last - 1])].lower()
        return before not in _TITLES and not (before in _BEFORE_NUMBERS and _is_amount(name))


@functools.lru_cache(maxsize=8)
def _cached_rules(language: str, process: int) -> _Rules:
    return _Rules(language)


def _blank(language: str) -> Any:
    """spaCy's empty pipeline of a language."""
    try:
        import spacy  # takes a second, and is an extra
    except ImportError as error:
        raise TextError(
            "Raw text needs spaCy to be split into words, which is not installed: "
            "pip install 'ldnet-runtime[text]' (or give tokens, or text with a blank between all words and marks "
            'and the mode "whitespace").'
        ) from error
    try:
        return spacy.blank(language)
    except ImportError as error:
        unknown = "E048" in str(error)
        reason = "it is not a spaCy language" if unknown else " ".join(str(error).split())
        raise TextError(f"The language {language!r} cannot be split into words: {reason}.") from error


def _pieces(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Parts of a paragraph that spaCy splits in linear time, by cutting long runs of marks and very long words."""
    for run in _RUN.finditer(text, start, end):
        for part in _LONG.finditer(text, run.start(), run.end()):
            if part.end() < end:
                yield start, part.end()
                start = part.end()
    yield start, end


def _paragraph_ends(text: str) -> Iterator[int]:
    """The ends of paragraphs and list items; numbered items only if they count up from 1."""
    number = 1
    for match in _PARAGRAPH.finditer(text):
        if match[1] is None:
            yield match.end()
        elif int(match[1]) in (1, number):
            number = int(match[1]) + 1
            yield match.end()


def _is_all(text: str, word: tuple[int, int], characters: str) -> bool:
    return all(character in characters for character in text[word[0] : word[1]])


def _is_amount(name: str) -> bool:
    return name[:1].isdigit() or unicodedata.category(name[:1] or " ") == "Sc"


def _next_word(text: str, words: list[tuple[int, int]], position: int) -> str:
    """The word at `position`, or after opening quotes and brackets at it."""
    end = min(position + _MOST_MARKS, len(words) - 1)
    while position < end and _is_all(text, words[position], _OPENERS):
        position += 1
    return text[slice(*words[position])].lstrip(_OPENERS)
