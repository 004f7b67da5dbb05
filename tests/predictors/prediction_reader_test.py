import gzip
import json

import pytest
from allennlp.common.checks import ConfigurationError

from ldnet_allennlp.data.conll.reader import ConllColumnsReader
from ldnet_allennlp.data.rule_based_tokenizer import RuleBasedTokenizer
from ldnet_allennlp.predictors.prediction_reader import PredictionReader
from tests.resources import FIXTURES


def sentences(path, kind="auto", **options):
    reader = PredictionReader(ConllColumnsReader(**options), kind)
    return [instance.words.sentences for instance in reader.read(path)]


@pytest.mark.parametrize("compressed", [False, True])
def test_a_line_of_text_is_an_input(tmp_path, compressed):
    content = "a b\n\n  \nc\u00a0d".encode()
    path = tmp_path / ("x.txt.gz" if compressed else "x.txt")
    path.write_bytes(gzip.compress(content) if compressed else content)
    reader = ConllColumnsReader(tokenizer=RuleBasedTokenizer(mode="whitespace"))
    instances = list(PredictionReader(reader, "text").read(str(path)))
    assert [instance.words.sentences for instance in instances] == [[["a", "b"]], [], [], [["c\u00a0d"]]]
    assert [str(instance) for instance in instances] == [
        "a b",
        "",
        "",
        "c\u00a0d",
    ]  # what allennlp predict prints


def test_the_readers_tokenizer_splits_texts(tmp_path):
    (tmp_path / "a.txt").write_text('Sen. Amy\nKlobuchar left. She said "no".\n')
    (words,) = sentences(tmp_path / "a.txt")  # a document, by what it looks like
    assert words == [["Sen.", "Amy", "Klobuchar", "left", "."], ["She", "said", '"', "no", '"', "."]]


def test_columns_without_their_labels():
    reader = ConllColumnsReader(column_names=["word", "pos", "chunk", "ner"])
    path = str(FIXTURES / "conll" / "conll2003.txt")
    for kind in ("auto", "conll"):
        first, *_ = PredictionReader(reader, kind).read(path)
        labeled, *_ = reader.read(path)
        assert "tags" not in first.fields and "tags" in labeled.fields
        assert first.words.sentences == [labeled["metadata"]["words"]]
        assert [row[0] for row in first.beside["columns"]] == labeled["metadata"]["words"]
        assert {len(row) for row in first.beside["columns"]} == {4}


def test_labels_that_training_did_not_have_stop_nothing(tmp_path):
    (tmp_path / "a.conll").write_text("Ada B-NEW\nlived O\n\nin O\n")
    assert sentences(tmp_path / "a.conll") == [[["Ada", "lived"]], [["in"]]]


@pytest.mark.parametrize(
    "content, kind, message",
    [
        (b"a\n\xff\n", "text", r"x, line 2: byte 1 is 0xff, which is not UTF-8"),
        (b'{"text": "a"}\n{"tokens": [null]}\n', "auto", "x, line 2: word 1 is None; expected a string"),
        (b'{"text": "a"}\n{"text" "a"}\n', "auto", "x, line 2: expected JSON such as"),
        (json.dumps([{"text": "a"}, None]).encode(), "auto", "x, item 2: the words are None"),
    ],
)
def test_errors_name_the_place(tmp_path, content, kind, message):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(ConfigurationError, match=message):
        sentences(tmp_path / "x", kind)


def test_a_folder_without_files(tmp_path):
    with pytest.raises(ConfigurationError, match="no file in this folder"):
        sentences(tmp_path)


def test_a_sentence_that_ends_like_a_tag_is_text():
    reader = PredictionReader(ConllColumnsReader())
    for line in ("We got the answer by fax and by E-mail", "They went to the station and took the S-Bahn"):
        assert reader.parse_line(line) == {"sentence": line}
    with pytest.raises(ConfigurationError, match="a row of CoNLL columns"):
        reader.parse_line("E-mail NN I-NP O")
