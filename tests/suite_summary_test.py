"""The ratios that `benchmarks/suite.py` prints at its end."""

import importlib
import json

import pytest

from tests.resources import ROOT


@pytest.fixture
def rows_of(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    summary = importlib.import_module("suite_summary").summary

    def cells(parts):
        lines = summary(parts)
        assert [line.count("|") for line in lines] == [4] * len(lines)
        return {tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines[2:]}

    return cells


def test_tagging(rows_of):
    row = {"tagger": "pruned", "threads": 2, "peak_megabytes": 90.0, "file_megabytes": 60.0}
    faster = {"wall": 4.5, "cpu": 4.0, "with_start_up": 21.0}
    rows = [{**row, "way": "baseline", "faster": {}}, {**row, "way": "ldnet-tag", "faster": faster}]
    assert rows_of({"tagging": {"rows": rows}}) == {
        ("pruned, ldnet-tag, threads 2: start-up apart", "baseline", "4.50x"),
        ("pruned, ldnet-tag, threads 2: with start-up", "baseline", "21.00x"),
        ("pruned, ldnet-tag, threads 2: peak memory", "the model's file", "1.50x"),
    }


def lm_row(way, vocabulary, seconds, **more):
    return {"way": way, "vocabulary": vocabulary, "seconds": seconds, "shares": [0.5, 0.9, 0.8], **more}


def test_training(rows_of):
    steps = [
        lm_row("baseline", 33000, [3.0, 9.0, 2.0]),
        lm_row("sparse", 33000, [2.0]),
        lm_row("bfloat16", 33000, [1.0]),
        lm_row("dense", 33000, []),  # not run: it needs more memory than there is
    ]
    vocabulary = [
        lm_row("sparse, drawn", 33000, [2.0], megabytes=100),
        lm_row("sparse, drawn", 793470, [2.2], megabytes=200),
        lm_row("dense", 33000, [2.0], megabytes=500),
        lm_row("dense", 793470, [8.0], megabytes=800),
    ]
    tagger = [
        {"way": "baseline", "seconds": [4.0]},
        {"way": "cached", "seconds": [1.0], "first_epochs": [3.0]},
    ]
    step = "a step of a language model, 33,000 words"
    assert rows_of(
        {
            "lm_training": {"results": steps},
            "lm_vocabulary": {"setting": {"vocabularies": [33000, 793470]}, "results": vocabulary},
            "tagger_training": {"results": tagger},
        }
    ) == {
        (f"{step}: baseline", "the limit in float32", "80 %"),
        (f"{step}: sparse", "the limit in float32", "80 %"),
        (f"{step}: bfloat16", "the limit in float32", "80 %"),
        ("the same: sparse", "baseline", "1.50x"),
        ("the same: bfloat16", "sparse", "2.00x"),
        ("a step with 793,470 words: sparse, drawn", "with 33,000 words", "1.10x"),
        ("a step with 793,470 words: dense", "with 33,000 words", "4.00x"),
        ("its memory: sparse, drawn", "dense gradients with Adam", "25 %"),
        ("an epoch of a tagger: cached", "baseline", "4.00x"),
        ("its first two epochs: cached", "baseline", "2.00x"),
    }


def test_the_rest(rows_of):
    crf = {"decode 1x25x19": {"ours": {"median": 2.0}, "allennlp": {"median": 5.0}}}
    parts = {"crf": {"milliseconds": crf}, "startup": {"wall_time": {"import": 1.02}}, "growth": {}}
    assert rows_of(parts) == {
        ("CRF: decode 1x25x19", "allennlp", "2.5x"),
        ("start-up: import", "without the package", "1.02x the time"),
    }


def test_the_suite_collects_what_its_parts_write(monkeypatch, tmp_path, capsys):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    suite = importlib.import_module("suite")
    figures = {"wall_time": {"import": 1.02}}
    script = tmp_path / "part.py"
    script.write_text(
        f"import pathlib, sys\nassert sys.argv[4] == '7'\nprint('a table')\n"
        f"pathlib.Path(sys.argv[2]).write_text({json.dumps(figures)!r})\n"
    )
    broken = tmp_path / "broken.py"
    broken.write_text("raise SystemExit(3)")
    parts = [
        suite.Part("startup", str(script), (), (), (), ("--seed",)),
        suite.Part("crf", str(broken), (), (), (), ()),
    ]
    monkeypatch.setattr(suite, "PARTS", parts)
    folder = tmp_path / "out"
    assert suite.main([str(folder), "--seed", "7"]) == 1
    printed = capsys.readouterr().out
    assert "| startup | done |" in printed and "| crf | exit status 3 |" in printed
    assert "| start-up: import | without the package | 1.02x the time |" in printed
    assert (folder / "startup.txt").read_text() == "a table\n"
    assert json.loads((folder / "suite.json").read_text())["parts"] == {"startup": figures}
