"""The commands as users run them: in a process of their own, from a directory that is not this repository."""

import json
import os
import subprocess
import sys

import pytest

from ldnet_allennlp.common.verification import difference
from tests.resources import FIXTURES, ROOT
from tests.taggers import DEV, TAGGER, build_language_models, settings_for


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """A directory in which our commands are known: AllenNLP looks for commands in this file only."""
    folder = tmp_path_factory.mktemp("elsewhere")
    (folder / ".allennlp_plugins").write_text("ldnet_allennlp\n")
    return folder


def allennlp(folder, *arguments, **environment):
    """Runs a command; the package is found as if it were installed."""
    return subprocess.run(
        [sys.executable, "-m", "allennlp", *arguments],
        cwd=str(folder),
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        encoding="utf-8",
        timeout=600,
    )


@pytest.fixture(scope="module")
def trained_here(elsewhere):
    """The directory of a tagger trained by `allennlp train`, whose language models are gone."""
    language_models = build_language_models(elsewhere / "lm")
    done = allennlp(
        elsewhere,
        "train",
        str(TAGGER / "ner.jsonnet"),
        *("-s", "ner", "--include-package", "ldnet_allennlp"),
        LDNET_SETTINGS=settings_for(language_models, num_epochs=1),
    )
    assert done.returncode == 0, done.stderr
    for path in language_models:
        os.remove(path)
    return elsewhere / "ner"


def test_train_prune_and_predict(trained_here, elsewhere):
    """The pruned tagger's predictions are the tagger's."""
    pruned = allennlp(elsewhere, "ldnet-prune", "ner", "pruned/")
    assert pruned.returncode == 0, pruned.stderr
    lines = pruned.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["before:", "after:", "Checked", "Written"]
    # AllenNLP tells about its plugins before it hands over to the command.
    told = [line for line in pruned.stderr.splitlines() if " - INFO - allennlp.common.plugins" not in line]
    assert not [line for line in told if " - INFO - " in line or "Traceback" in line]
    sentences = ["the list of a class", "", "python"]
    (elsewhere / "in.jsonl").write_text("".join(json.dumps({"sentence": s}) + "\n" for s in sentences))
    outputs = []
    for archive in ("ner/model.tar.gz", "pruned/model.tar.gz"):
        output = archive.split("/")[0] + ".jsonl"
        options = (
            "--include-package",
            "ldnet_allennlp",
            "--batch-size",
            "2",
            "--silent",
            "--output-file",
            output,
        )
        done = allennlp(elsewhere, "predict", archive, "in.jsonl", *options)
        assert done.returncode == 0, done.stderr
        outputs.append([json.loads(line) for line in (elsewhere / output).read_text().splitlines()])
    assert difference(*outputs) == ""  # probabilities may differ in their last digits
    assert [" ".join(output["words"]) for output in outputs[0]] == sentences


def test_report(trained_here, elsewhere):
    """The table alone is on standard output."""
    options = ("--threads", "1", "--passes", "1", "--json", "report.json")
    done = allennlp(elsewhere, "ldnet-report", "ner", *options)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[:3] == ["ner", "model", "LdnetTagger"]
    found = json.loads((elsewhere / "report.json").read_text())
    assert found["archives"][0]["words_per_second"] > 0 and found["threads"] == 1


def test_evaluate(trained_here, elsewhere):
    """The score of the best epoch, on the same data."""
    options = ("--include-package", "ldnet_allennlp", "--output-file", "evaluation.json")
    done = allennlp(elsewhere, "evaluate", "ner/model.tar.gz", str(DEV), *options)
    assert done.returncode == 0, done.stderr
    found = json.loads((elsewhere / "evaluation.json").read_text())
    trained = json.loads((trained_here / "metrics.json").read_text())
    for name in ("accuracy", "f1-measure-overall"):
        assert found[name] == pytest.approx(trained[f"best_validation_{name}"])


def test_an_error_of_prune_is_one_line(elsewhere):
    done = allennlp(elsewhere, "ldnet-prune", str(FIXTURES / "nothing.tar.gz"), "out.tar.gz")
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.strip().splitlines()[-1].startswith("ldnet-prune: No archive was found at")
    assert "Traceback" not in done.stderr
