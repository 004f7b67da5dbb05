"""Layouts of JSON files."""

import gzip
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


def docbin(path, *docs):
    DocBin(docs=docs).to_disk(path)
    return path


class TestSpacy:
    def test_white_space_may_begin_an_entity(self, tmp_path):
        doc = Doc(spacy.blank("en").vocab, ["Ada", "\n", "Bob", "lived"], spaces=[True] * 4)
        doc.ents = [Span(doc, 0, 1, "PER"), Span(doc, 1, 3, "PER")]
        (instance,) = AnnotatedJsonlReader().read(docbin(tmp_path / "x.spacy", doc))
        assert instance["metadata"]["words"] == ["Ada", "Bob", "lived"]
        assert instance["tags"].labels == ["B-PER", "B-PER", "O"]

    def test_words_without_annotation_are_not_outside(self, tmp_path):
        doc = Doc(spacy.blank("en").vocab, ["Ada", "Lovelace", "lived"])
        doc.set_ents([Span(doc, 0, 2, "PER")], default="missing")
        path = docbin(tmp_path / "x.spacy", doc)
        with pytest.raises(
            ConfigurationError, match=r"x\.spacy: found words without annotation, .*partial_label"
        ):
            list(AnnotatedJsonlReader().read(path))
        (instance,) = AnnotatedJsonlReader(tag_map={"-": "O"}).read(path)
        assert instance["tags"].labels == ["B-PER", "I-PER", "O"]

    def test_a_compressed_file(self, tmp_path):
        doc = Doc(spacy.blank("en").vocab, ["Ada", "lived"])
        doc.ents = [Span(doc, 0, 1, "PER")]
        (tmp_path / "x.spacy.gz").write_bytes(gzip.compress(docbin(tmp_path / "x.spacy", doc).read_bytes()))
        (instance,) = AnnotatedJsonlReader().read(tmp_path / "x.spacy.gz")
        assert instance["tags"].labels == ["B-PER", "O"]

    def test_a_document_as_json(self, tmp_path):
        doc = Doc(spacy.blank("en").vocab, ["Ada", "lived", "."], spaces=[True, False, False])
        doc.ents = [Span(doc, 0, 1, "PER")]
        (tmp_path / "x.jsonl").write_text(json.dumps(doc.to_json()) + "\n")
        (instance,) = AnnotatedJsonlReader().read(tmp_path / "x.jsonl")
        assert instance["metadata"]["words"] == ["Ada", "lived", "."]
        assert instance["tags"].labels == ["B-PER", "O", "O"]

    @pytest.mark.parametrize("indent", [None, 1])
    @pytest.mark.parametrize("name", ["x.json", "x.spacy.json"])
    def test_a_document_whose_spans_are_its_annotations(self, tmp_path, name, indent):
        """Not training data in an object, although it has the same key, and no DocBin."""
        item = {"sentence": "Ada lived.", "annotations": [{"start": 0, "end": 3, "label": "PER"}]}
        (tmp_path / name).write_text(json.dumps(item, indent=indent))
        (instance,) = AnnotatedJsonlReader().read(tmp_path / name)
        assert instance["tags"].labels == ["B-PER", "O", "O"]

    @pytest.mark.parametrize("indent", [None, 1])
    def test_training_data_in_an_object(self, tmp_path, indent):
        data = {"classes": ["PER"], "annotations": [["Ada lived.", {"entities": [[0, 3, "PER"]]}], None]}
        (tmp_path / "x.json").write_text(json.dumps(data, indent=indent))
        (instance,) = AnnotatedJsonlReader().read(tmp_path / "x.json")
        assert instance["tags"].labels == ["B-PER", "O", "O"]
