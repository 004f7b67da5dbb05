import json
import math
import os
import re

import numpy
import pytest
import torch
from allennlp.commands.train import train_model
from allennlp.common.checks import ConfigurationError
from allennlp.models.archival import load_archive
from allennlp.predictors import Predictor

from ldnet_allennlp.commands import ldnet_export
from ldnet_allennlp.commands.ldnet_export import export_archive
from ldnet_allennlp.commands.ldnet_prune import prune_archive
from ldnet_allennlp.common.archives import write_archive
from ldnet_runtime import Tagger
from ldnet_runtime.__main__ import main as ldnet_tag
from tests.command_lines import allennlp
from tests.export.comparing import CHARACTERS, READER, SENTENCES, SIZE, build, character_encoding
from tests.taggers import DEV, TRAIN, build_language_models, gated_archive, tagger_params

LSTM = {"type": "lstm", "input_size": SIZE, "hidden_size": 5, "bidirectional": True}


@pytest.fixture(scope="module")
def gated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gated")
    language_models = build_language_models(folder)
    return gated_archive(folder / "model.tar.gz", language_models, [1.0, 0.0, 0.5, 0.0, 0.0, 1.0, 0.0, 0.25])


@pytest.fixture(scope="module")
def upstream(tmp_path_factory):
    """The archive of a crf_tagger whose tags differ from word to word."""
    path = str(tmp_path_factory.mktemp("upstream") / "model.tar.gz")
    embedders = {
        "tokens": {"type": "embedding", "embedding_dim": 6},
        "token_characters": character_encoding(
            {"type": "cnn", "embedding_dim": CHARACTERS, "num_filters": 5, "ngram_filter_sizes": [2, 3]}
        ),
    }
    model = {"type": "crf_tagger", "text_field_embedder": {"token_embedders": embedders}, "encoder": LSTM}
    built, _ = build(LSTM)
    built.tag_projection_layer._module.weight.data.mul_(10.0)
    write_archive(path, built, {"dataset_reader": READER, "model": model})
    return path


def test_the_exported_tagger_gives_the_tags_of_allennlp_predict(gated, tmp_path):
    output = tmp_path / "ner.onnx"
    report = export_archive(gated, str(output))
    assert re.search(r"ner\.onnx: 0\.\d MiB, \d+ labels, float32$", report[0])
    assert re.search(r"verified on \d+ words: same tags, scores agree to \d(\.\d)?e-0[678]$", report[-1])
    tagger = Tagger(str(output), threads=1)
    predictor = Predictor.from_path(gated, engine="torch")
    for words in SENTENCES:
        prediction = predictor.predict_json({"tokens": words})
        assert tagger(words).tags == prediction["tags"]
        spans = [(span["type"], span["start"], span["end"]) for span in prediction["spans"]]
        assert [(span.label, span.start, span.end) for span in tagger(words)] == spans
    provenance = tagger.description.provenance
    assert provenance["archive"] == "model.tar.gz" and len(provenance["sha256"]) == 64
    assert provenance["model"] == "ldnet_tagger" and provenance["precision"] == "float32"


def test_the_command(upstream, tmp_path):
    output = str(tmp_path / "tagger.onnx")
    printed = allennlp("ldnet-export", upstream, output, "--test", DEV).out.splitlines()
    assert printed[0].startswith(f"{output}: 0.0 MiB, ")
    assert re.fullmatch(rf"{DEV}: accuracy (\d+\.\d\d) before, \1 after", printed[1])
    assert printed[2].startswith("verified on 54 words: same tags")
    assert len(Tagger(output)(["of", "Zork"]).tags) == 2


def test_an_output_that_exists_needs_force(upstream, tmp_path):
    output = tmp_path / "tagger.onnx"
    output.write_text("mine")
    with pytest.raises(ConfigurationError, match="force"):
        export_archive(upstream, str(output))
    assert output.read_text() == "mine"
    export_archive(upstream, str(output), force=True)
    assert output.stat().st_size > 1000
    assert os.listdir(tmp_path) == ["tagger.onnx"]


def test_int8_reports_changes_and_is_bounded(upstream, tmp_path):
    output = str(tmp_path / "tagger.onnx")
    report = export_archive(
        upstream, output, int8=True, int8_embeddings=True, test=str(TRAIN), max_changed=50.0
    )
    assert "int8 LSTMs, int8 embeddings" in report[0]
    changed, total, percent = re.fullmatch(
        r"verified on (?:\d+) words: (\d+) of (\d+) tags change \((.*) %\), scores by up to .*", report[-1]
    ).groups()
    assert float(percent) == pytest.approx(100 * int(changed) / int(total), abs=0.006)
    assert Tagger(output).description.provenance["precision"] == "int8 LSTMs, int8 embeddings"


def test_a_bound_that_is_exceeded_writes_nothing(upstream, tmp_path, monkeypatch):
    compare = ldnet_export.compare

    def with_a_change(*arguments):
        checked = compare(*arguments)
        return checked._replace(after=[["X", *checked.before[0][1:]], *checked.before[1:]])

    monkeypatch.setattr(ldnet_export, "compare", with_a_change)
    for bound in (0.01, math.nan, None):
        options = {} if bound is None else {"int8": True, "max_changed": bound}
        with pytest.raises(ConfigurationError, match=r"1 of \d+ tags change") as raised:
            export_archive(upstream, str(tmp_path / "tagger.onnx"), **options)
        assert (f"--max-changed {bound}" in str(raised.value)) is bool(options)
    assert os.listdir(tmp_path) == []


def test_a_wrong_graph_is_noticed(upstream, tmp_path, monkeypatch):
    export_tagger = ldnet_export.export_tagger

    def with_another_weight(model, reader, **options):
        weight = model.tag_projection_layer._module.weight
        with torch.no_grad():
            weight[0, 0] += 0.01
            data = export_tagger(model, reader, **options)
            weight[0, 0] -= 0.01
        return data

    monkeypatch.setattr(ldnet_export, "export_tagger", with_another_weight)
    with pytest.raises(ConfigurationError, match=r"The exported tagger differs from .* Nothing was written"):
        export_archive(upstream, str(tmp_path / "tagger.onnx"))
    assert os.listdir(tmp_path) == []


def test_kept_words(gated, tmp_path):
    words = tmp_path / "words.txt"
    words.write_text("of\nreturns\nZork\nname\n")
    output = str(tmp_path / "tagger.onnx")
    assert allennlp("ldnet-export", gated, output, "--keep-words", words).status == 0
    description = Tagger(output).description
    assert set(description.vocabularies["ldnet_words"][2:]) == {"of", "returns", "name"}
    assert set(description.vocabularies["tokens"][2:]) == {"of", "returns", "zork", "name"}


def test_sentences_of_the_user(upstream, tmp_path):
    sentences = tmp_path / "sentences.txt"
    sentences.write_text("of Zork and name\nreturns\n")
    outcome = allennlp("ldnet-export", upstream, tmp_path / "t.onnx", "--sentences", sentences)
    assert "verified on 5 words" in outcome.out


def test_what_cannot_be_exported_ends_with_one_line(tmp_path):
    encoder = {"type": "alternating_lstm", "input_size": SIZE, "hidden_size": 4, "num_layers": 2}
    model, _ = build(encoder)
    config = {
        "type": "crf_tagger",
        "text_field_embedder": {
            "token_embedders": {
                "tokens": {"type": "embedding", "embedding_dim": 6},
                "token_characters": character_encoding(
                    {
                        "type": "cnn",
                        "embedding_dim": CHARACTERS,
                        "num_filters": 5,
                        "ngram_filter_sizes": [2, 3],
                    }
                ),
            }
        },
        "encoder": encoder,
    }
    path = str(tmp_path / "model.tar.gz")
    write_archive(path, model, {"dataset_reader": READER, "model": config})
    outcome = allennlp("ldnet-export", path, tmp_path / "t.onnx")
    assert outcome.status == 1 and "Traceback" not in outcome.err
    assert outcome.message.startswith("ldnet-export: model.encoder is a StackedAlternatingLstmSeq2SeqEncoder")
    assert os.listdir(tmp_path) == ["model.tar.gz"]


def test_labels_that_are_missing_from_a_test_file(upstream, tmp_path):
    unlabeled = tmp_path / "words.conll"
    unlabeled.write_text("of\nZork\n\n")
    with pytest.raises(ConfigurationError):
        export_archive(upstream, str(tmp_path / "t.onnx"), test=str(unlabeled))
    assert not os.path.exists(tmp_path / "t.onnx")


def test_sentences_with_partial_labels_have_no_score(language_models, tmp_path):
    overrides = {"dataset_reader.partial_label": "?"}
    path = gated_archive(tmp_path / "model.tar.gz", language_models, 8 * [1.0], overrides=overrides)
    test, output = tmp_path / "test.conll", str(tmp_path / "t.onnx")
    test.write_text("of B-LOC\nZork O\n\nname B-LOC\nreturns ?\n")
    report = export_archive(path, output, sentences=[["of", "Zork", "and"]], test=str(test))
    assert "F1" in report[1] and "verified on 5 words" in report[-1]
    test.write_text("name B-LOC\nreturns ?\n")
    with pytest.raises(ConfigurationError, match="--test needs sentences with full labels"):
        export_archive(path, output, test=str(test), force=True)


def test_numbers_in_the_file_are_those_of_the_model(upstream, tmp_path):
    output = str(tmp_path / "tagger.onnx")
    export_archive(upstream, output)
    model = load_archive(upstream).model
    description = Tagger(output).description
    assert numpy.array_equal(description.transitions, model.crf.transitions.detach().numpy())
    assert numpy.array_equal(description.start, model.crf.start_transitions.detach().numpy())
    assert json.loads(json.dumps(list(description.labels))) == [
        model.vocab.get_token_from_index(tag, "labels") for tag in range(model.num_tags)
    ]


def test_a_tagger_that_was_trained_selected_and_pruned(tmp_path):
    """The quickstart's way, at its smallest: train with gates, cut layers out, export, tag a file."""
    language_models = build_language_models(tmp_path)
    budget = {"model.text_field_embedder.token_embedders.ldnet.lambda_1": 8}
    params = tagger_params(language_models, "select", budget, num_epochs=1)
    train_model(params, str(tmp_path / "select"))
    pruned, output = str(tmp_path / "pruned.tar.gz"), str(tmp_path / "ner.onnx")
    prune_archive(str(tmp_path / "select" / "model.tar.gz"), pruned, keep=["2"])
    report = export_archive(pruned, output, test=str(DEV))
    assert "same tags" in report[-1]
    predicted, tagged = tmp_path / "predicted.jsonl", tmp_path / "tagged.jsonl"
    Predictor.from_path(pruned, engine="torch").tag_file(str(DEV), str(predicted))
    assert ldnet_tag([output, str(DEV), "-o", str(tagged), "--quiet"]) == 0
    truth, found = (
        [json.loads(line) for line in path.read_text().splitlines()] for path in (predicted, tagged)
    )
    assert len(truth) == len(found) > 5
    for one, other in zip(truth, found, strict=True):
        assert one["tags"] == other["tags"] and one["words"] == other["words"]
