"""The sequence labeller of LD-Net."""

from contextlib import nullcontext
from typing import Any, Dict, List, Optional, Tuple, cast

import torch
from allennlp.common import Lazy
from allennlp.common.checks import ConfigurationError
from allennlp.data import TextFieldTensors, Vocabulary
from allennlp.models.model import Model
from allennlp.modules import FeedForward, Seq2SeqEncoder, TextFieldEmbedder
from allennlp.nn import InitializerApplicator
from allennlp.nn.util import get_text_field_mask
from allennlp.training.metrics import CategoricalAccuracy
from allennlp_models.tagging.models.crf_tagger import CrfTagger
from overrides import overrides

from ldnet_allennlp.data.conll.tag_schemes import Span, spans_from_tags
from ldnet_allennlp.models.tag_probabilities import Decoded, in_words, sequence_probabilities, tag_marginals
from ldnet_allennlp.models.tagger_crf import batched_crf
from ldnet_allennlp.modules.characters.character_states import CharacterStates
from ldnet_allennlp.modules.characters.co_training import CharacterCoTraining
from ldnet_allennlp.modules.crf.boundary_tag_crf import BoundaryTagCrf
from ldnet_allennlp.modules.crf.conditional_random_field import FastConditionalRandomField
from ldnet_allennlp.modules.crf.span_probabilities import span_probabilities
from ldnet_allennlp.modules.crf.tagging_losses import TAGGING_LOSSES
from ldnet_allennlp.modules.selection.gated_modules import gated_modules, selection_metrics
from ldnet_allennlp.training.metrics.corpus_perplexity import CorpusPerplexity
from ldnet_allennlp.training.metrics.span_f1 import SpanF1
from ldnet_allennlp.training.metrics.unseen_labels import UnseenLabels


@Model.register("ldnet_tagger")
class LdnetTagger(CrfTagger):
    """
    A CRF tagger (allennlp-models' `CrfTagger`) with a CRF that computes whole batches at once, and with the
    penalty of layer selection in its loss (LD-Net; `model_seq/seqlabel.py` of the original).

    It differs from `CrfTagger` in this: the loss is the mean over the sentences of a batch and not their sum,
    as in the original, so that learning rates and `lambda_0` mean the same for every batch size; training
    steps do not decode; padded scores are not in the output; span F1 works with several workers; a true label
    that is not in the vocabulary is left out of the loss and an error in the scores, if the reader has `TagField`s.

    Registered as a `Model` with name "ldnet_tagger".

    # Parameters

    vocab, text_field_embedder, encoder, label_namespace, feedforward, label_encoding,
    include_start_end_transitions, constrain_crf_decoding, calculate_span_f1, dropout, verbose_metrics,
    initializer, top_k, ignore_loss_on_o_tags, label_weights, weight_strategy
        As in `CrfTagger`; `label_encoding` may also be "IOBES", which is "BIOUL" with other letters.
    decode_in_training : `bool`, optional (default = `False`)
        Whether training steps decode too, for accuracy and F1 on the training data.
    return_logits : `bool`, optional (default = `False`)
        Whether `logits` and `mask` are part of the output, as in `CrfTagger`. They are padded, and large.
    return_confidences : `bool`, optional (default = `False`)
        Whether `confidences` are part of the output: the probability of each span of the `tags`, see
        `span_probabilities`. Needs a `label_encoding`.
    return_marginals : `bool`, optional (default = `False`)
        Whether `marginals` are part of the output: the probability of each tag for each word.
        All probabilities are those among the tag sequences that the constraints allow.
    boundary_tags : `List[str]`, optional
        The sentence boundaries as the original LD-Net has them, for models that `ldnet-convert` made: two tags
        of the label vocabulary, there "<s>" and "<eof>". The last token of each sentence is then no word but an
        end-of-sentence step (the reader's `end_token`), which the encoder reads, and which has the second tag
        and no place in the output; the first tag stands before the first word. Both are scored by transitions
        like any other tag, and there are no start and end transitions beside them. See `BoundaryTagCrf`.
    loss : `str`, optional (default = `"negative_log_likelihood"`)
        "negative_log_likelihood" of the CRF; "structured_perceptron", the score of the best tag sequence minus that
        of the true one; or "softmax", the cross entropies of the tokens, summed over each sentence. See
        `TAGGING_LOSSES`. With "softmax" there is no CRF: its transitions stay 0 and are not trained, so decoding
        takes the best tag of each token, or, where it is constrained, the best allowed sequence of them.
        Label weights belong to the first, boundary tags to the first two.
    co_training : `CharacterCoTraining`, optional
        Lets the character networks predict words beside, in training (LM-LSTM-CRF). Its loss is added to the
        tagger's.
    """

    default_predictor = "ldnet_tagger"

    crf: FastConditionalRandomField

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
        return_confidences: bool = False,
        return_marginals: bool = False,
        boundary_tags: Optional[List[str]] = None,
        loss: str = "negative_log_likelihood",
        co_training: Optional[Lazy[CharacterCoTraining]] = None,
        **kwargs: Any,
    ) -> None:
        _check_loss(loss, label_weights is not None, boundary_tags is not None)
        has_other_letters = label_encoding == "IOBES"
        if has_other_letters:
            label_encoding = "BIOUL"
        super().__init__(
            vocab,
            text_field_embedder,
            encoder,
            label_namespace=label_namespace,
            feedforward=feedforward,
            label_encoding=label_encoding,
            include_start_end_transitions=include_start_end_transitions and boundary_tags is None,
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
        self.return_confidences = return_confidences
        self.return_marginals = return_marginals
        self.boundary_tags = boundary_tags or []
        # The precision of the networks below the CRF in prediction; the predictor sets it.
        self.autocast: Optional[torch.dtype] = None
        self._continuing: Optional[Tuple[Any, torch.Tensor]] = None
        constrained = (
            self.label_encoding is not None if constrain_crf_decoding is None else constrain_crf_decoding
        )
        self.crf = batched_crf(
            self.crf,
            self._labels(),
            iobes=has_other_letters and constrained,
            label_weights=getattr(self, "label_weights", None),
            weight_strategy=weight_strategy,
            boundary_tags=boundary_tags,
        )
        self.metrics = {"accuracy": CategoricalAccuracy()}
        if self.calculate_span_f1:
            self._f1_metric = SpanF1(
                vocab,
                tag_namespace=label_namespace,
                label_encoding=None if self.boundary_tags else label_encoding,
                tags_to_spans_function=self._spans_with_ends if self.boundary_tags else None,
            )
        self._unseen_labels = UnseenLabels()
        self._has_decoded = False
        self.loss = loss
        self.co_training = self._build_co_training(co_training)
        self._lm_perplexity = CorpusPerplexity()
        # Only now: an initializer that reads a trained tagger's weights must meet the final modules.
        if initializer is not None:
            initializer(self)
        if loss == "softmax":
            for parameter in self.crf.parameters():
                if parameter.requires_grad:  # all but the constraints
                    parameter.requires_grad_(False).zero_()

    def _build_co_training(
        self, co_training: Optional[Lazy[CharacterCoTraining]]
    ) -> Optional[CharacterCoTraining]:
        if co_training is None:
            return None
        built = co_training.construct(vocab=self.vocab, text_field_embedder=self.text_field_embedder)
        # With a weight of 0 its parameters would only be decayed by the optimizer.
        return built if built.lambda_0 > 0 else None

    def spans(self, tags: List[str]) -> List[Span]:
        """The spans of predicted tags in the model's `label_encoding`; a boundary tag of a word is none."""
        if self.boundary_tags:
            tags = ["O" if tag in self.boundary_tags else tag for tag in tags]
        return spans_from_tags(tags, self.label_encoding)

    def _labels(self) -> List[str]:
        """All tags, in the order of their ids."""
        return [self.vocab.get_token_from_index(tag, self.label_namespace) for tag in range(self.num_tags)]

    def _continues(self, device: torch.device) -> torch.Tensor:
        """Whether the column's tag after the row's tag belongs to the same span. Shape (N, N)."""
        # They do not change, and are wanted for each batch.
        key = (self.label_encoding, tuple(self.boundary_tags))
        if self._continuing is None or self._continuing[0] != key:
            labels = self._labels()
            pairs = [[(0, 1) in [span[1:] for span in self.spans([a, b])] for b in labels] for a in labels]
            self._continuing = (key, torch.tensor(pairs))
        return self._continuing[1].to(device)

    def _spans_with_ends(
        self, tags: List[str], ignored: Optional[List[str]] = None
    ) -> List[Tuple[str, Tuple[int, int]]]:
        return [
            (label, (start, end)) for label, start, end in self.spans(tags) if label not in (ignored or [])
        ]

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
            One dictionary a sentence, with its words under "words", and, where true tags are not in the vocabulary,
            the true tags under "gold_tags".
        ignore_loss_on_o_tags : `bool`, optional
            Takes the place of the constructor's argument for this call.

        # Returns

        `Dict[str, Any]`
            `tags`, a list of tag ids for each sentence, outside of training steps (or with
            `decode_in_training`); `loss`, a scalar, if `tags` are given; `words`, if `metadata` is given;
            `top_k_tags` and `top_k_probabilities` if `top_k` is above 1; `logits` (B, T, num_tags), `mask` (B, T),
            `confidences` and `marginals`, lists for each sentence, if asked for.
        """
        mask = get_text_field_mask(tokens)
        active = self.co_training if self.training and tags is not None else None
        with active.recording(self.text_field_embedder) if active else nullcontext([]) as states:
            logits = self._score(tokens, mask)  # (B, T, num_tags)
        output: Dict[str, Any] = {}
        if self.return_logits:
            output.update(logits=logits, mask=mask)
        if self.boundary_tags:
            logits, mask = self._without_end_step(logits, mask)
        if not self.training or self.decode_in_training or tags is None:
            best_paths = self.crf.viterbi_tags(logits, mask, top_k=self.top_k)
            output["tags"] = [paths[0][0] for paths in best_paths]
            if self.top_k > 1:
                output["top_k_tags"] = best_paths
                output["top_k_probabilities"] = sequence_probabilities(
                    self.crf, logits, mask, cast(List[Decoded], best_paths)
                )
            self._add_probabilities(output, logits, mask)
        if tags is not None:
            output["loss"] = self._loss(logits, tags, mask, ignore_loss_on_o_tags)
            if states:
                output["loss"] = output["loss"] + self._co_training_loss(states[0], tokens)
            if "tags" in output:
                self._update_metrics(output["tags"], tags, mask, metadata)
        if metadata is not None:
            output["words"] = [sentence["words"] for sentence in metadata]
        return output

    def _add_probabilities(self, output: Dict[str, Any], logits: torch.Tensor, mask: torch.Tensor) -> None:
        if self.return_marginals:
            output["marginals"] = tag_marginals(self.crf, logits, mask)
        if self.return_confidences:
            labels = self._labels()
            spans = [
                [(start, end) for _, start, end in self.spans([labels[tag] for tag in tags])]
                for tags in output["tags"]
            ]
            output["confidences"] = span_probabilities(
                self.crf, logits, mask, output["tags"], spans, self._continues(logits.device)
            )

    def _score(self, tokens: TextFieldTensors, mask: torch.Tensor) -> torch.Tensor:
        """The score of each tag for each token. Shape (B, T, num_tags)."""
        with _autocast(self.autocast, mask.device):
            vectors = self.text_field_embedder(tokens)  # (B, T, embedding size)
            if self.dropout:
                vectors = self.dropout(vectors)
            encoded = self.encoder(vectors, mask)  # (B, T, encoder's output size)
            if self.dropout:
                encoded = self.dropout(encoded)
            if self._feedforward is not None:
                encoded = self._feedforward(encoded)
            logits = self.tag_projection_layer(encoded)
        # The CRF adds scores up: not in half precision.
        return logits.float() if self.autocast is not None else logits

    def _without_end_step(
        self, logits: torch.Tensor, mask: torch.BoolTensor
    ) -> Tuple[torch.Tensor, torch.BoolTensor]:
        """
        Leaves the last step of each sentence out, logits (B, T - 1, N) and mask (B, T - 1). Its tag is known, so
        its score is added to the last word's, whatever the tag of that: path scores stay what they are.
        """
        steps = mask.sum(dim=1)  # (B,)
        if int(steps.min()) < 2:
            raise ConfigurationError(
                "The ldnet_tagger has boundary_tags, so each sentence was expected to have a word and an end "
                "step, but one has a single token. Set the reader's end_token."
            )
        rows = torch.arange(logits.size(0), device=logits.device)
        end = cast(BoundaryTagCrf, self.crf).boundary_tags.end
        end_scores = logits[rows, steps - 1, end]  # (B,)
        numbers = torch.arange(logits.size(1) - 1, device=logits.device)
        is_last_word = numbers == (steps - 2).unsqueeze(1)  # (B, T - 1)
        logits = logits[:, :-1] + (is_last_word * end_scores.unsqueeze(1)).unsqueeze(2)
        return logits, cast(torch.BoolTensor, numbers < (steps - 1).unsqueeze(1))

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
        # Labels that are not in the vocabulary (`TagField`) have ids below 0, and nothing to learn from.
        mask, tags = mask & (tags >= 0), tags.clamp(min=0)
        return TAGGING_LOSSES[self.loss](self.crf, logits, tags, mask) / logits.size(0)

    def _co_training_loss(self, states: CharacterStates, tokens: TextFieldTensors) -> torch.Tensor:
        assert self.co_training is not None
        found = self.co_training(states, tokens)
        self._lm_perplexity(found.negative_log_likelihood, found.num_targets)
        return found.loss

    def _update_metrics(
        self,
        predicted: List[List[int]],
        gold: torch.Tensor,
        mask: torch.Tensor,
        metadata: Optional[List[Dict[str, Any]]] = None,
    ) -> None:
        self._has_decoded = True
        flat = torch.tensor([tag for tags in predicted for tag in tags], device=gold.device)  # (words,)
        scores = torch.nn.functional.one_hot(flat.long(), self.num_tags)  # (words, num_tags)
        for metric in self.metrics.values():
            metric(scores, gold[mask])
        if self.calculate_span_f1:
            gold_tags = None if metadata is None else [sentence.get("gold_tags", ()) for sentence in metadata]
            self._f1_metric.add_tags(predicted, gold, gold_tags)
        elif self._verbose_metrics:
            self._f_beta_measure(scores, gold[mask], gold[mask] >= 0)
        for row, step in ((gold < 0) & mask).nonzero().tolist():
            sentence = metadata[row] if metadata is not None else {}
            tag = sentence["gold_tags"][step] if "gold_tags" in sentence else "(unknown)"
            self._unseen_labels([tag], sentence.get("file"))

    @overrides
    def get_regularization_penalty(self) -> Optional[torch.Tensor]:
        """
        The regularizer's penalty, if there is one, and that of layer selection, where gates are trained.

        Here and not in `forward`: AllenNLP adds it to the training loss before the backward pass and reports it
        as `reg_loss`.
        """
        penalty = super().get_regularization_penalty()
        for module in gated_modules(self):
            own = module.penalty()
            penalty = own if penalty is None or own is None else penalty + own
        return penalty

    @overrides
    def make_output_human_readable(self, output_dict: Dict[str, torch.Tensor]) -> Dict[str, torch.Tensor]:
        """Tag ids become tags; the output of a training step, which has none, stays as it is."""
        if "tags" in output_dict:
            super().make_output_human_readable(output_dict)
            in_words(output_dict, self._labels())
        return output_dict

    def _metrics_of_decoded(self, reset: bool) -> Dict[str, float]:
        metrics: Dict[str, float] = {name: metric.get_metric(reset) for name, metric in self.metrics.items()}
        if self.calculate_span_f1:
            found = self._f1_metric.get_metric(reset)
            averages = ("-overall", "-macro")
            metrics.update(
                {name: found[name] for name in found if self._verbose_metrics or name.endswith(averages)}
            )
        elif self._verbose_metrics:
            metrics.update(self._f_beta_measure.get_metric(reset))
        unseen = self._unseen_labels.get_metric(reset)
        if unseen:
            metrics["unseen_labels"] = float(unseen)
        return metrics

    @overrides
    def get_metrics(self, reset: bool = False) -> Dict[str, float]:
        """
        # Returns

        `Dict[str, float]`
            `accuracy` (of the words' tags) and span F1 (`-overall` and `-macro`, see `SpanF1`, and of each type if
            `verbose_metrics`) of what was decoded, if anything was; `unseen_labels`, the number of words whose true
            label is not in the vocabulary, if there are any: errors in all of these scores; where gates are trained,
            `kept_layers`, `kept_multiply_adds` and the gates themselves (see `metrics_of_stacks`); and
            `lm_perplexity`, the exact perplexity of the words that were predicted in co-training, in both directions
            together.
        """
        metrics: Dict[str, float] = {}
        if self._has_decoded:
            metrics.update(self._metrics_of_decoded(reset))
        if reset:
            self._has_decoded = False
        perplexity = self._lm_perplexity.get_metric(reset)
        if perplexity > 0:  # or nothing was predicted
            metrics["lm_perplexity"] = perplexity
        metrics.update(selection_metrics(self))
        return metrics


def _autocast(dtype: Optional[torch.dtype], device: torch.device) -> Any:
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)


def _check_loss(loss: str, has_weights: bool, has_boundary_tags: bool) -> None:
    if loss not in TAGGING_LOSSES:
        raise ConfigurationError(
            f"The loss of an ldnet_tagger is one of {', '.join(TAGGING_LOSSES)}, but it is '{loss}'."
        )
    if has_weights and loss != "negative_log_likelihood":
        raise ConfigurationError(
            f"The loss is '{loss}', and there are label_weights, which are weights of a CRF's log-likelihood: "
            f"they need the loss 'negative_log_likelihood'."
        )
    if has_boundary_tags and loss == "softmax":
        raise ConfigurationError(
            "The loss is 'softmax', which has no transitions, but there are boundary_tags, which are scored by "
            "transitions."
        )
