"""`ldnet-prune --keep`, `--keep-words` and `--fold`, alone and together."""

import os

import pytest
import torch
from allennlp.common.checks import ConfigurationError
from allennlp.models.archival import load_archive

from ldnet_allennlp.commands.ldnet_prune import prune_archive
from ldnet_allennlp.common.archives import write_archive
from ldnet_allennlp.common.verification import outputs_of
from ldnet_allennlp.data.language_model_vocabulary import words_of
from tests.builders import WORDS
from tests.commands.ldnet_prune_test import GATES, SENTENCES, run, say_the_same
from tests.taggers import gated_archive, ldnet_embedder, set_gates

KEPT_WORDS = {"the", "list", "of", "python", "a", "name"}


@pytest.fixture(scope="module")
def gated(language_models, tmp_path_factory):
    return gated_archive(tmp_path_factory.mktemp("gated") / "model.tar.gz", language_models, GATES)


def with_gates(source, target, gates):
    """A copy of an archive with other gates."""
    archive = load_archive(source)
    set_gates(ldnet_embedder(archive.model), gates)
    write_archive(target, archive.model, archive.config.as_dict(quiet=True))
    return target


@pytest.mark.parametrize(
    "keep, gates, kept",
    [
        (["0"], [0.0] * 8, {"forward": [], "backward": []}),
        (["2"], [0.7, 0.0, 1.0] + [0.0] * 5, {"forward": [0, 2], "backward": []}),
        (["8"], GATES, {"forward": [0, 2], "backward": [1]}),
        (["forward:1", "backward:2,3"], [0.7, 0, 0, 0, 0, 0.4, 0, 0], {"forward": [0], "backward": [1, 2]}),
        (["backward:"], [0.0] * 8, {"forward": [], "backward": []}),
    ],
)
def test_the_layers_kept_say_what_they_did_with_the_others_at_0(gated, tmp_path, keep, gates, kept):
    pruned = str(tmp_path / "pruned.tar.gz")
    report = prune_archive(gated, pruned, SENTENCES, keep=keep)
    say_the_same(with_gates(gated, str(tmp_path / "gates.tar.gz"), gates), pruned)
    assert ldnet_embedder(load_archive(pruned).model).all_layers() == kept
    switched_off = sum(before > 0 and after == 0 for before, after in zip(GATES, gates))
    if not switched_off:
        assert len(report) == 4
        return
    tags = [
        [
            tag
            for output in outputs_of(archive.model, archive.dataset_reader, SENTENCES)
            for tag in output["tags"]
        ]
        for archive in (load_archive(gated), load_archive(pruned))
    ]
    changed = sum(first != second for first, second in zip(*tags))
    assert report[2] == (
        f"Of the layers cut, {switched_off} had gates above 0, which changes {changed} of {len(tags[0])} tags of the "
        f"sentences below."
    )


def test_folded_gates_are_1_and_the_scores_stay(gated, tmp_path):
    folded, plain = str(tmp_path / "folded.tar.gz"), str(tmp_path / "plain.tar.gz")
    prune_archive(gated, folded, SENTENCES, fold=True)
    prune_archive(gated, plain, SENTENCES)
    say_the_same(gated, folded)
    first, second = (ldnet_embedder(load_archive(path).model) for path in (folded, plain))
    assert first.gates().tolist() == [1.0, 1.0, 1.0] and first.all_layers() == second.all_layers()
    # Columns of the projection: word vector 6 and layers of 5, forward 2 of them, backward 1.
    factors = torch.tensor([1.0] * 6 + [0.7] * 5 + [1.0] * 5 + [1.0] * 6 + [0.4] * 5)
    torch.testing.assert_close(first.projection.weight, second.projection.weight * factors)


def test_gates_without_a_projection_cannot_be_folded(language_models, tmp_path):
    overrides = {
        "model.text_field_embedder.token_embedders.ldnet.projection_dim": None,
        "model.encoder.input_size": 6 + 6 + 2 * 26,
    }
    source = gated_archive(tmp_path / "in" / "model.tar.gz", language_models, GATES, overrides=overrides)
    with pytest.raises(ConfigurationError, match="cannot be folded into the weights that read its layers"):
        prune_archive(source, str(tmp_path / "out.tar.gz"), fold=True)
    assert os.listdir(str(tmp_path)) == ["in"]


def test_kept_words(gated, tmp_path):
    """Sentences of kept and of unknown words are tagged as before; others are not looked at."""
    pruned = str(tmp_path / "pruned.tar.gz")
    sentences = [["the", "list", "of", "Zork"], ["class", "python"], ["python"]]
    report = prune_archive(gated, pruned, sentences, keep_words=KEPT_WORDS)
    say_the_same(gated, pruned, [sentences[0], sentences[2], ["Vork", "a", "name"]])
    words = words_of(load_archive(pruned).model.vocab, "ldnet_words")
    assert set(words[2:]) == {"<eos>", *KEPT_WORDS} and len(WORDS) > len(KEPT_WORDS) + 1
    assert report[2] == f"Words of the language models (ldnet_words): 7 of {len(WORDS)} are kept."
    assert report[3].startswith("Checked on 2 of your sentences (1 others have dropped words): same")
    # What was dropped is what is missing: 2 embeddings, vectors of 6.
    embeddings = [
        sum(
            part.embedding.weight.numel()
            for part in ldnet_embedder(load_archive(path).model).language_models.values()
        )
        for path in (gated, pruned)
    ]
    assert embeddings[0] - embeddings[1] == 2 * 6 * (len(WORDS) - 7)


@pytest.mark.parametrize("sentences", [None, [["class"]]])
def test_kept_words_are_checked_on_generated_sentences_of_theirs(gated, tmp_path, sentences):
    pruned = str(tmp_path / "pruned.tar.gz")
    report = prune_archive(gated, pruned, sentences, keep_words=KEPT_WORDS)
    reason = ", because each of yours has dropped words" if sentences else ""
    assert report[3] == f"Checked on 16 generated sentences{reason}: same tags, scores within 1e-05."


def test_all_together_and_trained_on(gated, tmp_path, capsys):
    """On the command line; the archive's own config serves for training, and it can be pruned again."""
    from allennlp.commands.train import train_model

    words = tmp_path / "words.txt"
    words.write_text("\n".join(sorted(KEPT_WORDS)), encoding="utf-8")
    pruned = str(tmp_path / "pruned.tar.gz")
    run(gated, pruned, "--keep-words", str(words), "--fold", "--keep", "forward:1,3")
    printed = capsys.readouterr().out.splitlines()
    assert "forward 1 3, backward none" in printed[1] and printed[2].startswith("Of the layers cut, 1 had")
    gates = [0.7, 0.0, 1.0] + [0.0] * 5
    by_hand = with_gates(gated, str(tmp_path / "gates.tar.gz"), gates)
    say_the_same(by_hand, pruned, [["the", "list", "of", "Zork"], ["python", "a", "name"]])
    config = load_archive(pruned).config
    ldnet = config["model"]["text_field_embedder"]["token_embedders"]["ldnet"].as_dict(quiet=True)
    assert ldnet["forward"]["layers"] == [[0, 2]] and ldnet["forward"]["unpruned_layers"] == [4]
    assert ldnet["backward"]["contextualizer"]["num_layers"] == 0 and ldnet["backward"][
        "unpruned_layers"
    ] == [4]
    model = {"type": "from_archive", "archive_file": pruned}
    vocabulary = str(tmp_path / "vocabulary")
    load_archive(pruned).model.vocab.save_to_files(vocabulary)
    config["model"], config["vocabulary"] = model, {"type": "from_files", "directory": vocabulary}
    config["trainer"]["num_epochs"] = 1
    trained = train_model(config, str(tmp_path / "run"))
    assert ldnet_embedder(trained).all_layers() == {"forward": [0, 2], "backward": []}
    assert not [weight for weight in trained.parameters() if torch.isnan(weight).any()]
    run(pruned, str(tmp_path / "again.tar.gz"), "--keep", "1")
    again = ldnet_embedder(load_archive(str(tmp_path / "again.tar.gz")).model)
    assert again.all_layers() == {"forward": [0], "backward": []}  # of two gates of 1, the lower
    assert again.describe()["forward"]["unpruned_layers"] == [4]


def test_errors_leave_nothing(gated, tmp_path):
    empty = tmp_path / "empty.txt"
    empty.write_text("\n")
    target = str(tmp_path / "out.tar.gz")
    for options, message in [
        (("--keep", "9"), "--keep 9: the model has only 8 layers with a gate"),
        (("--keep", "forward:5"), "forward language model has the layers 1 2 3 4, but 5 was to be kept"),
        (("--keep-words", str(empty)), "expected to have one word per line"),
        (("--keep-words", str(tmp_path / "none")), "No such file"),
    ]:
        with pytest.raises(SystemExit, match=f"ldnet-prune: .*{message}"):
            run(gated, target, *options)
    assert os.listdir(str(tmp_path)) == ["empty.txt"]
