"""The parts of benchmarks/results/ that can go wrong without being seen: splits, cuts and tables."""

import importlib
import json
import sys

import pytest
from allennlp.commands.train import train_model
from allennlp.common.checks import ConfigurationError
from allennlp.models.archival import load_archive

from ldnet_allennlp.commands.ldnet_prune import prune_archive
from ldnet_allennlp.training.layer_selection_callback import BudgetMissed
from tests.resources import ROOT
from tests.taggers import DEV, ldnet_embedder, set_gates, tagger_params

FOLDER = ROOT / "benchmarks" / "results"


@pytest.fixture
def scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    yield importlib.import_module
    for name in ("corpora", "cuts", "lm_tables", "run", "tables"):
        sys.modules.pop(name, None)


def blocks_of(text):
    return [block for block in text.split("\n\n") if block.strip()]


def test_a_split_loses_and_invents_nothing(scripts, tmp_path):
    corpora = scripts("corpora")
    sentences = [f"word{number} O\nof{number % 7} I-PER" for number in range(300)]
    repeated = sentences + sentences[:50]
    source = tmp_path / "all.txt"
    source.write_text("-DOCSTART- O\n\n" + "\n\n".join(repeated) + "\n", encoding="utf-8")
    corpus = corpora.CORPORA["wikigold"]
    paths = corpora.split([source], corpus, tmp_path / "parts")
    assert [path.stem for path in paths] == ["train", "dev", "test"]
    parts = [[block.strip() for block in blocks_of(path.read_text())] for path in paths]
    assert sorted(sentence for part in parts for sentence in part) == sorted(repeated)
    assert not set(parts[0]) & set(parts[1]) and not set(parts[0] + parts[1]) & set(parts[2])
    assert len(parts[0]) > 4 * len(parts[1]) > 0 and len(parts[2]) > 0


def test_a_split_with_a_test_file_of_its_own(scripts, tmp_path):
    corpora = scripts("corpora")
    source, test = tmp_path / "train.txt", tmp_path / "test.txt"
    source.write_text("\n\n".join(f"a{number} O" for number in range(100)), encoding="utf-8")
    test.write_text("b O\n", encoding="utf-8")
    paths = corpora.split([source, test], corpora.CORPORA["sec_filings"], tmp_path / "parts")
    assert paths[2] == test
    assert sum(len(blocks_of(path.read_text())) for path in paths[:2]) == 100


@pytest.fixture(scope="module")
def unpruned(tmp_path_factory, language_models):
    """The folder of a trained tagger, and how many layers its language models have."""
    folder = tmp_path_factory.mktemp("unpruned") / "run"
    params = tagger_params(language_models, "ner", num_epochs=1)
    params["test_data_path"] = str(DEV)
    model = train_model(params, str(folder))
    return folder, sum(map(len, ldnet_embedder(model).all_layers().values()))


def test_gates_are_clamped_after_a_training_without_the_proximal_step(
    scripts, unpruned, tmp_path, monkeypatch
):
    run, cuts = scripts("run"), scripts("cuts")
    folder, layers = unpruned
    # So strong a penalty leaves [0, 1] within two epochs.
    monkeypatch.setattr(run, "SELECTION", {**run.SELECTION, "epochs": 2, "lambda_0": 5.0})
    config = run.select_config(folder, "clamped-2")
    assert config["trainer"]["optimizer"] == run.SELECTION["optimizer"]
    run.clamp_after_training(tmp_path, config, "2")

    gates = cuts.gates_of(load_archive(str(tmp_path / run.LAST)).model)
    values = [gate for stack in gates.values() for gate in stack]
    assert len(values) == layers and not all(0 <= gate <= 1 for gate in values)
    largest = sorted((min(gate, 1.0) for gate in values if gate > 0), reverse=True)[:2]
    found = cuts.measure(tmp_path)
    after = [gate for stack in found["after"]["gates"].values() for gate in stack]
    assert sorted(after, reverse=True) == pytest.approx(largest, abs=1e-3)
    assert found["before"]["layers"] == sum(gate > 0 for gate in values)
    assert found["words"] == sum(len(block.splitlines()) for block in blocks_of(DEV.read_text()))


@pytest.mark.parametrize("row, exact", [("layers-2", True), ("published-2", False)])
def test_published_rows_have_the_published_penalty(row, exact, scripts, unpruned):
    trainer = scripts("run").select_config(unpruned[0], row)["trainer"]
    assert trainer["optimizer"]["type"] == "proximal"
    assert trainer["callbacks"][-1].get("exact_budget", False) is exact


def test_a_budget_of_all_layers_is_named_as_such(scripts):
    cell = {
        "layers": {"forward": [1, 2], "backward": [1, 2]},
        "scores": {"dev": 0.5, "test": 0.5},
        "multiply_adds": 1e6,
        "archive_bytes": 2**20,
        "seed": 1,
    }
    rows = {row: [cell] for row in ("layers-4", "unpruned", "layers-2", "published-2")}
    names = [line.split("|")[1].strip() for line in scripts("tables").table(rows, {})[2:]]
    assert names == [
        "all layers, as many epochs as with a budget",
        "all layers",
        "at most 2 layers",
        "at most 2 layers, published penalty",
    ]


def test_what_a_cut_changes_is_counted(scripts, unpruned, tmp_path):
    """Nothing where the gates of what is cut are 0, and much where they are not."""
    run, cuts = scripts("run"), scripts("cuts")
    folder, layers = unpruned
    config = run.select_config(folder, "layers-2")
    (tmp_path / "pruned").mkdir()
    (tmp_path / "config.json").write_text(json.dumps(config))
    archive = load_archive(str(folder / "model.tar.gz"))
    for gates, same in (([0.5] * 2 + [0.0] * (layers - 2), True), ([1.0] * layers, False)):
        set_gates(ldnet_embedder(archive.model), gates)
        source = str(tmp_path / "model.tar.gz")
        run.write_archive(source, archive.model, archive.config.as_dict(quiet=True))
        prune_archive(source, str(tmp_path / "pruned" / "model.tar.gz"), keep=["2"], force=True)
        found = cuts.measure(tmp_path)
        assert (found["before"]["layers"], found["after"]["layers"]) == (2 if same else layers, 2)
        assert (found["largest_difference"] < 1e-5) is same
        assert found["tags_changed"] == 0 or not same


def test_only_a_missed_budget_is_a_result(scripts, tmp_path, monkeypatch):
    run = scripts("run")
    failures = {1: BudgetMissed("No epoch meets the budget"), 2: ConfigurationError("no archive")}
    recorded = []

    def fails(args, corpus, row, seed):
        raise failures[seed]

    monkeypatch.setattr(run, "run_cell", fails)
    monkeypatch.setattr(run, "add_to_results", recorded.append)
    arguments = ["run.py", str(tmp_path), "--vectors", "v.txt", "--rows", "layers-2", "--seeds", "1", "2"]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(ConfigurationError, match="no archive"):
        run.main()
    assert [(line["seed"], line["missed"]) for line in recorded] == [(1, "No epoch meets the budget")]


def test_a_table_by_language_model_has_the_corpora_that_all_of_them_tagged(scripts):
    tables = scripts("tables")

    def cell(corpus, text, seed, test, row="unpruned"):
        return {"corpus": corpus, "text": text, "row": row, "seed": seed, "scores": {"test": test}}

    cells = [
        cell("btc", "modern", 1, 0.7),
        cell("wnut17", "eltec", 1, 0.2),
        cell("wnut17", "modern", 1, 0.1, "vanilla"),
        cell("wnut17", "modern", 1, 0.3),
        cell("wnut17", "modern-5M", 1, 0.25),
        cell("wnut17", "modern-5M", 2, 0.27),
        cell("wnut17", "modern-5M", 1, 0.24, "layers-2"),
    ]
    assert (
        tables.text_table(cells)[0] == "| language models | wnut17, all layers | wnut17, at most 2 layers |"
    )
    assert tables.text_table(cells)[2:] == [
        "| modern | 30.0 (1) | - |",
        "| modern-5M | 26.0 ± 1.4 (2) | 24.0 (1) |",
    ]
    assert [tables.belongs(line, "modern-5M") for line in cells] == [False, False, True, False] + 3 * [True]
