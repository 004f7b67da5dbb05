import json
import os
import re
import shutil
from pathlib import Path

import pytest
from allennlp.commands.evaluate import evaluate_from_archive
from allennlp.commands.train import train_model
from allennlp.common.checks import ConfigurationError
from allennlp.models.archival import load_archive
from matplotlib.figure import Figure

from ldnet_allennlp.commands.ldnet_sweep import RESULTS_FILE, sweep
from ldnet_allennlp.commands.sweep.selection_config import Budget
from ldnet_allennlp.commands.sweep.table import count_layers, draw_scores, draw_sweep, sweep_table
from tests.bad_days.archives_test import files_of, pack
from tests.command_lines import allennlp
from tests.taggers import DEV, TRAIN, ldnet_embedder, tagger_params

SETTINGS = {"lambda_0": 3.0, "num_epochs": 10, "passes": 1, "threads": 1}
METRIC = "f1-measure-overall"


@pytest.fixture(scope="module")
def tagger(tmp_path_factory, language_models):
    """A tagger without gates that is trained, whose language models' archives are gone."""
    folder = tmp_path_factory.mktemp("tagger") / "run"
    params = tagger_params(language_models, "ner", num_epochs=4, learning_rate=0.05)
    params["test_data_path"] = str(DEV)
    train_model(params, str(folder))
    return str(folder / "model.tar.gz")


@pytest.fixture(scope="module")
def swept(tmp_path_factory, tagger):
    folder = tmp_path_factory.mktemp("sweep") / "out"
    return folder, sweep(tagger, str(folder), [Budget(layers=4), Budget(layers=1)], also=[tagger], **SETTINGS)


def test_every_point_is_an_archive_within_its_budget(swept):
    folder, result = swept
    assert result["missed"] == {}
    assert [point["name"] for point in result["points"]][2:] == ["layers-4", "layers-1"]
    assert result["missed"] == {}
    for name, budget in (("layers-4", 4), ("layers-1", 1)):
        archive = str(folder / name / "pruned" / "model.tar.gz")
        embedder = ldnet_embedder(load_archive(archive).model)
        assert sum(map(len, embedder.all_layers().values())) == budget
        point = next(point for point in result["points"] if point["name"] == name)
        assert point["archive"] == archive and count_layers(point) == budget
        assert point["scores"]["dev"] == evaluate_from_archive(archive, str(DEV))[METRIC]
    costs = [point["report"]["multiply_adds"] for point in result["points"]]
    assert costs[0] == costs[1] > costs[2] > costs[3]
    assert json.loads((folder / RESULTS_FILE).read_text())["points"] == result["points"]


def test_each_selection_starts_from_the_tagger(swept, tagger):
    folder, result = swept
    assert result["points"][0]["name"] == "unpruned"
    assert result["points"][0]["scores"]["test"] == evaluate_from_archive(tagger, str(DEV))[METRIC]
    first = json.loads((folder / "layers-1" / "metrics_epoch_0.json").read_text())
    alone = json.loads((Path(tagger).parent / "metrics.json").read_text())
    assert first["training_loss"] - first["training_reg_loss"] < alone["training_loss"] * 1.2


def test_the_budget_falls_in_the_first_half(swept):
    folder, _ = swept
    records = [json.loads(line) for line in (folder / "layers-1" / "gates.jsonl").read_text().splitlines()]
    budgets = [record["penalties"][0]["budget"] for record in records]
    # 0.8 * 8 = 6.4 layers at first; rounded up.
    assert (
        budgets
        == ["7 layers", "6 layers", "5 layers", "4 layers", "3 layers", *["1 layers"] * 5][: len(budgets)]
    )


def test_what_is_done_is_not_done_again(swept, tagger):
    folder, result = swept
    trained = folder / "layers-4" / "model.tar.gz"
    stamp = trained.stat().st_mtime_ns
    again = sweep(tagger, str(folder), [Budget(layers=4)], **SETTINGS)
    assert trained.stat().st_mtime_ns == stamp
    assert again["points"][1]["scores"] == result["points"][2]["scores"]


def test_an_interrupted_training_goes_on(swept, tagger):
    """As after a kill: the last epoch's checkpoint is there, and neither the archive nor what follows it."""
    folder, result = swept
    point = folder / "layers-1"
    shutil.rmtree(point / "pruned")
    for name in ("point.json", "model.tar.gz", "metrics.json"):
        (point / name).unlink()
    epochs = (point / "metrics_epoch_3.json").stat().st_mtime_ns
    again = sweep(tagger, str(folder), [Budget(layers=1)], **SETTINGS)
    assert again["points"][1]["scores"] == result["points"][3]["scores"]
    assert (point / "metrics_epoch_3.json").stat().st_mtime_ns == epochs
    # Killed while the archive was written.
    shutil.rmtree(point / "pruned")
    (point / "point.json").unlink()
    os.truncate(point / "model.tar.gz", (point / "model.tar.gz").stat().st_size // 2)
    again = sweep(tagger, str(folder), [Budget(layers=1)], **SETTINGS)
    assert again["points"][1]["scores"] == result["points"][3]["scores"]
    # Killed before there was a checkpoint: from the start.
    for name in os.listdir(point):
        if name != "config.json":
            path = point / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    again = sweep(tagger, str(folder), [Budget(layers=1)], **SETTINGS)
    assert count_layers(again["points"][1]) <= 1


def test_overridden_data_are_those_of_all_models(tagger, tmp_path):
    data = tmp_path / "dev.conll"
    data.write_text(DEV.read_text().split("\n\n")[0] + "\n")
    overrides = {"validation_data_path": str(data), "trainer.validation_metric": "+accuracy"}
    options = {**SETTINGS, "num_epochs": 1, "overrides": json.dumps(overrides)}
    result = sweep(tagger, str(tmp_path / "out"), [Budget(layers=4)], also=[tagger], **options)
    expected = evaluate_from_archive(tagger, str(data))["accuracy"]
    assert expected != evaluate_from_archive(tagger, str(DEV))["accuracy"]
    assert [point["scores"]["dev"] for point in result["points"][:2]] == 2 * [expected]
    assert result["num_words"] == len(data.read_text().splitlines())


def test_a_budget_that_is_missed_is_named(tagger, tmp_path):
    options = {**SETTINGS, "lambda_0": 1e-9, "num_epochs": 1, "published_penalty": True}
    result = sweep(tagger, str(tmp_path / "out"), [Budget(layers=2)], **options)
    assert [point["name"] for point in result["points"]] == ["unpruned"]
    assert "No epoch meets the budget of 2 layers" in result["missed"]["layers-2"]


def test_other_errors_are_no_missed_budgets(tagger, tmp_path):
    options = {**SETTINGS, "overrides": '{"trainer.num_epoch": 3}'}
    with pytest.raises(ConfigurationError, match="num_epoch"):
        sweep(tagger, str(tmp_path / "out"), [Budget(layers=2)], **options)


def test_a_new_tagger_is_trained_on_what_is_left(tagger, tmp_path):
    options = {**SETTINGS, "retrain_epochs": 2}
    point = sweep(tagger, str(tmp_path / "out"), [Budget(layers=1)], **options)["points"][1]
    folder = tmp_path / "out" / "layers-1" / "retrained"
    assert point["archive"] == str(folder / "model.tar.gz")
    assert json.loads((folder / "metrics.json").read_text())["epoch"] == 1
    first = json.loads((folder / "metrics_epoch_0.json").read_text())
    last = json.loads((tmp_path / "out" / "layers-1" / "metrics.json").read_text())
    assert "training_reg_loss" not in first and first["training_loss"] > 1.5 * last["training_loss"]
    pruned = load_archive(str(tmp_path / "out" / "layers-1" / "pruned" / "model.tar.gz")).model
    after = load_archive(point["archive"]).model
    assert ldnet_embedder(after).all_layers() == ldnet_embedder(pruned).all_layers()
    for name, weight in pruned.state_dict().items():
        is_kept = ".language_models." in name or name == "crf._constraint_mask"
        assert is_kept == after.state_dict()[name].equal(weight), name


def test_a_new_tagger_starts_from_the_file_of_word_vectors(language_models, tmp_path):
    vectors = tmp_path / "vectors.txt"
    vectors.write_text("the 1 2 3 4 5 6\nin 6 5 4 3 2 1\n")
    params = tagger_params(
        language_models, vectors=str(vectors), word_dim=6, train_vectors=False, num_epochs=1
    )
    train_model(params, str(tmp_path / "run"))
    tagger, options = (
        str(tmp_path / "run" / "model.tar.gz"),
        {**SETTINGS, "num_epochs": 2, "retrain_epochs": 1},
    )
    with pytest.raises(ConfigurationError, match=r"pretrained_file '.*vectors\.txt'\. Add --trust"):
        sweep(tagger, str(tmp_path / "out"), [Budget(layers=1)], **options)
    assert not (tmp_path / "out").exists()
    points = sweep(tagger, str(tmp_path / "out"), [Budget(layers=1)], trust=True, **options)["points"]
    model = load_archive(points[1]["archive"]).model
    weight = model.state_dict()["text_field_embedder.token_embedder_tokens.weight"]
    row = weight[model.vocab.get_token_index("the", "tokens")]
    assert row.tolist() == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]


def test_other_files_of_an_archive_are_read_with_trust_only(tagger, tmp_path):
    """AllenNLP's embedding reads a file or an address, too."""
    files = files_of(tagger)
    config = json.loads(files["config.json"])
    embedders = config["model"]["text_field_embedder"]["token_embedders"]
    embedders["tokens"]["pretrained_file"] = "https://example.com/vectors.txt"
    pack(tmp_path / "hostile.tar.gz", {**files, "config.json": json.dumps(config).encode()})
    with pytest.raises(
        ConfigurationError, match=r"pretrained_file 'https://example\.com/vectors\.txt'\. Add --trust"
    ):
        sweep(
            str(tmp_path / "hostile.tar.gz"),
            str(tmp_path / "out"),
            [Budget(layers=1)],
            retrain_epochs=1,
            **SETTINGS,
        )
    assert not (tmp_path / "out").exists()


def test_a_new_tagger_is_trained_without_the_layer_selection_of_the_first(language_models, tmp_path):
    overrides = {"trainer.callbacks": [{"type": "layer_selection", "exact_budget": True}]}
    train_model(tagger_params(language_models, "select", overrides, num_epochs=2), str(tmp_path / "run"))
    options = {**SETTINGS, "num_epochs": 2, "retrain_epochs": 1}
    result = sweep(str(tmp_path / "run"), str(tmp_path / "out"), [Budget(layers=1)], **options)
    assert result["missed"] == {} and count_layers(result["points"][1]) == 1
    config = json.loads((tmp_path / "out" / "layers-1" / "retrained" / "config.json").read_text())
    selected = json.loads((tmp_path / "run" / "config.json").read_text())["trainer"]["optimizer"]
    assert config["trainer"]["optimizer"] == selected["optimizer"]


@pytest.mark.parametrize("kind", ["annotated", "list", "glob"])
def test_any_data_that_the_reader_reads(language_models, tmp_path, kind):
    params = tagger_params(language_models, num_epochs=1)
    copies = [tmp_path / "dev.1.conll", tmp_path / "dev.2.conll"]
    blocks = DEV.read_text(encoding="utf-8").strip().split("\n\n")
    for path, part in zip(copies, (blocks[::2], blocks[1::2])):
        path.write_text("\n\n".join(part) + "\n", encoding="utf-8")
    params["validation_data_path"] = (
        list(map(str, copies)) if kind == "list" else str(tmp_path / "dev.*.conll")
    )
    if kind == "annotated":
        params["dataset_reader"]["type"] = "annotated_jsonl"
        for name, source in (("train", TRAIN), ("validation", DEV)):
            params[f"{name}_data_path"] = as_jsonl(source, tmp_path / f"{name}.jsonl")
    train_model(params, str(tmp_path / "run"))
    budgets, options = [Budget(layers=1)], {**SETTINGS, "num_epochs": 1}
    result = sweep(str(tmp_path / "run"), str(tmp_path / "out"), budgets, **options)
    assert result["num_words"] == sum(len(block.splitlines()) for block in blocks)


def as_jsonl(source, path):
    """A CoNLL file as JSON lines of tokens and tags."""
    with open(path, "w", encoding="utf-8") as file:
        for block in source.read_text(encoding="utf-8").strip().split("\n\n"):
            rows = [line.split() for line in block.splitlines()]
            file.write(
                json.dumps({"tokens": [row[0] for row in rows], "tags": [row[-1] for row in rows]}) + "\n"
            )
    return str(path)


def test_budgets_in_multiply_adds_and_overrides(tagger, tmp_path):
    groups = [[["(^|\\.)gates$"], {"lr": 0.06}]]
    overrides = {"trainer.optimizer.optimizer.lr": 0.04, "trainer.optimizer.parameter_groups": groups}
    options = {**SETTINGS, "overrides": json.dumps(overrides)}
    result = sweep(tagger, str(tmp_path / "out"), [Budget(multiply_adds=1500)], **options)
    parts = result["points"][1]["report"]["components"]
    assert sum(cost for name, cost in parts.items() if name.startswith("LM ")) <= 1500
    config = json.loads((tmp_path / "out" / "multiply-adds-1500" / "config.json").read_text())
    assert config["trainer"]["optimizer"]["optimizer"]["lr"] == 0.04
    assert config["trainer"]["optimizer"]["parameter_groups"] == groups


def test_the_table_and_the_picture(swept, tmp_path):
    _, result = swept
    lines = sweep_table(result)
    assert lines[0].split() == [
        "layers",
        "dev",
        METRIC,
        "test",
        METRIC,
        "multiply-adds",
        "words/s",
        "archive",
    ]
    assert [line.split()[0] for line in lines[1:5]] == ["unpruned", "run", "layers-4", "layers-1"]
    panels = draw_sweep(result).axes
    assert len(panels) == 2
    for panel in panels:
        texts = [text.get_text() for text in panel.texts]
        assert texts == ["8", *(str(count_layers(point)) for point in result["points"][2:])]
        assert [text.get_text() for text in panel.get_legend().get_texts()] == ["run"]
        scores = [line.get_ydata()[0] for line in panel.lines]
        assert scores == [point["scores"]["test"] for point in result["points"]]


@pytest.mark.parametrize(
    "change, message",
    [
        ({**SETTINGS, "lambda_0": 2.0}, "lambda_0 was 3.0"),
        ({**SETTINGS, "num_epochs": 3}, "epochs was 10"),
    ],
)
def test_other_settings(swept, tagger, change, message):
    folder, _ = swept
    with pytest.raises(ConfigurationError, match=message):
        sweep(tagger, str(folder), [Budget(layers=4)], **change)


def test_an_archive_that_changed(language_models, tmp_path):
    """The tagger must stay the same; others are scored again, and in any order."""
    archives = {}
    for seed in (1, 2, 3):
        params = tagger_params(language_models, num_epochs=1, learning_rate=0.05)
        params["pytorch_seed"], params["trainer"]["validation_metric"] = seed, "-loss"
        train_model(params, str(tmp_path / f"run-{seed}"))
        archives[seed] = str(tmp_path / f"run-{seed}" / "model.tar.gz")
    tagger, other = str(tmp_path / "tagger.tar.gz"), str(tmp_path / "other.tar.gz")
    out, options = str(tmp_path / "out"), {**SETTINGS, "num_epochs": 1}

    def scores(*also):
        points = sweep(tagger, out, [], also=also, **options)["points"]
        return [point["scores"]["dev"] for point in points[1:]]

    shutil.copy(archives[1], tagger)
    shutil.copy(archives[2], other)
    second, third = scores(other)[0], scores(archives[3])[0]
    assert second != third
    assert scores(archives[3], other) == [third, second]
    shutil.copy(archives[3], other)
    assert scores(other) == [third]
    settings = json.loads((tmp_path / "out" / "sweep.json").read_text())
    shutil.copy(archives[2], tagger)
    with pytest.raises(ConfigurationError, match="archive_sha256 was"):
        scores()
    # The settings of earlier versions lack it.
    del settings["archive_sha256"]
    (tmp_path / "out" / "sweep.json").write_text(json.dumps(settings))
    assert scores() == []


def test_a_directory_with_something_else(tagger, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ConfigurationError, match="to contain a sweep"):
        sweep(tagger, str(tmp_path), [Budget(layers=4)], **SETTINGS)


@pytest.mark.parametrize(
    "budget, changes, message",
    [
        (
            Budget(layers=99),
            {},
            "--layers 99 is not a valid budget for this tagger: its language models have 8 layers in all",
        ),
        (Budget(multiply_adds=1e9), {}, "--multiply-adds 1e.09 is not a valid budget for this tagger"),
        (Budget(multiply_adds=1), {}, "without any gated layer the language models .* still cost"),
        (
            Budget(layers=1),
            {"overrides": '{"trainer.optimzer.lr": 1}'},
            "--overrides: .*'trainer.optimzer.lr'",
        ),
    ],
)
def test_impossible_budgets_and_changes_are_refused_before_the_work(
    tagger, tmp_path, budget, changes, message
):
    with pytest.raises(ConfigurationError, match=message):
        sweep(tagger, str(tmp_path / "out"), [Budget(layers=4), budget], **{**SETTINGS, **changes})
    assert not (tmp_path / "out" / "start").exists()


@pytest.mark.parametrize(
    "options, message",
    [
        (("--layers", "-1"), "expected an integer of at least 0, found '-1'"),
        (("--multiply-adds", "nan"), "expected a number above 0, found 'nan'"),
        (("--layers", "1", "--also", "nowhere.tar.gz"), "No archive was found at 'nowhere.tar.gz'"),
        (
            ("--layers", "1", "--also", "hostile.tar.gz"),
            "'hostile.tar.gz' was not opened: .*'os.mkdir'.*--trust",
        ),
        (
            ("--layers", "1", "--overrides", '{"trainer.callbacks": ["os.getpid"]}'),
            "has the type 'os.getpid'",
        ),
    ],
)
def test_errors_in_a_line(tagger, tmp_path, options, message):
    """An archive in --also is checked as the tagger itself is."""
    files = files_of(tagger)
    config = json.loads(files["config.json"])
    config["trainer"]["callbacks"] = [{"type": "os.mkdir", "path": str(tmp_path / "witness")}]
    pack(tmp_path / "hostile.tar.gz", {**files, "config.json": json.dumps(config).encode()})
    done = allennlp("ldnet-sweep", tagger, "out", *options, folder=tmp_path)
    assert done.status != 0 and "Traceback" not in done.err and re.search(message, done.message), done.err
    assert not (tmp_path / "witness").exists()


def test_counts_stand_beside_points_and_names_in_a_legend():
    panel = Figure().add_subplot()
    draw_scores(panel, [1.0, 10.0, 10.5], [1.0, 9.5, 10.0], ["vanilla", "2", "3, 4"], [0.0, 0.5, 0.0])
    assert {text.get_text(): text.xy for text in panel.texts} == {"2": (10.0, 9.5), "3, 4": (10.5, 10.0)}
    assert [text.get_text() for text in panel.get_legend().get_texts()] == ["vanilla"]
