"""Small trained-looking archives for tests."""

import math
from pathlib import Path
from typing import Any

import torch
from allennlp.common import Params
from allennlp.data import Vocabulary
from allennlp.models import Model

import ldnet_allennlp  # noqa: F401
from ldnet_allennlp.common.archives import write_archive

WORDS = ["<eos>", "the", "a", "of", "and", "to", "in", "python", "list", "class", "object", "value"]
WORDS += ["is", "returns", "if", "with", "for", "number", "name"]


def language_model_archive(
    folder: Path,
    direction: str = "forward",
    words: list[str] | None = None,
    seed: int = 0,
    num_layers: int = 4,
    hidden_size: int = 5,
    embedding_dim: int = 6,
    **contextualizer: Any,
) -> str:
    """Writes an untrained `adaptive_language_model` to `folder` and gives the archive's path."""
    folder.mkdir(parents=True, exist_ok=True)
    vocab = Vocabulary()
    vocab.add_tokens_to_namespace(WORDS if words is None else words, "tokens")
    bidirectional = direction == "bidirectional"
    config: dict[str, Any] = {
        "dataset_reader": {"type": "lm_stream"},
        "model": {
            "type": "adaptive_language_model",
            "text_field_embedder": {
                "token_embedders": {"tokens": {"type": "embedding", "embedding_dim": embedding_dim}}
            },
            "contextualizer": {
                "type": "ld_rnn",
                "input_size": embedding_dim,
                "hidden_size": hidden_size,
                "num_layers": num_layers,
                "layer_dropout": 0.5,
                "stateful": not bidirectional,
                "bidirectional": bidirectional,
                **contextualizer,
            },
            "cutoffs": [5, 12],
            "bidirectional": bidirectional,
            **({} if bidirectional else {"direction": direction}),
        },
    }
    torch.manual_seed(seed)
    model = Model.from_params(Params(config["model"]).duplicate(), vocab=vocab)
    scale_up(model)
    path = str(folder / "model.tar.gz")
    write_archive(path, model, config)
    return path


def scale_up(model: torch.nn.Module) -> None:
    """Makes the weights of the RNNs large enough that every layer matters for the outputs."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.RNNBase):
                for parameter in module.parameters():
                    parameter.uniform_(-2 / math.sqrt(5), 2 / math.sqrt(5))
