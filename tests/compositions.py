"""The configs of training_config/compose/, small enough for tests, and quick to learn."""

import json
import runpy
import shutil
from pathlib import Path
from typing import Any

import allennlp_models.generation
import allennlp_models.structured_prediction  # noqa: F401, both register what the configs name
import pytest
import torch
from allennlp.commands.train import train_model
from allennlp.common import Params
from allennlp.predictors import Predictor

from ldnet_allennlp.common import upstream_fixes  # noqa: F401, lets transformers load
from tests.resources import FIXTURES, ROOT
from tests.taggers import TRAIN, build_language_models

FOLDER = ROOT / "training_config" / "compose"
CONFIGS = sorted(path.stem for path in FOLDER.glob("*.jsonnet"))
UD = {split: FIXTURES / "composition" / f"en_tiny-ud-{split}.conllu" for split in ("train", "dev")}

# Small and quick to learn. What is validated on is the training data.
LEARNING = {"learning_rate": 0.03, "num_epochs": 40, "patience": None, "batch_size": 8, "test": None}
WORDS = {"min_count": 1, "word_dim": 12}
NER = {
    **LEARNING,
    "train": str(TRAIN),
    "dev": str(TRAIN),
    "num_epochs": 12,
    "dropout": 0.0,
    "word_hidden": 12,
}
LAYERS = {"hidden_size": 8, "num_layers": 2, "layer_dropout": 0.0, "dropout": 0.0}
SETTINGS: dict[str, dict[str, Any]] = {
    "pos_char_lstm": {
        **LEARNING,
        **WORDS,
        "train": str(UD["train"]),
        "dev": str(UD["train"]),
        "char_dim": 6,
        "char_hidden": 6,
        "word_hidden": 12,
    },
    "bilstm_crf": {**NER, **WORDS},
    "seq2seq": {
        **LEARNING,
        **LAYERS,
        "learning_rate": 0.02,
        "num_epochs": 30,
        "min_count": 1,
        "embedding_dim": 12,
        "beam_size": 2,
        "max_steps": 12,
    },
    "classifier": {**LEARNING, **WORDS, **LAYERS, "projection_dim": 8},
    "biaffine_parser": {
        **LEARNING,
        **WORDS,
        **LAYERS,
        "train": str(UD["train"]),
        "dev": str(UD["train"]),
        "char_dim": 4,
        "char_hidden": 4,
        "pos_dim": 4,
        "arc_dim": 16,
        "tag_dim": 8,
    },
    "transformer": {
        **NER,
        "num_epochs": 30,
        "learning_rate": 0.02,
        "projection_dim": 8,
        "transformer_dim": 32,
        "transformer_learning_rate": 0.004,
        "max_length": 64,
    },
    "crf_tagger": {**NER, **WORDS, "projection_dim": 8},
    "upstream_reader": {
        **LEARNING,
        **WORDS,
        **LAYERS,
        "char_dim": 4,
        "char_hidden": 4,
    },
}


def load(name: str, settings: dict[str, Any]) -> Params:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LDNET_SETTINGS", json.dumps(settings))
        return Params.from_file(str(FOLDER / f"{name}.jsonnet"))


def write_transformer(folder: Path) -> str:
    """A tiny BERT with random weights, whose word pieces are letters, and where it is."""
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder.mkdir()
    letters = [chr(code) for code in range(33, 127)]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    (folder / "pieces.txt").write_text("\n".join(pieces))
    BertTokenizerFast(str(folder / "pieces.txt"), do_lower_case=False).save_pretrained(str(folder))
    torch.manual_seed(7)
    config = BertConfig(
        vocab_size=len(pieces),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(str(folder))
    return str(folder)


class Workshop:
    """Trains each config once, when it is first asked for. The language models' archives are gone afterwards."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        script = runpy.run_path(str(ROOT / "benchmarks" / "composition_data.py"))
        self.counts = script["write_data"]({split: str(path) for split, path in UD.items()}, folder / "data")
        self.data = folder / "data"

    def settings(self, name: str) -> dict[str, Any]:
        made = {"seq2seq": "lemmas.train.tsv", "classifier": "genres.train.jsonl"}
        if name in made:
            path = str(self.data / made[name])
            return {**SETTINGS[name], "train": path, "dev": path}
        if name == "upstream_reader":
            path = self.folder / "conll2003.txt"
            path.write_text(four_columns())
            return {**SETTINGS[name], "train": str(path), "dev": str(path)}
        return SETTINGS[name]

    def run(self, name: str, label: str = "", **settings: Any) -> Path:
        folder = self.folder / (label or name)
        if not folder.exists():
            settings = {**self.settings(name), **settings}
            archives = self.folder / "language_models"
            if name in ("transformer", "crf_tagger"):
                settings.update(build_language_models(archives)._asdict())
            if name == "transformer":
                settings["transformer"] = write_transformer(self.folder / "bert")
            train_model(load(name, settings), str(folder))
            shutil.rmtree(archives, ignore_errors=True)
        return folder

    def archive(self, name: str, label: str = "", **settings: Any) -> str:
        return str(self.run(name, label, **settings) / "model.tar.gz")


def sentences_of(path: Path) -> list[list[list[str]]]:
    """The rows of each sentence of a column file."""
    blocks = path.read_text(encoding="utf-8").strip().split("\n\n")
    return [[row.split() for row in block.split("\n") if not row.startswith("#")] for block in blocks]


def four_columns() -> str:
    """The named entities of the fixtures as CoNLL-2003 has them, in IOB1, after a -DOCSTART-."""
    text = "-DOCSTART- -X- -X- O\n\n"
    for sentence in sentences_of(TRAIN):
        previous = "O"
        for word, tag in sentence:
            begins_beside = tag.startswith("B-") and previous[1:] == tag[1:]
            text += f"{word} NN I-NP {tag if begins_beside or tag == 'O' else 'I' + tag[1:]}\n"
            previous = tag
        text += "\n"
    return text


def predict(archive: str, inputs: list[dict[str, Any]], predictor: str | None = None) -> list[dict[str, Any]]:
    return Predictor.from_path(archive, predictor).predict_batch_json(inputs)
