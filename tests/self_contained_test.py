"""
An archive needs nothing but itself: models with an "ldnet" embedder are trained, their language models are deleted, and
the archive alone is moved to where a new process loads, evaluates, prunes, fine-tunes and evaluates it again.
"""

import json
import os
import shutil
import subprocess
import sys

import allennlp_models.structured_prediction  # noqa: F401, registers the parser
import pytest
from allennlp.commands.train import train_model
from allennlp.common import Params

from ldnet_allennlp.common.archives import write_archive
from ldnet_allennlp.common.verification import difference
from tests.commands.ldnet_prune_test import GATES, SENTENCES, classifier_config
from tests.compositions import UD
from tests.fresh_process import use
from tests.resources import ROOT
from tests.taggers import DEV, TRAIN, build_language_models, ldnet_embedder, set_gates, tagger_params

LABELLED = [("the list of a class", "code"), ("python is a name", "prose"), ("a number", "code")]


def tagger(language_models, folder, model_type):
    params = tagger_params(language_models, overrides={"model.type": model_type}, num_epochs=1)
    return params.as_dict(quiet=True), str(DEV), str(TRAIN)


def classifier(language_models, folder):
    lines = [json.dumps({"text": text, "label": label}) for text, label in LABELLED]
    (folder / "texts.jsonl").write_text("\n".join(lines))
    config = classifier_config(language_models)
    # Its namespace is that of what it reads, as its output repeats the words.
    config.update(trainer={"optimizer": "adam", "num_epochs": 1}, data_loader={"batch_size": 2})
    del config["model"]["text_field_embedder"]["token_embedders"]["ldnet"]["lambda_0"]
    del config["model"]["num_labels"]
    return config, str(folder / "texts.jsonl"), str(folder / "texts.jsonl")


def parser(language_models, folder):
    sources = {
        name: {"pretrained_file": path} for name, path in zip(("forward", "backward"), language_models)
    }
    config = {
        "dataset_reader": {
            "type": "universal_dependencies",
            "token_indexers": {"ldnet": {"type": "ldnet"}},
        },
        "model": {
            "type": "biaffine_parser",
            "text_field_embedder": {
                "token_embedders": {"ldnet": {"type": "ldnet", "projection_dim": 6, **sources}}
            },
            "pos_tag_embedding": {"embedding_dim": 4, "vocab_namespace": "pos"},
            "encoder": {"type": "lstm", "input_size": 10, "hidden_size": 5, "bidirectional": True},
            "arc_representation_dim": 6,
            "tag_representation_dim": 6,
        },
        "trainer": {"optimizer": "adam", "num_epochs": 1},
        "data_loader": {"batch_size": 4},
    }
    return config, str(UD["dev"]), str(UD["train"])


MODELS = {
    "ldnet_tagger": lambda *arguments: tagger(*arguments, "ldnet_tagger"),
    "crf_tagger": lambda *arguments: tagger(*arguments, "crf_tagger"),
    "basic_classifier": classifier,
    "biaffine_parser": parser,
}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """The outputs of each model here, and those of its archive elsewhere."""
    folder = tmp_path_factory.mktemp("here")
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    language_models = build_language_models(folder / "language_models")
    here, jobs = {}, []
    for name, make in MODELS.items():
        config, data, train = make(language_models, folder)
        config.update(train_data_path=train, validation_data_path=data)
        model = train_model(Params(config).duplicate(), str(folder / "run"))
        set_gates(ldnet_embedder(model), GATES)
        archive = str(folder / f"{name}.tar.gz")
        write_archive(archive, model, config)
        shutil.rmtree(str(folder / "run"))
        here[name] = use(archive, data, SENTENCES)
        os.rename(archive, str(elsewhere / f"{name}.tar.gz"))
        jobs.append(
            {"archive": f"{name}.tar.gz", "data": data, "train": train, "sentences": SENTENCES},
        )
    shutil.rmtree(str(folder / "language_models"))
    (elsewhere / "jobs.json").write_text(json.dumps(jobs))
    done = subprocess.run(
        [sys.executable, "-m", "tests.fresh_process", "jobs.json", "results.json"],
        cwd=str(elsewhere),
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        encoding="utf-8",
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((elsewhere / "results.json").read_text())
    return {name: (here[name], there) for name, there in zip(MODELS, found)}


@pytest.mark.parametrize("name", MODELS)
def test_an_archive_alone(results, name):
    here, found = results[name]
    for step in ("copy", "pruned"):
        assert difference(here, found[step]) == "", step
    # 3 of 8 layers are left; fine-tuning leaves them as they are, and learns from the data.
    assert found["layers"] == 3
    frozen = [key for key in found["unchanged"] if ".language_models." in key]
    assert len(frozen) == 2 + 2 + 3 * 4  # word vectors, gates, weights and biases
    assert difference(found["pruned"]["outputs"], found["tuned"]["outputs"]) != ""
    assert set(found["tuned"]["metrics"]) == set(here["metrics"])
