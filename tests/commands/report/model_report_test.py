import os

import pytest
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.data import Vocabulary
from allennlp.models import Model
from allennlp.models.archival import load_archive

from ldnet_allennlp.commands.ldnet_prune import prune_archive
from ldnet_allennlp.commands.report import model_report
from ldnet_allennlp.commands.report.component_costs import component_costs
from ldnet_allennlp.commands.report.model_report import layers_of, report_of
from ldnet_allennlp.commands.sentences import sentences_for
from tests.builders import WORDS, language_model_archive
from tests.taggers import gated_archive, ldnet_embedder

GATES = [0.7, 0.0, 1.0, 0.0, 0.0, 0.4, 0.0, 0.0]
SENTENCES = [["the", "list", "of", "Zork"], ["python"]]


@pytest.fixture(scope="module")
def gated(language_models, tmp_path_factory):
    return gated_archive(tmp_path_factory.mktemp("gated") / "model.tar.gz", language_models, GATES)


@pytest.fixture(scope="module")
def pruned(gated, tmp_path_factory):
    path = str(tmp_path_factory.mktemp("pruned") / "small.tar.gz")
    prune_archive(gated, path)
    return path


def report(path, **options):
    return report_of(path, load_archive(path), SENTENCES, 4.0, **options)


def test_what_is_counted(gated):
    """Against the weights themselves."""
    found = report(gated, passes=1)
    model = load_archive(gated).model
    state = model.state_dict()
    assert found["parameters"] == sum(value.numel() for _, value in model.named_parameters())
    # Words of the language models, words and characters of the tagger.
    embeddings = {
        name: value for name, value in state.items() if ".embedding.weight" in name or "tokens.weight" in name
    }
    assert len(embeddings) == 4
    assert found["embedding_bytes"] == 4 * sum(value.numel() for value in embeddings.values())
    size = sum(value.numel() * value.element_size() for value in state.values())
    assert found["total_bytes"] == size
    assert found["archive_bytes"] == os.path.getsize(gated)
    assert found["components"] == component_costs(model, 4.0).components
    assert found["multiply_adds"] == pytest.approx(sum(found["components"].values()))
    assert found["words_per_second"] > 0 and "not_measured" not in found and found["model"] == "LdnetTagger"


def test_layers_of_a_gated_and_a_pruned_tagger(gated, pruned):
    before, after = report(gated, passes=0)["layers"], report(pruned, passes=0)["layers"]
    assert before["forward"]["layers"] == [1, 2, 3, 4] and before["forward"]["unpruned"] == 4
    assert before["forward"]["gates"] == pytest.approx(GATES[:4])
    assert before["backward"]["gates"] == pytest.approx(GATES[4:])
    assert after["forward"]["layers"] == [1, 3] and after["forward"]["gates"] == pytest.approx([0.7, 1.0])
    assert after["backward"]["layers"] == [2] and after["backward"]["unpruned"] == 4
    assert {stack["output"] for stack in after.values()} == {"projection"}


def test_weights_that_are_shared_count_once(gated):
    archive = load_archive(gated)
    embedder = ldnet_embedder(archive.model)
    forward, backward = embedder.language_models.values()
    before = report_of(gated, archive, SENTENCES, 4.0, passes=0)
    backward.embedding.weight = forward.embedding.weight
    after = report_of(gated, archive, SENTENCES, 4.0, passes=0)
    for key in ("embedding_bytes", "total_bytes"):
        assert before[key] - after[key] == 4 * forward.embedding.weight.numel()


@pytest.mark.parametrize("direction, stacks", [("backward", 1), ("bidirectional", 2)])
def test_a_language_model(tmp_path, direction, stacks):
    path = language_model_archive(tmp_path / "lm", direction)
    found = report(path, passes=1)
    names = [direction] if stacks == 1 else ["forward", "backward"]
    assert list(found["layers"]) == names
    assert found["layers"][names[0]] == {
        "layers": [1, 2, 3, 4],
        "gates": [None] * 4,
        "unpruned": 4,
        "dense": True,
        "output": "output",
    }
    assert list(found["components"]) == [f"LM {name}" for name in names]
    assert found["words_per_second"] > 0 and len(found["not_counted"]) == 1


@pytest.mark.parametrize(
    "encoder, gates, dense",
    [
        ({"type": "layer_selection", "encoder": {"type": "ld_rnn"}}, [1.0, 1.0], True),
        ({"type": "ld_rnn"}, [None, None], True),
        ({"type": "stacked_rnn"}, [None, None], False),
    ],
)
def test_an_encoder_of_layers(encoder, gates, dense):
    """Layers that are no language model's stand under the encoder's name."""
    encoder.get("encoder", encoder).update(input_size=3, hidden_size=2, num_layers=2)
    config = {
        "type": "crf_tagger",
        "text_field_embedder": {"token_embedders": {"tokens": {"type": "embedding", "embedding_dim": 3}}},
        "encoder": encoder,
    }
    vocab = Vocabulary()
    vocab.add_token_to_namespace("O", "labels")
    model = Model.from_params(Params(config), vocab=vocab)
    assert list(layers_of(model)) == ["encoder: forward"]
    found = layers_of(model)["encoder: forward"]
    assert (found["layers"], found["gates"], found["dense"]) == ([1, 2], gates, dense)


def test_a_directory_and_one_without_an_archive(trained, tmp_path):
    archive = load_archive(str(trained))
    found = report_of(str(trained), archive, SENTENCES, 4.0, passes=0)
    assert found["archive_bytes"] == os.path.getsize(str(trained / "model.tar.gz"))
    assert found["words_per_second"] is None and found["not_measured"] == "not asked for"
    assert report_of(str(tmp_path), archive, SENTENCES, 4.0, passes=0)["archive_bytes"] is None


def test_a_model_that_cannot_be_run_is_reported_all_the_same(gated, monkeypatch):
    def fail(*args):
        raise ConfigurationError("its reader needs more")

    monkeypatch.setattr(model_report, "words_per_second", fail)
    found = report(gated)
    assert found["words_per_second"] is None and found["not_measured"] == "its reader needs more"
    assert found["multiply_adds"] > 0


def test_sentences_for(gated, language_models):
    for path in (gated, language_models.lm_forward):
        sentences = sentences_for(load_archive(path))
        words = [word for sentence in sentences for word in sentence]
        assert len(words) > 2000 and {"Zyxgloub-7"} < set(words) <= {"Zyxgloub-7", *WORDS}
