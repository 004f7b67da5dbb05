"""Contextual token vectors from frozen language models, with one gate per layer."""

from collections.abc import Mapping
from typing import Any, Optional, Union

import torch
from allennlp.common.checks import ConfigurationError
from allennlp.data import Vocabulary
from allennlp.modules.token_embedders import TokenEmbedder
from allennlp.nn import Activation
from overrides import overrides

from ldnet_allennlp.common.checks import check_at_least
from ldnet_allennlp.common.layer_cache import LayerCache
from ldnet_allennlp.modules.embedders.frozen_language_model import FrozenLanguageModel
from ldnet_allennlp.modules.embedders.language_model_source import (
    DIRECTIONS,
    LanguageModelSource,
    boundary_id,
    build_contextualizer,
    check_layers_to_keep,
    namespace_of_words,
    resolve_sources,
    stack_names,
)
from ldnet_allennlp.modules.rnn.initialization import init_linear_
from ldnet_allennlp.modules.rnn.stacked_rnn import StackedLayers
from ldnet_allennlp.modules.selection.layer_budget import (
    GatedStack,
    LayerBudget,
    MaxLayersOption,
)
from ldnet_allennlp.modules.selection.layer_selection import LayerSelection
from ldnet_allennlp.modules.selection.multiply_adds import multiply_adds


@TokenEmbedder.register("ldnet")
class LdnetEmbedder(MaxLayersOption, TokenEmbedder):
    """
    The layers of frozen language models as token vectors (LD-Net, section 3; `model_seq/sparse_lm.py` and
    `seqlabel.py` of the original): for each token `activation(W [forward layers; backward layers])`, where the
    layers are the word vector and every layer's output times its gate.

    Reads the output of the "ldnet" token indexer. The words and the architecture of the language models are stored in
    the vocabulary and their weights among those of the model, so its archive loads without theirs.

    Registered as a `TokenEmbedder` with name "ldnet".

    # Parameters

    vocab : `Vocabulary`
        Set by AllenNLP.
    forward, backward : `LanguageModelSource`, optional
        The language models that read from left to right and from right to left, each for example
        `{"pretrained_file": "lm_forward/model.tar.gz"}`.
    bidirectional : `LanguageModelSource`, optional
        One bidirectional language model, instead of the two.
    projection_dim : `int`, optional
        The size of the projection. Without it the vectors are the layers themselves. The published taggers use 100.
    activation : `Activation`, optional (default = `relu`)
        Applied to the projection.
    dropout : `float`, optional (default = `0.0`)
        Dropout on the layers before the projection. The published taggers use 0.5.
    lambda_0 : `float`, optional
        The weight of the penalty of layer selection. A number, also 0, trains the gates; null (the default) leaves them
        at 1. The penalty requires a model that adds it to its loss ("ldnet_tagger") and the "proximal" optimizer. For a
        mixture of the layers of a "stacked_rnn" it is the weight of the mixture's regularizer, see `StackedLayers`.
    lambda_1, max_multiply_adds, over_budget_weight
        The layer budget of all language models together, or of each direction (`{"forward": 2, "backward": 1}`), or
        that of the language models with their projection in multiply-adds, see `LayerBudget`. Configs may also call
        `lambda_1` `max_layers`.
    requires_grad : `bool`, optional (default = `False`)
        Whether to train the weights of the language models, too. The published method never trains them.
    namespace : `str`, optional (default = `"ldnet"`)
        The prefix of the namespaces in the vocabulary; the indexer's `namespace` must be the same.
    cache : `str`, optional
        A directory for an on-disk cache of the language models' outputs, see `LayerCache`: later epochs, and later
        trainings with the same language models, read them instead of computing them. Training uses it, and with the
        trainer "strict_gradient_descent" its validations; predictions do not. Trained gates, mixtures and language
        models cannot be cached.
    cache_dtype : `str`, optional (default = `"float32"`)
        The precision of the cache: "float32", or "float16" for half the space.

    Raises `ConfigurationError` if a language model is missing or has the wrong direction or kind, if sizes do not
    match, if the budget is impossible to meet, or if a `cache` is combined with trained parts.
    """

    language_models: Mapping[str, FrozenLanguageModel]

    def __init__(
        self,
        vocab: Vocabulary,
        forward: Optional[LanguageModelSource] = None,
        backward: Optional[LanguageModelSource] = None,
        bidirectional: Optional[LanguageModelSource] = None,
        projection_dim: Optional[int] = None,
        activation: Optional[Activation] = None,
        dropout: float = 0.0,
        lambda_0: Optional[float] = None,
        lambda_1: Union[int, dict[str, int]] = 0,
        max_multiply_adds: Optional[float] = None,
        over_budget_weight: float = 1.0,
        requires_grad: bool = False,
        namespace: str = "ldnet",
        cache: Optional[str] = None,
        cache_dtype: str = "float32",
    ) -> None:
        super().__init__()
        options = zip(DIRECTIONS, (forward, backward, bidirectional))
        sources = {direction: source for direction, source in options if source is not None}
        if not sources or (bidirectional is not None and len(sources) > 1):
            raise ConfigurationError(
                f"The ldnet token embedder takes a forward and a backward language model, one of these, or one "
                f"bidirectional one, but it was given: {', '.join(sources) or 'none'}."
            )
        check_at_least(0, "layer selection", lambda_0=lambda_0)
        trained = {
            "lambda_0": lambda_0 is not None,
            "requires_grad": requires_grad,
            "mixture": any(source.mixture for source in sources.values()),
        }
        if cache is not None and any(trained.values()):
            raise ConfigurationError(
                f"The cache of an ldnet token embedder keeps vectors that are the same in each epoch, but they change "
                f"in training with {' and '.join(name for name, is_set in trained.items() if is_set)}: leave it out."
            )
        self._cache: Any = None if cache is None else LayerCache(cache, cache_dtype)
        self.caches_evaluation = False
        self.namespace = namespace
        self.lambda_0 = lambda_0
        self.budget = LayerBudget(lambda_1, max_multiply_adds, over_budget_weight)
        architectures, pretrained = resolve_sources(vocab, namespace, sources)
        # In the order of DIRECTIONS. (A module with the name "forward" would hide the method.)
        self.language_models = torch.nn.ModuleDict()  # type: ignore[assignment]
        for direction, architecture in architectures.items():
            words = namespace_of_words(vocab, namespace, direction)
            boundary = architecture["boundary"]
            stored_dtype = None if requires_grad else architecture.get("embedding_dtype")
            language_model = FrozenLanguageModel(
                direction,
                build_contextualizer(architecture["contextualizer"]),
                num_words=vocab.get_vocab_size(words),
                boundary_id=boundary_id(vocab, words, boundary, direction),
                boundary=boundary,
                layers=sources[direction].layers,
                unpruned_layers=sources[direction].unpruned_layers,
                mixture=sources[direction].mixture,
                embedding_dtype=sources[direction].embedding_dtype or stored_dtype,
                train_gates=lambda_0 is not None,
                requires_grad=requires_grad,
            )
            if direction in pretrained:
                language_model.load(pretrained[direction])
            self.language_models[f"{direction}_lm"] = language_model  # type: ignore[index]

        self.dropout = torch.nn.Dropout(dropout)
        self.activation = activation or Activation.by_name("relu")()
        self.projection: torch.nn.Linear | None = None
        if projection_dim is not None:
            self.projection = torch.nn.Linear(self._layers_dim(), projection_dim)
            init_linear_(self.projection)
        self.budget.check(self.gated_stacks())

    def _layers_dim(self) -> int:
        return sum(model.get_output_dim() for model in self.language_models.values())

    @overrides
    def get_output_dim(self) -> int:
        return self._layers_dim() if self.projection is None else self.projection.out_features

    @overrides(check_signature=False)  # torch declares that a forward returns None
    def forward(
        self, token_ids: torch.LongTensor, backward_token_ids: torch.LongTensor | None = None
    ) -> torch.Tensor:
        """
        The vectors (B, T, get_output_dim()) for ids (B, T) from the "ldnet" indexer, 0 for padding, and the ids in the
        backward language model's vocabulary, if it differs.
        """
        mask = token_ids != 0
        # Caching predictions is not worth the disk space.
        is_cached = self._cache is not None and (self.training or self.caches_evaluation)
        layers = []
        for model in self.language_models.values():
            ids = token_ids
            if model.direction == "backward" and backward_token_ids is not None:
                ids = backward_token_ids
            layers.append(self._cache.read(model, ids, mask) if is_cached else model(ids, mask))
        outputs = self.dropout(torch.cat(layers, dim=-1))  # (B, T, sum of D + L * H)
        if self.projection is not None:
            outputs = self.activation(self.projection(outputs))
        return outputs

    def gates(self) -> torch.Tensor:
        """The gates of all language models together. Shape (number of layers,)."""
        return torch.cat([model.selection.gates for model in self.language_models.values()])

    def gated_stacks(self) -> list[GatedStack]:
        """Each direction's gates and the cost of its layers, the projection included. A "stacked_rnn" has no gates."""
        projection_dim = 0 if self.projection is None else self.projection.out_features
        stacks = []
        for model in self.language_models.values():
            if isinstance(model.selection, LayerSelection):
                stacks += model.selection.gated_stacks(stack_names(model.direction), projection_dim)
            else:
                cost = int(multiply_adds(model.selection)) + model.get_output_dim() * projection_dim
                stacks.append(GatedStack(model.direction, model.selection.gates, 0, 0, fixed_cost=cost))
        return stacks

    def penalty(self) -> torch.Tensor | None:
        """
        The penalty of layer selection over all gates, plus `lambda_0` times the regularizers of the mixtures, a scalar;
        `None` without `lambda_0`.
        """
        if self.lambda_0 is None:
            return None
        penalty = self.budget.penalty(self.gated_stacks(), self.lambda_0)
        for model in self.language_models.values():
            if isinstance(model.selection, StackedLayers):
                penalty = penalty + self.lambda_0 * model.selection.regularizer()
        return penalty

    def kept_layers(self) -> dict[str, list[int]]:
        """
        The numbers, from 0 and as in the unpruned language model, of the layers whose gate is above 0. A
        bidirectional language model's two stacks are "forward" and "backward".
        """
        kept = {}
        for model in self.language_models.values():
            selected = zip(stack_names(model.direction), model.layers, model.selection.kept_layers())
            kept.update({name: [numbers[layer] for layer in layers] for name, numbers, layers in selected})
        return kept

    def all_layers(self) -> dict[str, list[int]]:
        """Like `kept_layers`, for all values of the gates."""
        return {
            name: numbers
            for model in self.language_models.values()
            for name, numbers in zip(stack_names(model.direction), model.layers)
        }

    def prune(self, keep: dict[str, list[int]] | None = None) -> None:
        """
        Cut layers out of the language models and their columns out of the projection, in place. `keep` is in the format
        of `kept_layers()`, which is the default.

        Raises `ConfigurationError` if a layer to keep does not exist.
        """
        keep = self.kept_layers() if keep is None else keep
        check_layers_to_keep(self.all_layers(), keep)  # before anything is cut
        columns, offset = [], 0
        for model in self.language_models.values():
            next_offset = offset + model.get_output_dim()
            columns.append(
                offset + model.prune([keep.get(name, []) for name in stack_names(model.direction)])
            )
            offset = next_offset
        if self.projection is not None:
            with torch.no_grad():
                weight = self.projection.weight[:, torch.cat(columns)].clone()
            self.projection.weight = torch.nn.Parameter(weight, self.projection.weight.requires_grad)
            self.projection.in_features = weight.size(1)

    def fold_gates(self) -> None:
        """
        Multiply each gate into the weights that read its layer, in place: the later layers' and the projection's. The
        gates become 1, and the vectors stay the same.

        Raises `ConfigurationError` without a projection, because the weights that read the layers are then in another
        module.
        """
        if self.projection is None:
            raise ConfigurationError(
                f"The gates of the ldnet token embedder '{self.namespace}' cannot be folded into the weights that read "
                f"its layers: it has no projection (projection_dim), so these weights are another module's."
            )
        factors = [model.fold_gates() for model in self.language_models.values()]
        with torch.no_grad():
            self.projection.weight.mul_(torch.cat(factors))

    def describe(self) -> dict[str, Any]:
        """The sources of the language models in their current state, for a config."""
        return {model.direction: model.describe() for model in self.language_models.values()}
