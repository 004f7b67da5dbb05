"""Training language models on streams through AllenNLP's trainer: killed and recovered, and in several processes."""

import json
import math
import os
import signal
from pathlib import Path

import pytest
import torch
from allennlp.commands.train import train_model
from allennlp.common import Params
from allennlp.data import Vocabulary
from allennlp.models.archival import load_archive
from allennlp.training.callbacks import TrainerCallback

from ldnet_allennlp.modules.embedders.ldnet_embedder import LdnetEmbedder
from tests.resources import FIXTURES

OVERRIDES = {
    "train_data_path": str(FIXTURES / "lm" / "train.txt"),
    "validation_data_path": str(FIXTURES / "lm" / "valid.txt"),
    "model.text_field_embedder.token_embedders.tokens.sparse": True,
    "model.contextualizer.dropout": 0.2,
    "model.contextualizer.layer_dropout": 0.3,
    "model.tail_samples": 8,
    "trainer.optimizer": {"type": "lazy_adam", "grad_norm": 1.0},
    "trainer.grad_norm": False,
    "trainer.checkpointer": {
        "type": "lm_stream",
        "save_every_num_batches": 3,
        "keep_most_recent_by_count": 2,
    },
}


@TrainerCallback.register("kill_in_this_test")
class Kill(TrainerCallback):
    """Writes down the loss of each batch; ends the process as `kill -9` does."""

    # Not options: the config of the run that is recovered must be the same.
    log = Path()
    point = (-1, -1)

    def on_batch(self, trainer, inputs, outputs, metrics, epoch, batch_number, is_training, **kwargs):
        if is_training:
            with open(self.log, "a") as log:
                log.write(f"{epoch} {batch_number} {outputs[0]['loss'].item()!r}\n")
            if (epoch, batch_number) == self.point:
                os.kill(os.getpid(), signal.SIGKILL)


def config(direction, **trainer):
    params = Params.from_file(
        str(FIXTURES / "lm" / f"stream_{direction}.jsonnet"), params_overrides=json.dumps(OVERRIDES)
    )
    for name, value in trainer.items():
        params["trainer"][name] = value
    return params


def run(direction, log, folder, **options):
    Kill.log = log
    return train_model(config(direction, callbacks=["kill_in_this_test"]), str(folder), **options)


def die(direction, log, folder, point):
    torch.set_num_threads(1)
    Kill.point = point
    run(direction, log, folder)


def in_a_process(function, *arguments):
    process = torch.multiprocessing.get_context("fork").Process(target=function, args=arguments)
    process.start()
    process.join()
    return process.exitcode


def losses(log: Path):
    """The loss of each batch by (epoch, batch); what was computed twice, the second time."""
    found = {}
    for line in log.read_text().splitlines():
        epoch, batch, loss = line.split()
        found[int(epoch), int(batch)] = float(loss)
    return found


class TestRecover:
    @pytest.mark.parametrize("direction, kill", [("forward", (0, 17)), ("backward", (1, 8))])
    def test_a_killed_run_ends_as_one_that_was_not(self, tmp_path, direction, kill):
        whole, killed = tmp_path / "whole", tmp_path / "killed"
        expected = run(direction, tmp_path / "whole.log", whole)
        log = tmp_path / "killed.log"
        assert in_a_process(die, direction, log, killed, kill) == -signal.SIGKILL
        assert not (killed / "model.tar.gz").exists()
        # As if the run had been killed while it wrote its last checkpoint: the one before it is taken.
        last = max(
            killed.glob("model_state_e*"), key=lambda path: [int(n[1:]) for n in path.stem.split("_")[2:]]
        )
        last.write_bytes(last.read_bytes()[:1000])
        found = run(direction, log, killed, recover=True)
        assert losses(log) == losses(tmp_path / "whole.log")
        weights = [
            load_archive(str(folder / "model.tar.gz")).model.state_dict() for folder in (whole, killed)
        ]
        for name, value in weights[0].items():
            assert torch.equal(value, weights[1][name]), name
        for model, other in ((expected, found), (found, expected)):
            assert model.get_metrics() == other.get_metrics()
        metrics = [json.loads((folder / "metrics_epoch_1.json").read_text()) for folder in (whole, killed)]
        assert metrics[0]["training_perplexity"] == metrics[1]["training_perplexity"]
        left = {path.name.split("_w")[0] for path in killed.glob("stream_state_*")}
        assert left == {path.stem.replace("model", "stream") for path in killed.glob("model_state_*")}
        assert len(left) == 2 and not list(killed.glob("*.tmp"))

    def test_weights_alone_load_as_ever(self, tmp_path):
        """Directories of other checkpointers can be recovered; missing parts are reset."""
        params = config("forward", checkpointer={"save_every_num_batches": 3}, num_epochs=1)
        train_model(params, str(tmp_path / "run"))
        written = json.loads((tmp_path / "run" / "config.json").read_text())
        written["trainer"]["checkpointer"] = OVERRIDES["trainer.checkpointer"]
        written["trainer"]["num_epochs"] = 2
        (tmp_path / "run" / "config.json").write_text(json.dumps(written))
        train_model(Params(written), str(tmp_path / "run"), recover=True)
        assert (tmp_path / "run" / "metrics_epoch_1.json").exists()


class TestBothDirections:
    def test_one_model_reads_a_stream_from_both_ends_and_feeds_a_tagger(self, tmp_path):
        params = config("forward")
        params["model"]["bidirectional"] = True
        params["model"]["contextualizer"]["bidirectional"] = True
        params["data_loader"]["direction"] = "both"
        metrics = train_model(params, str(tmp_path)).get_metrics()
        assert metrics["perplexity"] >= 0
        written = json.loads((tmp_path / "metrics.json").read_text())
        directions = [written[f"best_validation_{side}_perplexity"] for side in ("forward", "backward")]
        assert written["best_validation_perplexity"] == pytest.approx(
            math.sqrt(directions[0] * directions[1])
        )

        archive = str(tmp_path / "model.tar.gz")
        embedder = LdnetEmbedder.from_params(
            Params({"bidirectional": {"pretrained_file": archive}}), vocab=Vocabulary()
        ).eval()
        model = load_archive(archive).model.eval()
        words = torch.tensor([[2, 5, 9, 3]])
        boundary = model.vocab.get_token_index("<eos>")
        sentence = torch.cat([torch.tensor([[boundary]]), words, torch.tensor([[boundary]])], dim=1)
        expected = model({"tokens": {"tokens": sentence}})["lm_embeddings"][
            :, 1:-1
        ]  # (1, 4, 2 * (D + 3 * H))
        with torch.no_grad():
            found = embedder(words)
        torch.testing.assert_close(found, expected)


class TestDistributed:
    def test_two_processes_train_as_one_with_twice_the_rows(self, tmp_path):
        """Sparse gradients are exchanged, hidden states are each process's own, perplexities are of all the text."""
        archives = []
        for name, rows, distributed in (("one", 4, None), ("two", 2, {"cuda_devices": [-1, -1]})):
            params = config("forward")
            params["model"].pop("tail_samples")  # random numbers are each process's own, too
            params["model"]["contextualizer"]["dropout"] = 0.0
            params["model"]["contextualizer"]["layer_dropout"] = 0.0
            params["data_loader"]["batch_size"] = rows
            if distributed is not None:
                params["distributed"] = {**distributed, "ddp_accelerator": {"type": "sparse_torch"}}
            train_model(params, str(tmp_path / name), include_package=["ldnet_allennlp"])
            archives.append(load_archive(str(tmp_path / name / "model.tar.gz")))
        one, two = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("one", "two"))
        for name in ("training_perplexity", "validation_perplexity"):
            assert two[name] == pytest.approx(one[name], rel=1e-4)
        for name, value in archives[0].model.state_dict().items():
            torch.testing.assert_close(
                archives[1].model.state_dict()[name], value, rtol=0, atol=2e-3
            )  # a step is 1e-2
        assert len(list((tmp_path / "two").glob("stream_state_e1_b*_w1.th"))) > 0
