"""Small language models for tests, from random or from the original's parameters."""

from typing import Any

import torch
from allennlp.data import Vocabulary
from allennlp.modules.text_field_embedders import BasicTextFieldEmbedder
from allennlp.modules.token_embedders import Embedding
from allennlp.nn import Activation

from ldnet_allennlp.models.adaptive_language_model import AdaptiveLanguageModel
from ldnet_allennlp.modules.rnn.ld_rnn import LdRnn
from tests.modules.rnn.reference_encoder import build_encoder


def vocabulary(num_words: int) -> Vocabulary:
    """`num_words` ids from 1 on, the unknown token's included; 0 is the padding."""
    vocab = Vocabulary()
    vocab.add_tokens_to_namespace([f"w{number}" for number in range(2, num_words + 1)])
    return vocab


def make_model(
    num_words: int = 30,
    seed: int = 5,
    contextualizer: torch.nn.Module | None = None,
    bidirectional: bool = False,
    stateful: bool = False,
    vocab: Vocabulary | None = None,
    large_weights: bool = True,
    **options: Any,
) -> AdaptiveLanguageModel:
    """A float64 model in evaluation mode whose layers all matter for the outcome."""
    torch.manual_seed(seed)
    vocab = vocab or vocabulary(num_words)
    model = AdaptiveLanguageModel(
        vocab,
        BasicTextFieldEmbedder({"tokens": Embedding(4, vocab.get_vocab_size())}),
        contextualizer or LdRnn(4, 3, 2, bidirectional=bidirectional, stateful=stateful),
        bidirectional=bidirectional,
        **{"cutoffs": [6, 15], **options},
    ).double()
    for parameter in model.parameters() if large_weights else ():
        torch.nn.init.uniform_(parameter, -0.8, 0.8)
    return model.eval()


def original_model(
    parameters: dict[str, torch.Tensor], cutoffs: list[int], relu: bool, dtype: torch.dtype = torch.float64
) -> AdaptiveLanguageModel:
    """
    The original's `LM`, stateful. Its word w has the id w + 1 here: 0 is the padding. Where its softmax has one
    class more than it has words (as `train_lm.py` makes it), so have we, under the name of a last word.
    """
    num_words, dim = cutoffs[-1], parameters["word_embed.weight"].size(1)
    projection = parameters.get("project.weight")
    model = AdaptiveLanguageModel(
        vocabulary(num_words),
        BasicTextFieldEmbedder({"tokens": Embedding(dim, num_words + 1)}),
        build_encoder(parameters, stateful=True),
        cutoffs=cutoffs,
        projection_dim=None if projection is None else projection.size(0),
        projection_activation=Activation.by_name("relu")() if relu else None,
    ).to(dtype)
    names = {name: value for name, value in original_names(model).items() if name in parameters}
    with torch.no_grad():
        for name, ours in names.items():
            ours.zero_()
            ours[: len(parameters[name])] = parameters[name]
    return model.eval()


def original_names(model: AdaptiveLanguageModel) -> dict[str, torch.Tensor]:
    """The model's parameters under the original's names, the word vectors without the padding's."""
    renamed = {"word_embed.weight": model._text_field_embedder.token_embedder_tokens.weight[1:]}
    for name, parameter in model._softmax_loss.named_parameters():
        renamed[f"soft_max.{name}"] = parameter
    if model._projection is not None:
        renamed["project.weight"], renamed["project.bias"] = model._projection.weight, model._projection.bias
    for number, layer in enumerate(model._contextualizer.stacks[0].layers):
        for name, parameter in layer.named_parameters():
            renamed[f"rnn.layer.{number}.layer.{name}"] = parameter
    return renamed


def source_of(ids: torch.Tensor) -> dict[str, dict[str, torch.Tensor]]:
    """`TextFieldTensors` of (B, T) ids."""
    return {"tokens": {"tokens": ids}}
