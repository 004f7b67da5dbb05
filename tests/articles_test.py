"""From a doccano export to a tagger, and ten articles through every way that tags text, and back."""

import json
import shutil
import sys

import pytest
from allennlp.commands import main as allennlp
from allennlp.commands.train import train_model
from allennlp.common import Params
from allennlp.predictors import Predictor
from starlette.testclient import TestClient

from ldnet_allennlp.data.annotated.reader import AnnotatedJsonlReader
from ldnet_runtime import Tagger
from ldnet_runtime.__main__ import main as ldnet_tag
from ldnet_runtime.server.app import create_app
from tests.resources import FIXTURES, ROOT

# Paragraphs, wrapped lines, abbreviations, quotes, URLs, emoji with joiners, tabs and CR LF, no-break spaces, and
# zero-width characters after a byte order mark.
ARTICLES = FIXTURES / "text" / "articles"
EXPORT = FIXTURES / "text" / "articles.jsonl"

GOLD = [json.loads(line) for line in EXPORT.read_text(encoding="utf-8").splitlines()]
ENTITIES = [
    [(label, start, end, item["text"][start:end]) for start, end, label in item["label"]] for item in GOLD
]
INPUT = {"input": "document"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Of a tagger that has learned the articles by heart, and of its exported file."""
    folder = tmp_path_factory.mktemp("articles")
    settings = {
        "reader": {"type": "annotated_jsonl"},
        **{"train": str(EXPORT), "dev": str(EXPORT), "test": None, "min_count": 1, "dropout": 0.0},
        **{"word_dim": 30, "char_dim": 8, "char_hidden": 10, "word_hidden": 30},
        **{"optimizer": "adam", "learning_rate": 0.02, "num_epochs": 25},
    }
    config = str(ROOT / "training_config" / "ner_vanilla.jsonnet")
    train_model(Params.from_file(config, ext_vars={"LDNET_SETTINGS": json.dumps(settings)}), folder / "run")
    shutil.copy(folder / "run" / "model.tar.gz", folder)
    run("ldnet-export", folder / "model.tar.gz", folder / "tagger.onnx")
    return folder


@pytest.fixture(scope="module")
def tagger(folder):
    return Tagger(str(folder / "tagger.onnx"))


def run(*arguments):
    """`allennlp` with these arguments."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["allennlp", *map(str, arguments)])
        allennlp()


def outputs_in(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def check(outputs):
    """They have the annotated entities of all articles, and each span selects its text."""
    assert [output["text"] for output in outputs] == [item["text"] for item in GOLD]
    for output, expected in zip(outputs, ENTITIES, strict=True):
        spans = output["spans"]
        assert [(s["type"], s["start_char"], s["end_char"], s["text"]) for s in spans] == expected
        for span in spans:
            words = output["words"][span["start"] : span["end"]]
            assert output["text"][span["start_char"] : span["end_char"]] == span["text"]
            assert "".join(words) == "".join(span["text"].split())


def test_allennlp_predict(folder):
    """A folder of documents, and JSON lines."""
    archive, output = folder / "model.tar.gz", folder / "predicted.jsonl"
    common = ("--silent", "--output-file", output, "--predictor-args")
    run("predict", archive, ARTICLES, "--use-dataset-reader", *common, json.dumps(INPUT))
    check(outputs_in(output))
    run("predict", archive, EXPORT, *common, '{"engine": "torch"}')
    check(outputs_in(output))


def test_python(folder, tagger):
    predictor = Predictor.from_path(str(folder / "model.tar.gz"), **INPUT)
    check([predictor.predict(item["text"]) for item in GOLD])
    assert predictor.tag_file(str(ARTICLES / "*.txt"), str(folder / "tagged.jsonl")) == len(GOLD)
    check(outputs_in(folder / "tagged.jsonl"))
    check([tagger(item["text"]).to_json() for item in GOLD])


def test_ldnet_tag(folder):
    output = folder / "runtime.jsonl"
    assert ldnet_tag([str(folder / "tagger.onnx"), str(ARTICLES), "-o", str(output)]) == 0
    check(outputs_in(output))


def test_server(tagger):
    with TestClient(create_app(tagger)) as client:
        body = {"inputs": [{"text": item["text"]} for item in GOLD]}
        check(client.post("/api/tag", json=body).json()["outputs"])


@pytest.mark.parametrize("output", ["doccano", "json", "label_studio", "standoff"])
def test_predictions_are_annotations(folder, output):
    """What an annotation tool imports is read for training: the same sentences and tags as the export."""
    target = folder / output
    suffix = "/" if output == "standoff" else ".jsonl"
    options = ["--input", "document", "--output", output, "-o", f"{target}{suffix}"]
    assert ldnet_tag([str(folder / "tagger.onnx"), str(ARTICLES), *options]) == 0
    paths = sorted(target.glob("*.ann")) if output == "standoff" else [f"{target}.jsonl"]

    def read(path):
        instances = AnnotatedJsonlReader().read(str(path))
        return [(instance["metadata"]["words"], instance["tags"].labels) for instance in instances]

    assert [sentence for path in paths for sentence in read(path)] == read(EXPORT)


def test_label_studio_tasks(folder):
    """Their predictions have the entities, also before Label Studio turns them into annotations."""
    target = folder / "tasks.json"
    options = ["--input", "document", "--output", "label_studio", "-o", str(target)]
    assert ldnet_tag([str(folder / "tagger.onnx"), str(ARTICLES), *options]) == 0
    for task in json.loads(target.read_text(encoding="utf-8")):
        values = [result["value"] for result in task["predictions"][0]["result"]]
        found = [[value["start"], value["end"], *value["labels"]] for value in values]
        assert found == next(item["label"] for item in GOLD if item["text"] == task["data"]["text"])
