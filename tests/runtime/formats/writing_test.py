import html
import json
import random
import re

import pytest

from ldnet_runtime import Tagger
from ldnet_runtime.formats import OUTPUTS, Writer
from ldnet_runtime.formats.writing import column_lines, inline
from ldnet_runtime.prediction import Options
from tests.runtime import models

TEXT = "Ada Lovelace\nlived in London\n\n<London> & Charles"


@pytest.fixture(scope="module")
def tagger():
    return Tagger(models.word_model(), threads=1)


@pytest.fixture(scope="module")
def output(tagger):
    return tagger(TEXT).to_json()


def span(kind, start, end):
    return {"type": kind, "start": start, "end": end}


def read_back(line):
    """Words and spans, from the documented form alone."""
    words, spans, start = [], [], 0
    for part in line[:-1].split(" "):
        if part.startswith("</"):
            spans.append(span(html.unescape(part[2:-1]), start, len(words)))
        elif part.startswith("<"):
            start = len(words)
        else:
            words.append(html.unescape(part))
    return words, spans


def test_inline():
    line = inline(["Ada", "Lovelace", "in", "<London>", "."], [span("PER", 0, 2), span("LOC", 3, 4)])
    assert line == "<PER> Ada Lovelace </PER> in <LOC> &lt;London&gt; </LOC> .\n"
    assert inline([], []) == "\n"
    assert inline(["a\n\u2028b"], [span("", 0, 1)]) == "<span> a b </span>\n"


@pytest.mark.parametrize("seed", range(20))
def test_inline_can_be_read_back(seed):
    generator = random.Random(seed)
    words = [
        "".join(generator.choice("ab<>&/;lt") for _ in range(4)) for _ in range(generator.randrange(1, 12))
    ]
    spans, position = [], 0
    while position < len(words):
        end = min(len(words), position + generator.randrange(1, 4))
        if generator.random() < 0.5:
            spans.append(span(generator.choice(["PER", "creative-work", "A&B>"]), position, end))
        position = end
    line = inline(words, spans)
    assert read_back(line) == (words, spans)
    assert len(re.findall("<", line)) == 2 * len(spans)


def test_columns():
    assert column_lines(["a", "b"], ["O", "B-X"]) == "a O\nb B-X\n\n"
    assert column_lines(["a"], ["O"], [["1", "a b", ""]], "\t") == "1\ta b\t_\tO\n\n"
    assert column_lines(["New York", "", "a\nb\r", "\ud800"], ["O"] * 4) == "New_York O\n_ O\na_b_ O\n? O\n\n"
    assert column_lines([], []) == "\n"


def test_json(tagger, output):
    line = Writer("json").write(output)
    assert line.count("\n") == 1 and json.loads(line) == output
    assert output["text"] == TEXT and output["sentences"] == [[0, 2], [2, 5], [5, 8]]
    for found in output["spans"]:
        assert TEXT[found["start_char"] : found["end_char"]] == found["text"]
    strange = tagger(["日本", "\ud800", "\u2028", "Ada"], marginals=True).to_json(Options(marginals=True))
    line = Writer("json").write({**strange, "columns": []})
    assert json.loads(line) == strange and line.isascii() and len(line.splitlines()) == 1
    assert "日本" in Writer("json").write(tagger("日本").to_json())


def test_conll_and_inline_are_written_by_sentence(output):
    assert Writer("inline").write(output) == (
        "<PER> Ada Lovelace </PER>\nlived in <LOC> London </LOC>\n&lt;London&gt; &amp; <PER> Charles </PER>\n"
    )
    lines = Writer("conll", tag_encoding="IOBES").write(output).split("\n")
    assert lines[:3] == ["Ada B-PER", "Lovelace E-PER", ""] and lines[5] == "London S-LOC"
    columns = {"columns": [[word, "x"] for word in output["words"]], "separator": "\t"}
    assert (
        Writer("conll")
        .write({**output, **columns})
        .startswith("Ada\tx\tB-PER\nLovelace\tx\tI-PER\n\nlived\t")
    )


def test_standoff(output):
    """Positions are those in all texts one after the other, a line end between them."""
    writer = Writer("standoff")
    annotations = writer.write(output) + writer.write(output)
    whole = f"{TEXT}\n{TEXT}\n"
    rows = [line.split("\t") for line in annotations.splitlines()]
    assert [row[0] for row in rows] == [f"T{n}" for n in range(1, 7)]
    for _, place, surface in rows:
        start, end = map(int, place.split()[1:])
        assert whole[start:end] == surface


def test_standoff_over_a_line_end():
    spans = [{"type": "creative work", "start_char": 0, "end_char": 9}]
    assert (
        Writer("standoff").write({"text": "one\r\ntwo x", "spans": spans})
        == "T1\tcreative_work 0 3;5 9\tone two \n"
    )


@pytest.mark.parametrize("end", ["\v", "\f", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"])
def test_standoff_over_other_line_ends(end):
    spans = [{"type": "x", "start_char": 0, "end_char": 7}]
    assert Writer("standoff").write({"text": f"one{end}two", "spans": spans}) == "T1\tx 0 3;4 7\tone two\n"


def test_standoff_without_spans_of_no_characters(tagger):
    places = [(0, 0), (0, 1), (1, 4)]
    spans = [{"type": "x", "start_char": start, "end_char": end} for start, end in places]
    assert Writer("standoff").write({"text": "\nAda", "spans": spans}) == "T1\tx 1 4\tAda\n"


def test_annotation_tools(output):
    doccano = json.loads(Writer("doccano").write(output))
    assert doccano["text"] == TEXT
    assert [TEXT[start:end] for start, end, _ in doccano["label"]] == ["Ada Lovelace", "London", "Charles"]
    writer = Writer("label_studio")
    assert json.loads(writer.start() + writer.end()) == []
    lines = writer.start() + writer.write(output) + writer.write(output) + writer.end()
    studio, second = json.loads(lines)
    assert studio == second and lines.count("\n") == 2
    values = [result["value"] for result in studio["predictions"][0]["result"]]
    assert studio["data"]["text"] == TEXT
    assert [TEXT[v["start"] : v["end"]] for v in values] == ["Ada Lovelace", "London", "Charles"]
    assert [v["labels"] for v in values] == [["PER"], ["LOC"], ["PER"]]


def test_a_page(tagger, output):
    """Well-formed, self-contained, all text in it and nothing of it markup."""
    from html.parser import HTMLParser

    writer = Writer("html", tagger.span_types, title="<x>")
    page = writer.start() + writer.write(output) + writer.write(tagger("").to_json()) + writer.end()
    open_tags, texts = [], []

    class Parser(HTMLParser):
        def handle_starttag(self, tag, attributes):
            assert not {name for name, _ in attributes} & {"src", "href", "onclick"}
            if tag not in ("meta",):
                open_tags.append(tag)

        def handle_endtag(self, tag):
            assert open_tags.pop() == tag

        def handle_data(self, data):
            if open_tags and open_tags[-1] in ("p", "mark") and "p" in open_tags:
                texts.append(data)

    parser = Parser()
    parser.feed(page)
    assert open_tags == [] and "".join(texts) == TEXT and "<script" not in page
    assert page.count("<mark") == 3 + len(tagger.span_types) and "prefers-color-scheme: dark" in page
    assert "<h1>&lt;x&gt;</h1>" in page


def test_control_characters_in_a_page(tagger):
    page = Writer("html", tagger.span_types).write(tagger("Ada\rlived\fin\vLondon\x01.").to_json())
    assert re.sub("<[^>]*>|PER|LOC", "", page) == "Ada\nlived\nin\nLondon\ufffd.\n"


def test_a_page_of_several_files(tagger, output):
    writer = Writer("html", tagger.span_types)
    parts = [writer.write({**output, "file": name}) for name in ("a<.txt", "a<.txt", "b.txt")]
    assert [re.findall("<h2>(.*)</h2>", part) for part in parts] == [["a&lt;.txt"], [], ["b.txt"]]
    assert "<h2>" not in writer.write(output)


@pytest.mark.parametrize("name", OUTPUTS)
def test_every_output_of_nothing_and_of_strange_words(tagger, name):
    writer = Writer(name, tagger.span_types)
    for value in ("", [], ["", " ", "a\nb", "\ud800", "Ada", "\x00", "\u202e"]):
        writer.write(tagger(value).to_json()).encode("utf-8")


def test_an_unknown_output():
    with pytest.raises(ValueError, match="the output is 'xml'; expected one of json, inline, conll, html"):
        Writer("xml")
