"""What the options make of ill-formed and of foreign tags."""

import pytest
from allennlp.common.checks import ConfigurationError
from hypothesis import given, settings
from hypothesis import strategies as st

from ldnet_allennlp.data.conll.partial_tags import CONVERTIBLE, convert_partial
from ldnet_allennlp.data.conll.tag_detection import DetectedTags
from ldnet_allennlp.data.conll.tag_recoding import RecodingOptions, TagRecoder
from ldnet_runtime.tag_schemes import convert
from tests.runtime.tag_schemes_test import any_tags

ILL_FORMED = ["O", "I-A", "I-A", "I-B", "O"]
LINES = [10, 11, 12, 13, 14]


def recoder(source, *options):
    options = RecodingOptions(source, *options)
    return TagRecoder("f.txt", DetectedTags(options.label_encoding), options)


def check_and_recode(recoder, tags):
    recoder.check(tags, LINES)
    return recoder.recode(tags, LINES)


@pytest.mark.parametrize(
    "target, tags",
    [
        (None, "O B-A I-A B-B O"),
        ("BIOUL", "O B-A L-A U-B O"),
        ("IOB1", "O I-A I-A I-B O"),
        ("IOBES", "O B-A E-A S-B O"),
    ],
)
def test_repair_counts_and_rewrites(target, tags):
    repair = recoder("BIO", target, "repair")
    assert check_and_recode(repair, ILL_FORMED) == tags.split()
    check_and_recode(repair, ["B-A", "I-A"])
    assert (repair.num_ill_formed_tags, repair.num_ill_formed_sentences) == (2, 1)
    assert "2 tags in 1 sentences are ill-formed BIO" in repair.report()
    assert "line 11: found the tag 'I-A', expected 'B-A'" in repair.report()


def test_keep_counts_and_changes_nothing():
    keep = recoder("BIOUL", None, "keep")
    for tags in (ILL_FORMED, ["B-A", "E-A", "??"]):
        assert check_and_recode(keep, tags) == tags
    assert keep.num_ill_formed_sentences == 2
    assert "were kept" in keep.report()


def test_error_gives_the_place():
    with pytest.raises(
        ConfigurationError, match=r"f.txt, line 11: found the tag 'I-A', expected 'B-A'.* BIO"
    ):
        recoder("BIO", None, "error").check(ILL_FORMED, LINES)


@settings(deadline=None)
@given(any_tags, st.sampled_from(CONVERTIBLE), st.sampled_from(CONVERTIBLE))
def test_without_partial_labels_both_conversions_agree(tags, source, target):
    assert convert_partial(tags, source, target, "?") == convert(tags, source, target)


class TestIllFormedTagsBesidePartialLabels:
    @pytest.mark.parametrize(
        "encoding, tags, repaired, number",
        [
            ("BIO", "O I-A I-A ? O", "O B-A I-A ? O", 1),
            ("BIO", "? I-A I-B ? I-C", "? I-A B-B ? I-C", 1),
            ("BIO", "O|B-A|I-A I-A I-B O O", "O|B-A|I-A I-A B-B O O", 1),
            ("BIO", "I-C|O I-B O O O", "I-C|O B-B O O O", 1),
            ("BIOUL", "B-A O ? I-B ?", "U-A O ? I-B ?", 1),
            ("BIOUL", "B-A ? E-A U-A|U-B L-A", "B-A ? L-A U-A|U-B U-A", 1),
            ("IOB1", "? B-A O B-B B-B", "? B-A O I-B B-B", 1),
        ],
    )
    def test_are_repaired_or_an_error(self, encoding, tags, repaired, number):
        repair = recoder(encoding, None, "repair", "?")
        assert check_and_recode(repair, tags.split()) == repaired.split()
        assert (repair.num_ill_formed_tags, repair.num_ill_formed_sentences) == (number, 1)
        with pytest.raises(ConfigurationError, match=r"f.txt, line 1\d: found the tag '.-.', expected '"):
            recoder(encoding, None, "error", "?").check(tags.split(), LINES)
        check_and_recode(recoder(encoding, None, "error", "?"), repaired.split())

    def test_unreadable_tags_are_counted(self):
        assert check_and_recode(recoder("BIO", None, "keep", "?"), ["?", "NOUN"]) == ["?", "NOUN"]
        with pytest.raises(ConfigurationError, match="line 11: found the tag 'NOUN'"):
            check_and_recode(recoder("BIO", None, "repair", "?"), ["?", "NOUN"])

    def test_a_wrong_declaration_is_detected(self):
        declared = recoder("BIO", None, "repair", "?")
        for _ in range(3):
            declared.check(["B-A", "L-A", "?"], LINES)
        with pytest.raises(ConfigurationError, match="The tags look like BIOUL"):
            declared.finish()


def test_well_formed_tags_need_no_report():
    repair = recoder("BIO", "BIOUL", "error")
    assert check_and_recode(repair, ["B-A", "I-A", "O"]) == ["B-A", "L-A", "O"]
    assert repair.report() == ""


def test_what_is_no_span_tag_cannot_be_repaired():
    with pytest.raises(
        ConfigurationError, match=r"f.txt, line 12: found the tag 'NOUN', expected 'O' or a tag of"
    ):
        recoder("BIO").recode(["O", "I-A", "NOUN"], LINES)


def test_tags_that_are_no_spans_stay():
    assert check_and_recode(recoder(None), ["I-A", "NOUN"]) == ["I-A", "NOUN"]


def test_the_letters_are_those_of_the_declared_encoding():
    assert recoder("bilou").recode(["B-A", "E-A", "S-A"], LINES) == ["B-A", "L-A", "U-A"]
    assert recoder("BMEWO").recode(["B-A", "E-A", "W-A"], LINES) == ["B-A", "E-A", "S-A"]


@pytest.mark.parametrize(
    "options, message",
    [
        (("IOB", None, "repair"), "label_encoding: Found the label encoding 'IOB', expected one of"),
        (("BIO", "XYZ", "repair"), "target_label_encoding: Found the label encoding 'XYZ'"),
        (("BIO", "IO", "repair"), "target_label_encoding 'IO', expected one of BIO, BIOUL"),
        ((None, "BIO", "repair"), "with the label_encoding null"),
        (("BIO", None, "fix"), "on_invalid_tags .* is 'fix'; expected one of 'repair', 'keep', 'error'"),
        (("BIO", "BIOUL", "keep"), "cannot both stay as they are and be converted"),
    ],
)
def test_options_that_do_not_fit(options, message):
    with pytest.raises(ConfigurationError, match=message):
        RecodingOptions(*options)


def test_a_target_for_tags_that_are_no_spans():
    with pytest.raises(ConfigurationError, match=r"f.txt: found tags without spans, expected span tags"):
        TagRecoder("f.txt", DetectedTags(None), RecodingOptions("auto", "BIO"))
