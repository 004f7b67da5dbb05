"""
Fixtures that several test modules share; each is built once a session.

Imports stand inside them: tests that need no AllenNLP should not wait for it.
"""

import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def language_models(tmp_path_factory):
    """`LanguageModels`: a forward and a backward one with the same words, 4 layers of 5 each."""
    from tests.taggers import build_language_models

    return build_language_models(tmp_path_factory.mktemp("language_models"))


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Path:
    """The directory of a trained tagger of training_config/ner.libsonnet, whose language models are gone."""
    from allennlp.commands.train import train_model

    from tests.taggers import build_language_models, tagger_params

    folder = tmp_path_factory.mktemp("trained")
    archives = build_language_models(folder / "language_models")
    train_model(tagger_params(archives), str(folder / "ner"))
    shutil.rmtree(folder / "language_models")
    return folder / "ner"
