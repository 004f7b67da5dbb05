"""Detection of span encodings: what is found must fit what was written."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ldnet_allennlp.data.conll.tag_detection import EncodingDetector
from ldnet_runtime.tag_schemes import spans_from_tags, tags_from_spans, validate
from tests.runtime.tag_schemes_test import LOSSLESS, any_tags, sentences


def detect_encoding(sequences):
    detector = EncodingDetector()
    for tags in sequences:
        detector.add(tags)
    return detector.detect().encoding


@settings(deadline=None)
@given(st.lists(sentences(), max_size=4), st.sampled_from(LOSSLESS))
def test_what_is_detected_fits_all_tags_and_leaves_the_spans(corpus, encoding):
    written = [tags_from_spans(spans, length, encoding) for length, spans in corpus]
    found = detect_encoding(written)
    assert found is not None
    for tags, (_, spans) in zip(written, corpus):
        assert validate(tags, found) == []
        assert spans_from_tags(tags, found) == spans


@pytest.mark.parametrize("encoding", LOSSLESS)
def test_a_corpus_with_all_kinds_of_spans_is_recognized(encoding):
    spans = [("A", 0, 0), ("A", 1, 3), ("B", 5, 6), ("B", 7, 7)]
    assert detect_encoding([tags_from_spans(spans, 9, encoding)]) == encoding


@pytest.mark.parametrize(
    "sequences, encoding",
    [
        ([], "BIO"),
        (["O O"], "BIO"),
        (["O I-A I-A O"], "IOB1"),
        (["O B-A O"], "BIO"),
        (["S-A O"], "IOBES"),
        (["U-A O"], "BIOUL"),
        (["B-A W-A M-A E-A"], "BMES"),
        (["B-A I-A", "B-B O I-B", "B-A"], "BIO"),  # one slip in BIO
        (["I-A I-A", "O I-B", "B-A"], "IOB1"),  # one slip in IOB1
        (["NOUN VERB O"], "BARE"),
        (["PER PER O creative-work"], "BARE"),
        (["NOUN VERB -LRB-"], None),
        (["S V N"], None),  # single letters, some of them also letters of encodings
        (["B I O B"], "BIO"),
    ],
)
def test_examples(sequences, encoding):
    assert detect_encoding(tags.split() for tags in sequences) == encoding


@settings(deadline=None)
@given(st.lists(any_tags, max_size=5), st.randoms(use_true_random=False))
def test_order_does_not_matter(sequences, generator: random.Random):
    shuffled = list(sequences)
    generator.shuffle(shuffled)
    assert detect_encoding(shuffled) == detect_encoding(sequences)


def test_a_mixture_is_refused_with_an_example_of_each():
    detector = EncodingDetector()
    detector.add(["O", "B-PER"], [1, 2])
    detector.add(["O", "NOUN", "NOUN"], [4, 5, 6])
    with pytest.raises(ValueError, match=r"both 'B-PER' \(line 2\) and 'NOUN' \(line 5\).*label_encoding"):
        detector.detect()
