import json
import logging
import multiprocessing
import os
import resource
import signal
import time

import pytest
from allennlp.common.checks import ConfigurationError

from ldnet_allennlp.data.lm_stream import prepared as lm_prepared
from ldnet_allennlp.data.lm_stream.prepared import INDEX, StoredFile, prepare

SETTINGS = {"end_of_sentence": "<eos>", "max_instances": None}


class Maker:
    """Writes the first source in capitals, and knows how often it did."""

    def __init__(self, tmp_path):
        self.directory = str(tmp_path / "prepared")
        self.source = str(tmp_path / "text")
        self.folder = os.path.join(self.directory, "name")
        self.calls = 0
        self.write("some text")

    def write(self, text):
        with open(self.source, "w") as file:
            file.write(text)

    def make(self, folder):
        self.calls += 1
        with open(self.source) as text, open(os.path.join(folder, "capitals"), "w") as file:
            file.write(text.read().upper())
        return {"made": True}

    def get(self, **settings):
        prepared = prepare(self.directory, "name", [self.source], {**SETTINGS, **settings}, self.make)
        assert prepared.content == {"made": True} and list(prepared.files) == ["capitals"]
        file = prepared.files["capitals"]
        return file.read(0, len(file)).decode()


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
        assert sorted(os.listdir(maker.directory)) in ([".lock", "name"], ["name"])

    def test_a_read_only_directory_will_do(self, maker, monkeypatch):
        maker.get()

        def no_writing(*arguments, **options):
            raise AssertionError

        monkeypatch.setattr(lm_prepared, "FileLock", no_writing)
        monkeypatch.setattr(lm_prepared.os, "makedirs", no_writing)
        assert maker.get() == "SOME TEXT"

    def test_another_time_of_change_with_the_same_text(self, maker, monkeypatch):
        maker.get()
        os.utime(maker.source, ns=(1, 1))
        assert maker.get() == "SOME TEXT" and maker.calls == 1
        monkeypatch.setattr(lm_prepared, "_sha256", None)  # now it is known
        assert maker.get() == "SOME TEXT" and maker.calls == 1

    def test_changed_text(self, maker, caplog):
        caplog.set_level(logging.INFO)
        maker.get()
        for text, reason in (("same size", "has changed"), ("another size", "had 9 bytes and has 12")):
            maker.write(text)
            os.utime(maker.source, ns=(len(text), len(text)))
            assert maker.get() == text.upper()
            assert f"the text '{maker.source}' {reason}" in caplog.messages[-1]

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
        prepare(maker.directory, "name", [maker.source] * 2, SETTINGS, maker.make)
        assert "other files" in caplog.messages[-1] and maker.calls == 2

    @pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b + b"x", lambda b: b"X" + b[1:]])
    @pytest.mark.parametrize("name", ["capitals", INDEX])
    def test_damaged_files_are_made_anew(self, maker, caplog, damage, name):
        caplog.set_level(logging.INFO)
        maker.get()
        path = os.path.join(maker.folder, name)
        with open(path, "rb") as file:
            content = file.read()
        with open(path, "wb") as file:
            file.write(damage(content))
        assert maker.get() == "SOME TEXT" and maker.calls == 2
        assert f"'{path}' is damaged" in caplog.messages[-1]

    def test_a_changed_index_is_noticed(self, maker):
        maker.get()
        path = os.path.join(maker.folder, INDEX)
        with open(path) as file:
            index = json.load(file)
        for changed in ({**index, "content": {"made": 5}}, {**index, "format": 0}, [index], {}):
            with open(path, "w") as file:
                json.dump(changed, file)
            maker.get()
        assert maker.calls == 5

    def test_missing_file(self, maker):
        maker.get()
        os.remove(os.path.join(maker.folder, "capitals"))
        assert maker.get() == "SOME TEXT" and maker.calls == 2

    def test_another_format(self, maker, monkeypatch, caplog):
        caplog.set_level(logging.INFO)
        maker.get()
        monkeypatch.setattr(lm_prepared, "FORMAT", 99)
        maker.get()
        assert "the format 1, expected 99" in caplog.messages[-1] and maker.calls == 2


class TestInterruption:
    @pytest.mark.parametrize("where", ["make", "_sha256", "_write_index", "rename"])
    @pytest.mark.parametrize("earlier", [False, True])
    def test_kill_leaves_nothing_that_looks_finished(self, maker, monkeypatch, where, earlier):
        if earlier:
            maker.get()
            maker.write("a newer text")

        def die(*arguments):
            with open(os.path.join(maker.directory, "reached"), "w"):
                os.kill(os.getpid(), signal.SIGKILL)

        def run():
            if where == "make":
                maker.make = die
            elif where == "rename":
                rename = os.rename  # the older version is out of the way, the newer one not yet in its place
                monkeypatch.setattr(
                    lm_prepared.os, "rename", lambda a, b: rename(a, b) if b.endswith("-old") else die()
                )
            else:
                monkeypatch.setattr(lm_prepared, where, die)
            maker.get()

        assert in_child(run) == -signal.SIGKILL
        os.remove(os.path.join(maker.directory, "reached"))
        assert any(name.startswith(".unfinished") for name in os.listdir(maker.directory))
        assert not os.path.exists(maker.folder) or earlier
        assert maker.get() == ("A NEWER TEXT" if earlier else "SOME TEXT")
        assert set(os.listdir(maker.directory)) <= {".lock", "name"}

    def test_an_error_leaves_nothing(self, maker):
        def fail(folder):
            maker_of_files(folder)
            raise ConfigurationError("bad text")

        maker_of_files, maker.make = maker.make, fail
        with pytest.raises(ConfigurationError, match="bad text"):
            maker.get()
        assert set(os.listdir(maker.directory)) <= {".lock"}

    def test_full_disk(self, maker):
        maker.write("x" * 100_000)

        def run():
            resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
            with pytest.raises(
                ConfigurationError, match=r"Could not write .*prepared.*shards.*4 bytes a token"
            ):
                maker.get()

        assert in_child(run) == 0
        assert set(os.listdir(maker.directory)) <= {".lock"}

    def test_a_place_that_is_no_directory(self, maker):
        maker.directory = maker.source
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
        assert not os.path.exists(maker.folder)


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
        old = prepare(maker.directory, "name", [maker.source], SETTINGS, maker.make).files["capitals"]
        maker.write("new text!")
        os.utime(maker.source, ns=(1, 1))
        assert maker.get() == "NEW TEXT!"
        assert old.read(0, len(old)) == b"SOME TEXT"


class TestStoredFile:
    def test_reads_anywhere(self, tmp_path):
        (tmp_path / "f").write_bytes(bytes(range(200)))
        file = StoredFile(str(tmp_path / "f"))
        assert len(file) == 200 and file.read(10, 5) == bytes(range(10, 15)) and file.read(200, 0) == b""

    def test_cut_while_it_is_read(self, tmp_path):
        (tmp_path / "f").write_bytes(bytes(200))
        file = StoredFile(str(tmp_path / "f"))
        os.truncate(tmp_path / "f", 100)
        with pytest.raises(RuntimeError, match=r"f' was cut off.*100 bytes, expected 150"):
            file.read(50, 100)
