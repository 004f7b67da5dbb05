"""Configs that train in a moment, as files for `allennlp train`."""

import json
from pathlib import Path
from typing import Any

from tests.resources import FIXTURES
from tests.taggers import DEV, TRAIN


def tagger_config(train: Any = TRAIN, dev: Any = DEV) -> dict[str, Any]:
    """A tagger of words alone."""
    return {
        "dataset_reader": {"type": "conll_columns", "target_label_encoding": "BIOUL"},
        "train_data_path": str(train),
        "validation_data_path": str(dev),
        "model": {
            "type": "ldnet_tagger",
            "label_encoding": "BIOUL",
            "text_field_embedder": {"token_embedders": {"tokens": {"type": "embedding", "embedding_dim": 4}}},
            "encoder": {
                "type": "ld_rnn",
                "input_size": 4,
                "hidden_size": 3,
                "num_layers": 2,
                "bidirectional": True,
            },
        },
        "data_loader": {"batch_size": 8, "shuffle": True},
        "trainer": {
            "type": "strict_gradient_descent",
            "optimizer": {"type": "sgd", "lr": 0.1},
            "num_epochs": 2,
            "cuda_device": -1,
        },
    }


def language_model_config(train: Any = None, valid: Any = None, **loader: Any) -> dict[str, Any]:
    """A forward language model on a stream of text."""
    texts = FIXTURES / "lm"
    return {
        "dataset_reader": {"type": "lm_stream"},
        "train_data_path": str(train or texts / "train.txt"),
        "validation_data_path": str(valid or texts / "valid.txt"),
        "datasets_for_vocab_creation": ["train"],
        "model": {
            "type": "adaptive_language_model",
            "text_field_embedder": {"token_embedders": {"tokens": {"type": "embedding", "embedding_dim": 4}}},
            "contextualizer": {
                "type": "ld_rnn",
                "input_size": 4,
                "hidden_size": 3,
                "num_layers": 2,
                "stateful": True,
            },
            "cutoffs": [2],
        },
        "data_loader": {"type": "lm_stream", "batch_size": 4, "sequence_length": 16, **loader},
        "trainer": {
            "type": "strict_gradient_descent",
            "optimizer": {"type": "adam", "lr": 0.01},
            "num_epochs": 1,
            "checkpointer": {"type": "lm_stream"},
            "cuda_device": -1,
        },
    }


def write_config(path: Path, config: dict[str, Any]) -> Path:
    """Writes a config to a file, and gives the file."""
    path.write_text(json.dumps(config))
    return path
