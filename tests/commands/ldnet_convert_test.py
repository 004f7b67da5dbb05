"""The command, and AllenNLP's own commands on what it writes."""

import json
import os
import pickle
from unittest import mock

import pytest
import torch
from allennlp.commands import main
from allennlp.commands.train import train_model
from allennlp.common import Params
from allennlp.models.archival import extracted_archive, load_archive

import ldnet_allennlp  # noqa: F401
from ldnet_allennlp.convert.original_files import read_maps
from tests.convert.originals import (
    CHECKPOINTS,
    DATASET,
    LANGUAGE_MODELS,
    TAGGERS,
    expected,
    sentences,
    words_of_language_model,
)


def run(*arguments: object) -> None:
    with mock.patch("sys.argv", ["allennlp", *map(str, arguments)]):
        main(prog="allennlp")


@pytest.mark.parametrize("name", sorted(TAGGERS))
def test_one_command_and_predict_gives_the_original_s_tags(tmp_path, name):
    archive, lines, output = tmp_path / "model.tar.gz", tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    maps = ["--maps", TAGGERS[name]] if TAGGERS[name] else []
    run("ldnet-convert", CHECKPOINTS / f"{name}.th", archive, *maps)
    with open(lines, "w", encoding="utf-8") as file:
        for number, sentence in enumerate(sentences("test")):
            words = [word for word, _ in sentence]
            file.write(json.dumps({"tokens": words} if number % 2 else {"sentence": " ".join(words)}) + "\n")
    run("predict", archive, lines, "--output-file", output, "--batch-size", 3, "--silent")
    found = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    truth = expected("expected_predictions.json")[f"{name}.th"]["test/batch1"]
    assert [line["tags"] for line in found] == [sentence["pred"] for sentence in truth]
    for line, sentence in zip(found, truth):
        spans = ["@".join([s["type"], *map(str, range(s["start"], s["end"]))]) for s in line["spans"]]
        assert sorted(spans) == sorted(sentence["spans"])


def test_evaluate_reads_the_original_s_files(tmp_path):
    archive, metrics = tmp_path / "model.tar.gz", tmp_path / "metrics.json"
    run("ldnet-convert", CHECKPOINTS / "ner.th", archive, "--maps", DATASET)
    run("evaluate", archive, CHECKPOINTS / "data" / "dev.iobes", "--output-file", metrics)
    found = json.loads(metrics.read_text())
    truth = expected("expected_summary.json")["ner.th dev"]
    assert found["f1-measure-overall"] == pytest.approx(truth["f1"])
    assert found["accuracy"] == pytest.approx(truth["acc"])


@pytest.mark.parametrize("name", [*sorted(LANGUAGE_MODELS), "ld0_gpu"])
def test_language_models_are_evaluated_on_text(tmp_path, name):
    archive, metrics = tmp_path / "model.tar.gz", tmp_path / "metrics.json"
    direction = LANGUAGE_MODELS.get(name, "forward")
    # The options of the GPU run are not there: the activation has to be told.
    activation = [] if name in LANGUAGE_MODELS else ["--projection-activation", "linear"]
    maps = words_of_language_model(direction)
    run(
        "ldnet-convert",
        CHECKPOINTS / f"{name}.th",
        archive,
        "--maps",
        maps,
        "--direction",
        direction,
        *activation,
    )
    text = CHECKPOINTS / "data" / "lm_test" / "part-00"
    overrides = json.dumps({"data_loader.batch_size": 1})
    run("evaluate", archive, text, "--output-file", metrics, "--overrides", overrides)
    # Here a boundary stands before and after each sentence; the original has it on one side of the text.
    numbers = read_maps(maps, ["test_data"])["test_data"]
    stream = torch.tensor([0, *numbers] if direction == "forward" else [*numbers, 0]) + 1
    stream = stream if direction == "forward" else stream.flip(0)
    pair = (stream[:-1], stream[1:]) if direction == "forward" else (stream[1:], stream[:-1])
    model = load_archive(str(archive)).model.eval()
    source, targets = (part.unsqueeze(0) for part in pair)
    output = model({"tokens": {"tokens": source}}, targets, first_window=True, direction=direction)
    assert json.loads(metrics.read_text())["perplexity"] == pytest.approx(
        output["loss"].exp().item(), rel=1e-4
    )


def test_train_goes_on_from_a_converted_tagger(tmp_path):
    """With a learning rate of 0 the trained model says what the converted one says."""
    archive = tmp_path / "model.tar.gz"
    run("ldnet-convert", CHECKPOINTS / "ner_elmo.th", archive, "--maps", DATASET)
    data = {"train_data_path": str(CHECKPOINTS / "data" / "train.iobes")}
    with extracted_archive(str(archive)) as folder:
        config = Params.from_file(os.path.join(folder, "config.json")).as_dict(quiet=True)
        weights = os.path.join(folder, "weights.th")
        regexes = [[".*", {"type": "pretrained", "weights_file_path": weights}]]
        config["vocabulary"] = {"type": "from_files", "directory": os.path.join(folder, "vocabulary")}
        config["model"]["initializer"] = {"regexes": regexes}
        config["trainer"].update(num_epochs=1, optimizer={"type": "sgd", "lr": 0.0})
        train_model(Params({**config, **data}), str(tmp_path / "trained"))
    before = load_archive(str(archive)).model.state_dict()
    after = load_archive(str(tmp_path / "trained" / "model.tar.gz")).model.state_dict()
    assert set(before) == set(after)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_train_fine_tunes_from_archive(tmp_path):
    archive = tmp_path / "model.tar.gz"
    run("ldnet-convert", CHECKPOINTS / "pner0.th", archive)
    config = load_archive(str(archive)).config.as_dict(quiet=True)
    config["model"] = {"type": "from_archive", "archive_file": str(archive)}
    config["vocabulary"] = {"type": "from_files", "directory": str(archive)}
    config["trainer"].update(num_epochs=2)
    config["train_data_path"] = config["validation_data_path"] = str(CHECKPOINTS / "data" / "train.iobes")
    train_model(Params(config), str(tmp_path / "trained"))
    metrics = json.loads((tmp_path / "trained" / "metrics.json").read_text())
    assert metrics["best_validation_f1-measure-overall"] > 0.9
    before, after = (
        load_archive(str(path)).model.state_dict()
        for path in (archive, tmp_path / "trained" / "model.tar.gz")
    )
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert "crf.transitions" in changed and not any("language_models" in name for name in changed)


def test_dataset(tmp_path, capsys):
    run("ldnet-convert", DATASET, tmp_path / "conll")
    assert "train.conll: 12 sentences, 113 words." in capsys.readouterr().out


class TestErrors:
    @pytest.mark.parametrize(
        "file, options, message",
        [
            ("ner.th", [], "--maps"),
            ("ner.th", ["--maps", words_of_language_model("forward")], "has no flm_map"),
            ("ld0.th", ["--maps", DATASET, "--direction", "forward"], "has no w_map"),
            ("ner_elmo.th", ["--options", DATASET], "options of a run as JSON"),
            ("expected_lm.json", [], "damaged, truncated or of another kind"),
            ("data/1b_map.pk", [], "has no flm_map"),
            ("absent.th", [], "does not exist"),
        ],
    )
    def test_one_sentence_exit_status_1_and_nothing_written(self, tmp_path, file, options, message):
        with pytest.raises(SystemExit) as exit_info:
            run("ldnet-convert", CHECKPOINTS / file, tmp_path / "out", *options)
        assert str(exit_info.value).startswith("ldnet-convert: ") and message in str(exit_info.value)
        assert "\n" not in str(exit_info.value)
        assert not list(tmp_path.iterdir())

    def test_malicious_file(self, tmp_path):
        class Attack:
            def __reduce__(self):
                return os.mkdir, (str(tmp_path / "executed"),)

        for suffix, options in (("pk", {}), ("th", {"torch": True})):
            path = tmp_path / f"attack.{suffix}"
            if options:
                torch.save({"model": Attack()}, str(path), _use_new_zipfile_serialization=False)
            else:
                path.write_bytes(pickle.dumps({"c_map": Attack()}, protocol=3))
            with pytest.raises(SystemExit, match=r"it names 'posix.mkdir'.*nothing in it was executed"):
                run("ldnet-convert", path, tmp_path / "out")
        assert sorted(entry.name for entry in tmp_path.iterdir()) == ["attack.pk", "attack.th"]

    def test_output_that_exists(self, tmp_path):
        output = tmp_path / "model.tar.gz"
        output.write_text("mine")
        with pytest.raises(SystemExit, match="exists already"):
            run("ldnet-convert", CHECKPOINTS / "pner0.th", output)
        assert output.read_text() == "mine"
        run("ldnet-convert", CHECKPOINTS / "pner0.th", output, "--force")
        assert load_archive(str(output)).model
