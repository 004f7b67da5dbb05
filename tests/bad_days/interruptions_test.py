"""`kill -9` at the worst moments, and then the same command again: it succeeds, and no remains are left."""

import os
import signal
from pathlib import Path

import pytest
import torch
from allennlp.common import Params
from allennlp.models.archival import load_archive
from allennlp.training import gradient_descent_trainer
from allennlp.training.callbacks import TrainerCallback

from ldnet_allennlp.common import archives
from ldnet_allennlp.common.files import scratch_directory
from ldnet_allennlp.convert import datasets
from ldnet_allennlp.data.lm_stream import corpus as lm_corpus
from ldnet_allennlp.data.lm_stream import shards as lm_shards
from ldnet_allennlp.predictors.ldnet_tagger import LdnetTaggerPredictor
from tests.bad_days.configs import language_model_config, tagger_config, write_config
from tests.command_lines import allennlp, in_a_process
from tests.resources import REFERENCE
from tests.taggers import gated_archive

CHECKPOINTS = REFERENCE / "i_checkpoints"


def die(*arguments, **options):
    os.kill(os.getpid(), signal.SIGKILL)


@TrainerCallback.register("die_in_this_test")
class Die(TrainerCallback):
    """Ends the process after a batch of training, or of validation, in an epoch."""

    # Not options: the config of a run that is recovered must be the same.
    point = (-1, -1)
    is_training = True

    def on_batch(self, trainer, inputs, outputs, metrics, epoch, batch_number, is_training, **kwargs):
        if (epoch, batch_number) == self.point and is_training == self.is_training:
            die()


def killed_in(module, name, call=1):
    """What makes a process die when it calls a function for the first (second, ...) time."""
    function, calls = getattr(module, name), []

    def count(*arguments, **options):
        calls.append(1)
        return (die if len(calls) == call else function)(*arguments, **options)

    return lambda: setattr(module, name, count)


def weights_of(archive: Path):
    return load_archive(str(archive)).model.state_dict()


def same(first: Path, second: Path) -> bool:
    one, two = weights_of(first), weights_of(second)
    return set(one) == set(two) and all(torch.equal(one[name], two[name]) for name in one)


@pytest.fixture(scope="module")
def gated(tmp_path_factory, language_models) -> Path:
    path = tmp_path_factory.mktemp("gated") / "model.tar.gz"
    return Path(gated_archive(path, language_models, [1.0, 0.0] * 4))


class TestShards:
    @pytest.mark.parametrize(
        "moment",
        [(lm_corpus, "NumberedBlock"), (lm_shards.hashlib, "file_digest"), (lm_shards.os, "replace")],
    )
    def test_killed_while_they_are_prepared(self, tmp_path, moment):
        """The directory of the training is AllenNLP's: it asks for --recover."""
        shards = tmp_path / "shards"
        config = language_model_config(shards=str(shards))
        command = ("train", write_config(tmp_path / "c.json", config), "-s", tmp_path / "out")
        assert allennlp(*command, before=killed_in(*moment)).status == -signal.SIGKILL
        assert [path for path in shards.glob("*/*") if path.is_dir()]
        assert len(list(shards.glob("*/index.json"))) <= 1  # of the training text
        again = allennlp(*command)
        assert again.status == 1 and "Specify --recover" in again.message
        assert allennlp(*command, "--recover").status == 0
        whole = allennlp("train", tmp_path / "c.json", "-s", tmp_path / "whole")
        assert whole.status == 0
        assert same(tmp_path / "out" / "model.tar.gz", tmp_path / "whole" / "model.tar.gz")
        names = sorted(os.listdir(shards))
        assert [name.split(".")[-1] for name in names] == ["ids", "ids"]
        assert not [path for path in shards.glob("*/*") if path.is_dir()]


LOADERS = {
    "shuffled": ({"batch_size": 4, "shuffle": True}, {}),
    "buckets": (
        {"batch_sampler": {"type": "bucket", "batch_size": 4, "padding_noise": 0.3}},
        {"save_every_num_batches": 1},
    ),
    "short epochs": (
        {"batch_size": 4, "shuffle": True, "batches_per_epoch": 4},
        {"save_every_num_batches": 2, "keep_most_recent_by_count": 1},
    ),
}


class TestTagger:
    """With dropout, and with validation batches that are shuffled, too."""

    @pytest.fixture(scope="class", params=LOADERS)
    def config(self, request):
        loader, checkpointer = LOADERS[request.param]
        config = tagger_config()
        config["model"]["dropout"] = 0.3
        config["data_loader"] = loader
        config["trainer"].update(
            callbacks=["die_in_this_test"],
            checkpointer={"type": "resumable", **checkpointer},
            num_epochs=3,
        )
        return config

    @pytest.fixture(scope="class")
    def whole(self, config, tmp_path_factory):
        """The archive of a training that was not interrupted."""
        folder = tmp_path_factory.mktemp("whole")
        assert allennlp("train", write_config(folder / "c.json", config), "-s", folder / "out").status == 0
        return folder / "out" / "model.tar.gz"

    @pytest.mark.parametrize(
        "moment", ["first epoch", "third epoch", "validation", "checkpoint", "best", "archive"]
    )
    def test_killed_and_recovered_it_is_as_if_nothing_had_happened(self, config, whole, tmp_path, moment):
        out = tmp_path / "out"

        def before():
            if "epoch" in moment:
                Die.point = (["first epoch", "second epoch", "third epoch"].index(moment), 4)
            elif moment == "validation":
                Die.point, Die.is_training = (1, 1), False
            elif moment == "best":  # after the checkpoint of the last epoch, before its copy to best.th
                killed_in(gradient_descent_trainer, "hardlink_or_copy", call=3)()
            elif moment == "checkpoint":
                write_half_of(lambda path: "training_state_e2" in path)
            else:
                write_half_of(lambda path: path.endswith("model.tar.gz"))

        command = ("train", write_config(tmp_path / "c.json", config), "-s", out)
        assert allennlp(*command, before=before).status == -signal.SIGKILL
        refused = allennlp(*command)
        assert refused.status == 1 and f"({out}) already exists and is not empty" in refused.message
        assert allennlp(*command, "--recover").status == 0
        assert same(out / "model.tar.gz", whole)
        assert not [path for path in out.iterdir() if path.suffix == ".tmp"]


def test_a_config_that_was_cut_off_is_written_again(tmp_path):
    """AllenNLP writes config.json in place, before training and before a recovery."""
    config = write_config(tmp_path / "c.json", tagger_config())
    out = tmp_path / "out"
    command = ("train", config, "-s", out)
    assert allennlp(*command).status == 0
    (out / "config.json").write_text((out / "config.json").read_text()[:50])
    refused = allennlp(*command, "--recover")
    assert refused.status == 1 and "STATIC ERROR" in refused.err
    # The documented repair.
    Params.from_file(str(config)).to_file(str(out / "config.json"))
    assert allennlp(*command, "--recover").status == 0


def write_half_of(is_it):
    """Makes the process die in the middle of a file of torch's, or of an archive."""
    save, tar = torch.save, archives.archive_model.__globals__["tarfile"].open

    def save_half(data, path, *arguments, **options):
        save(data, path, *arguments, **options)
        cut(str(path))

    def cut(path):
        if is_it(path):
            os.truncate(path, os.path.getsize(path) // 2)
            die()

    def open_and_die(path, *arguments, **options):
        if is_it(str(path)):
            Path(path).write_bytes(b"\x1f\x8b\x08\x00half")
            die()
        return tar(path, *arguments, **options)

    torch.save = save_half
    archives.archive_model.__globals__["tarfile"].open = open_and_die


class TestCommands:
    """Of each: killed after some files of its result are written, and before the result is in its place."""

    @pytest.mark.parametrize("earlier", [False, True])
    @pytest.mark.parametrize(
        "moment", [(archives, "archive_model"), (archives, "load_checked_archive", 2), (os, "replace")]
    )
    def test_prune(self, gated, tmp_path, moment, earlier):
        output = tmp_path / "model.tar.gz"
        if earlier:
            output.write_bytes(b"from an earlier run")
        command = ("ldnet-prune", gated, output, "--force")
        assert allennlp(*command, before=killed_in(*moment)).status == -signal.SIGKILL
        assert (output.read_bytes() == b"from an earlier run") if earlier else not output.exists()
        assert [path.name[:7] for path in tmp_path.iterdir() if path != output] == [".ldnet-"]
        done = allennlp(*command)
        assert done.status == 0, done.err
        assert [path.name for path in tmp_path.iterdir()] == ["model.tar.gz"] and weights_of(output)

    @pytest.mark.parametrize(
        "arguments, module, results",
        [
            (("pner0.th", "model.tar.gz"), archives, ["model.tar.gz"]),
            (("data/ner_dataset.pk", "conll"), datasets, ["dev.conll", "test.conll", "train.conll"]),
        ],
    )
    def test_convert(self, tmp_path, arguments, module, results):
        source, output = arguments
        source = CHECKPOINTS / source
        folder = tmp_path / "results"
        command = ("ldnet-convert", source, folder if output == "conll" else folder / output)
        assert allennlp(*command, before=killed_in(module.os, "replace")).status == -signal.SIGKILL
        assert not [path for path in tmp_path.rglob("*") if path.name in results and path.parent == folder]
        assert [path for path in tmp_path.rglob(".*-*") if path.is_dir()]
        done = allennlp(*command)
        assert done.status == 0, done.err
        assert sorted(path.name for path in folder.iterdir()) == results
        assert [path.name for path in tmp_path.iterdir()] == ["results"]

    def test_tagging_a_file(self, gated, tmp_path):
        source, output = tmp_path / "in", tmp_path / "out"
        source.write_text("the list\npython\n")
        output.write_text("from an earlier run")
        predictor = LdnetTaggerPredictor.from_path(str(gated), input="text")

        def tag():
            os.replace = die
            predictor.tag_file(str(source), str(output))

        assert in_a_process(tag).status == -signal.SIGKILL
        assert output.read_text() == "from an earlier run"
        assert predictor.tag_file(str(source), str(output)) == 2
        assert len(output.read_text().splitlines()) == 2
        assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]

    def test_another_run_s_folder_is_left_alone(self, gated, tmp_path):
        """A run that is still at work, in the same directory: its lock tells."""
        with scratch_directory(str(tmp_path / "other.tar.gz")) as folder:
            Path(folder, "weights.th").write_text("half")
            assert allennlp("ldnet-prune", gated, tmp_path / "model.tar.gz").status == 0
            assert Path(folder, "weights.th").read_text() == "half"
        assert [path.name for path in tmp_path.iterdir()] == ["model.tar.gz"]
