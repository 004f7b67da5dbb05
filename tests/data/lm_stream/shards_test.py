import gzip
import multiprocessing
import os
import signal
from collections import Counter
from itertools import chain

import numpy
import pytest
from allennlp.common.checks import ConfigurationError

from ldnet_allennlp.data.lm_stream import corpus as lm_corpus
from ldnet_allennlp.data.lm_stream.corpus import NUMBER_TYPE, Corpus
from ldnet_allennlp.data.lm_stream.shards import INDEX, TOKENS, WORDS, StoredNumbers, read_text
from ldnet_allennlp.data.lm_stream.windows import StreamWindows, TokenStream
from tests.resources import FIXTURES

TRAIN = str(FIXTURES / "lm" / "train.txt")
VALID = str(FIXTURES / "lm" / "valid.txt")


@pytest.fixture
def small_pieces(monkeypatch):
    """Texts of a few hundred bytes become many blocks and parts."""
    monkeypatch.setattr(lm_corpus, "BLOCK_SIZE", 64)
    monkeypatch.setattr(lm_corpus, "TOKENS_OF_A_PART", 10)


@pytest.fixture
def files(tmp_path):
    """Large and small, plain and compressed."""
    with open(TRAIN, "rb") as text:
        content = text.read()
    packed = tmp_path / "packed.gz"
    packed.write_bytes(gzip.compress(content))
    small = []
    for number in range(5):
        small.append(str(tmp_path / f"small{number}"))
        with open(small[-1], "w") as file:
            file.write(f"the new w{number}\n" * (number + 1))
    return [TRAIN, *small, str(packed), VALID]


def words_in(text):
    """The tokens of each file."""
    return [[text.words[n] for part in parts for n in part[:].tolist()] for parts in text.files]


def by_definition(files):
    tokens = []
    for path in files:
        opened = gzip.open if path.endswith(".gz") else open
        with opened(path, "rt", encoding="utf-8") as text:
            tokens.append([token for line in text for token in [*line.split(), "<eos>"]])
    return tokens


class TestNumbering:
    @pytest.mark.parametrize("num_workers", [0, 2, 3])
    def test_words_do_not_depend_on_the_processes(self, files, num_workers, tmp_path, small_pieces):
        expected = by_definition(files)
        counts = Counter(chain(*expected))
        # The order decides which of the equally frequent words come first in the vocabulary.
        order = list(counts)
        order.remove("<eos>")
        corpus = Corpus(files, "<eos>", num_workers=num_workers)
        in_memory, on_disk = read_text(corpus), read_text(corpus, str(tmp_path / "shards"))
        for text in (in_memory, on_disk):
            assert words_in(text) == expected
            assert text.token_counts() == dict(counts) and list(text.token_counts()) == [*order, "<eos>"]
            assert text.words == ["<eos>", *order]
            # Parts, of the compressed text as well.
            assert len(text.files[0]) > 10 and len(text.files[6]) > 10
        # The same shards, byte for byte.
        read_text(Corpus(files, "<eos>"), str(tmp_path / "one"))
        contents = [
            {path.name: path.read_bytes() for path in (tmp_path / name).glob("*.ids/*")}
            for name in ("one", "shards")
        ]
        assert contents[0] == contents[1] and set(contents[0]) == {".lock", INDEX, WORDS, TOKENS}

    def test_the_first_bad_line_is_reported_by_any_number_of_processes(self, tmp_path, small_pieces):
        path = str(tmp_path / "bad")
        with open(path, "wb") as file:
            file.write(b"good line\n" * 100 + b"\xff\n" + b"good line\n" * 100 + b"\xfe\n")
        for num_workers in (0, 2):
            for shards in (None, str(tmp_path / "shards")):
                with pytest.raises(ConfigurationError, match="bad, line 101"):
                    read_text(Corpus(path, "<eos>", num_workers=num_workers), shards)
            assert {path.name for path in (tmp_path / "shards").glob("*/*")} <= {".lock"}

    def test_files_without_tokens_are_errors(self, tmp_path, small_pieces):
        (tmp_path / "blank").write_text("\n \n" * 100)
        for num_workers in (0, 2):
            corpus = Corpus([TRAIN, str(tmp_path / "blank"), VALID], "<eos>", num_workers=num_workers)
            with pytest.raises(ConfigurationError, match=r"no token in the text '.*blank'"):
                read_text(corpus)

    def test_blank_pieces_within_a_file(self, tmp_path, small_pieces):
        (tmp_path / "text").write_text("a b\n" + "\n" * 500 + "c\n")
        for shards in (None, str(tmp_path / "shards")):
            text = read_text(Corpus(str(tmp_path / "text"), "<eos>"), shards)
            assert words_in(text) == [["a", "b", "<eos>", "c", "<eos>"]]
            assert all(len(part) for part in text.files[0])

    def test_max_sentences(self, files, tmp_path, small_pieces):
        expected = list(chain(*by_definition(files)))
        for limit, kept in ((3, 1), (51, 2), (10**6, 8)):
            corpus = Corpus(files, "<eos>", limit, num_workers=2)
            for text in (read_text(corpus), read_text(corpus, str(tmp_path))):
                assert len(text.files) == kept
                words = list(chain(*words_in(text)))
                assert words == expected[: text.counts.sum()]
                assert words.count("<eos>") == text.counts[0] == min(limit, 50 + 15 + 50 + 9)
        with pytest.raises(ConfigurationError, match="max_instances is 0"):
            read_text(Corpus(files, "<eos>", 0))

    def test_progress_is_complete(self, files, monkeypatch, small_pieces):
        bars = []

        class Bar:
            def __init__(self, **options):
                self.done = 0
                bars.append(self)

            def __enter__(self):
                return self

            def __exit__(self, *error):
                pass

            def update(self, count):
                self.done += count

        monkeypatch.setattr(lm_corpus.Tqdm, "tqdm", Bar)
        for num_workers in (0, 2):
            blocks = []
            text = Corpus(files, "<eos>", num_workers=num_workers).number(blocks.append)
            assert bars[-1].done == text.counts.sum() == sum(map(len, blocks))


class TestShards:
    def test_a_second_run_does_not_read_the_text(self, files, tmp_path, monkeypatch):
        shards = str(tmp_path / "shards")
        text = read_text(Corpus(files, "<eos>"), shards)
        monkeypatch.setattr(Corpus, "blocks", None)
        again = read_text(Corpus(files, "<eos>", num_workers=2), shards)
        assert words_in(again) == words_in(text)
        assert list(again.token_counts().items()) == list(text.token_counts().items())

    def test_texts_share_a_directory(self, tmp_path, monkeypatch):
        shards = str(tmp_path / "shards")
        train, valid = Corpus(TRAIN, "<eos>"), Corpus(VALID, "<eos>")
        read_text(train, shards)
        read_text(valid, shards)
        monkeypatch.setattr(Corpus, "blocks", None)
        assert words_in(read_text(train, shards)) == by_definition([TRAIN])
        assert words_in(read_text(valid, shards)) == by_definition([VALID])

    def test_a_killed_run_with_several_processes(self, files, tmp_path, monkeypatch, small_pieces):
        """Neither its lock, nor its files, nor its processes stand in the way of the next run."""
        corpus, shards = Corpus(files, "<eos>", num_workers=2), str(tmp_path / "shards")

        def run():
            monkeypatch.setattr(lm_corpus.Tqdm, "tqdm", lambda **_: os.kill(os.getpid(), signal.SIGKILL))
            read_text(corpus, shards)

        process = multiprocessing.get_context("fork").Process(target=run)
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert not list((tmp_path / "shards").glob("*/index.json"))
        assert words_in(read_text(corpus, shards)) == by_definition(files)
        assert not [path for path in (tmp_path / "shards").glob("*.ids/*") if path.is_dir()]

    def test_unusual_words_survive(self, tmp_path):
        (tmp_path / "t").write_bytes("a\u00a0b \x1c \u2028 \x85 12 é 🙂\n".encode())
        corpus = Corpus(str(tmp_path / "t"), "<eos>")
        assert read_text(corpus, str(tmp_path / "s")).words == read_text(corpus).words
        assert len(read_text(corpus).words) == 8

    def test_parts_are_slices_of_a_file(self, tmp_path):
        (tmp_path / "s").write_bytes(numpy.arange(100, dtype=NUMBER_TYPE).tobytes())
        with open(tmp_path / "s", "rb") as file:
            part = StoredNumbers(file, 10, 50)
            ids = numpy.arange(10, 60)
            for wanted in (slice(None), slice(3, 9), slice(45, 99), slice(7, 7)):
                assert part[wanted].tolist() == ids[wanted].tolist()
            assert len(part) == 50

    def test_a_file_that_is_cut_off_while_it_is_read(self, tmp_path):
        (tmp_path / "s").write_bytes(bytes(400))
        with open(tmp_path / "s", "rb") as file:
            part = StoredNumbers(file, 0, 100)
            os.truncate(tmp_path / "s", 200)
            with pytest.raises(RuntimeError, match="s' was truncated while it was read"):
                part[40:60]


def memory(what):
    """Bytes; `VmHWM` is the peak of `VmRSS`."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(what + ":"))


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="reads the memory from /proc")
class TestMemory:
    def in_child(self, function):
        """A new process has its own peak."""
        process = multiprocessing.get_context("fork").Process(target=function)
        process.start()
        process.join()
        assert process.exitcode == 0

    def test_reading_200_megabytes(self, tmp_path):
        """Every token comes exactly once, and no more than a quarter of them is ever in memory."""
        ids = numpy.random.RandomState(0).randint(1, 60_000, 25_000_000).astype(NUMBER_TYPE)
        for number in range(2):
            ids.tofile(tmp_path / str(number))
        expected = [50_000_000, 2 * int(ids.sum(dtype=numpy.int64)), 2 * int((ids.astype("i8") ** 2).sum())]
        del ids

        def read():
            parts = [StoredNumbers(open(tmp_path / name, "rb"), 0, 25_000_000) for name in "01"]  # noqa: SIM115
            start, seen = memory("VmRSS"), [0, 0, 0]
            for _, targets in StreamWindows(TokenStream(1, parts), 128, 200).windows():
                seen[0] += int((targets > 0).sum())
                seen[1] += int(targets.sum())
                seen[2] += int((targets * targets).sum())
            assert seen == expected
            assert memory("VmHWM") - start < 50e6

        self.in_child(read)

    def test_preparing_120_megabytes(self, tmp_path):
        """The text has few different words, and neither it nor its ids (48 MB) are ever in memory."""
        with open(tmp_path / "text", "wb") as file:
            for _ in range(120):
                file.write(b"mississippi tallahatchie chattahoochee mattamuskeet\n" * 20_000)

        def run():
            start = memory("VmRSS")
            text = read_text(Corpus(str(tmp_path / "text"), "<eos>"), str(tmp_path / "shards"))
            assert text.counts.sum() == 120 * 20_000 * 5
            assert memory("VmHWM") - start < 35e6

        self.in_child(run)
