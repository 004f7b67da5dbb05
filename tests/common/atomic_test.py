import io
import os
from pathlib import Path

import pytest
import torch

from ldnet_allennlp.common import atomic as workplaces
from ldnet_allennlp.common.atomic import save, workplace
from tests.resources import load_tensors

PREFIX = ".made-"


def test_what_is_made_is_beside_its_place(tmp_path):
    path = tmp_path / "new" / "file"
    with workplace(str(path), PREFIX) as folder:
        assert Path(folder).parent == path.parent and Path(folder).name.startswith(PREFIX)
        Path(folder, "file").write_text("all of it")
        os.replace(os.path.join(folder, "file"), path)
    assert path.read_text() == "all of it" and list(path.parent.iterdir()) == [path]


def test_an_error_leaves_nothing_and_says_what_could_not_be_written(tmp_path):
    path = tmp_path / "file"
    told = r"'.*file' could not be written, .*: .Errno 28. No space left"
    with pytest.raises(OSError, match=told), workplace(str(path), PREFIX) as folder:
        Path(folder, "file").write_text("half")
        raise OSError(28, "No space left on device")
    with pytest.raises(KeyError, match="other"), workplace(str(path), PREFIX):
        raise KeyError("other")  # is no matter of the disk
    assert not list(tmp_path.iterdir())


def test_only_what_killed_runs_have_left_is_removed(tmp_path):
    """One that is at work has its folder locked, or has only just made it."""
    for name in (f"{PREFIX}abandoned", f"{PREFIX}new", ".other-thing"):
        (tmp_path / name).mkdir()
    for name in (f"{PREFIX}abandoned", ".other-thing"):
        (tmp_path / name / "half").write_text("half")
    (tmp_path / f"{PREFIX}file").write_text("not a folder")
    with workplace(str(tmp_path / "a"), PREFIX) as first:
        Path(first, "half").write_text("half")
        with workplace(str(tmp_path / "b"), PREFIX):
            assert Path(first, "half").read_text() == "half"
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {f"{PREFIX}new", ".other-thing", f"{PREFIX}file"}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full on this system")
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("size", [1, 10**5])  # within Python's buffer, and beyond
def test_a_full_disk_is_an_error_of_the_system(size, zipped):
    """And not the end of the process, as in torch 1."""
    options = {"_use_new_zipfile_serialization": zipped}
    with pytest.raises(
        OSError, match=r"torch could not write 'full' .is the disk full.*No space left on device"
    ):
        save({"a": torch.zeros(size), "b": torch.ones(size)}, "/dev/full", **options)


def test_what_is_saved_is_what_torch_loads(tmp_path):
    data = {"a": torch.arange(10**5), "b": [torch.eye(3), 1.5]}
    save(data, str(tmp_path / "weights.th"))
    loaded = load_tensors(str(tmp_path / "weights.th"))
    assert torch.equal(loaded["a"], data["a"]) and torch.equal(loaded["b"][0], torch.eye(3))
    assert loaded["b"][1] == 1.5


def test_a_write_that_failed_once_is_an_error(tmp_path, monkeypatch):
    """Though room was made since, and all that came after it could be written."""

    class FailsOnce(io.FileIO):
        fails = True

        def write(self, part):
            if FailsOnce.fails:
                FailsOnce.fails = False
                raise OSError(28, "No space left on device")
            return super().write(part)

    monkeypatch.setattr(workplaces, "open", FailsOnce, raising=False)
    with pytest.raises(OSError, match=r"torch could not write 'weights\.th'"):
        save(torch.zeros(10), str(tmp_path / "weights.th"))
