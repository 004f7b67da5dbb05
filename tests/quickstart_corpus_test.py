"""The quickstart's corpus: what mark-up becomes, and what must hold for the files as they are written."""

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from pydoc_data.topics import topics

import pytest

from quickstart.corpus import bio, split_topics, write_corpus
from quickstart.prose import (
    Sentence,
    Span,
    paragraphs,
    split_sentences,
    strip_marks,
    tagged_sentences,
)
from tests.resources import ROOT

Rows = list[list[tuple[str, str]]]


def _read_conll(path: Path) -> Rows:
    blocks = path.read_text(encoding="utf-8").strip("\n").split("\n\n")
    return [[(line.split("\t")[0], line.split("\t")[1]) for line in block.split("\n")] for block in blocks]


def _labels(rows: Rows) -> dict[str, int]:
    return Counter(tag[2:] for row in rows for _, tag in row if tag.startswith("B-"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("corpus")
    write_corpus(path)
    return path


@pytest.fixture(scope="module")
def tagging(folder) -> dict[str, Rows]:
    return {part: _read_conll(folder / f"{part}.conll") for part in ("train", "dev", "test")}


class TestMarks:
    def test_code_terms_and_peps_are_labeled_and_their_marks_are_gone(self):
        text, spans = strip_marks(
            'The "for x in y" loop needs an *iterable* (see **PEP 234**). **Note:** "next()".'
        )
        assert text == "The for x in y loop needs an iterable (see PEP 234). Note: next()."
        assert [(span.label, text[span.start : span.end]) for span in spans] == [
            ("CODE", "for x in y"),
            ("TERM", "iterable"),
            ("PEP", "PEP 234"),
            ("CODE", "next()"),
        ]

    @pytest.mark.parametrize(
        "ambiguous",
        [
            'a "dict" equal to "{"one": 1}":',  # quotes in quotes
            'an open "quote.',
            'a quote with blanks " x " inside.',
            "2 * 3 is six.",  # a lone asterisk
            "the *n*th of them.",  # a mark inside a word
            'the word pre"fix" has one.',
        ],
    )
    def test_ambiguous_marks_are_not_guessed_at(self, ambiguous):
        assert strip_marks(ambiguous) is None
        assert tagged_sentences(ambiguous) == []

    def test_asterisks_in_code_are_code(self):
        text, spans = strip_marks('Use "*args" and "x ** y".')
        assert (text, len(spans)) == ("Use *args and x ** y.", 2)

    def test_footnote_numbers_go_with_one_of_two_full_stops(self):
        assert strip_marks("It is [1] so. [2]. And so [3].") == ("It is so. And so.", [])

    def test_apostrophes_stay_and_curly_quotes_go(self):
        assert strip_marks("Python’s “dunder” names, ‘item’ too.") == ("Python's dunder names, item too.", [])


class TestSentences:
    def test_spans_fall_on_tokens(self):
        sentences = tagged_sentences(
            'It calls "x.__get__(self, 1)" first.  Then it doesn’t use *weak references*.'
        )
        assert sentences == [
            Sentence(
                ["It", "calls", "x.__get__", "(", "self", ",", "1", ")", "first", "."], [Span("CODE", 2, 8)]
            ),
            Sentence(["Then", "it", "does", "n't", "use", "weak", "references", "."], [Span("TERM", 5, 7)]),
        ]

    def test_a_label_within_a_token_leaves_its_sentence_out(self):
        assert [s.words[0] for s in tagged_sentences('This is "int"-like, not more. That is fine.')] == [
            "That"
        ]

    @pytest.mark.parametrize(
        "text, sentences",
        [
            ("See e.g. the docs. Next.", 2),
            ("Version 3.5 is out.", 1),
            ("Lists, sets, etc. are fine.", 1),
            ("Lists, sets, etc. Others follow.", 2),
            ("Write from . import mod here.", 1),
            ("(It is so.) It is not.", 2),
        ],
    )
    def test_where_sentences_end(self, text, sentences):
        assert len(split_sentences(text)) == sentences

    def test_bio_is_the_inverse_of_spans(self):
        sentence = Sentence(list("abcdef"), [Span("X", 1, 3), Span("Y", 3, 4), Span("X", 5, 6)])
        assert bio(sentence) == ["O", "B-X", "I-X", "B-Y", "O", "B-X"]


class TestParagraphs:
    def test_code_grammar_tables_headings_and_signatures_are_left_out(self):
        text = """The statement
*************

Prose that goes
on for two lines:

   if x:
       print("announced code.")

   still_code.

Prose again, non-
numeric.

   stmt ::= "x" y.

object.__len__(self)

   Said of the signature.

   >>> doctest.

* An item of a list:

  1. A nested item.

+----+
| a. |
+----+
"""
        assert paragraphs(text) == [
            "Prose that goes on for two lines:",
            "Prose again, non-numeric.",
            "Said of the signature.",
            "An item of a list:",
            "A nested item.",
        ]


class TestFiles:
    def test_there_is_enough_to_learn_from(self, tagging):
        assert sum(len(row) for rows in tagging.values() for row in rows) > 40_000
        total = sum((_labels(rows) for rows in tagging.values()), Counter())
        assert total["CODE"] > 1_800 and total["TERM"] > 450 and total["PEP"] > 5
        for part in ("dev", "test"):
            assert len(tagging[part]) > 300
            assert _labels(tagging[part])["TERM"] > 60

    def test_no_mark_is_left_that_gives_a_label_away(self, folder):
        for path in folder.glob("*.*"):
            text = path.read_text(encoding="utf-8")
            assert not set('"`“”‘’') & set(text), path

    def test_marked_asterisks_are_gone_outside_of_code(self, tagging):
        for rows in tagging.values():
            assert not [row for row in rows if any("*" in word and tag == "O" for word, tag in row)]

    def test_tags_are_valid_bio(self, tagging):
        for rows in tagging.values():
            for row in rows:
                for before, tag in zip(["O", *(tag for _, tag in row)], (tag for _, tag in row)):
                    assert not tag.startswith("I-") or before[2:] == tag[2:]

    def test_no_sentence_is_in_two_parts(self, tagging):
        sentences = {
            part: {" ".join(word for word, _ in row) for row in rows} for part, rows in tagging.items()
        }
        for part, rows in tagging.items():
            assert len(sentences[part]) == len(rows)  # none twice
        assert not sentences["train"] & (sentences["dev"] | sentences["test"])
        assert not sentences["dev"] & sentences["test"]

    def test_words_are_those_of_the_topics(self, tagging):
        """Nothing is invented or glued: each sentence, without its blanks, stands in a topic without its marks."""
        marks = dict.fromkeys(map(ord, "\"`*“”‘’'"))
        everything = "".join(" ".join(topics.values()).split()).translate(marks)
        without_footnotes = re.sub(r"(?<=[.!?])\[\d+\]\.?|\[\d+\]", "", everything)
        for rows in tagging.values():
            for row in rows:
                squeezed = "".join(word for word, _ in row).translate(marks)
                assert squeezed in everything or squeezed in without_footnotes

    def test_deterministic(self, folder, tmp_path):
        command = [sys.executable, "-m", "quickstart.corpus", str(tmp_path)]
        subprocess.run(command, cwd=str(ROOT), env={**os.environ, "PYTHONHASHSEED": "7"}, check=True)
        for path in folder.rglob("*.*"):
            assert (tmp_path / path.relative_to(folder)).read_bytes() == path.read_bytes()

    def test_split_is_by_topic_and_large_topics_train(self):
        small = {f"t{number}": 100 for number in range(100)}
        sizes = {**small, **{f"large{number}": 2_000 for number in range(5)}}  # each a tenth of all words
        split = split_topics(sizes)
        assert {split[f"large{number}"] for number in range(5)} == {"train"}
        assert split_topics(dict(reversed(list(sizes.items())))) == split
        words: Counter = Counter()
        for name, part in split.items():
            words[part] += sizes[name]
        assert words["test"] == 3_000 and words["dev"] == 2_400  # 15 and 12 hundredths of 20,000
