"""The "conll_columns" reader on files of any kind: each word once, or an error with its place."""

import re

import pytest
from allennlp.common.checks import ConfigurationError
from hypothesis import given, settings
from hypothesis import strategies as st

from ldnet_allennlp.data.conll.reader import ConllColumnsReader
from ldnet_allennlp.data.conll.tag_spelling import respell
from ldnet_runtime.tag_schemes import UnreadableTag, spans_from_tags, validate
from tests.fuzz import FUZZ
from tests.fuzz.texts import (
    BLANKS,
    END_OF_ROW,
    LINE_ENDS,
    NEARLY_TEXT,
    WORDS,
    first_bad_line,
    lines_of,
    maybe_compressed,
)

DOCSTART = "-DOCSTART-"
# Those in which an encoding has one spelling only: it reads E as L, S as U, and W as S.
LETTERS = {"BIO": "BI", "IOB1": "BI", "BIOUL": "BILU", "BMES": "BMES"}
SPAN_TAGS = st.one_of(
    st.just("O"), st.builds("{}-{}".format, st.sampled_from("BIMELSUW"), st.sampled_from(["X", "Y-Z"]))
)


@pytest.fixture
def read(tmp_path):
    """The words and the tags of each sentence of a file with this content."""
    path = tmp_path / "corpus"

    def function(content, **options):
        path.write_bytes(content)
        reader = ConllColumnsReader(**options)
        return [
            (instance["metadata"]["words"], instance["tags"].labels if "tags" in instance.fields else None)
            for instance in reader._read(str(path))
        ]

    return function


words_of_sentences = st.lists(
    st.lists(WORDS.filter(lambda word: word != DOCSTART), min_size=1, max_size=5), min_size=1, max_size=4
)


@FUZZ
@given(st.data(), words_of_sentences)
def test_what_was_written_is_read(read, data, sentences):
    """With any blanks between columns, line ends, empty lines and document marks, plain or compressed."""
    end, blank = data.draw(LINE_ENDS), data.draw(BLANKS)
    extra = data.draw(st.lists(WORDS, max_size=2))
    gaps = st.lists(st.sampled_from(["", " ", "\t \v", f"{DOCSTART} O", DOCSTART]), min_size=1, max_size=3)
    tagged = [[(word, data.draw(WORDS)) for word in sentence] for sentence in sentences]
    lines = []
    for sentence in tagged:
        lines += data.draw(gaps) if lines else data.draw(st.one_of(st.just([]), gaps))
        lines += [blank.join([word, *extra, tag]) for word, tag in sentence]
    mark = data.draw(st.sampled_from(["", "\ufeff"]))
    if lines[0].startswith("\ufeff"):
        mark = "\ufeff"  # one is dropped
    content = (mark + end.join(lines) + data.draw(st.sampled_from(["", end, end + end]))).encode()
    found = read(maybe_compressed(content, data.draw(st.booleans())), label_encoding=None)
    assert found == [([word for word, _ in sentence], [tag for _, tag in sentence]) for sentence in tagged]


@settings(FUZZ, max_examples=200)
@given(NEARLY_TEXT)
def test_any_bytes_are_read_or_refused(read, content):
    """As few lines of Python read them; an error says the file and the line."""
    sentences, rows, counts = [], [], set()
    for line in lines_of(content, END_OF_ROW):
        fields = line.split()
        if not fields or fields[0] == DOCSTART.encode():
            sentences, rows = [*sentences, *([rows] if rows else [])], []
        else:
            rows.append(fields)
            counts.add(len(fields))
    sentences += [rows] if rows else []
    is_good = not first_bad_line(content, END_OF_ROW) and len(counts) == 1 and counts != {1}
    try:
        found = read(content, label_encoding=None)
    except ConfigurationError as error:
        assert not is_good
        place = re.search(
            r"corpus(, line (\d+)|: found no sentence|: could not be read after line \d+)", str(error)
        )
        assert place and int(place.group(2) or 0) <= len(lines_of(content, END_OF_ROW))
    else:
        assert is_good
        assert [[word.encode() for word in words] for words, _ in found] == [
            [row[0] for row in rows] for rows in sentences
        ]
        assert [[tag.encode() for tag in tags] for _, tags in found] == [
            [row[-1] for row in rows] for rows in sentences
        ]


def looks_undeclared(read, content, source, problems, spans):
    """Whether nearly all spans are ill-formed; then the error names another encoding, if there is one."""
    if len(problems) < max(3, 0.8 * len(spans)):
        return False
    try:
        read(content, label_encoding=source)
    except ConfigurationError as error:
        assert re.search(f"declared label_encoding {source}. The tags look like (?!{source})", str(error))
        return True
    return False


@FUZZ
@given(
    st.lists(
        st.one_of(SPAN_TAGS, SPAN_TAGS, st.sampled_from(["X", "B-", "o", "b-X"])), min_size=1, max_size=8
    ),
    st.sampled_from(["BIO", "IOB1", "BIOUL", "BMES"]),
    st.sampled_from(["BIO", "IOB1", "BIOUL", "BMES"]),
)
def test_tags_are_converted_repaired_or_refused_as_asked(read, tags, source, target):
    """The line of an error is that of the first tag that is not as declared."""
    content = "".join(f"w {tag}\n" for tag in tags).encode()
    (kept,) = read(content, label_encoding=source, on_invalid_tags="keep")
    assert kept[1] == tags
    tags = [respell(tag) or tag for tag in tags]
    problems = validate(tags, source)
    if problems:
        with pytest.raises(
            ConfigurationError, match=f"corpus, line {problems[0].position + 1}: found the tag"
        ):
            read(content, label_encoding=source, on_invalid_tags="error")
    else:
        ((_, read_as),) = read(content, label_encoding=source, on_invalid_tags="error")
        assert spans_from_tags(read_as, source) == spans_from_tags(tags, source)
    try:
        spans = spans_from_tags(tags, source)
    except UnreadableTag as unreadable:
        with pytest.raises(
            ConfigurationError, match=f"corpus, line {unreadable.position + 1}: found the tag"
        ):
            read(content, label_encoding=source, target_label_encoding=target)
        return
    if looks_undeclared(read, content, source, problems, spans):
        return
    ((_, repaired),) = read(content, label_encoding=source, target_label_encoding=target)
    assert validate(repaired, target) == [] and spans_from_tags(repaired, target) == spans
    ((_, back),) = read(
        "".join(f"w {tag}\n" for tag in repaired).encode(),
        label_encoding=target,
        target_label_encoding=source,
    )
    assert spans_from_tags(back, source) == spans
    if not problems and all(tag == "O" or tag[0] in LETTERS[source] for tag in tags):
        assert back == tags
