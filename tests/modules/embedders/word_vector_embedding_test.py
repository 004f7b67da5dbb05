"""Word vectors of all formats: the same numbers, in a vocabulary that has every word of the file."""

import bz2
import gzip
import logging
import lzma
import struct
import zipfile

import numpy
import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.data import Instance, Token, Vocabulary
from allennlp.data.fields import TextField
from allennlp.data.token_indexers import SingleIdTokenIndexer
from allennlp.modules.token_embedders import Embedding, TokenEmbedder

from ldnet_allennlp.data.word_vectors import read_word_vectors
from ldnet_allennlp.modules.embedders import word_vector_embedding  # noqa: F401, registers

WORDS = ["the", "paris", "caf\u00e9", "\u6771\u4eac", "x"]
VECTORS = numpy.random.RandomState(0).randn(len(WORDS), 3).astype("float32")


def glove(words=WORDS, end=" ", header=""):
    rows = (
        f"{word} {' '.join(map(repr, map(float, vector)))}{end}\n" for word, vector in zip(words, VECTORS)
    )
    return (header + "".join(rows)).encode()


def word2vec(words=WORDS, line_end=b"\n"):
    rows = (word.encode() + b" " + vector.tobytes() + line_end for word, vector in zip(words, VECTORS))
    return f"{len(words)} 3\n".encode() + b"".join(rows)


def zipped(folder, **members):
    path = folder / "vectors.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.txt", content)
    return path


FORMATS = {
    "glove": glove(end=""),
    "fasttext": glove(header=f"{len(WORDS)} 3\n"),
    "tabs": glove(end="").replace(b" ", b"\t"),
    "windows": glove(end="\r"),
    "word2vec": word2vec(),
    "word2vec_without_line_ends": word2vec(line_end=b""),
}


def vocabulary(text, min_count=1, lower=True):
    indexer = SingleIdTokenIndexer(lowercase_tokens=lower)
    field = TextField([Token(word) for word in text.split()], {"tokens": indexer})
    return Vocabulary.from_instances([Instance({"tokens": field})], min_count={"tokens": min_count})


def embedding(path, vocab, **options):
    params = {"type": "word_vectors", "embedding_dim": 3, "pretrained_file": str(path), **options}
    return TokenEmbedder.from_params(Params(params), vocab=vocab)


class TestFiles:
    @pytest.mark.parametrize("name", list(FORMATS))
    @pytest.mark.parametrize("compress", [bytes, gzip.compress, bz2.compress, lzma.compress])
    def test_formats(self, tmp_path, name, compress):
        path = tmp_path / "vectors"
        path.write_bytes(compress(FORMATS[name]))
        rows = list(read_word_vectors(str(path), 3))
        assert [row.word for row in rows] == WORDS
        assert numpy.array_equal([row.vector for row in rows], VECTORS)

    def test_zip(self, tmp_path):
        path = zipped(tmp_path, a=FORMATS["glove"])
        assert [row.word for row in read_word_vectors(str(path), 3)] == WORDS
        path = zipped(tmp_path, a=FORMATS["glove"], b=FORMATS["word2vec"])
        assert [row.word for row in read_word_vectors(f"({path})#b.txt", 3)] == WORDS
        with pytest.raises(ConfigurationError, match=r"a zip archive with a.txt, b.txt; expected one file"):
            list(read_word_vectors(str(path), 3))

    def test_fewer_vectors_than_the_first_line_says(self, tmp_path, caplog):
        path = tmp_path / "vectors"
        path.write_text("2 3\na 1 2 3\nb 4 5 6\n")
        assert len(list(read_word_vectors(str(path), 3))) == 2 and caplog.text == ""
        path.write_text("5 3\na 1 2 3\nb 4 5 6\n")
        assert len(list(read_word_vectors(str(path), 3))) == 2
        assert "found 2 vectors, but its first line says 5. Is it complete?" in caplog.text

    def test_words_with_blanks(self, tmp_path):
        path = tmp_path / "vectors"
        words = ["the", ". . .", "at name@x.org"]
        path.write_bytes(glove(words))
        assert [row.word for row in read_word_vectors(str(path), 3)] == words

    @pytest.mark.parametrize(
        "content, message",
        [
            (b"a 1 2 3\nb 1 2\n", r"line 2: found b'b 1 2\\n', expected a word and 3 numbers"),
            (b"a 1 2 3\nb 1 x 3\n", "line 2: found"),
            (b"a 1 2 3\nb 1 nan 3\n", "line 2: found"),
            (b"", "line 1: found b'', expected a word and 3 numbers"),
            (b"\n", "line 1: found .*, expected a word and 3 numbers"),
            (b"a\n", "line 1: found .*, expected a word and 3 numbers"),
            (b"a 1 2 3 4\n", "found vectors of size 4, expected word_dim 3. Set word_dim to 4"),
            (b"2 4\na 1 2 3 4\n", "found vectors of size 4, expected word_dim 3"),
            (word2vec()[:-5], "found no vector of size 3 for word 5 of 5.*complete"),
            (b"1 3\na " + struct.pack("<3f", 1, float("nan"), 2), "for word 1 of 1"),
            (b"\xba\x16\x4f\x2f" + bytes(100), "found a fastText model"),
            (b"SQLite format 3\0", "found a SQLite database"),
            (b"\x80\x04\x95", "found a pickle"),
            (gzip.compress(glove())[:-10], "cannot be read"),
        ],
    )
    def test_what_is_no_file_of_vectors(self, tmp_path, content, message):
        path = tmp_path / "vectors"
        path.write_bytes(content)
        with pytest.raises(ConfigurationError, match=message):
            list(read_word_vectors(str(path), 3, "word_dim"))


class TestEmbedding:
    @pytest.mark.parametrize("name", ["glove", "word2vec"])
    def test_all_words_of_the_file_are_known(self, tmp_path, name):
        path = tmp_path / "vectors"
        path.write_bytes(FORMATS[name])
        vocab = vocabulary("Paris paris rome rome oslo", min_count=2)
        module = embedding(path, vocab)
        assert type(module) is Embedding and module.weight.requires_grad
        assert module.weight.shape == (vocab.get_vocab_size("tokens"), 3)
        assert set(vocab.get_token_to_index_vocabulary("tokens")) == {
            *WORDS,
            "rome",
            "@@PADDING@@",
            "@@UNKNOWN@@",
        }
        for word, vector in zip(WORDS, VECTORS, strict=True):
            looked_up = module(torch.tensor([vocab.get_token_index(word, "tokens")]))[0]
            assert numpy.array_equal(looked_up.detach().numpy(), vector)

    def test_an_archive_needs_no_file(self, tmp_path):
        vocab = vocabulary("paris rome")
        module = TokenEmbedder.from_params(Params({"type": "word_vectors", "embedding_dim": 3}), vocab=vocab)
        assert type(module) is Embedding and module.weight.shape == (4, 3)

    def test_limit(self, tmp_path):
        (tmp_path / "vectors").write_bytes(glove())
        vocab = vocabulary("rome")
        embedding(tmp_path / "vectors", vocab, max_words=2)
        assert vocab.get_vocab_size("tokens") == 2 + 1 + 2

    def test_coverage_is_logged(self, tmp_path, caplog):
        caplog.set_level(logging.INFO)
        (tmp_path / "vectors").write_bytes(glove())
        embedding(tmp_path / "vectors", vocabulary("paris Paris rome oslo oslo oslo"))
        assert (
            "1 of 3 distinct words have one (33.3 %), and 2 of 6 words of the texts (33.3 %)" in caplog.text
        )
        assert "without: oslo (3), rome (1)" in caplog.text
        assert "lowercase" not in caplog.text

    def test_cased_vectors_under_lower_casing(self, tmp_path, caplog):
        (tmp_path / "vectors").write_bytes(glove(["the", "Paris", "Rome", "Oslo", "x"]))
        vocab = vocabulary("the Paris Rome")
        embedding(tmp_path / "vectors", vocab)
        assert "3 word vectors have capital letters and are never looked up" in caplog.text
        assert '"lowercase": false' in caplog.text
        assert "Paris" not in vocab.get_token_to_index_vocabulary("tokens")
        caplog.clear()
        embedding(tmp_path / "vectors", vocabulary("the Paris Rome", lower=False))
        assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
        (tmp_path / "capitals").write_bytes(glove(["Paris", "Rome"]))
        with pytest.raises(ConfigurationError, match=r'All have capital letters.*set "lowercase": false'):
            embedding(tmp_path / "capitals", vocabulary("the Paris Rome"))

    @pytest.mark.parametrize("lower", [True, False])
    def test_a_recovered_run_has_the_same_vocabulary(self, tmp_path, lower):
        (tmp_path / "vectors").write_bytes(glove(["the", "Paris", "Rome", "Oslo", "x"]))
        vocab = vocabulary("the Paris Rome Bergen", lower=lower)
        module = embedding(tmp_path / "vectors", vocab)
        vocab.save_to_files(str(tmp_path / "vocabulary"))
        saved = Vocabulary.from_files(str(tmp_path / "vocabulary"))
        again = embedding(tmp_path / "vectors", saved)
        assert saved.get_token_to_index_vocabulary("tokens") == vocab.get_token_to_index_vocabulary("tokens")
        ids = [vocab.get_token_index(word, "tokens") for word in ("the", "x")]
        assert torch.equal(again.weight[ids], module.weight[ids])

    def test_lower_case_vectors_for_cased_words(self, tmp_path, caplog):
        (tmp_path / "vectors").write_bytes(glove())
        embedding(tmp_path / "vectors", vocabulary("The Paris x", lower=False))
        assert (
            '2 more words of the texts would have a vector in lower case: set "lowercase": true'
            in caplog.text
        )

    def test_a_wrong_size_is_one_sentence(self, tmp_path, caplog):
        (tmp_path / "vectors").write_bytes(glove())
        with pytest.raises(
            ConfigurationError, match=r"vectors: found vectors of size 3, expected word_dim 5\."
        ):
            embedding(tmp_path / "vectors", vocabulary("a"), embedding_dim=5, setting="word_dim")
        assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
