import gzip

import pytest
from allennlp.common.checks import ConfigurationError

from ldnet_allennlp.data.conll.reader import ConllColumnsReader
from ldnet_allennlp.predictors.tagger_inputs import LineParser, PredictionReader, words_of
from tests.resources import FIXTURES


def parse_all(kind, *lines):
    parser = LineParser(kind, "the/file")
    return [words_of(parser.parse(line)) for line in lines]


def test_the_first_line_decides():
    assert parse_all("auto", '{"sentence": "a b"}\n', '{"tokens": ["c d"]}\n', "\n") == [
        ["a", "b"],
        ["c d"],
        [],
    ]
    assert parse_all("auto", "\n", "a b\r\n", '{"sentence": "c"}\n') == [
        [],
        ["a", "b"],
        ['{"sentence":', '"c"}'],
    ]
    assert parse_all("auto", '\ufeff{"sentence": "a"}') == [["a"]]
    assert parse_all("text", "\ufeff{ a", "\ufeffb") == [["{", "a"], ["\ufeffb"]]


def test_lines_of_text_may_hold_what_other_readers_take_for_line_ends():
    assert parse_all("text", "a\u2028b\x85c\x0bd e\xa0f\n") == [list("abcdef")]


@pytest.mark.parametrize(
    "line, found",
    [
        ("plain", "'plain', expected JSON .*: Expecting value"),
        ('{"sentence": "a"', "expected JSON .*: Expecting ',' delimiter"),
        ('{"text": "a"}', 'a "sentence" .text. or "tokens" .a list., but this was found: text'),
        ('["a"]', "but this was found: list"),
        ("[" * 100000, r"expected JSON such as .*recursion"),
    ],
)
def test_a_bad_line_is_named(line, found):
    parser = LineParser("jsonl", "the/file")
    parser.parse('{"sentence": "a"}')
    parser.parse("\n")
    with pytest.raises(ConfigurationError, match=f"the/file, line 3 .*: found .*{found}"):
        parser.parse(line)


def test_text_that_looks_like_json_is_not_lost():
    with pytest.raises(ConfigurationError, match='If the file is plain text, set "input": "text"'):
        LineParser("auto").parse("{curly} words")


@pytest.mark.parametrize("compressed", [False, True])
def test_blank_lines_of_files_are_sentences_without_words(tmp_path, compressed):
    content = "a b\n\n  \nc\u2028d".encode()
    path = tmp_path / ("x.txt.gz" if compressed else "x.txt")
    path.write_bytes(gzip.compress(content) if compressed else content)
    instances = list(PredictionReader(ConllColumnsReader(), "text").read(str(path)))
    assert [instance["metadata"].metadata["words"] for instance in instances] == [
        ["a", "b"],
        [],
        [],
        ["c", "d"],
    ]
    assert [str(instance) for instance in instances] == ["a b", "", "", "c d"]  # what allennlp predict prints


def test_bytes_that_are_no_text(tmp_path):
    path = tmp_path / "x.txt"
    path.write_bytes(b"a\n\xff\n")
    with pytest.raises(
        ConfigurationError, match=r"x.txt, line 2: found bytes that are not UTF-8 .* expected UTF-8"
    ):
        list(PredictionReader(ConllColumnsReader(), "text").read(str(path)))


def test_half_a_compressed_file(tmp_path):
    path = tmp_path / "x.txt.gz"
    path.write_bytes(gzip.compress(b"".join(b"%d\n" % number for number in range(9999)))[:-2000])
    with pytest.raises(
        ConfigurationError, match=r"x.txt.gz: could not be read after line \d+: .*complete file"
    ):
        list(PredictionReader(ConllColumnsReader(), "text").read(str(path)))


def test_columns_without_their_labels():
    reader = ConllColumnsReader(column_names=["word", "pos", "chunk", "ner"])
    path = str(FIXTURES / "conll" / "conll2003.txt")
    (first, *_), (labeled, *_) = list(PredictionReader(reader, "conll").read(path)), list(reader.read(path))
    assert "tags" not in first.fields and "tags" in labeled.fields
    metadata = first["metadata"].metadata
    assert [row[0] for row in metadata["columns"]] == metadata["words"] == labeled["metadata"]["words"]
    assert {len(row) for row in metadata["columns"]} == {4}
    assert str(first) == " ".join(metadata["words"])
