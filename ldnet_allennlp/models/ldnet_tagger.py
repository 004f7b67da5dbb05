"""The sequence labeler of LD-Net."""

from contextlib import nullcontext
from typing import Any, Optional

import torch
from allennlp.common import Lazy
from allennlp.data import TextFieldTensors, Vocabulary
from allennlp.models.model import Model
from allennlp.modules import ConditionalRandomField, Seq2SeqEncoder, TextFieldEmbedder
from allennlp.nn import InitializerApplicator
from allennlp_models.tagging.models.crf_tagger import CrfTagger
from overrides import overrides

from ldnet_allennlp.models.continuing import grow_labels
from ldnet_allennlp.models.tag_decoding import DecodingOptions, add_labels_to_probabilities, decode_tags
from ldnet_allennlp.models.tagger_crf import check_tags, crf_from_crf_tagger, padding_labels
from ldnet_allennlp.models.tagger_network import with_gate_penalty, word_scores
from ldnet_allennlp.modules.characters.co_training import CharacterCoTraining
from ldnet_allennlp.modules.crf.boundary_tag_crf import BoundaryTagCrf
from ldnet_allennlp.modules.crf.conditional_random_field import FastConditionalRandomField
from ldnet_allennlp.modules.crf.tagging_losses import check_loss, tagging_loss
from ldnet_allennlp.modules.selection.gated_modules import selection_metrics
from ldnet_allennlp.training.metrics.corpus_perplexity import CorpusPerplexity
from ldnet_allennlp.training.metrics.tagging_scores import TaggingScores
from ldnet_runtime.tag_schemes import Span, spans_from_tags


@Model.register("ldnet_tagger")
class LdnetTagger(CrfTagger):
    """
    allennlp-models' `CrfTagger` with a vectorized CRF, the penalty of layer selection in its loss, and partial labels
    (LD-Net; `model_seq/seqlabel.py` of the original).

    Differences from `CrfTagger`: the loss is the mean over the sentences of a batch, as in the original, not their sum,
    so learning rates and `lambda_0` do not depend on the batch size. Training steps do not decode. Padded scores are
    not in the output. Distributed training has span F1. With a reader of `TagField`s, the loss ignores gold labels that
    are not in the vocabulary, and the scores count them as errors.

    Prediction changes no attribute, so several threads can use one model. `score` and `decode` are its two halves.

    Registered as a `Model` with name "ldnet_tagger".

    # Parameters

    vocab, text_field_embedder, encoder, label_namespace, include_start_end_transitions, constrain_crf_decoding,
    initializer
        As in `CrfTagger`.
    label_encoding : `str`, optional
        "BIO", "IOB1", "BIOUL", "IOBES" or "BMES". The last three are one encoding in different letters. If it
        constrains decoding, the reader's tags must use it.
    decode_in_training : `bool`, optional (default = `False`)
        Whether training steps decode, for accuracy and F1 on the training data.
    return_logits : `bool`, optional (default = `False`)
        Whether to output `logits` and `mask`, as in `CrfTagger`. They are padded and large.
    return_confidences : `bool`, optional (default = `False`)
        Whether to output `confidences`: the probability of each span of the `tags`, see
        `ldnet_runtime.decoding.span_probabilities`. Needs a `label_encoding`.
    return_marginals : `bool`, optional (default = `False`)
        Whether to output `marginals`: the probability of each tag for each word. All probabilities are relative to the
        tag sequences that the constraints allow.
    boundary_tags : `List[str]`, optional
        The sentence boundaries of the original LD-Net, for models from `ldnet-convert`: two tags of the label
        vocabulary, there "<s>" and "<eof>". The last token of each sentence is an end-of-sentence step (the reader's
        `end_token`) with the second tag, which the output omits. The first tag precedes the first word. Transitions
        score both like any other tag; there are no start and end transitions. See `BoundaryTagCrf`.
    loss : `str`, optional (default = `"negative_log_likelihood"`)
        "negative_log_likelihood", "structured_perceptron" or "softmax", see `TAGGING_LOSSES`. With "softmax" the
        transitions stay 0, so decoding picks the best tag of each token, or the best allowed sequence. Label weights
        and partial labels require the first loss, boundary tags one of the first two.
    co_training : `CharacterCoTraining`, optional
        Adds a word-prediction loss on the character LSTMs during training (LM-LSTM-CRF).
    kwargs
        feedforward, calculate_span_f1, dropout, verbose_metrics, top_k, ignore_loss_on_o_tags, label_weights,
        weight_strategy, regularizer: as in `CrfTagger`.
    """

    default_predictor = "ldnet_tagger"

    crf: FastConditionalRandomField

    def __init__(
        self,
        vocab: Vocabulary,
        text_field_embedder: TextFieldEmbedder,
        encoder: Seq2SeqEncoder,
        label_namespace: str = "labels",
        label_encoding: Optional[str] = None,
        include_start_end_transitions: bool = True,
        constrain_crf_decoding: Optional[bool] = None,
        initializer: Optional[InitializerApplicator] = None,
        decode_in_training: bool = False,
        return_logits: bool = False,
        return_confidences: bool = False,
        return_marginals: bool = False,
        boundary_tags: Optional[list[str]] = None,
        loss: str = "negative_log_likelihood",
        co_training: Optional[Lazy[CharacterCoTraining]] = None,
        **kwargs: Any,
    ) -> None:
        check_loss(loss, kwargs.get("label_weights") is not None, boundary_tags is not None)
        super().__init__(
            vocab,
            text_field_embedder,
            encoder,
            label_namespace=label_namespace,
            label_encoding="BIOUL" if label_encoding == "IOBES" else label_encoding,
            include_start_end_transitions=include_start_end_transitions and boundary_tags is None,
            constrain_crf_decoding=constrain_crf_decoding,
            **kwargs,
        )
        self.decode_in_training = decode_in_training
        self.return_logits = return_logits
        self.return_confidences = return_confidences
        self.return_marginals = return_marginals
        self.boundary_tags = boundary_tags or []
        constrains = label_encoding is not None if constrain_crf_decoding is None else constrain_crf_decoding
        # The encoding that the tags must be in.
        self._constraint_encoding = label_encoding if constrains else None
        self._weight_strategy = kwargs.get("weight_strategy")
        self.metrics: dict[str, Any] = {}  # `CrfTagger`'s; all scores are in `_scores`
        self.set_labels(self.crf)
        self.loss = loss
        self.co_training: CharacterCoTraining | None = None
        if co_training is not None:
            built = co_training.construct(vocab=vocab, text_field_embedder=text_field_embedder)
            # With a weight of 0, the optimizer would only decay its parameters.
            self.co_training = built if built.lambda_0 > 0 else None
        self._lm_perplexity = CorpusPerplexity()
        # Last: an initializer that reads a trained tagger's weights needs the final modules.
        if initializer is not None:
            initializer(self)
        if loss == "softmax":
            for parameter in self.crf.parameters():
                if parameter.requires_grad:  # all but the constraints
                    parameter.requires_grad_(False).zero_()

    def set_labels(self, crf: ConditionalRandomField) -> None:
        """Build the parts that depend on the labels, with the options and parameters of AllenNLP's CRF."""
        vocab, namespace = self.vocab, self.label_namespace
        self.labels = [vocab.get_token_from_index(tag, namespace) for tag in range(self.num_tags)]
        weights = getattr(self, "label_weights", None)
        self.crf = crf_from_crf_tagger(
            crf, self.labels, self._constraint_encoding, weights, self._weight_strategy, self.boundary_tags
        )
        self.crf.never_decoded = padding_labels(vocab, namespace)
        self.never_spans = {*self.boundary_tags, *(self.labels[tag] for tag in self.crf.never_decoded)}
        spans = self.spans if self.calculate_span_f1 else None
        self._scores = TaggingScores(vocab, namespace, spans, self._verbose_metrics)

    @overrides
    def extend_embedder_vocab(self, embedding_sources_mapping: dict[str, str] | None = None) -> None:
        super().extend_embedder_vocab(embedding_sources_mapping)
        grow_labels(self)

    def spans(self, tags: list[str]) -> list[Span]:
        """The spans of tags in the model's `label_encoding`; boundary tags and padding labels are not spans."""
        if self.never_spans:
            tags = ["O" if tag in self.never_spans else tag for tag in tags]
        return spans_from_tags(tags, self.label_encoding)

    def score(
        self, tokens: TextFieldTensors, autocast: torch.dtype | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """
        The emissions (B, T, N), the score of each tag for each word, in float32 (float64 if the model is), and the mask
        (B, T) of the words. With boundary tags, the end step's score is added to the last word's. `autocast` is the
        precision of the networks.
        """
        emissions, mask = self._emissions(tokens, autocast)
        if isinstance(self.crf, BoundaryTagCrf):
            return self.crf.without_end_step(emissions, mask)
        return emissions, mask

    def decode(
        self, emissions: torch.Tensor, mask: torch.Tensor, options: DecodingOptions | None = None
    ) -> dict[str, Any]:
        """
        The best tags for `score`'s emissions and mask, and the results that the options request, see
        `decode_tags`.
        """
        return decode_tags(self.crf, self.labels, self.spans, emissions, mask, options or DecodingOptions())

    @overrides(check_signature=False)  # the output holds lists, too
    def forward(  # type: ignore
        self,
        tokens: TextFieldTensors,
        tags: torch.LongTensor | None = None,
        metadata: list[dict[str, Any]] | None = None,
        ignore_loss_on_o_tags: bool | None = None,
        allowed_tags: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """
        # Parameters

        tokens : `TextFieldTensors`
            The indexed words.
        tags : `torch.LongTensor`, optional
            Shape (B, T): the true tags. -1 is a label that is not in the vocabulary, -2 a partial one.
        metadata : `List[Dict[str, Any]]`, optional
            One dictionary per sentence: "words", and "gold_tags" if some are not in the vocabulary.
        ignore_loss_on_o_tags : `bool`, optional
            Overrides the constructor's argument for this call.
        allowed_tags : `torch.Tensor`, optional
            Shape (B, T, num_tags): the allowed tags of each word, from readers with a `partial_label`.

        # Returns

        `Dict[str, Any]`
            `tags`, a list of tag ids for each sentence, outside of training steps (or with `decode_in_training`);
            `loss`, a scalar, if `tags` are given; `words`, if `metadata` is given; `logits` (B, T, num_tags) and `mask`
            (B, T), `top_k_tags` and `top_k_probabilities`, `confidences` and `marginals`, if requested.
        """
        active = self.co_training if self.training and tags is not None else None
        with active.recording(self.text_field_embedder) if active else nullcontext([]) as states:
            emissions, mask = self._emissions(tokens)
        output: dict[str, Any] = {"logits": emissions, "mask": mask} if self.return_logits else {}
        if isinstance(self.crf, BoundaryTagCrf):
            emissions, mask = self.crf.without_end_step(emissions, mask)
        if not self.training or self.decode_in_training or tags is None:
            options = DecodingOptions(self.top_k, self.return_confidences, self.return_marginals)
            output.update(self.decode(emissions, mask, options))
        if tags is not None:
            check_tags(tags, mask, metadata or (), self._constraint_encoding, self.training)
            kept = mask
            if self.ignore_loss_on_o_tags if ignore_loss_on_o_tags is None else ignore_loss_on_o_tags:
                kept = mask & (tags != self.vocab.get_token_index("O", namespace=self.label_namespace))
            loss = tagging_loss(self.loss, self.crf, emissions, tags, kept, allowed_tags)
            output["loss"] = loss / emissions.size(0)
            if active:
                result = active(states[0], tokens)
                self._lm_perplexity(result.negative_log_likelihood, result.num_targets)
                output["loss"] = output["loss"] + result.loss
            if "tags" in output:
                self._scores.update(output["tags"], tags, mask, metadata, emissions)
        if metadata is not None:
            output["words"] = [sentence["words"] for sentence in metadata]
        return output

    def _emissions(
        self, tokens: TextFieldTensors, autocast: torch.dtype | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The score of each tag for each token (B, T, N), and the mask (B, T), including the end step, if any."""
        return word_scores(self, tokens, autocast)

    @overrides
    def get_regularization_penalty(self) -> torch.Tensor | None:
        """
        The penalties of the regularizer and, with trained gates, of layer selection. AllenNLP adds it to the training
        loss before the backward pass and reports it as `reg_loss`.
        """
        return with_gate_penalty(self, super().get_regularization_penalty())

    @overrides
    def make_output_human_readable(self, output_dict: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Convert tag ids to tags. The output of a training step, which has none, stays unchanged."""
        if "tags" in output_dict:
            super().make_output_human_readable(output_dict)
            add_labels_to_probabilities(output_dict, self.labels)
        return output_dict

    @overrides
    def get_metrics(self, reset: bool = False) -> dict[str, float]:
        """
        `accuracy`, `accuracy3` (see `TaggingScores`) and span F1 (`-overall` and `-macro`, and of each type if
        `verbose_metrics`) of the decoded tags; `unseen_labels`, the number of words whose gold label is not in the
        vocabulary, which count as errors; with trained gates, `kept_layers`, `kept_multiply_adds` and the gates
        themselves (see `selection_metrics`); and `lm_perplexity`, the perplexity of the words predicted in co-training,
        in both directions together.
        """
        metrics = self._scores.get(reset)
        perplexity = self._lm_perplexity.get_metric(reset)
        if perplexity > 0:  # or nothing was predicted
            metrics["lm_perplexity"] = perplexity
        metrics.update(selection_metrics(self))
        return metrics
