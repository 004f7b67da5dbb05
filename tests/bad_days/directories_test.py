"""Directories that are taken, that cannot be written, or that are something else."""

import ctypes
import sys
from pathlib import Path

import pytest
from allennlp.commands import train
from allennlp.models.archival import load_archive

from ldnet_allennlp.common.files import exclusive_lock
from tests.bad_days.configs import tagger_config, write_config
from tests.command_lines import allennlp
from tests.resources import REFERENCE
from tests.taggers import DEV, gated_archive


@pytest.fixture(scope="module")
def gated(tmp_path_factory, language_models) -> Path:
    path = tmp_path_factory.mktemp("gated") / "model.tar.gz"
    return Path(gated_archive(path, language_models, [1.0, 0.0] * 4))


def contents(folder: Path):
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_two_trainings_into_one_directory(tmp_path):
    """The second is refused, and what the first has written stays, to the byte."""
    command = ("train", write_config(tmp_path / "c.json", tagger_config()), "-s", tmp_path / "out")
    assert allennlp(*command).status == 0
    before = contents(tmp_path / "out")
    done = allennlp(*command)
    assert done.status == 1 and f"({tmp_path / 'out'}) already exists and is not empty" in done.message
    assert contents(tmp_path / "out") == before


def test_two_prunings_into_one_file(gated, tmp_path):
    command = ("ldnet-prune", gated, tmp_path / "model.tar.gz")
    assert allennlp(*command).status == 0
    before = contents(tmp_path)
    done = allennlp(*command)
    assert done.status == 1 and "exists already" in done.message and "--force" in done.message
    assert contents(tmp_path) == before


def test_two_sweeps_into_one_directory(gated, tmp_path):
    """The second would take the first's training for one that was interrupted."""
    with exclusive_lock(str(tmp_path / "out")):
        done = allennlp("ldnet-sweep", gated, tmp_path / "out", "--layers", "1")
        assert done.status == 1 and "Traceback" not in done.err
        assert done.message.startswith(f"ldnet-sweep: Another process uses '{tmp_path / 'out'}'"), done.err
    assert [path.name for path in (tmp_path / "out").iterdir()] == [".lock"]
    with exclusive_lock(str(tmp_path / "out")):  # the lock ends with the context
        pass


def test_a_training_into_the_directory_of_one_that_runs(tmp_path):
    """The second is refused, and the first ends as if nothing had happened."""
    command = ("train", write_config(tmp_path / "c.json", tagger_config()), "-s", tmp_path / "out")
    archive_model = train.archive_model

    def start_another(*arguments, **options):
        second = allennlp(*command)
        (tmp_path / "second").write_text(f"{second.status}: {second.message}")
        return archive_model(*arguments, **options)

    first = allennlp(*command, before=lambda: setattr(train, "archive_model", start_another))
    second = (tmp_path / "second").read_text()
    assert second.startswith("1: ") and "already exists and is not empty" in second
    assert first.status == 0 and load_archive(str(tmp_path / "out" / "model.tar.gz"))


@pytest.mark.parametrize(
    "output", ["a file/model.tar.gz", "a file/more/model.tar.gz", "/proc/none/model.tar.gz"]
)
@pytest.mark.parametrize("command", ["ldnet-prune", "ldnet-convert"])
def test_places_where_nothing_can_be_written(gated, tmp_path, command, output):
    (tmp_path / "a file").write_text("mine")
    source = gated if command == "ldnet-prune" else REFERENCE / "i_checkpoints" / "pner0.th"
    done = allennlp(command, source, output, folder=tmp_path)
    assert done.status == 1 and "Traceback" not in done.err
    assert done.message.startswith(f"{command}: '{output}' could not be written")
    assert (tmp_path / "a file").read_text() == "mine"


def give_up_privileges() -> None:
    """root may write everywhere, by capabilities that a process can give up."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    assert ctypes.CDLL(None).capset(header, (ctypes.c_uint32 * 6)()) == 0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="root's privileges are given up as on Linux")
class TestReadOnlyModels:
    """A model directory that somebody else owns, on a file system that is mounted for reading."""

    @pytest.fixture
    def model(self, gated, tmp_path):
        folder = tmp_path / "model"
        folder.mkdir()
        (folder / "model.tar.gz").write_bytes(gated.read_bytes())
        folder.chmod(0o555)
        yield folder
        folder.chmod(0o755)

    def test_it_can_be_used(self, model, tmp_path):
        (tmp_path / "in.txt").write_text("the list\n")
        commands = [
            ("predict", model / "model.tar.gz", tmp_path / "in.txt"),
            ("evaluate", model / "model.tar.gz", DEV),
            ("ldnet-report", model / "model.tar.gz", "--passes", "1"),
            ("ldnet-prune", model / "model.tar.gz", tmp_path / "pruned" / "model.tar.gz"),
        ]
        for command in commands:
            done = allennlp(*command, before=give_up_privileges)
            assert done.status == 0, done.err
        assert [path.name for path in model.iterdir()] == ["model.tar.gz"]

    def test_what_would_write_into_it_says_so(self, model):
        for output in (model / "pruned.tar.gz", model / "new" / "model.tar.gz"):
            done = allennlp("ldnet-prune", model / "model.tar.gz", output, before=give_up_privileges)
            assert done.status == 1 and "Traceback" not in done.err
            assert f"'{output}' could not be written" in done.message and "Permission denied" in done.message
        assert [path.name for path in model.iterdir()] == ["model.tar.gz"]
