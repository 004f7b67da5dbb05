"""Character LSTMs over whole sentences, read at word boundaries."""

from contextlib import AbstractContextManager
from typing import Optional

import torch
from allennlp.common.checks import ConfigurationError
from allennlp.data import Vocabulary
from allennlp.modules import Highway
from allennlp.modules.token_embedders import Embedding, TokenEmbedder
from overrides import overrides
from torch.nn import functional

from ldnet_allennlp.modules.characters.character_states import (
    CharacterStates,
    recorded_states,
    recording_states,
)
from ldnet_allennlp.modules.characters.packed_characters import pack_characters, run_segments
from ldnet_allennlp.modules.rnn.initialization import init_embedding_, init_linear_, init_rnn_
from ldnet_allennlp.modules.rnn.layers import CELLS, check_cell_type
from ldnet_allennlp.modules.selection.multiply_adds import multiply_adds, rnn_multiply_adds


@TokenEmbedder.register("sentence_character_lstm")
class SentenceCharacterLstm(TokenEmbedder):
    """
    Word vectors from two character networks over the whole sentence (Liu et al. 2018, arXiv 1709.04109; LD-Net, arXiv
    1804.07827). The forward network reads the words with a space after each; its state at the space after a word
    represents that word. The backward network reads a sentence marker, then the same string from its end; its state at
    a word's first character represents that word. The two states are concatenated, [forward; backward], and pass
    dropout, highway layers and projection.

    Reads the output of AllenNLP's `TokenCharactersIndexer` (type `characters`). Padding never changes a result. An
    empty token counts as padding: it adds no space to the string, and its vector is zero. Memory and time are
    proportional to the characters of the batch, plus at most a third, so one very long word does not slow down the
    other sentences.

    # Parameters

    vocab : `Vocabulary`, optional (default = `None`)
        Determines the number of characters. Required without `num_embeddings`.
    vocab_namespace : `str`, optional (default = `"token_characters"`)
        The indexer's namespace. The embedding grows with it when a model is fine-tuned with a larger
        vocabulary.
    num_embeddings : `int`, optional (default = `None`)
        The number of character ids, with padding and unknown, instead of the vocabulary's: for an indexer with other
        ids, such as `byte_encoding` (257).
    embedding_dim : `int`, optional (default = `30`)
        Size of a character's vector.
    hidden_size : `int`, optional (default = `150`)
        Size H of the state in each direction.
    num_layers : `int`, optional (default = `1`)
        Layers in each direction; `dropout` applies between them.
    projection_dim : `int`, optional (default = `None`)
        If given, a linear layer without activation projects the 2 H values to this size (the original's `char_seq`).
    num_highway_layers : `int`, optional (default = `0`)
        Highway layers on the 2 H values; LM-LSTM-CRF has 1. The states that a language model reads
        (`boundary_states`, `recording`) do not pass them; `CharacterCoTraining` has its own. They are AllenNLP's,
        y = g * x + (1 - g) * relu(A x), with g = sigmoid(B x); the original's gate is 1 - g. Gates start open (bias 1),
        the original's half open.
    dropout : `float`, optional (default = `0.0`)
        On the 2 H values before highway layers and projection.
    embedding_dropout : `float`, optional (default = `0.0`)
        On the characters' vectors, independently for both directions. The original and LM-LSTM-CRF use the same value
        as for `dropout`.
    cell_type : `str`, optional (default = `"lstm"`)
        `lstm`, `gru` or `rnn` (tanh).
    end_position : `str`, optional (default = `None`)
        The original adds one position to each sentence, read at the sentence marker in both directions: forward after
        all the words, backward before them. `"append"` adds it after the last word, so the output has T + 1 positions
        (a sentence without words gets none). `"last_token"` uses the last token of each sentence and ignores its
        characters, for text whose sentences end with a special token.

    # Raises

    ConfigurationError
        If a size is not positive, a probability is not in [0, 1), a name is unknown, both `vocab` and `num_embeddings`
        are missing, or a character id is outside the embedding.
    """

    def __init__(
        self,
        vocab: Optional[Vocabulary] = None,
        vocab_namespace: str = "token_characters",
        num_embeddings: Optional[int] = None,
        embedding_dim: int = 30,
        hidden_size: int = 150,
        num_layers: int = 1,
        projection_dim: Optional[int] = None,
        num_highway_layers: int = 0,
        dropout: float = 0.0,
        embedding_dropout: float = 0.0,
        cell_type: str = "lstm",
        end_position: Optional[str] = None,
    ) -> None:
        super().__init__()
        _check_positive(
            num_embeddings=num_embeddings,
            embedding_dim=embedding_dim,
            hidden_size=hidden_size,
            num_layers=num_layers,
            projection_dim=projection_dim,
        )
        if num_highway_layers < 0:
            raise ConfigurationError(
                f"num_highway_layers of sentence_character_lstm is {num_highway_layers}; expected 0 or more."
            )
        _check_probability(dropout=dropout, embedding_dropout=embedding_dropout)
        check_cell_type(cell_type, "a sentence_character_lstm")
        _check_choice("end_position", end_position, [None, "append", "last_token"])
        if vocab is None and num_embeddings is None:
            raise ConfigurationError(
                "sentence_character_lstm got neither a vocab nor num_embeddings; one of them must "
                "give the number of characters."
            )
        self.embedding_dim = embedding_dim
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.num_highway_layers = num_highway_layers
        self.cell_type = cell_type
        self.end_position = end_position
        self._vocab_namespace = vocab_namespace

        self.embedding = Embedding(
            embedding_dim, num_embeddings=num_embeddings, vocab_namespace=vocab_namespace, vocab=vocab
        )
        # Vectors of the space between words and of the marker. No character of the text shares them, not even a blank
        # inside a token.
        self.boundary_embeddings = torch.nn.Parameter(torch.empty(2, embedding_dim))
        init_embedding_(self.embedding.weight)
        init_embedding_(self.boundary_embeddings)

        self.forward_rnn = self._make_rnn(dropout)
        self.backward_rnn = self._make_rnn(dropout)
        self.embedding_dropout = torch.nn.Dropout(embedding_dropout)
        self.dropout = torch.nn.Dropout(dropout)
        self.highway: Highway | None = None
        if num_highway_layers > 0:
            self.highway = Highway(2 * hidden_size, num_highway_layers)
        self.projection: torch.nn.Linear | None = None
        if projection_dim is not None:
            self.projection = torch.nn.Linear(2 * hidden_size, projection_dim)
            init_linear_(self.projection)

    def _make_rnn(self, dropout: float) -> torch.nn.RNNBase:
        rnn = CELLS[self.cell_type].rnn(
            self.embedding_dim,
            self.hidden_size,
            num_layers=self.num_layers,
            dropout=dropout if self.num_layers > 1 else 0.0,
        )
        init_rnn_(rnn)
        return rnn

    @overrides
    def get_output_dim(self) -> int:
        return 2 * self.hidden_size if self.projection is None else self.projection.out_features

    def forward(self, token_characters: torch.Tensor) -> torch.Tensor:
        """
        # Parameters

        token_characters : `torch.LongTensor`
            Shape (B, T, C): the ids of each token's characters, 0 is padding.

        # Returns

        `torch.Tensor`
            Shape (B, T, D), or (B, T + 1, D) with `end_position: "append"`; D is `get_output_dim()`. Zero at
            padding.
        """
        recorded = recorded_states(self)
        if recorded is None:
            return self.combine(self.boundary_states(token_characters, self.end_position))
        states = self.boundary_states(token_characters, self.end_position or "append")
        recorded.append(states)
        return self.combine(states.without_end() if self.end_position is None else states)

    def recording(self) -> AbstractContextManager[list[CharacterStates]]:
        """
        Context that yields a list; each call in this thread adds its states to it, always with end positions. The calls
        return the same vectors as without the context. A language model and a tagger can so share one pass of the
        networks.
        """
        return recording_states(self)

    def boundary_states(
        self, token_characters: torch.Tensor, end_position: str | None = None
    ) -> CharacterStates:
        """
        Run both character networks and read them at the word boundaries; `combine` turns the states into the words'
        vectors.

        # Parameters

        token_characters : `torch.LongTensor`
            Shape (B, T, C), as in `forward`.
        end_position : `str`, optional (default = `None`)
            As in the constructor, whose value is ignored here.
        """
        if token_characters.dim() == 2 and token_characters.size(1) == 0:
            # The indexer's output for a batch of empty texts.
            token_characters = token_characters.unsqueeze(2)
        if token_characters.dim() != 3:
            raise ConfigurationError(
                f"sentence_character_lstm got a tensor of shape {tuple(token_characters.shape)}; expected "
                "(batch, words, characters), the output of the indexer of type 'characters'."
            )
        strings = pack_characters(token_characters, end_position)
        self._check_ids(strings.forward_codes)
        # Codes start at -2, the space. (2 + number of characters, E)
        vectors = torch.cat([self.boundary_embeddings, self.embedding.weight])
        states = []
        for rnn, codes, slots in (
            (self.forward_rnn, strings.forward_codes, strings.forward_slots),
            (self.backward_rnn, strings.backward_codes, strings.backward_slots),
        ):
            inputs = self.embedding_dropout(functional.embedding(codes + 2, vectors))  # (N, E)
            outputs = run_segments(rnn, inputs, strings.segments)  # (N, H)
            read = outputs.index_select(0, slots.flatten()).view(*slots.shape, self.hidden_size)
            states.append(read.masked_fill(~strings.mask.unsqueeze(2), 0.0))
        return CharacterStates(states[0], states[1], strings.mask)

    def combine(self, states: CharacterStates) -> torch.Tensor:
        """
        The words' vectors, shape (B, T, D), from the states at the word boundaries: dropout, highway layers
        and projection of [forward; backward]. Zero where the states' mask is false.
        """
        combined = self.dropout(torch.cat([states.forward, states.backward], dim=2))  # (B, T, 2 H)
        if self.highway is not None:
            combined = self.highway(combined)
        if self.projection is not None:
            combined = self.projection(combined)
        return combined.masked_fill(~states.mask.unsqueeze(2), 0.0)

    def multiply_adds(self, characters_per_word: float) -> float:
        """
        Multiply-adds for one word of `characters_per_word` characters (their mean over a corpus), as the paper counts
        them: matrix products only, look-ups, biases and element-wise steps are free. Each direction takes one step for
        each character and one for the space; a step costs, with 4, 3 or 1 gates, gates * H * (E + H) in the first layer
        and gates * H * (H + H) in each later one. Each highway layer is a product from 2 H to 4 H, the projection one
        from 2 H to D. The marker, one per sentence, is not counted.
        """
        step = rnn_multiply_adds(self.forward_rnn) + rnn_multiply_adds(self.backward_rnn)
        total = step * (characters_per_word + 1)
        for part in (self.highway, self.projection):
            if part is not None:
                total += multiply_adds(part)
        return float(total)

    def _check_ids(self, codes: torch.Tensor) -> None:
        size = self.embedding.weight.size(0)
        highest = int(codes.max())
        if highest >= size:
            raise ConfigurationError(
                f"sentence_character_lstm found the character id {highest}, but its embedding has {size} ids "
                f"(from num_embeddings or the vocabulary's namespace '{self._vocab_namespace}'). Does the "
                "indexer use the same namespace? With byte_encoding, set num_embeddings to 257."
            )


def _check_positive(**sizes: int | None) -> None:
    for name, size in sizes.items():
        if size is not None and size < 1:
            raise ConfigurationError(f"{name} of sentence_character_lstm is {size}; expected 1 or more.")


def _check_probability(**probabilities: float) -> None:
    for name, probability in probabilities.items():
        if not 0.0 <= probability < 1.0:
            raise ConfigurationError(
                f"{name} of sentence_character_lstm is {probability}; expected 0 or more and less than 1."
            )


def _check_choice(name: str, value: str | None, choices: list[str | None]) -> None:
    if value not in choices:
        names = ", ".join(repr(choice) for choice in choices)
        raise ConfigurationError(f"{name} of sentence_character_lstm is {value!r}; expected one of {names}.")
