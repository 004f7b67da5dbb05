"""Which column is what, and options that do not fit together."""

import pytest
from allennlp.common.checks import ConfigurationError

from ldnet_allennlp.data.conll.columns import ColumnLayout, Row

NAMES = ["word", "pos", "chunk", "ner"]


@pytest.mark.parametrize(
    "options, word, tag",
    [
        ({}, 0, -1),
        ({"word_column": 1, "tag_column": "-2"}, 1, -2),
        ({"column_names": NAMES}, 0, 3),
        ({"column_names": NAMES, "tag_column": "pos"}, 0, 1),
        ({"column_names": NAMES, "tag_column": -2, "word_column": "word"}, 0, 2),
        ({"column_names": ["word", "parseme:mwe"], "tag_column": "parseme:mwe"}, 0, 1),
        ({"layout": "conllu"}, 1, 3),
        ({"layout": "conllu", "tag_column": "xpos"}, 1, 4),
        ({"layout": "conllu", "tag_column": "feats:Number"}, 1, 5),
        ({"layout": "conllu", "word_column": "lemma", "tag_column": "misc:Entity"}, 2, 9),
        ({"layout": "conllu", "column_names": ["id", "form", "ner"]}, 1, 2),
    ],
)
def test_columns_by_number_and_by_name(options, word, tag):
    layout = ColumnLayout(**options)
    row = Row(1, [f"field{number}" for number in range(len(layout.column_names or NAMES))])
    assert layout.words([row], "f") == [f"field{word}"]
    assert row.fields[layout.tag] == row.fields[tag]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"tag_column": "ner"}, "column 'ner', expected a number"),
        ({"column_names": NAMES, "tag_column": "NER"}, "'NER', expected one of word, pos, chunk, ner"),
        ({"column_names": NAMES, "tag_column": 4}, "column 4, expected a number below 4"),
        ({"column_names": NAMES, "tag_column": "word"}, "same column"),
        ({"column_names": ["word"]}, "same column"),
        ({"word_column": 2, "tag_column": 2}, "same column"),
        ({"extra_columns": ["lemma"]}, "column 'lemma'"),
        ({"layout": "conll"}, "layout .* is 'conll'; expected one of 'columns', 'conllu'"),
        ({"separator": ","}, "separator .* is ','; expected one of"),
        ({"labels": "some"}, "labels .* is 'some'; expected one of"),
        ({"comment_prefix": ""}, "comment_prefix ''"),
        ({"layout": "conllu", "comment_prefix": "# "}, "comment_prefix '# ' in the layout 'conllu'"),
        ({"missing_tag": "_"}, "missing_tag '_' with the tag_column -1"),
        ({"encoding": "utf-9"}, "encoding 'utf-9'"),
        ({"encoding": "utf-16"}, "encoding 'utf-16', expected .* contains ASCII"),
    ],
)
def test_options_that_do_not_fit(options, message):
    with pytest.raises(ConfigurationError, match=message):
        ColumnLayout(**options)


def test_a_byte_order_mark_is_no_matter_of_the_encoding():
    # As "utf-8-sig", decoding line by line would eat a U+FEFF at the start of each word.
    assert ColumnLayout(encoding="UTF-8-SIG").encoding == "utf-8"


class TestKeys:
    rows = (Row(1, ["a", "Case=Acc,Dat|Number=Plur"]), Row(2, ["b", "_"]))

    def test_the_value_of_a_key_is_the_tag(self):
        layout = ColumnLayout(tag_column="1:Number", missing_tag="none")
        assert layout.tags(self.rows, "f") == ["Plur", "none"]
        assert ColumnLayout(tag_column="1:Case").tags(self.rows[:1], "f") == ["Acc,Dat"]

    def test_a_missing_key_is_an_error(self):
        with pytest.raises(ConfigurationError, match=r"f, line 2: found '_' .* expected the key 'Number'"):
            ColumnLayout(tag_column="1:Number").tags(self.rows, "f")
