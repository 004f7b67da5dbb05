"""Names of corpora and lines of files."""

import gzip
import os

import pytest
from allennlp.common.checks import ConfigurationError
from hypothesis import given, settings
from hypothesis import strategies as st

from ldnet_allennlp.common.lines import decode_line, expand_paths, numbered_lines, shown


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
            ("none.txt", "no file that matches '.*none.txt'"),
            ("a.txt,*.none", "no file that matches '.*none'"),
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
            (b"", []),
        ],
    )
    @pytest.mark.parametrize("compress", [False, True])
    def test_line_ends_and_byte_order_mark(self, tmp_path, content, lines, compress):
        path = tmp_path / "file.txt"  # the name does not tell that it is compressed
        path.write_bytes(gzip.compress(content) if compress else content)
        assert list(numbered_lines(str(path))) == list(enumerate(lines, start=1))

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

    def test_several_gzip_members(self, tmp_path):
        path = tmp_path / "file.gz"
        path.write_bytes(gzip.compress(b"a\n") + gzip.compress(b"b\n"))
        assert lines_of(path) == [b"a", b"b"]

    def test_a_nul_byte_is_an_error(self, tmp_path):
        path = tmp_path / "file.txt"
        path.write_bytes(b"a\nb\0c\n")
        with pytest.raises(
            ConfigurationError, match=r"file.txt, line 2: found a NUL byte at byte 2, expected text"
        ):
            lines_of(path)

    @pytest.mark.parametrize("damage", ["truncated", "flipped", "header"])
    def test_damaged_gzip_is_an_error(self, tmp_path, damage):
        compressed = bytearray(gzip.compress(os.urandom(3000).hex().encode() + b"\n"))
        if damage == "truncated":
            compressed = compressed[:-200]
        elif damage == "flipped":
            compressed[1000] ^= 255
        else:
            compressed = bytearray(b"\x1f\x8b\xff")
        path = tmp_path / "file.gz"
        path.write_bytes(bytes(compressed))
        with pytest.raises(
            ConfigurationError, match=r"file.gz: could not be read after line \d+: .*complete file"
        ):
            lines_of(path)

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
    assert shown("a\tb") == "'a\\tb'"
    assert len(shown("x" * 1000)) == 80
