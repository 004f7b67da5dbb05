"""Configs with misspelled keys and impossible sizes: `allennlp train` ends with a message that names them."""

import re

import pytest

from tests.bad_days.configs import language_model_config, tagger_config, write_config
from tests.command_lines import allennlp

TAGGER = [
    # Misspelled. AllenNLP finds these, except in the trainer, unless that is ours.
    ("modle", 1, "'modle'"),
    ("model.encodr", 1, "'encodr'"),
    ("model.encoder.hidden_siz", 3, "LdRnn: {'hidden_siz': 3}"),
    ("dataset_reader.lable_encoding", "BIO", "'lable_encoding'"),
    ("data_loader.batch_sise", 3, "'batch_sise'"),
    ("trainer.num_epoch", 3, "StrictTrainer: {'num_epoch': 3}"),
    ("trainer.optimizer.lrr", 3, "lrr"),
    # Impossible.
    ("model.encoder.hidden_size", 0, "hidden_size of .* is 0; expected 1 or more"),
    ("model.encoder.num_layers", -1, "num_layers .* at least 0 .*-1 was found"),
    ("model.encoder.layer_dropout", 1.5, "layer_dropout of .* is 1.5; expected a probability"),
    ("model.encoder.input_size", 5, "encoder input dim, but got 4 and 5"),
    ("model.top_k", 0, "top_k is 0"),
    ("model.label_encoding", "BIUOL", "BIUOL"),
    ("data_loader.batch_size", 0, "batch_size must be at least 1"),
    ("dataset_reader.target_label_encoding", "BIUOL", "target_label_encoding: .*'BIUOL', expected one of"),
    ("train_data_path", "nowhere.conll", "nowhere.conll: no such file"),
]
LANGUAGE_MODEL = [
    ("model.cutof", [2], "'cutof'"),
    ("data_loader.sequence_lenght", 3, "'sequence_lenght'"),
    ("model.contextualizer.input_size", 7, "vectors of size 7 .its input_size., but .* of size 4"),
    ("model.cutoffs", [], r"cutoffs .* \[\] was found"),
    ("model.cutoffs", [5, 2], r"cutoffs .* start at 1 or more and increase, but \[5, 2\]"),
    ("model.projection_dim", -1, "projection_dim of adaptive_language_model is -1; expected 1 or more"),
    ("model.tail_samples", 0, "tail_samples .* is 0; expected 1 or more"),
    (
        "model.direction",
        "backward",
        "direction .* is backward, but that of its lm_stream data loader is forward",
    ),
    ("data_loader.batch_size", 0, "batch_size of an lm_stream data loader is 0; expected 1 or more"),
    (
        "data_loader.sequence_length",
        -2,
        "sequence_length of an lm_stream data loader is -2; expected 1 or more",
    ),
    ("dataset_reader.end_of_sentence", "", "end_of_sentence of the lm_stream reader is one token"),
    (
        "vocabulary",
        {"max_vocab_size": {"tokens": 1}},
        "lacks the boundary token '<eos>'.*max_vocab_size",
    ),
]


def changed(config, path, value):
    *sections, key = path.split(".")
    section = config
    for name in sections:
        section = section[name]
    section[key] = value
    return config


@pytest.mark.parametrize(
    "config, path, value, told",
    [
        *((tagger_config, *case) for case in TAGGER),
        *((language_model_config, *case) for case in LANGUAGE_MODEL),
    ],
)
def test_the_key_is_named(tmp_path, config, path, value, told):
    file = write_config(tmp_path / "c.json", changed(config(), path, value))
    done = allennlp("train", file, "-s", tmp_path / "out", folder=tmp_path)
    assert done.status == 1
    assert re.search(told, done.message), done.message
    assert not (tmp_path / "out" / "model.tar.gz").exists()
