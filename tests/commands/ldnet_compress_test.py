import argparse
import os
import shutil
import tarfile

import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.data import Batch, Vocabulary
from allennlp.models import Model
from allennlp.models.archival import load_archive
from allennlp.predictors import Predictor

from ldnet_allennlp.commands import ldnet_compress
from ldnet_allennlp.commands.compression import change_of, half_precision, int8_config
from ldnet_allennlp.commands.ldnet_compress import LdnetCompress, compress_archive
from ldnet_allennlp.commands.ldnet_prune import prune_archive
from ldnet_allennlp.commands.report.model_report import report_of
from ldnet_allennlp.commands.report.table import table
from ldnet_allennlp.common import archives
from ldnet_allennlp.common.archives import write_archive
from ldnet_allennlp.common.verification import difference, outputs_of
from ldnet_allennlp.convert.taggers_to_original import tagger_checkpoint
from ldnet_allennlp.modules.quantized_layers import quantized_layers, rounded
from tests.commands.ldnet_prune_test import GATES, KEPT, SENTENCES, classifier_config
from tests.commands.reports import make_report
from tests.resources import load_tensors
from tests.taggers import (
    DEV,
    TRAIN,
    build_language_models,
    build_tagger,
    gated_archive,
    ldnet_embedder,
    tagger_params,
)

needs_engine = pytest.mark.skipif(
    torch.backends.quantized.engine == "none", reason="torch has no engine for int8 here"
)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A tagger with random weights, whose tags change easily, over language models with 2,000 words; these are gone."""
    folder = tmp_path_factory.mktemp("plain")
    words = ["<eos>", "the", "list", "of", "python", "class", *(f"word{number}" for number in range(2000))]
    language_models = build_language_models(folder / "lm", hidden_size=30, embedding_dim=20, words=words)
    path = gated_archive(folder / "model.tar.gz", language_models, GATES)
    shutil.rmtree(str(folder / "lm"))
    return path


@pytest.fixture(scope="module")
def compressed(plain, tmp_path_factory):
    """Makes each kind once: gives where it is."""
    folder = tmp_path_factory.mktemp("compressed")

    def get(*options):
        path = str(folder / ("-".join(options) + ("" if "mapped_embeddings" in options else ".tar.gz")))
        if not os.path.exists(path):
            compress_archive(
                plain, path, sentences=SENTENCES, max_changed=100, **dict.fromkeys(options, True)
            )
        return path

    return get


def outputs(path):
    archive = load_archive(path)
    return outputs_of(archive.model, archive.dataset_reader, SENTENCES)


def with_embeddings_rounded(plain):
    """The tagger's outputs if all its embeddings were half-precision numbers, by hand."""
    archive = load_archive(plain)
    with torch.no_grad():
        for name, parameter in archive.model.named_parameters():
            if "embedding.weight" in name or name.endswith("token_embedder_tokens.weight"):
                parameter.copy_(torch.tensor(parameter.numpy().astype("float16").astype("float32")))
    return outputs_of(archive.model, archive.dataset_reader, SENTENCES)


def stored(path):
    """The weights as they stand in an archive."""
    with tarfile.open(path) as archive:
        return load_tensors(archive.extractfile("weights.th"))


def bytes_of(tensors):
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


@needs_engine
def test_int8(plain, compressed):
    path = compressed("int8")
    before, after = load_archive(plain).model.state_dict(), stored(path)
    recurrent = [
        name
        for name in before
        if "weight_ih" in name or "weight_hh" in name or "ldnet.projection.weight" in name
    ]
    recurrent = [name for name in recurrent if "token_characters" not in name]
    assert len(recurrent) == 2 * 4 * 2 + 2 * 2 + 1  # the language models, the BiLSTM, the projection
    for name in recurrent:
        integers, scales = rounded(before[name])
        assert torch.equal(after[name], integers) and torch.equal(after[name + "_scale"], scales)
    for name in set(before) - set(recurrent):
        assert torch.equal(after[name], before[name]), name
    assert 4 * bytes_of(after[name] for name in recurrent) == bytes_of(before[name] for name in recurrent)
    assert os.path.getsize(path) < os.path.getsize(plain)
    change = change_of(outputs(plain), outputs(path))
    assert 0 < change.largest < 0.5
    model_section = load_archive(path).config["model"].as_dict(quiet=True)
    assert model_section["type"] == "ldnet_tagger" and model_section["encoder"]["type"] == "int8"
    assert model_section["text_field_embedder"]["token_embedders"]["ldnet"]["type"] == "int8"
    assert Predictor.from_path(path).predict_json({"sentence": "the list of python"})["tags"]


@needs_engine
def test_int8_reads_what_is_in_the_archive(compressed):
    """Twice the same, also with a gradient that nobody asked for."""
    path = compressed("int8")
    assert outputs(path) == outputs(path)
    archive = load_archive(path)
    batch = Batch(list(archive.dataset_reader.read(str(DEV))))
    batch.index_instances(archive.model.vocab)
    archive.model.eval()(**batch.as_tensor_dict())


def test_half_embeddings(plain, compressed):
    path = compressed("half_embeddings")
    assert difference(with_embeddings_rounded(plain), outputs(path)) == ""
    assert difference(outputs(plain), outputs(path)) != ""
    before, after = stored(plain), stored(path)
    halved = [name for name in before if after[name].dtype == torch.float16]
    assert len(halved) == 4 and all(torch.equal(after[name], before[name].half()) for name in halved)
    assert bytes_of(before.values()) - bytes_of(after.values()) == 2 * sum(
        before[name].numel() for name in halved
    )
    assert os.path.getsize(path) < 0.8 * os.path.getsize(plain)
    # In memory, those of the language models are halved, and those that can be trained are not.
    kinds = {name: parameter.dtype for name, parameter in load_archive(path).model.named_parameters()}
    assert [name for name, kind in kinds.items() if kind == torch.float16] == [
        f"text_field_embedder.token_embedder_ldnet.language_models.{direction}_lm.embedding.weight"
        for direction in ("forward", "backward")
    ]


@pytest.mark.parametrize("half", [False, True])
def test_mapped_embeddings(plain, compressed, half):
    path = compressed("mapped_embeddings", *(["half_embeddings"] if half else []))
    expected = with_embeddings_rounded(plain) if half else outputs(plain)
    assert difference(expected, outputs(path)) == ""
    assert sorted(os.listdir(path)) == [
        "config.json",
        "ldnet_backward_1.npy",
        "ldnet_forward_0.npy",
        "meta.json",
        "vocabulary",
        "weights.th",
    ]
    model = load_archive(path).model
    for language_model in ldnet_embedder(model).language_models.values():
        assert language_model.embedding.file.startswith(path)
        assert language_model.embedding.weight.dtype == (torch.float16 if half else torch.float32)
    state = load_tensors(os.path.join(path, "weights.th"))
    assert not [name for name in state if "lm.embedding" in name] and set(state) == set(model.state_dict())


def test_a_directory_that_is_moved_is_predicted_with(compressed, tmp_path):
    expected = outputs(compressed("mapped_embeddings"))
    shutil.copytree(compressed("mapped_embeddings"), str(tmp_path / "elsewhere"))
    outputs_there = Predictor.from_path(str(tmp_path / "elsewhere")).predict_batch_json(
        [{"tokens": sentence} for sentence in SENTENCES]
    )
    assert [output["tags"] for output in outputs_there] == [output["tags"] for output in expected]
    os.remove(str(tmp_path / "elsewhere" / "ldnet_forward_0.npy"))
    with pytest.raises(
        ConfigurationError, match=r"ldnet_forward_0.npy' \(embedding_file\), but it was not found"
    ):
        load_archive(str(tmp_path / "elsewhere"))


@needs_engine
def test_all_together_and_told(plain, compressed, tmp_path, capsys):
    sentences = tmp_path / "sentences.txt"
    sentences.write_text("\n".join(map(" ".join, SENTENCES)))
    options = ("--int8", "--half-embeddings", "--mapped-embeddings", "--max-changed", "100")
    run(plain, str(tmp_path / "model"), "--sentences", str(sentences), *options)
    lines = capsys.readouterr().out.splitlines()
    change = change_of(outputs(plain), outputs(str(tmp_path / "model")))
    assert change.total == sum(map(len, SENTENCES))
    assert lines[0].startswith("before: ") and "MiB float32" in lines[0]
    assert all(kind in lines[1] for kind in ("float32", "float16", "int8"))
    assert lines[2].startswith(f"{change.changed} of {change.total} tags changed ({change.percent:.2f} %)")
    assert lines[3].startswith("Checked on 3 given sentences") and lines[4].endswith("model.")
    # Half of a half is the same; so the steps may be taken one by one.
    compress_archive(
        compressed("half_embeddings"),
        str(tmp_path / "again.tar.gz"),
        int8=True,
        sentences=SENTENCES,
        max_changed=100,
    )
    assert difference(outputs(str(tmp_path / "again.tar.gz")), outputs(str(tmp_path / "model"))) == ""


@needs_engine
def test_the_report_counts_what_it_counted_before(plain, compressed):
    reports = [
        report_of(path, load_archive(path), SENTENCES, 4.0, passes=0)
        for path in (plain, compressed("int8"), compressed("mapped_embeddings", "half_embeddings"))
    ]
    for report in reports[1:]:
        for key in ("model", "layers", "parameters", "multiply_adds", "components", "not_counted"):
            assert report[key] == reports[0][key], key
    before, int8, mapped = (report["bytes_by_dtype"] for report in reports)
    vectors = sum(
        part.embedding.weight.numel()
        for part in ldnet_embedder(load_archive(plain).model).language_models.values()
    )
    assert before["float32"] - mapped["float32"] == 4 * vectors and mapped["float16"] == 2 * vectors
    assert [report["mapped_bytes"] for report in reports] == [0, 0, 2 * vectors]
    assert int8["int8"] * 4 > 0.95 * (before["float32"] - int8["float32"])
    assert reports[2]["total_bytes"] == sum(mapped.values())
    directory = compressed("mapped_embeddings", "half_embeddings")
    assert reports[2]["archive_bytes"] > 2 * vectors + os.path.getsize(os.path.join(directory, "weights.th"))


def test_the_table_shows_kinds_of_numbers_and_mapped_bytes():
    kinds = {"float32": 2**20, "float16": 3 * 2**20, "bool": 9}
    lines = table([make_report(), make_report(bytes_by_dtype=kinds, mapped_bytes=3 * 2**20)], ["one", "two"])
    rows = [" ".join(line.split()) for line in lines]
    assert "float32 2.0 MiB 1.0 MiB" in rows and "float16 - 3.0 MiB" in rows
    assert "mapped from files - 3.0 MiB" in rows and not [row for row in rows if row.startswith("bool")]


def test_a_half_archive_is_pruned_and_trained_on(compressed, tmp_path):
    """Its config serves, with its weights; what comes out has half-precision vectors again."""
    from allennlp.commands.train import train_model

    pruned = str(tmp_path / "pruned.tar.gz")
    prune_archive(compressed("half_embeddings"), pruned)
    assert ldnet_embedder(load_archive(pruned).model).all_layers() == KEPT
    assert difference(outputs(compressed("half_embeddings")), outputs(pruned)) == ""
    with tarfile.open(pruned) as archive:
        archive.extractall(str(tmp_path / "start"))
    config = load_archive(pruned).config.as_dict(quiet=True)
    weights = {"type": "pretrained", "weights_file_path": str(tmp_path / "start" / "weights.th")}
    config["model"]["initializer"] = {"regexes": [[".*", weights]]}
    config["vocabulary"] = {"type": "from_files", "directory": str(tmp_path / "start" / "vocabulary")}
    config["trainer"].update(num_epochs=1, optimizer={"type": "sgd", "lr": 0.1})
    config["train_data_path"] = config["validation_data_path"] = str(TRAIN)
    train_model(Params(config), str(tmp_path / "run"))
    shutil.rmtree(str(tmp_path / "start"))
    before, after = stored(pruned), stored(str(tmp_path / "run" / "model.tar.gz"))
    for name in before:
        frozen = ".language_models." in name
        assert torch.equal(before[name], after[name]) == frozen or "constraint" in name, name
    model = load_archive(str(tmp_path / "run" / "model.tar.gz")).model
    assert next(iter(ldnet_embedder(model).language_models.values())).embedding.weight.dtype == torch.float16


@needs_engine
@pytest.mark.parametrize("option", ["int8", "mapped_embeddings"])
def test_what_is_neither_trained_nor_changed_again(compressed, tmp_path, option):
    from allennlp.commands.train import train_model

    path = compressed(option)
    told = "int8 weights" if option == "int8" else "word vectors that are mapped into memory"
    if option == "int8":
        archive = load_archive(path)
        with pytest.raises(ConfigurationError, match="its weights are int8"):
            tagger_checkpoint(archive.model, archive.dataset_reader)
    for change in (prune_archive, lambda *paths: compress_archive(*paths, half_embeddings=True)):
        with pytest.raises(
            ConfigurationError, match=f"has {told}, which cannot be changed. Give the archive"
        ):
            change(path, str(tmp_path / "out.tar.gz"))
    assert os.listdir(str(tmp_path)) == []
    config = load_archive(path).config
    config["train_data_path"] = config["validation_data_path"] = str(TRAIN)
    config["trainer"]["callbacks"] = []
    load_archive(path).model.vocab.save_to_files(str(tmp_path / "vocabulary"))
    config["vocabulary"] = {"type": "from_files", "directory": str(tmp_path / "vocabulary")}
    message = "not trained anew from its config"
    if option == "int8":
        config["model"] = {"type": "from_archive", "archive_file": path}
        message = "int8 weights, which cannot be trained"
    with pytest.raises(ConfigurationError, match=message):
        train_model(config, str(tmp_path / "run"))


@needs_engine
@pytest.mark.parametrize("model_type", ["crf_tagger", "basic_classifier"])
def test_upstreams_models(language_models, tmp_path, model_type):
    source, target = str(tmp_path / "model.tar.gz"), str(tmp_path / "small.tar.gz")
    if model_type == "crf_tagger":
        tagger = build_tagger(tagger_params(language_models, "select", {"model.type": "crf_tagger"}))
        write_archive(source, tagger.model, tagger.config)
    else:
        config = classifier_config(language_models)
        config["model"]["seq2seq_encoder"] = {"type": "gru", "input_size": 5, "hidden_size": 5}
        vocab = Vocabulary()
        vocab.add_tokens_to_namespace(["x", "y", "z"], "labels")
        write_archive(source, Model.from_params(Params(config["model"]).duplicate(), vocab=vocab), config)
    report = compress_archive(
        source, target, int8=True, half_embeddings=True, sentences=SENTENCES, max_changed=100
    )
    assert "tags changed" in report[2]
    archive = load_archive(target)
    assert type(archive.model) is Model.by_name(model_type)
    # 8 layers, the projection, and the encoder.
    assert len(quantized_layers(archive.model)) == 10
    change = change_of(outputs(source), outputs(target))
    assert 0 < change.largest < 0.5
    assert change.total == (sum(map(len, SENTENCES)) if model_type == "crf_tagger" else len(SENTENCES))


@needs_engine
def test_a_model_without_language_models(tmp_path):
    config = {
        "dataset_reader": {"type": "conll_columns"},
        "model": {
            "type": "ldnet_tagger",
            "text_field_embedder": {"token_embedders": {"tokens": {"type": "embedding", "embedding_dim": 4}}},
            "encoder": {"type": "lstm", "input_size": 4, "hidden_size": 3},
        },
    }
    vocab = Vocabulary()
    vocab.add_tokens_to_namespace(["O", "B-X"], "labels")
    vocab.add_tokens_to_namespace(["the", "list"], "tokens")
    source, target = str(tmp_path / "model.tar.gz"), str(tmp_path / "small.tar.gz")
    write_archive(source, Model.from_params(Params(config["model"]).duplicate(), vocab=vocab), config)
    compress_archive(source, target, int8=True, sentences=[["the"]], max_changed=100)
    assert len(quantized_layers(load_archive(target).model)) == 1
    with pytest.raises(ConfigurationError, match="none: there are no word vectors of language models to map"):
        compress_archive(source, str(tmp_path / "mapped"), mapped_embeddings=True)
    with pytest.raises(ConfigurationError, match="there is nothing to store as int8"):
        int8_config({"type": "simple_tagger", "encoder": {"type": "pass_through", "input_dim": 3}})


def test_too_many_changes_are_refused(plain, tmp_path, monkeypatch):
    """By one tag, the bound being what it would take."""
    archive = load_archive(plain)
    changed = [{**output, "tags": list(output["tags"])} for output in outputs(plain)]
    changed[2]["tags"][1] = "U-OTHER"
    answers = [outputs(plain), changed]
    monkeypatch.setattr(ldnet_compress, "outputs_of", lambda *_: answers.pop(0))
    share = 100 / sum(map(len, SENTENCES))
    with pytest.raises(
        ConfigurationError, match=rf"1 of 14 tags changed \({share:.2f} %\), more than the 7 % allowed"
    ):
        compress_archive(plain, str(tmp_path / "out.tar.gz"), half_embeddings=True, max_changed=7)
    assert os.listdir(str(tmp_path)) == [] and archive.model is not None


@pytest.mark.parametrize("option", ["half_embeddings", "mapped_embeddings"])
def test_nothing_is_written_if_what_was_written_says_something_else(plain, tmp_path, monkeypatch, option):
    monkeypatch.setattr(ldnet_compress, "difference", lambda *_: "output is 1 before and 2 after.")
    with pytest.raises(ConfigurationError, match="so it was removed: output is 1 before"):
        compress_archive(plain, str(tmp_path / "out"), sentences=SENTENCES, **{option: True})
    assert os.listdir(str(tmp_path)) == []


def test_numbers_too_large_for_half_precision(language_models):
    tagger = build_tagger(tagger_params(language_models))
    with torch.no_grad():
        tagger.embedder.language_models["forward_lm"].embedding.weight[3, 1] = -70_000.0
    with pytest.raises(ConfigurationError, match=r"forward_lm.embedding' has numbers up to 70000\."):
        half_precision(tagger.model)


def test_what_counts_as_changed():
    first = [{"words": ["a", "b"], "tags": ["O", "X"], "logits": [[0.5, 1.0]], "other": ["p", "q"]}]
    second = [{"words": ["a", "c"], "tags": ["O", "Y"], "logits": [[0.25, 4.0]], "other": ["r", "q"]}]
    assert change_of(first, second) == (1, 2, 3.0)
    for output in (*first, *second):
        del output["tags"]
    assert change_of(first, second) == (1, 2, 3.0) and change_of(first, second).percent == 50
    assert change_of([{"heads": [1, 2]}], [{"heads": [1]}])[:2] == (1, 2)
    nan = float("nan")
    assert change_of([{"x": nan}], [{"x": nan}]) == (0, 0, 0.0)


def test_where_a_directory_is_written(plain, compressed, tmp_path, monkeypatch):
    target, mapped = tmp_path / "model", {"mapped_embeddings": True, "sentences": SENTENCES}
    target.mkdir()
    compress_archive(plain, str(target), **mapped)  # an empty one is as good as none
    with pytest.raises(ConfigurationError, match="exists already"):
        compress_archive(plain, str(target), **mapped)
    compress_archive(plain, str(target), **mapped, half_embeddings=True, force=True)
    expected = outputs(compressed("mapped_embeddings", "half_embeddings"))
    assert difference(outputs(str(target)), expected) == ""
    # A failure leaves the old one.
    with monkeypatch.context() as patch:
        patch.setattr(archives.numpy, "save", fail)
        with pytest.raises(OSError, match="No space left"):
            compress_archive(plain, str(target), **mapped, force=True)
    assert difference(outputs(str(target)), expected) == ""
    (target / "notes.txt").write_text("precious")
    with pytest.raises(ConfigurationError, match=r"has other things in it: notes.txt. Give another output"):
        compress_archive(plain, str(target), **mapped, force=True)
    assert (target / "notes.txt").read_text() == "precious"
    with pytest.raises(ConfigurationError, match="but there is a file"):
        compress_archive(plain, str(target / "notes.txt"), **mapped, force=True)
    assert os.listdir(str(tmp_path)) == ["model"]


def fail(*args, **kwargs):
    raise OSError(28, "No space left on device")


def run(*arguments):
    """As the command line does, in this process."""
    parser = argparse.ArgumentParser()
    LdnetCompress().add_subparser(parser.add_subparsers())
    args = parser.parse_args(["ldnet-compress", *arguments])
    args.func(args)


def test_errors_of_the_command_are_told_in_a_line(plain, tmp_path):
    target = str(tmp_path / "out.tar.gz")
    for arguments, message in [
        ((plain, target), "ldnet-compress: Give --int8, --half-embeddings or --mapped-embeddings"),
        ((str(tmp_path / "none"), target, "--half-embeddings"), "No archive was found"),
        ((plain, plain, "--half-embeddings"), "exists already"),
        ((plain, target, "--half-embeddings", "--sentences", str(tmp_path / "none")), "No such file"),
    ]:
        with pytest.raises(SystemExit, match=message):
            run(*arguments)
    assert os.listdir(str(tmp_path)) == []


def test_the_config_of_a_source_that_cannot_be(language_models):
    overrides = {
        "model.text_field_embedder.token_embedders.ldnet.forward.embedding_file": "../vectors.npy",
    }
    with pytest.raises(ConfigurationError, match="embedding_file of a language model is the name of a file"):
        build_tagger(tagger_params(language_models, overrides=overrides))
