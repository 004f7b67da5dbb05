"""Names of corpora and lines of files."""

import bz2
import gzip
import lzma
import os

import pytest
import zstandard
from allennlp.common.checks import ConfigurationError
from hypothesis import given, settings
from hypothesis import strategies as st

from ldnet_allennlp.common.lines import (
    decode_line,
    excerpt,
    expand_paths,
    line_blocks,
    numbered_lines,
    open_text,
)

COMPRESS = {
    "plain": bytes,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstandard.compress,
}


def write(folder, *names):
    paths = []
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"a\tO\n")
        paths.append(str(path))
    return paths


def lines_of(path):
    return [line for _, line in numbered_lines(str(path))]


class TestExpandPaths:
    def test_globs_are_sorted_and_lists_keep_their_order(self, tmp_path):
        b, a, deep = write(tmp_path, "b.txt", "a.txt", "x/y/deep.txt")
        assert expand_paths(str(tmp_path / "*.txt")) == [a, b]
        assert expand_paths(tmp_path / "b.txt") == [b]
        assert expand_paths([b, tmp_path / "a.txt"]) == [b, a]
        assert expand_paths(f"{b}, {tmp_path}/a.*,") == [b, a]
        assert expand_paths(f"{tmp_path}/**/deep.txt") == [deep]
        assert expand_paths([f"{tmp_path}/**/d*", f"{a},{b}"]) == [deep, a, b]

    def test_existing_names_are_taken_as_they_are(self, tmp_path):
        comma, bracket, _ = write(tmp_path, "a,b.txt", "[ab].txt", "a.txt")
        assert expand_paths(comma) == [comma]
        assert expand_paths(bracket) == [bracket]

    @pytest.mark.parametrize(
        "name, message",
        [
            ("none.txt", "none.txt: no such file"),
            ("a.txt,*.none", ".*none: no such file"),
            ("", "directory"),
            ("a.txt,*.txt", "'.*a.txt' is named twice"),
        ],
    )
    def test_names_that_stand_for_nothing_or_too_much(self, tmp_path, name, message):
        write(tmp_path, "a.txt")
        names = ",".join(str(tmp_path / part) for part in name.split(","))
        with pytest.raises(ConfigurationError, match=message):
            expand_paths(names)

    def test_a_link_to_a_named_file_is_that_file_again(self, tmp_path):
        (path,) = write(tmp_path, "a.txt")
        os.symlink(path, str(tmp_path / "b.txt"))
        with pytest.raises(ConfigurationError, match="named twice"):
            expand_paths(str(tmp_path / "*.txt"))

    @pytest.mark.parametrize("path", [{"train": "a"}, 3, None, [], ",", ""])
    def test_what_is_no_path(self, path):
        with pytest.raises(ConfigurationError, match="expected"):
            expand_paths(path)


class TestNumberedLines:
    @pytest.mark.parametrize(
        "content, lines",
        [
            (b"a\n\nb\n", [b"a", b"", b"b"]),
            (b"a\r\n\r\nb", [b"a", b"", b"b"]),
            (b"a\r\rb\r", [b"a", b"", b"b"]),
            (b"a\r\r\nb\r\r\n", [b"a", b"b"]),
            (b"a\rb\n\nc\r\n", [b"a", b"b", b"", b"c"]),
            (b"\xef\xbb\xbfa\n\xef\xbb\xbfb\n", [b"a", b"\xef\xbb\xbfb"]),
            (b"\xef\xbb\xbf\xef\xbb\xbfa", [b"\xef\xbb\xbfa"]),
            (b"BZh is plain text\n", [b"BZh is plain text"]),
            (b"", []),
        ],
    )
    @pytest.mark.parametrize("kind", list(COMPRESS))
    def test_line_ends_and_byte_order_mark(self, tmp_path, content, lines, kind):
        path = tmp_path / "file.txt"  # compression shows in the content and not in the name
        path.write_bytes(COMPRESS[kind](content))
        assert list(numbered_lines(str(path))) == list(enumerate(lines, start=1))
        for block_size in (1, 2, 3, 7):
            blocks = line_blocks(str(path), block_size=block_size)
            assert [line for block in blocks for line in block] == lines

    @settings(deadline=None)
    @given(
        st.lists(
            st.text(st.characters(blacklist_characters="\r\n\0", blacklist_categories=("Cs",)), min_size=1),
            min_size=1,
        ),
        st.sampled_from(["\n", "\r\n", "\r"]),
    )
    def test_nothing_is_lost(self, tmp_path_factory, texts, end):
        path = tmp_path_factory.mktemp("lines") / "file.txt"
        content = "".join(text + end for text in texts).encode()
        path.write_bytes(b"\xef\xbb\xbf" + content)  # so that a U+FEFF of the text itself is not at the start
        assert [line.decode() for line in lines_of(path)] == texts

    @pytest.mark.parametrize("kind", ["gzip", "bzip2", "xz", "zstd"])
    def test_several_compressed_streams_are_one_text(self, tmp_path, kind):
        path = tmp_path / "file"
        texts = [os.urandom(40_000).hex() for _ in range(3)]
        path.write_bytes(b"".join(COMPRESS[kind](text.encode() + b"\n") for text in texts))
        assert [line.decode() for line in lines_of(path)] == texts
        with open_text(path) as file:
            assert [line.decode().rstrip() for line in file] == texts

    @pytest.mark.parametrize("kind", ["gzip", "xz"])
    def test_zero_bytes_after_a_stream_are_padding(self, tmp_path, kind):
        path = tmp_path / "file"
        path.write_bytes(COMPRESS[kind](b"a\n") + bytes(20_000) + COMPRESS[kind](b"b\n") + bytes(8))
        assert lines_of(path) == [b"a", b"b"]

    def test_a_nul_byte_is_an_error(self, tmp_path):
        path = tmp_path / "file.txt"
        path.write_bytes(b"a\nb\0c\n")
        with pytest.raises(
            ConfigurationError, match=r"file.txt, line 2: found a NUL byte at byte 2, expected text"
        ):
            lines_of(path)

    @pytest.mark.parametrize("damage", ["truncated", "flipped", "header"])
    @pytest.mark.parametrize("kind", ["gzip", "bzip2", "xz", "zstd"])
    def test_damaged_files_are_an_error(self, tmp_path, kind, damage):
        content = os.urandom(3000).hex().encode() + b"\n"
        checksum = zstandard.ZstdCompressor(write_checksum=True).compress
        compressed = bytearray((checksum if kind == "zstd" else COMPRESS[kind])(content))
        if damage == "truncated":
            compressed = compressed[:-200]
        elif damage == "flipped":
            compressed[1000] ^= 255
        else:
            compressed = compressed[:10] + b"\xff"
        path = tmp_path / "file"
        path.write_bytes(bytes(compressed))
        with pytest.raises(
            ConfigurationError, match=r"file: could not be read after line \d+: .*complete file"
        ):
            lines_of(path)

    def test_lines_before_the_damage_are_read(self, tmp_path):
        path = tmp_path / "file.gz"
        path.write_bytes(gzip.compress(b"a line\n" * 100_000 + os.urandom(10_000).hex().encode())[:-5_000])
        lines = []
        with pytest.raises(ConfigurationError, match="after line 100000"):
            for _, line in numbered_lines(str(path)):
                lines.append(line)
        assert lines == [b"a line"] * 100_000

    def test_a_missing_file_is_an_error(self, tmp_path):
        with pytest.raises(ConfigurationError, match=r"gone\.txt: could not be read"):
            lines_of(tmp_path / "gone.txt")


def test_text_in_another_encoding_is_named_with_its_byte():
    assert decode_line("é".encode("latin-1"), "latin-1", "f", 1) == "é"
    with pytest.raises(
        ConfigurationError, match=r"f.txt, line 7: found the byte 0xe9 at byte 4 of .*not utf-8"
    ):
        decode_line(b"caf\xe9\tO", "utf-8", "f.txt", 7)


def test_long_findings_are_cut():
    assert excerpt("a\tb") == "'a\\tb'"
    assert len(excerpt("x" * 1000)) == 80
