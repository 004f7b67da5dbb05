"""AllenNLP's token embedders, and this package's, as ONNX operators."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy
import torch
from allennlp.data import TokenIndexer
from allennlp.modules.seq2vec_encoders import (
    CnnEncoder,
    GruSeq2VecEncoder,
    LstmSeq2VecEncoder,
    RnnSeq2VecEncoder,
)
from allennlp.modules.text_field_embedders import BasicTextFieldEmbedder
from allennlp.modules.time_distributed import TimeDistributed
from allennlp.modules.token_embedders import Embedding, EmptyEmbedder, TokenCharactersEncoder

from ldnet_allennlp.export.checks import refusal, require, require_type
from ldnet_allennlp.export.graph import Graph
from ldnet_allennlp.export.inputs import Inputs
from ldnet_allennlp.export.language_models import ldnet
from ldnet_allennlp.export.layers import activation, highway, linear
from ldnet_allennlp.export.recurrent import Steps, run_rnn
from ldnet_allennlp.modules.characters.sentence_character_lstm import SentenceCharacterLstm
from ldnet_allennlp.modules.embedders.ldnet_embedder import LdnetEmbedder

_RNNS = (LstmSeq2VecEncoder, GruSeq2VecEncoder, RnnSeq2VecEncoder)
_LOWEST = numpy.finfo(numpy.float32).min


def embed(
    graph: Graph,
    inputs: Inputs,
    embedder: Any,
    indexers: Mapping[str, TokenIndexer],
    steps: Steps,
    key: str = "model.text_field_embedder",
) -> str:
    """The vectors of a `TextFieldEmbedder` for the words, shape (T, B, D). The indexers are the reader's."""
    require_type(embedder, key, BasicTextFieldEmbedder)
    parts = []
    for name in embedder._ordered_embedder_keys:
        part, place = getattr(embedder, f"token_embedder_{name}"), f"{key}.token_embedders.{name}"
        if type(part) is EmptyEmbedder:
            continue
        if type(part) not in _EMBEDDERS:
            raise refusal(part, place, tuple(_EMBEDDERS))
        require(name in indexers, place, "has no token indexer in the dataset_reader")
        parts.append(_EMBEDDERS[type(part)](graph, inputs, name, part, indexers[name], steps, place))
    require(bool(parts), key, "has no token embedder")
    return graph.concat(parts)


def _embedding(
    graph: Graph, inputs: Inputs, name: str, embedder: Any, indexer: TokenIndexer, steps: Steps, key: str
) -> str:
    words = inputs.words(name, indexer)
    return _look_up(graph, embedder, words.ids, words.size, words.rows, key)


def _look_up(graph: Graph, embedding: Any, ids: str, size: int, rows: Any, key: str) -> str:
    require_type(embedding, key, Embedding)
    require(embedding.max_norm is None, key, "has a max_norm, which cannot be exported")
    weight = embedding.weight.detach().cpu()[rows]
    require(len(weight) == size, key, f"has {len(embedding.weight)} vectors, fewer than there are words")
    vectors = graph.table(weight, ids)
    return vectors if embedding._projection is None else linear(graph, embedding._projection, vectors, key)


def _character_encoding(
    graph: Graph, inputs: Inputs, name: str, embedder: Any, indexer: TokenIndexer, steps: Steps, key: str
) -> str:
    encoder = embedder._encoder._module
    place = f"{key}.encoder"
    require_type(embedder._embedding, key, TimeDistributed)
    min_length = max(encoder._ngram_filter_sizes) if type(encoder) is CnnEncoder else 1
    words = inputs.word_characters(name, indexer, min_length)
    table, rows = embedder._embedding._module, slice(words.size)
    vectors = _look_up(graph, table, words.characters, words.size, rows, f"{key}.embedding")  # (U, C, E)
    if type(encoder) is CnnEncoder:
        encoded = _convolutions(graph, encoder, vectors, words.lengths, place)
    elif type(encoder) in _RNNS:
        steps_of_words, vectors = Steps.of(graph, words.lengths), graph.transpose(vectors, 1, 0, 2)
        _, final = run_rnn(graph, encoder._module, vectors, steps_of_words, place)  # (directions, U, H)
        encoded = graph.reshape(graph.transpose(final, 1, 0, 2), 0, encoder.get_output_dim())
    else:
        raise refusal(encoder, place, (CnnEncoder, *_RNNS))
    return graph.node("Gather", encoded, words.rows, axis=0)


def _convolutions(graph: Graph, encoder: CnnEncoder, vectors: str, lengths: str, key: str) -> str:
    """A `CnnEncoder`: for each filter, the largest activation over a word's characters, without padding."""
    channels = graph.transpose(vectors, 0, 2, 1)  # (U, E, C)
    pooled = []
    for number, size in enumerate(encoder._ngram_filter_sizes):
        layer = getattr(encoder, f"conv_layer_{number}")
        require_type(layer, key, torch.nn.Conv1d)
        weights = [graph.constant(part) for part in (layer.weight, layer.bias) if part is not None]
        convolved = graph.node("Conv", channels, *weights, kernel_shape=[size])  # (U, filters, places)
        activations = activation(graph, encoder._activation, convolved, f"{key}.conv_layer_activation")
        places = graph.reshape(graph.positions(activations, 2), 1, 1, -1)
        ends = graph.reshape(graph.node("Sub", lengths, graph.integers(size - 1)), -1, 1, 1)  # (U, 1, 1)
        inside = graph.node("Less", places, ends)  # (U, 1, places)
        kept = graph.node("Where", inside, activations, graph.constant(_LOWEST))
        largest = graph.node("ReduceMax", kept, axes=[2], keepdims=0)  # (U, filters)
        has_place = graph.node("Less", graph.integers(0), graph.reshape(ends, -1, 1))  # (U, 1)
        pooled.append(graph.node("Where", has_place, largest, graph.constant(0.0)))
    encoded = graph.concat(pooled)
    layer = encoder.projection_layer
    return encoded if layer is None else linear(graph, layer, encoded, key)


def _sentence_characters(
    graph: Graph, inputs: Inputs, name: str, embedder: Any, indexer: TokenIndexer, steps: Steps, key: str
) -> str:
    is_appended = embedder.end_position == "append"
    require(not is_appended, key, "has the end_position 'append', which adds a step without a word")
    stream = inputs.character_stream(name, indexer, embedder.end_position)
    require_type(embedder.embedding, key, Embedding)
    weight = embedder.embedding.weight[: stream.size]
    require(len(weight) == stream.size, key, f"has {len(weight)} character vectors, fewer than characters")
    # The codes of the space and of the marker are 0 and 1.
    table = torch.cat([embedder.boundary_embeddings, weight]).detach().cpu()
    vectors = graph.table(table, stream.codes)  # (S, B, E)
    stream_steps = Steps.of(graph, stream.lengths)
    states = []
    for rnn, places, reverse in (
        (embedder.forward_rnn, stream.forward, False),
        (embedder.backward_rnn, stream.backward, True),
    ):
        outputs, _ = run_rnn(graph, rnn, vectors, stream_steps, key, reverse)
        flat = graph.reshape(outputs, -1, embedder.hidden_size)  # (S * B, H)
        states.append(graph.node("Gather", flat, places, axis=0))  # (T, B, H); the last one at -1
    encoded = graph.concat(states)
    if embedder.highway is not None:
        encoded = highway(graph, embedder.highway, encoded, key)
    if embedder.projection is not None:
        encoded = linear(graph, embedder.projection, encoded, key)
    is_empty = graph.node("Less", stream.forward, graph.integers(0))  # (T, B)
    is_empty = graph.node("Unsqueeze", is_empty, graph.integers(2))
    return graph.node("Where", is_empty, graph.constant(0.0), encoded)


_Build = Callable[[Graph, Inputs, str, Any, TokenIndexer, Steps, str], str]
_EMBEDDERS: dict[type, _Build] = {
    Embedding: _embedding,
    TokenCharactersEncoder: _character_encoding,
    SentenceCharacterLstm: _sentence_characters,
    LdnetEmbedder: ldnet,
}
