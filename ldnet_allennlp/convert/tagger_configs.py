"""Configs of converted taggers."""

from typing import Any

from ldnet_allennlp.convert.original_files import END_TAG, START_TAG, number_of


def tagger_config(
    embedders: dict[str, Any],
    encoder: dict[str, Any],
    end_token: str,
    encoding: str | None,
    dropout: float,
    options: dict[str, Any],
) -> dict[str, Any]:
    """The `config.json` of a converted tagger, with the known options of its training."""
    indexers: dict[str, Any] = {
        "tokens": {"type": "single_id", "lowercase_tokens": True},
        "token_characters": {"type": "characters", "min_padding_length": 1},
    }
    if "ldnet" in embedders:
        indexers["ldnet"] = {"type": "ldnet"}
    reader: dict[str, Any] = {"type": "conll_columns", "end_token": end_token, "token_indexers": indexers}
    if encoding is not None:
        reader.update(label_encoding="auto", target_label_encoding=encoding)
    else:
        reader["label_encoding"] = None
    batch_size = int(number_of(options, "batch_size", 10)) or 1
    return {
        "dataset_reader": reader,
        "model": {
            "type": "ldnet_tagger",
            "text_field_embedder": {"token_embedders": embedders},
            "encoder": {**encoder, "dropout": dropout} if encoder["num_layers"] > 1 else encoder,
            "dropout": dropout,
            "label_encoding": encoding,
            # The original decodes without constraints.
            "constrain_crf_decoding": False,
            "boundary_tags": [START_TAG, END_TAG],
        },
        "data_loader": {
            "batch_sampler": {"type": "bucket", "batch_size": batch_size, "sorting_keys": ["tokens"]}
        },
        "trainer": {
            "optimizer": {"type": "sgd", "lr": number_of(options, "lr", 0.015), "momentum": 0.9},
            "learning_rate_scheduler": {
                "type": "inverse_time",
                "decay": number_of(options, "lr_decay", 0.05),
            },
            "grad_norm": number_of(options, "clip", 5),
        },
    }


def notes_on(embedders: dict[str, Any], has_options: bool) -> list[str]:
    """Notes for the user on a converted tagger, in sentences."""
    kind = "A tagger without language models"
    if "ldnet" in embedders:
        forward, backward = embedders["ldnet"]["forward"], embedders["ldnet"]["backward"]
        counts = [source["contextualizer"]["num_layers"] for source in (forward, backward)]
        mixed = ", mixed as ELMo does" if forward.get("mixture") else ""
        kind = f"A tagger with language models of {counts[0]} and {counts[1]} layers{mixed}"
    notes = [kind + "."]
    if not has_options:
        notes.append(
            "The options of its training are unknown, so its config has no dropout: set it before training further."
        )
    return notes
