"""The whole model: training, archives, partial labels, predictor, pruning, sweep, report and export."""

import json

import pytest
import torch
from allennlp.commands.train import train_model
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.common.testing import ModelTestCase
from allennlp.data import Batch, Token, Vocabulary
from allennlp.models.archival import load_archive
from allennlp.predictors import Predictor
from torch.nn.functional import one_hot

from ldnet_allennlp.commands.ldnet_export import export_archive
from ldnet_allennlp.commands.ldnet_prune import prune_archive
from ldnet_allennlp.commands.ldnet_sweep import sweep
from ldnet_allennlp.commands.report.component_costs import component_costs
from ldnet_allennlp.commands.sweep.selection_config import Budget
from ldnet_allennlp.common.verification import difference, outputs_of
from ldnet_allennlp.data.conll.reader import ConllColumnsReader
from ldnet_allennlp.models.tie_or_break_tagger import TieOrBreakTagger
from ldnet_runtime import Tagger
from tests.models.tagger_labels_test import SPANS, tagger_config, write_corpus
from tests.models.tagger_labels_test import build as build_from_corpus
from tests.taggers import (
    DEV,
    TAGGER,
    TRAIN,
    build_tagger,
    gated_archive,
    ldnet_embedder,
    settings_for,
    tagger_params,
)

KIND = {"model.type": "tie_or_break_tagger"}
SENTENCES = [["the", "list", "of", "Zork", "name"], ["python"], ["class", "Zork", "value", "object", "with"]]


def build(language_models, config="ner", **overrides):
    return build_tagger(tagger_params(language_models, config, {**KIND, **overrides}))


def tensors_of(model, instances):
    batch = Batch(instances)
    batch.index_instances(model.vocab)
    return batch.as_tensor_dict()


class TestTieOrBreakTagger(ModelTestCase):
    @pytest.fixture(autouse=True)
    def _settings(self, language_models, tmp_path, monkeypatch):
        monkeypatch.setenv("LDNET_SETTINGS", settings_for(language_models))
        path = tmp_path / "ner.jsonnet"
        text = f"(import '{TAGGER / 'ner.jsonnet'}') + {{ model+: {{ type: 'tie_or_break_tagger' }} }}"
        path.write_text(text)
        self.set_up_model(path, TRAIN, seed=1)

    def test_can_train_save_and_load(self):
        self.ensure_model_can_train_save_and_load(
            self.param_file, overrides=json.dumps({"data_loader": {"batch_size": 6}})
        )

    def test_batch_predictions_are_consistent(self):
        self.model.return_logits = True
        self.ensure_batch_predictions_are_consistent()


def test_the_loss_of_a_sentence_does_not_depend_on_its_batch(language_models):
    tagger = build(language_models)
    instances = tagger.instances[:6]
    together = tagger.model(**tensors_of(tagger.model, instances))
    alone = [tagger.model(**tensors_of(tagger.model, [one])) for one in instances]
    assert torch.allclose(together["loss"], torch.stack([one["loss"] for one in alone]).mean())
    assert together["tags"] == [one["tags"][0] for one in alone]
    assert min(map(len, together["tags"])) == 1


def test_unknown_labels_give_no_gradient(language_models):
    """Words that may have any tag are not in the loss, whatever their scores are."""
    tagger = build(language_models, **{"dataset_reader.partial_label": "?"})
    words = [Token(word) for word in ["the", "Zork", "name", "of", "class"]]
    instance = tagger.reader.text_to_instance(words, ["O", "?", "?", "O", "U-TYPE"])
    tagger.reader.apply_token_indexers(instance)
    batch = tensors_of(tagger.model, [instance])
    scores, mask = tagger.model.score(batch["tokens"])
    scores = scores.detach().requires_grad_()
    tagger.model.tie_or_break_loss(scores, batch["allowed_tags"], mask).backward()
    # The gap before "class" and its type alone are known.
    half = scores.size(-1) // 2
    expected = torch.zeros(scores.shape[1:], dtype=torch.bool)
    start = (half + 1) // 2  # a break and the types of a chunk that begins here
    expected[3, half : half + start] = expected[4, :start] = expected[4, half + start :] = True
    assert torch.equal(scores.grad[0] != 0, expected)


def test_full_labels_give_the_loss_without_partial_labels(language_models):
    plain, partial = (
        build(language_models, **options) for options in ({}, {"dataset_reader.partial_label": "?"})
    )
    batches = [tensors_of(tagger.model, tagger.instances[:8]) for tagger in (plain, partial)]
    assert "allowed_tags" in batches[1] and "allowed_tags" not in batches[0]
    losses = [tagger.model(**batch)["loss"] for tagger, batch in zip((plain, partial), batches)]
    assert torch.equal(*losses)


def test_words_without_a_known_label_may_have_any_tag(language_models):
    """The labels of dev data that the vocabulary lacks have the id -1."""
    tagger = build(language_models)
    batch = tensors_of(tagger.model, tagger.instances[:4])
    tags = batch.pop("tags").clone()
    tags[:, 0] = -1
    allowed = one_hot(tags.clamp(min=0), len(tagger.model.labels)).bool()
    allowed[:, 0] = True
    losses = [tagger.model(tags=tags, **batch, **more)["loss"] for more in ({}, {"allowed_tags": allowed})]
    assert torch.equal(*losses)


def test_a_model_in_training_mode_predicts_where_no_tags_are_given(language_models):
    tagger = build(language_models)
    batch = tensors_of(tagger.model, tagger.instances[:2])
    tagger.model.train()
    assert "tags" not in tagger.model(**batch)
    del batch["tags"]
    assert list(map(len, tagger.model(**batch)["tags"])) == [len(one["words"]) for one in batch["metadata"]]


def test_a_chunk_of_any_length_has_tags(language_models):
    """The training data have no inner words of TYPE."""
    tagger = build(language_models)
    assert {"B-TYPE", "I-TYPE", "L-TYPE", "U-TYPE", "I-NAME"} <= set(tagger.model.labels)
    assert tagger.model.labels == list(tagger.model.vocab.get_token_to_index_vocabulary("labels"))


@pytest.fixture(scope="module")
def learned(tmp_path_factory, language_models):
    """A tagger that has learned the training data, of which every fifth word is unknown."""
    folder = tmp_path_factory.mktemp("learned")
    rows = TRAIN.read_text().split("\n")
    hidden = [row.split()[0] + " ?" if number % 5 == 2 and row else row for number, row in enumerate(rows)]
    (folder / "train.conll").write_text("\n".join(hidden))
    overrides = {
        **KIND,
        "dataset_reader.partial_label": "?",
        "dataset_reader.label_encoding": "BIO",
        "data_loader": {"batch_size": 8},
        "trainer.optimizer": {"type": "adam", "lr": 0.02},
        "trainer.learning_rate_scheduler": None,
        "model.dropout": 0.0,
        "trainer.patience": None,
        "validation_data_path": str(TRAIN),
    }
    settings = {"train": str(folder / "train.conll"), "num_epochs": 25, "word_hidden": 12, "min_count": 1}
    params = tagger_params(language_models, "ner", overrides, **settings)
    train_model(params, str(folder / "run"))
    return folder / "run"


def test_it_learns_from_partial_labels(learned):
    metrics = json.loads((learned / "metrics.json").read_text())
    assert metrics["best_validation_f1-measure-overall"] > 0.85
    assert "best_validation_accuracy3" not in metrics


def test_the_predictor_gives_the_same_with_both_engines(learned, tmp_path):
    path = str(learned / "model.tar.gz")
    predictors = [Predictor.from_path(path, "ldnet_tagger", engine=engine) for engine in ("torch", "onnx")]
    inputs = [{"tokens": words} for words in SENTENCES]
    first, second = (one.predict_batch_json(inputs, marginals=True) for one in predictors)
    assert difference(first, second) == "" and any(output["spans"] for output in first)
    for output in first:
        for word, tag in zip(output["marginals"], output["tags"]):
            assert sum(word.values()) == pytest.approx(1) and tag in word
        for span in output["spans"]:
            assert 0 < span["confidence"] <= 1
    model = load_archive(path).model.eval()
    model.return_confidences = True
    instances = [predictors[0]._json_to_instance(one) for one in inputs]
    for instance in instances:
        predictors[0]._reader.reader.apply_token_indexers(instance)
    for output, of_model in zip(first, model.forward_on_instances(instances)):
        assert of_model["tags"] == output["tags"]
        confidences = [span["confidence"] for span in output["spans"]]
        assert of_model["confidences"] == pytest.approx(confidences, abs=1e-5)
    with pytest.raises(ConfigurationError, match="n_best and marginals need a model"):
        Predictor.from_path(path, "ldnet_tagger", n_best=2)


def test_export(learned, tmp_path):
    report = export_archive(str(learned), str(tmp_path / "tagger.onnx"), test=str(DEV))
    assert "same tags" in report[-1]
    tagger = Tagger(str(tmp_path / "tagger.onnx"))
    assert tagger.description.decoder == "tie_or_break" and tagger.span_types == ["LANG", "NAME", "TYPE"]
    prediction = tagger(SENTENCES[0], marginals=True)
    model = load_archive(str(learned / "model.tar.gz"))
    expected = outputs_of(model.model, model.validation_dataset_reader, SENTENCES)
    assert prediction.tags == expected[0]["tags"]
    with pytest.raises(ValueError, match="n_best"):
        tagger("a text", n_best=2)


def test_pruning_changes_no_score(tmp_path, language_models):
    gates = [0.7, 0.0, 1.0, 0.0, 0.0, 0.4, 0.0, 0.0]
    source = gated_archive(tmp_path / "model.tar.gz", language_models, gates, overrides=KIND)
    target = str(tmp_path / "pruned" / "model.tar.gz")
    prune_archive(source, target, SENTENCES)
    outputs = [
        outputs_of(archive.model, archive.dataset_reader, SENTENCES)
        for archive in (load_archive(source), load_archive(target))
    ]
    assert "logits" in outputs[0][0] and difference(*outputs) == ""
    assert ldnet_embedder(load_archive(target).model).all_layers() == {"forward": [0, 2], "backward": [1]}


def test_gates_are_penalized_and_counted(language_models):
    model = build(language_models, "select").model
    assert float(model.get_regularization_penalty()) > 0
    assert model.get_metrics()["kept_layers"] == 8
    costs = component_costs(model, 4.0)
    assert costs.not_counted == [] and costs.components["tag projection"] == 14 * 2 * (1 + 2 * 4)


def test_sweep(tmp_path, learned):
    config = json.loads((learned / "config.json").read_text())
    assert config["model"]["type"] == "tie_or_break_tagger"
    result = sweep(
        str(learned / "model.tar.gz"),
        str(tmp_path / "out"),
        [Budget(layers=2)],
        num_epochs=2,
        passes=1,
        threads=1,
    )
    assert result["missed"] == {} and len(result["points"]) == 2


@pytest.mark.parametrize(
    ("labels", "encoding", "message"),
    [
        (["O"], "BIOUL", r"has the tags O, but a tie_or_break_tagger needs spans with types"),
        (["O", "I-x"], "IO", "label_encoding of a tie_or_break_tagger is IO; expected one of BIO"),
        (["O", "B-x", "E-x"], "BIOUL", "set model.label_encoding and dataset_reader.target_label_encoding"),
    ],
)
def test_labels_are_checked(labels, encoding, message, language_models):
    vocab = Vocabulary()
    vocab.add_tokens_to_namespace(labels, "labels")
    with pytest.raises(ConfigurationError, match=message):
        TieOrBreakTagger(vocab, torch.nn.Module(), torch.nn.Module(), label_encoding=encoding)


class TestContinuing:
    """New labels, whose type is the most frequent one."""

    NEW = (*[(["Zürich", "qux"], [("GPE", 0, 0)])] * 5, *SPANS)

    def config(self, path):
        return {
            "dataset_reader": {"type": "conll_columns"},
            "train_data_path": path,
            "model": tagger_config(type="tie_or_break_tagger", label_encoding="BIO"),
            "data_loader": {"batch_size": 4},
            "trainer": {"optimizer": {"type": "adam", "lr": 0.05}, "num_epochs": 30},
        }

    @pytest.fixture(scope="class")
    def first(self, tmp_path_factory):
        folder = tmp_path_factory.mktemp("first")
        train_model(Params(self.config(write_corpus(folder / "train.conll", "BIO"))), str(folder / "run"))
        return str(folder / "run" / "model.tar.gz")

    @staticmethod
    def scores_by_name(model, reader):
        """The scores (B, T) of words, by side of the gap, and by end and type of a chunk."""
        instance = reader.text_to_instance(["Ada", "Lovelace", "met", "Paris"])
        reader.apply_token_indexers(instance)
        scores, _ = model.score(tensors_of(model, [instance])["tokens"])
        by_name, size = {}, 1 + len(model.decoder.types)
        for side, half in enumerate(scores.chunk(2, dim=-1)):
            by_name[side, "break"] = half[..., 0]
            for end, of_end in enumerate(half[..., 1:].split(size, dim=-1)):
                for kind, of_kind in zip(["none", *model.decoder.types], of_end.unbind(-1)):
                    by_name[side, end, kind] = of_kind
        return by_name

    def test_initializer(self, first, tmp_path):
        old = load_archive(first).model.eval()
        reader = ConllColumnsReader()
        options = {
            **self.config("")["model"],
            "initializer": {"regexes": [[".*", {"type": "continue_from", "archive_file": first}]]},
        }
        model, _ = build_from_corpus(reader, write_corpus(tmp_path / "new.conll", "BIO", self.NEW), **options)
        assert old.decoder.types == ["LOC", "PER"] and model.decoder.types == ["GPE", "LOC", "PER"]
        before, after = (self.scores_by_name(one, reader) for one in (old, model))
        assert len(before) == 14 and len(after) == 18
        for name, scores in before.items():
            assert torch.allclose(after[name], scores, atol=1e-6), name

    def test_from_archive(self, first, tmp_path):
        path = write_corpus(tmp_path / "new.conll", "BIO", self.NEW)
        config = self.config(path)
        config["vocabulary"] = {"type": "extend", "directory": first}
        config["model"] = {"type": "from_archive", "archive_file": first}
        train_model(Params(config), str(tmp_path / "run"))
        archive = load_archive(str(tmp_path / "run" / "model.tar.gz"))
        model, reader = archive.model.eval(), archive.dataset_reader
        assert model.decoder.types == ["LOC", "PER", "GPE"]
        for words, tags in ((["Zürich", "qux"], ["B-GPE", "O"]), (["Paris", "fell"], ["B-LOC", "O"])):
            instance = reader.text_to_instance(words)
            reader.apply_token_indexers(instance)
            assert model.forward_on_instance(instance)["tags"] == tags
