"""Exported taggers beside the torch models they were made from."""

import copy
from typing import Any

import numpy
import onnxruntime
import torch
from allennlp.common import Params
from allennlp.data import Batch, DatasetReader, Vocabulary
from allennlp.models import Model

from ldnet_allennlp.common.verification import instance_of
from ldnet_allennlp.export import export_tagger
from ldnet_allennlp.models.ldnet_tagger import LdnetTagger
from ldnet_runtime.encoding import SentenceEncoder
from ldnet_runtime.model_file import check_model
from tests.builders import scale_up
from tests.taggers import TRAIN

# Unknown words and characters, a word longer than the others, sentences of one word.
SENTENCES = [
    ["of", "Zork", "Zork", "nämé", "with"],
    ["returns"],
    ["and", "returns", "if", "for", "a", "Zyxgloub-7", "python", ".", "x"],
    ["name", "of"],
    ["supercalifragilisticexpialidocious"],
]
WORDS, CHARACTERS, FILTERS = 6, 4, 5
READER = {
    "type": "conll_columns",
    "token_indexers": {
        "tokens": {"type": "single_id", "lowercase_tokens": True},
        "token_characters": {"type": "characters", "min_padding_length": 3},
    },
}
CNN = {"type": "cnn", "embedding_dim": CHARACTERS, "num_filters": FILTERS, "ngram_filter_sizes": [2, 3]}
SIZE = WORDS + 2 * FILTERS
"""Of the vectors that the encoder reads."""


def character_encoding(encoder: dict[str, Any]) -> dict[str, Any]:
    embedding = {"embedding_dim": CHARACTERS, "vocab_namespace": "token_characters"}
    return {"type": "character_encoding", "embedding": embedding, "encoder": encoder}


def build(
    encoder: dict[str, Any],
    characters: dict[str, Any] = character_encoding(CNN),  # noqa: B008, it is copied
    reader: dict[str, Any] = READER,
    **model: Any,
) -> tuple[Model, DatasetReader]:
    """A tagger with random weights that matter, and its reader."""
    config = {
        "type": "crf_tagger",
        "text_field_embedder": {
            "token_embedders": {
                "tokens": {"type": "embedding", "embedding_dim": WORDS},
                "token_characters": characters,
            }
        },
        "encoder": encoder,
        **model,
    }
    built_reader = DatasetReader.from_params(Params(copy.deepcopy(reader)))
    vocab = Vocabulary.from_instances(built_reader.read(str(TRAIN)))
    torch.manual_seed(3)
    built = Model.from_params(Params(copy.deepcopy(config)), vocab=vocab)
    scale_up(built)
    return built.eval(), built_reader


@torch.no_grad()
def torch_emissions(model: Any, reader: DatasetReader, sentences: list[list[str]]) -> numpy.ndarray:
    """The scores of the torch model, the end step included where there is one."""
    batch = Batch([instance_of(reader, words) for words in sentences])
    batch.index_instances(model.vocab)
    tensors = batch.as_tensor_dict()
    if type(model) is LdnetTagger:
        return model._emissions(tensors["tokens"])[0].numpy()
    return model(**tensors)["logits"].numpy()


def onnx_emissions(data: bytes, sentences: list[list[str]]) -> tuple[numpy.ndarray, numpy.ndarray]:
    """The scores of an exported tagger, and the lengths of the sentences with the end step."""
    encoder = SentenceEncoder(check_model(data))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    inputs = encoder.encode(sentences)
    return onnxruntime.InferenceSession(data, options).run(["emissions"], inputs)[0], inputs["lengths"]


def largest_difference(
    model: Model, reader: DatasetReader, sentences: list[list[str]] = SENTENCES, **options: Any
) -> float:
    """How far the scores of the exported tagger are from those of the model, for words of a ragged batch."""
    scores, lengths = onnx_emissions(export_tagger(model, reader, **options), sentences)
    truth = torch_emissions(model.eval(), reader, sentences)
    assert scores.shape == truth.shape
    is_word = numpy.arange(scores.shape[1]) < lengths[:, None]
    assert truth[is_word].std() > 0.01, "the scores must depend on the words for this to show anything"
    return float(numpy.abs(scores - truth)[is_word].max())
