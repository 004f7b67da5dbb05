import bz2
import errno
import gzip
import io
import json
import lzma

import pytest

from ldnet_runtime.errors import InputError
from ldnet_runtime.formats import read_items
from ldnet_runtime.formats.reading import detect
from ldnet_runtime.formats.words import words_of


def read(content, kind="auto"):
    content = content if isinstance(content, bytes) else content.encode()
    return [item.value for item in read_items(io.BytesIO(content), "the/file", kind)]


def words(content, kind="auto"):
    return [words_of(value, mode="whitespace").sentences for value in read(content, kind)]


@pytest.mark.parametrize(
    "content, kind",
    [
        ("", "text"),
        ("\n\n", "text"),
        ("the list of a class .\n", "text"),
        ('{"sentence": "a"}\n', "jsonl"),
        ('\n{ "tokens": ["a"]}\n', "jsonl"),
        ("{\n", "jsonl"),  # a pretty-printed object: refused as JSON lines
        ('[{"text": "a"}]', "jsonl"),
        ("[\n", "jsonl"),
        ("{python} is a word\n", "document"),
        ("[1] is a reference\n", "document"),
        ("Ada B-PER\nlived O\n", "conll"),
        ("two words\n" * 19 + "and three words\n", "text"),
        ("lived O\n" * 8 + "here\n" * 2 + "O\n", "text"),
        ("Ada NNP B-PER\nlived VBD O\nin O\n", "conll"),  # refused for its third row
        ("Ada NNP B-NP B-PER\nlived VBD B-VP O\n\nIn IN B-PP O\n", "conll"),
        ("-DOCSTART- -X- O O\n\nAda NNP B-NP B-PER\n", "conll"),
        ("# sent_id = 1\n1\tAda\tAda\tPROPN\t_\t_\t0\troot\t_\t_\n", "conll"),
        ("0\tHer\tO\n1\tdog\tO\n", "conll"),
        ("Ada\tPROPN\nlived\tVERB\nin\tADP\nLondon\tPROPN\n.\tPUNCT\n", "conll"),
        ("the\nlist\nof\na\n\nclass\n", "conll"),
        ("The\nlist\nended\n.\n\n", "conll"),
        ("Ada PROPN\nlived VERB\nin ADP\nLondon PROPN\n\n", "conll"),
        ("Ada B-PER\nlived O\nin O\nLondon B-LOC\n\n", "conll"),
        ("Ada Lovelace\nCharles Babbage\nGeorge Bush\nMary Smith\n\n", "text"),
        ("\nAda Lovelace\n\nCharles Babbage\n \n\nGeorge Bush\n\nMary Smith\n", "text"),
        ("Ada b-per\nsaw o\n", "conll"),
        ("Ada B_PER\nsaw O\n", "conll"),
        ("Ada PER:B\nsaw O\n", "conll"),
        ("Ada B\u2013PER\nsaw O\n", "conll"),
        ("<HEADLINE>\t\t\nStorm\tNN\tO\n\nParis\tNNP\tB-LOC\n", "conll"),
        ("fish###N swim###V .###.\nbirds###N\n", "conll"),
        ("an e-mail\n", "text"),
        ("see ### here\n", "text"),
        ("Vitamin O\n", "text"),
        ("a b\nc d\n", "text"),
        ("Ada Lovelace\nCharles Babbage\n\nAlan Turing\nGrace Hopper\n", "text"),
        ("I love you Ada\nYou love me Bob\n\nWe live in London\nThey live in Paris\n", "text"),
        ("Name\tCity\nAda Lovelace\tLondon\nAlan Turing\tManchester\nGrace Hopper\tNew York\n", "text"),
        ("1\tAda Lovelace lived in London.\n2\tShe wrote to Babbage.\n", "document"),
        ("Ada Lovelace lived in London.\n-DOCSTART- marks documents in CoNLL.\n", "document"),
        ("Ada NNP B-PER\nlived VBD O\n\n-DOCSTART- -X- O\n\nin IN O\n", "conll"),
        ("Ada\tada\nlived\tlive\n\nin\tin\nLondon\tlondon\n", "conll"),
        ("Ada ada\nlived live\n. .\n\nin in\nLondon london\n", "conll"),
    ],
)
def test_detection(content, kind):
    assert detect(content) == kind


def test_marks_are_no_words():
    assert words("<HEADLINE>\t\t\nStorm\tNN\tO\n\nParis\tNNP\tB-LOC\n") == [[["Storm"]], [["Paris"]]]


@pytest.mark.parametrize("ends", [("\t", ""), ("", "\t"), ("\t", "\t")])
def test_a_tab_at_the_end_of_a_row(ends):
    rows = [f"{number}\t{word}" + "\t_" * 8 for number, word in enumerate(("Ada", "left"), 1)]
    content = "# text = Ada left\n" + "".join(row + end + "\n" for row, end in zip(rows, ends)) + "\n"
    assert words(content) == [[["Ada", "left"]]]
    with pytest.raises(InputError, match="line 3: the row has 11 columns; expected 10 as in line 2"):
        read("# text = Ada left\n" + rows[0] + "\n" + rows[1] + "\tx\n")


def test_words_with_tags():
    content = "fish###N swim###V a###b###N\n\n.###.\n"
    assert words(content) == [[["fish", "swim", "a###b"]], [["."]]]
    assert read(content)[0]["columns"] == [["fish", "N"], ["swim", "V"], ["a###b", "N"]]


@pytest.mark.parametrize(
    "content, expected",
    [
        ("# # B-NP\n5 CD I-NP\n\n# # O\n", [[["#", "5"]], [["#"]]]),
        ("# id 7 domain=en\nAda _ _ B-PER\n", [[["Ada"]]]),
        ("# text = Vitamin O\n1\tVitamin\tO\n2\tO\tO\n", [[["Vitamin", "O"]]]),
    ],
)
def test_a_number_sign_is_a_word_if_its_row_has_a_tag(content, expected):
    assert words(content, "conll") == expected


def test_a_line_separator_within_a_json_array():
    assert words('["a\u2028b"]\n["c"]\n') == [[["a\u2028b"]], [["c"]]]


def test_each_file_by_itself():
    assert words("the list\n\n\u2028a  b\t\xa0c\r\n", "text") == [
        [["the", "list"]],
        [],
        [["\u2028a", "b", "\xa0c"]],
    ]
    assert words('{"sentence": "a b"}\n\n{"tokens": ["c d"]}\n"e f"\n["g"]\n') == [
        [["a", "b"]],
        [["c d"]],
        [["e", "f"]],
        [["g"]],
    ]
    assert words("a b\nc\n\nd", "document") == [[["a", "b"], ["c"], ["d"]]]


@pytest.mark.parametrize("indent", [None, 2])
def test_a_json_array(indent):
    items = [{"text": "a b"}, {"tokens": ["c"]}, {"tokens": []}]
    assert read(json.dumps(items, indent=indent)) == items
    assert read("[]") == []
    assert words('["Ada", "lived"]\n["x"]\n') == [[["Ada", "lived"]], [["x"]]]


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("size", [1, 9000])
@pytest.mark.parametrize(
    "items, are_words",
    [
        ([{"id": 1, "text": "Ada Lovelace wrote."}, {"id": 2, "text": "She lived."}], False),
        (["Ada Lovelace wrote.", "She lived in London."], False),
        ([{"text": "London"}, {"text": "Paris"}], False),
        (["Ada", 7], True),
        ([{"text": "Ada", "start": 0, "end": 3}, {"text": "wrote", "start": 4, "end": 9}], True),
    ],
)
def test_an_array_of_texts_or_of_words(items, are_words, size, indent):
    items = items * size
    assert read(json.dumps(items, indent=indent)) == ([items] if are_words else items)


def test_a_document_mark_within_a_sentence_is_a_word():
    assert words("-DOCSTART- O\n\n<b> O\n-DOCSTART- O\nx O\n") == [[["<b>", "-DOCSTART-", "x"]]]


def test_columns():
    content = "-DOCSTART- -X- O\n\nAda NNP B-PER\nlived VBD O\n\n \nIn IN O\n"
    first, second = read(content)
    assert first == {
        "tokens": ["Ada", "lived"],
        "columns": [["Ada", "NNP", "B-PER"], ["lived", "VBD", "O"]],
        "separator": " ",
    }
    assert second["tokens"] == ["In"]


def test_words_in_the_second_column():
    conllu = "# text = zum Haus\n1-2\tzum\t_\t_\t_\t_\t_\t_\t_\t_\n" + "".join(
        f"{n}\t{word}\t_\t_\t_\t_\t0\t_\t_\t_\n" for n, word in enumerate(["zu", "dem", "Haus"], start=1)
    )
    (sentence,) = read(conllu)
    assert sentence["tokens"] == ["zu", "dem", "Haus"] and sentence["separator"] == "\t"
    assert read("0\tHer\tO\n1\tdog\tO\n\n0\tIt\tO\n")[1]["tokens"] == ["It"]
    assert read("1999 CD O\nwas VBD O\n")[0]["tokens"] == ["1999", "was"]


def test_numbers_after_a_sentence_without_numbers_are_words():
    assert words("Ada NNP B-NP B-PER\nleft VBD B-VP O\n\n1 CD B-NP O\n")[1] == [["1"]]
    assert words("Ada\tB-PER\nleft\tO\n\n1\tO\n2\tO\n")[1] == [["1", "2"]]
    conllu = "".join(f"{n}\tAda" + "\t_" * 8 + "\n\n" for n in (7, 1))  # damaged numbers, and right ones
    assert words(conllu) == [[["7"]], [["Ada"]]]


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress, lambda content: content])
def test_compressed(compress):
    content = "\ufeff".encode() + b"a b\n" * 50000
    found = read(compress(content), "text")
    assert len(found) == 50000 and set(found) == {"a b"}
    assert read(compress(b"x\n") + compress(b"y"), "text") == ["x", "y"]


def test_zstandard():
    zstandard = pytest.importorskip("zstandard")
    content = zstandard.ZstdCompressor().compress(b"a b\n" * 1000)
    assert read(content) == ["a b"] * 1000


@pytest.mark.parametrize(
    "content, kind, message",
    [
        (b"a\n\xff\n", "text", "the/file, line 2: byte 1 is 0xff, which is not UTF-8"),
        (b"a\nb\n\nc \xff\n", "document", "the/file, line 4: byte 3 is 0xff, which is not UTF-8"),
        (
            b'{"text": "a"}\n{"text": \n',
            "jsonl",
            "line 2: expected JSON such as .*: Expecting value at column 10.",
        ),
        (b'[\n{"text": "a"},\n\n]', "jsonl", "the/file, line [34]: expected a JSON array .* at column 1[.]$"),
        (
            gzip.compress(b"".join(b"%d\n" % n for n in range(9999)))[:-2000],
            "text",
            "the/file, line .*: the file cannot be read any further",
        ),
        (
            b'{"text": "a"}\n{"text": \n',
            "auto",
            "the/file, line 2: expected JSON such as .*: Expecting value",
        ),
        (
            b"[" * 100000,
            "jsonl",
            "the/file, line 1: expected a JSON array of inputs: .*(recursion|Stack overflow)",
        ),
        (b'{"a": ' * 100000, "jsonl", "the/file, line 1: expected JSON such as .*(recursion|Stack overflow)"),
        (b"7\n", "jsonl", "the/file, line 1: expected an object, a text or a list of words, but it is 7"),
        (b"a O\nb\n", "conll", "the/file, line 2: the row has 1 columns; expected 2 as in line 1"),
        (8 * b"a N O\nb N B-x\n\n" + b"a N O\nb N\n", "auto", "line 26: the row has 2 columns; expected 3"),
        (8 * b"a\tO\nb\tB-x\n\n" + b"a\tO\nb\n", "auto", "line 26: the row has 1 columns; expected 2"),
        (b"", "csv", "the input is 'csv'; expected one of auto, text, document, jsonl, conll"),
    ],
)
def test_errors_name_the_place(content, kind, message):
    with pytest.raises(InputError, match=message):
        read(content, kind)


def test_a_file_that_cannot_be_read():
    class Broken(io.RawIOBase):
        def readable(self):
            return True

        def readinto(self, buffer):
            raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(InputError, match=r"the/file: the file cannot be read: Input/output error\.$"):
        list(read_items(Broken(), "the/file"))


def test_lines_across_blocks():
    lines = ["x" * size for size in (0, 65535, 65536, 65537, 200000, 1)]
    assert read("\n".join(lines), "text") == lines


def test_offsets_of_words_follow_each_other():
    tokens = [{"text": "b", "start": 0, "end": 1}, {"text": "a", "start": 2, "end": 3}]
    assert words_of({"text": "b a", "tokens": tokens}) == ([["b", "a"]], "b a", ([0, 2], [1, 3]))
    with pytest.raises(InputError, match="does not have the word 'b' after 'b a'"):
        words_of({"text": "b a", "tokens": tokens[::-1]})


def test_words_without_offsets_are_found_in_the_text():
    """The words joined by blanks have other offsets than those in the text."""
    text = "Ada  met Ada."
    assert words_of({"text": text, "tokens": ["Ada", "met", "Ada", "."]}) == (
        [["Ada", "met", "Ada", "."]],
        text,
        ([0, 5, 9, 12], [3, 8, 12, 13]),
    )
    with pytest.raises(InputError, match="the text does not have the word 'Bob' after 'Ada'; leave out"):
        words_of({"text": text, "tokens": ["Ada", "Bob"]})


def test_offsets_that_do_not_match_the_text():
    text = "\U0001f600 Ada"
    for start, end in ((3, 6), (2, 6), (-3, 5), (5, 2)):
        with pytest.raises(
            InputError, match=f"not match the text: found .* at {start} to {end}, expected 'Ada'"
        ):
            words_of({"text": text, "tokens": [{"text": "Ada", "start": start, "end": end}]})
    words = {"text": text, "tokens": [{"text": "Ada", "start": 0.5, "end": 0.7}]}  # seconds
    assert words_of(words) == ([["Ada"]], text, ([2], [5]))
