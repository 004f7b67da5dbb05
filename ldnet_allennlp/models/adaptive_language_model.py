"""A language model with an adaptive softmax, for whole sentences and for streams of text."""

from contextlib import nullcontext
from typing import Any, ContextManager, Dict, List, Optional

import numpy
import torch
from allennlp.common.checks import ConfigurationError
from allennlp.data import TextFieldTensors, Vocabulary
from allennlp.models import Model
from allennlp.modules import TextFieldEmbedder
from allennlp.modules.seq2seq_encoders import Seq2SeqEncoder
from allennlp.nn import Activation, InitializerApplicator
from allennlp.nn.util import get_text_field_mask
from allennlp_models.lm.models.language_model import LanguageModel
from overrides import overrides

from ldnet_allennlp.models.language_model_softmax import build_softmax
from ldnet_allennlp.modules.rnn.carried_states import CarryingEncoder
from ldnet_allennlp.modules.rnn.initialization import init_linear_
from ldnet_allennlp.modules.rnn.ld_rnn import LdRnn, reverse_sequences
from ldnet_allennlp.modules.softmax.adaptive_softmax import AdaptiveSoftmax
from ldnet_allennlp.training.metrics.corpus_perplexity import CorpusPerplexity

NAMESPACE = "tokens"


@Model.register("adaptive_language_model")
class AdaptiveLanguageModel(LanguageModel):
    """
    allennlp_models' `LanguageModel` with an `AdaptiveSoftmax`, which a vocabulary of hundreds of thousands of
    words needs: it is the language model of LD-Net (`model_word_ada/LM.py` of the original) when its
    contextualizer is an "ld_rnn". A softmax over the whole vocabulary is never made.

    The order of operations is the original's: embeddings, dropout, contextualizer, then, if there is a
    projection, projection and activation; dropout; softmax.

    It reads whole sentences, as `LanguageModel` does, and the windows of the "lm_stream" data loader: there a
    `stateful` contextualizer goes on from one window to the next. The vocabulary must be sorted by falling
    frequency, as AllenNLP's is when it is made from instances; its padding token is not a class of the softmax.

    A backward language model predicts each token from those after it: each sentence or window is reversed
    within its own length before the contextualizer reads it, and all outputs are in the natural order again.

    Registered as a `Model` with name "adaptive_language_model".

    # Parameters

    vocab : `Vocabulary`
    text_field_embedder : `TextFieldEmbedder`
        Recommended: vectors of U(-a, a), a = sqrt(3 / dimension), through `initializer`, as the original's.
    contextualizer : `Seq2SeqEncoder`
        It must not see what is to be predicted: each direction reads only what comes before.
    cutoffs : `List[int]`
        The first word of each tail cluster of the softmax, see `AdaptiveSoftmax`. Those that lie beyond the
        vocabulary are left out, with a warning. The published models use 4000, 40000 and 200000.
    dropout : `float`, optional (default = `None`)
        Dropout right before the softmax: on the projection if there is one (as the original), else on the
        contextualizer's output (as `LanguageModel`; the original has none there). The embeddings in the output
        are without it.
    embedding_dropout : `float`, optional (default = `None`)
        Dropout on the word vectors before the contextualizer. The original has one rate for this place, for
        `dropout` and for the "ld_rnn"'s own.
    direction : `str`, optional (default = `"forward"`)
        "forward" or "backward", for a unidirectional model.
    bidirectional : `bool`, optional (default = `False`)
        Whether the contextualizer reads both ways, and the tokens before and after each one are predicted. Both
        directions share the word vectors, the projection and the softmax. Streams need an "ld_rnn", and the data
        loader's direction "both".
    div_value, tail_offset : optional (default = `4.0`, `0`)
        The sizes of the softmax's clusters, see `AdaptiveSoftmax`.
    spare_classes : `int`, optional (default = `0`)
        Classes of the softmax beyond the words of the vocabulary, which are never predicted right. The
        original's models have 1.
    tie_weights : `bool`, optional (default = `False`)
        Whether the softmax takes its words' weights from the embedding "tokens": see `TiedAdaptiveSoftmax`.
    tail_samples : `int`, optional
        See `AdaptiveSoftmax`: training steps whose cost does not grow with the vocabulary. Perplexities of training
        are estimates then; those of evaluation are exact.
    autocast : `str`, optional
        "bfloat16" computes the contextualizer and the projection in that precision, on CPUs and GPUs that have it; the
        softmax stays in float32. For "float16" use the trainer's `use_amp`, which scales gradients.
    projection_dim : `int`, optional
        The size of a linear layer between the contextualizer and the softmax. The published models use 1600.
    projection_activation : `Activation`, optional (default = `linear`)
        What follows the projection. The published models use "relu".
    initializer : `InitializerApplicator`, optional

    Raises `ConfigurationError` if the contextualizer does not read the embedder's vectors or not in the
    directions named, for an unknown direction, for sizes below 1 and for `LanguageModel`'s options of other
    softmaxes.
    """

    default_predictor = "adaptive_language_model"

    _softmax_loss: Optional[AdaptiveSoftmax]

    def __init__(
        self,
        vocab: Vocabulary,
        text_field_embedder: TextFieldEmbedder,
        contextualizer: Seq2SeqEncoder,
        cutoffs: List[int],
        dropout: Optional[float] = None,
        embedding_dropout: Optional[float] = None,
        direction: str = "forward",
        bidirectional: bool = False,
        div_value: float = 4.0,
        tail_offset: int = 0,
        spare_classes: int = 0,
        tie_weights: bool = False,
        tail_samples: Optional[int] = None,
        autocast: Optional[str] = None,
        projection_dim: Optional[int] = None,
        projection_activation: Optional[Activation] = None,
        initializer: Optional[InitializerApplicator] = None,
        **kwargs: Any,
    ) -> None:
        for option in ("num_samples", "sparse_embeddings"):
            if option in kwargs:
                raise ConfigurationError(
                    f"An adaptive_language_model has an adaptive softmax and no option {option}, which belongs to "
                    f"the sampled softmax of allennlp_models' language_model."
                )
        # LanguageModel's own constructor would first make the softmax over the whole vocabulary (1.3 GB for the
        # published sizes) that this class exists to avoid. Everything else that it sets up is set up here.
        super(LanguageModel, self).__init__(vocab, **kwargs)
        _check_directions(text_field_embedder, contextualizer, direction, bidirectional)
        self._text_field_embedder = text_field_embedder
        self._contextualizer = contextualizer
        self._bidirectional = bidirectional
        self.direction = "bidirectional" if bidirectional else direction
        # The size of what each direction predicts from.
        self._forward_dim = contextualizer.get_output_dim() // (2 if bidirectional else 1)
        self._dropout = torch.nn.Dropout(dropout or 0.0)
        self._embedding_dropout = torch.nn.Dropout(embedding_dropout or 0.0)

        self._projection: Optional[torch.nn.Linear] = None
        if projection_dim is not None:
            if projection_dim < 1:
                raise ConfigurationError(f"projection_dim is at least 1, but it is {projection_dim}.")
            self._projection = torch.nn.Linear(self._forward_dim, projection_dim)
            init_linear_(self._projection)
        elif projection_activation is not None:
            raise ConfigurationError("There is a projection_activation, but no projection_dim.")
        self._projection_activation = projection_activation or Activation.by_name("linear")()

        if spare_classes < 0:
            raise ConfigurationError(f"spare_classes is at least 0, but it is {spare_classes}.")
        num_words = vocab.get_vocab_size(NAMESPACE) - 1 + spare_classes  # all but the padding
        self._softmax_loss = build_softmax(
            projection_dim if projection_dim is not None else self._forward_dim,
            num_words,
            cutoffs,
            div_value=div_value,
            tail_offset=tail_offset,
            tail_samples=tail_samples,
            tied_to=text_field_embedder if tie_weights else None,
        )
        if autocast not in (None, "bfloat16"):
            raise ConfigurationError(
                f"autocast of an adaptive_language_model is null or 'bfloat16', but '{autocast}' was found. For "
                f"float16 use the trainer's use_amp."
            )
        self._autocast = autocast is not None
        self._perplexities = {"perplexity": CorpusPerplexity()}
        if bidirectional:
            self._perplexities["forward_perplexity"] = CorpusPerplexity()
            self._perplexities["backward_perplexity"] = CorpusPerplexity()
        if initializer is not None:
            initializer(self)

    @overrides
    def delete_softmax(self) -> None:
        """Removes the softmax and the projection before it. The model then gives vectors, and no loss."""
        self._softmax_loss = None
        self._projection = None

    def reset_states(self) -> None:
        """Makes a `stateful` contextualizer start anew with the next window."""
        self._contextualizer.reset_states()

    def stream_state(self) -> Dict[str, Any]:
        """State of a training in the middle of a text, beside the weights: carried hidden states and perplexities."""
        state: Dict[str, Any] = {
            "perplexities": {name: metric.state() for name, metric in self._perplexities.items()}
        }
        if isinstance(self._contextualizer, CarryingEncoder):
            state["hidden"] = self._contextualizer.get_states()
        return state

    def load_stream_state(self, state: Dict[str, Any]) -> None:
        """Continue from a `stream_state`."""
        for name, numbers in state["perplexities"].items():
            self._perplexities[name].set_state(numbers)
        if "hidden" in state and isinstance(self._contextualizer, CarryingEncoder):
            self._contextualizer.set_states(state["hidden"])

    @overrides(check_signature=False)
    def _load_from_state_dict(
        self, state_dict: Dict[str, Any], prefix: str, local_metadata: Dict[str, Any], *args: Any
    ) -> None:
        """Also loads the `stream_state` that `ResumableCheckpointer` adds to the metadata of the weights."""
        if "stream_state" in local_metadata:
            self.load_stream_state(local_metadata["stream_state"])
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)

    @overrides
    def forward(  # type: ignore[override]
        self,
        source: TextFieldTensors,
        targets: Optional[torch.LongTensor] = None,
        first_window: bool = False,
        direction: Optional[str] = None,
        backward_source: Optional[TextFieldTensors] = None,
        backward_targets: Optional[torch.LongTensor] = None,
        host_targets: Optional[List[numpy.ndarray]] = None,
    ) -> Dict[str, torch.Tensor]:
        """
        # Parameters

        source : `TextFieldTensors`
            Sentences, each with a boundary token at both ends; or a window of a stream. The targets of sentences
            come from the entry "tokens" of a `SingleIdTokenIndexer`; without it there is no loss.
        targets : `torch.LongTensor`, optional
            Shape (B, T), in a stream only: what is to be predicted at each step, in the natural order; 0 for
            nothing.
        first_window : `bool`, optional (default = `False`)
            In a stream only: whether the hidden states start anew. They always do with sentences.
        direction : `str`, optional
            In a stream only: the direction in which the windows were cut.
        backward_source, backward_targets : optional
            In the stream of a bidirectional model only: the window that its backward half reads, which stands
            elsewhere in the text than `source`, and the token before each of its tokens.
        host_targets : `List[numpy.ndarray]`, optional
            In a stream only: `targets` and, if given, `backward_targets` once more, in the memory of the CPU. With them
            the model needs nothing back from a GPU until the loss is there.

        # Returns

        `loss` : `torch.Tensor`
            The mean negative log-likelihood of the targets in nats; the mean of both directions', if there are
            two.
        `forward_loss`, `backward_loss` : `torch.Tensor`
            The same for each direction that the model has.
        `lm_embeddings` : `torch.Tensor`
            Shape (B, T, contextualizer's output size), in the natural order, without dropout.
        `noncontextual_token_embeddings` : `torch.Tensor`
            Shape (B, T, embedder's output size), without dropout.
        `mask` : `torch.BoolTensor`
            Shape (B, T).
        `batch_weight` : `torch.Tensor`
            The number of targets (of one direction).

        Raises `ConfigurationError` if the windows were cut for another direction than the model's.
        """
        if targets is not None:
            self._check_stream(direction)
        if first_window or targets is None:
            self.reset_states()
        mask = get_text_field_mask(source)  # (B, T)
        embeddings = self._text_field_embedder(source)  # (B, T, D)
        on_host = [torch.from_numpy(window) for window in host_targets or []]
        # Of whole windows nobody needs to ask how long their rows are.
        is_whole = bool(on_host) and all(bool(window.all()) for window in on_host)
        vectors = self._embedding_dropout(embeddings)
        all_targets: Dict[str, torch.Tensor]
        if backward_source is not None and backward_targets is not None:
            assert targets is not None
            contextual = self._contextualize_windows(
                vectors, mask, backward_source, is_whole
            )  # (B, T, output size)
            all_targets = {"forward": targets, "backward": backward_targets}
        else:
            contextual = self._contextualize(vectors, mask, is_whole)  # (B, T, output size)
            all_targets = (
                self._sentence_targets(source, mask) if targets is None else {self.direction: targets}
            )
        outputs: Dict[str, torch.Tensor] = {}
        if all_targets and self._softmax_loss is not None:
            outputs.update(self._losses(contextual, all_targets, on_host))
        outputs["lm_embeddings"] = contextual.to(embeddings.dtype)
        outputs["noncontextual_token_embeddings"] = embeddings
        outputs["mask"] = mask
        return outputs

    @torch.no_grad()
    def token_log_probs(self, source: TextFieldTensors) -> Dict[str, torch.Tensor]:
        """
        The log-probability of each token of whole sentences, for a model in evaluation mode.

        # Parameters

        source : `TextFieldTensors`
            As in `forward`, with the entry "tokens".

        # Returns

        `Dict[str, torch.Tensor]`
            For "forward" and/or "backward" a tensor of shape (B, T): at each token the natural logarithm of its
            probability, given the tokens before it (or after it). 0 at the boundary that is read first, which is
            not predicted, and at padding. A sentence's log-probability is the sum.

        Raises `ConfigurationError` if the softmax was deleted.
        """
        if self._softmax_loss is None:
            raise ConfigurationError(
                "The softmax of this language model was deleted: it gives no probabilities."
            )
        self.reset_states()
        mask = get_text_field_mask(source)
        contextual = self._contextualize(self._text_field_embedder(source), mask)
        log_probs = {}
        for name, targets in self._sentence_targets(source, mask).items():
            predicting = targets > 0  # (B, T)
            values = contextual.new_zeros(targets.shape)
            values[predicting] = self._softmax_loss.target_log_prob(
                self._before_softmax(self._direction_part(contextual, name)[predicting]),
                targets[predicting] - 1,
            ).to(values.dtype)
            # From the step that predicts to the token that is predicted; what wraps around is 0.
            log_probs[name] = values.roll(1 if name == "forward" else -1, dims=1)
        return log_probs

    @overrides
    def get_metrics(self, reset: bool = False) -> Dict[str, float]:
        """
        The exact perplexity exp(-sum of log-probabilities / number of targets) of all that was read: see
        `CorpusPerplexity`. A bidirectional model gives both directions' as well, and their geometric mean.
        """
        return {name: metric.get_metric(reset=reset) for name, metric in self._perplexities.items()}

    def _check_stream(self, direction: Optional[str]) -> None:
        if direction is not None and direction != self.direction:
            raise ConfigurationError(
                f"The direction of this adaptive_language_model is {self.direction}, but that of its lm_stream data "
                f'loader is {direction}. (A bidirectional language model needs the loader\'s direction "both".)'
            )

    def _contextualize(
        self, embeddings: torch.Tensor, mask: torch.BoolTensor, is_whole: bool = False
    ) -> torch.Tensor:
        read_mask = None if is_whole and isinstance(self._contextualizer, LdRnn) else mask
        with self._precision(embeddings.device):
            if self.direction != "backward":
                return self._contextualizer(embeddings, read_mask)
            lengths = mask.sum(dim=1)
            contextual = self._contextualizer(reverse_sequences(embeddings, lengths), read_mask)
            return reverse_sequences(contextual, lengths)

    def _contextualize_windows(
        self,
        embeddings: torch.Tensor,
        mask: torch.BoolTensor,
        backward_source: TextFieldTensors,
        is_whole: bool,
    ) -> torch.Tensor:
        """The outputs for a forward window and, from another place of the text, a backward one."""
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

    def _precision(self, device: torch.device) -> ContextManager[Any]:
        if not self._autocast:
            return nullcontext()  # the trainer's autocast, if any, stays in force
        return torch.autocast(device_type=device.type, dtype=torch.bfloat16)

    def _sentence_targets(self, source: TextFieldTensors, mask: torch.BoolTensor) -> Dict[str, torch.Tensor]:
        """The next and/or the previous token of each, 0 where there is none."""
        if "tokens" not in source:
            return {}
        token_ids = source["tokens"]["tokens"]  # (B, T)
        nothing = torch.zeros_like(token_ids[:, :1])
        targets = {}
        if self.direction != "backward":
            targets["forward"] = torch.cat([token_ids[:, 1:], nothing], dim=1)
        if self.direction != "forward":
            # Without the mask, the first step of the padding would have the last token as its target.
            targets["backward"] = torch.cat([nothing, token_ids[:, :-1]], dim=1) * mask
        return targets

    def _direction_part(self, contextual: torch.Tensor, direction: str) -> torch.Tensor:
        if not self._bidirectional:
            return contextual
        return contextual.chunk(2, dim=-1)[0 if direction == "forward" else 1]

    def _before_softmax(self, contextual: torch.Tensor) -> torch.Tensor:
        with self._precision(contextual.device):
            if self._projection is not None:
                contextual = self._projection_activation(self._projection(contextual))
            return self._dropout(contextual)

    def _losses(
        self,
        contextual: torch.Tensor,
        all_targets: Dict[str, torch.Tensor],
        on_host: List[torch.Tensor],
    ) -> Dict[str, torch.Tensor]:
        """The losses of `forward`, which are counted for the perplexities, too."""
        losses = {}
        num_targets = 0
        for number, (name, targets) in enumerate(all_targets.items()):
            part = self._direction_part(contextual, name)
            host_targets = on_host[number] if on_host else None
            total = self._loss_helper(number, part, targets, host_targets=host_targets)
            num_targets = int((targets if host_targets is None else host_targets).count_nonzero())
            self._perplexities["perplexity"](total, num_targets)
            if self._bidirectional:
                self._perplexities[f"{name}_perplexity"](total, num_targets)
            # A batch without targets has a loss of 0, with gradients: training needs them.
            losses[f"{name}_loss"] = total / max(num_targets, 1)
        loss = torch.stack(list(losses.values())).mean()
        return {"loss": loss, **losses, "batch_weight": loss.new_tensor(float(num_targets))}

    @overrides(check_signature=False)  # the base class declares two numbers, and returns a tensor
    def _loss_helper(  # type: ignore[override]
        self,
        direction: int,
        direction_embeddings: torch.Tensor,
        direction_targets: torch.Tensor,
        token_embeddings: Optional[torch.Tensor] = None,
        host_targets: Optional[torch.Tensor] = None,
    ) -> torch.Tensor:
        """The negative log-likelihood of one direction, summed over its targets, given them on the CPU too or not."""
        assert self._softmax_loss is not None
        embeddings = direction_embeddings.flatten(end_dim=1)  # (B * T, size of a direction)
        targets = direction_targets.flatten()  # (B * T,)
        host_targets = None if host_targets is None else host_targets.flatten()
        steps = (targets if host_targets is None else host_targets).nonzero().squeeze(1)  # (N,)
        if steps.numel() < targets.numel():
            host_targets = None if host_targets is None else host_targets.index_select(0, steps)
            steps = steps.to(targets.device, non_blocking=True)
            embeddings, targets = embeddings.index_select(0, steps), targets.index_select(0, steps)
        # The padding is not a class of the softmax.
        return self._softmax_loss(
            self._before_softmax(embeddings), targets - 1, None if host_targets is None else host_targets - 1
        )


def _check_directions(
    text_field_embedder: TextFieldEmbedder,
    contextualizer: Seq2SeqEncoder,
    direction: str,
    bidirectional: bool,
) -> None:
    if contextualizer.is_bidirectional() is not bidirectional:
        raise ConfigurationError(
            f"Whether the language model is bidirectional ({bidirectional}) must match its contextualizer, whose "
            f"is_bidirectional() is {contextualizer.is_bidirectional()}."
        )
    if direction not in ("forward", "backward") or (bidirectional and direction != "forward"):
        raise ConfigurationError(
            f"The direction of a unidirectional language model is forward or backward, and a bidirectional one "
            f"has none, but direction is '{direction}' and bidirectional is {bidirectional}."
        )
    given, wanted = text_field_embedder.get_output_dim(), contextualizer.get_input_dim()
    if given != wanted:
        raise ConfigurationError(
            f"The contextualizer of the language model reads vectors of size {wanted} (its input_size), "
            f"but the text_field_embedder gives vectors of size {given}."
        )
