"""Files as people have them: each is read right, or refused with an error that names the setting to change."""

import logging

import pytest
from allennlp.common.checks import ConfigurationError

from ldnet_allennlp.data.conll.reader import ConllColumnsReader
from ldnet_runtime.tag_schemes import spans_from_tags, tags_from_spans
from tests.resources import FIXTURES

FOLDER = FIXTURES / "conll"
ADA_IN_PARIS = [("PER", 0, 1), ("LOC", 3, 3)]


def read(path, **options):
    return [
        (instance["metadata"]["words"], list(instance["tags"].labels))
        for instance in ConllColumnsReader(**options).read(path)
    ]


@pytest.fixture
def read_text(tmp_path):
    def function(text, name="file.txt", **options):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read(path, **options)

    return function


class TestSpellings:
    @pytest.mark.parametrize("options", [{}, {"label_encoding": "BIO"}])
    @pytest.mark.parametrize("name", ["underscore", "lower", "after", "after_underscore", "colon"])
    def test_files(self, name, options):
        for target in ("BIO", "BIOUL"):
            ((words, tags),) = read(FOLDER / f"prefix_{name}.conll", target_label_encoding=target, **options)
            assert words == ["Ada", "Lovelace", "saw", "Paris", "."]
            assert spans_from_tags(tags, target) == ADA_IN_PARIS

    @pytest.mark.parametrize("separator", list("_:./|@+=#~\u2010\u2013\u2014\u2212"))
    @pytest.mark.parametrize("pattern", ["{letter}{separator}{type}", "{type}{separator}{letter}"])
    @pytest.mark.parametrize("encoding", ["BIO", "IOB1", "BIOUL", "IOBES", "BMES"])
    @pytest.mark.parametrize("outside", ["O", "o"])
    def test_any_separator_on_either_side(self, read_text, pattern, separator, encoding, outside):
        spans = [("creative-work", 0, 0), ("creative-work", 1, 3), ("PER", 5, 6), ("PER", 7, 7)]
        rows = []
        for tag in tags_from_spans(spans, 9, encoding):
            letter, _, span_type = tag.partition("-")
            odd = pattern.format(letter=letter, separator=separator, type=span_type)
            rows.append(f"w {odd if span_type else outside}\n")
        for options in ({}, {"label_encoding": encoding}):
            ((_, tags),) = read_text("".join(rows), target_label_encoding="BIO", **options)
            assert spans_from_tags(tags, "BIO") == spans

    def test_the_log_shows_what_is_respelled(self, read_text, caplog):
        caplog.set_level(logging.INFO)
        assert read_text("a b-np\nb o\n") == [(["a", "b"], ["B-NP", "O"])]
        assert "'b-np' is read as 'B-NP'" in caplog.text

    def test_lower_case_outside_of_spans(self, read_text):
        assert read_text("a B-X\nb o\n") == [(["a", "b"], ["B-X", "O"])]
        assert read_text("a per\nb o\n", target_label_encoding="BIO") == [(["a", "b"], ["B-per", "O"])]
        assert read_text("a PER\nb o\n", label_encoding="BARE") == [(["a", "b"], ["PER", "O"])]

    def test_bare_types_can_be_declared(self, read_text):
        assert read_text("a B_cell\nb O\n", label_encoding="BARE") == [(["a", "b"], ["B_cell", "O"])]

    def test_a_spelling_that_is_not_known_is_refused(self, read_text):
        with pytest.raises(
            ConfigurationError, match=r"'BPER' \(line 1\) and 'IPER' \(line 2\).*tag_map.*BARE"
        ):
            read_text("a BPER\nb IPER\nc O\n")
        with pytest.raises(ConfigurationError, match=r"'PERb' \(line 1\) and 'PERi' \(line 2\)"):
            read_text("a PERb\nb PERi\nc O\n")

    def test_two_spellings_in_one_file(self, read_text):
        with pytest.raises(ConfigurationError, match=r"both 'B-PER' \(line 1\) and 'B_LOC' \(line 2\)"):
            read_text("a B-PER\nb B_LOC\nc O\n")
        tag_map = {"B_LOC": "B-LOC", "0": "O"}
        assert read_text("a B-PER\nb B_LOC\nc 0\n", tag_map=tag_map)[0][1] == ["B-PER", "B-LOC", "O"]

    def test_a_mark_for_words_without_label(self, read_text):
        assert read_text("a -\nb B-X\nc -\n") == [(["a", "b", "c"], ["O", "B-X", "O"])]
        for options in ({}, {"label_encoding": "BIO"}):
            message = 'partial_label: "-".*tag_map: {"-": "O"}'
            with pytest.raises(ConfigurationError, match=message):
                read_text("a -\nb B-X\nc O\n", **options)
        assert read_text("a -\nb B-X\nc O\n", tag_map={"-": "O"})[0][1] == ["O", "B-X", "O"]
        assert read_text("a -\nb B-X\nc O\n", partial_label="-")[0][1] == ["-", "B-X", "O"]

    def test_bmes_is_bioul_in_other_letters(self):
        for target in ("BMES", "BIOUL", "BIO"):
            ((_, tags),) = read(FOLDER / "bmes_o.conll", label_encoding="BMES", target_label_encoding=target)
            assert spans_from_tags(tags, target) == ADA_IN_PARIS


class TestBrackets:
    def test_ontonotes(self):
        sentences = read(FOLDER / "ontonotes.gold_conll", layout="ontonotes")
        assert sentences == [
            (["Ada", "Lovelace", "saw", "Paris"], ["B-PERSON", "I-PERSON", "O", "B-GPE"]),
            (["She", "left"], ["O", "O"]),
        ]

    @pytest.mark.parametrize(
        "comment", ["# sent_id = x-1", "# text = Ada left", "# newdoc id = x", "#text=Ada"]
    )
    def test_the_layout_of_conllu_is_named(self, read_text, comment):
        rows = "1\tAda\t_\tPROPN\n"
        with pytest.raises(ConfigurationError, match=f'found .{comment}., a comment.* the layout "conllu"'):
            read_text(f"{comment}\n{rows}")
        assert len(read_text(f"{comment}\n{rows}", comment_prefix="#", label_encoding=None)) == 1

    def test_the_layout_is_named(self):
        with pytest.raises(ConfigurationError, match='Expected the layout "ontonotes"'):
            read(FOLDER / "ontonotes.gold_conll")

    def test_brackets_in_any_columns(self, read_text):
        text = "a (X*\nb *\nc *)\nd *\ne (Y)\nf (Y*)\n"
        for options in ({}, {"label_encoding": "BRACKETS"}):
            ((_, tags),) = read_text(text, target_label_encoding="BIOUL", **options)
            assert tags == ["B-X", "I-X", "L-X", "O", "U-Y", "U-Y"]

    @pytest.mark.parametrize("rows", ["(X* (Y) *)", "(X(Y* * *))", "(X* * *", "* *) (X)", "(X* (X* *)"])
    def test_nested_and_unbalanced_ones_are_refused(self, read_text, rows):
        with pytest.raises(ConfigurationError, match=r"line [1-3]: found the tag .*balanced and not nested"):
            read_text("".join(f"w {tag}\n" for tag in rows.split()))


class TestRows:
    def test_an_empty_word(self, read_text):
        path = FOLDER / "empty_word.conll"
        for separator in ("whitespace", "tab"):
            message = "line 2: found nothing in the word_column 0.*empty_word"
            with pytest.raises(ConfigurationError, match=message):
                read(path, separator=separator)
            sentences = read(path, separator=separator, empty_word="_")
            assert sentences == [(["so", "_", "Paris"], ["O", "O", "B-LOC"])]

    def test_markup_between_sentences(self):
        for separator in ("whitespace", "tab"):
            sentences = read(FOLDER / "headline.conll", separator=separator)
            assert sentences == [(["Storm"], ["O"]), (["Paris"], ["B-LOC"])]

    def test_a_word_that_looks_like_markup(self, read_text):
        assert read_text("<URL>\tO\n<b>\tO\n") == [(["<URL>", "<b>"], ["O", "O"])]

    def test_a_tab_at_the_end(self, read_text):
        ((words, tags),) = read(FOLDER / "trailing_tab.conllu", layout="conllu")
        assert (words, tags) == (["Ada", "left"], ["PROPN", "VERB"])
        assert read_text("a\tX\nb\tY\t\n", separator="tab", label_encoding=None)[0][1] == ["X", "Y"]
        with pytest.raises(ConfigurationError, match="line 2: found 4 columns"):
            read_text("a\tX\nb\tY\t\t\n", separator="tab", label_encoding=None)

    def test_a_sentence_a_line(self, read_text):
        expected = [
            (["fish", "swim", "."], ["N", "V", "."]),
            (["birds", "sing", "."], ["N", "V", "."]),
            (["we", "listen", "."], ["P", "V", "."]),
        ]
        assert read(FOLDER / "sequence_tagging.tsv") == expected
        text = (FOLDER / "sequence_tagging.tsv").read_text()
        assert read_text(text.replace("###", "/"), word_tag_delimiter="/") == expected
        with pytest.raises(ConfigurationError, match="line 2: found 'sing', expected a word, '###'"):
            read_text("birds###N sing###V\nbirds###N sing\n")
        assert read_text("a###b X\n### Y\n", label_encoding=None) == [(["a###b", "###"], ["X", "Y"])]


class TestNumberedWords:
    @pytest.mark.parametrize("first", [0, 1])
    def test_numbers_are_no_words(self, read_text, first):
        rows = "".join(f"{n}\tw\tO\n" for n in range(first, first + 3))
        with pytest.raises(ConfigurationError, match=r"numbers the words.*set word_column"):
            read_text(f"{rows}\n{rows}")
        assert read_text(f"{rows}\n{rows}", word_column=1) == [(["w"] * 3, ["O"] * 3)] * 2

    def test_file(self):
        path = FOLDER / "numbered.conll"
        with pytest.raises(ConfigurationError, match="numbers the words"):
            read(path)
        assert read(path, word_column=1)[1] == (["She", "left"], ["O", "O"])

    def test_numbers_through_the_file(self, read_text):
        with pytest.raises(ConfigurationError, match="numbers the words"):
            read_text("1 a O\n2 b O\n\n3 c O\n4 d O\n")

    def test_a_hint_where_most_sentences_count(self, read_text, caplog):
        read_text("1 a O\n2 b O\n\n1 a O\n2 b O\n\nx y O\n")
        assert "most sentences consist of the numbers" in caplog.text

    def test_numbers_as_words(self, read_text, caplog):
        assert len(read_text("1 O\n\n2 O\n3 O\n\na O\n\nb O\n")) == 4
        assert read_text("1 O\n2 O\n3 O\n") == [(["1", "2", "3"], ["O"] * 3)]
        assert "consist of the numbers" not in caplog.text


class TestSurrogates:
    def test_pairs_are_joined(self, read_text):
        pair = "\U0001f600".encode("utf-16-be").decode("utf-16-be", "surrogatepass")
        halves = b"".join(
            chr(int.from_bytes(pair.encode("utf-16-be")[n : n + 2], "big")).encode("utf-8", "surrogatepass")
            for n in (0, 2)
        )
        assert read_text(b"a" + halves + b" X\n", label_encoding=None) == [(["a\U0001f600"], ["X"])]

    def test_halves_are_refused(self, read_text):
        with pytest.raises(ConfigurationError, match="line 2: found half of a surrogate pair"):
            read_text(b"a X\n\xed\xa0\xbd X\n\xed\xb8\x80 X\n", label_encoding=None)


class TestDeclaredEncoding:
    @pytest.mark.parametrize("written", ["BIO", "IOB1", "BIOUL", "IOBES"])
    @pytest.mark.parametrize("declared", ["BIO", "IOB1", "BIOUL", "BMES"])
    def test_another_one_is_named(self, read_text, written, declared):
        starts = (0, 4, 8, 12, 16, 19)
        spans = [("XY"[start % 8 == 4], start, start + 2) for start in starts]
        text = "".join(f"w {tag}\n" for tag in tags_from_spans(spans, 22, written)) + "\n"
        fits = {written, declared} in ({"BIO"}, {"IOB1"}, {"BIOUL"}, {"BIOUL", "IOBES"})
        if fits:
            assert len(read_text(3 * text, label_encoding=declared)) == 3
            return
        expected = f"ill-formed {declared}.*declared label_encoding {declared}. The tags look like {written}"
        with pytest.raises(ConfigurationError, match=expected):
            read_text(3 * text, label_encoding=declared)

    def test_slips_are_no_other_encoding(self, read_text):
        text = "a I-X\nb O\n\n" * 3 + "a B-X\nb I-X\n\n" * 10
        assert len(read_text(text, label_encoding="BIO")) == 13


class TestOtherFormats:
    def test_long_sentences_are_suspicious(self, read_text, caplog):
        read_text("w O\n" * 1000)
        assert "empty lines" not in caplog.text
        read_text("w O\n" * 1001)
        assert "line 1: found a sentence of 1001 words. Does the file lack empty lines" in caplog.text

    @pytest.mark.parametrize("name", ["array.json", "doccano.jsonl", "hf.jsonl", "spans_prodigy.jsonl"])
    @pytest.mark.parametrize("renamed", [None, "file.txt"])
    def test_json_names_its_reader(self, read_text, name, renamed):
        content = (FIXTURES / "annotated" / name).read_text()
        with pytest.raises(ConfigurationError, match=r"found JSON, expected columns.*'annotated_jsonl'"):
            read_text(content, renamed or name)

    @pytest.mark.parametrize("text", ["[ O\n{ O\n", '{"a" O\n', "{ X\n", "[1] X\n", '["a X\n'])
    def test_brackets_are_words(self, read_text, text):
        assert len(read_text(text, label_encoding=None)) == 1


class TestPartialLabels:
    def test_kept_in_the_same_encoding(self, read_text):
        text = "a B-X\nb ?\nc B_Y|O\nd O\n"
        assert read_text(text, partial_label="?")[0][1] == ["B-X", "?", "B-Y|O", "O"]

    @pytest.mark.parametrize(
        "tags, expected",
        [
            ("B-X L-X ? - U-X ?", "B-X L-X ? - U-X ?"),  # each sentence has a partial label
            ("B-X E-X ? - ? S-X", "B-X L-X ? - ? U-X"),
            ("U-X|U-Y ? - B-X|B-Y L-X|L-Y", "U-X|U-Y ? - B-X|B-Y L-X|L-Y"),
            ("B-X I-X O|B-M|I-M - O|B-M|I-M B-Y", "B-X L-X O|U-M|L-M - O|U-M|L-M U-Y"),
        ],
    )
    def test_the_encoding_is_detected(self, read_text, tags, expected):
        text = tags.replace(" - ", "\n\n").replace(" ", "\n")
        text = "".join(f"w {tag}\n" if tag else "\n" for tag in text.split("\n"))
        found = read_text(text, partial_label="?", target_label_encoding="BIOUL")
        assert " - ".join(" ".join(tags) for _, tags in found).split() == expected.split()

    @pytest.mark.parametrize("tags", ["I-X I-X O|B-M|I-M", "? I-X ?"])
    def test_full_labels_without_a_begin(self, read_text, tags):
        text = "".join(f"w {tag}\n" for tag in tags.split())
        assert read_text(text, partial_label="?")[0][1] == tags.split()
        with pytest.raises(ConfigurationError, match="partial labels in the encoding IOB1"):
            read_text(text, partial_label="?", target_label_encoding="BIOUL")

    @pytest.mark.parametrize(
        "source, target, tags, expected",
        [
            ("BIO", "BIOUL", "B-X I-X B-X O", "B-X L-X U-X O"),
            ("BIO", "BIOUL", "B-X ? I-X ? ?", "B-X|U-X ? I-X|L-X ? ?"),
            ("BIO", "BIOUL", "B-X|O I-X|O", "B-X|U-X|O L-X|O"),
            ("BIO", "BIOUL", "B-X|B-Y I-X", "B-X|U-Y L-X"),
            ("BIOUL", "BIO", "B-X L-X|U-X ? U-Y", "B-X I-X|B-X ? B-Y"),
            ("BIOUL", "BMES", "B-X I-X ? L-X U-Y", "B-X M-X ? E-X S-Y"),
        ],
    )
    def test_converted(self, read_text, source, target, tags, expected):
        text = "".join(f"w {tag}\n" for tag in [*tags.split(), "?"])
        ((_, found),) = read_text(
            text, label_encoding=source, target_label_encoding=target, partial_label="?"
        )
        assert found[:-2] == expected.split()[:-1]
        assert {*found[-2].split("|")} >= {*expected.split()[-1].split("|")} and found[-1] == "?"

    def test_refused_where_the_conversion_is_not_clear(self, read_text):
        options = {"label_encoding": "IOB1", "target_label_encoding": "BIO", "partial_label": "?"}
        with pytest.raises(ConfigurationError, match="partial labels in the encoding IOB1"):
            read_text("a I-X\nb ?\n", **options)


def test_the_padding_token_is_a_word():
    instance = ConllColumnsReader().text_to_instance(["Ada", "@@PADDING@@", "Paris"])
    assert instance["metadata"]["words"] == ["Ada", "@@PADDING@@", "Paris"]
    assert [token.text for token in instance["tokens"]] == ["Ada", "@@UNKNOWN@@", "Paris"]
