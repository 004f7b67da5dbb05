"""Text for language models: the stream of tokens is what a few lines of Python read."""

import re
from unittest.mock import patch

import pytest
from allennlp.common.checks import ConfigurationError
from allennlp.data import Vocabulary
from hypothesis import given, settings
from hypothesis import strategies as st

from ldnet_allennlp.data.lm_stream import corpus as lm_corpus
from ldnet_allennlp.data.lm_stream.loader import LmStreamLoader
from ldnet_allennlp.data.lm_stream.reader import LmStreamReader
from ldnet_runtime.formats.compression import decompressed
from tests.fuzz import FUZZ
from tests.fuzz.texts import (
    BLANKS,
    END_OF_ROW,
    NEARLY_TEXT,
    WORDS,
    first_bad_line,
    lines_of,
    maybe_compressed,
)

BOUNDARY = "<eos>"


def stream_of(content: bytes):
    """Each sentence's words, and a boundary after them."""
    sentences = (line.split() for line in lines_of(content, END_OF_ROW))
    return [word.decode() for words in sentences if words for word in [*words, BOUNDARY.encode()]]


def read_back(loader, vocab, backward=False):
    """The targets of all batches of one row, which are the stream."""
    found = []
    for batch in loader:
        ids, targets = batch["source"]["tokens"]["tokens"][0].tolist(), batch["targets"][0].tolist()
        if backward:
            ids, targets = ids[::-1], targets[::-1]
        pairs = [(id_, target) for id_, target in zip(ids, targets) if target]
        found += pairs
    tokens = [vocab.get_token_from_index(target) for _, target in found]
    before = [vocab.get_token_from_index(id_) for id_, _ in found]
    return before, tokens


@pytest.fixture
def folder(tmp_path):
    return tmp_path


@settings(FUZZ, max_examples=50)
@given(
    st.lists(st.lists(st.tuples(WORDS, BLANKS), max_size=6), min_size=1, max_size=6),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.booleans(),
    st.integers(1, 7),
    st.sampled_from(["forward", "backward"]),
    st.booleans(),
)
def test_batches_hold_the_text(folder, sentences, end, compressed, steps, direction, shards):
    """Each token is a target once, after the token before it (or before the one after it), in the text's order."""
    text = end.join("".join(blank + word for word, blank in sentence) for sentence in sentences)
    content = b"\xef\xbb\xbf" + text.encode()
    (folder / "text").write_bytes(maybe_compressed(content, compressed))
    stream = stream_of(content)
    options = {"shards": str(folder / "shards")} if shards else {}
    loader = LmStreamLoader(LmStreamReader(), str(folder / "text"), 1, steps, direction, **options)
    if not stream:
        with pytest.raises(ConfigurationError, match=r"There is no token in the text '.*text'"):
            list(loader.iter_instances())
        return
    vocab = Vocabulary.from_instances(loader.iter_instances())
    loader.index_with(vocab)
    before, tokens = read_back(loader, vocab, backward=direction == "backward")
    words = [word for word in stream if vocab.get_token_index(word) == 1]  # those that look like padding
    expected = ["@@UNKNOWN@@" if word in words else word for word in [BOUNDARY, *stream]]
    if direction == "backward":
        assert (before, tokens) == (expected[:0:-1], expected[-2::-1])
    else:
        assert (before, tokens) == (expected[:-1], expected[1:])


@settings(FUZZ, max_examples=300)
@given(NEARLY_TEXT, st.booleans(), st.integers(3, 9))
def test_any_bytes_are_read_or_refused(folder, content, compressed, block_size):
    """However they are cut into blocks; an error says the file and the line."""
    path = folder / "text"
    path.write_bytes(maybe_compressed(content, compressed))
    with open(path, "rb") as file:
        is_damaged = not compressed and decompressed(file) is not file
    try:
        with patch.object(lm_corpus, "BLOCK_SIZE", block_size):
            blocks = list(lm_corpus.Corpus(str(path), BOUNDARY).blocks())
    except ConfigurationError as error:
        bad = first_bad_line(content, END_OF_ROW)
        if "no token in the text" in str(error):
            assert not bad and not b"".join(lines_of(content, END_OF_ROW)).split()
            return
        assert bad or is_damaged
        assert re.search(f"text, line {bad}:|text: could not be read after line 0", str(error)), error
    else:
        assert not first_bad_line(content, END_OF_ROW) and not is_damaged
        sentences = [line.split() for block in blocks for line in block.lines]
        expected = (line.split() for line in lines_of(content, END_OF_ROW))
        assert sentences == [words for words in expected if words]


@FUZZ
@given(st.lists(WORDS, max_size=6), BLANKS)
def test_instances_hold_the_words(words, blank):
    """From a text or from words, as prediction takes them."""
    reader = LmStreamReader()
    for given_as in (words, blank.join(words)):
        tokens = [token.text for token in reader.text_to_instance(given_as)["source"].tokens]
        assert tokens == [BOUNDARY, *words, BOUNDARY]
