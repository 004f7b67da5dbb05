import gzip
import logging
import multiprocessing
import os
import pickle
import signal
from collections import Counter
from functools import partial
from itertools import chain

import numpy
import pytest
from allennlp.common.checks import ConfigurationError
from allennlp.data import Vocabulary

from ldnet_allennlp.data.lm_stream import corpus as lm_encoding
from ldnet_allennlp.data.lm_stream import text as lm_text
from ldnet_allennlp.data.lm_stream.corpus import ID_TYPE, Corpus, WordIds
from ldnet_allennlp.data.lm_stream.shards import StoredIds, count_tokens, encode
from ldnet_allennlp.data.lm_stream.windows import StreamWindows, TokenStream
from tests.resources import FIXTURES

TRAIN = str(FIXTURES / "lm" / "train.txt")
VALID = str(FIXTURES / "lm" / "valid.txt")


@pytest.fixture
def small_pieces(monkeypatch):
    """Texts of a few hundred bytes become many groups, shards and parts."""
    monkeypatch.setattr(lm_encoding, "text_pieces", partial(lm_text.text_pieces, size=100))
    monkeypatch.setattr(lm_encoding, "TOKENS_OF_A_PART", 30)
    monkeypatch.setattr(lm_text.line_blocks, "__defaults__", (0, None, None, 64))


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


def words_of(text, **options):
    vocab = Vocabulary({"tokens": text.count_tokens()}, **options)
    return WordIds(vocab, text.end_of_sentence)


def arrays(encoded):
    return [numpy.concatenate([part[:] for part in parts]).tolist() for parts in encoded.files]


def by_definition(files, words):
    found = []
    for path in files:
        opened = gzip.open if path.endswith(".gz") else open
        with opened(path, "rt", encoding="utf-8") as text:
            tokens = [token for line in text for token in [*line.split(), "<eos>"]]
        found.append([words.get(token.encode(), words.unknown) for token in tokens])
    return found


class TestEncoding:
    @pytest.mark.parametrize("num_workers", [0, 2, 3])
    def test_counts_do_not_depend_on_the_processes(self, files, num_workers, small_pieces):
        counts = Corpus(files, "<eos>", num_workers=num_workers).count_tokens()
        expected = Counter()
        for path in files:
            opened = gzip.open if path.endswith(".gz") else open
            with opened(path, "rt", encoding="utf-8") as text:
                for line in text:
                    expected.update(line.split())
                    expected["<eos>"] += 1
        assert counts == dict(expected)
        # The order decides which of the equally frequent words come first in the vocabulary.
        order = list(expected)
        order.remove("<eos>")
        assert list(counts) == [*order, "<eos>"]

    @pytest.mark.parametrize("num_workers", [0, 2, 3])
    def test_ids_do_not_depend_on_the_processes(self, files, num_workers, tmp_path, small_pieces):
        text = Corpus(files, "<eos>", num_workers=num_workers)
        words = words_of(text, min_count={"tokens": 3})
        expected = by_definition(files, words)
        in_memory = encode(text, words, None)
        assert arrays(in_memory) == expected and all(len(parts) == 1 for parts in in_memory.files)
        shards = str(tmp_path / "shards")
        on_disk = encode(text, words, shards)
        assert arrays(on_disk) == expected
        assert (
            len(on_disk.files[0]) > 10 and len(on_disk.files[6]) > 10
        )  # parts, of the compressed text as well
        for encoded in (in_memory, on_disk):
            assert encoded.num_tokens == sum(map(len, expected))
            assert encoded.num_unknown == sum(ids.count(words.unknown) for ids in expected) > 0
        # The same shards, byte for byte.
        one = str(tmp_path / "one")
        encode(Corpus(files, "<eos>"), words, one)
        contents = [
            {path.name: path.read_bytes() for path in (tmp_path / name).glob("*.ids/*/*")}
            for name in ("one", "shards")
        ]
        assert contents[0] == contents[1] and len(contents[0]) > 20

    def test_the_first_bad_line_is_reported_by_any_number_of_processes(self, tmp_path, small_pieces):
        path = str(tmp_path / "bad")
        with open(path, "wb") as file:
            file.write(b"good line\n" * 100 + b"\xff\n" + b"good line\n" * 100 + b"\xfe\n")
        for num_workers in (0, 2):
            text = Corpus(path, "<eos>", num_workers=num_workers)
            with pytest.raises(ConfigurationError, match="bad, line 101"):
                text.count_tokens()
            words = words_of(Corpus(TRAIN, "<eos>"))
            shards = str(tmp_path / "shards")
            with pytest.raises(ConfigurationError, match="bad, line 101"):
                encode(text, words, shards)
            assert {path.name for path in (tmp_path / "shards").glob("*/*")} <= {".lock"}

    def test_files_without_tokens_are_errors(self, tmp_path, small_pieces):
        (tmp_path / "blank").write_text("\n \n" * 100)
        for num_workers in (0, 2):
            text = Corpus([TRAIN, str(tmp_path / "blank"), VALID], "<eos>", num_workers=num_workers)
            with pytest.raises(ConfigurationError, match=r"no token in the text '.*blank'"):
                text.count_tokens()
            with pytest.raises(ConfigurationError, match=r"no token in the text '.*blank'"):
                encode(text, words_of(Corpus(TRAIN, "<eos>")), None)

    def test_max_sentences(self, files, tmp_path, small_pieces):
        words = words_of(Corpus(files, "<eos>"))
        expected = by_definition(files, words)
        for limit, kept in ((3, 1), (51, 2), (10**6, 8)):
            text = Corpus(files, "<eos>", limit, num_workers=2)
            for encoded in (encode(text, words, None), encode(text, words, str(tmp_path))):
                assert len(encoded.files) == kept
                ids = list(chain(*arrays(encoded)))
                assert ids == list(chain(*expected))[: encoded.num_tokens]
                assert ids.count(words.boundary) == min(limit, 50 + 15 + 50 + 9)
            assert sum(text.count_tokens().values()) == encoded.num_tokens
        with pytest.raises(ConfigurationError, match="max_instances is 0"):
            encode(Corpus(files, "<eos>", 0), words, None)

    def test_progress_is_complete(self, files, monkeypatch, small_pieces):
        totals = {}

        class Bar:
            def __init__(self, total, **options):
                self.total, self.done = total, 0
                totals.setdefault("bars", []).append(self)

            def __enter__(self):
                return self

            def __exit__(self, *error):
                pass

            def update(self, count):
                self.done += count

        monkeypatch.setattr(lm_encoding.Tqdm, "tqdm", Bar)
        for num_workers in (0, 2):
            text = Corpus(files, "<eos>", num_workers=num_workers)
            list(text.encode(words_of(text)))
        for bar in totals["bars"]:
            assert bar.done == bar.total == sum(map(os.path.getsize, files))


class TestShards:
    def test_a_second_run_does_not_read_the_text(self, files, tmp_path, monkeypatch):
        text = Corpus(files, "<eos>")
        shards = str(tmp_path / "shards")
        counts, words = count_tokens(text, shards), words_of(text)
        ids = arrays(encode(text, words, shards))
        monkeypatch.setattr(lm_encoding, "sentence_blocks", None)
        again = count_tokens(Corpus(files, "<eos>", num_workers=2), shards)
        assert again == counts and list(again) == list(counts)
        assert arrays(encode(text, words, shards)) == ids

    def test_another_vocabulary(self, tmp_path, caplog):
        caplog.set_level(logging.INFO)
        text = Corpus(TRAIN, "<eos>")
        shards = str(tmp_path / "shards")
        count_tokens(text, shards)
        first = words_of(text)
        encode(text, first, shards)
        fewer = words_of(text, max_vocab_size={"tokens": 20})
        caplog.clear()
        assert arrays(encode(text, fewer, shards)) == by_definition([TRAIN], fewer)
        assert "vocabulary was" in caplog.text
        caplog.clear()
        count_tokens(text, shards)
        assert not caplog.messages  # the counts stay as they are

    def test_texts_share_a_directory(self, tmp_path, monkeypatch):
        shards = str(tmp_path / "shards")
        train, valid = Corpus(TRAIN, "<eos>"), Corpus(VALID, "<eos>")
        words = words_of(train)
        encode(train, words, shards)
        encode(valid, words, shards)
        monkeypatch.setattr(lm_encoding, "sentence_blocks", None)
        assert arrays(encode(train, words, shards)) == by_definition([TRAIN], words)
        assert arrays(encode(valid, words, shards)) == by_definition([VALID], words)

    def test_a_killed_run_with_several_processes(self, files, tmp_path, monkeypatch, small_pieces):
        """Neither its lock, nor its files, nor its processes stand in the way of the next run."""
        text = Corpus(files, "<eos>", num_workers=2)
        words, shards = words_of(text), str(tmp_path / "shards")

        class Deadly:
            def __enter__(self):
                return self

            def __exit__(self, *error):
                pass

            def update(self, count):
                os.kill(os.getpid(), signal.SIGKILL)

        def run():
            monkeypatch.setattr(lm_encoding, "_progress", lambda *arguments: Deadly())
            encode(text, words, shards)

        process = multiprocessing.get_context("fork").Process(target=run)
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert not list((tmp_path / "shards").glob("*/index.json"))
        assert arrays(encode(text, words, shards)) == by_definition(files, words)
        assert len([path for path in (tmp_path / "shards").glob("*.ids/*") if path.is_dir()]) == 1

    def test_unusual_words_survive_in_the_counts(self, tmp_path):
        (tmp_path / "t").write_bytes("a\u00a0b \x1c \u2028 \x85 12 é 🙂\n".encode())
        text = Corpus(str(tmp_path / "t"), "<eos>")
        assert count_tokens(text, str(tmp_path / "s")) == text.count_tokens()

    def test_digest_is_that_of_words_and_ids(self):
        def digest(*tokens, unknown=None):
            vocab = Vocabulary()
            vocab.add_tokens_to_namespace(list(tokens))
            words = WordIds(vocab, "<eos>")
            words.unknown = words.unknown if unknown is None else unknown
            return words.digest()

        everything = [
            digest("<eos>", "a", "b"),
            digest("<eos>", "b", "a"),
            digest("<eos>", "a"),
            digest("<eos>", "a", "b", unknown=3),
        ]
        assert len(set(everything)) == 4 and everything[0] == digest("<eos>", "a", "b")

    def test_processes_that_are_not_forked_get_the_words_whole(self):
        words = words_of(Corpus(TRAIN, "<eos>"))
        copied = pickle.loads(pickle.dumps(words))
        assert copied == words and copied.digest() == words.digest()
        assert copied[b"no such word"] == words.unknown and copied.boundary == words.boundary

    def test_parts_are_slices_of_a_file(self, tmp_path):
        (tmp_path / "s").write_bytes(numpy.arange(100, dtype=ID_TYPE).tobytes())
        with open(tmp_path / "s", "rb") as file:
            part = StoredIds(file, 10, 50)
            ids = numpy.arange(10, 60)
            for wanted in (slice(None), slice(3, 9), slice(45, 99), slice(7, 7)):
                assert part[wanted].tolist() == ids[wanted].tolist()
            assert len(part) == 50

    def test_a_file_that_is_cut_off_while_it_is_read(self, tmp_path):
        (tmp_path / "s").write_bytes(bytes(400))
        with open(tmp_path / "s", "rb") as file:
            part = StoredIds(file, 0, 100)
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
        ids = numpy.random.RandomState(0).randint(1, 60_000, 25_000_000).astype(ID_TYPE)
        for number in range(2):
            ids.tofile(tmp_path / str(number))
        expected = [50_000_000, 2 * int(ids.sum(dtype=numpy.int64)), 2 * int((ids.astype("i8") ** 2).sum())]
        del ids

        def read():
            parts = [StoredIds(open(tmp_path / name, "rb"), 0, 25_000_000) for name in "01"]  # noqa: SIM115
            start, seen = memory("VmRSS"), [0, 0, 0]
            for _, targets in StreamWindows(TokenStream(1, parts), 128, 200):
                seen[0] += int((targets > 0).sum())
                seen[1] += int(targets.sum())
                seen[2] += int((targets * targets).sum())
            assert seen == expected
            assert memory("VmHWM") - start < 50e6

        self.in_child(read)

    def test_preparing_60_megabytes(self, tmp_path):
        """The text has few different words, and neither it nor its ids (20 MB) are ever in memory."""
        with open(tmp_path / "text", "wb") as file:
            for _ in range(60):
                file.write(b"mississippi tallahatchie chattahoochee mattamuskeet\n" * 20_000)

        def run():
            start = memory("VmRSS")
            text, shards = Corpus(str(tmp_path / "text"), "<eos>"), str(tmp_path / "shards")
            vocab = Vocabulary({"tokens": count_tokens(text, shards)})
            assert encode(text, WordIds(vocab, "<eos>"), shards).num_tokens == 60 * 20_000 * 5
            assert memory("VmHWM") - start < 15e6

        self.in_child(run)
