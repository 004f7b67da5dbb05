import copy
import random
import threading

import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.data import Batch, Instance, Token, Vocabulary
from allennlp.data.fields import TextField
from allennlp.data.token_indexers import SingleIdTokenIndexer, TokenCharactersIndexer
from allennlp.data.tokenizers import CharacterTokenizer
from allennlp.modules.text_field_embedders import BasicTextFieldEmbedder
from allennlp.modules.token_embedders import Embedding, TokenEmbedder

from ldnet_allennlp.modules.characters.character_states import recording_states
from ldnet_allennlp.modules.characters.sentence_character_lstm import SentenceCharacterLstm
from tests.resources import REFERENCE, load_reference

NUM_CHARACTERS = 12


def make(**arguments) -> SentenceCharacterLstm:
    torch.manual_seed(3)
    settings = {"num_embeddings": NUM_CHARACTERS, "embedding_dim": 4, "hidden_size": 5, **arguments}
    return SentenceCharacterLstm(**settings).double().eval()


def ragged(seed: int, batch: int = 7, words: int = 5, characters: int = 9) -> torch.Tensor:
    """Ragged sentences of ragged words. Some words inside are empty; sentence 1 has no word at all."""
    generator = random.Random(seed)
    result = torch.zeros(batch, words, characters, dtype=torch.long)
    for b in range(batch):
        for t in range(generator.randint(1, words)):
            size = generator.choice([0, 1, 2, generator.randint(1, characters)])
            result[b, t, :size] = torch.tensor(
                [generator.randint(1, NUM_CHARACTERS - 1) for _ in range(size)]
            )
    result[1] = 0
    return result


def by_hand(
    embedder: SentenceCharacterLstm, sentence: torch.Tensor, end_position: str | None = None
) -> torch.Tensor:
    """One sentence, (T, C), word by word with the two networks called on its own string."""
    space, marker = embedder.boundary_embeddings
    words = [[c for c in word if c > 0] for word in sentence.tolist()]
    present = [t for t, word in enumerate(words) if word]
    end = None
    if end_position == "append":
        end = present[-1] + 1 if present else None
        words.append([])
    elif end_position == "last_token" and present:
        end = present.pop()
    vectors: list[torch.Tensor] = []
    reads = {}  # word -> (position of its first character, position of its space)
    for t in present:
        reads[t] = (len(vectors), len(vectors) + len(words[t]))
        vectors += [embedder.embedding.weight[c] for c in words[t]] + [space]
    size = len(vectors)
    forward = embedder.forward_rnn(torch.stack([*vectors, marker]).unsqueeze(1))[0].squeeze(1)
    backward = embedder.backward_rnn(torch.stack([marker, *reversed(vectors)]).unsqueeze(1))[0].squeeze(1)
    result = torch.zeros(len(words), embedder.get_output_dim(), dtype=torch.float64)
    for t, (first, last) in reads.items():
        result[t] = finish(embedder, torch.cat([forward[last], backward[size - first]]))
    if end is not None:
        result[end] = finish(embedder, torch.cat([forward[size], backward[0]]))
    return result


def finish(embedder: SentenceCharacterLstm, states: torch.Tensor) -> torch.Tensor:
    if embedder.highway is not None:
        states = embedder.highway(states.unsqueeze(0)).squeeze(0)
    if embedder.projection is not None:
        states = embedder.projection.weight @ states + embedder.projection.bias
    return states


def gradients(embedder: SentenceCharacterLstm, loss: torch.Tensor) -> list[torch.Tensor]:
    return list(torch.autograd.grad(loss, list(embedder.parameters())))


@pytest.mark.parametrize("end_position", [None, "append", "last_token"])
@pytest.mark.parametrize("cell_type", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("extras", [{}, {"num_layers": 2, "projection_dim": 3, "num_highway_layers": 2}])
def test_a_batch_equals_each_sentence_computed_by_hand(cell_type, end_position, extras):
    embedder = make(cell_type=cell_type, end_position=end_position, **extras)
    if embedder.projection is not None:
        torch.nn.init.normal_(embedder.projection.bias)
    for seed in range(3):
        token_characters = ragged(seed)
        output = embedder(token_characters)
        expected = torch.stack([by_hand(embedder, sentence, end_position) for sentence in token_characters])
        assert output.shape == expected.shape
        torch.testing.assert_close(output, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("cell_type", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("end_position", [None, "append", "last_token"])
def test_gradients_of_a_batch_are_the_sum_of_those_computed_by_hand(cell_type, end_position):
    embedder = make(cell_type=cell_type, num_layers=2, projection_dim=3, end_position=end_position)
    token_characters = ragged(5)
    output = embedder(token_characters)
    weights = torch.randn_like(output)
    by_batch = gradients(embedder, (output * weights).sum())
    expected = torch.stack([by_hand(embedder, sentence, end_position) for sentence in token_characters])
    for got, want in zip(by_batch, gradients(embedder, (expected * weights).sum())):
        torch.testing.assert_close(got, want, rtol=0, atol=1e-11)


def test_more_padding_changes_neither_results_nor_gradients():
    embedder = make(projection_dim=3)
    token_characters = ragged(2)
    padded = torch.zeros(9, 11, 30, dtype=torch.long)
    padded[:7, :5, :9] = token_characters
    padded[7, :, :] = 4  # a much longer sentence of much longer words beside them
    output, longer = embedder(token_characters), embedder(padded)
    torch.testing.assert_close(longer[:7, :5], output, rtol=0, atol=1e-12)
    assert not longer[:7, 5:].any() and not longer[8].any()
    weights = torch.randn_like(output)
    few = gradients(embedder, (output * weights).sum())
    many = gradients(embedder, (longer[:7, :5] * weights).sum())
    for got, want in zip(many, few):
        torch.testing.assert_close(got, want, rtol=0, atol=1e-12)


def test_a_token_without_characters_is_as_if_it_were_not_there():
    embedder = make(projection_dim=3)
    with_holes = torch.tensor([[[0, 0], [3, 4], [0, 0], [0, 0], [5, 0], [0, 0]]])
    without = torch.tensor([[[3, 4], [5, 0]]])
    output = embedder(with_holes)
    torch.testing.assert_close(output[:, [1, 4]], embedder(without), rtol=0, atol=1e-12)
    assert not output[:, [0, 2, 3, 5]].any()


@pytest.mark.parametrize("shape", [(3, 4, 5), (3, 0, 5), (3, 4, 0), (3, 0)])
@pytest.mark.parametrize("end_position", [None, "append", "last_token"])
def test_a_batch_of_nothing_but_padding_gives_zeros_and_finite_gradients(shape, end_position):
    embedder = make(projection_dim=3, end_position=end_position)
    output = embedder(torch.zeros(shape, dtype=torch.long))
    assert output.shape == (3, shape[1] + (end_position == "append"), 3)
    assert not output.any()
    output.sum().backward()
    assert all(not parameter.grad.any() for parameter in embedder.parameters())


def test_states_know_nothing_of_the_words_a_language_model_has_to_predict():
    embedder = make()
    token_characters = torch.randint(1, NUM_CHARACTERS, (2, 6, 4))
    states = embedder.boundary_states(token_characters, "append")
    for changed in range(6):
        other = token_characters.clone()
        other[:, changed] = token_characters[:, changed] % (NUM_CHARACTERS - 1) + 1
        moved = embedder.boundary_states(other, "append")
        forward_moves = (moved.forward - states.forward).abs().amax(2) > 1e-9  # (2, 7)
        backward_moves = (moved.backward - states.backward).abs().amax(2) > 1e-9
        assert not forward_moves[:, :changed].any() and forward_moves[:, changed:].all()
        assert backward_moves[:, : changed + 1].all() and not backward_moves[:, changed + 1 :].any()
    assert states.mask.all()


def test_combining_the_states_gives_the_output():
    embedder = make(projection_dim=3, num_highway_layers=1, end_position="append")
    token_characters = ragged(4)
    states = embedder.boundary_states(token_characters, "append")
    assert torch.equal(embedder.combine(states), embedder(token_characters))
    assert states.forward.shape == states.backward.shape == (7, 6, 5)
    assert not states.forward[~states.mask].any() and not states.backward[~states.mask].any()
    assert states.forward[states.mask].all() and states.backward[states.mask].all()


@pytest.mark.parametrize("end_position", [None, "append", "last_token"])
def test_recording_gives_the_states_and_changes_nothing(end_position):
    embedder = make(projection_dim=3, num_highway_layers=1, end_position=end_position)
    token_characters = ragged(6)
    before = embedder(token_characters)
    with recording_states(embedder) as recorded:
        assert torch.equal(embedder(token_characters), before)
        torch.testing.assert_close(embedder(token_characters[:2]), before[:2], rtol=0, atol=1e-12)
    expected = embedder.boundary_states(token_characters, end_position or "append")
    assert len(recorded) == 2
    for found, wanted in zip(recorded[0], expected):
        assert torch.equal(found, wanted)
    embedder(token_characters)
    assert len(recorded) == 2
    with pytest.raises(RuntimeError), recording_states(embedder):
        raise RuntimeError
    assert torch.equal(embedder(token_characters), before)


def test_recordings_do_not_meet():
    """Two modules in one thread, and one module in two threads."""
    first, second, token_characters = make(), make(), ragged(4)
    with recording_states(first) as outer, recording_states(second) as inner:
        first(token_characters)
        worker = threading.Thread(target=lambda: first(token_characters))
        worker.start()
        worker.join()
    assert (len(outer), len(inner)) == (1, 0)
    assert "_recorded" not in first.__dict__


def test_the_end_positions_are_those_behind_the_last_words():
    token_characters = ragged(4)
    states = make().boundary_states(token_characters, "append")
    plain = make().boundary_states(token_characters)
    words = states.without_end()
    assert torch.equal(words.mask, plain.mask)
    assert torch.equal(words.forward[plain.mask], plain.forward[plain.mask])
    assert torch.equal(words.backward[plain.mask], plain.backward[plain.mask])
    for sentence, ends in zip(token_characters, states.is_end()):
        present = (sentence > 0).any(1).nonzero().flatten().tolist()
        assert ends.nonzero().flatten().tolist() == [number + 1 for number in present[-1:]]


# The original LD-Net


def original_batch():
    """Batch 1 of the reference: our (B, T, C) ids (the original's plus 1), and each sentence's word count."""
    arrays = {key: torch.as_tensor(value) for key, value in load_reference("h_seqlabel/batches.npz").items()}
    batch = {
        key[len("bs5/batch1/") :]: value for key, value in arrays.items() if key.startswith("bs5/batch1")
    }
    steps, batch_size = batch["f_w"].shape
    spaces = batch["f_p"].view(steps, batch_size)
    sizes = batch["f_y_m"].long().sum(0) - 1  # (B,)
    token_characters = torch.zeros(batch_size, steps - 1, 20, dtype=torch.long)
    for b in range(batch_size):
        string = batch["f_c"][:, b]
        begin = 0
        for t in range(int(sizes[b])):
            end = int(spaces[t, b]) // batch_size
            token_characters[b, t, : end - begin] = string[begin:end] + 1
            begin = end + 1
    marks = {
        "space": int(batch["f_c"][int(spaces[0, 0]) // batch_size, 0]),
        "marker": int(batch["b_c"][0, 0]),
    }
    return batch, token_characters, sizes, marks


def load_original(parameters, marks, **arguments) -> SentenceCharacterLstm:
    characters, embedding_dim = parameters["char_embed.weight"].shape
    embedder = SentenceCharacterLstm(
        num_embeddings=characters + 1,
        embedding_dim=embedding_dim,
        hidden_size=parameters["char_fw.weight_hh_l0"].size(1),
        projection_dim=parameters["char_seq.weight"].size(0),
        **arguments,
    ).double()
    state = embedder.state_dict()
    state["embedding.weight"][1:] = parameters["char_embed.weight"]
    state["boundary_embeddings"][0] = parameters["char_embed.weight"][marks["space"]]
    state["boundary_embeddings"][1] = parameters["char_embed.weight"][marks["marker"]]
    for ours, theirs in (("forward_rnn", "char_fw"), ("backward_rnn", "char_bw"), ("projection", "char_seq")):
        for key in list(state):
            if key.startswith(ours + "."):
                state[key] = parameters[theirs + key[len(ours) :]]
    embedder.load_state_dict(state)
    return embedder.eval()


@pytest.mark.parametrize("name", ["vanilla_random", "sparse_random"])
def test_states_and_output_are_the_originals(name):
    arrays = load_reference(f"h_seqlabel/{name}.npz")
    state_dict = torch.load(str(REFERENCE / "h_seqlabel" / f"{name}.pt"), map_location="cpu")
    batch, token_characters, sizes, marks = original_batch()
    parameters = {key: value.double() for key, value in state_dict.items()}
    embedder = load_original(parameters, marks, end_position="append")
    output = embedder(token_characters)
    states = embedder.boundary_states(token_characters, "append")
    assert states.mask.sum(1).tolist() == (sizes + 1).tolist()
    steps, batch_size = batch["f_w"].shape
    for key, positions, ours in (
        ("char_fw_out_f64", batch["f_p"], states.forward),
        ("char_bw_out_f64", batch["b_p"], states.backward),
    ):
        every_step = torch.as_tensor(arrays[key])
        theirs = every_step.flatten(0, 1)[positions].view(steps, batch_size, -1).transpose(0, 1)
        torch.testing.assert_close(ours[states.mask], theirs[states.mask], rtol=0, atol=1e-10)
    theirs = torch.as_tensor(arrays["c_o_f64"]).transpose(0, 1)
    torch.testing.assert_close(output[states.mask], theirs[states.mask], rtol=0, atol=1e-10)


# Text, through the indexer

TEXTS = [
    "EU rejects German call",
    "x" * 700 + " then",
    "\U0001f469\u200d\U0001f469\u200d\U0001f467 \U0001f600\U0001f600",
    "cafe\u0301 n\u0303 a\u0300\u0301\u0302",
    "\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627 \u200fabc",
    "\ud55c\uad6d\uc5b4 \u1112\u1161\u11ab \ub098",
    ".",
]


def instances(texts: list[str], indexers) -> list[Instance]:
    return [
        Instance({"text": TextField([Token(word) for word in text.split(" ")], indexers)}) for text in texts
    ]


def tensors(texts: list[str], vocab: Vocabulary, indexers):
    batch = Batch(instances(texts, indexers))
    batch.index_instances(vocab)
    return batch.as_tensor_dict()["text"]


@pytest.fixture
def indexers():
    return {"tokens": SingleIdTokenIndexer(), "characters": TokenCharactersIndexer(min_padding_length=3)}


def text_field_embedder(vocab: Vocabulary) -> BasicTextFieldEmbedder:
    torch.manual_seed(3)
    characters = TokenEmbedder.from_params(
        Params(
            {"type": "sentence_character_lstm", "embedding_dim": 4, "hidden_size": 5, "projection_dim": 3}
        ),
        vocab=vocab,
    )
    embedder = BasicTextFieldEmbedder({"tokens": Embedding(2, vocab=vocab), "characters": characters})
    return embedder.double().eval()


def test_any_text_gives_the_same_alone_and_in_a_batch_inside_a_text_field_embedder(indexers):
    vocab = Vocabulary.from_instances(instances(TEXTS, indexers))
    embedder = text_field_embedder(vocab)
    assert embedder.get_output_dim() == 5
    together = embedder(tensors(TEXTS, vocab, indexers))
    by_word = {}
    for text, row in zip(TEXTS, together):
        alone = embedder(tensors([text], vocab, indexers))[0]
        words = text.split(" ")
        torch.testing.assert_close(row[: len(words)], alone, rtol=0, atol=1e-12)
        assert torch.isfinite(row).all() and not row[len(words) :, :3].any()
        by_word.update(zip(words, alone))
    # Marks and joiners are characters too: with other ones, the same letters are another word.
    assert (
        by_word["cafe\u0301"] - embedder(tensors(["cafe n\u0303"], vocab, indexers))[0, 0]
    ).abs().max() > 1e-6


def test_any_text_is_read_as_computed_by_hand(indexers):
    """Each code point is a character: composed and decomposed letters, joiners and marks of direction differ."""
    vocab = Vocabulary.from_instances(instances(TEXTS, indexers))
    embedder = make(num_embeddings=vocab.get_vocab_size("token_characters"), projection_dim=3)
    ids = tensors(TEXTS, vocab, indexers)["characters"]["token_characters"]
    assert ids.shape[2] == 700
    for text, sentence in zip(TEXTS, ids):
        words = text.split(" ")
        assert (sentence > 0).sum(1).tolist()[: len(words)] == [len(word) for word in words]
    expected = torch.stack([by_hand(embedder, sentence) for sentence in ids])
    torch.testing.assert_close(embedder(ids), expected, rtol=0, atol=1e-12)


def test_a_list_of_text_fields_is_embedded_as_each_of_them(indexers):
    vocab = Vocabulary.from_instances(instances(TEXTS, indexers))
    embedder = text_field_embedder(vocab)
    flat = tensors(TEXTS[:4], vocab, indexers)
    nested = {
        name: {key: tensor.view(2, 2, *tensor.shape[1:]) for key, tensor in entry.items()}
        for name, entry in flat.items()
    }
    assert torch.equal(embedder(nested, num_wrapping_dims=1).flatten(0, 1), embedder(flat))


def test_bytes_need_the_number_of_bytes(indexers):
    indexers = {
        "characters": TokenCharactersIndexer(
            character_tokenizer=CharacterTokenizer("utf-8"), min_padding_length=1
        )
    }
    vocab = Vocabulary.from_instances(instances(TEXTS, indexers))
    field = tensors(TEXTS, vocab, indexers)["characters"]["token_characters"]
    embedder = make(num_embeddings=257)
    torch.testing.assert_close(embedder(field)[2], by_hand(embedder, field[2]), rtol=0, atol=1e-12)
    with pytest.raises(
        ConfigurationError, match=r"character id 2\d\d, but its embedding has 2 ids .*'token_char"
    ):
        SentenceCharacterLstm(vocab=vocab)(field)


def test_new_characters_extend_the_embedding_and_leave_the_old_ones_alone(indexers):
    vocab = Vocabulary.from_instances(instances(TEXTS[:1], indexers))
    embedder = text_field_embedder(vocab).float()
    before = embedder(tensors(TEXTS[:1], vocab, indexers))
    unknown = tensors(["EU \u05e9"], vocab, indexers)
    assert unknown["characters"]["token_characters"][0, 1].tolist() == [1, 0, 0]
    extended = copy.deepcopy(vocab)
    extended.extend_from_instances(instances(TEXTS, indexers))
    for module in embedder.modules():
        if hasattr(module, "extend_vocab"):
            module.extend_vocab(extended)
    torch.testing.assert_close(embedder(tensors(TEXTS[:1], extended, indexers)), before)
    assert torch.isfinite(embedder(tensors(TEXTS, extended, indexers))).all()
    characters = embedder.token_embedder_characters
    assert characters.embedding.weight.size(0) == extended.get_vocab_size("token_characters")


# Training


def test_dropout_works_in_training_only():
    token_characters = ragged(6)
    plain = make()(token_characters)
    embedder = make(dropout=0.5)
    assert torch.equal(embedder(token_characters), plain)
    embedder.train()
    torch.manual_seed(1)
    dropped = embedder(token_characters)
    zeroed = dropped == 0
    torch.testing.assert_close(dropped[~zeroed], 2 * plain[~zeroed])
    kept = 1 - zeroed[plain != 0].double().mean().item()
    assert 0.3 < kept < 0.7


def test_embedding_dropout_is_independent_in_both_directions():
    embedder = make(embedding_dropout=0.5)
    seen = []
    for rnn in (embedder.forward_rnn, embedder.backward_rnn):
        rnn.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    # One sentence of one word, so that both strings are known: a a a space marker, and from behind.
    token_characters = torch.full((1, 1, 300), 3)
    embedder(token_characters)
    embedder.train()
    embedder(token_characters)
    forward, backward, dropped_forward, dropped_backward = (inputs[:, 0] for inputs in seen)
    for full, dropped in ((forward, dropped_forward), (backward, dropped_backward)):
        kept = dropped != 0
        torch.testing.assert_close(dropped[kept], 2 * full[kept])
        assert 0.4 < kept.double().mean() < 0.6
    assert not torch.equal(dropped_forward[:300] != 0, dropped_backward[2:] != 0)


def test_dropout_is_also_between_the_layers_of_a_deep_network():
    assert make(num_layers=2, dropout=0.3).forward_rnn.dropout == 0.3
    assert make(num_layers=1, dropout=0.3).backward_rnn.dropout == 0.0


# Costs and errors


def test_multiply_adds_of_the_published_sizes():
    embedder = SentenceCharacterLstm(num_embeddings=90, embedding_dim=30, hidden_size=150, projection_dim=100)
    one_step = 4 * 150 * (30 + 150)
    assert embedder.multiply_adds(4.5) == pytest.approx(2 * 5.5 * one_step + 300 * 100)


@pytest.mark.parametrize("cell_type", ["lstm", "gru", "rnn"])
def test_multiply_adds_are_the_weights_that_each_step_multiplies(cell_type):
    embedder = make(cell_type=cell_type, num_layers=3, num_highway_layers=2, projection_dim=7)
    expected = 0
    for name, parameter in embedder.named_parameters():
        if parameter.dim() == 2 and "embedding" not in name:
            expected += parameter.numel() * (7 if "rnn" in name else 1)  # 6 characters and the space
    assert embedder.multiply_adds(6) == expected


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"hidden_size": 0}, "hidden_size .* is 0; expected 1"),
        ({"embedding_dim": -1}, "embedding_dim .* is -1"),
        ({"num_layers": 0}, "num_layers .* is 0"),
        ({"projection_dim": 0}, "projection_dim .* is 0"),
        ({"num_embeddings": 0}, "num_embeddings .* is 0"),
        ({"num_highway_layers": -1}, "num_highway_layers .* is -1; expected 0"),
        ({"dropout": 1.5}, "dropout .* is 1.5"),
        ({"embedding_dropout": -0.1}, "embedding_dropout .* is -0.1"),
        ({"cell_type": "qrnn"}, "cell_type .* is 'qrnn'; expected one of 'lstm', 'gru', 'rnn'"),
        (
            {"end_position": "first"},
            "end_position .* is 'first'; expected one of None, 'append', 'last_token'",
        ),
        ({"num_embeddings": None}, "neither a vocab nor num_embeddings"),
    ],
)
def test_impossible_settings_are_refused(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        make(**arguments)


def test_word_ids_instead_of_characters_are_refused():
    with pytest.raises(ConfigurationError, match=r"shape \(2, 3\); expected \(batch, words, characters\)"):
        make()(torch.ones(2, 3, dtype=torch.long))


def test_parameters_start_as_the_originals_do():
    embedder = SentenceCharacterLstm(num_embeddings=300, embedding_dim=12, hidden_size=20, projection_dim=10)
    for weight, bound in (
        (embedder.embedding.weight, 0.5),  # sqrt(3 / 12)
        (embedder.forward_rnn.weight_ih_l0, (6 / (20 + 12)) ** 0.5),
        (embedder.backward_rnn.weight_hh_l0, (6 / (20 + 20)) ** 0.5),
        (embedder.projection.weight, (6 / (40 + 10)) ** 0.5),
    ):
        assert 0.95 * bound < weight.abs().max() <= bound
    assert 0.3 < embedder.boundary_embeddings.abs().max() <= 0.5
    assert not embedder.projection.bias.any()
    assert embedder.forward_rnn.bias_hh_l0[20:40].tolist() == [1.0] * 20


@pytest.mark.parametrize("length", [33, 34, 40, 41, 60])
def test_long_words_between_start_and_end_tokens(length):
    """Words of any length, as an indexer with `start_tokens` and `end_tokens` gives them."""
    tokenizer = CharacterTokenizer(byte_encoding="utf-8", start_tokens=[259], end_tokens=[260])
    indexer = TokenCharactersIndexer(character_tokenizer=tokenizer, min_padding_length=3)
    embedder = SentenceCharacterLstm(num_embeddings=261, embedding_dim=4, hidden_size=3).double().eval()
    vectors = []
    for words in (["a", "b" * length], ["b" * length], ["é" * (length // 2), "a", "c"]):
        field = TextField([Token(word) for word in words], {"characters": indexer})
        field.index(Vocabulary())
        tensors = field.as_tensor(field.get_padding_lengths())
        vectors.append(embedder(tensors["characters"]["token_characters"].unsqueeze(0)))
        assert vectors[-1].shape == (1, len(words), 6) and vectors[-1].isfinite().all()
    # The backward network reads the last word first, whatever stands before it.
    assert torch.allclose(vectors[0][0, 1, 3:], vectors[1][0, 0, 3:], rtol=0, atol=1e-12)
