import os

import pytest
import torch
from allennlp.common.checks import ConfigurationError
from allennlp.data import Vocabulary
from allennlp.models.archival import load_archive

from ldnet_allennlp.common import archives
from ldnet_allennlp.common.archives import (
    archive_path,
    find_sections,
    read_archive,
    remove_namespace,
    write_archive,
)
from tests.taggers import build_tagger, tagger_params


@pytest.fixture(scope="module")
def tagger(language_models):
    return build_tagger(tagger_params(language_models))


def test_what_is_written_can_be_read(tmp_path, tagger):
    path = str(tmp_path / "new" / "folder" / "model.tar.gz")
    write_archive(path, tagger.model, tagger.config)
    archive = read_archive(path)
    for name, value in tagger.model.state_dict().items():
        assert torch.equal(archive.model.state_dict()[name], value)
    assert archive.config.as_dict(quiet=True)["model"]["type"] == "ldnet_tagger"
    assert archive.meta is not None
    assert os.listdir(os.path.dirname(path)) == ["model.tar.gz"]


def fail(*args, **kwargs):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("step", ["archive_model", "load_checked_archive"])
def test_a_failure_leaves_nothing_behind_and_the_old_file_whole(tmp_path, tagger, monkeypatch, step):
    path = tmp_path / "model.tar.gz"
    path.write_bytes(b"the old one")
    monkeypatch.setattr(archives, step, fail)
    with pytest.raises(OSError, match="No space left"):
        write_archive(str(path), tagger.model, tagger.config)
    assert os.listdir(str(tmp_path)) == ["model.tar.gz"]
    assert path.read_bytes() == b"the old one"


def test_a_check_that_fails_leaves_nothing_behind(tmp_path, tagger):
    seen = []

    def check(archive):
        seen.append(type(archive.model).__name__)
        raise ConfigurationError("no")

    with pytest.raises(ConfigurationError, match="no"):
        write_archive(str(tmp_path / "model.tar.gz"), tagger.model, tagger.config, check)
    assert seen == ["LdnetTagger"] and os.listdir(str(tmp_path)) == []


def test_a_config_that_does_not_describe_the_model(tmp_path, tagger):
    config = {**tagger.config, "model": {**tagger.config["model"], "include_start_end_transitions": False}}
    with pytest.raises(ConfigurationError, match=r"Unexpected keys: .*crf\.start_transitions"):
        write_archive(str(tmp_path / "model.tar.gz"), tagger.model, config)
    assert os.listdir(str(tmp_path)) == []


def test_no_archive(tmp_path):
    with pytest.raises(ConfigurationError, match=r"No archive was found at '.*nothing'"):
        read_archive(str(tmp_path / "nothing"))


@pytest.mark.parametrize("damage", ["cut", "other", "empty"])
def test_a_damaged_archive(tmp_path, tagger, damage):
    path = tmp_path / "model.tar.gz"
    write_archive(str(path), tagger.model, tagger.config)
    whole = path.read_bytes()
    path.write_bytes({"cut": whole[: len(whole) // 2], "other": b"some text" * 99, "empty": b""}[damage])
    with pytest.raises(ConfigurationError, match=r"'.*model.tar.gz' was expected to be an archive"):
        read_archive(str(path))


def test_a_serialization_directory(trained):
    assert type(read_archive(str(trained)).model) is type(load_archive(str(trained / "model.tar.gz")).model)


def test_archive_path(tmp_path):
    assert archive_path(str(tmp_path)) == str(tmp_path / "model.tar.gz")
    assert archive_path("new/") == os.path.join("new/", "model.tar.gz")
    assert archive_path("new.tar.gz") == "new.tar.gz"


def test_find_sections():
    config = {
        "a": {"type": "ldnet", "n": 1, "inner": [{"type": "ldnet", "n": 2}]},
        "b": [{"type": "other"}, {"x": {"type": "ldnet", "n": 3}}],
        "c": "ldnet",
    }
    assert [section["n"] for section in find_sections(config, "ldnet")] == [1, 2, 3]


def test_remove_namespace():
    vocab = Vocabulary()
    vocab.add_token_to_namespace("word", "gone")
    vocab.add_token_to_namespace("word", "stays")
    for _ in range(2):
        remove_namespace(vocab, "gone")
        assert vocab.get_namespaces() == {"stays"}
