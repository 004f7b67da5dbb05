"""The "annotated_jsonl" reader on JSON of any kind: read, or an error with its place."""

import json

import pytest
from allennlp.common.checks import ConfigurationError
from hypothesis import given
from hypothesis import strategies as st

from ldnet_allennlp.data.annotated.documents import KEYS
from ldnet_allennlp.data.annotated.reader import AnnotatedJsonlReader
from ldnet_runtime.tag_schemes import validate
from tests.fuzz import FUZZ

WORDS = st.sampled_from(
    ["Ada", "left", "Paris.", "", " ", "\ud83d", "\U0001f600", "O", "B-X", "I-X", "a\nb", "{"]
)
SCALARS = st.one_of(WORDS, st.integers(-2, 30), st.none(), st.booleans(), st.floats(0, 9))
LABELS = st.sampled_from(["X", "Y", "", "B-X"])
SPANS = st.one_of(
    st.tuples(st.integers(-1, 12), st.integers(-1, 12), LABELS).map(list),
    st.fixed_dictionaries(
        {"start": st.integers(-1, 12), "end": st.integers(-1, 12), "label": LABELS}, optional={"text": WORDS}
    ),
)
TOKENS = st.fixed_dictionaries({"text": WORDS}, optional={"start": st.integers(-1, 12), "id": SCALARS})
LISTS = st.one_of(st.lists(SCALARS, max_size=4), st.lists(SPANS, max_size=4), st.lists(TOKENS, max_size=4))
NAMES = st.sampled_from(
    [*{name for names in KEYS.values() for name in names}, "id", "data", "answer", "value", "result"]
)
ITEMS = st.recursive(
    st.one_of(SCALARS, LISTS, st.dictionaries(NAMES, st.one_of(SCALARS, LISTS, WORDS), max_size=5)),
    lambda items: st.one_of(st.lists(items, max_size=3), st.dictionaries(NAMES, items, max_size=3)),
    max_leaves=8,
)
DOCUMENTS = st.builds(
    lambda text, rest: {"text": " ".join(text), **rest},
    st.lists(WORDS, min_size=1, max_size=5),
    st.dictionaries(st.sampled_from(["spans", "label", "entities", "tokens", "tags"]), LISTS, max_size=2),
)


@FUZZ
@given(
    st.lists(st.one_of(DOCUMENTS, ITEMS), min_size=1, max_size=3),
    st.booleans(),
    st.sampled_from(["move", "drop", "error"]),
    st.sampled_from(["longest", "shortest", "drop", "error"]),
    st.sampled_from(["required", "optional"]),
)
def test_any_json_is_read_or_refused(tmp_path, items, is_array, unaligned, overlapping, labels):
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps(items) if is_array else "".join(json.dumps(item) + "\n" for item in items))
    options = {"on_unaligned_spans": unaligned, "on_overlapping_spans": overlapping, "labels": labels}
    try:
        instances = list(AnnotatedJsonlReader(**options)._read(str(path)))
    except ConfigurationError as error:
        assert "x.jsonl" in str(error)
        return
    for instance in instances:
        assert len(instance["tokens"]) == len(instance["metadata"]["words"]) > 0
        if "tags" in instance.fields and instance["metadata"]["label_encoding"]:
            assert validate(instance["tags"].labels, instance["metadata"]["label_encoding"]) == []


@pytest.mark.parametrize("content", ["[" * 100_000, '{"text": ' + "9" * 10_000 + "}", "[1e999]", "\x00"])
def test_json_that_is_hard_to_parse(tmp_path, content):
    path = tmp_path / "x.jsonl"
    path.write_text(content)
    with pytest.raises(ConfigurationError, match=r"x\.jsonl"):
        list(AnnotatedJsonlReader()._read(str(path)))
