"""The sequence labeler of AutoNER."""

from typing import Any, Optional

import torch
from allennlp.common.checks import ConfigurationError
from allennlp.data import TextFieldTensors, Vocabulary
from allennlp.models.model import Model
from allennlp.modules import FeedForward, Seq2SeqEncoder, TextFieldEmbedder, TimeDistributed
from allennlp.nn import InitializerApplicator
from overrides import overrides
from torch.nn.functional import one_hot

from ldnet_allennlp.data.language_model_vocabulary import words_of
from ldnet_allennlp.models.tagger_crf import check_letters, check_tags
from ldnet_allennlp.models.tagger_network import with_gate_penalty, word_scores
from ldnet_allennlp.modules.chunks.tie_or_break_loss import TieOrBreakLoss, score_names
from ldnet_allennlp.modules.selection.gated_modules import selection_metrics
from ldnet_allennlp.training.metrics.tagging_scores import TaggingScores
from ldnet_runtime.decoding.chunks import CHUNK_ENCODINGS, ChunkDecoder, chunk_types, num_chunk_scores
from ldnet_runtime.prediction import Options
from ldnet_runtime.tag_schemes import (
    OUTSIDE,
    Span,
    canonical_encoding,
    join_tag,
    letter_of,
    spans_from_tags,
)


@Model.register("tie_or_break_tagger")
class TieOrBreakTagger(Model):
    """
    Tagger that decides for each gap between two words whether it is a tie or a break, and then for each chunk between
    two breaks which type it has, if any (AutoNER; Shang et al. 2018, arXiv 1809.03599).

    It trains on full and on partial labels: gaps and types that the labels leave open are not part of the loss, see
    `TieOrBreakLoss`. So in a sentence where only some phrases are known, an incomplete dictionary costs less than with
    a CRF.

    A gap is scored from the encoder's states (both directions) of the words on both sides of it, a chunk from those of
    its two gaps. Embedders, layer selection, readers, predictor, metrics, pruning and export are those of
    "ldnet_tagger". The loss is the mean over the sentences of a batch. Training steps do not decode. Prediction changes
    no attribute, so several threads can use one model.

    The constructor adds the missing tags of each type to the vocabulary, because chunks can have any length.

    Registered as a `Model` with name "tie_or_break_tagger".

    # Parameters

    vocab : `Vocabulary`
    text_field_embedder : `TextFieldEmbedder`
    encoder : `Seq2SeqEncoder`
    label_namespace : `str`, optional (default = `"labels"`)
    label_encoding : `str`, optional (default = `"BIOUL"`)
        One of `CHUNK_ENCODINGS`: that of the reader's tags and of the output.
    feedforward : `FeedForward`, optional
        Applied to the encoder's states.
    dropout : `float`, optional
        Of the embedder's and of the encoder's output.
    verbose_metrics : `bool`, optional (default = `False`)
        Whether to report span scores by type.
    return_logits : `bool`, optional (default = `False`)
        Whether to output `logits` and `mask`: the scores of the words, padded, see `ldnet_runtime.decoding.chunks`.
    return_confidences : `bool`, optional (default = `False`)
        Whether to output `confidences`: for each span, the product of the probabilities of its gaps and of its type.
    initializer : `InitializerApplicator`, optional
    kwargs
        regularizer, as in `Model`.

    Raises `ConfigurationError` if the labels have no types, or are in another encoding.
    """

    default_predictor = "ldnet_tagger"

    def __init__(
        self,
        vocab: Vocabulary,
        text_field_embedder: TextFieldEmbedder,
        encoder: Seq2SeqEncoder,
        label_namespace: str = "labels",
        label_encoding: str = "BIOUL",
        feedforward: Optional[FeedForward] = None,
        dropout: Optional[float] = None,
        verbose_metrics: bool = False,
        return_logits: bool = False,
        return_confidences: bool = False,
        initializer: Optional[InitializerApplicator] = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(vocab, **kwargs)
        self.text_field_embedder = text_field_embedder
        self.encoder = encoder
        self._feedforward = feedforward
        self.dropout = torch.nn.Dropout(dropout) if dropout else None
        self.label_namespace = label_namespace
        self.label_encoding = label_encoding
        self.return_logits = return_logits
        self.return_confidences = return_confidences
        self._verbose_metrics = verbose_metrics
        self._set_labels()
        size = (encoder if feedforward is None else feedforward).get_output_dim()
        self.tag_projection_layer = TimeDistributed(torch.nn.Linear(size, num_chunk_scores(self.labels)))
        if initializer is not None:
            initializer(self)

    def _set_labels(self) -> None:
        self.labels = _complete_labels(self.vocab, self.label_namespace, self.label_encoding)
        self.decoder = ChunkDecoder(self.labels, self.label_encoding)
        self.tie_or_break_loss = TieOrBreakLoss(self.labels, self.label_encoding)
        self._scores = TaggingScores(self.vocab, self.label_namespace, self.spans, self._verbose_metrics)

    @overrides
    def extend_embedder_vocab(self, embedding_sources_mapping: dict[str, str] | None = None) -> None:
        """Also adds scores for the types of new labels. The scores of old types keep their weights."""
        super().extend_embedder_vocab(embedding_sources_mapping)
        old_names, old = score_names(self.labels), self.tag_projection_layer._module
        self._set_labels()
        self.tie_or_break_loss.to(old.weight.device)
        names = score_names(self.labels)
        if names == old_names:
            return
        layer = torch.nn.Linear(old.in_features, len(names)).to(old.weight)
        rows = [names.index(name) for name in old_names]
        with torch.no_grad():
            layer.weight[rows], layer.bias[rows] = old.weight, old.bias
        layer.weight.requires_grad_(old.weight.requires_grad)
        layer.bias.requires_grad_(old.bias.requires_grad)
        self.tag_projection_layer = TimeDistributed(layer)

    def spans(self, tags: list[str]) -> list[Span]:
        """The spans of tags in the model's `label_encoding`."""
        return spans_from_tags(tags, self.label_encoding)

    def score(
        self, tokens: TextFieldTensors, autocast: torch.dtype | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The scores (B, T, M) of words, see `ldnet_runtime.decoding.chunks`, and their mask (B, T)."""
        return word_scores(self, tokens, autocast)

    @overrides(check_signature=False)  # the output holds lists, too
    def forward(  # type: ignore
        self,
        tokens: TextFieldTensors,
        tags: torch.LongTensor | None = None,
        metadata: list[dict[str, Any]] | None = None,
        allowed_tags: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """
        # Parameters

        tokens, tags, metadata, allowed_tags
            As in `LdnetTagger.forward`. Without `allowed_tags`, each word has its tag.

        # Returns

        `Dict[str, Any]`
            `tags`, a list of tag ids for each sentence, and `confidences` if requested, outside of training steps;
            `loss`, a scalar, if `tags` are given; `words`, if `metadata` is given; `logits` (B, T, M) and `mask`
            (B, T), if requested.
        """
        scores, mask = self.score(tokens)
        output: dict[str, Any] = {"logits": scores, "mask": mask} if self.return_logits else {}
        if not self.training or tags is None:
            output.update(self.decode(scores, mask))
        if tags is not None:
            check_tags(tags, mask, metadata or (), self.label_encoding, self.training)
            if allowed_tags is None:
                seen = one_hot(tags.clamp(min=0), len(self.labels)).bool()
                allowed_tags = seen | (tags < 0).unsqueeze(-1)
            loss = self.tie_or_break_loss(scores, allowed_tags, mask)
            output["loss"] = loss / scores.size(0)
            if "tags" in output:
                self._scores.update(output["tags"], tags, mask, metadata)
        if metadata is not None:
            output["words"] = [sentence["words"] for sentence in metadata]
        return output

    @torch.no_grad()
    def decode(self, scores: torch.Tensor, mask: torch.Tensor) -> dict[str, Any]:
        """The `tags` for `score`'s results, and `confidences` if the constructor requests them."""
        options = Options(confidences=self.return_confidences)
        lengths = mask.sum(1).cpu().numpy()
        decoded = self.decoder.decode(scores.detach().cpu().numpy(), lengths, options)
        ids = self.vocab.get_token_to_index_vocabulary(self.label_namespace)
        output: dict[str, Any] = {"tags": [[ids[tag] for tag in one.tags] for one in decoded]}
        if self.return_confidences:
            output["confidences"] = [[span[-1] for span in one.spans] for one in decoded]
        return output

    @overrides
    def get_regularization_penalty(self) -> torch.Tensor | None:
        """The penalties of the regularizer and, with trained gates, of layer selection."""
        return with_gate_penalty(self, super().get_regularization_penalty())

    @overrides
    def make_output_human_readable(self, output_dict: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Convert tag ids to tags. The output of a training step, which has none, stays unchanged."""
        output: dict[str, Any] = output_dict
        if "tags" in output:
            output["tags"] = [[self.labels[tag] for tag in tags] for tags in output["tags"]]
        return output_dict

    @overrides
    def get_metrics(self, reset: bool = False) -> dict[str, float]:
        """`accuracy`, span F1, `unseen_labels` and the metrics of the gates, as in `LdnetTagger.get_metrics`."""
        metrics = self._scores.get(reset)
        metrics.pop("accuracy3", None)  # tags have no scores
        metrics.update(selection_metrics(self))
        return metrics


def _complete_labels(vocab: Vocabulary, namespace: str, label_encoding: str) -> list[str]:
    """All tags in the order of their ids, after the missing ones of the vocabulary's types are added to it."""
    encoding = canonical_encoding(label_encoding)
    labels = words_of(vocab, namespace)
    if encoding not in CHUNK_ENCODINGS:
        raise ConfigurationError(
            f"The label_encoding of a tie_or_break_tagger is {label_encoding}; expected one of "
            f"{', '.join(CHUNK_ENCODINGS)}."
        )
    check_letters(labels, encoding)
    types = chunk_types(labels)
    if not types:
        raise ConfigurationError(
            f"The vocabulary's namespace '{namespace}' has the tags {', '.join(labels) or '(none)'}, but a "
            f"tie_or_break_tagger needs spans with types, such as B-Disease."
        )
    tags = [join_tag(letter_of(role, encoding), kind) for kind in types for role in "BIES"]
    vocab.add_tokens_to_namespace([OUTSIDE, *tags], namespace)
    return words_of(vocab, namespace)
