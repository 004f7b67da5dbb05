"""Language model with an adaptive softmax, for whole sentences and for streams of text."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Optional

import numpy
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.data import TextFieldTensors, Vocabulary
from allennlp.models import Model
from allennlp.modules import TextFieldEmbedder
from allennlp.modules.seq2seq_encoders import Seq2SeqEncoder
from allennlp.nn import Activation
from allennlp.nn.util import get_text_field_mask
from allennlp_models.lm.models.language_model import LanguageModel
from overrides import overrides

from ldnet_allennlp.common.checks import check_at_least
from ldnet_allennlp.common.precision import autocast_context, check_autocast, resolve_autocast
from ldnet_allennlp.models.language_model_losses import (
    LanguageModelLosses,
    check_directions,
    sentence_targets,
)
from ldnet_allennlp.modules.rnn.carried_states import without_states
from ldnet_allennlp.modules.rnn.initialization import init_linear_
from ldnet_allennlp.modules.rnn.ld_rnn import LdRnn, reverse_sequences
from ldnet_allennlp.modules.softmax.adaptive_softmax import AdaptiveSoftmax, cutoffs_within
from ldnet_allennlp.training.metrics.corpus_perplexity import CorpusPerplexity

NAME = "adaptive_language_model"
NAMESPACE = "tokens"


@Model.register(NAME)
class AdaptiveLanguageModel(LanguageModelLosses):
    """
    allennlp-models' `LanguageModel` with an `AdaptiveSoftmax`, for vocabularies of hundreds of thousands of words. With
    an "ld_rnn" it is the language model of LD-Net (`model_word_ada/LM.py` of the original).

    The order of operations is that of the original: embeddings, dropout, contextualizer, projection and activation
    (optional), dropout, softmax.

    It reads whole sentences, as `LanguageModel` does, or the windows of the "lm_stream" data loader, where a `stateful`
    contextualizer continues from one window to the next. Sentences neither use nor change the states of a stream. The
    vocabulary must be sorted by falling frequency, as AllenNLP's are. The padding is not a class of the softmax.

    A backward model predicts each token from those after it: each sentence or window is reversed within its length
    before the contextualizer reads it. All outputs are in the natural order.

    Registered as a `Model` with name "adaptive_language_model".

    # Parameters

    vocab : `Vocabulary`
    text_field_embedder : `TextFieldEmbedder`
        Recommended: vectors of U(-a, a), a = sqrt(3 / dimension), through `initializer`, as in the original.
    contextualizer : `Seq2SeqEncoder`
        Each direction may read only the tokens before the predicted one. With its option `return_all_layers` ("ld_rnn",
        "stacked_rnn", "layer_selection" and allennlp-models' transformer) the model has no loss and returns all layers,
        for allennlp-models' "language_model_token_embedder".
    cutoffs : `List[int]` or `None`
        The first word of each tail cluster of the softmax, see `AdaptiveSoftmax`. Cutoffs beyond the vocabulary are
        ignored, with a warning. The published models use 4000, 40000 and 200000. `None` builds no softmax, hence no
        loss, only vectors for taggers.
    dropout : `float`, optional (default = `None`)
        Dropout directly before the softmax, on the projection or the contextualizer's output. It does not affect the
        embeddings in the output.
    embedding_dropout : `float`, optional (default = `None`)
        Dropout on the word vectors before the contextualizer. The original uses one rate here, for `dropout` and for
        the "ld_rnn".
    direction : `str`, optional (default = `"forward"`)
        "forward" or "backward", for a unidirectional model.
    bidirectional : `bool`, optional (default = `False`)
        Whether the contextualizer is bidirectional and predicts the tokens before and after each one. Both directions
        share the word vectors, the projection and the softmax. Streams need an "ld_rnn", and the data loader's
        direction "both".
    div_value, tail_offset : optional (default = `4.0`, `0`)
        The sizes of the softmax's clusters, see `AdaptiveSoftmax`.
    spare_classes : `int`, optional (default = `0`)
        Softmax classes beyond the vocabulary, which are never targets. The original's models have 1.
    tail_samples : `int`, optional
        Makes the cost of a training step independent of the vocabulary, see `AdaptiveSoftmax`. Training perplexities
        become estimates; those of evaluation stay exact.
    autocast : `str`, optional
        The precision of the contextualizer and the projection, and of the softmax's products in training: "bfloat16",
        or "auto" for bfloat16 where the device supports it. For float16 use `use_amp`, which scales gradients.
    projection_dim : `int`, optional
        The size of a linear layer between the contextualizer and the softmax. The published models use 1600.
    projection_activation : `Activation`, optional (default = `linear`)
        The activation after the projection. The published models use "relu".
    **kwargs : `initializer`, and the options of AllenNLP's `Model`.

    Raises `ConfigurationError` if the contextualizer does not match the embedder's size or the directions, for an
    unknown direction, for sizes below 1, for a precision that this machine does not support, and for `LanguageModel`'s
    options of other softmaxes.
    """

    default_predictor = NAME

    def __init__(
        self,
        vocab: Vocabulary,
        text_field_embedder: TextFieldEmbedder,
        contextualizer: Seq2SeqEncoder,
        cutoffs: Optional[list[int]],
        dropout: Optional[float] = None,
        embedding_dropout: Optional[float] = None,
        direction: str = "forward",
        bidirectional: bool = False,
        div_value: float = 4.0,
        tail_offset: int = 0,
        spare_classes: int = 0,
        tail_samples: Optional[int] = None,
        autocast: Optional[str] = None,
        projection_dim: Optional[int] = None,
        projection_activation: Optional[Activation] = None,
        **kwargs: Any,
    ) -> None:
        for option in ("num_samples", "sparse_embeddings"):
            if option in kwargs:
                raise ConfigurationError(
                    f"An adaptive_language_model has an adaptive softmax and no option {option}, which belongs to "
                    f"the sampled softmax of allennlp_models' language_model."
                )
        if autocast == "float16":
            raise ConfigurationError(
                "autocast of an adaptive_language_model is null, 'auto' or 'bfloat16'. For float16 use the trainer's "
                "use_amp, which scales gradients."
            )
        check_autocast(autocast, f"the {NAME}")
        check_at_least(1, NAME, projection_dim=projection_dim)
        check_at_least(0, NAME, spare_classes=spare_classes)
        check_directions(text_field_embedder, contextualizer, direction, bidirectional)
        initializer = kwargs.pop("initializer", None)
        # LanguageModel's constructor builds a softmax over the whole vocabulary (1.3 GB at the published sizes).
        super(LanguageModel, self).__init__(vocab, **kwargs)
        self._text_field_embedder = text_field_embedder
        self._contextualizer = contextualizer
        self._bidirectional = bidirectional
        self.direction = "bidirectional" if bidirectional else direction
        # The size of the vectors from which each direction predicts.
        full_dim = getattr(contextualizer, "full_output_dim", contextualizer.get_output_dim())
        self._forward_dim = full_dim // (2 if bidirectional else 1)
        self._dropout = torch.nn.Dropout(dropout or 0.0)
        self._embedding_dropout = torch.nn.Dropout(embedding_dropout or 0.0)
        self._projection: torch.nn.Linear | None = None
        if projection_dim is not None:
            self._projection = torch.nn.Linear(self._forward_dim, projection_dim)
            init_linear_(self._projection)
        elif projection_activation is not None:
            raise ConfigurationError("projection_activation requires a projection_dim.")
        self._projection_activation = projection_activation or Activation.by_name("linear")()
        num_words = vocab.get_vocab_size(NAMESPACE) - 1 + spare_classes  # all but the padding
        self._softmax_loss: AdaptiveSoftmax | None = None
        if cutoffs is not None:
            self._softmax_loss = AdaptiveSoftmax(
                num_words,
                self._forward_dim if projection_dim is None else projection_dim,
                cutoffs_within(cutoffs, num_words),
                div_value=div_value,
                tail_offset=tail_offset,
                tail_samples=tail_samples,
            )
        self._autocast = autocast
        names = ["perplexity", *(["forward_perplexity", "backward_perplexity"] if bidirectional else [])]
        self._perplexities = {name: CorpusPerplexity() for name in names}
        if initializer is not None:
            initializer(self)

    @classmethod
    def _load(cls, config: Params, *args: Any, **kwargs: Any) -> Model:
        """Load an archive as in AllenNLP; one trained in bfloat16 also loads where that is not supported."""
        if config["model"].get("autocast") == "bfloat16":
            config["model"]["autocast"] = "auto"
        return super()._load(config, *args, **kwargs)

    @overrides
    def forward(  # type: ignore[override]
        self,
        source: TextFieldTensors,
        targets: torch.LongTensor | None = None,
        first_window: bool = False,
        direction: str | None = None,
        backward_source: TextFieldTensors | None = None,
        backward_targets: torch.LongTensor | None = None,
        host_targets: list[numpy.ndarray] | None = None,
    ) -> dict[str, torch.Tensor]:
        """
        # Parameters

        source : `TextFieldTensors`
            Sentences, each with a boundary token at both ends, or a window of a stream. Without the entry "tokens" of a
            `SingleIdTokenIndexer`, sentences have no targets and no loss.
        targets, first_window, direction : optional
            Streams only: the target of each step, (B, T), in the natural order, 0 for none; whether to reset the hidden
            states; the direction of the windows.
        backward_source, backward_targets : optional
            Streams of bidirectional models only: the window of the backward half, from another part of the text than
            `source`, and the token before each of its tokens.
        host_targets : `List[numpy.ndarray]`, optional
            Streams only: `targets` and `backward_targets` on the CPU. They avoid waiting for a GPU.

        # Returns

        `loss`, `forward_loss`, `backward_loss` : `torch.Tensor`
            The mean negative log-likelihood of the targets in nats: averaged over the directions, and for each one.
        `lm_embeddings` : `Union[torch.Tensor, List[torch.Tensor]]`
            (B, T, contextualizer's output size), in the natural order, without dropout; with `return_all_layers`, one
            tensor per layer.
        `noncontextual_token_embeddings`, `mask` : `torch.Tensor`
            (B, T, embedder's output size), without dropout, and (B, T).
        `batch_weight` : `torch.Tensor`
            The number of targets (of one direction).
        """
        mask = get_text_field_mask(source)  # (B, T)
        embeddings = self._text_field_embedder(source)  # (B, T, D)
        vectors = self._embedding_dropout(embeddings)
        on_host = [torch.from_numpy(window) for window in host_targets or []]
        # The lengths of rows in whole windows are known without asking the GPU.
        is_whole = bool(on_host) and all(bool(window.all()) for window in on_host)
        if targets is None:
            contextual = self._contextualize_sentences(vectors, mask)
            all_targets = sentence_targets(source, mask, self.direction)
        else:
            if direction not in (None, self.direction):
                raise ConfigurationError(
                    f"The direction of this {NAME} is {self.direction}, but that of its lm_stream data loader is "
                    f'{direction}. (A bidirectional language model needs the loader\'s direction "both".)'
                )
            if first_window:
                self.reset_states()
            all_targets = {self.direction: targets}
            if backward_source is not None and backward_targets is not None:
                contextual = self._contextualize_windows(vectors, mask, backward_source, is_whole)
                all_targets = {"forward": targets, "backward": backward_targets}
            else:
                contextual = self._contextualize(self._contextualizer, vectors, mask, is_whole)
        outputs: dict[str, Any] = {}
        if all_targets and self._softmax_loss is not None:
            outputs.update(self._losses(contextual, all_targets, on_host))
        outputs["lm_embeddings"] = _map_layers(contextual, lambda layer: layer.to(embeddings.dtype))
        outputs["noncontextual_token_embeddings"] = embeddings
        outputs["mask"] = mask
        return outputs

    @overrides
    def _contextualize_sentences(self, vectors: torch.Tensor, mask: torch.BoolTensor) -> Any:
        return self._contextualize(without_states(self._contextualizer), vectors, mask)

    def _contextualize(
        self, encoder: Seq2SeqEncoder, vectors: torch.Tensor, mask: torch.BoolTensor, is_whole: bool = False
    ) -> Any:
        """The output of the contextualizer, (B, T, output size), or of each of its layers, in the natural order."""
        read_mask = None if is_whole and isinstance(encoder, LdRnn) else mask
        with self._precision(vectors.device):
            if self.direction != "backward":
                return encoder(vectors, read_mask)
            lengths = mask.sum(dim=1)
            contextual = encoder(reverse_sequences(vectors, lengths), read_mask)
            return _map_layers(contextual, lambda layer: reverse_sequences(layer, lengths))

    def _contextualize_windows(
        self,
        embeddings: torch.Tensor,
        mask: torch.BoolTensor,
        backward_source: TextFieldTensors,
        is_whole: bool,
    ) -> torch.Tensor:
        """The outputs for a forward window and a backward window from another part of the text."""
        if not isinstance(self._contextualizer, LdRnn):
            raise ConfigurationError(
                f"A bidirectional language model reads streams through an ld_rnn, but its contextualizer is a "
                f"{type(self._contextualizer).__name__}. Train one language model for each direction instead."
            )
        backward_mask = get_text_field_mask(backward_source)  # (B, T)
        backward = self._embedding_dropout(self._text_field_embedder(backward_source))  # (B, T, D)
        masks = (None, None) if is_whole else (mask, backward_mask)
        with self._precision(embeddings.device):
            return self._contextualizer.read_windows(embeddings, backward, *masks)

    @overrides
    def _precision(self, device: torch.device) -> AbstractContextManager[Any]:
        return autocast_context(resolve_autocast(self._autocast, device, f"the {NAME}"), device)


def _map_layers(contextual: Any, function: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """Apply a function to a contextualizer's output, or to each of its layers."""
    return [function(layer) for layer in contextual] if isinstance(contextual, list) else function(contextual)
