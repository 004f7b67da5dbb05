"""Disks without room: a limit on the size of files stands for them, which the system enforces in the same way."""

import resource
import signal
from pathlib import Path

import pytest
import torch
from allennlp.commands import predict
from allennlp.models.archival import load_archive

from ldnet_allennlp.commands import ldnet_convert, ldnet_prune, ldnet_report
from ldnet_allennlp.predictors.ldnet_tagger import LdnetTaggerPredictor
from ldnet_allennlp.training.resumable_checkpointer import ResumableCheckpointer
from tests.bad_days.configs import language_model_config, tagger_config, write_config
from tests.command_lines import allennlp, in_a_process
from tests.resources import REFERENCE
from tests.taggers import gated_archive


def limit(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def full_from(module, name, size):
    """What makes files of more than `size` bytes impossible from the call of a function on."""

    def before():
        function = getattr(module, name)

        def call(*arguments, **options):
            limit(size)
            return function(*arguments, **options)

        setattr(module, name, call)

    return before


@pytest.fixture(scope="module")
def gated(tmp_path_factory, language_models) -> Path:
    path = tmp_path_factory.mktemp("gated") / "model.tar.gz"
    return Path(gated_archive(path, language_models, [1.0, 0.0] * 4))


@pytest.mark.parametrize(
    "command, size",
    [
        ("ldnet-prune", 500),  # there is no room for the config
        ("ldnet-prune", 5000),  # for the weights
        ("ldnet-prune", 22000),  # for the last of them
        ("ldnet-convert", 5000),
    ],
)
def test_archives(gated, tmp_path, command, size):
    output = tmp_path / "model.tar.gz"
    output.write_bytes(b"from an earlier run")
    module, source, options = {
        "ldnet-prune": (ldnet_prune, gated, ()),
        "ldnet-convert": (ldnet_convert, REFERENCE / "i_checkpoints" / "ner.th", ()),
    }[command]
    if command == "ldnet-convert":
        options = ("--maps", REFERENCE / "i_checkpoints" / "data" / "ner_dataset.pk")
    arguments = (command, source, output, "--force", *options)
    done = allennlp(*arguments, before=full_from(module, "write_archive", size))
    assert done.status == 1 and done.out == "" and "Traceback" not in done.err
    assert done.message.startswith(
        f"{command}: '{output}' could not be written; the partial file was removed: "
    )
    assert [path.name for path in tmp_path.iterdir()] == ["model.tar.gz"]
    assert output.read_bytes() == b"from an earlier run"
    if size == 5000:
        assert allennlp(*arguments).status == 0 and load_archive(str(output)).model


def test_reports(gated, tmp_path):
    report = tmp_path / "report.json"
    report.write_text("{}")
    options = ("--passes", "0", "--json", report)
    done = allennlp("ldnet-report", gated, *options, before=full_from(ldnet_report, "atomic_write", 100))
    assert done.status == 1 and f"ldnet-report: '{report}' could not be written" in done.message
    assert report.read_text() == "{}" and [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_shards(tmp_path):
    text = tmp_path / "text"
    text.write_text("a b c d e f g h\n" * 3000)
    config = language_model_config(text, shards=str(tmp_path / "shards"))
    command = ("train", write_config(tmp_path / "c.json", config), "-s", tmp_path / "out")
    done = allennlp(*command, before=lambda: limit(60_000))
    assert (
        done.status == 1 and f"Could not write the ids of the text to '{tmp_path / 'shards'}/" in done.message
    )
    assert {path.name for path in (tmp_path / "shards").glob("*.ids/*")} <= {".lock"}
    assert not (tmp_path / "out" / "model.tar.gz").exists()
    assert allennlp(*command, "--recover").status == 0


@pytest.mark.parametrize("config", [tagger_config, language_model_config])
def test_training(tmp_path, config):
    """No archive, and a status that tells; --recover goes on when there is room."""
    settings = config()
    settings["trainer"]["checkpointer"] = {"type": "lm_stream"}
    out = tmp_path / "out"
    command = ("train", write_config(tmp_path / "c.json", settings), "-s", out)
    done = allennlp(*command, before=full_from(ResumableCheckpointer, "save_checkpoint", 1000))
    # AllenNLP writes most of a checkpoint; where a write fails, torch 1's C++ code ends the process.
    ended = torch.__version__.startswith("1.") and done.status == -signal.SIGABRT
    assert ended or (done.status == 1 and f"'{out}" in done.message and "--recover" in done.message)
    assert not (out / "model.tar.gz").exists()
    assert allennlp(*command, "--recover").status == 0 and load_archive(str(out / "model.tar.gz")).model


def test_tagged_text(gated, tmp_path):
    """`tag_file` keeps what was there. `allennlp predict` writes into the file itself: its status tells."""
    (tmp_path / "in.txt").write_text("the list of a class\n" * 300)
    output = tmp_path / "out.jsonl"
    output.write_text("from an earlier run\n")
    predictor = LdnetTaggerPredictor.from_path(str(gated), input="text")

    def tag():
        limit(20_000)
        predictor.tag_file(str(tmp_path / "in.txt"), str(output))

    done = in_a_process(tag)
    assert done.status == 1 and done.message.startswith("OSError") and "File too large" in done.message
    assert output.read_text() == "from an earlier run\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.txt", "out.jsonl"]
    options = ("--silent", "--output-file", output)
    before = full_from(predict, "_PredictManager", 20_000)
    done = allennlp("predict", gated, tmp_path / "in.txt", *options, before=before)
    assert done.status == 1 and "File too large" in done.message
