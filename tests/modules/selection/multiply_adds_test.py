"""
What the published networks cost, counted by hand from their sizes (LD-Net, section 4.1): language models of 10
layers of 300 over word vectors of 300, in both directions; character LSTMs of 150 over vectors of 30 with a
projection from 300 to 100; word vectors of 100; a BiLSTM of 150 in each direction.
"""

import pytest
import torch
from allennlp.common import Params
from allennlp.data import Vocabulary
from allennlp.modules import ConditionalRandomField, ScalarMix, Seq2SeqEncoder, TimeDistributed
from allennlp.modules.token_embedders import TokenEmbedder

from ldnet_allennlp.modules.rnn.ld_rnn import LdRnn
from ldnet_allennlp.modules.selection.multiply_adds import (
    count_multiply_adds,
    multiply_adds,
    rnn_multiply_adds,
)

CHARACTERS = 4.4  # the mean length of a word in English newswire


@pytest.mark.parametrize("kind, gates", [(torch.nn.LSTM, 4), (torch.nn.GRU, 3), (torch.nn.RNN, 1)])
@pytest.mark.parametrize("layers, both", [(1, False), (1, True), (3, False), (3, True)])
def test_an_rnn_counts_its_weight_matrices(kind, gates, layers, both):
    rnn = kind(7, 5, num_layers=layers, bidirectional=both)
    directions = 2 if both else 1
    expected = directions * gates * 5 * (7 + 5 + (layers - 1) * (directions * 5 + 5))
    assert rnn_multiply_adds(rnn) == multiply_adds(rnn) == expected


def test_an_lstm_counts_its_projection():
    assert multiply_adds(torch.nn.LSTM(7, 5, proj_size=3)) == 4 * 5 * (7 + 3) + 5 * 3


def test_embeddings_and_biases_are_free():
    model = torch.nn.Sequential(torch.nn.Embedding(1000, 8), torch.nn.Linear(8, 3), torch.nn.ReLU())
    assert multiply_adds(model) == 24
    assert multiply_adds(TimeDistributed(torch.nn.Linear(8, 3))) == 24


def test_allennlps_encoders():
    encoder = Seq2SeqEncoder.from_params(
        Params({"type": "lstm", "input_size": 300, "hidden_size": 150, "bidirectional": True})
    )
    assert multiply_adds(encoder) == 2 * 4 * 150 * (300 + 150) == 540_000


def test_the_published_language_models():
    """Layer l of 10 reads 300 l numbers and its own 300: 4 * 300 * 300 * (1 + ... + 10 + 10) a direction."""
    network = LdRnn(300, 300, 10)
    assert multiply_adds(network) == 4 * 300 * 300 * (55 + 10) == 23_400_000
    assert multiply_adds(LdRnn(300, 300, 10, bidirectional=True)) == 46_800_000


def published_characters():
    vocab = Vocabulary()
    vocab.add_tokens_to_namespace([chr(code) for code in range(97, 123)], "token_characters")
    params = {
        "type": "sentence_character_lstm",
        "embedding_dim": 30,
        "hidden_size": 150,
        "projection_dim": 100,
    }
    return TokenEmbedder.from_params(Params(params), vocab=vocab)


def test_the_published_characters():
    """Two LSTMs, one step for each character and one for the space after the word."""
    expected = 2 * 4 * 150 * (30 + 150) * (CHARACTERS + 1) + 300 * 100
    assert multiply_adds(published_characters(), CHARACTERS) == pytest.approx(expected)


def test_characters_need_a_word_length():
    with pytest.raises(ValueError, match="SentenceCharacterLstm runs over characters: characters_per_word"):
        multiply_adds(torch.nn.Sequential(torch.nn.Linear(2, 2), published_characters()))


def published_tagger(layers_forward, layers_backward):
    """The cost of the published tagger, in millions, with so many layers kept, the lowest ones."""
    parts = [published_characters(), torch.nn.Linear(300, 17)]
    kept = (layers_forward, layers_backward)
    parts += [LdRnn(300, 300, layers) for layers in kept]
    parts.append(torch.nn.Linear(sum(300 + 300 * layers for layers in kept), 100))
    parts.append(torch.nn.LSTM(300, 150, bidirectional=True))
    return multiply_adds(torch.nn.ModuleList(parts), CHARACTERS) / 1e6


def test_the_published_taggers():
    """The paper has 51 M, of which its text does not say how long a word is."""
    characters = 2 * 4 * 150 * 180 * (CHARACTERS + 1) + 300 * 100
    rest = 2 * 4 * 150 * (300 + 150) + 300 * 17
    expected = (46_800_000 + 6600 * 100 + characters + rest) / 1e6
    assert published_tagger(10, 10) == pytest.approx(expected)
    assert published_tagger(10, 10) == pytest.approx(51, rel=0.05)
    assert published_tagger(1, 1) < 0.1 * published_tagger(10, 10)
    assert published_tagger(1, 1) - published_tagger(0, 0) == pytest.approx(2 * 0.72 + 0.06)


@pytest.mark.parametrize(
    "module", [torch.nn.Conv1d(3, 2, 2), torch.nn.MultiheadAttention(4, 2), torch.nn.Bilinear(3, 2, 4)]
)
def test_what_is_not_known_is_named(module):
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Sequential(module))
    counted, not_counted = count_multiply_adds(model, name="model")
    assert counted == 12
    assert not_counted == [
        f"model.1.0 ({type(module).__name__}): the number of uses of its weights is unknown"
    ]


def test_norms_and_mixtures_are_free():
    model = torch.nn.Sequential(torch.nn.LayerNorm(4), ScalarMix(3), ConditionalRandomField(5))
    assert count_multiply_adds(model) == (0.0, [])
