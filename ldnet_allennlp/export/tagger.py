"""Export a whole tagger as one ONNX file."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy
import torch
from allennlp.data import DatasetReader
from allennlp.data.dataset_readers import SequenceTaggingDatasetReader
from allennlp.models import Model
from allennlp.models.simple_tagger import SimpleTagger
from allennlp.modules.conditional_random_field import (
    ConditionalRandomField,
    ConditionalRandomFieldWeightEmission,
    ConditionalRandomFieldWeightLannoy,
    ConditionalRandomFieldWeightTrans,
)
from allennlp.modules.time_distributed import TimeDistributed
from allennlp_models.tagging.dataset_readers import Conll2003DatasetReader
from allennlp_models.tagging.models.crf_tagger import CrfTagger

from ldnet_allennlp.data.annotated.reader import AnnotatedJsonlReader
from ldnet_allennlp.data.conll.reader import ConllColumnsReader
from ldnet_allennlp.data.language_model_vocabulary import words_of
from ldnet_allennlp.export.checks import NotExportable, require, require_type
from ldnet_allennlp.export.embedders import embed
from ldnet_allennlp.export.encoders import encode
from ldnet_allennlp.export.graph import Graph
from ldnet_allennlp.export.inputs import Inputs
from ldnet_allennlp.export.layers import feedforward, linear
from ldnet_allennlp.export.recurrent import Steps
from ldnet_allennlp.models.ldnet_tagger import LdnetTagger
from ldnet_allennlp.models.tag_decoding import label_encoding_of
from ldnet_allennlp.models.tie_or_break_tagger import TieOrBreakTagger
from ldnet_runtime.errors import ModelFileError
from ldnet_runtime.model_file import METADATA_KEY, TaggerDescription, to_json
from ldnet_runtime.model_file.description import TIE_OR_BREAK

TAGGERS = (LdnetTagger, TieOrBreakTagger, CrfTagger, SimpleTagger)
READERS = (ConllColumnsReader, AnnotatedJsonlReader, Conll2003DatasetReader, SequenceTaggingDatasetReader)
_CRFS = (
    ConditionalRandomField,
    ConditionalRandomFieldWeightEmission,
    ConditionalRandomFieldWeightLannoy,
    ConditionalRandomFieldWeightTrans,
)


def export_tagger(
    model: Model,
    reader: DatasetReader,
    *,
    int8: bool = False,
    int8_embeddings: bool = False,
    keep_words: Collection[str] | None = None,
    provenance: Mapping[str, str] | None = None,
) -> bytes:
    """
    Export a tagger as an ONNX file for `ldnet_runtime`: the graph up to the label scores, the weights, and metadata for
    word lookup and decoding.

    # Parameters

    model : `Model`
        An `LdnetTagger`, a `TieOrBreakTagger`, or allennlp-models' `CrfTagger` or `SimpleTagger`.
    reader : `DatasetReader`
        Its reader, whose token indexers define the word lookup.
    int8 : `bool`, optional (default = `False`)
        Whether to quantize LSTM weights to 8 bits, with one scale per row. Their inputs are rounded to 8 bits, too.
    int8_embeddings : `bool`, optional (default = `False`)
        Whether to store embeddings in 8 bits, with one scale per word. By default they have the model's precision.
    keep_words : `Collection[str]`, optional
        The words that keep their vectors. All others become the unknown word.
    provenance : `Mapping[str, str]`, optional
        Facts about the tagger's origin, stored in the file.

    # Returns

    `bytes`

    Raises `NotExportable` with the config key of the part that cannot be exported.
    """
    require_type(model, "model", *TAGGERS)
    require_type(reader, "dataset_reader", *READERS)
    graph = Graph(int8=int8, int8_embeddings=int8_embeddings)
    inputs = Inputs(graph, model.vocab, None if keep_words is None else set(keep_words))
    scores = _emissions(graph, inputs, model, reader)
    try:
        description = _describe(model, reader, inputs, dict(provenance or {}))
    except ModelFileError as error:
        raise NotExportable(f"The model cannot be exported: {error}.") from error
    return graph.serialize(scores, {METADATA_KEY: to_json(description)})


def _emissions(graph: Graph, inputs: Inputs, model: Any, reader: Any) -> str:
    """The scores of the words, shape (B, T, N)."""
    steps = Steps.of(graph, graph.input("lengths", "batch"))
    vectors = embed(graph, inputs, model.text_field_embedder, reader._token_indexers, steps)
    encoded = encode(graph, model.encoder, vectors, steps, "model.encoder")
    layers = getattr(model, "_feedforward", None)
    if layers is not None:
        encoded = feedforward(graph, layers, encoded, "model.feedforward")
    require_type(model.tag_projection_layer, "model", TimeDistributed)
    scores = linear(graph, model.tag_projection_layer._module, encoded, "model.tag_projection_layer")
    return graph.transpose(scores, 1, 0, 2)


def _describe(model: Any, reader: Any, inputs: Inputs, provenance: dict[str, str]) -> TaggerDescription:
    labels = words_of(model.vocab, model.label_namespace)
    (transitions, start, end), allowed = _transitions(model, len(labels))
    tokenizer, end_token = getattr(reader, "tokenizer", None), getattr(reader, "end_token", None)
    boundary_ids = _boundary_ids(model, labels)
    require(
        (end_token is None) is (boundary_ids is None),
        "dataset_reader.end_token",
        "and model.boundary_tags go together, but one of them is missing",
    )
    return TaggerDescription(
        vocabularies=inputs.vocabularies,
        inputs=inputs.descriptions,
        labels=labels,
        label_encoding=label_encoding_of(model),
        transitions=transitions,
        start=start,
        end=end,
        allowed=None if bool(allowed.all()) else allowed,
        end_token=end_token,
        boundary_tags=boundary_ids,
        decoder=_decoder(model),
        mode=getattr(tokenizer, "mode", "whitespace"),
        language=getattr(tokenizer, "language", "en"),
        provenance=provenance,
    )


def _decoder(model: Any) -> str:
    if type(model) is TieOrBreakTagger:
        return TIE_OR_BREAK
    is_softmax = type(model) is SimpleTagger or getattr(model, "loss", None) == "softmax"
    return "softmax" if is_softmax else "crf"


def _boundary_ids(model: Any, labels: list[str]) -> tuple[int, int] | None:
    tags = getattr(model, "boundary_tags", [])
    return (labels.index(tags[0]), labels.index(tags[1])) if tags else None


_Scores = tuple[numpy.ndarray, numpy.ndarray, numpy.ndarray]


def _transitions(model: Any, num_labels: int) -> tuple[_Scores, numpy.ndarray]:
    """The scores of transitions, start and end, without constraints, and the allowed transitions (N + 2, N + 2)."""
    nothing = torch.zeros(num_labels)
    scores: list[torch.Tensor] = [torch.zeros(num_labels, num_labels), nothing, nothing]
    allowed = torch.ones(num_labels + 2, num_labels + 2)
    if type(model) is LdnetTagger:
        scores, allowed = list(model.crf.scores()), model.crf.constraint_matrix()
    elif type(model) is CrfTagger:
        require_type(model.crf, "model.crf", *_CRFS)
        scores[0], allowed = model.crf.transitions, model.crf._constraint_mask
        if model.crf.include_start_end_transitions:
            scores[1:] = [model.crf.start_transitions, model.crf.end_transitions]
    transitions, start, end = (part.detach().cpu().float().numpy() for part in scores)
    return (transitions, start, end), allowed.detach().cpu().numpy() > 0
