"""Layouts of JSON files."""

import json

import pytest
import spacy
from allennlp.common.checks import ConfigurationError
from spacy.tokens import Doc, DocBin, Span

from ldnet_allennlp.data.annotated.reader import AnnotatedJsonlReader
from tests.resources import FIXTURES


def test_one_task_of_label_studio_over_several_lines(tmp_path):
    """It has "annotations", like a whole file of spaCy's training data."""
    tasks = json.loads((FIXTURES / "annotated" / "label_studio.json").read_text())
    (tmp_path / "x.json").write_text(json.dumps(tasks[0], indent=1))
    (instance, *_) = AnnotatedJsonlReader().read(tmp_path / "x.json")
    assert instance["metadata"]["words"] == ["Ada", "Lovelace", "left", "Paris", "."]
    assert instance["tags"].labels == ["B-PER", "I-PER", "O", "B-LOC", "O"]


@pytest.mark.parametrize("start", ["[1] ", "{a} "])
@pytest.mark.parametrize("suffix", ["txt", "ann"])
def test_a_text_of_brat_that_begins_like_json(tmp_path, start, suffix):
    (tmp_path / "x.txt").write_text(f"{start}Ada left.\n")
    (tmp_path / "x.ann").write_text("T1\tPER 4 7\tAda\n")
    (instance,) = AnnotatedJsonlReader().read(tmp_path / f"x.{suffix}")
    assert instance["metadata"]["words"][3:] == ["Ada", "left", "."]
    assert instance["tags"].labels == ["O", "O", "O", "B-PER", "O", "O"]


@pytest.fixture
def brat(tmp_path):
    def function(text, annotations, name="x.ann", **options):
        (tmp_path / "x.txt").write_bytes(text.encode())
        (tmp_path / "x.ann").write_text(annotations)
        return [i["tags"].labels for i in AnnotatedJsonlReader(**options).read(tmp_path / name)]

    return function


class TestBrat:
    def test_the_quoted_text_is_that_of_the_span(self, brat):
        text, annotations = "Hi. \nAda King left.\n", "T1\tPER 5 13\tAda  King\n"
        assert brat(text, annotations) == brat(text, "T1\tPER 5 13\n")
        with pytest.raises(ConfigurationError, match=r"x\.ann, line 1: found 'T1.* at '.nAda Kin', .*CR LF"):
            brat(text.replace("\n", "\r\n"), annotations)

    def test_other_units(self, brat):
        text, annotations = "\U0001f600 Ada left.", "T1\tPER 3 6\tAda\n"
        assert brat(text, annotations, offsets="utf16") == [["O", "B-PER", "O", "O"]]
        with pytest.raises(ConfigurationError, match='offsets to "utf16"'):
            brat(text, annotations)

    def test_both_files_of_a_pair_are_read_once(self, brat):
        assert brat("Ada left.", "T1\tPER 0 3\tAda\n", name="x.*") == [["B-PER", "O", "O"]]

    def test_pieces_in_any_order(self, brat):
        assert brat("Ada and King", "T1\tPER 8 12;0 3\tKing Ada\n") == [["B-PER", "I-PER", "I-PER"]]
        with pytest.raises(ConfigurationError, match="offsets within the 12 characters"):
            brat("Ada and King", "T1\tPER 8 4;0 3\tKing Ada\n")


def test_an_entity_of_spacy_joins_sentences(tmp_path):
    words = ["See", "St", ".", "John", "now", ".", "Go", "."]
    doc = Doc(spacy.blank("en").vocab, words, sent_starts=[n in (0, 3, 6) for n in range(8)])
    doc.ents = [Span(doc, 1, 4, "ORG")]
    DocBin(docs=[doc]).to_disk(tmp_path / "x.spacy")
    found = [i["tags"].labels for i in AnnotatedJsonlReader().read(tmp_path / "x.spacy")]
    assert found == [["O", "B-ORG", "I-ORG", "I-ORG", "O", "O"], ["O", "O"]]


def test_a_text_file_of_json_lines(tmp_path):
    (tmp_path / "x.txt").write_text((FIXTURES / "annotated" / "doccano.jsonl").read_text())
    assert len(list(AnnotatedJsonlReader().read(tmp_path / "x.txt"))) == 3
