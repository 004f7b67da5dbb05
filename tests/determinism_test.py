"""The same seed, machine and data give the same model, bit for bit; and prediction does not depend on the batches."""

import json
import os
import subprocess
import sys

import pytest
import torch
from allennlp.commands.train import train_model
from allennlp.common import Params
from allennlp.models.archival import load_archive

from ldnet_allennlp.predictors.ldnet_tagger import LdnetTaggerPredictor
from tests.resources import FIXTURES, ROOT
from tests.taggers import TRAIN, LanguageModels, build_language_models, ldnet_embedder, tagger_params

# All that is random: dropout, dropped layers, sampled words, the order of files and of sentences.
LANGUAGE_MODEL = {
    "train_data_path": [str(FIXTURES / "lm" / "train.txt"), str(FIXTURES / "lm" / "valid.txt")],
    "validation_data_path": str(FIXTURES / "lm" / "valid.txt"),
    "model.text_field_embedder.token_embedders.tokens.sparse": True,
    "model.contextualizer.dropout": 0.2,
    "model.contextualizer.layer_dropout": 0.3,
    "model.tail_samples": 8,
    "data_loader.shuffle": True,
    "trainer.optimizer": {"type": "lazy_adam", "grad_norm": 1.0},
    "trainer.grad_norm": False,
    "trainer.num_epochs": 1,
}
LDNET = "model.text_field_embedder.token_embedders.ldnet"
SELECTION = {f"{LDNET}.lambda_0": 0.01, f"{LDNET}.lambda_1": 8}  # no epoch is over budget


def train_all(folder: str) -> None:
    """Trains a language model, a tagger, and a tagger with layer selection."""
    language_models = LanguageModels(
        *(f"{folder}/lm/{side}/model.tar.gz" for side in ("forward", "backward"))
    )
    config = Params.from_file(
        str(FIXTURES / "lm" / "stream_forward.jsonnet"), params_overrides=json.dumps(LANGUAGE_MODEL)
    )
    train_model(config, f"{folder}/language_model")
    train_model(tagger_params(language_models, "ner", num_epochs=1, batch_size=8), f"{folder}/tagger")
    train_model(tagger_params(language_models, "select", SELECTION, batch_size=8), f"{folder}/selection")


@pytest.fixture(scope="module")
def twice(tmp_path_factory):
    """What was trained in this process, and in another one, in which sets of strings have another order."""
    folders = [tmp_path_factory.mktemp(name) for name in ("here", "elsewhere")]
    for folder in folders:
        build_language_models(folder / "lm")
    seed = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed, "OMP_NUM_THREADS": "1"}
    program = f"import tests.determinism_test as d; d.train_all({str(folders[1])!r})"
    process = subprocess.Popen(
        [sys.executable, "-c", program], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        train_all(str(folders[0]))
    finally:
        torch.set_num_threads(threads)
        _, messages = process.communicate()
    assert process.returncode == 0, messages.decode()
    return folders


@pytest.mark.parametrize("what", ["language_model", "tagger", "selection"])
def test_two_trainings_are_the_same(twice, what):
    """The weights, the vocabulary and all scores, but for the time that it took."""
    models = [load_archive(str(folder / what / "model.tar.gz")).model for folder in twice]
    first, second = (model.state_dict() for model in models)
    assert set(first) == set(second) and all(
        torch.equal(value, second[name]) for name, value in first.items()
    )
    assert models[0].vocab._token_to_index == models[1].vocab._token_to_index
    scores = []
    for folder in twice:
        metrics = json.loads((folder / what / "metrics.json").read_text())
        scores.append(
            {
                name: value
                for name, value in metrics.items()
                if "duration" not in name and "memory" not in name
            }
        )
    assert scores[0] == scores[1] and len(scores[0]) > 5


def test_the_gates_are_trained(twice):
    """Else two selections would be the same whatever became of the gates."""
    model = load_archive(str(twice[0] / "selection" / "model.tar.gz")).model
    gates = torch.cat([part.selection.gates for part in ldnet_embedder(model).language_models.values()])
    assert (gates < 1).sum() > 0 and gates.min() >= 0


def test_another_seed_gives_another_model(twice, tmp_path):
    """Else the test above would prove nothing."""
    seeds = {"random_seed": 1, "numpy_seed": 2, "pytorch_seed": 3}
    overrides = json.dumps({**LANGUAGE_MODEL, **seeds})
    train_model(
        Params.from_file(str(FIXTURES / "lm" / "stream_forward.jsonnet"), overrides), str(tmp_path / "lm")
    )
    first, second = (
        load_archive(str(folder / "model.tar.gz")).model.state_dict()
        for folder in (twice[0] / "language_model", tmp_path / "lm")
    )
    assert not any(torch.equal(value, second[name]) for name, value in first.items() if value.dim() > 1)


def numbers_in(output):
    """All numbers in an output, in order."""
    if isinstance(output, dict):
        return [number for key in sorted(output) for number in numbers_in(output[key])]
    if isinstance(output, list):
        return [number for value in output for number in numbers_in(value)]
    return [output] if isinstance(output, float) else []


@pytest.fixture(scope="module")
def tagging(twice):
    return load_archive(str(twice[0] / "selection" / "model.tar.gz"))


@pytest.fixture(scope="module")
def sentences():
    blocks = TRAIN.read_text().strip().split("\n\n")
    words = [[line.split()[0] for line in block.split("\n")] for block in blocks]
    return [*words, words[0] * 20, ["the"], [], *(sentence[:5] for sentence in words)]


def predict(archive, sentences, window, tokens_per_batch):
    predictor = LdnetTaggerPredictor(
        archive.model,
        archive.validation_dataset_reader,
        n_best=2,
        marginals=True,
        tokens_per_batch=tokens_per_batch,
    )
    return list(predictor.predict_sentences(sentences, window))


@pytest.fixture(scope="module")
def one_by_one(tagging, sentences):
    """The predictions of each sentence by itself."""
    return predict(tagging, sentences, 1, 1)


@pytest.mark.parametrize(
    "window, tokens, threads", [(1, 1, 1), (2, 40, 1), (7, 1024, 1), (1000, 200, 2), (1000, 10**6, 1)]
)
def test_prediction_does_not_depend_on_the_batches(tagging, sentences, one_by_one, window, tokens, threads):
    """Nor on the number of threads: the same tags and spans, scores to 1e-5. The same twice is the same to the bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = predict(tagging, sentences, window, tokens)
        assert found == predict(tagging, sentences, window, tokens)
    finally:
        torch.set_num_threads(before)
    assert len(found) == len(sentences)
    for expected, output in zip(one_by_one, found):
        for name in ("words", "tags"):
            assert output[name] == expected[name]
        places, expected_places = (
            [(span["type"], span["start"], span["end"]) for span in spans["spans"]]
            for spans in (output, expected)
        )
        assert places == expected_places
        assert numbers_in(output) == pytest.approx(numbers_in(expected), rel=1e-5, abs=1e-5)
