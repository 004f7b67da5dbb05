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

from ldnet_allennlp.data.lm_stream import prepared as lm_prepared
from ldnet_allennlp.data.lm_stream.prepared import INDEX, LOCK, prepare

SETTINGS = {"end_of_sentence": "<eos>", "max_instances": None}


class Maker:
    """Writes the first source in capitals, and knows how often it did."""

    def __init__(self, tmp_path):
        self.folder = str(tmp_path / "prepared" / "name")
        self.source = str(tmp_path / "text")
        self.calls = 0
        self.write("some text")

    def write(self, text):
        with open(self.source, "w") as file:
            file.write(text)
        os.utime(self.source, ns=(1, 1))

    def make(self, folder):
        self.calls += 1
        with open(self.source) as text, open(os.path.join(folder, "capitals"), "w") as file:
            file.write(text.read().upper())
        return {"made": True}

    def open(self, **settings):
        content, files = prepare(self.folder, [self.source], {**SETTINGS, **settings}, self.make)
        assert content == {"made": True} and list(files) == ["capitals"]
        return files["capitals"]

    def get(self, **settings):
        with self.open(**settings) as file:
            return file.read().decode()

    def data(self):
        """The directory with the files."""
        (name,) = self.left()
        return os.path.join(self.folder, name)

    def left(self):
        """What is in the folder beside the lock and the index."""
        return set(os.listdir(self.folder)) - {LOCK, INDEX}


@pytest.fixture
def maker(tmp_path):
    return Maker(tmp_path)


def in_child(function):
    """The exit status of a process that calls the function."""
    process = multiprocessing.get_context("fork").Process(target=function)
    process.start()
    process.join()
    return process.exitcode


class TestReuse:
    def test_nothing_changed(self, maker):
        assert [maker.get(), maker.get()] == ["SOME TEXT"] * 2 and maker.calls == 1
        assert len(maker.left()) == 1

    def test_a_read_only_directory_will_do(self, maker, monkeypatch):
        maker.get()

        def no_writing(*arguments, **options):
            raise AssertionError

        monkeypatch.setattr(lm_prepared, "exclusive_lock", no_writing)
        assert maker.get() == "SOME TEXT"

    def test_changed_text(self, maker, caplog):
        caplog.set_level(logging.INFO)
        maker.get()
        for time_, text, reason in (
            (5, "same size", r"was \[9, 1\] and is \[9, 5\]"),
            (5, "a size", r"is \[6, 5\]"),
        ):
            maker.write(text)
            os.utime(maker.source, ns=(time_, time_))
            assert maker.get() == text.upper()
            assert re.search(f"the text '{maker.source}' .*{reason}", caplog.messages[-1])

    def test_changed_settings(self, maker, caplog):
        caplog.set_level(logging.INFO)
        maker.get()
        maker.get(max_instances=3)
        assert "max_instances was None and is 3" in caplog.messages[-1]
        maker.get(max_instances=3, vocabulary="abc")
        assert "vocabulary was None and is 'abc'" in caplog.messages[-1]
        maker.get()
        assert "max_instances was 3 and is None, vocabulary was 'abc' and is None" in caplog.messages[-1]
        assert maker.calls == 4

    def test_other_files(self, maker, caplog):
        caplog.set_level(logging.INFO)
        maker.get()
        other = maker.source + "-2"
        shutil.copy(maker.source, other)
        prepare(maker.folder, [maker.source, other], SETTINGS, maker.make)
        assert f"the text '{other}' was None" in caplog.messages[-1] and maker.calls == 2

    @pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b + b"x", lambda b: b"X" + b[1:]])
    @pytest.mark.parametrize("name", ["capitals", INDEX])
    def test_damaged_files_are_made_anew(self, maker, caplog, damage, name):
        caplog.set_level(logging.INFO)
        maker.get()
        path = os.path.join(maker.folder if name == INDEX else maker.data(), name)
        with open(path, "rb") as file:
            content = file.read()
        with open(path, "wb") as file:
            file.write(damage(content))
        assert maker.get() == "SOME TEXT" and maker.calls == 2
        assert f"'{path}' is damaged" in caplog.messages[-1]

    @pytest.mark.parametrize("content", ["", "[]", "{}", "null", '{"facts": {}}'])
    def test_another_index_is_noticed(self, maker, content):
        maker.get()
        with open(os.path.join(maker.folder, INDEX), "w") as file:
            file.write(content)
        assert maker.get() == "SOME TEXT" and maker.calls == 2

    def test_missing_file(self, maker):
        maker.get()
        os.remove(os.path.join(maker.data(), "capitals"))
        assert maker.get() == "SOME TEXT" and maker.calls == 2

    def test_another_format(self, maker, monkeypatch, caplog):
        caplog.set_level(logging.INFO)
        maker.get()
        monkeypatch.setattr(lm_prepared, "FORMAT", 99)
        maker.get()
        assert "format was 3 and is 99" in caplog.messages[-1] and maker.calls == 2


class TestInterruption:
    @pytest.mark.parametrize("where", ["make", "_checksum", "replace"])
    @pytest.mark.parametrize("earlier", [False, True])
    def test_kill_leaves_nothing_that_looks_finished(self, maker, monkeypatch, where, earlier):
        if earlier:
            maker.get()
            maker.write("a newer text")

        def die(*arguments):
            os.kill(os.getpid(), signal.SIGKILL)

        def run():
            if where == "make":
                maker.make = die
            else:
                monkeypatch.setattr(lm_prepared.os if where == "replace" else lm_prepared, where, die)
            maker.get()

        assert in_child(run) == -signal.SIGKILL
        assert len(maker.left()) == 1 + earlier
        assert os.path.exists(os.path.join(maker.folder, INDEX)) == earlier
        assert maker.get() == ("A NEWER TEXT" if earlier else "SOME TEXT")
        assert len(maker.left()) == 1

    def test_an_error_leaves_nothing(self, maker):
        def fail(folder):
            maker_of_files(folder)
            raise ConfigurationError("bad text")

        maker_of_files, maker.make = maker.make, fail
        with pytest.raises(ConfigurationError, match="bad text"):
            maker.get()
        assert not maker.left() and not os.path.exists(os.path.join(maker.folder, INDEX))

    def test_full_disk(self, maker):
        maker.write("x" * 100_000)

        def run():
            resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
            with pytest.raises(
                ConfigurationError, match=r"Could not write .*prepared.*shards.*4 bytes per token"
            ):
                maker.get()

        assert in_child(run) == 0
        assert not maker.left() and not os.path.exists(os.path.join(maker.folder, INDEX))

    def test_a_place_that_is_no_directory(self, maker):
        maker.folder = maker.source
        with pytest.raises(ConfigurationError, match=r"Could not write .*text"):
            maker.get()

    def test_text_that_changes_while_it_is_read(self, maker):
        def slow(folder):
            content = maker_of_files(folder)
            maker.write("other text")
            return content

        maker_of_files, maker.make = maker.make, slow
        with pytest.raises(ConfigurationError, match="changed while it was read"):
            maker.get()
        assert not maker.left()


class TestProcesses:
    def test_one_makes_what_all_use(self, maker):
        log = maker.source + ".log"

        def slow(folder):
            with open(log, "a") as file:
                file.write("made\n")
            time.sleep(0.3)
            return maker_of_files(folder)

        def run():
            assert maker.get() == "SOME TEXT"

        maker_of_files, maker.make = maker.make, slow
        context = multiprocessing.get_context("fork")
        processes = [context.Process(target=run) for _ in range(4)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        assert [process.exitcode for process in processes] == [0] * 4
        with open(log) as file:
            assert file.read() == "made\n"

    def test_readers_keep_what_they_opened(self, maker):
        with maker.open() as old:
            maker.write("new text!")
            os.utime(maker.source, ns=(2, 2))
            assert maker.get() == "NEW TEXT!"
            assert old.read() == b"SOME TEXT"
