"""Every config that users run, small: trained for two batches, its archive loaded."""

import json
import math
from pathlib import Path

import pytest
from allennlp.commands.evaluate import evaluate_from_archive
from allennlp.commands.train import train_model
from allennlp.common import Params
from allennlp.models.archival import load_archive
from allennlp.training.callbacks import TrainerCallback

from ldnet_allennlp.modules.selection.gated_modules import selection_metrics
from tests.resources import FIXTURES, ROOT
from tests.taggers import DEV, TRAIN, ldnet_embedder

CONFIGS = sorted(path.stem for path in (ROOT / "training_config").glob("*.jsonnet"))
LANGUAGE_MODELS = {name for name in CONFIGS if name.startswith("lm_") and name != "lm_lstm_crf"}
LM = {
    "train": str(FIXTURES / "lm" / "train.txt"),
    "valid": str(FIXTURES / "lm" / "valid.txt"),
    "min_count": 1,
    "num_layers": 3,
    "embedding_dim": 6,
    "hidden_size": 5,
    "projection_dim": 8,
    "cutoffs": [10, 30],
    "batch_size": 4,
    "sequence_length": 80,
    "num_epochs": 1,
}
NER = {
    "train": str(TRAIN),
    "dev": str(DEV),
    "test": str(DEV),
    "word_dim": 6,
    "char_dim": 4,
    "char_hidden": 5,
    "word_hidden": 7,
    "batch_size": 12,
    "num_epochs": 1,
}


@TrainerCallback.register("count_batches_of_this_test")
class CountBatches(TrainerCallback):
    """Writes down how many batches were trained on."""

    def __init__(self, serialization_dir: str) -> None:
        super().__init__(serialization_dir)
        self.batches = 0

    def on_batch(self, *args, **kwargs) -> None:
        self.batches += bool(kwargs["is_training"] if "is_training" in kwargs else args[6])

    def on_end(self, *args, **kwargs) -> None:
        (Path(self.serialization_dir) / "batches").write_text(str(self.batches))


class Workshop:
    """Trains each config once, when it is first asked for, and before it what it needs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def settings(self, name: str):
        if name == "lm_one_billion":
            return {**LM, "batches_per_epoch": 2, "shards": str(self.folder / "shards"), "num_workers": 2}
        if name in LANGUAGE_MODELS:
            return LM
        if name == "lm_lstm_crf":
            return {**NER, "min_count": 1}
        if name == "ner":
            archives = {side: str(self.run(side) / "model.tar.gz") for side in ("lm_forward", "lm_backward")}
            return {**NER, **archives}
        if name == "ner_select":
            return {**NER, "tagger": str(self.run("ner")), "lambda_1": 6}
        return NER

    def run(self, name: str) -> Path:
        folder = self.folder / name
        if not folder.exists():
            params = load(name, self.settings(name))
            callbacks = params.params["trainer"].pop("callbacks", [])
            params["trainer"]["callbacks"] = [*callbacks, "count_batches_of_this_test"]
            train_model(params, str(folder))
        return folder


def load(name: str, settings) -> Params:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LDNET_SETTINGS", json.dumps(settings))
        return Params.from_file(str(ROOT / "training_config" / f"{name}.jsonnet"))


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    return Workshop(tmp_path_factory.mktemp("configs"))


@pytest.mark.parametrize("name", CONFIGS)
def test_trains_and_its_archive_can_be_evaluated(workshop, name):
    folder = workshop.run(name)
    assert (folder / "batches").read_text() == "2"
    metrics = json.loads((folder / "metrics.json").read_text())
    assert math.isfinite(metrics["training_loss"]) and math.isfinite(metrics["best_validation_loss"])
    settings = workshop.settings(name)
    found = evaluate_from_archive(str(folder / "model.tar.gz"), settings.get("dev", settings.get("valid")))
    exact = "perplexity" if name in LANGUAGE_MODELS else "accuracy"  # the same however the data is batched
    assert found[exact] == pytest.approx(metrics[f"best_validation_{exact}"], rel=1e-5)
    if "test" in settings:
        assert "test_f1-measure-overall" in metrics


def test_the_language_models_read_in_opposite_directions(workshop):
    for direction in ("forward", "backward"):
        model = load_archive(str(workshop.run(f"lm_{direction}") / "model.tar.gz")).model
        assert model.direction == direction


def test_the_options_of_selection(workshop, tmp_path):
    """A budget in multiply-adds that falls, and gates that learn faster: within two batches some are gone."""
    options = {"max_multiply_adds": 1000, "gate_learning_rate": 1e4, "lambda_0": 0.5}
    points = {"max_multiply_adds": [[0, 2000], [5, 1000]]}
    settings = {**workshop.settings("ner_select"), **options, "schedule": points}
    params = load("ner_select", settings)
    assert params["trainer"]["callbacks"].pop()["schedule"] == points
    params["trainer"]["callbacks"] = []  # whether the budget is kept is not the question
    train_model(params, str(tmp_path / "run"))
    before = ldnet_embedder(load_archive(str(workshop.run("ner") / "model.tar.gz")).model)
    after = ldnet_embedder(load_archive(str(tmp_path / "run" / "model.tar.gz")).model)
    assert after.budget.max_multiply_adds == 1000
    assert (after.gates() - before.gates()).abs().max() > 0.1


def test_selection_starts_from_the_trained_tagger(workshop):
    """And leaves the language models in it as they are, without their archives."""
    folders = [workshop.run(name) for name in ("ner", "ner_select")]
    before, after = (load_archive(str(folder / "model.tar.gz")).model for folder in folders)
    assert selection_metrics(before) == {}  # none is trained
    assert selection_metrics(after)["kept_layers"] == 6 and ldnet_embedder(after).budget.lambda_1 == 6
    frozen = [name for name, parameter in before.named_parameters() if not parameter.requires_grad]
    weights = [name for name in frozen if not name.endswith("gates")]
    assert len(weights) > 20
    for name in weights:
        assert before.state_dict()[name].equal(after.state_dict()[name]), name
    assert before.vocab._token_to_index == after.vocab._token_to_index


def test_one_bidirectional_language_model_instead_of_two(tmp_path):
    settings = {**NER, "lm_backward": None, "lm_forward": str(tmp_path / "lm" / "model.tar.gz")}
    settings["tagger"] = str(tmp_path / "ner")
    train_model(load("lm_eltec", {**LM, "direction": "both"}), str(tmp_path / "lm"))
    train_model(
        load("ner", {name: settings[name] for name in settings if name != "tagger"}), settings["tagger"]
    )
    train_model(load("ner_select", {**settings, "lambda_1": 6}), str(tmp_path / "selected"))
    embedder = ldnet_embedder(load_archive(str(tmp_path / "selected" / "model.tar.gz")).model)
    assert embedder.all_layers() == {"forward": [0, 1, 2], "backward": [0, 1, 2]}
    assert list(embedder.language_models) == ["bidirectional_lm"] and embedder.budget.lambda_1 == 6


def test_co_training_takes_part_in_training_alone(workshop):
    """And predicts the words of the training data, in lower case."""
    folder = workshop.run("lm_lstm_crf")
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["training_lm_perplexity"] > 1
    assert [name for name in metrics if "lm_perplexity" in name] == ["training_lm_perplexity"]
    model = load_archive(str(folder / "model.tar.gz")).model
    words = {line.split()[0].lower() for line in TRAIN.read_text().splitlines() if line.strip()}
    assert set(model.vocab.get_token_to_index_vocabulary("lm_words")) - words == {
        "@@PADDING@@",
        "@@UNKNOWN@@",
    }
    assert model.co_training.num_words == len(words) + 2


@pytest.mark.parametrize("name", ["ner_vanilla", "lm_lstm_crf"])
def test_word_vectors(name, tmp_path):
    """Every word of the file is known, whether it is in the training data or not."""
    vectors = tmp_path / "vectors.txt"
    words = ["list", "unseen", "python"]
    vectors.write_text("".join(f"{word} {' '.join([str(n)] * 6)}\n" for n, word in enumerate(words)))
    params = load(name, {**NER, "vectors": str(vectors), "test": None})
    model = train_model(params, str(tmp_path / "run"))
    number = model.vocab.get_token_index("unseen", "tokens")
    assert number > 1
    assert model.text_field_embedder.token_embedder_tokens.weight[number].tolist() == [1.0] * 6
    if name == "lm_lstm_crf":
        assert "unseen" not in model.vocab.get_token_to_index_vocabulary("lm_words")
    vectors.unlink()
    load_archive(str(tmp_path / "run" / "model.tar.gz"))


@pytest.mark.parametrize(
    "name, settings, changes",
    [
        ("ner_vanilla", {}, True),
        ("ner_vanilla", {"train_vectors": False}, False),
        ("fuzzy_crf", {}, False),
        ("autoner", {}, False),
    ],
)
def test_training_of_word_vectors(name, settings, changes, tmp_path):
    word = TRAIN.read_text().split()[0].lower()
    vectors = tmp_path / "vectors.txt"
    vectors.write_text(f"{word} 1 1 1 1 1 1\n")
    params = load(name, {**NER, "vectors": str(vectors), "test": None, **settings})
    model = train_model(params, str(tmp_path / "run"))
    vector = model.text_field_embedder.token_embedder_tokens.weight[
        model.vocab.get_token_index(word, "tokens")
    ]
    assert (vector.tolist() != [1.0] * 6) == changes


def test_a_tagger_from_an_export_of_doccano(tmp_path):
    path = str(FIXTURES / "annotated" / "doccano.jsonl")
    reader = {"type": "annotated_jsonl", "on_unaligned_spans": "error"}
    settings = {**NER, "train": path, "dev": path, "test": path, "reader": reader, "language": "de"}
    model = train_model(load("ner_vanilla", settings), str(tmp_path / "run"))
    labels = model.vocab.get_token_to_index_vocabulary("labels")
    assert set(labels) == {"O", "B-PER", "L-PER", "U-PER", "U-LOC"}
    archive = load_archive(str(tmp_path / "run" / "model.tar.gz"))
    assert archive.validation_dataset_reader.tokenizer.language == "de"


@pytest.mark.parametrize("name", CONFIGS)
def test_a_misspelt_setting_is_named(name):
    with pytest.raises(
        RuntimeError, match=r"LDNET_SETTINGS has num_epoch, but this config has only .*num_epochs"
    ):
        load(name, {"num_epoch": 3})


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"num_epochs": 0}, "LDNET_SETTINGS has num_epochs below 1; expected 1 or more"),
        (
            {"num_epochs": 0, "batch_size": 0},
            "LDNET_SETTINGS has num_epochs and batch_size below 1; expected 1 or more",
        ),
        ({"optimizer": "adamw"}, "LDNET_SETTINGS has the optimizer adamw; expected sgd or adam"),
    ],
)
def test_impossible_settings_are_named(settings, message):
    with pytest.raises(RuntimeError, match=message):
        load("ner", settings)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_defaults_are_the_published_sizes(name):
    if name in ("lm_eltec", "autoner", "fuzzy_crf"):
        pytest.skip("it is meant to be small")
    params = load(name, {}).as_dict(quiet=True)
    model = params["model"]
    if name in LANGUAGE_MODELS:
        network = model["contextualizer"]
        assert (network["num_layers"], network["hidden_size"], network["input_size"]) == (10, 300, 300)
        assert (model["projection_dim"], model["cutoffs"]) == (1600, [4000, 40000, 200000])
        return
    characters = model["text_field_embedder"]["token_embedders"]["token_characters"]
    sizes = (characters["embedding_dim"], characters["hidden_size"], characters.get("projection_dim"))
    assert sizes == ((30, 300, None) if name == "lm_lstm_crf" else (30, 150, 100))
    assert model["encoder"]["input_size"] == {"ner_vanilla": 200, "lm_lstm_crf": 700}.get(name, 300)
    optimizer = params["trainer"]["optimizer"]
    assert optimizer.get("optimizer", optimizer) == {"type": "sgd", "lr": 0.015, "momentum": 0.9}
