"""Prediction on words of any kind: the words that come out are those that went in, in each output."""

import html
import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ldnet_allennlp.common.verification import difference
from ldnet_allennlp.predictors.ldnet_tagger import LdnetTaggerPredictor
from ldnet_runtime.tag_schemes import spans_from_tags
from tests.fuzz import FUZZ
from tests.fuzz.texts import WORDS, maybe_compressed
from tests.taggers import build_tagger, tagger_params

# What ends a line for one reader or another: `inline` writes blanks for them, as there is one sentence a line.
LINE_END = re.compile("[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]+")
KNOWN = st.sampled_from(["the", "list", "of", "a", "class", "python"])
MANY_WORDS = st.lists(st.one_of(WORDS, KNOWN), max_size=7)


@pytest.fixture(scope="module")
def tagger(language_models):
    return build_tagger(tagger_params(language_models))


PREDICTORS = {}


def predictor_of(tagger, **options):
    """Made once: an example should cost a prediction and no export."""
    key = id(tagger), tuple(options.items())
    if key not in PREDICTORS:
        PREDICTORS[key] = LdnetTaggerPredictor(tagger.model, tagger.reader, **options)
    return PREDICTORS[key]


def in_torch(tagger, sentences):
    predictor = predictor_of(tagger, n_best=2, marginals=True, engine="torch")
    return predictor.predict_batch_json([{"tokens": words} for words in sentences])


@settings(FUZZ, max_examples=40)
@given(st.lists(st.lists(st.one_of(WORDS, KNOWN, st.text(max_size=3)), max_size=6), max_size=5))
def test_json(tagger, sentences):
    """Any list of strings, empty ones and halves of characters among them; spans are those of the tags."""
    outputs = predictor_of(tagger, n_best=2, marginals=True).predict_batch_json(
        [{"tokens": words} for words in sentences]
    )
    assert difference(outputs, in_torch(tagger, sentences)) == ""
    assert [output["words"] for output in outputs] == sentences
    plain = predictor_of(tagger)
    for words, output in zip(sentences, outputs):
        assert json.loads(plain.dump_line(output)) == output
        assert len(output["tags"]) == len(output["marginals"]) == len(words)
        found = [(span["type"], span["start"], span["end"] - 1) for span in output["spans"]]
        assert found == spans_from_tags(output["tags"], "BIOUL")
        assert all(span["text"] == " ".join(words[span["start"] : span["end"]]) for span in output["spans"])
        assert all(abs(sum(of_tag.values()) - 1) < 1e-4 for of_tag in output["marginals"])


@settings(FUZZ, max_examples=40)
@given(st.lists(MANY_WORDS, min_size=1, max_size=4))
def test_inline_is_reversible(tagger, sentences):
    """Words and spans can be read out of the line, whatever signs the words have."""
    predictor = predictor_of(tagger, output="inline")
    outputs = predictor.predict_batch_json([{"tokens": words} for words in sentences])
    for words, output in zip(sentences, outputs):
        line = predictor.dump_line(output)
        assert line.endswith("\n") and not LINE_END.search(line[:-1])
        marks = [(mark.start(), mark.group()) for mark in re.finditer(r"</?[^<>]*>", line)]
        assert line.count("<") == line.count(">") == len(marks) == 2 * len(output["spans"])
        text = re.sub(r"<[^/<>]*> | </[^<>]*>", "", line[:-1])
        assert html.unescape(text) == LINE_END.sub(" ", " ".join(words))
        for opening, closing, span in zip(marks[::2], marks[1::2], output["spans"]):
            assert opening[1] == f"<{span['type']}>" and closing[1] == f"</{span['type']}>"
            inside = line[opening[0] + len(opening[1]) + 1 : closing[0] - 1]
            assert html.unescape(inside) == LINE_END.sub(" ", span["text"])


@settings(FUZZ, max_examples=40)
@given(
    st.lists(
        st.lists(st.lists(WORDS, min_size=3, max_size=3), min_size=1, max_size=5), min_size=1, max_size=4
    ),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
    st.integers(1, 3),
)
def test_columns_are_kept(tagger, tmp_path, sentences, end, compressed, window):
    """All columns of all words, in order, and the predicted tag after them."""
    content = (end + end).join(end.join(" ".join(row) for row in rows) for rows in sentences) + end
    (tmp_path / "in").write_bytes(maybe_compressed(b"\xef\xbb\xbf" + content.encode(), compressed))
    predictor = predictor_of(tagger, input="conll", output="conll", tag_encoding="BIO", confidences=False)
    assert predictor.tag_file(str(tmp_path / "in"), str(tmp_path / "out"), window) == len(sentences)
    blocks = (tmp_path / "out").read_bytes().decode().split("\n\n")
    assert blocks.pop() == ""
    found = [[line.split(" ") for line in block.split("\n")] for block in blocks]
    assert [[row[:-1] for row in rows] for rows in found] == sentences
    outputs = predictor_of(tagger).predict_batch_json(
        [{"tokens": [row[0] for row in rows]} for rows in sentences]
    )
    for rows, output in zip(found, outputs):
        expected = spans_from_tags(output["tags"], "BIOUL")
        assert spans_from_tags([row[-1] for row in rows], "BIO") == expected


@settings(FUZZ, max_examples=40)
@given(
    st.lists(
        st.text(st.one_of(st.sampled_from(' \tab{["<'), st.characters(blacklist_categories=("Cs",)))),
        max_size=6,
    )
)
def test_lines_of_text(tagger, tmp_path, lines):
    """A text a line; offsets select its words. An empty line has none."""
    lines = [re.sub(r"[\r\n]", " ", line) for line in lines]
    (tmp_path / "in").write_bytes("".join(f"{line}\n" for line in lines).encode())
    predictor = predictor_of(tagger, input="text", confidences=False)
    assert predictor.tag_file(str(tmp_path / "in"), str(tmp_path / "out"), 3) == len(lines)
    outputs = [json.loads(line) for line in (tmp_path / "out").read_text("utf-8").split("\n")[:-1]]
    if lines and lines[0].startswith("\ufeff"):
        lines[0] = lines[0][1:]  # a byte order mark
    assert [output["text"] for output in outputs] == lines
    for line, output in zip(lines, outputs):
        assert bool(output["words"]) == bool(predictor.predict(line)["words"])
        for span in output["spans"]:
            assert line[span["start_char"] : span["end_char"]] == span["text"]


@settings(FUZZ, max_examples=60)
@given(st.lists(st.one_of(WORDS, st.sampled_from([" ", "\t", "\x0b", "\n", "\r"])), max_size=9))
def test_a_text_and_its_words_are_the_same(tagger, parts):
    """White space of ASCII's separates words, lines separate sentences."""
    text = "".join(parts)
    predictor = predictor_of(tagger, confidences=False)
    prediction = predictor.predict(text)
    position = 0
    for word in prediction["words"]:
        position = text.index(word, position) + len(word)
    sentences = [prediction["words"][start:end] for start, end in prediction.get("sentences", [])]
    sentences = sentences or [prediction["words"]]
    tags = [tag for words in sentences for tag in predictor.predict_json({"tokens": words})["tags"]]
    assert prediction["tags"] == tags
