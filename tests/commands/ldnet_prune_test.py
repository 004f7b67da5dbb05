import argparse
import json
import logging
import os
import shutil
import tarfile

import pytest
import torch
from allennlp.common.checks import ConfigurationError
from allennlp.data import Vocabulary
from allennlp.models import Model
from allennlp.models.archival import load_archive

from ldnet_allennlp.commands import ldnet_prune
from ldnet_allennlp.commands.ldnet_prune import LdnetPrune, prune_archive
from ldnet_allennlp.commands.model_configs import pruned_config
from ldnet_allennlp.common import archives
from ldnet_allennlp.common.archives import write_archive
from ldnet_allennlp.common.verification import difference, outputs_of
from tests.taggers import (
    build_language_models,
    build_tagger,
    gated_archive,
    ldnet_embedder,
    set_gates,
    tagger_params,
)

GATES = [0.7, 0.0, 1.0, 0.0, 0.0, 0.4, 0.0, 0.0]
KEPT = {"forward": [0, 2], "backward": [1]}
SENTENCES = [
    ["the", "list", "of", "Zork"],
    ["python"],
    ["a", "class", "with", "the", "name", "of", "an", "object", "."],
]


@pytest.fixture(scope="module")
def gated(tmp_path_factory):
    """A tagger with 3 of 8 gates above 0, with all that layer selection has in a config; its LMs are gone."""
    folder = tmp_path_factory.mktemp("gated")
    language_models = build_language_models(folder, hidden_size=30)
    weights = {"type": "pretrained", "weights_file_path": str(folder / "weights.th")}
    params = tagger_params(language_models, "select")
    torch.save(build_tagger(params).model.state_dict(), str(folder / "weights.th"))
    overrides = {
        "model.initializer": {"regexes": [["projection.*", weights]]},
        "trainer.optimizer.parameter_groups": [[["gates$"], {"lr": 0.2}]],
        "trainer.callbacks": [
            "layer_selection",
            "track_epoch_callback",
            {"type": "layer_selection", "max_layers": 3},
        ],
    }
    path = gated_archive(folder / "model.tar.gz", language_models, GATES, overrides=overrides)
    for language_model in language_models:
        os.remove(language_model)
    os.remove(str(folder / "weights.th"))
    return path


@pytest.fixture(scope="module")
def pruned(gated, tmp_path_factory):
    """The path, and what was told."""
    path = str(tmp_path_factory.mktemp("pruned") / "out" / "model.tar.gz")
    return path, prune_archive(gated, path, SENTENCES)


def say_the_same(first, second, sentences=SENTENCES):
    outputs = [
        outputs_of(archive.model, archive.dataset_reader, sentences)
        for archive in (load_archive(first), load_archive(second))
    ]
    assert difference(*outputs) == ""
    return outputs[0]


def test_outputs_stay_the_same(gated, pruned):
    outputs = say_the_same(gated, pruned[0])
    assert {"tags", "logits"} <= set(outputs[0])
    model = load_archive(pruned[0]).model
    assert ldnet_embedder(model).all_layers() == KEPT
    assert ldnet_embedder(model).gates().tolist() == pytest.approx([0.7, 1.0, 0.4])


def test_it_is_smaller(gated, pruned):
    assert os.path.getsize(pruned[0]) < 0.6 * os.path.getsize(gated)
    sizes = [sum(p.numel() for p in load_archive(path).model.parameters()) for path in (gated, pruned[0])]
    # What is cut: 5 of 8 layers of 30 over words of 6, and what read them.
    forward = lambda layers: sum(4 * 30 * (6 + 30 * n + 30) + 8 * 30 for n in range(layers))  # noqa: E731
    cut = 2 * forward(4) - forward(2) - forward(1) + 5 * 30 * 6 + 5
    assert sizes[0] - sizes[1] == cut


def test_the_config_is_an_ordinary_one(gated, pruned):
    before, after = (load_archive(path).config.as_dict(quiet=True) for path in (gated, pruned[0]))
    text = json.dumps(after)
    for gone in ("lambda_0", "lambda_1", "proximal", "layer_selection", "initializer", "pretrained_file"):
        assert gone in json.dumps(before) and gone not in text
    assert after["trainer"]["optimizer"] == {
        **before["trainer"]["optimizer"]["optimizer"],
        "parameter_groups": [[["gates$"], {"lr": 0.2}]],
    }
    assert after["trainer"]["callbacks"] == ["track_epoch_callback"]
    ldnet = after["model"]["text_field_embedder"]["token_embedders"]["ldnet"]
    assert ldnet["forward"]["contextualizer"]["num_layers"] == 2 and ldnet["forward"]["layers"] == [[0, 2]]
    for part in ("dataset_reader", "train_data_path", "data_loader"):
        assert after[part] == before[part]


def test_the_vocabulary_is_an_ordinary_one(pruned):
    with tarfile.open(pruned[0]) as archive:
        names = archive.getnames()
    assert "vocabulary/ldnet_words.txt" in names and "vocabulary/ldnet_architecture.txt" not in names


def test_what_is_told(pruned):
    before, after, checked, written = pruned[1]
    assert before.startswith("before:") and "forward 1 2 3 4, backward 1 2 3 4" in before
    assert after.startswith("after:") and "forward 1 3, backward 2" in after
    assert float(after.split()[1]) < float(before.split()[1])
    assert checked == "Checked on 3 of your sentences: same tags, scores within 1e-05."
    assert pruned[0] in written


def test_prunes_again(gated, pruned, tmp_path):
    again = str(tmp_path / "again.tar.gz")
    prune_archive(pruned[0], again)
    say_the_same(gated, again)
    archive = load_archive(again)
    assert ldnet_embedder(archive.model).all_layers() == KEPT
    set_gates(ldnet_embedder(archive.model), [0.0, 1.0, 0.4])
    third = str(tmp_path / "third.tar.gz")
    write_archive(third, archive.model, archive.config.as_dict(quiet=True))
    prune_archive(third, str(tmp_path / "fourth.tar.gz"))
    say_the_same(third, str(tmp_path / "fourth.tar.gz"))
    model = load_archive(str(tmp_path / "fourth.tar.gz")).model
    assert ldnet_embedder(model).all_layers() == {"forward": [2], "backward": [1]}


def test_to_no_layers(language_models, tmp_path):
    path = gated_archive(tmp_path / "model.tar.gz", language_models, [0.0] * 8)
    report = prune_archive(path, str(tmp_path / "pruned"), None)
    assert "forward none, backward none" in report[1]
    say_the_same(path, str(tmp_path / "pruned"))


def test_the_pruned_tagger_can_be_trained_on(pruned, tmp_path):
    """Its config serves, with the weights of the archive."""
    from allennlp.commands.train import train_model

    archive = load_archive(pruned[0])
    config = archive.config
    config["model"] = {"type": "from_archive", "archive_file": pruned[0]}
    config["trainer"]["callbacks"] = []
    config["trainer"]["optimizer"] = {"type": "sgd", "lr": 0.01}
    archive.model.vocab.save_to_files(str(tmp_path / "vocabulary"))
    config["vocabulary"] = {"type": "from_files", "directory": str(tmp_path / "vocabulary")}
    model = train_model(config, str(tmp_path / "run"))
    assert ldnet_embedder(model).all_layers() == KEPT


@pytest.mark.parametrize("with_upstreams_reader", [False, True])
def test_upstreams_tagger(language_models, tmp_path, with_upstreams_reader):
    overrides = {"model.type": "crf_tagger"}
    params = tagger_params(language_models, "select", overrides)
    tagger = build_tagger(params)
    set_gates(tagger.embedder, GATES)
    if with_upstreams_reader:
        indexers = tagger.config["dataset_reader"]["token_indexers"]
        tagger.config["dataset_reader"] = {"type": "sequence_tagging", "token_indexers": indexers}
    source, target = str(tmp_path / "model.tar.gz"), str(tmp_path / "pruned.tar.gz")
    write_archive(source, tagger.model, tagger.config)
    prune_archive(source, target)
    assert "logits" in say_the_same(source, target)[0]
    assert type(load_archive(target).model) is Model.by_name("crf_tagger")
    assert ldnet_embedder(load_archive(target).model).all_layers() == KEPT


def classifier_config(language_models):
    sources = {
        name: {"pretrained_file": path} for name, path in zip(("forward", "backward"), language_models)
    }
    return {
        "dataset_reader": {
            "type": "text_classification_json",
            "tokenizer": "whitespace",
            "token_indexers": {"ldnet": {"type": "ldnet"}},
        },
        "model": {
            "type": "basic_classifier",
            "text_field_embedder": {
                "token_embedders": {
                    "ldnet": {"type": "ldnet", "projection_dim": 5, "lambda_0": 0.1, **sources}
                }
            },
            "seq2vec_encoder": {"type": "bag_of_embeddings", "embedding_dim": 5},
            "num_labels": 3,
            "namespace": "ldnet_words",  # where the classifier looks up what it has read
        },
        "trainer": {"optimizer": {"type": "proximal", "optimizer": "adam"}, "num_epochs": 1},
    }


@pytest.mark.parametrize("optimizer", ["adam", {"type": "proximal", "optimizer": "adam"}])
def test_a_classifier(language_models, tmp_path, optimizer):
    from allennlp.common import Params

    config = classifier_config(language_models)
    config["trainer"]["optimizer"] = optimizer
    torch.manual_seed(1)
    vocab = Vocabulary()
    vocab.add_tokens_to_namespace(["x", "y", "z"], "labels")
    model = Model.from_params(Params(config["model"]).duplicate(), vocab=vocab)
    set_gates(ldnet_embedder(model), GATES)
    source, target = str(tmp_path / "model.tar.gz"), str(tmp_path / "pruned.tar.gz")
    write_archive(source, model, config)
    prune_archive(source, target)
    say_the_same(source, target)
    after = load_archive(target).config.as_dict(quiet=True)["trainer"]["optimizer"]
    assert after == ("adam" if optimizer == "adam" else {"type": "adam"})
    assert ldnet_embedder(load_archive(target).model).all_layers() == KEPT


def test_an_existing_output_is_replaced_only_if_asked(gated, tmp_path):
    target = tmp_path / "model.tar.gz"
    target.write_bytes(b"precious")
    for output in (str(target), str(tmp_path)):
        with pytest.raises(ConfigurationError, match=r"exists already\. Give another output, or --force"):
            prune_archive(gated, output)
    assert target.read_bytes() == b"precious"
    prune_archive(gated, str(tmp_path), force=True)
    say_the_same(gated, str(target))
    assert os.listdir(str(tmp_path)) == ["model.tar.gz"]


@pytest.mark.skipif(os.name == "nt", reason="needs devices and links")
def test_a_device_or_a_dangling_link_is_never_replaced(gated, tmp_path):
    device, link = tmp_path / "device", tmp_path / "link"
    device.symlink_to("/dev/null")
    link.symlink_to(tmp_path / "nowhere")
    for output, message in [(device, "a device or a pipe"), (link, "does not exist"), ("", "is empty")]:
        with pytest.raises(ConfigurationError, match=message):
            prune_archive(gated, str(output), force=True)
    assert {path.name for path in tmp_path.iterdir()} == {"device", "link"} and os.path.exists("/dev/null")


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_weights_that_are_not_finite(gated, tmp_path, value):
    """NaN equals nothing, so a comparison of outputs would prove nothing."""
    archive = load_archive(gated)
    with torch.no_grad():
        archive.model.tag_projection_layer._module.weight[0, 0] = value
    source = str(tmp_path / "model.tar.gz")
    write_archive(source, archive.model, archive.config.as_dict(quiet=True))
    with pytest.raises(
        ConfigurationError, match=r"'tag_projection_layer.*weight' of '.*' has infinite or NaN"
    ):
        prune_archive(source, str(tmp_path / "out.tar.gz"))
    assert os.listdir(tmp_path) == ["model.tar.gz"]


def test_in_place(gated, tmp_path):
    path = tmp_path / "model.tar.gz"
    shutil.copy(gated, str(path))
    prune_archive(str(path), str(path), force=True)
    say_the_same(gated, str(path))


def test_not_a_model_with_the_embedder(language_models, tmp_path):
    with pytest.raises(ConfigurationError, match="its AdaptiveLanguageModel has none"):
        prune_archive(language_models.lm_forward, str(tmp_path / "out.tar.gz"))
    with pytest.raises(ConfigurationError, match="No archive was found at"):
        prune_archive(str(tmp_path / "none.tar.gz"), str(tmp_path / "out.tar.gz"))
    assert os.listdir(str(tmp_path)) == []


def test_a_config_that_does_not_show_the_embedder(gated):
    embedders = [ldnet_embedder(load_archive(gated).model)]
    with pytest.raises(ConfigurationError, match="use the archive that it was loaded from"):
        pruned_config({"model": {"type": "from_archive", "archive_file": "x"}}, embedders)


@pytest.mark.parametrize("call", [1, 2])
def test_nothing_is_written_if_the_outputs_differ(gated, tmp_path, monkeypatch, call):
    """The first comparison is with the pruned model, the second with the archive that was written."""
    calls = []

    def differs_once(first, second):
        calls.append(1)
        return "output.tags[0] is 'O' before and 'U-X' after." if len(calls) == call else ""

    monkeypatch.setattr(ldnet_prune, "difference", differs_once)
    with pytest.raises(ConfigurationError, match="Outputs of the pruned model differ; nothing was written"):
        prune_archive(gated, str(tmp_path / "out.tar.gz"))
    assert len(calls) == call and os.listdir(str(tmp_path)) == []


def test_nothing_is_left_if_writing_fails(gated, tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(archives, "archive_model", fail)
    with pytest.raises(OSError, match="No space left"):
        prune_archive(gated, str(tmp_path / "out.tar.gz"))
    assert os.listdir(str(tmp_path)) == []


def run(*arguments):
    """As the command line does, in this process."""
    parser = argparse.ArgumentParser()
    LdnetPrune().add_subparser(parser.add_subparsers())
    args = parser.parse_args(["ldnet-prune", *arguments])
    args.func(args)


def test_the_command(gated, tmp_path, capsys):
    sentences = tmp_path / "sentences.txt"
    sentences.write_text("the list of Zork\n\n  \npython is a class\n", encoding="utf-8")
    root = logging.getLogger()
    level, handler = root.level, logging.StreamHandler()
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        run(gated, str(tmp_path / "out.tar.gz"), "--sentences", str(sentences))
        assert root.level == logging.INFO
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    printed = capsys.readouterr()
    assert len(printed.out.splitlines()) == 4 and "Checked on 2 of your sentences:" in printed.out
    assert "INFO" not in printed.err and "loading archive" not in printed.err
    say_the_same(gated, str(tmp_path / "out.tar.gz"))


def test_errors_of_the_command_are_told_in_a_line(gated, tmp_path):
    (tmp_path / "empty.txt").write_text("\n \n")
    missing, empty = str(tmp_path / "missing.txt"), str(tmp_path / "empty.txt")
    target = str(tmp_path / "out.tar.gz")
    for arguments, message in [
        ((str(tmp_path / "none"), target), "ldnet-prune: No archive was found"),
        (
            (gated, target, "--sentences", empty),
            "was expected to have one sentence per line, but it has none",
        ),
        ((gated, target, "--sentences", missing), "No such file"),
        ((gated, empty), "exists already"),
    ]:
        with pytest.raises(SystemExit, match=message):
            run(*arguments)
    assert not os.path.exists(target)
