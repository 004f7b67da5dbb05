"""Span encodings against seqeval, AllenNLP's readings, and enumeration of all short sequences."""

import itertools
import pickle
import warnings

import pytest
from allennlp.data.dataset_readers.dataset_utils.span_utils import (
    bio_tags_to_spans,
    bioul_tags_to_spans,
    bmes_tags_to_spans,
    iob1_tags_to_spans,
)
from allennlp.modules.conditional_random_field import allowed_transitions
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.metrics.sequence_labeling import get_entities

from ldnet_runtime.tag_schemes import (
    ENCODINGS,
    UnreadableTag,
    canonical_encoding,
    convert,
    join_tag,
    spans_from_tags,
    split_tag,
    tags_from_spans,
    validate,
)

TYPES = ["PER", "LOC", "creative-work"]
LETTERED = [name for name in ENCODINGS if name != "BARE"]
LOSSLESS = ["BIO", "IOB1", "IOBES", "BIOUL", "BMES"]
# The letters that the encoding writes itself, in which a well-formed sequence has one spelling only.
NATIVE = {"BIO": "BI", "IOB1": "BI", "IOBES": "BIES", "BIOUL": "BILU", "BMES": "BMES", "IO": "I"}

any_tag = st.one_of(
    st.just("O"),
    st.builds(join_tag, st.sampled_from("BIMELSUW"), st.sampled_from([*TYPES, ""])),
)
any_tags = st.lists(any_tag, max_size=12)


@st.composite
def sentences(draw, types=tuple(TYPES)):
    """The length of a sentence and spans in it, neighbours and single tokens often among them."""
    spans, position = [], 0
    for _ in range(draw(st.integers(0, 5))):
        start = position + draw(st.integers(0, 2))
        end = start + draw(st.integers(0, 3))
        spans.append((draw(st.sampled_from(types)), start, end))
        position = end + 1
    return position + draw(st.integers(0, 2)), spans


def read_by_seqeval(tags: list[str]) -> list[tuple[str, int, int]]:
    letters = {"M": "I", "L": "E", "U": "S", "W": "S"}
    tags = [letters.get(tag[0], tag[0]) + tag[1:] for tag in tags]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [("" if name == "_" else name, start, end) for name, start, end in get_entities(tags)]


def all_span_sets(length: int, types: str, start: int = 0):
    """Every way to put spans into a sentence, built without tags."""
    if start >= length:
        yield []
        return
    yield from all_span_sets(length, types, start + 1)
    for end, name in itertools.product(range(start, length), types):
        for rest in all_span_sets(length, types, end + 1):
            yield [(name, start, end), *rest]


class TestSpansFromTags:
    @settings(deadline=None)
    @given(any_tags)
    def test_any_sequence_is_read_as_seqeval_reads_it(self, tags):
        for encoding in LETTERED:
            assert spans_from_tags(tags, encoding) == read_by_seqeval(tags)

    @pytest.mark.parametrize(
        "tags, spans",
        [
            ("O I-A I-A O", [("A", 1, 2)]),
            ("I-A B-A I-B", [("A", 0, 0), ("A", 1, 1), ("B", 2, 2)]),
            ("B-A E-A I-A E-A", [("A", 0, 1), ("A", 2, 3)]),
            ("S-A I-A B-A", [("A", 0, 0), ("A", 1, 1), ("A", 2, 2)]),
            ("E-A E-A", [("A", 0, 0), ("A", 1, 1)]),
            ("B-x-y I-x-z", [("x-y", 0, 0), ("x-z", 1, 1)]),
            ("B I O U", [("", 0, 1), ("", 3, 3)]),
            ("", []),
        ],
    )
    def test_examples(self, tags, spans):
        assert spans_from_tags(tags.split(), "IOBES") == spans

    def test_bare_types_are_runs(self):
        tags = ["PER", "PER", "LOC", "O", "B-x", "S"]
        assert spans_from_tags(tags, "BARE") == [("PER", 0, 1), ("LOC", 2, 2), ("B-x", 4, 4), ("S", 5, 5)]

    @pytest.mark.parametrize(
        "tag", ["PER", "X-PER", "O-PER", "B-", "-PER", "", "b-PER", "BI-PER", "B\u2010PER"]
    )
    def test_what_is_no_tag_is_refused_with_its_place(self, tag):
        with pytest.raises(UnreadableTag, match="position 2") as caught:
            spans_from_tags(["O", "B-PER", tag], "BIO")
        assert (caught.value.tag, caught.value.position) == (tag, 2)
        assert repr(tag) in str(caught.value)
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


class TestTagsFromSpans:
    @pytest.mark.parametrize(
        "encoding, tags",
        [
            ("BIO", "B-A I-A I-A B-A O B-B B-B I-B"),
            ("IOB1", "I-A I-A I-A B-A O I-B B-B I-B"),
            ("BIOUL", "B-A I-A L-A U-A O U-B B-B L-B"),
            ("IOBES", "B-A I-A E-A S-A O S-B B-B E-B"),
            ("BMES", "B-A M-A E-A S-A O S-B B-B E-B"),
            ("IO", "I-A I-A I-A I-A O I-B I-B I-B"),
            ("BARE", "A A A A O B B B"),
        ],
    )
    def test_examples(self, encoding, tags):
        spans = [("A", 3, 3), ("A", 0, 2), ("B", 5, 5), ("B", 6, 7)]
        assert tags_from_spans(spans, 8, encoding) == tags.split()

    def test_neighbours_of_another_type_need_no_b_in_iob1(self):
        assert tags_from_spans([("A", 0, 0), ("B", 1, 1)], 2, "IOB1") == ["I-A", "I-B"]

    @settings(deadline=None)
    @given(sentences())
    def test_allennlp_reads_the_same_spans(self, sentence):
        length, spans = sentence
        readers = {
            "BIO": bio_tags_to_spans,
            "IOB1": iob1_tags_to_spans,
            "BIOUL": bioul_tags_to_spans,
            "BMES": bmes_tags_to_spans,
        }
        for encoding, reader in readers.items():
            tags = tags_from_spans(spans, length, encoding)
            if encoding == "BMES":  # its BMES knows no "O"
                tags = ["S-O" if tag == "O" else tag for tag in tags]
            found = [(name, start, end) for name, (start, end) in reader(tags) if name != "O"]
            assert sorted(found) == sorted(spans)

    @settings(deadline=None)
    @given(sentences())
    def test_allennlps_constraints_allow_the_tags(self, sentence):
        length, spans = sentence
        for encoding in ("BIO", "IOB1", "BIOUL"):
            tags = tags_from_spans(spans, length, encoding)
            labels = dict(enumerate(sorted(set(tags))))
            ids = {label: index for index, label in labels.items()}
            path = [len(labels), *[ids[tag] for tag in tags], len(labels) + 1] if tags else []
            assert set(zip(path, path[1:])) <= set(allowed_transitions(encoding, labels))

    @pytest.mark.parametrize(
        "spans", [[("A", 1, 3)], [("A", 0, 1), ("B", 1, 2)], [("A", 2, 1)], [("A", -1, 0)]]
    )
    def test_spans_that_do_not_fit_are_refused(self, spans):
        with pytest.raises(ValueError, match="sentence of 3 tokens"):
            tags_from_spans(spans, 3, "BIO")

    @pytest.mark.parametrize("name", ["", "O"])
    def test_types_that_bare_cannot_spell_are_refused(self, name):
        with pytest.raises(ValueError, match="BARE"):
            tags_from_spans([(name, 0, 0)], 1, "BARE")


class TestConvert:
    @settings(deadline=None)
    @given(sentences(), st.sampled_from(LOSSLESS), st.sampled_from(LOSSLESS))
    def test_round_trip(self, sentence, source, target):
        length, spans = sentence
        tags = tags_from_spans(spans, length, source)
        there = convert(tags, source, target)
        assert spans_from_tags(there, target) == sorted(spans, key=lambda span: span[1])
        assert convert(there, target, source) == tags

    @settings(deadline=None)
    @given(any_tags, st.sampled_from(LETTERED), st.sampled_from(LOSSLESS))
    def test_repair_keeps_tokens_and_spans_and_is_well_formed(self, tags, source, target):
        repaired = convert(tags, source, target)
        assert len(repaired) == len(tags)
        assert [tag == "O" for tag in repaired] == [tag == "O" for tag in tags]
        assert spans_from_tags(repaired, target) == spans_from_tags(tags, source)
        assert validate(repaired, target) == []
        assert convert(repaired, target, target) == repaired

    def test_types_without_borders_lose_them(self):
        assert convert(["B-A", "B-A", "I-B"], "BIO", "IO") == ["I-A", "I-A", "I-B"]
        assert convert(["A", "A", "B"], "BARE", "BIO") == ["B-A", "I-A", "B-B"]

    def test_iobes_is_respelled(self):
        assert convert(["B-A", "E-A", "S-B"], "BIOUL", "BIOUL") == ["B-A", "L-A", "U-B"]
        assert convert(["S-A", "W-A"], "BMES", "BMES") == ["S-A", "S-A"]


class TestValidate:
    @pytest.mark.parametrize("encoding", list(NATIVE))
    def test_well_formed_is_what_spans_are_written_as(self, encoding):
        alphabet = ["O", *[f"{letter}-{name}" for letter in "BIELSUM" for name in "xy"]]
        for length in range(4):
            written = {
                tuple(tags_from_spans(spans, length, encoding)) for spans in all_span_sets(length, "xy")
            }
            native = [tag for tag in alphabet if tag == "O" or tag[0] in NATIVE[encoding]]
            for tags in itertools.product(native, repeat=length):
                assert (validate(tags, encoding) == []) == (tags in written), tags
            foreign = set(alphabet) - set(native)
            if encoding not in ("IOBES", "BIOUL"):
                assert all(validate([tag], encoding) for tag in foreign)

    @settings(deadline=None)
    @given(any_tags)
    def test_the_two_spellings_of_one_scheme_are_equally_valid(self, tags):
        other = [{"E": "L", "S": "U"}.get(tag[0], tag[0]) + tag[1:] for tag in tags]
        positions = [problem.position for problem in validate(tags, "IOBES")]
        assert positions == [problem.position for problem in validate(other, "BIOUL")]

    @pytest.mark.parametrize(
        "encoding, tags, problems",
        [
            ("BIO", "O I-A I-A I-B", [(1, "I-A", "'B-A'"), (3, "I-B", "'B-B'")]),
            ("BIO", "B-A E-A I-A", [(1, "E-A", "'O' or a tag of the encoding BIO (letters B, I)")]),
            ("BIO", "B-A PER I-A", [(1, "PER", "'O' or a tag"), (2, "I-A", "'B-A'")]),
            (
                "IOB1",
                "B-A B-A O B-A I-B B-A",
                [(0, "B-A", "'I-A'"), (3, "B-A", "'I-A'"), (5, "B-A", "'I-A'")],
            ),
            ("BIOUL", "B-A O I-B L-B", [(1, "O", "'I-A' or 'L-A'"), (2, "I-B", "'B-B' or 'U-B'")]),
            ("IOBES", "B-A I-A", [(1, "I-A", "'E-A', as the sentence ends here")]),
            ("BIOUL", "B-A", [(0, "B-A", "'U-A', as the sentence ends here")]),
            ("BMES", "I-A", [(0, "I-A", "'O' or a tag of the encoding BMES (letters B, E, M, S)")]),
            ("BMES", "M-A", [(0, "M-A", "'B-A' or 'S-A'")]),
            ("IO", "I-A B-A", [(1, "B-A", "'O' or a tag of the encoding IO (letters I)")]),
            ("BARE", "A B-A O", []),
        ],
    )
    def test_problems(self, encoding, tags, problems):
        found = validate(tags.split(), encoding)
        assert [(problem.position, problem.tag) for problem in found] == [problem[:2] for problem in problems]
        for problem, (_, _, expected) in zip(found, problems):
            assert problem.expected.startswith(expected)

    @settings(deadline=None)
    @given(any_tags, st.sampled_from(LETTERED))
    def test_one_problem_a_tag_in_order(self, tags, encoding):
        positions = [problem.position for problem in validate(tags, encoding)]
        assert positions == sorted(set(positions))


class TestNames:
    def test_aliases(self):
        names = ["iob2", "BILOU", "bioes", "BMEWO", "bio"]
        assert [canonical_encoding(name) for name in names] == ["BIO", "BIOUL", "IOBES", "BMES", "BIO"]

    def test_unknown_name(self):
        with pytest.raises(ValueError, match="'IOB', expected one of BIO, IOB1"):
            canonical_encoding("IOB")

    @settings(deadline=None)
    @given(any_tag)
    def test_split_and_join(self, tag):
        parts = split_tag(tag)
        assert parts is not None and join_tag(*parts) == tag
