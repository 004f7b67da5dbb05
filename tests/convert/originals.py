"""The original's files among the reference vectors, and the original's way of padding."""

import json
from typing import Any, NamedTuple

import numpy
import torch
from allennlp.common import Params
from allennlp.data import Batch, DatasetReader, Instance
from allennlp.models import Model

from ldnet_allennlp.convert.original_files import Checkpoint
from ldnet_allennlp.convert.taggers import convert_tagger
from ldnet_allennlp.convert.weights import Converted
from ldnet_allennlp.data.conll.reader import ConllColumnsReader
from ldnet_allennlp.models.ldnet_tagger import LdnetTagger
from tests.resources import REFERENCE

CHECKPOINTS = REFERENCE / "i_checkpoints"
DATASET = str(CHECKPOINTS / "data" / "ner_dataset.pk")
TAGGERS = {
    "ner": DATASET,
    "ner_vanilla": DATASET,
    "ner_basiclm": DATASET,
    "ner_elmo": DATASET,
    "pner0": None,
    "pner0_fraction": None,
    "pner0_fzero": None,
}
LANGUAGE_MODELS = {"ld0": "forward", "ld_0": "backward", "basic0": "forward", "basic_0": "backward"}


def words_of_language_model(direction: str) -> str:
    return str(CHECKPOINTS / "data" / ("fwd" if direction == "forward" else "bwd") / "test.pk")


def expected(name: str) -> Any:
    with open(CHECKPOINTS / name, encoding="utf-8") as file:
        return json.load(file)


def convert_weights(weights: dict[str, torch.Tensor], **options: Any) -> Converted:
    """Converts a bare state dict of a tagger, with the maps of the reference corpus."""
    return convert_tagger(Checkpoint("weights", dict(weights), {}, {}), DATASET, options)


def reader_of(converted: Converted) -> ConllColumnsReader:
    return DatasetReader.from_params(Params(converted.config["dataset_reader"]).duplicate())


def sentences(split: str = "train") -> list[list[tuple[str, str]]]:
    return [
        [(word, tag) for word, tag in sentence]
        for sentence in expected("expected_predictions.json")["sentences"][split]
    ]


def instance_of(reader: ConllColumnsReader, sentence: list[tuple[str, str]]) -> Instance:
    instance = reader.text_to_instance([word for word, _ in sentence], [tag for _, tag in sentence])
    reader.apply_token_indexers(instance)
    return instance


def tensors_of(model: Model, instances: list[Instance]) -> dict[str, Any]:
    batch = Batch(instances)
    batch.index_instances(model.vocab)
    return batch.as_tensor_dict()


class Padded(NamedTuple):
    """What the original computes for a batch, padded steps included."""

    characters: torch.Tensor
    """(B, T, size)"""
    layers: dict[str, torch.Tensor]
    """Of each direction, (B, T, size)"""
    projected_layers: torch.Tensor
    """(B, T, size)"""
    encoded: torch.Tensor
    """(B, T, size)"""
    emissions: torch.Tensor
    """(B, T, number of tags)"""


def with_original_padding(model: LdnetTagger, batch: dict[str, Any]) -> Padded:
    """
    Runs the parts of a converted tagger as the original runs its own on a padded batch: it reads end
    tokens after the end of a sentence, and its BiLSTM reads them, too.
    """
    tokens = batch["tokens"]
    word_ids = tokens["tokens"]["tokens"]
    lengths = (word_ids > 0).sum(dim=1)  # end steps included
    steps = torch.arange(word_ids.size(1))
    last = torch.minimum(steps, (lengths - 1).unsqueeze(1))  # (B, T): padding repeats the end step
    parts = model.text_field_embedder._token_embedders

    characters = parts["token_characters"](tokens["token_characters"]["token_characters"])
    characters = characters.gather(1, last.unsqueeze(2).expand_as(characters))
    features = {"token_characters": characters, "tokens": parts["tokens"](word_ids.gather(1, last))}
    layers: dict[str, torch.Tensor] = {}
    if "ldnet" in parts:
        layers = {
            "forward": _forward_layers(parts["ldnet"], tokens["ldnet"]["token_ids"], last),
            "backward": _backward_layers(parts["ldnet"], tokens["ldnet"]["backward_token_ids"], lengths),
        }
        joined = torch.cat([layers["forward"], layers["backward"]], dim=2)
        features["ldnet"] = torch.relu(parts["ldnet"].projection(joined))
    inputs = torch.cat([features[name] for name in sorted(features)], dim=2)
    encoded, _ = model.encoder._module(inputs)
    return Padded(
        characters, layers, features.get("ldnet", characters), encoded, model.tag_projection_layer(encoded)
    )


def _forward_layers(embedder: torch.nn.Module, ids: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
    part = embedder.language_models["forward_lm"]
    return part.selection(part.embedding(ids.gather(1, last)))


def _backward_layers(embedder: torch.nn.Module, ids: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """The original reads the end token, the words backwards, end tokens; padding is read at its own step."""
    part = embedder.language_models["backward_lm"]
    rows = []
    for row, length in zip(ids, lengths.tolist()):
        end = row[length - 1]
        read = torch.cat([row[:length].flip(0), end.repeat(row.numel() - length)])
        outputs = part.selection(part.embedding(read.unsqueeze(0)))[0]
        rows.append(torch.cat([outputs[:length].flip(0), outputs[length:]]))
    return torch.stack(rows)


def time_first(array: numpy.ndarray) -> torch.Tensor:
    """A reference array (T, B, ...) as a tensor (B, T, ...)."""
    return torch.as_tensor(array).transpose(0, 1)
