"""Shards are reused while nothing changes, rebuilt otherwise, and never half written."""

import json
import logging
import multiprocessing
import os
import re
import resource
import shutil
import signal
import time

import pytest
from allennlp.common.checks import ConfigurationError

from ldnet_allennlp.common.files import LOCK
from ldnet_allennlp.data.lm_stream import shards as lm_shards
from ldnet_allennlp.data.lm_stream.corpus import Corpus
from ldnet_allennlp.data.lm_stream.shards import INDEX, TOKENS, WORDS, folder_of, read_text

FILES = {LOCK, INDEX, TOKENS, WORDS}


class CountingCorpus(Corpus):
    """Knows how often the text was read."""

    calls = 0

    def number(self, write):
        self.calls += 1
        return super().number(write)


class Stored:
    """A text of one file, and its shards."""

    def __init__(self, tmp_path):
        self.source, self.shards = str(tmp_path / "text"), str(tmp_path / "shards")
        self.calls = 0
        self.write("some text")
        self.folder = folder_of(Corpus(self.source, "<eos>"), self.shards)

    def write(self, text, modified=1):
        with open(self.source, "w") as file:
            file.write(text)
        os.utime(self.source, ns=(modified, modified))

    def read(self, limit=None, end="<eos>", corpus=CountingCorpus):
        corpus = corpus(self.source, end, limit)
        text = read_text(corpus, self.shards)
        self.calls += getattr(corpus, "calls", 0)
        return text

    def words(self, **options):
        text = self.read(**options)
        return " ".join(text.words[n] for n in text.files[0][0][:].tolist())


@pytest.fixture
def stored(tmp_path):
    return Stored(tmp_path)


def in_child(function):
    """The exit status of a process that calls the function."""
    process = multiprocessing.get_context("fork").Process(target=function)
    process.start()
    process.join()
    return process.exitcode


class TestReuse:
    def test_nothing_changed(self, stored):
        assert [stored.words(), stored.words()] == ["some text <eos>"] * 2 and stored.calls == 1
        assert set(os.listdir(stored.folder)) == FILES

    def test_a_read_only_directory_will_do(self, stored, monkeypatch):
        stored.read()

        def no_writing(*arguments, **options):
            raise AssertionError

        monkeypatch.setattr(lm_shards, "exclusive_lock", no_writing)
        assert stored.words() == "some text <eos>"

    def test_changed_text(self, stored, caplog):
        caplog.set_level(logging.INFO)
        stored.read()
        for text, reason in (("same size", r"was \[9, 1\] and is \[9, 5\]"), ("a size", r"is \[6, 5\]")):
            stored.write(text, modified=5)
            assert stored.words() == f"{text} <eos>"
            assert re.search(f"the text '{stored.source}' .*{reason}", caplog.text)

    def test_changed_options(self, stored, caplog):
        caplog.set_level(logging.INFO)
        stored.read()
        stored.read(limit=3)
        assert "max_instances was None and is 3" in caplog.text
        assert stored.words(limit=3, end="</s>") == "some text </s>"
        assert "end_of_sentence was '<eos>' and is '</s>'" in caplog.text
        assert stored.words() == "some text <eos>" and stored.calls == 4

    def test_other_files(self, stored, tmp_path):
        """A folder with one more file; its shards have another name."""
        stored.read()
        shutil.copy(stored.source, stored.source + "-2")
        text = read_text(Corpus(stored.source + "*", "<eos>"), stored.shards)
        assert len(text.files) == 2 and len(os.listdir(stored.shards)) == 2

    @pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b + b"x", lambda b: b"X" + b[1:]])
    @pytest.mark.parametrize("name", [WORDS, TOKENS, INDEX])
    def test_damaged_files_are_made_anew(self, stored, caplog, damage, name):
        caplog.set_level(logging.INFO)
        stored.read()
        path = os.path.join(stored.folder, name)
        with open(path, "rb") as file:
            content = file.read()
        with open(path, "wb") as file:
            file.write(damage(content))
        assert stored.words() == "some text <eos>" and stored.calls == 2
        assert f"'{path}' is damaged" in caplog.text

    @pytest.mark.parametrize("content", ["", "[]", "{}", "null", '{"facts": {}}'])
    def test_another_index_is_noticed(self, stored, content):
        stored.read()
        with open(os.path.join(stored.folder, INDEX), "w") as file:
            file.write(content)
        assert stored.words() == "some text <eos>" and stored.calls == 2

    def test_an_index_without_files_is_noticed(self, stored):
        stored.read()
        path = os.path.join(stored.folder, INDEX)
        with open(path) as file:
            index = json.load(file)
        with open(path, "w") as file:
            json.dump({**index, "checksums": {}}, file)
        assert stored.words() == "some text <eos>" and stored.calls == 2

    def test_missing_file(self, stored):
        stored.read()
        os.remove(os.path.join(stored.folder, TOKENS))
        assert stored.words() == "some text <eos>" and stored.calls == 2

    def test_another_format(self, stored, monkeypatch, caplog):
        caplog.set_level(logging.INFO)
        stored.read()
        monkeypatch.setattr(lm_shards, "FORMAT", 99)
        stored.read()
        assert "format was 4 and is 99" in caplog.text and stored.calls == 2


class DyingCorpus(Corpus):
    def number(self, write):
        os.kill(os.getpid(), signal.SIGKILL)


class FailingCorpus(Corpus):
    def number(self, write):
        super().number(write)
        raise ConfigurationError("bad text")


class TestInterruption:
    @pytest.mark.parametrize("killed_in", ["number", "dump", "first replace", "last replace"])
    @pytest.mark.parametrize("has_earlier", [False, True])
    def test_kill_leaves_nothing_that_looks_finished(self, stored, monkeypatch, killed_in, has_earlier):
        if has_earlier:
            stored.read()
            stored.write("a newer text")

        def die(*arguments, **options):
            os.kill(os.getpid(), signal.SIGKILL)

        def run():
            replace = os.replace
            if killed_in == "dump":
                monkeypatch.setattr(lm_shards.json, "dump", die)
            elif killed_in == "first replace":
                monkeypatch.setattr(lm_shards.os, "replace", die)
            elif killed_in == "last replace":
                monkeypatch.setattr(
                    lm_shards.os, "replace", lambda old, new: die() if INDEX in new else replace(old, new)
                )
            stored.read(corpus=DyingCorpus if killed_in == "number" else Corpus)

        assert in_child(run) == -signal.SIGKILL
        assert os.path.exists(os.path.join(stored.folder, INDEX)) == has_earlier
        assert stored.words() == ("a newer text <eos>" if has_earlier else "some text <eos>")
        assert set(os.listdir(stored.folder)) == FILES

    def test_an_error_leaves_nothing(self, stored):
        with pytest.raises(ConfigurationError, match="bad text"):
            stored.read(corpus=FailingCorpus)
        assert os.listdir(stored.folder) == [LOCK]

    def test_full_disk(self, stored):
        stored.write("x " * 100_000)

        def run():
            resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
            with pytest.raises(
                ConfigurationError, match=r"Could not write .*\.ids.*shards.*4 bytes per token"
            ):
                stored.read()

        assert in_child(run) == 0
        assert os.listdir(stored.folder) == [LOCK]

    def test_a_place_that_is_no_directory(self, stored):
        stored.shards = stored.source
        with pytest.raises(ConfigurationError, match=r"Could not write .*text"):
            stored.read()

    def test_text_that_changes_while_it_is_read(self, stored):
        class Changing(Corpus):
            def number(self, write):
                text = super().number(write)
                stored.write("other text")
                return text

        with pytest.raises(ConfigurationError, match="changed while it was read"):
            stored.read(corpus=Changing)
        assert os.listdir(stored.folder) == [LOCK]


class TestProcesses:
    def test_one_makes_what_all_use(self, stored):
        log = stored.source + ".log"

        class Slow(Corpus):
            def number(self, write):
                with open(log, "a") as file:
                    file.write("made\n")
                time.sleep(0.3)
                return super().number(write)

        def run():
            assert stored.words(corpus=Slow) == "some text <eos>"

        context = multiprocessing.get_context("fork")
        processes = [context.Process(target=run) for _ in range(4)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        assert [process.exitcode for process in processes] == [0] * 4
        with open(log) as file:
            assert file.read() == "made\n"

    def test_readers_keep_what_they_opened(self, stored):
        old = stored.read()
        stored.write("text text text", modified=2)
        assert stored.words() == "text text text <eos>"
        assert old.words == ["<eos>", "some", "text"] and old.files[0][0][:].tolist() == [1, 2, 0]
