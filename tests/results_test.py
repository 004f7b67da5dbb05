"""The parts of benchmarks/results/ that can go wrong without being seen: splits and tables."""

import importlib
import json
import sys

import pytest

from tests.common import ROOT

FOLDER = ROOT / "benchmarks" / "results"


@pytest.fixture
def scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    yield importlib.import_module
    for name in ("corpora", "tables"):
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


def line(row, seed, dev, layers, cost):
    return {
        "corpus": "wnut17",
        "row": row,
        "seed": seed,
        "scores": {"dev": dev, "test": dev / 2},
        "layers": {"forward": list(range(layers))},
        "multiply_adds": cost,
        "archive_bytes": 2**20,
    }


def test_the_table(scripts, tmp_path, monkeypatch, capsys):
    tables = scripts("tables")
    lines = [
        line("vanilla", 1, 0.2, 0, 1e6),
        line("layers-2", 1, 0.5, 2, 2e6),
        line("layers-2", 2, 0.52, 1, 1e6),
    ]
    (tmp_path / "results.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    (tmp_path / "speed.json").write_text(json.dumps({"wnut17": {"words_per_second": {"vanilla": 1234}}}))
    monkeypatch.setattr(tables, "HERE", tmp_path)
    monkeypatch.setattr(sys, "argv", ["tables.py", "--plot", str(tmp_path / "results")])
    tables.main()
    rows = [row for row in capsys.readouterr().out.splitlines() if row.startswith("|")]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]
    assert cells == [
        ["at most 2 layers", "2, 1", "51.0 ± 1.4", "25.5 ± 0.7", "1.50 M", "-", "1.0 MiB", "2"],
        ["no language model", "0", "20.0", "10.0", "1.00 M", "1,234", "1.0 MiB", "1"],
    ]
    assert "no language model" in (tmp_path / "results_wnut17.svg").read_text()  # the label of its point
