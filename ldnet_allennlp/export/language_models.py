"""The "ldnet" token embedder (frozen language models) as ONNX operators."""

from functools import reduce
from typing import Any

import numpy
import torch
from allennlp.data import TokenIndexer
from allennlp.modules import ScalarMix

from ldnet_allennlp.export.checks import require, require_type
from ldnet_allennlp.export.dense import Vectors, run_ld_rnn, run_plain_stack
from ldnet_allennlp.export.graph import Graph
from ldnet_allennlp.export.inputs import Inputs
from ldnet_allennlp.export.layers import activation
from ldnet_allennlp.export.recurrent import Steps
from ldnet_allennlp.modules.rnn.ld_rnn import LdRnn
from ldnet_allennlp.modules.rnn.stacked_rnn import StackedLayers, StackedRnn
from ldnet_allennlp.modules.selection.layer_selection import LayerSelection


def ldnet(
    graph: Graph, inputs: Inputs, name: str, embedder: Any, indexer: TokenIndexer, steps: Steps, key: str
) -> str:
    """
    The vectors of an `LdnetEmbedder`, shape (T, B, D).

    The sentence boundary, which a language model reads first, is the same for all sentences. So the graph omits it, and
    the layers start from the states after it.
    """
    projection = embedder.projection
    if projection is not None:
        require_type(projection, key, torch.nn.Linear)
    languages = []
    for model in embedder.language_models.values():
        words = inputs.language_model_words(name, indexer, model.direction == "backward")
        weight = model.embedding.weight.detach().cpu()
        require(
            len(weight) >= words.size, key, f"has {len(weight)} vectors, fewer than the vocabulary has words"
        )
        require(not bool(torch.isnan(weight[0]).any()), key, "has language models without weights")
        boundary = None if model.boundary_id is None else weight[model.boundary_id].float()
        embedded = graph.table(weight[words.rows], words.ids)  # (T, B, E)
        place = f"{key}.{model.direction}"
        languages.append(_layers(graph, model, embedded, steps, boundary, projection is not None, place))
    vectors = reduce(Vectors.beside, languages)
    if projection is None:
        return vectors.joined(graph)
    weight = vectors.weight(projection.weight.detach().cpu().float().numpy())
    projected = graph.linear(graph.concat(vectors.parts), weight, projection.bias)
    return activation(graph, embedder.activation, projected, f"{key}.activation")


def _layers(
    graph: Graph, model: Any, embedded: str, steps: Steps, boundary: Any, is_projected: bool, key: str
) -> Vectors:
    """The word vectors and layers of one language model for each word."""
    selection = model.selection
    require_type(selection, key, LayerSelection, StackedLayers)
    encoder = selection.encoder
    require_type(encoder, f"{key}.contextualizer", LdRnn, StackedRnn)
    backward = model.direction == "backward"
    if type(selection) is LayerSelection:
        gates = [gates.tolist() for gates in selection.direction_gates()]
        return run_ld_rnn(graph, encoder, gates, embedded, steps, key, backward, boundary, is_projected)
    outputs = run_plain_stack(graph, encoder.layers, embedded, steps, key, backward, boundary)
    output = outputs[-1]
    if selection.mixture is not None:
        output = _mixture(graph, selection.mixture, outputs, key)
    return Vectors.of(output, encoder.hidden_size)


def _mixture(graph: Graph, mixture: ScalarMix, layers: list[str], key: str) -> str:
    """gamma * sum_l softmax(w)_l h_l."""
    require_type(mixture, key, ScalarMix)
    require(not mixture.do_layer_norm, key, "has a mixture with layer normalization")
    weights = torch.softmax(torch.cat(list(mixture.scalar_parameters)), dim=0) * mixture.gamma
    total = ""
    for layer, weight in zip(layers, weights.tolist()):
        scaled = graph.node("Mul", layer, graph.constant(numpy.float32(weight)))
        total = graph.node("Add", total, scaled) if total else scaled
    return total
