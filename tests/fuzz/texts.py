"""What texts are made of, and how a few lines of Python read them."""

import gzip
import re

from hypothesis import strategies as st

ASCII_BLANKS = " \t\n\r\v\f"
# No white space of ASCII's and no NUL. What other readers take for blanks, line ends or nothing is all in here.
CHARACTERS = st.one_of(
    st.sampled_from('aB0#<>&/;"\\-O_|=.,[]{}'),
    st.sampled_from("\u00a0\u200b\ufeff\u2028\u0085\x1c\x1f\u3000\u0301é日\U0001f600\x7f\x01"),
    st.characters(blacklist_categories=("Cs",), blacklist_characters=ASCII_BLANKS + "\0"),
)
WORDS = st.text(CHARACTERS, min_size=1, max_size=8)
LINE_ENDS = st.sampled_from(["\n", "\r\n", "\r"])
BLANKS = st.sampled_from([" ", "\t", "  ", " \t ", "\v", "\f"])

# Bytes of all kinds, most of which are nearly text.
NEARLY_TEXT = st.lists(
    st.one_of(
        st.sampled_from(
            [b"a", b"b c", b" ", b"\t", b"\n", b"\n\n", b"\r", b"\r\n", b"O", b"-DOCSTART- O", b"#"]
        ),
        st.sampled_from([b"a O\n", b"b\tB-X\n", b"\xef\xbb\xbf", b"\x0b", b"\xc2\x85", b"\xe2\x80\xa8"]),
        st.binary(max_size=2),
    ),
    max_size=25,
).map(b"".join)


# CR CR LF, the result of a doubled conversion, is one line end.
END_OF_ROW = rb"\r*\n|\r"


def lines_of(content: bytes, end: bytes):
    """The lines of a text, without their ends. A byte order mark at its start is no part of it."""
    if content.startswith(b"\xef\xbb\xbf"):
        content = content[3:]
    return re.split(end, content)


def first_bad_line(content: bytes, end: bytes):
    """The number of the first line with a NUL byte or other bytes than those of UTF-8; 0 if there is none."""
    for number, line in enumerate(lines_of(content, end), start=1):
        try:
            if "\0" in line.decode("utf-8"):
                return number
        except UnicodeDecodeError:
            return number
    return 0


def maybe_compressed(content: bytes, compressed: bool) -> bytes:
    """What a file holds."""
    return gzip.compress(content, 1) if compressed else content
