import pytest
import torch
from allennlp.common.checks import ConfigurationError
from allennlp.models import Model
from allennlp.models.archival import load_archive

from ldnet_allennlp.commands.ldnet_prune import prune_archive
from ldnet_allennlp.common.archives import write_archive
from tests.builders import language_model_archive
from tests.taggers import build_tagger, gated_archive, tagger_params


def continued(language_models, archive, config="ner", **overrides):
    """A new tagger with the weights of `archive`, before its training."""
    initializer = {"regexes": [[".*", {"type": "continue_from", "archive_file": archive}]]}
    params = tagger_params(language_models, config, {"model.initializer": initializer, **overrides})
    return Model.from_params(params["model"], vocab=load_archive(archive).model.vocab)


@pytest.fixture
def archive(language_models, tmp_path):
    tagger = build_tagger(tagger_params(language_models))
    path = str(tmp_path / "model.tar.gz")
    write_archive(path, tagger.model, tagger.config)
    return path


def assert_equal_weights(first, second):
    first, second = first.state_dict(), second.state_dict()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_language_models_of_the_archive(language_models, archive):
    assert_equal_weights(continued(language_models, archive), load_archive(archive).model)


def test_without_their_archives_the_weights_come_from_the_tagger(language_models, archive):
    sources = {
        f"model.text_field_embedder.token_embedders.ldnet.{name}": {} for name in ("forward", "backward")
    }
    assert_equal_weights(continued(language_models, archive, **sources), load_archive(archive).model)


def test_other_language_models_of_the_same_size_are_refused(language_models, archive, tmp_path):
    """Without the check, the weights of the archive would replace those of the language models that were named."""
    forward = language_model_archive(tmp_path / "forward", "forward", seed=99)
    others = language_models._replace(lm_forward=forward)
    with pytest.raises(ConfigurationError, match=r"has other language models .*forward_lm.embedding.weight"):
        continued(others, archive)


def test_pruned_language_models_are_refused(language_models, tmp_path):
    """The first kept layer fits the unpruned first layer in size, but is another one."""
    gated = gated_archive(tmp_path / "gated.tar.gz", language_models, [0, 1, 1, 0, 1, 1, 0, 0])
    pruned = str(tmp_path / "pruned.tar.gz")
    prune_archive(gated, pruned)
    with pytest.raises(ConfigurationError, match=r"or they are pruned: .*forward_lm.selection"):
        continued(language_models, pruned)


def test_an_archive_of_another_kind_is_refused(language_models, archive):
    initializer = {"regexes": [[".*", {"type": "continue_from", "archive_file": language_models.lm_forward}]]}
    params = tagger_params(language_models, overrides={"model.initializer": initializer})
    with pytest.raises(ConfigurationError, match=r"takes a tagger.* AdaptiveLanguageModel"):
        Model.from_params(params["model"], vocab=load_archive(archive).model.vocab)
