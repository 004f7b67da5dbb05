import gzip
import os
import signal

import numpy
import pytest
import torch
from allennlp.common.checks import ConfigurationError
from hypothesis import given, settings
from hypothesis import strategies as st

from ldnet_allennlp.common.lines import line_blocks
from ldnet_allennlp.data.lm_stream import corpus as lm_corpus
from ldnet_allennlp.data.lm_stream.corpus import Corpus


def write(path, content):
    path.write_bytes(content)
    return str(path)


def blocks_of(*paths, limit=None):
    return list(Corpus(list(paths), "<eos>", limit).blocks())


def sentences_of(*paths, limit=None):
    return [line for block in blocks_of(*paths, limit=limit) for line in block.lines]


class TestBlocks:
    @settings(max_examples=150, deadline=None)
    @given(
        text=st.text(st.sampled_from("ab\n\r"), max_size=60),
        packed=st.booleans(),
        block_size=st.integers(1, 30),
    )
    def test_blocks_are_the_whole_text(self, tmp_path_factory, text, packed, block_size):
        content = f"a\n{text}".encode()
        path = write(tmp_path_factory.mktemp("texts") / "t", gzip.compress(content) if packed else content)
        expected = [line for block in line_blocks(path) for line in block if line]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(lm_corpus, "BLOCK_SIZE", block_size)
            assert sentences_of(path) == expected

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
    def test_errors_in_a_block_name_the_line_of_the_file(self, tmp_path, monkeypatch, bad, message):
        monkeypatch.setattr(lm_corpus, "BLOCK_SIZE", 60)
        path = write(tmp_path / "bad", b"good\r\nline\r" * 50 + b"\n" + bad + b"good\n" * 30)
        with pytest.raises(ConfigurationError, match=f"bad, line 101: .*{message}"):
            sentences_of(path)

    def test_lines_with_tokens(self, tmp_path):
        assert sentences_of(write(tmp_path / "full", b"a b\n\n \nc")) == [b"a b", b"c"]

    def test_a_file_without_tokens(self, tmp_path):
        full, blank = write(tmp_path / "full", b"a\n"), write(tmp_path / "blank", b"\n\t\n")
        with pytest.raises(ConfigurationError, match=r"no token in the text '.*blank'"):
            sentences_of(full, blank)

    @pytest.mark.parametrize("limit, reached", [(0, 0), (1, 1), (2, 1), (3, 2), (9, 2)])
    def test_limit(self, tmp_path, limit, reached):
        blocks = blocks_of(*(write(tmp_path / name, b"x\n\ny\n") for name in "ab"), limit=limit)
        assert len({block.file for block in blocks}) == reached
        assert sum(len(block.lines) for block in blocks) == min(limit, 4)

    def test_a_word_that_only_holds_the_boundary_is_a_word(self, tmp_path):
        path = write(tmp_path / "t", b"a<eos> <eos>b\n")
        assert sentences_of(path) == [b"a<eos> <eos>b"]


class KilledBlocks(lm_corpus._NumberedBlocks):
    def __getitem__(self, block):
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="kills a process")
def test_a_killed_process_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(lm_corpus, "_NumberedBlocks", KilledBlocks)
    path = write(tmp_path / "t", b"a b\n" * 10)
    with pytest.raises(RuntimeError, match=r"worker .*(killed|exited)"):
        Corpus(path, "<eos>", num_workers=2).number(len)


def test_random_numbers_are_left_to_the_model(tmp_path):
    """torch draws a number from its generator whenever a `DataLoader` starts."""
    path = write(tmp_path / "t", b"a b\n")
    for num_workers in (0, 2):
        torch.manual_seed(1)
        numpy.random.seed(1)
        expected = torch.rand(3), numpy.random.rand(3)
        torch.manual_seed(1)
        numpy.random.seed(1)
        Corpus(path, "<eos>", num_workers=num_workers).number(len)
        assert torch.equal(torch.rand(3), expected[0]) and (numpy.random.rand(3) == expected[1]).all()
