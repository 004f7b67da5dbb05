"""Dictionaries of typed surfaces and of phrases of unknown type, and their matches in sentences."""

import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import ahocorasick
from allennlp.common.checks import ConfigurationError
from spacy.util import get_lang_class

from ldnet_allennlp.common.lines import excerpt, text_lines
from ldnet_allennlp.data.rule_based_tokenizer import RuleBasedTokenizer

# Types with proper names as surfaces, which are other words in lower case.
PROPER_NAMES = frozenset({"PER", "ORG", "LOC", "PERSON", "ORGANIZATION", "LOCATION", "GPE"})
_LONGEST_ABBREVIATION = 5


class Entry(NamedTuple):
    """A surface and its types; none for a phrase of unknown type."""

    surface: str
    types: frozenset[str]


class Match(NamedTuple):
    """The match of an entry: the words [start, end) of a sentence."""

    start: int
    end: int
    entry: Entry


def read_dictionary(path: str) -> list[Entry]:
    """
    Read a file of lines `TYPE<TAB>surface`; several types are separated by commas, as in AutoNER's core dictionaries.
    Repeated surfaces get all their types.

    Raises `ConfigurationError` with file and line for any other line.
    """
    types: dict[str, set[str]] = {}
    for number, line in text_lines(path):
        if not line.strip():
            continue
        names, tab, surface = line.partition("\t")
        kinds = {name.strip() for name in names.split(",")}
        if (
            not tab
            or not surface.strip()
            or "\t" in surface.strip()
            or "?" in kinds
            or not all(kinds)
            or any(c.isspace() or c == "|" for kind in kinds for c in kind)
        ):
            raise ConfigurationError(
                f"{path}, line {number}: found {excerpt(line)}, expected a type, a tab and a surface, such as "
                f"'Disease<TAB>renal failure'."
            )
        types.setdefault(_canonical(surface), set()).update(kinds)
    return [Entry(surface, frozenset(kinds)) for surface, kinds in types.items()]


def read_phrases(path: str) -> list[Entry]:
    """Read a file of phrases, one per line, like AutoNER's full dictionaries."""
    surfaces = dict.fromkeys(_canonical(line) for _, line in text_lines(path) if line.strip())
    return [Entry(surface, frozenset()) for surface in surfaces]


def _canonical(surface: str) -> str:
    """One blank between words, and composed characters (NFC): names from macOS often have combining accents."""
    return unicodedata.normalize("NFC", " ".join(surface.split()))


class DictionaryMatcher:
    """
    Finds the entries of dictionaries in sentences (after Shang et al. 2018, arXiv 1809.03599, and AutoNER's
    `string_match.h`).

    A surface matches in any letter case. It matches only as written or in capitals if it contains a stop word, if one
    of its types is a proper name, or if it is an abbreviation: one word of at most five characters, without
    lower-case letters. Single stop words never match. (AutoNER has no rule for abbreviations, and matches other
    surfaces as written, in capitals or in lower case alone, which misses the first word of a sentence.)

    Of overlapping matches, those with the greatest sum of squared lengths are chosen, typed ones before phrases.

    # Parameters

    entries : `Sequence[Entry]`
        Typed entries and phrases. An entry with types takes precedence over a phrase with the same surface.
    language : `str`, optional (default = `"en"`)
        The language of the stop words, which are spaCy's.
    is_raw : `bool`, optional (default = `False`)
        Whether the sentences may be split by rules. Surfaces then match their words by rules and between blanks.

    Raises `ConfigurationError` for an unknown language.
    """

    def __init__(self, entries: Sequence[Entry], language: str = "en", is_raw: bool = False) -> None:
        try:
            stop_words = get_lang_class(language).Defaults.stop_words
        except ImportError as error:
            raise ConfigurationError(f"The language {language!r} is not a spaCy language.") from error
        tokenizer = RuleBasedTokenizer(language, "rule_based")
        as_written: dict[str, Entry] = {}
        any_case: dict[str, Entry] = {}
        for entry in entries:
            words = entry.surface.lower().split(" ")
            if len(words) == 1 and words[0] in stop_words:
                continue
            is_abbreviation = (
                len(words) == 1 and len(entry.surface) <= _LONGEST_ABBREVIATION and entry.surface.isupper()
            )
            sentences = tokenizer.split(entry.surface) if is_raw else []
            by_rules = " ".join(word for sentence in sentences for word in sentence.words)
            for form in {entry.surface, by_rules or entry.surface}:
                _add(as_written, form, entry)
                _add(as_written, form.upper(), entry)
                if not is_abbreviation and not entry.types & PROPER_NAMES and stop_words.isdisjoint(words):
                    _add(any_case, form.lower(), entry)
        self._as_written = _automaton(as_written)
        self._any_case = _automaton(any_case)

    def matches(self, words: Sequence[str]) -> list[Match]:
        """The matches of a sentence, from left to right, without overlaps."""
        words = [unicodedata.normalize("NFC", word) for word in words]
        candidates: dict[int, dict[int, Match]] = {}  # by end and start
        for match in _search(self._any_case, [word.lower() for word in words]):
            candidates.setdefault(match.end, {})[match.start] = match
        for match in _search(self._as_written, words):
            rivals = candidates.setdefault(match.end, {})
            if match.entry.types or match.start not in rivals:
                rivals[match.start] = match
        # best[i]: the greatest (sum of squared lengths, typed words) of the first i words.
        best: list[tuple[int, int]] = [(0, 0)]
        chosen: list[Match | None] = [None]
        for end in range(1, len(words) + 1):
            score, choice = best[-1], None
            for match in candidates.get(end, {}).values():
                length = match.end - match.start
                total, typed = best[match.start]
                value = (total + length * length, typed + length * bool(match.entry.types))
                if value > score:
                    score, choice = value, match
            best.append(score)
            chosen.append(choice)
        matches: list[Match] = []
        end = len(words)
        while end > 0:
            choice = chosen[end]
            if choice is not None:
                matches.append(choice)
            end = end - 1 if choice is None else choice.start
        return matches[::-1]


def _add(forms: dict[str, Entry], form: str, entry: Entry) -> None:
    """Add a form of an entry. A surface written like the form wins; otherwise the types are united."""
    rival = forms.get(form)
    if rival is None or (entry.types and not rival.types):
        forms[form] = entry
    elif entry.types:
        exact, rival_exact = (one.surface.replace(" ", "") == form.replace(" ", "") for one in (entry, rival))
        if exact == rival_exact:
            forms[form] = Entry(rival.surface, rival.types | entry.types)
        elif exact:
            forms[form] = entry


def _automaton(forms: dict[str, Entry]) -> ahocorasick.Automaton:
    automaton = ahocorasick.Automaton()
    for form, entry in forms.items():
        # With blanks, matches begin and end at word boundaries.
        automaton.add_word(f" {form} ", (form.count(" ") + 1, entry))
    automaton.make_automaton()
    return automaton


def _search(automaton: ahocorasick.Automaton, words: Sequence[str]) -> Iterator[Match]:
    if len(automaton) == 0 or not words:
        return
    word_after, position = {}, 0  # the word that begins after the blank at each position
    for index, word in enumerate(words):
        word_after[position] = index
        position += len(word) + 1
    word_after[position] = len(words)
    for last, (length, entry) in automaton.iter(f" {' '.join(words)} "):
        end = word_after[last]
        yield Match(end - length, end, entry)


class MatchCounts:
    """Counts of matches, for the report."""

    def __init__(self) -> None:
        self.sentences = self.words = 0
        self.entries: Counter[Entry] = Counter()

    def add(self, words: Sequence[str], matches: Sequence[Match]) -> None:
        """Count a sentence."""
        self.sentences += 1
        self.words += len(words)
        self.entries.update(match.entry for match in matches)

    def report(self, entries: Sequence[Entry], most: int = 15) -> str:
        """Totals, the most frequent matches, ambiguous surfaces, and the number of entries without a match."""
        matches = self.entries.most_common()
        by_type: Counter[str] = Counter()
        for entry, count in matches:
            by_type[_name_of(entry)] += count
        phrases, total = by_type["?"], self.entries.total()
        lines = [
            f"{self.sentences:,} sentences, {self.words:,} words, {total - phrases:,} typed matches, {phrases:,} "
            f"matches of phrases of unknown type"
        ]
        lines += [f"  {name}: {count:,}" for name, count in by_type.most_common()]
        for title, rows in {
            "Most frequent typed matches": [match for match in matches if match[0].types],
            "Most frequent phrases": [match for match in matches if not match[0].types],
            "Ambiguous surfaces": [match for match in matches if len(match[0].types) > 1],
        }.items():
            shown = [f"  {count:>7,}  {_name_of(entry)}  {entry.surface}" for entry, count in rows[:most]]
            lines += [f"{title}:", *shown] if shown else []
        matched = {entry.surface for entry in self.entries}
        never = sum(entry.surface not in matched for entry in entries)
        return "\n".join([*lines, f"Never matched: {never:,} of {len(entries):,} entries"])


def _name_of(entry: Entry) -> str:
    return "|".join(sorted(entry.types)) or "?"
