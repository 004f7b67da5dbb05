import copy
import re

import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.data import DatasetReader
from allennlp.modules.seq2seq_encoders import LstmSeq2SeqEncoder
from allennlp.modules.token_embedders import Embedding

from ldnet_allennlp.export import NotExportable, export_tagger
from ldnet_allennlp.export import graph as graph_module
from ldnet_allennlp.modules.rnn.ld_rnn import LdRnn
from tests.export.comparing import READER, SIZE, WORDS, build

LSTM = {"type": "lstm", "input_size": SIZE, "hidden_size": 5}


def refusal(model, reader, **options):
    with pytest.raises(NotExportable) as raised:
        export_tagger(model, reader, **options)
    assert isinstance(raised.value, ConfigurationError)
    return str(raised.value)


def reader_with(name, **indexer):
    changed = copy.deepcopy(READER)
    changed["token_indexers"][name].update(indexer)
    return changed


class DoublingLdRnn(LdRnn):
    def forward(self, *args, **kwargs):
        return 2 * super().forward(*args, **kwargs)


class ShiftedEmbedding(Embedding):
    def forward(self, tokens):
        return super().forward(tokens) + 1


class OtherLstm(torch.nn.LSTM):
    pass


def test_a_subclass_is_named_with_its_key():
    model, reader = build({"type": "ld_rnn", "input_size": SIZE, "hidden_size": 5, "num_layers": 1})
    model.encoder.__class__ = DoublingLdRnn
    message = refusal(model, reader)
    assert re.search(r"model\.encoder is a DoublingLdRnn, a subclass of LdRnn", message)


def test_a_subclass_deep_inside_is_named():
    model, reader = build(LSTM)
    model.text_field_embedder.token_embedder_token_characters._embedding._module.__class__ = ShiftedEmbedding
    assert (
        "model.text_field_embedder.token_embedders.token_characters.embedding is a ShiftedEmbedding"
        in refusal(model, reader)
    )
    model, reader = build(LSTM)
    model.encoder._module.__class__ = OtherLstm
    assert "model.encoder is a OtherLstm, a subclass of LSTM" in refusal(model, reader)


def test_an_encoder_in_a_composition_is_found_by_its_number():
    model, reader = build(
        {"type": "compose", "encoders": [{**LSTM, "hidden_size": 6}, LSTM | {"input_size": 6}]}
    )
    model.encoder.encoders[1].__class__ = type("OtherEncoder", (LstmSeq2SeqEncoder,), {})
    assert "model.encoder.encoders.1 is a OtherEncoder" in refusal(model, reader)


@pytest.mark.parametrize(
    "encoder, message",
    [
        (
            {
                "type": "pytorch_transformer",
                "input_dim": SIZE,
                "num_layers": 1,
                "feedforward_hidden_dim": 8,
                "num_attention_heads": 1,
            },
            "model.encoder is a PytorchTransformer: it cannot be exported. Exportable are: ComposeEncoder",
        ),
        ({**LSTM, "stateful": True}, "model.encoder is stateful"),
        ({**LSTM, "type": "alternating_lstm", "num_layers": 1}, "model.encoder is a StackedAlternatingLstm"),
    ],
)
def test_encoders(encoder, message):
    assert message in refusal(*build(encoder))


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("tokens", {"start_tokens": ["<s>"]}, "dataset_reader.token_indexers.tokens adds start_tokens"),
        (
            "token_characters",
            {"end_tokens": ["x"]},
            "token_indexers.token_characters adds start_tokens or end_tokens",
        ),
        (
            "token_characters",
            {"character_tokenizer": {"byte_encoding": "utf-16"}},
            "has the byte_encoding 'utf-16'",
        ),
    ],
)
def test_indexers(name, options, message):
    model, _ = build(LSTM)
    changed = DatasetReader.from_params(Params(reader_with(name, **options)))
    assert message in refusal(model, changed)


def test_an_indexer_that_reads_parts_of_speech():
    model, reader = build(LSTM)
    reader._token_indexers["tokens"]._feature_name = "tag_"
    assert "token_indexers.tokens reads tag_, not the words' text" in refusal(model, reader)


def test_another_activation():
    layers = {"input_dim": 5, "num_layers": 1, "hidden_dims": 6, "activations": "prelu"}
    assert "model.feedforward.activations is a PReLU" in refusal(*build(LSTM, feedforward=layers))


def test_an_embedding_with_a_maximal_norm():
    embedders = {
        "tokens": {"type": "embedding", "embedding_dim": WORDS, "max_norm": 1.0},
        "token_characters": {"type": "empty"},
    }
    model, reader = build({**LSTM, "input_size": WORDS}, text_field_embedder={"token_embedders": embedders})
    assert "token_embedders.tokens has a max_norm" in refusal(model, reader)


def test_an_end_position_that_is_appended():
    networks = {
        "type": "sentence_character_lstm",
        "embedding_dim": 3,
        "hidden_size": 5,
        "end_position": "append",
    }
    assert "has the end_position 'append'" in refusal(*build(LSTM, networks))


def test_other_models_and_readers():
    model, reader = build(LSTM)
    assert "dataset_reader is a MagicReader, a subclass of ConllColumnsReader" in refusal(
        model, type("MagicReader", (type(reader),), {})()
    )
    model.__class__ = type("BetterTagger", (type(model),), {})
    assert "model is a BetterTagger, a subclass of CrfTagger" in refusal(model, reader)


def test_a_model_that_is_too_large_for_a_file(monkeypatch):
    monkeypatch.setattr(graph_module, "_MAX_BYTES", 1000)
    assert "--int8-embeddings or --keep-words" in refusal(*build(LSTM))


def test_an_end_token_without_boundary_tags():
    model, reader = build(LSTM, reader={**READER, "end_token": "<eof>"})
    assert "dataset_reader.end_token and model.boundary_tags go together" in refusal(model, reader)


def test_transitions_that_are_no_numbers():
    model, reader = build(LSTM)
    model.crf.transitions.data[0, 0] = float("nan")
    assert "transitions has numbers that are not finite" in refusal(model, reader)
