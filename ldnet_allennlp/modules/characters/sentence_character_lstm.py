"""Character LSTMs over whole sentences, read at word boundaries."""

from typing import Optional

import torch
from allennlp.common.checks import ConfigurationError
from allennlp.data import Vocabulary
from allennlp.modules import Highway
from allennlp.modules.token_embedders import Embedding, TokenEmbedder
from overrides import overrides
from torch.nn import functional

from ldnet_allennlp.common.checks import check_at_least, check_choice, check_probability
from ldnet_allennlp.modules.characters.character_states import (
    CharacterStates,
    recorded_states,
)
from ldnet_allennlp.modules.characters.packed_characters import pack_characters, run_segments
from ldnet_allennlp.modules.rnn.initialization import init_embedding_, init_linear_, init_rnn_
from ldnet_allennlp.modules.rnn.layers import CELLS
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
        Highway layers on the 2 H values; LM-LSTM-CRF has 1. The states that a language model reads (`boundary_states`,
        `recording_states`) do not pass them; `CharacterCoTraining` has its own. They are AllenNLP's,
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
        If a size is not positive, a probability is not in [0, 1], a name is unknown, both `vocab` and `num_embeddings`
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
        owner = "sentence_character_lstm"
        sizes = {"embedding_dim": embedding_dim, "hidden_size": hidden_size, "num_layers": num_layers}
        check_at_least(1, owner, num_embeddings=num_embeddings, projection_dim=projection_dim, **sizes)
        check_at_least(0, owner, num_highway_layers=num_highway_layers)
        check_probability(owner, dropout=dropout, embedding_dropout=embedding_dropout)
        check_choice(CELLS, owner, cell_type=cell_type)
        check_choice([None, "append", "last_token"], owner, end_position=end_position)
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
        rnn = CELLS[self.cell_type](
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
        The vectors (B, T, D), or (B, T + 1, D) with `end_position: "append"`, of the tokens with these character ids
        (B, T, C), 0 for padding; D is `get_output_dim()`. Zero at padding.
        """
        recorded = recorded_states(self)
        if recorded is None:
            return self.combine(self.boundary_states(token_characters, self.end_position))
        states = self.boundary_states(token_characters, self.end_position or "append")
        recorded.append(states)
        return self.combine(states.without_end() if self.end_position is None else states)

    def boundary_states(
        self, token_characters: torch.Tensor, end_position: str | None = None
    ) -> CharacterStates:
        """
        Run both character networks on (B, T, C) and read them at the word boundaries; `combine` turns the states into
        the words' vectors. `end_position` is used instead of the constructor's.
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
        highest, size = int(strings.forward_codes.max()), self.embedding.weight.size(0)
        if highest >= size:
            raise ConfigurationError(
                f"sentence_character_lstm found the character id {highest}, but its embedding has {size} ids "
                f"(from num_embeddings or the vocabulary's namespace '{self._vocab_namespace}'). Does the "
                "indexer use the same namespace? With byte_encoding, set num_embeddings to 257."
            )
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
        Multiply-adds for one word of `characters_per_word` characters (their mean over a corpus): each direction takes
        one step for each character and one for the space; highway layers and projection run once. The marker, one per
        sentence, is not counted.
        """
        step = rnn_multiply_adds(self.forward_rnn) + rnn_multiply_adds(self.backward_rnn)
        total = step * (characters_per_word + 1)
        for part in (self.highway, self.projection):
            if part is not None:
                total += multiply_adds(part)
        return float(total)
