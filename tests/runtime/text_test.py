"""Sentences and words of raw text: the offsets select the words, and the cuts are where a reader expects them."""

import ast
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ldnet_runtime import text as text_module
from ldnet_runtime.text import MODES, TextError, looks_tokenized, resolve_mode, split_text
from tests.resources import FIXTURES, ROOT

ARTICLE = (FIXTURES / "text" / "article.txt").read_text(encoding="utf-8")


def sentences(text, **options):
    return [" ".join(sentence.words) for sentence in split_text(text, **{"mode": "rule_based", **options})]


def check_offsets(text, found):
    """Offsets select the words; words are in order, hold no white space, and leave nothing visible out."""
    rest, previous = list(text), 0  # `rest` keeps the characters outside of words
    for sentence in found:
        assert sentence.words and len(sentence.words) == len(sentence.starts) == len(sentence.ends)
        for word, start, end in zip(*sentence, strict=True):
            assert text[start:end] == word and previous <= start < end
            assert not set(word) & set(" \t\n\r\f\v")
            rest[start:end] = [""] * (end - start)
            previous = end
    return "".join(rest)


PIECES = st.sampled_from(
    [
        *[
            ".",
            "!",
            "?",
            ",",
            '"',
            "'",
            "\u201d",
            "(",
            ")",
            "\u2026",
            "...",
            "\u3002",
            "*",
            "-",
            "1.",
            "\u2022",
            ":-)",
        ],
        *["Dr.", "U.S.", "a.m.", "J.", "don't", "Okafor's", "http://a.b/c?d=e,f", "x@y.org", "$3.5bn", "No."],
        *[
            "The",
            "he",
            "Paris",
            "\u6771\u4eac",
            "\u00e9t\u00e9",
            "cafe\u0301",
            "\ud83d",
            "\0",
            "#tag",
            "@user",
        ],
        *[
            "\U0001f469\u200d\U0001f469\u200d\U0001f467",
            "\U0001f1e9\U0001f1ea",
            "\U0001f44d\U0001f3fd",
            "1\ufe0f\u20e3",
        ],
        *[
            " ",
            " ",
            "\n",
            "\n\n",
            "\r\n",
            "\r",
            "\t",
            "\u00a0",
            "\u200b",
            "\ufeff",
            "\u2028",
            "\u2029",
            "\f",
            "\x85",
            "  ",
        ],
    ]
)
TEXTS = st.one_of(st.lists(PIECES, max_size=25).map("".join), st.text(max_size=60))


class TestOffsets:
    @settings(deadline=None, max_examples=300)
    @given(TEXTS, st.sampled_from(MODES))
    def test_they_select_the_words(self, text, mode):
        rest = check_offsets(text, split_text(text, mode=mode))
        hidden = rest.translate(text_module._BLANKS)
        assert not hidden.strip() and (
            resolve_mode(text, mode) == "rule_based" or not rest.strip(" \t\n\r\f\v")
        )

    @settings(deadline=None, max_examples=100)
    @given(TEXTS)
    def test_paragraphs_do_not_depend_on_each_other(self, text):
        once = split_text(text, mode="rule_based")
        twice = split_text(f"{text}\n\n{text}", mode="rule_based")
        assert [sentence.words for sentence in twice] == 2 * [sentence.words for sentence in once]

    def test_article(self):
        found = split_text(ARTICLE)
        assert not check_offsets(ARTICLE, found).strip()
        starts = {start for sentence in found for start in sentence.starts}
        ends = {end for sentence in found for end in sentence.ends}
        for line in (FIXTURES / "text" / "article.tsv").read_text(encoding="utf-8").splitlines():
            start, end, _, quoted = line.split("\t")
            assert ARTICLE[int(start) : int(end)] == ast.literal_eval(quoted)
            assert int(start) in starts and int(end) in ends
        assert [sentence.words[0] for sentence in found] == ["GENEVA", "Her", "The", '"', "Caf\u00e9"]

    @pytest.mark.parametrize(
        "word",
        [
            "\U0001f469\u200d\U0001f469\u200d\U0001f467",
            "\U0001f44d\U0001f3fd",
            "\U0001f1e9\U0001f1ea",
            "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
            "\u2764\ufe0f\u200d\U0001f525",
            "1\ufe0f\u20e3",
            "cafe\u0301",
            "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
            "http://example.org/a_b?c=d",
            "name@example.org",
        ],
    )
    def test_one_word(self, word):
        for text in (word, f"see {word} here", f"({word})", f"\u200b{word}\ufeff"):
            assert word in split_text(text, mode="rule_based")[0].words
        assert sentences(2 * "\U0001f1e9\U0001f1ea") == ["\U0001f1e9\U0001f1ea \U0001f1e9\U0001f1ea"]

    @pytest.mark.parametrize(
        "piece, num_words",
        [
            ('"', 20_000),
            ("(", 20_000),
            ("a/", None),
            (2 * "\U0001f1e9\U0001f1ea", 40_000),
            ("\U0001f469\u200d", 1),
            ("\U0001f1e6\U0001f1e6\u200d", 1),
            ("a", 20),
            ("\n- ", 20_000),
        ],
    )
    def test_long_runs(self, piece, num_words):
        """Some of them take spaCy's tokenizer, or a rule of ours, quadratic time if they are not cut."""
        text = 20_000 * piece
        found = split_text(text, mode="rule_based")
        assert not check_offsets(text, found).strip()
        assert num_words in (None, sum(len(sentence.words) for sentence in found))

    def test_blanks_of_all_kinds_separate_words(self):
        for blank in (
            " ",
            "\t",
            "\u00a0",
            "\u200b",
            "\ufeff",
            "\u2009",
            "\u2060",
            "\u3000",
            "\u200e",
            " \t ",
        ):
            assert sentences(f"{blank}Ada{blank}left{blank}") == ["Ada left"]
        assert split_text("Ada\u00a0left\u200b here", mode="whitespace")[0].words == [
            "Ada\u00a0left\u200b",
            "here",
        ]


class TestSentences:
    @pytest.mark.parametrize(
        "text, expected",
        [
            ("Sen. Amy\nKlobuchar left. She won.", ["Sen. Amy Klobuchar left .", "She won ."]),
            ("Sen. Amy\r\nKlobuchar left.", ["Sen. Amy Klobuchar left ."]),
            ("A headline\n\nThe text.\n \nMore", ["A headline", "The text .", "More"]),
            ('"Yes." She left.', ['" Yes . "', "She left ."]),
            ('It ended. "We won," he said.', ["It ended .", '" We won , " he said .']),
            ("\u201cWhy?\u201d he asked. (No.) Then", ["\u201c Why ? \u201d he asked .", "( No . )", "Then"]),
            ("At 9:30 a.m. Mr. Ray met J. R. Okafor Jr. of Acme Inc. in St. Paul.", 1),
            ("He runs Acme Inc. The firm is old.", ["He runs Acme Inc.", "The firm is old ."]),
            ("He left the U.S. He said so.", ["He left the U.S.", "He said so ."]),
            ("The U.S. Senate met. It voted 3.5 to 2.", 2),
            ("See No. 5 and pp. 3. Then go.", 2),
            ("It cost approx. $3.5 million.", 1),
            ("Wait... what? No! Really?! Yes", 4),
            ("He paused\u2026 and left\u2026 Then", 2),
            (
                "- Ada left\n- Bob stayed\n1. One\n2. Two",
                ["- Ada left", "- Bob stayed", "1 . One", "2 . Two"],
            ),
            ("On May\n12. June", 2),
            ("Yahoo! is old. iPhone", 1),
            ("", []),
            (" \n\u200b\n", []),
        ],
    )
    def test_examples(self, text, expected):
        found = sentences(text)
        assert (len(found) if isinstance(expected, int) else found) == expected

    def test_other_languages(self):
        assert len(sentences("\u6771\u4eac\u3002\u65e5\u672c\u3002", language="zh")) == 2
        assert sentences("Herr Dr. M\u00fcller kam z.B. am 3. Mai. Er ging.", language="de") == [
            "Herr Dr. M\u00fcller kam z.B. am 3. Mai .",
            "Er ging .",
        ]
        assert sentences("M. Dupont l'a vu. Il part.", language="fr") == ["M. Dupont l' a vu .", "Il part ."]


class TestModes:
    @pytest.mark.parametrize(
        "text, is_tokenized",
        [
            ("Ada Lovelace left Paris .", True),
            ("Ada Lovelace left Paris.", False),
            ("He said , `` We do n't know . ''", True),
            ("Mr. Babbage saw the U.S. Senate in St. Paul .", True),
            ("Mr. Babbage (of London) left.", False),
            ("Ada left Paris", True),
            ("I met Bob. He is nice", False),
            ("Profits rose 5%.", False),
            ("Her record is 3.5.", False),
            ("Mr. J. Smith left the U.S. in May", True),
            ("Angela\u00a0Merkel visits Paris", False),
            ("\ufeffAngela visits Paris", False),
            ("It costs 10\u00a0000 euros .", True),
            ("Ada left Zu\u0308rich.", False),
            ("I don't know", False),
            ("I don't know .", True),
            ("Quoi ? Non, merci.", False),
            ("Ada left Paris .\nShe ( 27 ) met Bob , too .\n", True),
            ("\u6771\u4eac\u306f\u65e5\u672c\u306e\u9996\u90fd\u3067\u3059", False),
            (ARTICLE, False),
        ],
    )
    def test_auto(self, text, is_tokenized):
        assert looks_tokenized(text) is is_tokenized
        assert resolve_mode(text, "auto") == ("whitespace" if is_tokenized else "rule_based")
        assert split_text(text) == split_text(text, mode=resolve_mode(text, "auto"))

    def test_combining_marks_take_linear_time(self):
        assert looks_tokenized("a" + "\u0315\u0300" * 250_000)

    def test_lines_of_tokenized_text_are_sentences(self):
        assert [s.words for s in split_text("a b .\n\n \nc .\r\n")] == [["a", "b", "."], ["c", "."]]

    def test_the_log_names_the_mode_of_the_first_text_of_each_kind(self, monkeypatch, caplog):
        monkeypatch.setattr(text_module, "_reported", set())
        with caplog.at_level("INFO"):
            for text in ("Ada left.", "Bob left.", "Ada left .", "Bob left ."):
                split_text(text)
            split_text("Ada left.", mode="rule_based")
        assert [record.message for record in caplog.records] == [
            'Tokenizer mode "auto": text such as \'Ada left.\' is split by rules ("mode": "rule_based").',
            'Tokenizer mode "auto": text such as \'Ada left .\' is taken as tokenized ("mode": "whitespace").',
        ]

    def test_unknown_names(self):
        with pytest.raises(TextError, match="mode 'word', expected one of auto, rule_based, whitespace"):
            split_text("a", mode="word")
        with pytest.raises(TextError, match="'qq' cannot be split into words: it is not a spaCy language"):
            split_text("a", "qq", "rule_based")


def test_threads_and_rebuilt_tokenizers(monkeypatch):
    monkeypatch.setattr(text_module, "_MOST_WORDS", 5000)
    texts = [f"Word{n} isn't new. Word{n + 1}, too." for n in range(2000)]
    expected = [sentences(text) for text in texts]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(sentences, texts)) == expected


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_forked_child_splits():
    rules = text_module._Rules.of("en")
    with rules._lock:  # as if another thread were at it
        child = os.fork()
        if child == 0:
            os._exit(0 if sentences("Ada left.") == ["Ada left ."] else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_without_spacy_tokenized_text_is_split_and_raw_text_names_the_extra():
    code = (
        "import sys; sys.modules['spacy'] = None\n"
        "from ldnet_runtime.text import TextError, split_text\n"
        "assert split_text('Ada left .')[0].words == ['Ada', 'left', '.']\n"
        "try: split_text('Ada left.')\n"
        "except TextError as error: assert \"pip install 'ldnet-runtime[text]'\" in str(error)\n"
        "else: raise SystemExit('no error')\n"
        "assert not {'numpy', 'torch', 'allennlp'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=60)
