"""Layouts of JSON files."""

import json

import pytest

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


def test_a_text_file_of_json_lines(tmp_path):
    (tmp_path / "x.txt").write_text((FIXTURES / "annotated" / "doccano.jsonl").read_text())
    assert len(list(AnnotatedJsonlReader().read(tmp_path / "x.txt"))) == 3
