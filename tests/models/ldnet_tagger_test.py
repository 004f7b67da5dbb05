import json

import pytest
import torch
from allennlp.common.checks import ConfigurationError
from allennlp.common.testing import ModelTestCase
from allennlp.data import Batch
from allennlp.models import Model
from allennlp.models.archival import load_archive
from allennlp.modules import ConditionalRandomField
from allennlp_models.tagging.models.crf_tagger import CrfTagger

from ldnet_allennlp.modules.crf.conditional_random_field import FastConditionalRandomField
from ldnet_allennlp.modules.selection.layer_budget import kept_multiply_adds, selection_penalty
from tests.processes import run_in_two_processes
from tests.taggers import (
    TAGGER,
    TRAIN,
    build_tagger,
    dev_instances,
    set_gates,
    settings_for,
    tagger_params,
)

IN_ORDER = {"data_loader": {"batch_size": 6}}  # batches that do not depend on chance
LDNET = "model.text_field_embedder.token_embedders.ldnet"


def batch_of(tagger, size=6):
    batch = Batch(tagger.instances[:size])
    return batch.as_tensor_dict(batch.get_padding_lengths())


def build(language_models, overrides=None, config="ner"):
    return build_tagger(tagger_params(language_models, config, overrides))


class TestLdnetTagger(ModelTestCase):
    @pytest.fixture(autouse=True)
    def _settings(self, language_models, monkeypatch):
        monkeypatch.setenv("LDNET_SETTINGS", settings_for(language_models))
        self.set_up_model(TAGGER / "ner.jsonnet", TRAIN, seed=1)

    def test_can_train_save_and_load(self):
        self.ensure_model_can_train_save_and_load(self.param_file, overrides=json.dumps(IN_ORDER))

    def test_can_train_save_and_load_with_gates(self):
        """The gates get gradients; the language models do not, which the base class checks, too."""
        overrides = json.dumps({f"{LDNET}.lambda_1": 8, "trainer.num_epochs": 1, **IN_ORDER})
        self.ensure_model_can_train_save_and_load(str(TAGGER / "select.jsonnet"), overrides=overrides)

    def test_batch_predictions_are_consistent(self):
        self.model.return_logits = True
        self.ensure_batch_predictions_are_consistent()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"include_start_end_transitions": False},
        {"constrain_crf_decoding": False, "calculate_span_f1": False},
        {"label_weights": {"B-NAME": 3.0, "O": 0.2}, "label_encoding": "BIO"},
        {"label_weights": {"B-NAME": 3.0}, "weight_strategy": "emission_transition", "label_encoding": "BIO"},
        {"label_weights": {"B-NAME": 3.0}, "weight_strategy": "lannoy", "label_encoding": "BIO"},
        {"top_k": 3},
        {"feedforward": {"input_dim": 14, "num_layers": 1, "hidden_dims": 5, "activations": "tanh"}},
    ],
    ids=lambda options: " ".join(options) or "default",
)
def test_equals_upstreams_tagger_with_the_same_weights(language_models, options):
    """The same tags, and the loss divided by the number of sentences."""
    encoding = options.get("label_encoding", "BIOUL")
    common = {f"model.{name}": value for name, value in options.items()}
    common["dataset_reader.target_label_encoding"] = encoding
    ours = build(language_models, {**common, "model.return_logits": True})
    theirs = build(language_models, {**common, "model.type": "crf_tagger"}).model
    theirs.load_state_dict(ours.model.state_dict())
    assert type(theirs) is CrfTagger and isinstance(ours.model.crf, FastConditionalRandomField)
    with torch.no_grad():
        ours.model.tag_projection_layer._module.weight.uniform_(-8, 8)
        for name, parameter in ours.model.crf.named_parameters():
            if "transitions" in name:
                parameter.uniform_(-2, 2)
    theirs.load_state_dict(ours.model.state_dict())
    batch = batch_of(ours)
    found, expected = ours.model(**batch), theirs(**batch)
    assert found["tags"] == expected["tags"]
    assert len({tag for tags in found["tags"] for tag in tags}) > 1
    torch.testing.assert_close(found["loss"], expected["loss"] / 6, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found["logits"], expected["logits"])
    metrics, upstreams = ours.model.get_metrics(), theirs.get_metrics()
    macro = {name for name in metrics if name.endswith("-macro")}  # which upstream does not have
    assert set(metrics) - macro == set(upstreams)
    # Upstream's accuracy3 has two arbitrary tags beside the predicted one.
    same = set(metrics) - macro - {"accuracy3"}
    assert metrics == pytest.approx({**metrics, **{name: upstreams[name] for name in same}})
    for paths, others in zip(found.get("top_k_tags", []), expected.get("top_k_tags", [])):
        assert [path for path, _ in paths] == [path for path, _ in others]
        assert [score for _, score in paths] == pytest.approx([score for _, score in others], rel=1e-4)


def test_checkpoints_go_both_ways(language_models):
    ours = build(language_models).model
    theirs = build(language_models, {"model.type": "crf_tagger"}).model
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())


def test_training_steps_decode_only_if_asked(language_models):
    tagger = build(language_models)
    batch = batch_of(tagger)
    tagger.model.train()
    assert "tags" not in tagger.model(**batch)
    assert tagger.model.get_metrics() == {}
    tagger.model.decode_in_training = True
    assert len(tagger.model(**batch)["tags"]) == 6
    assert "f1-measure-overall" in tagger.model.get_metrics(reset=True)
    assert tagger.model.get_metrics() == {}
    batch.pop("tags")
    tagger.model.decode_in_training = False
    assert len(tagger.model(**batch)["tags"]) == 6  # without a loss there is nothing else to give


def test_outputs(language_models):
    tagger = build(language_models)
    batch = batch_of(tagger)
    assert set(tagger.model(**batch)) == {"tags", "loss", "words"}
    batch.pop("tags"), batch.pop("metadata")
    assert set(tagger.model(**batch)) == {"tags"}
    tagger.model.return_logits = True
    output = tagger.model(**batch)
    assert output["logits"].shape == (*output["mask"].shape, tagger.model.num_tags)


def test_the_loss_without_the_words_outside(language_models):
    """That of the other words alone, as if the words outside were not there."""
    tagger = build(language_models, {"model.ignore_loss_on_o_tags": True, "model.return_logits": True})
    batch = batch_of(tagger, 24)
    output = tagger.model(**batch)
    crf = ConditionalRandomField(tagger.model.num_tags)
    crf.load_state_dict({**tagger.model.crf.state_dict(), "_constraint_mask": crf._constraint_mask})
    outside = tagger.model.vocab.get_token_index("O", "labels")
    expected, empty = 0.0, 0
    for logits, tags, mask in zip(output["logits"], batch["tags"], output["mask"]):
        kept = mask & (tags != outside)
        empty += not kept.any()
        if kept.any():
            expected -= crf(logits[kept].unsqueeze(0), tags[kept].unsqueeze(0)).item()
    assert empty > 0
    assert output["loss"].item() == pytest.approx(expected / 24, rel=1e-5)


def test_ignoring_o_for_one_call(language_models):
    tagger = build(language_models, {"model.ignore_loss_on_o_tags": True})
    plain = build(language_models).model
    plain.load_state_dict(tagger.model.state_dict())
    batch = batch_of(tagger)
    ignoring = tagger.model(**batch)["loss"]
    assert not torch.isclose(ignoring, plain(**batch)["loss"])
    assert torch.equal(ignoring, plain(**batch, ignore_loss_on_o_tags=True)["loss"])
    assert torch.equal(tagger.model(**batch, ignore_loss_on_o_tags=False)["loss"], plain(**batch)["loss"])


@pytest.mark.parametrize("verbose, span_f1", [(False, True), (True, True), (True, False), (False, False)])
def test_metrics(language_models, verbose, span_f1):
    options = {"model.verbose_metrics": verbose, "model.calculate_span_f1": span_f1}
    tagger = build(language_models, options)
    tagger.model(**batch_of(tagger, 24))
    names = set(tagger.model.get_metrics())
    overall = {f"{name}-overall" for name in ("precision", "recall", "f1-measure")}
    assert "accuracy" in names and "kept_layers" not in names
    assert (overall <= names) is span_f1
    assert ("f1-measure-TYPE" in names) is (verbose and span_f1)
    assert ("B-TYPE-fscore" in names) is (verbose and not span_f1)


def test_scores_over_batches_are_those_of_everything(language_models):
    """Counted from the tags of each sentence alone: accuracy and span F1, however they are batched."""
    tagger = build(language_models)
    whole = batch_of(tagger, 24)
    tagger.model(**whole)
    expected = tagger.model.get_metrics(reset=True)
    correct, total = 0, 0
    for tags, gold in zip(tagger.model(**whole)["tags"], whole["tags"].tolist()):
        correct += sum(one == other for one, other in zip(tags, gold))
        total += len(tags)
    tagger.model.get_metrics(reset=True)
    assert expected["accuracy"] == pytest.approx(correct / total)
    for instance in tagger.instances:
        tagger.model(**Batch([instance]).as_tensor_dict())
    assert tagger.model.get_metrics() == pytest.approx(expected)


def test_a_row_without_words_changes_nothing(language_models):
    tagger = build(language_models)
    batch = batch_of(tagger, 3)
    before = tagger.model(**batch)
    tokens = {
        name: {key: torch.cat([ids, torch.zeros_like(ids[:1])]) for key, ids in tensors.items()}
        for name, tensors in batch["tokens"].items()
    }
    after = tagger.model(tokens, torch.cat([batch["tags"], torch.zeros_like(batch["tags"][:1])]))
    assert after["tags"] == [*before["tags"], []]
    torch.testing.assert_close(4 * after["loss"], 3 * before["loss"])


def test_the_penalty(language_models):
    options = {f"{LDNET}.lambda_0": 0.3, f"{LDNET}.lambda_1": 5}
    tagger = build(language_models, options, "select")
    gates = [0.7, 0.0, 1.0, 0.3, 1.0, 0.4, 0.0, 0.9]  # 6 of 8 are above 0
    set_gates(tagger.embedder, gates)
    expected = 0.3 * (sum(gate * (1 - gate) for gate in gates) + sum(gates))
    assert tagger.model.get_regularization_penalty().item() == pytest.approx(expected, rel=1e-6)
    metrics = tagger.model.get_metrics()
    shown = [
        metrics.pop(f"_gates/{name}_{layer}") for name in ("forward", "backward") for layer in range(1, 5)
    ]
    assert shown == pytest.approx(gates)
    cost = kept_multiply_adds(tagger.embedder.gated_stacks()).item()
    assert metrics == {"kept_layers": 6.0, "kept_multiply_adds": pytest.approx(cost / 1e6)}
    assert build(language_models).model.get_regularization_penalty() is None


def test_the_penalty_of_a_gated_encoder_and_a_regularizer(language_models):
    """Every part of the model that has gates counts, and AllenNLP's own regularizer beside them."""
    encoder = {"type": "ld_rnn", "input_size": 18, "hidden_size": 3, "num_layers": 2}
    options = {
        "model.encoder": {"type": "layer_selection", "encoder": encoder, "lambda_0": 0.5, "lambda_1": 1},
        "model.regularizer": {"regexes": [["tag_projection_layer.*weight", {"type": "l2", "alpha": 0.1}]]},
        f"{LDNET}.lambda_0": 0.3,
        f"{LDNET}.lambda_1": 9,
    }
    tagger = build(language_models, options, "select")
    own = torch.tensor([0.6, 0.9])
    tagger.model.encoder.gates.data = own
    set_gates(tagger.embedder, [0.5] * 8)
    expected = selection_penalty(own, 0.5, 1).item() + 0.3 * 8 * 0.25
    expected += 0.1 * tagger.model.tag_projection_layer._module.weight.pow(2).sum().item()
    assert tagger.model.get_regularization_penalty().item() == pytest.approx(expected, rel=1e-6)
    metrics = tagger.model.get_metrics()
    assert metrics["kept_layers"] == 10.0
    assert len([name for name in metrics if name.startswith("_gates/")]) == 10


def test_starts_from_a_trained_taggers_weights(language_models, trained):
    """As training_config/ner_select.jsonnet does: the gates are among the weights, the vocabulary is the same."""
    weights = {"type": "pretrained", "weights_file_path": str(trained / "best.th")}
    tagger = build(language_models, {"model.initializer": {"regexes": [[".*", weights]]}})
    for name, parameter in torch.load(str(trained / "best.th")).items():
        if "encoder" not in name or "module" not in name:  # what the builder changes afterwards
            assert torch.equal(tagger.model.state_dict()[name], parameter), name


@pytest.mark.parametrize("model_type", ["ldnet_tagger", "crf_tagger"])
def test_the_archive_needs_no_other(tmp_path, model_type):
    """Trained with language models that are gone when it is loaded."""
    from allennlp.commands.train import train_model

    from tests.taggers import build_language_models

    archives = build_language_models(tmp_path / "lm", words=None)
    params = tagger_params(archives, overrides={"model.type": model_type})
    model = train_model(params, str(tmp_path / "run"))
    reader = load_archive(str(tmp_path / "run" / "model.tar.gz")).dataset_reader
    instances = dev_instances(reader)
    assert all("tags" not in output for output in model.train().forward_on_instances(instances)) is (
        model_type == "ldnet_tagger"
    )
    before = model.eval().forward_on_instances(dev_instances(reader))
    for path in archives:
        (tmp_path / "lm").joinpath(*path.split("/")[-2:]).unlink()
    archive = load_archive(str(tmp_path / "run" / "model.tar.gz"))
    after = archive.model.eval().forward_on_instances(dev_instances(archive.dataset_reader))
    assert type(archive.model) is Model.by_name(model_type)
    assert [output["tags"] for output in after] == [output["tags"] for output in before]
    assert len({tag for output in before for tag in output["tags"]}) > 1


def test_language_models_with_different_words(tmp_path):
    """Two namespaces, also in the archive."""
    from ldnet_allennlp.common.archives import write_archive
    from tests.builders import WORDS, language_model_archive
    from tests.taggers import LanguageModels

    archives = LanguageModels(
        language_model_archive(tmp_path / "forward", "forward"),
        language_model_archive(tmp_path / "backward", "backward", words=["Zork", *reversed(WORDS)]),
    )
    tagger = build(archives)
    before = tagger.model.forward_on_instances(tagger.instances)
    write_archive(str(tmp_path / "model.tar.gz"), tagger.model, tagger.config)
    loaded = load_archive(str(tmp_path / "model.tar.gz"))
    after = loaded.model.eval().forward_on_instances(list(loaded.dataset_reader.read(str(TRAIN))))
    assert [output["tags"] for output in after] == [output["tags"] for output in before]
    assert len({tag for output in before for tag in output["tags"]}) > 1


def test_sizes_that_do_not_match(language_models):
    with pytest.raises(ConfigurationError, match=r"18.*17"):
        build(language_models, {"model.encoder.input_size": 17})


def check_worker(rank, world_size, model, batches, expected):
    """Each worker has every second batch."""
    for predicted, gold, mask, emissions in batches[rank::world_size]:
        model._scores.update(predicted, gold, mask, emissions=emissions)
    assert model.get_metrics(reset=True) == pytest.approx(expected)


def test_metrics_of_two_workers(language_models):
    tagger = build(language_models)
    model, batches = tagger.model, []
    for start in range(0, 24, 6):
        batch = Batch(tagger.instances[start : start + 6]).as_tensor_dict()
        with torch.no_grad():
            emissions, mask = model.score(batch["tokens"])
        # Networks are not run in the workers: they are forked, and torch has threads of its own.
        batches.append((model(**batch)["tags"], batch["tags"], mask, emissions))
    expected = model.get_metrics(reset=True)
    assert 0 < expected["accuracy"] < 1
    run_in_two_processes(check_worker, model, batches, expected)
