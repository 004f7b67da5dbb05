import gzip

import pytest
from allennlp.common.checks import ConfigurationError
from hypothesis import given, settings
from hypothesis import strategies as st

from ldnet_allennlp.common.lines import line_blocks
from ldnet_allennlp.data.lm_stream import text as lm_text
from ldnet_allennlp.data.lm_stream.text import sentence_blocks


def write(path, content):
    path.write_bytes(content)
    return str(path)


def pieces_of(*paths, limit=None):
    """The lines of each piece, by the numbers of file and piece."""
    pieces = {}
    for block in sentence_blocks(paths, b"<eos>", limit):
        pieces.setdefault((block.file, block.piece), []).extend(block.lines)
    return pieces


def sentences_of(*paths, limit=None):
    return [line for lines in pieces_of(*paths, limit=limit).values() for line in lines]


class TestPieces:
    @settings(max_examples=150, deadline=None)
    @given(
        text=st.text(st.sampled_from("ab\n\r"), max_size=60),
        packed=st.booleans(),
        size=st.integers(1, 30),
        block_size=st.integers(1, 30),
    )
    def test_pieces_are_the_whole_text(self, tmp_path_factory, text, packed, size, block_size):
        content = f"a\n{text}".encode()
        path = write(tmp_path_factory.mktemp("texts") / "t", gzip.compress(content) if packed else content)
        expected = [line for block in line_blocks(path) for line in block if line]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(lm_text, "PIECE_SIZE", size)
            patch.setattr(lm_text, "BLOCK_SIZE", block_size)
            pieces = pieces_of(path)
        assert [line for lines in pieces.values() for line in lines] == expected
        assert not packed or list(pieces) == [(0, 0)]

    def test_large_files_are_cut_after_lines(self, tmp_path, monkeypatch):
        monkeypatch.setattr(lm_text, "PIECE_SIZE", 50)
        path = write(tmp_path / "t", b"12345678\n" * 100)
        pieces = pieces_of(path, path)
        assert [file for file, _ in pieces] == sorted(file for file, _ in pieces)
        sizes = [9 * len(lines) for (file, _), lines in pieces.items() if file == 1]
        assert all(50 <= size < 59 for size in sizes[:-1]) and len(sizes) > 10
        assert 25 <= sizes[-1] < 75  # a small rest is no piece of its own

    def test_a_missing_file(self, tmp_path):
        with pytest.raises(ConfigurationError, match="nothing-here"):
            sentences_of(str(tmp_path / "nothing-here"))

    @pytest.mark.parametrize(
        "bad, message",
        [
            (b"b\xff\n", r"the bytes .*xff.*UTF-8"),
            (b"a\0\n", "a NUL"),
            (b"b <eos> c\n", "boundary token '<eos>' .*end_of_sentence"),
        ],
    )
    def test_errors_in_a_piece_name_the_line_of_the_file(self, tmp_path, monkeypatch, bad, message):
        monkeypatch.setattr(lm_text, "PIECE_SIZE", 60)
        path = write(tmp_path / "bad", b"good\r\nline\r" * 50 + b"\n" + bad + b"good\n" * 30)
        with pytest.raises(ConfigurationError, match=f"bad, line 101: .*{message}"):
            sentences_of(path)


class TestSentences:
    def test_lines_with_tokens(self, tmp_path):
        assert sentences_of(write(tmp_path / "full", b"a b\n\n \nc")) == [b"a b", b"c"]

    def test_a_file_without_tokens(self, tmp_path):
        full, blank = write(tmp_path / "full", b"a\n"), write(tmp_path / "blank", b"\n\t\n")
        with pytest.raises(ConfigurationError, match=r"no token in the text '.*blank'"):
            sentences_of(full, blank, full)

    @pytest.mark.parametrize("limit, reached", [(0, 0), (1, 1), (2, 1), (3, 2), (9, 2)])
    def test_limit(self, tmp_path, limit, reached):
        paths = [write(tmp_path / name, b"x\n\ny\n") for name in "ab"]
        pieces = pieces_of(*paths, limit=limit)
        assert len(pieces) == reached
        assert sum(map(len, pieces.values())) == min(limit, 4)

    def test_a_word_that_only_holds_the_boundary_is_a_word(self, tmp_path):
        path = write(tmp_path / "t", b"a<eos> <eos>b\n")
        assert sentences_of(path) == [b"a<eos> <eos>b"]
