"""Read word vectors: GloVe, fastText's .vec, word2vec's text and binary format; plain, compressed or zipped."""

import io
import logging
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, NamedTuple, cast

import numpy
from allennlp.common.checks import ConfigurationError

from ldnet_allennlp.common.lines import BYTE_ORDER_MARK, TEXT_ERRORS, excerpt, open_text

logger = logging.getLogger(__name__)

_HEADER = re.compile(rb"(\d+)[ \t]+(\d+)[ \t]*\r?\n?")
_MEMBER = re.compile(r"\((.+)\)#(.+)")  # a file of a zip archive, as AllenNLP writes it
_LONGEST_WORD = 10_000
_OTHER_FORMATS = {
    b"\xba\x16\x4f\x2f": "a fastText model (.bin); its .vec file has the vectors",
    b"SQLi": "a SQLite database (.magnitude); use the text file that it was made from",
    b"\x80": "a pickle; gensim's save_word2vec_format(path, binary=True) writes a format that is read",
}


class WordVector(NamedTuple):
    """A word and its vector, shape (dimension,) in float32."""

    word: str
    vector: numpy.ndarray


def read_word_vectors(path: str, dimension: int, setting: str = "embedding_dim") -> Iterator[WordVector]:
    """
    The words of a file, or of "(archive.zip)#member", with their vectors, in file order. Invalid UTF-8 becomes U+FFFD.
    `setting` is the name of the dimension in messages.

    Raises `ConfigurationError` for vectors of another size, for lines without a vector, and for other formats.
    """
    try:
        with _open(path) as file:
            start = file.peek(4)[:4]  # type: ignore[attr-defined]
            for magic, kind in _OTHER_FORMATS.items():
                if start.startswith(magic):
                    raise ConfigurationError(
                        f"{path}: found {kind}. Expected word vectors as text or in word2vec's binary format."
                    )
            line = file.readline().removeprefix(BYTE_ORDER_MARK)
            header = _HEADER.fullmatch(line)
            size = int(header[2]) if header else len(line.split()) - 1
            if size != dimension and (header is not None or size > 0):  # else, the line has no vector
                raise ConfigurationError(
                    f"{path}: found vectors of size {size}, expected {setting} {dimension}. Set {setting} to {size} "
                    f"or use vectors of size {dimension}."
                )
            if header is None:
                yield _parse(line, dimension, path, 1)
            if header is not None and _is_binary(file, dimension):
                yield from _binary_vectors(file, int(header[1]), dimension, path)
                return
            number = 1
            for number, line in enumerate(file, 2):
                if line.strip():
                    yield _parse(line, dimension, path, number)
            if header is not None and number <= int(header[1]):
                logger.warning(
                    f"{path}: found {number - 1} vectors, but its first line says {int(header[1])}. Is it complete?"
                )
    except TEXT_ERRORS as error:
        raise ConfigurationError(f"{path}: the word vectors cannot be read: {error}.") from error


@contextmanager
def _open(path: str) -> Iterator[BinaryIO]:
    member = _MEMBER.fullmatch(path)
    name = member[1] if member else path
    if not zipfile.is_zipfile(name):
        with open_text(name) as file:
            yield file
        return
    with zipfile.ZipFile(name) as archive:
        files = [info.filename for info in archive.infolist() if not info.is_dir()]
        chosen = member[2] if member else files[0] if len(files) == 1 else None
        if chosen not in files:
            raise ConfigurationError(
                f"{name}: found a zip archive with {', '.join(files[:5])}; expected one file, or its name as in "
                f"'({name})#{files[0] if files else 'file.txt'}'."
            )
        with archive.open(chosen) as file:
            yield cast(BinaryIO, io.BufferedReader(cast(io.RawIOBase, file), 1 << 18))


def _parse(line: bytes, dimension: int, path: str, number: int) -> WordVector:
    """A line of text. Words may contain blanks (as in GloVe 840B), so numbers are counted from the right."""
    word, _, rest = line.strip(b" \t\r\n").partition(b" ")
    vector = _numbers(rest)
    if len(vector) != dimension:
        fields = line.split()
        word, vector = b" ".join(fields[:-dimension]), _numbers(b" ".join(fields[-dimension:]))
    if len(vector) != dimension or not numpy.isfinite(vector).all():
        raise ConfigurationError(
            f"{path}, line {number}: found {excerpt(line)}, expected a word and {dimension} numbers."
        )
    return WordVector(word.decode("utf-8", "replace"), vector)


def _numbers(text: bytes) -> numpy.ndarray:
    try:
        return numpy.array(text.split(), dtype=numpy.float32)
    except ValueError:
        return numpy.zeros(0, dtype=numpy.float32)


def _is_binary(file: BinaryIO, dimension: int) -> bool:
    """Return whether binary data follow the header, without consuming anything."""
    ahead: bytes = file.peek(4 * dimension + 100)  # type: ignore[attr-defined]
    fields = ahead.partition(b"\n")[0].split()[-2:]
    return bool(ahead) and not all(re.fullmatch(rb"[-+.\deE]+|nan|inf", field) for field in fields or [b"?"])


def _binary_vectors(file: BinaryIO, count: int, dimension: int, path: str) -> Iterator[WordVector]:
    """word2vec's binary format: a word, a blank, the numbers as float32; a line end before the next word or none."""
    for number in range(1, count + 1):
        word = bytearray()
        while (byte := file.read(1)) not in (b" ", b"") and len(word) < _LONGEST_WORD:
            word += byte
        content = file.read(4 * dimension)
        vector = numpy.frombuffer(content, dtype="<f4") if len(content) == 4 * dimension else numpy.zeros(0)
        if byte != b" " or len(vector) != dimension or not numpy.isfinite(vector).all():
            raise ConfigurationError(
                f"{path}: found no vector of size {dimension} for word {number} of {count}; expected word2vec's binary "
                f"format. Is the file complete?"
            )
        yield WordVector(word.lstrip(b"\n").decode("utf-8", "replace"), vector)
