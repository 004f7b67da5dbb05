"""Small taggers for tests: from `fixtures/tagger/`, with language models that the tests build."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
from allennlp.common import Params
from allennlp.data import DatasetReader, Instance, Vocabulary
from allennlp.models import Model

from ldnet_allennlp.common.archives import write_archive
from ldnet_allennlp.modules.embedders.ldnet_embedder import LdnetEmbedder
from tests.builders import language_model_archive, scale_up
from tests.resources import FIXTURES

TAGGER = FIXTURES / "tagger"
TRAIN, DEV = TAGGER / "train.conll", TAGGER / "dev.conll"


class LanguageModels(NamedTuple):
    """The archives of two language models."""

    lm_forward: str
    lm_backward: str


class Tagger(NamedTuple):
    """A tagger that was built and not trained."""

    model: Model
    reader: DatasetReader
    instances: list[Instance]
    """The indexed training data."""
    config: dict[str, Any]

    @property
    def embedder(self) -> LdnetEmbedder:
        return ldnet_embedder(self.model)


def ldnet_embedder(model: Model) -> LdnetEmbedder:
    """The first "ldnet" token embedder of a model."""
    return next(module for module in model.modules() if isinstance(module, LdnetEmbedder))


def build_language_models(folder: Path, **options: Any) -> LanguageModels:
    """A forward and a backward one."""
    return LanguageModels(
        language_model_archive(folder / "forward", "forward", seed=1, **options),
        language_model_archive(folder / "backward", "backward", seed=2, **options),
    )


def settings_for(language_models: LanguageModels, **settings: Any) -> str:
    """`LDNET_SETTINGS` with absolute paths."""
    paths = {"train": str(TRAIN), "dev": str(DEV), **language_models._asdict()}
    return json.dumps({**paths, **settings})


def tagger_params(
    language_models: LanguageModels,
    config: str = "ner",
    overrides: dict[str, Any] | None = None,
    **settings: Any,
) -> Params:
    """The params of `fixtures/tagger/{config}.jsonnet`; `overrides` as on AllenNLP's command line."""
    return Params.from_file(
        str(TAGGER / f"{config}.jsonnet"),
        json.dumps(overrides or {}),
        {"LDNET_SETTINGS": settings_for(language_models, **settings)},
    )


def build_tagger(params: Params, seed: int = 5) -> Tagger:
    """Builds what a config describes, with RNN weights that make every layer count."""
    config = params.as_dict(quiet=True)
    reader = DatasetReader.from_params(params["dataset_reader"].duplicate())
    instances = list(reader.read(str(TRAIN)))
    vocab = Vocabulary.from_instances(instances)
    torch.manual_seed(seed)
    model = Model.from_params(params["model"].duplicate(), vocab=vocab)
    scale_up(model.encoder if hasattr(model, "encoder") else torch.nn.Module())
    for instance in instances:
        instance.index_fields(vocab)
    return Tagger(model.eval(), reader, instances, config)


def gated_archive(
    path: Path, language_models: LanguageModels, gates: list[float], config: str = "select", **options: Any
) -> str:
    """Writes the archive of a tagger whose gates, forward ones first, are set by hand."""
    tagger = build_tagger(tagger_params(language_models, config, **options))
    set_gates(tagger.embedder, gates)
    write_archive(str(path), tagger.model, tagger.config)
    return str(path)


def set_gates(embedder: LdnetEmbedder, values: list[float]) -> None:
    """Sets the gates of all language models together."""
    remaining = list(values)
    with torch.no_grad():
        for model in embedder.language_models.values():
            gates = model.selection.gates
            gates.copy_(torch.tensor(remaining[: len(gates)], dtype=gates.dtype))
            del remaining[: len(gates)]
    assert not remaining


def dev_instances(tagger_reader: DatasetReader) -> list[Instance]:
    """The development data."""
    return list(tagger_reader.read(str(DEV)))
