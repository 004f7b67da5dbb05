"""A word-prediction loss on the character LSTMs of a tagger, during training."""

import logging
from contextlib import AbstractContextManager
from typing import NamedTuple, Optional

import torch
from allennlp.common import FromParams
from allennlp.common.checks import ConfigurationError
from allennlp.data import TextFieldTensors, Vocabulary
from allennlp.modules import Highway, TextFieldEmbedder

from ldnet_allennlp.common.checks import check_at_least, check_probability
from ldnet_allennlp.modules.characters.character_states import CharacterStates, recording_states
from ldnet_allennlp.modules.characters.sentence_character_lstm import SentenceCharacterLstm
from ldnet_allennlp.modules.softmax.adaptive_softmax import AdaptiveSoftmax

logger = logging.getLogger(__name__)

# Classes of the softmax are word ids. The id of the padding represents the sentence's end.
_END = 0
_UNKNOWN = 1
_OTHER_NAMESPACE = (
    "give the words to predict an indexer (single_id) with a namespace of its own, and an embedder of type "
    "'empty'"
)


class CoTrainingLoss(NamedTuple):
    """The result of a batch."""

    loss: torch.Tensor
    """A scalar: the term of the tagger's loss."""

    negative_log_likelihood: torch.Tensor
    """A scalar: the sum over the targets of both directions, in nats."""

    num_targets: int
    """The number of targets in both directions together."""


class CharacterCoTraining(torch.nn.Module, FromParams):
    """
    Adds a word-prediction loss on a tagger's character LSTMs during training, as in LM-LSTM-CRF (Liu et al. 2018, arXiv
    1709.04109; `train_wc.py` of the original): the forward network predicts the next word from its state at the space
    after each word, the backward network the previous word from its state at each word's first character. Each
    direction has separate highway layers; both share one softmax, as in the original.

    In a sentence of L words each direction has L targets. The forward network predicts words 2 to L, and the end of the
    sentence after the last one; the backward network predicts word L after the sentence marker, then words L - 1 to 1.
    (The original also predicts the end at every padded position; here the loss ignores padding.) The loss is

        lambda_0 * (mean of the forward targets' -log p + mean of the backward targets' -log p)

    Evaluation and prediction skip this loss. The tagger and the loss share one pass of the networks.

    Highway layers are AllenNLP's, y = g * x + (1 - g) * relu(A x), which negates the gate of the original's; their
    gates start open (bias 1).

    # Parameters

    vocab : `Vocabulary`
        Set by the tagger.
    text_field_embedder : `TextFieldEmbedder`
        The tagger's embedder with the character networks. It does not become a submodule.
    embedder : `str`, optional (default = `"token_characters"`)
        The key of the `sentence_character_lstm` among the token embedders.
    indexer : `str`, optional (default = `"tokens"`)
        The key of the indexer (type `single_id`) that gives the words to predict. The words of its namespace are the
        softmax classes, so `lowercase_tokens` and the vocabulary's `min_count` determine them.
    namespace : `str`, optional
        That indexer's namespace, by default the indexer's key.
    lambda_0 : `float`, optional (default = `1.0`)
        The weight of the loss, 1 in the original. With 0, a tagger leaves this module out.
    num_highway_layers : `int`, optional (default = `1`)
        Highway layers between the states and the softmax. The original has 1.
    dropout : `float`, optional (default = `0.0`)
        Before and, if any, after the highway layers. The original has 0.55, as everywhere.
    cutoffs : `List[int]`, optional
        Makes the softmax an `AdaptiveSoftmax` with these; by default it is a full softmax, as in the original. For
        training vocabularies above some 20,000 words, [2000, 10000] is a fair choice.
    div_value : `float`, optional (default = `4.0`)
        See `AdaptiveSoftmax`.

    # Raises

    ConfigurationError
        If a number is out of range, if the embedder is missing, if the namespace has no words, or if there are cutoffs
        but the ids are not sorted by frequency, as in an extended vocabulary. (The last check requires a vocabulary
        with counts.)

    Pretrained words that a vocabulary lists after those of the training data (`pretrained_files`) become softmax
    classes, too; a warning reports this. To avoid it, give the target words an indexer with a separate namespace and an
    embedder of type `empty`, as in `training_config/lm_lstm_crf.jsonnet`.
    """

    def __init__(
        self,
        vocab: Vocabulary,
        text_field_embedder: TextFieldEmbedder,
        embedder: str = "token_characters",
        indexer: str = "tokens",
        namespace: Optional[str] = None,
        lambda_0: float = 1.0,
        num_highway_layers: int = 1,
        dropout: float = 0.0,
        cutoffs: Optional[list[int]] = None,
        div_value: float = 4.0,
    ) -> None:
        super().__init__()
        check_at_least(0, "co_training", lambda_0=lambda_0, num_highway_layers=num_highway_layers)
        check_probability("co_training", dropout=dropout)
        self.embedder = embedder
        self.indexer = indexer
        self.namespace = indexer if namespace is None else namespace
        self.lambda_0 = lambda_0
        size = self._character_networks(text_field_embedder).hidden_size
        self.num_words = vocab.get_vocab_size(self.namespace)
        if self.num_words < 3 or not vocab.is_padded(self.namespace):
            raise ConfigurationError(
                f"co_training predicts the words of the vocabulary's namespace '{self.namespace}', which was expected "
                f"to have words, and before them the padding and the unknown word, but "
                f"{'there is no word' if self.num_words < 3 else 'it has no padding'}."
            )
        _check_order(vocab, self.namespace, cutoffs is not None)
        self.forward_highway = Highway(size, num_highway_layers)
        self.backward_highway = Highway(size, num_highway_layers)
        self.dropout = torch.nn.Dropout(dropout)
        self.output_dropout = torch.nn.Dropout(dropout if num_highway_layers > 0 else 0.0)
        self.softmax = AdaptiveSoftmax(
            self.num_words, size, [self.num_words] if cutoffs is None else cutoffs, div_value=div_value
        )

    def recording(
        self, text_field_embedder: TextFieldEmbedder
    ) -> AbstractContextManager[list[CharacterStates]]:
        """Context for one call of the embedder, which adds the states of its character networks to the yielded list."""
        return recording_states(self._character_networks(text_field_embedder))

    def forward(self, states: CharacterStates, tokens: TextFieldTensors) -> CoTrainingLoss:
        """
        The loss of the states with end positions, from `recording`, of these tokens. Words added to the vocabulary
        after the construction of the softmax count as unknown.
        """
        words = self._words(states, tokens)
        kept = states.mask
        classes = words[kept]  # (M,)
        sentences = kept.nonzero(as_tuple=True)[0]  # (M,)
        # The words; each is followed by a word or the end. (N,)
        first = (sentences[1:] == sentences[:-1]).nonzero().squeeze(1)
        second = first + 1
        vectors = [
            self.forward_highway(self.dropout(states.forward[kept][first])),
            self.backward_highway(self.dropout(states.backward[kept][second])),
        ]
        targets = torch.cat([classes[second], classes[first]])  # (2 N,)
        total = self.softmax(self.output_dropout(torch.cat(vectors)), targets)
        # A batch without a word has a loss of 0, with gradients: distributed training needs them.
        return CoTrainingLoss(self.lambda_0 * total / max(first.numel(), 1), total, targets.numel())

    def multiply_adds(self, characters_per_word: float) -> float:
        """0, because predictions skip this part."""
        return 0.0

    def _character_networks(self, text_field_embedder: TextFieldEmbedder) -> SentenceCharacterLstm:
        networks = getattr(text_field_embedder, f"token_embedder_{self.embedder}", None)
        if not isinstance(networks, SentenceCharacterLstm):
            kind = "does not exist" if networks is None else f"has the type {type(networks).__name__}"
            raise ConfigurationError(
                f"co_training needs the states of a sentence_character_lstm, but the token embedder "
                f"'{self.embedder}' (embedder) of the text_field_embedder {kind}."
            )
        return networks

    def _words(self, states: CharacterStates, tokens: TextFieldTensors) -> torch.Tensor:
        """The class of each position of the states' mask."""
        indexed: dict[str, torch.Tensor] = tokens.get(self.indexer, {})
        if "tokens" not in indexed:
            raise ConfigurationError(
                f"co_training predicts the words of the indexer '{self.indexer}' (of type single_id), but the "
                f"sentences have {', '.join(tokens)} only, or it is of another type."
            )
        words = indexed["tokens"]  # (B, T)
        words = words.masked_fill(words >= self.num_words, _UNKNOWN)
        if states.mask.size(1) == words.size(1) + 1:
            words = torch.nn.functional.pad(words, (0, 1))
        if states.mask.shape != words.shape:
            raise ConfigurationError(
                f"co_training got states of shape {tuple(states.mask.shape)} and words of shape "
                f"{tuple(words.shape)}. Do '{self.embedder}' and '{self.indexer}' index the same tokens?"
            )
        return words.masked_fill(states.is_end(), _END)


def _check_order(vocab: Vocabulary, namespace: str, has_cutoffs: bool) -> None:
    """Check that the words are those of the training data, sorted by frequency, if the vocabulary has counts."""
    counts = (vocab._retained_counter or {}).get(namespace)
    if not counts:
        return
    words = list(vocab.get_index_to_token_vocabulary(namespace).values())[_UNKNOWN + 1 :]
    absent = sum(word not in counts for word in words)
    if absent:
        logger.warning(
            f"{absent} of the {len(words)} words of the vocabulary's namespace '{namespace}', which co_training "
            f"predicts, do not occur in the data that the vocabulary was counted on, but are in pretrained_files, say. "
            f"To leave them out, {_OTHER_NAMESPACE}."
        )
    for before, after in zip(words, words[1:]) if has_cutoffs else []:
        if counts.get(before, 0) < counts.get(after, 0):
            raise ConfigurationError(
                f"co_training has cutoffs, so the words of the vocabulary's namespace '{namespace}' were expected in "
                f"the order of falling frequency, but '{before}' stands before '{after}' and occurs "
                f"{counts.get(before, 0)} times, less than {counts.get(after, 0)}. Leave the cutoffs out, or "
                f"{_OTHER_NAMESPACE}."
            )
