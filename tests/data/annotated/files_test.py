"""Layouts of JSON files."""

import json

from ldnet_allennlp.data.annotated.reader import AnnotatedJsonlReader
from tests.resources import FIXTURES


def test_one_task_of_label_studio_over_several_lines(tmp_path):
    """It has "annotations", like a whole file of spaCy's training data."""
    tasks = json.loads((FIXTURES / "annotated" / "label_studio.json").read_text())
    (tmp_path / "x.json").write_text(json.dumps(tasks[0], indent=1))
    (instance, *_) = AnnotatedJsonlReader().read(tmp_path / "x.json")
    assert instance["metadata"]["words"] == ["Ada", "Lovelace", "left", "Paris", "."]
    assert instance["tags"].labels == ["B-PER", "I-PER", "O", "B-LOC", "O"]
