"""The original's reading of ill-formed tag sequences, beside conlleval's, which this package follows."""

import json

from ldnet_runtime.tag_schemes import spans_from_tags
from tests.resources import REFERENCE


def spans_here(labels):
    """As the original writes them: TYPE@position@position."""
    tags = ["O" if label in ("<s>", "<eof>") else label for label in labels]
    return sorted(
        "@".join([label, *map(str, range(start, end + 1))])
        for label, start, end in spans_from_tags(tags, "IOBES")
    )


def test_well_formed_and_ill_formed_sequences():
    with open(REFERENCE / "g_crf" / "to_spans.json", encoding="utf-8") as file:
        cases = json.load(file)
    assert len(cases) > 20
    for case in cases:
        assert spans_here(case["labels"]) == sorted(case["spans"]), case


def test_letters_within_a_type_are_kept():
    """The original removes every "B-", "I-", "E-" and "S-" from the tag, also from within the type."""
    with open(REFERENCE / "g_crf" / "to_spans_dashed.json", encoding="utf-8") as file:
        reference = json.load(file)
    names = {number: label for label, number in reference["y_map"].items()}
    for case in reference["cases"]:
        labels = [names[number] for number in case["ids"]]
        assert spans_here(labels) != sorted(case["spans"])
    assert spans_here(["B-SUB-X", "E-SUB-X"]) == ["SUB-X@0@1"]
