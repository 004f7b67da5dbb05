import itertools
import random
import unicodedata

import pytest
from allennlp.common.checks import ConfigurationError

from ldnet_allennlp.commands.annotate.dictionary import (
    DictionaryMatcher,
    Entry,
    MatchCounts,
    read_dictionary,
    read_phrases,
)


def entries(**surfaces):
    return [
        Entry(surface, frozenset(kind for kind in types.split("|") if kind))
        for types, of_type in surfaces.items()
        for surface in of_type
    ]


def matched(matcher, sentence):
    words = sentence.split()
    return [
        (" ".join(words[start:end]), "|".join(sorted(entry.types)))
        for start, end, entry in matcher.matches(words)
    ]


def test_case():
    matcher = DictionaryMatcher(
        [
            *entries(Disease=["renal failure", "ALS", "fear of flying"], PER=["Brown"], Drug=["Aspirin"]),
            *entries(**{"": ["the", "Lead"]}),
        ]
    )
    assert matched(matcher, "Renal failure and ALS") == [("Renal failure", "Disease"), ("ALS", "Disease")]
    assert matched(matcher, "als") == []  # an abbreviation keeps its case
    longest = DictionaryMatcher(entries(Disease=["NAFLD", "SCLERO"]))
    assert matched(longest, "nafld sclero") == [("sclero", "Disease")]
    assert matched(matcher, "ASPIRIN , aspirin") == [("ASPIRIN", "Drug"), ("aspirin", "Drug")]
    assert matched(matcher, "Brown is brown") == [("Brown", "PER")]
    assert matched(matcher, "fear of flying , Fear of flying") == [("fear of flying", "Disease")]
    assert matched(matcher, "The lead") == [("lead", "")]


def test_matches_begin_and_end_at_words():
    matcher = DictionaryMatcher(entries(Drug=["aspirin", "vitamin C"]))
    assert matched(matcher, "aspirin-like paraaspirin vitamin Cs") == []
    assert matched(matcher, "vitamin C") == [("vitamin C", "Drug")]


def test_types_win_over_phrases_and_are_united():
    typed = entries(Metal=["iron", "Zinc oxide"], Drug=["IRON", "zinc Oxide"])
    matcher = DictionaryMatcher([*entries(**{"": ["lead", "Iron"]}), *typed])
    assert matched(matcher, "lead") == [("lead", "")]
    assert matched(matcher, "iron") == [("iron", "Metal")]
    assert matched(matcher, "Iron") == [("Iron", "Metal")]
    assert matched(matcher, "IRON") == [("IRON", "Drug")]
    assert matched(matcher, "zinc oxide") == [("zinc oxide", "Drug|Metal")]
    assert matched(matcher, "Zinc oxide") == [("Zinc oxide", "Metal")]


def all_selections(candidates):
    for size in range(len(candidates) + 1):
        for selection in itertools.combinations(candidates, size):
            spans = sorted(selection)
            if all(one[1] <= other[0] for one, other in itertools.pairwise(spans)):
                yield spans


def test_overlaps_maximize_the_sum_of_squared_lengths():
    generator = random.Random(5)
    letters = "abcd"
    for _ in range(60):
        surfaces = {" ".join(generator.choices(letters, k=generator.randint(1, 4))) for _ in range(6)} - {"a"}
        matcher = DictionaryMatcher(entries(T=sorted(surfaces)))
        words = generator.choices(letters, k=9)
        spans = [
            (start, end)
            for start, end in itertools.combinations(range(len(words) + 1), 2)
            if " ".join(words[start:end]) in surfaces
        ]
        best = max(sum((end - start) ** 2 for start, end in selection) for selection in all_selections(spans))
        matches = matcher.matches(words)
        assert sum((end - start) ** 2 for start, end, _ in matches) == best
        assert all(" ".join(words[start:end]) == entry.surface for start, end, entry in matches)
        assert all(one.end <= other.start for one, other in itertools.pairwise(matches))


def test_characters_whose_lower_case_is_longer():
    matcher = DictionaryMatcher(entries(T=["end"]))
    assert matched(matcher, "İİİ İ End") == [("End", "T")]


def test_no_entries_and_no_words():
    assert DictionaryMatcher([]).matches(["a"]) == []
    assert DictionaryMatcher(entries(T=["a b"])).matches([]) == []


def test_reading(tmp_path):
    path = tmp_path / "core.tsv"
    path.write_text("Drug\taspirin\nDrug,Disease\t cold  sore \n\nDisease\taspirin\n", encoding="utf-8")
    assert read_dictionary(str(path)) == [
        Entry("aspirin", frozenset({"Drug", "Disease"})),
        Entry("cold sore", frozenset({"Drug", "Disease"})),
    ]
    path.write_text("cold sore\ncold  sore\n", encoding="utf-8")
    assert read_phrases(str(path)) == [Entry("cold sore", frozenset())]
    odd = ["aspirin", "\taspirin", "Drug\t ", "A drug\taspirin", "A|B\taspirin"]
    odd += ["?\taspirin", "D\theart\tD006321"]  # "?" marks unknown types in the output
    for line in odd:
        path.write_text(f"Drug\tiron\n{line}\n", encoding="utf-8")
        with pytest.raises(
            ConfigurationError, match=r"line 2: found .* expected a type, a tab and a surface"
        ):
            read_dictionary(str(path))


@pytest.mark.parametrize("form, other", [("NFC", "NFD"), ("NFD", "NFC")])
def test_accents_match_in_both_unicode_forms(form, other, tmp_path):
    path = tmp_path / "names.tsv"
    path.write_text("PER\t" + unicodedata.normalize(form, "José Núñez"), encoding="utf-8")
    matcher = DictionaryMatcher(read_dictionary(str(path)))
    assert len(matcher.matches(unicodedata.normalize(other, "Hello José Núñez").split())) == 1


def test_the_report():
    dictionary = entries(Drug=["iron", "zinc"], Metal=["iron"], **{"": ["blue sky"]})
    matcher, counts = DictionaryMatcher(dictionary), MatchCounts()
    for sentence in (["iron", "iron", "x"], ["blue", "sky"]):
        counts.add(sentence, matcher.matches(sentence))
    report = counts.report(dictionary)
    assert "2 sentences, 5 words, 2 typed matches, 1 matches of phrases" in report
    assert "Ambiguous surfaces:\n        2  Drug|Metal  iron" in report
    assert "Never matched: 1 of 4 entries" in report
