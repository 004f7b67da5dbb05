"""Any text, any words: what goes in comes out, and offsets select the very text."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ldnet_runtime import Tagger
from ldnet_runtime.formats import Writer
from ldnet_runtime.formats.words import words_of
from ldnet_runtime.prediction import Options
from ldnet_runtime.tag_schemes import spans_from_tags
from tests.fuzz import FUZZ
from tests.runtime import models

KNOWN = st.sampled_from(
    [
        *models.WORDS,
        "\u200b",
        "\u00a0",
        "\ud800",
        "e\u0301",
        "👩‍👩‍👧",
        ".",
        "\n\n",
        '"',
        "U.S.",
        "http://a.b/c",
    ]
)
TEXTS = st.lists(
    st.one_of(KNOWN, st.text(max_size=6), st.sampled_from([" ", "\n", "\t", "\r\n"])), max_size=20
)


@pytest.fixture(scope="module", params=["whitespace", "auto", "rule_based"])
def tagger(request):
    return Tagger(models.lstm_model(mode=request.param), threads=1)


@settings(FUZZ, max_examples=60)
@given(TEXTS.map("".join))
def test_texts(tagger, text):
    prediction = tagger(text, n_best=2, marginals=True)
    assert prediction.text == text
    assert [text[start:end] for start, end in zip(prediction.starts, prediction.ends)] == prediction.words
    assert prediction.starts == sorted(prediction.starts)
    assert len(prediction.tags) == len(prediction.words) == len(prediction.marginals)
    assert all(prediction.words)
    for span in prediction:
        assert text[span.start_char : span.end_char] == span.text
        assert span.text.startswith(prediction.words[span.start]) and span.text.endswith(
            prediction.words[span.end - 1]
        )
        assert 0 <= span.confidence <= 1
    spans = []
    for start, end in prediction.sentences:
        of_sentence = spans_from_tags(prediction.tags[start:end], "BIO")
        spans += [(label, start + first, start + last + 1) for label, first, last in of_sentence]
    assert spans == [(span.label, span.start, span.end) for span in prediction]
    assert prediction.sentences == [] or prediction.sentences[-1][1] == len(prediction.words)


@settings(FUZZ, max_examples=60)
@given(st.lists(st.one_of(KNOWN, st.text(max_size=6)), max_size=12))
def test_words(tagger, words):
    prediction = tagger(words)
    assert prediction.words == words and len(prediction.tags) == len(words)
    output = prediction.to_json(Options())
    assert json.loads(Writer("json").write(output)) == output
    assert words_of({"tokens": words}).sentences == [words]
    assert all(prediction.text[span.start_char : span.end_char] == span.text for span in prediction)
