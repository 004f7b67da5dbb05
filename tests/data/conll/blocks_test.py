"""Sentences of CoNLL-like files, whatever lies between them."""

import pytest
from allennlp.common.checks import ConfigurationError
from hypothesis import given, settings
from hypothesis import strategies as st

from ldnet_allennlp.data.conll.blocks import ColumnFile
from ldnet_allennlp.data.conll.columns import ColumnLayout
from tests.resources import FIXTURES


@pytest.fixture
def sentences_of(tmp_path):
    """Reads text with these options: (words, tags) of each sentence."""

    def read(content, **options):
        path = tmp_path / "file.txt"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return [
            (sentence.words, sentence.tags)
            for sentence in ColumnFile(str(path), ColumnLayout(**options)).sentences()
        ]

    return read


A, B = (["a"], ["X"]), (["b"], ["Y"])


class TestSentenceBreaks:
    @pytest.mark.parametrize(
        "content",
        [
            "a X\n\nb Y\n",
            "a X\n\nb Y",
            "\n\n \na X\n\n\n\nb Y\n\n",
            "a X\n\t\nb Y\n",
            "a X\n \t \x0b\x0c\nb Y\n",
            "\ufeffa X\r\n\r\nb Y\r\n",
            "a\tX\n\t\nb \t Y \n",
            " a X\n\n\tb Y\n",
        ],
    )
    def test_empty_lines_of_all_kinds(self, sentences_of, content):
        assert sentences_of(content) == [A, B]

    @pytest.mark.parametrize(
        "mark",
        [
            "-DOCSTART-",
            "-DOCSTART- O",
            "-DOCSTART-\tO",
            "-DOCSTART- -X- -X- O",
            "-DOCSTART- (1 EU)",
            " -DOCSTART- ",
        ],
    )
    def test_document_marks_glued_and_apart(self, sentences_of, mark):
        for content in ("{0}\n\na X\n\n{0}\n\nb Y\n", "{0}\na X\n\n{0}\nb Y\n", "a X\n{0}\nb Y\n\n{0}\n"):
            assert sentences_of(content.format(mark)) == [A, B]

    def test_a_document_mark_in_the_word_column(self, sentences_of):
        options = {"word_column": 1}
        assert sentences_of("1 a X\n1 -DOCSTART- O\n1 b Y\n", **options) == [A, B]

    def test_a_word_that_only_resembles_a_document_mark(self, sentences_of):
        assert sentences_of("DOCSTART X\n-DOCSTART X\n-DOCSTART-s X\n")[0][0] == [
            "DOCSTART",
            "-DOCSTART",
            "-DOCSTART-s",
        ]

    @pytest.mark.parametrize("content", ["", "\n", "\n \n\t\n", "-DOCSTART- O\n\n", "\ufeff"])
    def test_no_words_no_sentence(self, sentences_of, content):
        assert sentences_of(content) == []


class TestWords:
    @pytest.mark.parametrize(
        "word", ["\u200b", "\ufeffa\ufeff", "a\u00a0b", "\u2028", "\x85", "\x1c", "#", "# ", "\u3000"]
    )
    def test_only_ascii_white_space_separates(self, sentences_of, word):
        content = f"\n{word}\tO\nb\tO\n"
        assert sentences_of(content) == [([word.strip(" "), "b"], ["O", "O"])]
        assert sentences_of(content, separator="tab") == [([word.strip(" "), "b"], ["O", "O"])]

    def test_with_tabs_words_may_hold_blanks(self, sentences_of):
        assert sentences_of("New  York\t_\tX\n", separator="tab") == [(["New  York"], ["X"])]

    def test_another_encoding(self, sentences_of):
        content = "Ca\u00f1\u00f3n\u00a0 X\n".encode("latin-1")
        assert sentences_of(content, encoding="latin-1") == [(["Ca\u00f1\u00f3n\u00a0"], ["X"])]

    words = st.text(
        st.characters(blacklist_characters=" \t\n\r\x0b\x0c\0", blacklist_categories=("Cs",)), min_size=1
    ).filter(lambda word: word != "-DOCSTART-")

    @settings(deadline=None)
    @given(
        st.lists(st.lists(words, min_size=1), max_size=4),
        st.sampled_from([" ", "\t", " \t "]),
        st.sampled_from(["\n", "\r\n", "\r"]),
    )
    def test_no_word_is_lost_or_invented(self, tmp_path_factory, corpus, blank, end):
        path = tmp_path_factory.mktemp("words") / "file.txt"
        blocks = ["".join(f"{word}{blank}{n}{end}" for n, word in enumerate(words)) for words in corpus]
        path.write_bytes(("\ufeff" + (blank + end).join(blocks)).encode())
        found = list(ColumnFile(str(path), ColumnLayout()).sentences())
        assert [sentence.words for sentence in found] == corpus
        for sentence in found:
            assert sentence.tags == [str(n) for n in range(len(sentence.words))]


class TestComments:
    def test_there_are_none_unless_asked_for(self, sentences_of):
        assert sentences_of("# X\na X\n") == [(["#", "a"], ["X", "X"])]

    def test_only_before_a_sentence(self, sentences_of):
        content = "# id 1 domain=x\na X\n# X\n\n# id 2\nb Y\n"
        options = {"comment_prefix": "# id"}
        assert sentences_of(content, **options) == [(["a", "#"], ["X", "X"]), B]
        assert sentences_of("# 1\n\na X\n# X\n", comment_prefix="#") == [(["a", "#"], ["X", "X"])]

    def test_rows_with_tabs_are_words(self, sentences_of):
        options = {"comment_prefix": "#", "separator": "tab"}
        assert sentences_of("# a comment\n#\tX\n", **options) == [(["#"], ["X"])]

    def test_counted(self):
        file = ColumnFile(str(FIXTURES / "conll" / "words.conllu"), ColumnLayout("conllu"))
        assert [sentence.lines for sentence in file.sentences()] == [[4, 5, 6, 8, 9, 10], [13]]
        assert file.left_out == {"comments": 3, "multiword ranges": 1, "empty nodes": 1}


class TestConllu:
    path = str(FIXTURES / "conll" / "words.conllu")

    @pytest.mark.parametrize(
        "tag_column, tags",
        [
            ("upos", "AUX PART VERB SYM NUM NOUN"),
            ("xpos", "VB RB VB NN CD NNS"),
            ("feats:Number", "- - - Sing Plur Plur"),
            ("misc:Entity", "O O - - B-QUANTITY I-QUANTITY"),
        ],
    )
    def test_tags(self, tag_column, tags):
        missing_tag = "-" if ":" in tag_column else None
        layout = ColumnLayout(
            "conllu", tag_column=tag_column, missing_tag=missing_tag, extra_columns=["lemma", 0]
        )
        first = next(ColumnFile(self.path, layout).sentences())
        assert first.words == ["Do", "n't", "see", "#", "10 000", "trees"]
        assert first.tags == tags.split()
        assert first.extra == {
            "lemma": ["do", "not", "see", "#", "10 000", "tree"],
            "id": ["1", "2", "3", "4", "5", "6"],
        }

    @pytest.mark.parametrize(
        "identifiers, line, message",
        [
            ("1 2 4", 3, "found '4' in the first column, expected the word number 3"),
            ("1 2 1", 3, "found '1'.*expected the word number 3.*separated by empty lines"),
            ("2", 1, "found '2'"),
            ("x", 1, "found 'x'"),
            ("1 2-", 2, "found '2-'"),
            ("01", 1, "found '01'"),
        ],
    )
    def test_words_must_be_numbered(self, sentences_of, identifiers, line, message):
        content = "".join(f"{identifier}\tw\tX\n" for identifier in identifiers.split())
        with pytest.raises(ConfigurationError, match=f"file.txt, line {line}: {message}"):
            sentences_of(content, layout="conllu", column_names=["id", "form", "tag"])


class TestBadRows:
    @pytest.mark.parametrize(
        "content, options, message",
        [
            ("a X\n\nb\n", {}, r"line 3: found 1 column \('b'\), expected 2 as in the rows before"),
            (
                "a X\nNew York Y\n",
                {},
                r"line 2: found 3 columns \('New York Y'\), expected 2 .*separator 'tab'",
            ),
            ("a\n", {}, r"line 1: found 1 column \('a'\), expected a tag in tag_column -1"),
            (
                "a X\n",
                {"tag_column": 3},
                r"line 1: found 2 columns \('a X'\), expected a tag in tag_column 3",
            ),
            (
                "a X\n",
                {"word_column": 2},
                r"line 1: found 2 columns \('a X'\), expected at least 3 \(word_column is 2",
            ),
            ("a X\nb Y Z\n", {"tag_column": 2, "same_columns": False}, "line 1: found 2 columns"),
            (
                "a X\n",
                {"column_names": ["w", "p", "t"]},
                r"line 1: found 2 columns .*, expected 3 \(w, p, t\)",
            ),
            (
                "a X\n",
                {"extra_columns": [5]},
                "line 1: found 2 columns .*, expected at least 6 .extra column",
            ),
            (
                "a\tX\n\tY\n",
                {"separator": "tab"},
                r"line 2: found nothing in the word_column 0 .*expected a word",
            ),
            ("a\t \n", {"separator": "tab"}, r"line 1: found nothing in the tag_column -1 .*expected a tag"),
            (b"a X\nb\xff X\n", {}, r"line 2: found the byte 0xff at byte 2 .*expected utf-8|Expected utf-8"),
            (b"a X\nb\0 X\n", {}, "line 2: found a NUL byte"),
            ("a X\n\u200b\nb X\n", {}, "line 2: found 1 column"),
        ],
    )
    def test_errors_give_line_found_and_expected(self, sentences_of, content, options, message):
        with pytest.raises(ConfigurationError, match="file.txt, " + message):
            sentences_of(content, **options)

    def test_rows_may_differ_if_asked_for(self, sentences_of):
        assert sentences_of("a X\nb x Y\n", same_columns=False) == [(["a", "b"], ["X", "Y"])]


class TestLabels:
    def test_optional(self, sentences_of):
        assert sentences_of("a X\n\nb Y\n", labels="optional") == [A, B]
        assert sentences_of("a\n\nb\n", labels="optional") == [(["a"], None), (["b"], None)]
        names = {"column_names": ["word", "pos", "ner"], "labels": "optional"}
        assert sentences_of("a NN\n", **names) == [(["a"], None)]
        assert sentences_of("a NN X\n", **names) == [A]

    @pytest.mark.parametrize("content", ["a X\nb\n", "a\nb X\n", "a X\n\nb\n", "a\n\nb Y\n"])
    @pytest.mark.parametrize("same_columns", [True, False])
    def test_optional_means_all_or_none(self, sentences_of, content, same_columns):
        with pytest.raises(ConfigurationError, match=r"file.txt, line [23]: found"):
            sentences_of(content, labels="optional", same_columns=same_columns)

    def test_ignored(self, sentences_of):
        assert sentences_of("a X\n", labels="ignored") == [(["a"], None)]
        assert sentences_of("a\n", labels="ignored", column_names=["word"]) == [(["a"], None)]
