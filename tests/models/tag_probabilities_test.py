"""What the tagger gives out beside the tags, and what it does with labels that it does not know."""

import json
import logging

import pytest
import torch
from allennlp.commands.evaluate import evaluate_from_args
from allennlp.commands.train import train_model
from allennlp.common.util import sanitize
from allennlp.data import Batch

from ldnet_allennlp.models.tag_decoding import DecodingOptions
from ldnet_runtime.tag_schemes import spans_from_tags
from tests.conlleval import conlleval
from tests.modules.crf.oracle import enumerate_paths
from tests.taggers import DEV, TRAIN, build_tagger, tagger_params


def random_tagger(language_models, **options):
    overrides = {f"model.{name}": value for name, value in options.items()}
    tagger = build_tagger(tagger_params(language_models, overrides=overrides), seed=3)
    with torch.no_grad():
        for parameter in tagger.model.tag_projection_layer.parameters():
            parameter.uniform_(-2, 2)
    return tagger


def short_instances(tagger):
    return [instance for instance in tagger.instances if len(instance["metadata"]["words"]) <= 3]


@pytest.mark.parametrize("constrained", [True, False])
def test_n_best_and_marginals_equal_the_enumeration(language_models, constrained):
    options = {
        "top_k": 4,
        "return_marginals": True,
        "return_logits": True,
        "constrain_crf_decoding": constrained,
    }
    tagger = random_tagger(language_models, **options)
    labels = tagger.model.labels
    instances = short_instances(tagger)[:4]
    for output in tagger.model.forward_on_instances(instances):
        words = len(output["tags"])
        sentence = enumerate_paths(
            tagger.model.crf, torch.as_tensor(output["logits"])[:words], constrained=constrained
        )
        probabilities = torch.softmax(sentence.scores.detach(), 0)
        assert output["top_k_tags"][0]["tags"] == output["tags"]
        expected = [[labels[tag] for tag in path] for path in sentence.paths[:4]]
        assert [entry["tags"] for entry in output["top_k_tags"]] == expected
        found = [entry["probability"] for entry in output["top_k_tags"]]
        assert found == pytest.approx(probabilities[: len(found)].tolist(), rel=1e-5)
        assert len(output["marginals"]) == words
        for step, marginals in enumerate(output["marginals"]):
            assert sum(marginals.values()) == pytest.approx(1.0)
            for tag, probability in marginals.items():
                at_step = torch.tensor([labels[path[step]] == tag for path in sentence.paths])
                assert probability == pytest.approx(probabilities[at_step].sum().item(), abs=1e-6)


def test_all_sequences_together_have_the_probability_one(language_models):
    tagger = random_tagger(language_models, top_k=300)
    (shortest,) = sorted(tagger.instances, key=lambda i: len(i["metadata"]["words"]))[:1]
    (output,) = tagger.model.forward_on_instances([shortest])
    assert sum(entry["probability"] for entry in output["top_k_tags"]) == pytest.approx(1.0)
    json.dumps(sanitize(output))


def test_confidences_are_those_of_the_decoder(language_models):
    tagger = random_tagger(language_models, return_confidences=True)
    instances = tagger.instances[:12]
    with torch.no_grad():
        emissions, mask = tagger.model.score(Batch(instances).as_tensor_dict()["tokens"])
    expected = tagger.model.decode(emissions, mask, DecodingOptions(confidences=True))
    outputs = tagger.model.forward_on_instances(instances)
    spans = [spans_from_tags(output["tags"], "BIOUL") for output in outputs]
    assert sum(map(len, spans)) > 10
    for output, probabilities in zip(outputs, expected["confidences"]):
        assert output["confidences"] == pytest.approx(probabilities, abs=1e-5)


def test_training_steps_give_no_probabilities(language_models):
    tagger = random_tagger(language_models, return_confidences=True, return_marginals=True)
    batch = Batch(tagger.instances[:4])
    assert set(tagger.model.train()(**batch.as_tensor_dict())) == {"loss", "words"}


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    """The development data with two types more, one of them in a sentence without anything else."""
    text = DEV.read_text() + "\nZork B-GAME\nvalue I-GAME\nthe O\n\nlist B-GAME\n\npython B-PERSON\n"
    path = tmp_path_factory.mktemp("foreign") / "foreign.conll"
    path.write_text(text)
    return path


def test_labels_that_the_training_data_does_not_have(language_models, foreign, caplog):
    """An error in the scores, nothing in the loss, and a line in the log."""
    tagger = random_tagger(language_models)
    instances = list(tagger.reader.read(str(foreign)))
    batch = Batch(instances)
    batch.index_instances(tagger.model.vocab)
    with caplog.at_level(logging.WARNING):
        output = tagger.model(**batch.as_tensor_dict())
        metrics = tagger.model.get_metrics(reset=True)
    readable = tagger.model.make_output_human_readable(dict(output))
    gold = [instance["metadata"]["gold_tags"] for instance in instances]
    expected = conlleval(zip(gold, readable["tags"]))
    assert expected.types["GAME"][1] == 0.0
    assert metrics["accuracy"] == pytest.approx(expected.accuracy)
    for name, value in zip(("precision", "recall", "f1-measure"), expected.overall):
        assert metrics[f"{name}-overall"] == pytest.approx(value, abs=1e-9)
    assert metrics["unseen_labels"] == 4.0
    assert "foreign.conll: the label 'U-GAME' of 1 word is not in the vocabulary" in caplog.text
    # The loss is that of the other words alone.
    known = [
        instance
        for instance in instances
        if not {"GAME", "PERSON"} & {t[2:] for t in instance["tags"].labels}
    ]
    sentence = next(instance for instance in instances if "B-GAME" in instance["tags"].labels)
    rest = tagger.model(**Batch(known).as_tensor_dict())["loss"] * len(known)
    mixed = Batch([sentence]).as_tensor_dict()
    with torch.no_grad():
        logits, _ = tagger.model.score(mixed["tokens"])
    outside = torch.tensor([[tagger.model.vocab.get_token_index("O", "labels")]])
    rest = rest - tagger.model.crf(logits[:, 2:], outside)
    torch.testing.assert_close(output["loss"] * len(instances), rest, rtol=1e-5, atol=1e-5)
    output["loss"].backward()
    assert all(p.grad.isfinite().all() for p in tagger.model.parameters() if p.grad is not None)


@pytest.mark.parametrize(
    "options", [{"calculate_span_f1": False, "verbose_metrics": True}, {"verbose_metrics": True}]
)
def test_unseen_labels_with_other_metrics(language_models, foreign, options):
    tagger = random_tagger(language_models, **options)
    tagger.model.forward_on_instances(list(tagger.reader.read(str(foreign))))
    metrics = tagger.model.get_metrics(reset=True)
    assert metrics["unseen_labels"] == 4.0 and 0 < metrics["accuracy"] < 1
    assert ("recall-GAME" in metrics) is ("calculate_span_f1" not in options)
    assert "unseen_labels" not in tagger.model.get_metrics()


def test_train_and_evaluate_with_unseen_labels(language_models, foreign, tmp_path):
    params = tagger_params(language_models, dev=str(foreign), num_epochs=1)
    train_model(params, str(tmp_path / "run"))
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["best_validation_unseen_labels"] == 4.0
    arguments = build_arguments(tmp_path / "run" / "model.tar.gz", foreign)
    assert evaluate_from_args(arguments)["unseen_labels"] == 4.0
    arguments = build_arguments(tmp_path / "run" / "model.tar.gz", TRAIN)
    assert "unseen_labels" not in evaluate_from_args(arguments)


def build_arguments(archive, data):
    import argparse

    from allennlp.commands.evaluate import Evaluate

    parser = argparse.ArgumentParser()
    Evaluate().add_subparser(parser.add_subparsers())
    return parser.parse_args(["evaluate", str(archive), str(data)])
