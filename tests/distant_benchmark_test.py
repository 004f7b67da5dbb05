"""benchmarks/distant.py on a few sentences."""

import gzip
import importlib
import json
import sys

import pytest
from allennlp.common import Params
from allennlp.data import DatasetReader

import ldnet_allennlp  # noqa: F401
from tests.resources import ROOT, needs_data

RAW = [["Zork", "and", "low", "dose"], ["big", "Zork", "helps"], ["the", "pain", "ends"], ["no", "name"]] * 5
GOLD = "<s> O None\nZork I Drug\nstops I None\nbig I Pain\npain O Pain\n<eof> I None\n\n"


@pytest.fixture
def distant(monkeypatch):
    for folder in (ROOT / "benchmarks", ROOT / "benchmarks" / "results"):
        monkeypatch.syspath_prepend(str(folder))
    yield importlib.import_module("distant")
    for name in ("distant", "run", "corpora"):
        sys.modules.pop(name, None)


@pytest.fixture
def small(distant, monkeypatch, tmp_path):
    """The driver with small data and sizes."""
    texts = {
        "raw_text.txt": "".join("\n".join(words) + "\n\n" for words in RAW),
        "dict_core.txt": "Drug\tZork\nPain\tpain\n",
        "dict_full.txt": "low dose\n",
        "truth_dev.ck": GOLD,
        "truth_test.ck": GOLD,
    }
    for name, text in texts.items():
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(text.encode()))
    monkeypatch.setattr(distant, "DISTANT", tmp_path)
    monkeypatch.setattr(distant, "DICTIONARY", tmp_path / "dict_core.txt.gz")
    monkeypatch.setattr(distant, "PHRASES", tmp_path / "dict_full.txt.gz")
    monkeypatch.setattr(distant, "RESULTS", tmp_path / "distant.jsonl")
    (tmp_path / "vectors.txt").write_text("pain 1 2 3 4\n")
    sizes = {
        "vectors": str(tmp_path / "vectors.txt"),
        "word_dim": 4,
        "char_dim": 3,
        "char_hidden": 3,
        "word_hidden": 4,
        "num_epochs": 1,
    }
    monkeypatch.setattr(distant, "SETTINGS", {**distant.SETTINGS, **sizes})
    layers = {"num_layers": 1, "embedding_dim": 4, "hidden_size": 3, "projection_dim": 4, "num_epochs": 1}
    options = {**layers, "cutoffs": [4], "min_count": 1, "batch_size": 1}
    monkeypatch.setattr(distant, "LM_SETTINGS", {**distant.LM_SETTINGS, **options})
    return distant


def run(small, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["distant.py", *map(str, arguments)])
    small.main()


def test_cells_are_trained_once(small, monkeypatch, tmp_path):
    rest = (tmp_path / "out", "--seeds", 1, "--word-dim", 4)
    arguments = ("--rows", "dictionary", "autoner", "--lm", "none", "own")
    run(small, monkeypatch, *rest, *arguments)
    lines = [json.loads(line) for line in (tmp_path / "distant.jsonl").read_text().splitlines()]
    assert [(line["row"], line["lm"]) for line in lines] == [
        ("autoner", "none"),
        ("autoner", "own"),
        ("dictionary", "none"),
    ]
    # Of "Zork" and "big pain", the dictionary has the first and a part of the second.
    assert lines[2]["scores"]["test"] == [50.0, 50.0, 50.0]
    monkeypatch.setattr(small, "train_once", None)
    run(small, monkeypatch, *rest, *arguments)
    labels = (tmp_path / "out" / "data" / "train.conll").read_text()
    assert labels.startswith("Zork\tU-Drug\nand\tO\nlow\t?\ndose\t?\n\n")


def test_the_table(small, monkeypatch, tmp_path, capsys):
    cells = [
        {
            "row": "autoner",
            "lm": "none",
            "seed": seed,
            "scores": {"dev": [1, 2, 80.0], "test": [80.0, 70.0, f1]},
        }
        for seed, f1 in enumerate([74.0, 76.0])
    ]
    (tmp_path / "distant.jsonl").write_text("".join(json.dumps(cell) + "\n" for cell in cells))
    run(small, monkeypatch, "--table")
    row = capsys.readouterr().out.splitlines()[-1]
    assert row == ("| tie or break | none | 80.0 | 70.0 | 75.0 ± 1.4 | 80.0 | 2 | 88.96 / 81.00 / 84.80 |")


@needs_data
def test_dictionary_match_on_bc5cdr(distant):
    scores = distant.dictionary_scores("test")
    assert scores == pytest.approx([94.08, 60.82, 73.88], abs=0.01)


def test_gold_sentences_come_from_doccano(tmp_path):
    (tmp_path / "gold.jsonl").write_text('{"text": "Zork stops pain.", "label": [[0, 4, "Drug"]]}\n')
    settings = {"gold_reader": {"type": "annotated_jsonl"}}
    path = ROOT / "training_config" / "autoner.jsonnet"
    params = Params.from_file(str(path), ext_vars={"LDNET_SETTINGS": json.dumps(settings)})
    assert params["dataset_reader"]["type"] == "conll_columns"
    (instance,) = DatasetReader.from_params(params["validation_dataset_reader"]).read(
        str(tmp_path / "gold.jsonl")
    )
    assert list(instance["tags"].labels) == ["U-Drug", "O", "O", "O"]
