"""Contextual token vectors from frozen language models, with a gate for each of their layers."""

from typing import Any, Dict, List, Optional, Tuple, Union

import torch
from allennlp.common.checks import ConfigurationError
from allennlp.data import Vocabulary
from allennlp.modules.token_embedders import TokenEmbedder
from allennlp.nn import Activation
from overrides import overrides

from ldnet_allennlp.common.layer_cache import LayerCache
from ldnet_allennlp.data.language_model_vocabulary import (
    has_words,
    read_architecture,
    store_architecture,
    store_words,
    words_namespace,
    words_of,
)
from ldnet_allennlp.modules.embedders.frozen_language_model import LanguageModelLayers
from ldnet_allennlp.modules.embedders.language_model_source import (
    LanguageModelSource,
    PretrainedLanguageModel,
    build_contextualizer,
    read_language_model,
)
from ldnet_allennlp.modules.rnn.initialization import init_linear_
from ldnet_allennlp.modules.rnn.stacked_layers import StackedLayers
from ldnet_allennlp.modules.selection.layer_budget import GatedStack, LayerBudget
from ldnet_allennlp.modules.selection.layer_selection import LayerSelection
from ldnet_allennlp.modules.selection.multiply_adds import multiply_adds

DIRECTIONS = ("forward", "backward", "bidirectional")


@TokenEmbedder.register("ldnet")
class LdnetEmbedder(TokenEmbedder):
    """
    The layers of frozen language models as token vectors (LD-Net, section 3; `model_seq/sparse_lm.py` and
    `seqlabel.py` of the original): for each token `activation(W [forward layers; backward layers])`, where the
    layers are the word vector and every layer's output times its gate.

    Reads what the "ldnet" token indexer gives. The words and the architecture of the language models go into
    the vocabulary, their weights are among the weights of the model: an archive of any model with this
    embedder loads without the archives of the language models.

    Registered as a `TokenEmbedder` with name "ldnet".

    # Parameters

    vocab : `Vocabulary`
        Given by AllenNLP.
    forward, backward : `LanguageModelSource`, optional
        The language model that reads from left to right, and the one that reads from right to left, each for
        example `{"pretrained_file": "lm_forward/model.tar.gz"}`.
    bidirectional : `LanguageModelSource`, optional
        One bidirectional language model, instead of the two.
    projection_dim : `int`, optional
        The size of the projection. Without it the vectors are the layers themselves. Recommended: the size of
        the word vectors beside it; the published taggers use 100.
    activation : `Activation`, optional (default = `relu`)
        Applied to the projection.
    dropout : `float`, optional (default = `0.0`)
        Dropout on the layers before the projection. The published taggers use 0.5.
    lambda_0 : `float`, optional
        The weight of the penalty of layer selection, at least 0. If it is given, the gates are trained: with a
        model whose loss has the penalty in it ("ldnet_tagger") and the "proximal" optimizer. For a mixture of the
        layers of a "stacked_rnn" it is the weight of the mixture's regularizer, see `StackedLayers`.
    lambda_1 : `Union[int, Dict[str, int]]`, optional (default = `0`)
        The layer budget: of all language models together, or of each direction (`{"forward": 2, "backward": 1}`).
    max_multiply_adds : `float`, optional
        Instead of `lambda_1`: what the language models with their projection may cost, in multiply-adds a word.
    over_budget_weight : `float`, optional (default = `1.0`)
        The weight of the penalty while over budget, see `LayerBudget`.
    requires_grad : `bool`, optional (default = `False`)
        Whether the language models' own weights are trained, too. The published method never does.
    namespace : `str`, optional (default = `"ldnet"`)
        The prefix of the namespaces in the vocabulary; the indexer's `namespace` must be the same.
    cache : `str`, optional
        A directory in which training keeps what the language models say about each sentence, so that later epochs,
        and later trainings with the same language models, need not compute it: see `LayerCache`. Language models,
        gates and mixtures that are trained have none. A model that was loaded and not trained does not use it.
    cache_dtype : `str`, optional (default = `"float32"`)
        The cache's numbers: "float32", or "float16" for half the space.

    Raises `ConfigurationError` if there is no language model or one of the wrong direction or kind, if sizes
    do not match, if `lambda_0` is negative, if the budget is negative, is given twice, or cannot be kept, or if there
    is a `cache` of what is trained.
    """

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
        lambda_1: Union[int, Dict[str, int]] = 0,
        max_multiply_adds: Optional[float] = None,
        over_budget_weight: float = 1.0,
        requires_grad: bool = False,
        namespace: str = "ldnet",
        cache: Optional[str] = None,
        cache_dtype: str = "float32",
    ) -> None:
        super().__init__()
        given = dict(zip(DIRECTIONS, (forward, backward, bidirectional)))
        sources = {direction: source for direction, source in given.items() if source is not None}
        if not sources or (bidirectional is not None and len(sources) > 1):
            raise ConfigurationError(
                f"The ldnet token embedder takes a forward and a backward language model, one of these, or one "
                f"bidirectional one, but it was given: {', '.join(sources) or 'none'}."
            )
        if (lambda_0 or 0) < 0:
            raise ConfigurationError(f"The penalty's weight lambda_0 is at least 0, but it is {lambda_0}.")
        trained = {
            "lambda_0": lambda_0 is not None,
            "requires_grad": requires_grad,
            "mixture": any(source.mixture for source in sources.values()),
        }
        if cache is not None and any(trained.values()):
            raise ConfigurationError(
                f"The cache of an ldnet token embedder keeps vectors that are the same in each epoch, but they change "
                f"in training with {' and '.join(name for name, given in trained.items() if given)}: give no cache."
            )
        self._cache = None if cache is None else LayerCache(cache, cache_dtype)
        self._has_trained = False
        self.namespace = namespace
        self.lambda_0 = lambda_0
        self.budget = LayerBudget(lambda_1, max_multiply_adds, over_budget_weight)
        architecture, pretrained = self._resolve(vocab, sources)
        # One `LanguageModelLayers` for each source, in the order of DIRECTIONS. (A module of the name "forward"
        # would be in torch's way.)
        self.language_models = torch.nn.ModuleDict()
        for direction, description in architecture.items():
            words = self._words_namespace(vocab, direction)
            boundary = description["boundary"]
            self.language_models[f"{direction}_lm"] = LanguageModelLayers(
                direction,
                build_contextualizer(description["contextualizer"]),
                num_words=vocab.get_vocab_size(words),
                boundary_id=_boundary_id(vocab, words, boundary, direction),
                boundary=boundary,
                layers=sources[direction].layers,
                unpruned_layers=sources[direction].unpruned_layers,
                mixture=sources[direction].mixture,
                embedding_dtype=sources[direction].embedding_dtype,
                train_gates=lambda_0 is not None,
                requires_grad=requires_grad,
            )
            if direction in pretrained:
                self.language_models[f"{direction}_lm"].load(pretrained[direction])

        self.dropout = torch.nn.Dropout(dropout)
        self.activation = activation or Activation.by_name("relu")()
        self.projection: Optional[torch.nn.Linear] = None
        if projection_dim is not None:
            self.projection = torch.nn.Linear(self._layers_dim(), projection_dim)
            init_linear_(self.projection)
        self.budget.check(self.gated_stacks())

    def _resolve(
        self, vocab: Vocabulary, sources: Dict[str, LanguageModelSource]
    ) -> Tuple[Dict[str, Any], Dict[str, PretrainedLanguageModel]]:
        """How each language model is built, and those that were read from archives."""
        known = read_architecture(vocab, self.namespace) or {}
        architecture: Dict[str, Any] = {}
        pretrained: Dict[str, PretrainedLanguageModel] = {}
        for direction, source in sources.items():
            if source.pretrained_file is not None:
                language_model = self._read(vocab, direction, source.pretrained_file)
                boundary = language_model.boundary if source.boundary is None else source.boundary
                pretrained[direction] = language_model
                architecture[direction] = {
                    "contextualizer": language_model.contextualizer.describe(),
                    "boundary": boundary,
                }
            elif source.contextualizer is not None:
                architecture[direction] = {
                    "contextualizer": source.contextualizer.describe(),
                    "boundary": source.boundary,
                }
            elif direction in known:
                architecture[direction] = known[direction]
            else:
                raise ConfigurationError(
                    f"The {direction} language model of the ldnet token embedder has neither a pretrained_file "
                    f"nor a contextualizer, and the vocabulary does not describe one under "
                    f"'{self.namespace}'."
                )
        if pretrained:
            store_architecture(vocab, self.namespace, {**known, **architecture})
        return architecture, pretrained

    def _read(self, vocab: Vocabulary, direction: str, archive_path: str) -> PretrainedLanguageModel:
        language_model = read_language_model(archive_path)
        if language_model.direction != direction:
            raise ConfigurationError(
                f"A {direction} language model was expected in '{archive_path}' ({direction} of the ldnet "
                f"token embedder), but it holds a {language_model.direction} one."
            )
        words = words_namespace(self.namespace)
        own = words_namespace(self.namespace, backward=True)
        # Where the backward one has a namespace of its own already, that is the one that is read.
        if (direction == "backward" and has_words(vocab, words)) and (
            has_words(vocab, own) or words_of(vocab, words) != language_model.words
        ):
            words = own
        store_words(vocab, words, language_model.words)
        return language_model

    def _words_namespace(self, vocab: Vocabulary, direction: str) -> str:
        own = words_namespace(self.namespace, backward=True)
        if direction == "backward" and has_words(vocab, own):
            return own
        return words_namespace(self.namespace)

    def _layers_dim(self) -> int:
        return sum(model.get_output_dim() for model in self.language_models.values())

    @overrides
    def get_output_dim(self) -> int:
        return self._layers_dim() if self.projection is None else self.projection.out_features

    @overrides(check_signature=False)  # torch declares that a forward returns None
    def forward(
        self, token_ids: torch.LongTensor, backward_token_ids: Optional[torch.LongTensor] = None
    ) -> torch.Tensor:
        """
        # Parameters

        token_ids : `torch.LongTensor`
            Shape (B, T), from the "ldnet" indexer; 0 is padding.
        backward_token_ids : `torch.LongTensor`, optional
            Shape (B, T): the ids in the backward language model's vocabulary, if it has its own.

        # Returns

        `torch.Tensor`
            Shape (B, T, get_output_dim()).
        """
        mask = token_ids != 0
        layers = []
        for model in self.language_models.values():
            has_own_ids = model.direction == "backward" and backward_token_ids is not None
            layers.append(self._layers_of(model, backward_token_ids if has_own_ids else token_ids, mask))
        outputs = self.dropout(torch.cat(layers, dim=-1))  # (B, T, sum of D + L * H)
        if self.projection is not None:
            outputs = self.activation(self.projection(outputs))
        return outputs

    def _layers_of(
        self, model: LanguageModelLayers, token_ids: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        # Validation is a part of training, too. What is only predicted is not worth a place on disk.
        self._has_trained = self._has_trained or self.training
        if self._cache is None or not self._has_trained:
            return model(token_ids, mask)
        return self._cache.read(model, token_ids, mask)

    def gates(self) -> torch.Tensor:
        """The gates of all language models together. Shape (number of layers,)."""
        return torch.cat([model.selection.gates for model in self.language_models.values()])

    def gated_stacks(self) -> List[GatedStack]:
        """Each direction's gates with what its layers cost, the projection included. A "stacked_rnn" has no gates."""
        projection_dim = 0 if self.projection is None else self.projection.out_features
        stacks = []
        for model in self.language_models.values():
            if isinstance(model.selection, LayerSelection):
                stacks += model.selection.gated_stacks(stack_names(model.direction), projection_dim)
            else:
                cost = int(multiply_adds(model.selection)) + model.get_output_dim() * projection_dim
                stacks.append(GatedStack(model.direction, model.selection.gates, 0, 0, fixed_cost=cost))
        return stacks

    def penalty(self) -> Optional[torch.Tensor]:
        """
        The penalty of layer selection over all gates, plus `lambda_0` times the regularizers of the mixtures, a
        scalar; `None` where there is no `lambda_0`.
        """
        if self.lambda_0 is None:
            return None
        penalty = self.budget.penalty(self.gated_stacks(), self.lambda_0)
        for model in self.language_models.values():
            if isinstance(model.selection, StackedLayers):
                penalty = penalty + self.lambda_0 * model.selection.regularizer()
        return penalty

    def kept_layers(self) -> Dict[str, List[int]]:
        """
        The numbers, from 0 and as in the unpruned language model, of the layers whose gate is above 0. A
        bidirectional language model's two stacks are "forward" and "backward".
        """
        kept = {}
        for model in self.language_models.values():
            for name, numbers, layers in zip(
                stack_names(model.direction), model.layers, model.selection.kept_layers()
            ):
                kept[name] = [numbers[layer] for layer in layers]
        return kept

    def all_layers(self) -> Dict[str, List[int]]:
        """Like `kept_layers`, whatever the gates."""
        return {
            name: numbers
            for model in self.language_models.values()
            for name, numbers in zip(stack_names(model.direction), model.layers)
        }

    def prune(self, keep: Optional[Dict[str, List[int]]] = None) -> None:
        """
        Cuts layers out of the language models and their columns out of the projection, in place.

        # Parameters

        keep : `Dict[str, List[int]]`, optional
            As `kept_layers()`, which is what is kept if it is not given.

        Raises `ConfigurationError` if a layer to keep is not there.
        """
        keep = self.kept_layers() if keep is None else keep
        self._check_layers(keep)
        columns, offset = [], 0
        for model in self.language_models.values():
            size = model.get_output_dim()
            wanted = [keep.get(name, []) for name in stack_names(model.direction)]
            columns.append(offset + model.prune(wanted))
            offset += size
        if self.projection is not None:
            with torch.no_grad():
                weight = self.projection.weight[:, torch.cat(columns)].clone()
            self.projection.weight = torch.nn.Parameter(weight, self.projection.weight.requires_grad)
            self.projection.in_features = weight.size(1)

    def fold_gates(self) -> None:
        """
        Multiplies each gate into the weights that read its layer, in place: the later layers' and the projection's.
        The gates are 1 then, and the vectors are the same as before.

        Raises `ConfigurationError` if there is no projection: what reads the layers then is not known here.
        """
        if self.projection is None:
            raise ConfigurationError(
                f"The gates of the ldnet token embedder '{self.namespace}' cannot be folded into the weights that read "
                f"its layers: it has no projection (projection_dim), so these weights are another module's."
            )
        factors = [model.fold_gates() for model in self.language_models.values()]
        with torch.no_grad():
            self.projection.weight.mul_(torch.cat(factors))

    def _check_layers(self, keep: Dict[str, List[int]]) -> None:
        """Before anything is cut: an embedder that is pruned by half is of no use."""
        there = self.all_layers()
        for name, numbers in keep.items():
            if name not in there:
                raise ConfigurationError(
                    f"The layers to keep are given for {' and '.join(there)}, but '{name}' was found."
                )
            missing = sorted(set(numbers) - set(there[name]))
            if missing or len(set(numbers)) != len(numbers):
                raise ConfigurationError(
                    f"The {name} language model has the layers {there[name]}, each to be kept once or not at "
                    f"all, but {sorted(numbers)} were to be kept."
                )

    def describe(self) -> Dict[str, Any]:
        """The sources of the language models as they are now, for a config."""
        return {model.direction: model.describe() for model in self.language_models.values()}


def _boundary_id(vocab: Vocabulary, namespace: str, boundary: Optional[str], direction: str) -> Optional[int]:
    if not boundary:
        return None
    if boundary not in vocab.get_token_to_index_vocabulary(namespace):
        raise ConfigurationError(
            f"The boundary '{boundary}' of the {direction} language model was expected to be one of its words, "
            f"but the vocabulary's namespace '{namespace}' does not have it. An empty string stands for none."
        )
    return vocab.get_token_index(boundary, namespace)


def stack_names(direction: str) -> List[str]:
    """The names of a language model's stacks: a bidirectional one has two."""
    return ["forward", "backward"] if direction == "bidirectional" else [direction]
