"""`allennlp predict` as users run it, on files of every kind."""

import json
import os
import subprocess
import sys

import pytest
from allennlp.commands import main
from allennlp.common.checks import ConfigurationError

from ldnet_allennlp.common.verification import difference
from ldnet_runtime.tag_schemes import convert
from tests.conlleval import conlleval
from tests.resources import DATA, ROOT, needs_data
from tests.taggers import DEV, TRAIN

TEXTS = [
    "the list of a class",
    "{ python }",
    "Python list object number name is returns the value of Zork .",
    "a < b",
]


@pytest.fixture
def allennlp(trained, tmp_path, monkeypatch, capsys):
    """Runs a command on the trained tagger and gives the lines that it wrote."""

    def run(command, path, *options, **predictor_args):
        output = tmp_path / "out"
        if predictor_args:
            options = (*options, "--predictor-args", json.dumps(predictor_args))
        if command == "predict":
            options = (*options, "--silent")
        archive = str(trained / "model.tar.gz")
        monkeypatch.setattr(
            sys, "argv", ["allennlp", command, archive, str(path), "--output-file", str(output), *options]
        )
        main()
        return output.read_text(encoding="utf-8").splitlines()

    return run


def write(path, lines):
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def test_every_input_gives_the_same_outputs(allennlp, tmp_path):
    """JSON lines, text and columns, by lines and by the dataset reader, in windows of several sizes."""
    json_lines = [
        json.dumps({"sentence" if n % 2 else "tokens": text if n % 2 else text.split()})
        for n, text in enumerate(TEXTS)
    ]
    files = {
        "jsonl": write(tmp_path / "a.jsonl", json_lines),
        "text": write(tmp_path / "a.txt", TEXTS),
        "conll": write(tmp_path / "a.conll", ["\n".join([*text.split(), ""]) for text in TEXTS]),
    }
    runs = [
        allennlp("predict", files["jsonl"], "--batch-size", "3"),
        allennlp("predict", files["text"], "--batch-size", "100"),
        allennlp("predict", files["text"], "--use-dataset-reader", "--batch-size", "3", input="text"),
        allennlp("predict", files["jsonl"], "--use-dataset-reader", engine="torch", tokens_per_batch=1),
        allennlp(
            "predict", files["conll"], "--use-dataset-reader", "--predictor", "ldnet_tagger", input="conll"
        ),
    ]
    outputs = [[json.loads(line) for line in run] for run in runs]
    assert [output["words"] for output in outputs[0]] == [text.split() for text in TEXTS]
    assert ["text" in output for output in outputs[0]] == [False, True, False, True]
    for output in (output for run in outputs for output in run):
        assert output.pop("text", None) in (None, " ".join(output["words"]))
    for other in outputs[1:]:
        assert difference(outputs[0], other) == ""


def test_blank_lines(allennlp, tmp_path):
    """The command leaves them out; read by the predictor they are sentences without words."""
    path = write(tmp_path / "a.txt", ["", "the list", "", " ", "python"])
    assert len(allennlp("predict", path, output="inline")) == 2
    lines = allennlp(
        "predict", path, "--use-dataset-reader", "--batch-size", "9", input="text", output="inline"
    )
    assert [bool(line) for line in lines] == [False, True, False, False, True]


def test_inline(allennlp):
    lines = allennlp("predict", TRAIN, "--use-dataset-reader", "--batch-size", "64", output="inline")
    outputs = [json.loads(line) for line in allennlp("predict", TRAIN, "--use-dataset-reader")]
    assert sum(line.count("</") for line in lines) == sum(len(output["spans"]) for output in outputs) > 0
    for line, output in zip(lines, outputs):
        assert [word for word in line.split(" ") if not word.startswith("<")] == output["words"]


def test_columns_score_as_evaluate_does(allennlp, tmp_path):
    """conlleval's numbers of what `predict` wrote are those of `evaluate`."""
    lines = allennlp(
        "predict", TRAIN, "--use-dataset-reader", "--batch-size", "5", output="conll", tag_encoding="BIO"
    )
    blocks = [block.split("\n") for block in "\n".join(lines).strip().split("\n\n")]
    columns = [list(zip(*(line.split(" ") for line in block))) for block in blocks]
    expected = conlleval((gold, predicted) for _, gold, predicted in columns)
    found = json.loads(" ".join(allennlp("evaluate", TRAIN)))
    for number, name in enumerate(("precision", "recall", "f1-measure")):
        assert found[f"{name}-overall"] == pytest.approx(expected.overall[number], abs=1e-9)
        values = [of_type[number] for of_type in expected.types.values()]
        assert found[f"{name}-macro"] == pytest.approx(sum(values) / len(values), abs=1e-9)
    # Of the tags in the model's encoding; one tag differs more often there.
    recoded = [(convert(gold, "BIO", "BIOUL"), convert(tags, "BIO", "BIOUL")) for _, gold, tags in columns]
    assert found["accuracy"] == pytest.approx(conlleval(recoded).accuracy)
    assert 0 < expected.accuracy < 1


def test_a_malformed_line(allennlp, tmp_path):
    """It is named, and what was predicted before it is in the output."""
    path = write(tmp_path / "a.jsonl", ['{"sentence": "a"}', '{"sentence": "b"}', '{"sentence": c}'])
    with pytest.raises(ConfigurationError, match=r"Found '{\"sentence\": c}': expected JSON such as"):
        allennlp("predict", path)
    assert [json.loads(line)["words"] for line in (tmp_path / "out").read_text().splitlines()] == [
        ["a"],
        ["b"],
    ]


def test_columns_need_the_dataset_reader(allennlp):
    with pytest.raises(ConfigurationError, match="'conll' needs the option --use-dataset-reader"):
        allennlp("predict", DEV, input="conll")
    with pytest.raises(
        ConfigurationError, match="a row of CoNLL columns: add the option --use-dataset-reader"
    ):
        allennlp("predict", DEV)


def test_a_folder_needs_the_dataset_reader(allennlp, tmp_path):
    (tmp_path / "in").mkdir()
    write(tmp_path / "in" / "a.txt", TEXTS)
    with pytest.raises(ConfigurationError, match="in is a folder: add the option --use-dataset-reader"):
        allennlp("predict", tmp_path / "in")
    assert len(allennlp("predict", tmp_path / "in", "--use-dataset-reader", input="text")) == len(TEXTS)


@needs_data
def test_wnut17(allennlp):
    """A corpus of other types, with labels or without: they are in the output, and stop nothing."""
    corpus = DATA / "ner" / "wnut17"
    path = corpus / "emerging.dev.conll"
    lines = allennlp("predict", path, "--use-dataset-reader", "--batch-size", "512", output="conll")
    assert [line.split(" ")[0] for line in lines if line] == [
        line.split("\t")[0] for line in path.read_bytes().decode("utf-8").split("\n") if line
    ]
    found = json.loads(" ".join(allennlp("evaluate", path)))
    assert found["recall-overall"] == 0.0 and found["unseen_labels"] == 836 + 414
    assert 0 < found["accuracy"] < 14483 / 15733


def test_from_a_process_of_its_own(trained, tmp_path):
    """Three lines of Python, and a pipe, from a directory without plugins, in a locale without UTF-8."""
    archive = str(trained / "model.tar.gz")
    program = f"""
import ldnet_allennlp
from allennlp.predictors import Predictor
predictor = Predictor.from_path({archive!r}, n_best=2)
print(sorted(predictor.predict('the list \u65e5\u672c')))
import sys
from allennlp.commands import main
sys.argv = ["allennlp", "predict", {archive!r}, "-", "--predictor-args", '{{"output": "inline"}}']
main()
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        input="the list of a naïve class 日本\n",
        cwd=str(tmp_path),
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "LC_ALL": "C"},
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    first, *_, inline = [line for line in done.stdout.splitlines() if line]
    assert first == "['n_best', 'spans', 'tags', 'text', 'words']"
    assert inline.startswith("prediction: ") and "naïve" in inline and "日本" in inline
