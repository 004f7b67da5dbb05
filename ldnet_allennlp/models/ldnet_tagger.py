"""The sequence labeller of LD-Net."""

from typing import Any, Dict, List, Optional

import torch
from allennlp.data import TextFieldTensors, Vocabulary
from allennlp.models.model import Model
from allennlp.modules import FeedForward, Seq2SeqEncoder, TextFieldEmbedder
from allennlp.nn import InitializerApplicator
from allennlp.nn.util import get_text_field_mask
from allennlp.training.metrics import CategoricalAccuracy
from allennlp_models.tagging.models.crf_tagger import CrfTagger
from overrides import overrides

from ldnet_allennlp.modules.weighted_conditional_random_field import build_crf
from ldnet_allennlp.modules.layer_selection import LayerSelection
from ldnet_allennlp.modules.ldnet_embedder import LdnetEmbedder
from ldnet_allennlp.training.span_f1 import SpanF1


@Model.register("ldnet_tagger")
class LdnetTagger(CrfTagger):
    """
    A CRF tagger (allennlp-models' `CrfTagger`) with a CRF that computes whole batches at once, and with the
    penalty of layer selection in its loss (LD-Net; `model_seq/seqlabel.py` of the original).

    It differs from `CrfTagger` in this: the loss is the mean over the sentences of a batch and not their sum,
    as in the original, so that learning rates and `lambda_0` mean the same for every batch size; training
    steps do not decode; padded scores are not in the output; span F1 works with several workers.

    Registered as a `Model` with name "ldnet_tagger".

    # Parameters

    vocab, text_field_embedder, encoder, label_namespace, feedforward, label_encoding,
    include_start_end_transitions, constrain_crf_decoding, calculate_span_f1, dropout, verbose_metrics,
    initializer, top_k, ignore_loss_on_o_tags, label_weights, weight_strategy
        As in `CrfTagger`.
    decode_in_training : `bool`, optional (default = `False`)
        Whether training steps decode too, for accuracy and F1 on the training data.
    return_logits : `bool`, optional (default = `False`)
        Whether `logits` and `mask` are part of the output, as in `CrfTagger`. They are padded, and large.
    """

    default_predictor = "ldnet_tagger"

    def __init__(
        self,
        vocab: Vocabulary,
        text_field_embedder: TextFieldEmbedder,
        encoder: Seq2SeqEncoder,
        label_namespace: str = "labels",
        feedforward: Optional[FeedForward] = None,
        label_encoding: Optional[str] = None,
        include_start_end_transitions: bool = True,
        constrain_crf_decoding: Optional[bool] = None,
        calculate_span_f1: Optional[bool] = None,
        dropout: Optional[float] = None,
        verbose_metrics: bool = False,
        initializer: Optional[InitializerApplicator] = None,
        top_k: int = 1,
        ignore_loss_on_o_tags: bool = False,
        label_weights: Optional[Dict[str, float]] = None,
        weight_strategy: Optional[str] = None,
        decode_in_training: bool = False,
        return_logits: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            vocab,
            text_field_embedder,
            encoder,
            label_namespace=label_namespace,
            feedforward=feedforward,
            label_encoding=label_encoding,
            include_start_end_transitions=include_start_end_transitions,
            constrain_crf_decoding=constrain_crf_decoding,
            calculate_span_f1=calculate_span_f1,
            dropout=dropout,
            verbose_metrics=verbose_metrics,
            top_k=top_k,
            ignore_loss_on_o_tags=ignore_loss_on_o_tags,
            label_weights=label_weights,
            weight_strategy=weight_strategy,
            **kwargs,
        )
        self.decode_in_training = decode_in_training
        self.return_logits = return_logits
        self._use_fast_crf(weight_strategy)
        self.metrics = {"accuracy": CategoricalAccuracy()}
        if self.calculate_span_f1:
            self._f1_metric = SpanF1(vocab, tag_namespace=label_namespace, label_encoding=label_encoding)
        self._has_decoded = False
        # Only now: an initializer that reads a trained tagger's weights must meet the final modules.
        if initializer is not None:
            initializer(self)

    def _use_fast_crf(self, weight_strategy: Optional[str]) -> None:
        """Puts the batched CRF in the place of the one that `CrfTagger` made, with its parameters."""
        slow = self.crf
        num_tags = self.num_tags
        allowed = slow._constraint_mask.nonzero(as_tuple=False).tolist()
        unconstrained = len(allowed) == (num_tags + 2) ** 2
        self.crf = build_crf(
            num_tags,
            constraints=None if unconstrained else [(before, after) for before, after in allowed],
            include_start_end_transitions=self.include_start_end_transitions,
            label_weights=getattr(self, "label_weights", None),
            weight_strategy=weight_strategy,
        )
        self.crf.load_state_dict(slow.state_dict())

    @overrides(check_signature=False)  # the output holds lists, too
    def forward(  # type: ignore
        self,
        tokens: TextFieldTensors,
        tags: Optional[torch.LongTensor] = None,
        metadata: Optional[List[Dict[str, Any]]] = None,
        ignore_loss_on_o_tags: Optional[bool] = None,
        **kwargs: Any,
    ) -> Dict[str, Any]:
        """
        # Parameters

        tokens : `TextFieldTensors`
            The indexed words.
        tags : `torch.LongTensor`, optional
            Shape (B, T): the true tags.
        metadata : `List[Dict[str, Any]]`, optional
            One dictionary a sentence, with its words under "words".
        ignore_loss_on_o_tags : `bool`, optional
            Takes the place of the constructor's argument for this call.

        # Returns

        `Dict[str, Any]`
            `tags`, a list of tag ids for each sentence, outside of training steps (or with
            `decode_in_training`); `loss`, a scalar, if `tags` are given; `words`, if `metadata` is given;
            `top_k_tags` if `top_k` is above 1; `logits` (B, T, num_tags) and `mask` (B, T) if asked for.
        """
        mask = get_text_field_mask(tokens)
        logits = self._score(tokens, mask)  # (B, T, num_tags)
        output: Dict[str, Any] = {}
        if self.return_logits:
            output.update(logits=logits, mask=mask)
        if not self.training or self.decode_in_training or tags is None:
            best_paths = self.crf.viterbi_tags(logits, mask, top_k=self.top_k)
            output["tags"] = [paths[0][0] for paths in best_paths]
            if self.top_k > 1:
                output["top_k_tags"] = best_paths
        if tags is not None:
            output["loss"] = self._loss(logits, tags, mask, ignore_loss_on_o_tags)
            if "tags" in output:
                self._update_metrics(output["tags"], tags, mask)
        if metadata is not None:
            output["words"] = [sentence["words"] for sentence in metadata]
        return output

    def _score(self, tokens: TextFieldTensors, mask: torch.BoolTensor) -> torch.Tensor:
        """The score of each tag for each word. Shape (B, T, num_tags)."""
        vectors = self.text_field_embedder(tokens)  # (B, T, embedding size)
        if self.dropout:
            vectors = self.dropout(vectors)
        encoded = self.encoder(vectors, mask)  # (B, T, encoder's output size)
        if self.dropout:
            encoded = self.dropout(encoded)
        if self._feedforward is not None:
            encoded = self._feedforward(encoded)
        return self.tag_projection_layer(encoded)

    def _loss(
        self,
        logits: torch.Tensor,
        tags: torch.Tensor,
        mask: torch.Tensor,
        ignore_loss_on_o_tags: Optional[bool],
    ) -> torch.Tensor:
        if ignore_loss_on_o_tags is None:
            ignore_loss_on_o_tags = self.ignore_loss_on_o_tags
        if ignore_loss_on_o_tags:
            outside = self.vocab.get_token_index("O", namespace=self.label_namespace)
            mask = mask & (tags != outside)
        return -self.crf(logits, tags, mask) / logits.size(0)

    def _update_metrics(self, predicted: List[List[int]], gold: torch.Tensor, mask: torch.Tensor) -> None:
        self._has_decoded = True
        flat = torch.tensor([tag for tags in predicted for tag in tags], device=gold.device)  # (words,)
        scores = torch.nn.functional.one_hot(flat.long(), self.num_tags)  # (words, num_tags)
        for metric in self.metrics.values():
            metric(scores, gold[mask])
        if self.calculate_span_f1:
            self._f1_metric.add_tags(predicted, gold)
        elif self._verbose_metrics:
            self._f_beta_measure(scores, gold[mask])

    @overrides
    def get_regularization_penalty(self) -> Optional[torch.Tensor]:
        """
        The regularizer's penalty, if there is one, and that of layer selection, where gates are trained.

        Here and not in `forward`: AllenNLP adds it to the training loss before the backward pass and reports it
        as `reg_loss`.
        """
        penalty = super().get_regularization_penalty()
        for module in self.modules():
            own = isinstance(module, LayerSelection) and module.lambda_0 > 0
            addition = module.penalty() if own or isinstance(module, LdnetEmbedder) else None
            if addition is not None:
                penalty = addition if penalty is None else penalty + addition
        return penalty

    @overrides
    def get_metrics(self, reset: bool = False) -> Dict[str, float]:
        """
        # Returns

        `Dict[str, float]`
            `accuracy` and span F1 of what was decoded, if anything was, and `kept_layers`, the number of gates
            above 0, where gates are trained.
        """
        metrics: Dict[str, float] = {}
        if self._has_decoded:
            metrics.update(super().get_metrics(reset))
        if reset:
            self._has_decoded = False
        gates = [
            module.gates
            for module in self.modules()
            if isinstance(module, LayerSelection) and module.gates.requires_grad
        ]
        if gates:
            metrics["kept_layers"] = float(sum(int((values > 0).sum()) for values in gates))
        return metrics
