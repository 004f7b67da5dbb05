import gzip

import pytest
from allennlp.common.checks import ConfigurationError
from hypothesis import given, settings
from hypothesis import strategies as st

from ldnet_allennlp.common.lines import line_blocks
from ldnet_allennlp.data.lm_stream import text as lm_text
from ldnet_allennlp.data.lm_stream.text import TextPiece, sentence_blocks, text_pieces


def write(path, content):
    path.write_bytes(content)
    return str(path)


def lines_of(piece):
    blocks = line_blocks(piece.path, piece.start, piece.end, block_size=3)
    return [line for block in blocks for line in block]


def sentences_of(*pieces, limit=None):
    return [line for _, lines in sentence_blocks(pieces, b"<eos>", limit) for line in lines]


class TestPieces:
    @settings(max_examples=150, deadline=None)
    @given(
        texts=st.lists(st.text(st.sampled_from("ab\n\r"), max_size=40), min_size=1, max_size=4),
        packed=st.integers(0, 3),
        size=st.integers(1, 30),
    )
    def test_pieces_are_the_whole_text(self, tmp_path_factory, texts, packed, size):
        folder = tmp_path_factory.mktemp("texts")
        files = [
            write(folder / str(n), gzip.compress(text.encode()) if n == packed else text.encode())
            for n, text in enumerate(texts)
        ]
        groups = text_pieces(files, size)
        found = [[] for _ in files]
        for group in groups:
            for piece in group:
                assert piece.path == files[piece.file]
                found[piece.file] += lines_of(piece)
        assert found == [lines_of(TextPiece(0, path)) for path in files]
        for group in groups:  # small files go together, until there are enough bytes
            sizes = [
                (len(texts[piece.file].encode()) if piece.end is None else piece.end) - piece.start
                for piece in group
                if piece.file != packed
            ]
            assert packed in [piece.file for piece in group] or sum(sizes[:-1]) < size

    def test_large_files_are_cut_after_lines(self, tmp_path):
        path = write(tmp_path / "t", b"12345678\n" * 100)
        groups = text_pieces([path], 50)
        assert all(len(group) == 1 for group in groups)
        starts = [group[0].start for group in groups]
        assert [group[0].end for group in groups] == [*starts[1:], None]
        assert all(start % 9 == 0 for start in starts)
        assert all(50 <= end - start < 59 for start, end in zip(starts, starts[1:]))
        assert 25 <= 900 - starts[-1] < 75  # a small rest is no piece of its own

    def test_the_number_of_pieces_is_limited(self, tmp_path, monkeypatch):
        path = write(tmp_path / "t", b"12345678\n" * 1000)
        monkeypatch.setattr(lm_text, "MAX_PIECES", 10)
        assert 8 <= len(text_pieces([path], 50)) <= 10

    def test_compressed_files_are_one_piece(self, tmp_path):
        packed = write(tmp_path / "t", gzip.compress(b"a\nb\n") * 100)
        assert text_pieces([packed], 10) == [[TextPiece(0, packed)]]

    def test_a_missing_file(self, tmp_path):
        with pytest.raises(ConfigurationError, match="nothing-here"):
            text_pieces([str(tmp_path / "nothing-here")])

    @pytest.mark.parametrize(
        "bad, message",
        [
            (b"b\xff\n", r"the bytes .*xff.*UTF-8"),
            (b"a\0\n", "a NUL"),
            (b"b <eos> c\n", "boundary token '<eos>' .*end_of_sentence"),
        ],
    )
    def test_errors_in_a_piece_name_the_line_of_the_file(self, tmp_path, bad, message):
        path = write(tmp_path / "bad", b"good\r\nline\r" * 50 + b"\n" + bad + b"good\n" * 30)
        last = [group[0] for group in text_pieces([path], 60)]
        failing = [piece for piece in last if piece.start <= 552 and (piece.end or 10**6) > 552]
        assert len(failing) == 1 and failing[0].start > 0
        with pytest.raises(ConfigurationError, match=f"bad, line 101: .*{message}"):
            sentences_of(failing[0])


class TestSentences:
    def test_lines_with_tokens_and_every_piece(self, tmp_path):
        full, blank = write(tmp_path / "full", b"a b\n\n \nc"), write(tmp_path / "blank", b"\n\t\n")
        pieces = [TextPiece(0, full), TextPiece(1, blank)]
        found = {}
        for piece, lines in sentence_blocks(pieces, b"<eos>"):
            found.setdefault(piece, []).extend(lines)
        assert found == {pieces[0]: [b"a b", b"c"], pieces[1]: []}

    @pytest.mark.parametrize("limit, reached", [(0, 0), (1, 1), (2, 1), (3, 2), (9, 2)])
    def test_limit(self, tmp_path, limit, reached):
        paths = [write(tmp_path / name, b"x\n\ny\n") for name in "ab"]
        pieces = [TextPiece(n, path) for n, path in enumerate(paths)]
        found = list(sentence_blocks(pieces, b"<eos>", limit))
        assert len({piece for piece, _ in found}) == reached
        assert sum(len(lines) for _, lines in found) == min(limit, 4)

    def test_a_word_that_only_holds_the_boundary_is_a_word(self, tmp_path):
        path = write(tmp_path / "t", b"a<eos> <eos>b\n")
        assert sentences_of(TextPiece(0, path)) == [b"a<eos> <eos>b"]
