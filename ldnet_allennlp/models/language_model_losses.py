"""Losses, probabilities and perplexities of a language model, from its contextual vectors."""

from contextlib import AbstractContextManager
from typing import Any, Optional

import torch
from allennlp.common.checks import ConfigurationError
from allennlp.data import TextFieldTensors
from allennlp.modules import TextFieldEmbedder
from allennlp.modules.seq2seq_encoders import Seq2SeqEncoder
from allennlp.nn import Activation
from allennlp.nn.util import get_text_field_mask
from allennlp_models.lm.models.language_model import LanguageModel
from overrides import overrides

from ldnet_allennlp.modules.rnn.carried_states import CarryingEncoder
from ldnet_allennlp.modules.softmax.adaptive_softmax import AdaptiveSoftmax
from ldnet_allennlp.training.metrics.corpus_perplexity import CorpusPerplexity


def check_directions(
    text_field_embedder: TextFieldEmbedder,
    contextualizer: Seq2SeqEncoder,
    direction: str,
    bidirectional: bool,
) -> None:
    """Raise `ConfigurationError` if sizes or directions of a model's parts contradict its options."""
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
    output_dim, input_dim = text_field_embedder.get_output_dim(), contextualizer.get_input_dim()
    if output_dim != input_dim:
        raise ConfigurationError(
            f"The contextualizer of the language model reads vectors of size {input_dim} (its input_size), "
            f"but the text_field_embedder gives vectors of size {output_dim}."
        )


def sentence_targets(
    source: TextFieldTensors, mask: torch.BoolTensor, direction: str
) -> dict[str, torch.Tensor]:
    """
    The target of each step in whole sentences with a mask (B, T): for the directions "forward" (the next token) and
    "backward" (the previous one) or both ("bidirectional"), the ids (B, T), 0 where there is no target. They come from
    the entry "tokens" of a `SingleIdTokenIndexer`; without it there are no targets.
    """
    token_ids = source.get("tokens", {}).get("tokens")  # (B, T)
    if token_ids is None:
        return {}
    nothing = torch.zeros_like(token_ids[:, :1])
    targets = {}
    if direction != "backward":
        targets["forward"] = torch.cat([token_ids[:, 1:], nothing], dim=1)
    if direction != "forward":
        # Without the mask, the first step of the padding would have the last token as its target.
        targets["backward"] = torch.cat([nothing, token_ids[:, :-1]], dim=1) * mask
    return targets


def direction_part(contextual: torch.Tensor, direction: str, bidirectional: bool) -> torch.Tensor:
    """The vectors for the "forward" or "backward" predictions: a half (B, T, D / 2) if the model is bidirectional."""
    if not bidirectional:
        return contextual
    return contextual.chunk(2, dim=-1)[0 if direction == "forward" else 1]


class LanguageModelLosses(LanguageModel):
    """
    The upper half of an `AdaptiveLanguageModel`: projection, softmax, losses, perplexities, and the training state
    within a text. The subclass creates the attributes and reads the text.
    """

    direction: str
    _dropout: torch.nn.Dropout
    _perplexities: dict[str, CorpusPerplexity]
    _projection: Optional[torch.nn.Linear]
    _projection_activation: Activation
    _softmax_loss: Optional[AdaptiveSoftmax]

    def _contextualize_sentences(self, vectors: torch.Tensor, mask: torch.BoolTensor) -> Any:
        """The contextualizer's output for whole sentences, independent of any stream."""
        raise NotImplementedError

    def _precision(self, device: torch.device) -> AbstractContextManager[Any]:
        """The autocast context of the network."""
        raise NotImplementedError

    @overrides
    def delete_softmax(self) -> None:
        """Remove the softmax and the projection before it. The model then returns vectors, but no loss."""
        self._softmax_loss = None
        self._projection = None

    def reset_states(self) -> None:
        """Clear the carried states of a `stateful` contextualizer."""
        self._contextualizer.reset_states()

    def stream_state(self) -> dict[str, Any]:
        """Training state within a text, besides the weights: carried hidden states and perplexities."""
        state: dict[str, Any] = {
            "perplexities": {name: metric.state() for name, metric in self._perplexities.items()}
        }
        if isinstance(self._contextualizer, CarryingEncoder):
            state["hidden"] = list(self._contextualizer.carried)
        return state

    def load_stream_state(self, state: dict[str, Any]) -> None:
        """Continue from a `stream_state`."""
        for name, numbers in state["perplexities"].items():
            self._perplexities[name].set_state(numbers)
        if "hidden" in state and isinstance(self._contextualizer, CarryingEncoder):
            self._contextualizer.carried = list(state["hidden"])

    @overrides(check_signature=False)
    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, local_metadata: dict[str, Any], *args: Any
    ) -> None:
        """Load the weights and the `stream_state` that `ResumableCheckpointer` adds to their metadata."""
        if "stream_state" in local_metadata:
            self.load_stream_state(local_metadata["stream_state"])
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)

    @torch.no_grad()
    def token_log_probs(self, source: TextFieldTensors) -> dict[str, torch.Tensor]:
        """
        The natural logarithm of the probability of each token of whole sentences, given the tokens before it
        ("forward") or after it ("backward"), in evaluation mode: tensors (B, T), 0 at the first boundary, which is not
        predicted, and at padding. A sentence's log-probability is the sum. The `source` is that of `forward`, with the
        entry "tokens".

        Raises `ConfigurationError` if the softmax has been removed.
        """
        if self._softmax_loss is None:
            raise ConfigurationError(
                "The softmax of this language model was deleted: it gives no probabilities."
            )
        mask = get_text_field_mask(source)
        contextual = self._contextualize_sentences(self._text_field_embedder(source), mask)
        log_probs = {}
        for name, targets in sentence_targets(source, mask, self.direction).items():
            predicting = targets > 0  # (B, T)
            values = contextual.new_zeros(targets.shape)
            values[predicting] = self._softmax_loss.target_log_prob(
                self._before_softmax(direction_part(contextual, name, self._bidirectional)[predicting]),
                targets[predicting] - 1,
            ).to(values.dtype)
            # Shift from the predicting step to the predicted token; positions that wrap around are 0.
            log_probs[name] = values.roll(1 if name == "forward" else -1, dims=1)
        return log_probs

    @overrides
    def get_metrics(self, reset: bool = False) -> dict[str, float]:
        """
        The exact perplexity exp(-sum of log-probabilities / number of targets) of the text so far, see
        `CorpusPerplexity`; for a bidirectional model, that of both directions and their geometric mean.
        """
        return {name: metric.get_metric(reset=reset) for name, metric in self._perplexities.items()}

    def _before_softmax(self, contextual: torch.Tensor) -> torch.Tensor:
        with self._precision(contextual.device):
            if self._projection is not None:
                contextual = self._projection_activation(self._projection(contextual))
            return self._dropout(contextual)

    def _losses(
        self, contextual: torch.Tensor, all_targets: dict[str, torch.Tensor], on_host: list[torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """The losses of `forward`, which also count for the perplexities."""
        if isinstance(contextual, list):
            raise ConfigurationError(
                "The contextualizer of this language model has return_all_layers, which gives vectors and no loss. "
                "Leave the option out to train or evaluate."
            )
        losses = {}
        num_targets = 0
        for number, (name, targets) in enumerate(all_targets.items()):
            part = direction_part(contextual, name, self._bidirectional)
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
        token_embeddings: torch.Tensor | None = None,
        host_targets: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The negative log-likelihood of one direction, summed over its targets."""
        assert self._softmax_loss is not None
        embeddings = direction_embeddings.flatten(end_dim=1)  # (B * T, size of a direction)
        targets = direction_targets.flatten()  # (B * T,)
        host_targets = None if host_targets is None else host_targets.flatten()
        steps = (targets if host_targets is None else host_targets).nonzero().squeeze(1)  # (N,)
        if steps.numel() < targets.numel():
            host_targets = None if host_targets is None else host_targets.index_select(0, steps)
            steps = steps.to(targets.device, non_blocking=True)
            embeddings, targets = embeddings.index_select(0, steps), targets.index_select(0, steps)
        host_targets = None if host_targets is None else host_targets - 1  # the padding is not a class
        with self._precision(embeddings.device):
            return self._softmax_loss(self._before_softmax(embeddings), targets - 1, host_targets)
