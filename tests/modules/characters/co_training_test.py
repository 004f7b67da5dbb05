import logging

import pytest
import torch
from allennlp.common.checks import ConfigurationError
from allennlp.data import Batch, Instance, Token, Vocabulary
from allennlp.data.fields import TextField
from allennlp.data.token_indexers import SingleIdTokenIndexer, TokenCharactersIndexer
from allennlp.modules.text_field_embedders import BasicTextFieldEmbedder
from allennlp.modules.token_embedders import Embedding

from ldnet_allennlp.modules.characters.co_training import CharacterCoTraining
from ldnet_allennlp.modules.characters.sentence_character_lstm import SentenceCharacterLstm
from ldnet_allennlp.modules.selection.multiply_adds import multiply_adds

TEXTS = [
    "The cat saw the dog",
    "the dog ran",
    "\ud55c\uad6d\uc5b4 the \U0001f600 cafe\u0301 the \u05e9\u05dc\u05d5\u05dd",
    "x" * 600 + " ran",
    "the",
]
INDEXERS = {
    "tokens": SingleIdTokenIndexer(lowercase_tokens=True),
    "token_characters": TokenCharactersIndexer(min_padding_length=1),
}


def instances(texts: list[str]) -> list[Instance]:
    return [
        Instance({"text": TextField([Token(word) for word in text.split(" ")], INDEXERS)}) for text in texts
    ]


def tensors(texts: list[str], vocab: Vocabulary):
    batch = Batch(instances(texts))
    batch.index_instances(vocab)
    return batch.as_tensor_dict()["text"]


def make(texts=TEXTS, vocab=None, end_position=None, **options):
    """A vocabulary, a text field embedder and what is co-trained on it, in double precision."""
    vocab = vocab or Vocabulary.from_instances(instances(texts))
    torch.manual_seed(2)
    characters = SentenceCharacterLstm(vocab, embedding_dim=4, hidden_size=5, end_position=end_position)
    embedder = BasicTextFieldEmbedder(
        {"token_characters": characters, "tokens": Embedding(3, vocab=vocab)}
    ).double()
    part = CharacterCoTraining(vocab, embedder, **options).double()
    for parameter in part.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    return vocab, embedder, part


def compute(embedder, part, tokens):
    with part.recording(embedder) as states:
        embedder(tokens)
    (found,) = states
    return part(found, tokens)


def highway_by_hand(highway, x: torch.Tensor) -> torch.Tensor:
    for layer in highway._layers:
        size = x.size(0)
        carry = torch.sigmoid(layer.weight[size:] @ x + layer.bias[size:])
        x = carry * x + (1 - carry) * torch.relu(layer.weight[:size] @ x + layer.bias[:size])
    return x


def slow(vocab, embedder, part, texts) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """-log p of each target of both directions, from strings that hold no more than what may be known."""
    networks = embedder.token_embedder_token_characters
    space, marker = networks.boundary_embeddings

    def last_state(rnn, vectors):
        return rnn(torch.stack(vectors).unsqueeze(1))[0][-1, 0]

    def characters(word):
        return [networks.embedding.weight[vocab.get_token_index(c, "token_characters")] for c in word]

    def surprise(highway, state, target):
        scores = part.softmax.log_prob(highway_by_hand(highway, state).unsqueeze(0))[0]
        return -scores[0 if target is None else vocab.get_token_index(target.lower(), "tokens")]

    forward, backward = [], []
    for text in texts:
        words = text.split(" ")
        for number in range(len(words)):
            known = [vector for word in words[: number + 1] for vector in [*characters(word), space]]
            following = words[number + 1] if number + 1 < len(words) else None
            forward.append(surprise(part.forward_highway, last_state(networks.forward_rnn, known), following))
            known = [vector for word in words[number + 1 :] for vector in [*characters(word), space]]
            state = last_state(networks.backward_rnn, [marker, *reversed(known)])
            backward.append(surprise(part.backward_highway, state, words[number]))
    return forward, backward


@pytest.mark.parametrize(
    "options",
    [{}, {"num_highway_layers": 0}, {"num_highway_layers": 2, "lambda_0": 0.3}, {"cutoffs": [4, 7]}],
    ids=lambda options: " ".join(options) or "default",
)
def test_the_loss_is_that_of_each_word_computed_by_itself(options):
    vocab, embedder, part = make(**options)
    found = compute(embedder, part, tensors(TEXTS, vocab))
    forward, backward = slow(vocab, embedder, part, TEXTS)
    assert found.num_targets == len(forward) + len(backward) == 34
    torch.testing.assert_close(found.negative_log_likelihood, sum(forward) + sum(backward))
    expected = sum(forward) / len(forward) + sum(backward) / len(backward)
    torch.testing.assert_close(found.loss, options.get("lambda_0", 1.0) * expected)
    ours = torch.autograd.grad(found.loss, list(part.parameters()))
    theirs = torch.autograd.grad(options.get("lambda_0", 1.0) * expected, list(part.parameters()))
    for one, other in zip(ours, theirs):
        torch.testing.assert_close(one, other)


def test_gradients_reach_both_networks_and_every_parameter():
    vocab, embedder, part = make(cutoffs=[4, 7])
    # Only frequent words: no target in the clusters.
    compute(embedder, part, tensors(["the the"], vocab)).loss.backward()
    networks = embedder.token_embedder_token_characters
    assert all(parameter.grad is not None for parameter in part.parameters())
    for name, parameter in networks.named_parameters():
        assert parameter.grad.any(), name
    for highway in (part.forward_highway, part.backward_highway):
        assert all(parameter.grad.any() for parameter in highway.parameters())


def test_padding_changes_nothing():
    vocab, embedder, part = make()
    together = compute(embedder, part, tensors(TEXTS, vocab))
    alone = [compute(embedder, part, tensors([text], vocab)) for text in TEXTS]
    torch.testing.assert_close(
        together.negative_log_likelihood, sum(found.negative_log_likelihood for found in alone)
    )
    assert together.num_targets == sum(found.num_targets for found in alone)
    tokens = tensors(TEXTS, vocab)
    padded = {
        "tokens": {"tokens": torch.nn.functional.pad(tokens["tokens"]["tokens"], (0, 3))},
        "token_characters": {
            "token_characters": torch.nn.functional.pad(
                tokens["token_characters"]["token_characters"], (0, 9, 0, 3)
            )
        },
    }
    torch.testing.assert_close(compute(embedder, part, padded).loss, together.loss)


def test_a_word_without_characters_is_not_there():
    vocab, embedder, part = make()
    with_holes = tensors(["the  cat ran", "the dog "], vocab)
    assert with_holes["tokens"]["tokens"].shape == (2, 4)
    without = tensors(["the cat ran", "the dog"], vocab)
    found, expected = compute(embedder, part, with_holes), compute(embedder, part, without)
    assert found.num_targets == expected.num_targets == 10
    torch.testing.assert_close(found.loss, expected.loss)


def test_an_end_token_takes_the_place_of_the_end():
    """With `end_position: last_token`, as the original LD-Net's taggers have it."""
    vocab, embedder, part = make()
    _, other, same = make(vocab=vocab, end_position="last_token")
    other.load_state_dict(embedder.state_dict())
    same.load_state_dict(part.state_dict())
    expected = compute(embedder, part, tensors(TEXTS[:3], vocab))
    found = compute(other, same, tensors([text + " <eof>" for text in TEXTS[:3]], vocab))
    assert found.num_targets == expected.num_targets
    torch.testing.assert_close(found.loss, expected.loss)


def test_no_words_no_loss_but_gradients():
    vocab, embedder, part = make(cutoffs=[4, 7])
    found = compute(embedder, part, tensors(["", ""], vocab))
    assert found.loss.item() == 0.0 and found.num_targets == 0
    found.loss.backward()
    assert all(not parameter.grad.any() for parameter in part.parameters())


def test_words_that_came_later_are_unknown():
    vocab, embedder, part = make()
    expected = compute(embedder, part, tensors(["the weird dog"], vocab)).loss
    vocab.add_tokens_to_namespace(["weird"], "tokens")
    tokens = tensors(["the weird dog"], vocab)
    assert tokens["tokens"]["tokens"].max() == part.num_words
    embedder.token_embedder_tokens.extend_vocab(vocab)
    torch.testing.assert_close(compute(embedder, part, tokens).loss, expected)


def test_dropout_stands_around_the_highway_layers():
    for layers, drops in ((1, 2), (0, 1)):
        _, _, part = make(dropout=0.4, num_highway_layers=layers)
        assert sum(m.p == 0.4 for m in part.modules() if isinstance(m, torch.nn.Dropout)) == drops
    vocab, embedder, part = make(dropout=0.4)
    tokens = tensors(TEXTS, vocab)
    dropped = [compute(embedder, part.train(), tokens).loss.item() for _ in range(2)]
    whole = [compute(embedder, part.eval(), tokens).loss.item() for _ in range(2)]
    assert dropped[0] != dropped[1] and whole[0] == whole[1]


def test_predictions_do_not_pay_for_it():
    assert multiply_adds(make()[2], characters_per_word=5) == 0


# Which words are predicted


def test_cutoffs_need_words_in_the_order_of_their_frequency(tmp_path, caplog):
    vectors = tmp_path / "vectors.txt"
    vectors.write_text("".join(f"{word} 1.0 2.0\n" for word in ("unseen", "ran", "the")))
    vocab = Vocabulary.from_instances(
        instances(TEXTS), pretrained_files={"tokens": str(vectors)}, min_pretrained_embeddings={"tokens": -1}
    )
    assert vocab.get_token_from_index(2, "tokens") == "the"  # those of the data come first ...
    with caplog.at_level(logging.WARNING):
        make(vocab=vocab)
    assert "1 of the 11 words" in caplog.text  # ... and the vectors' behind them
    shuffled = Vocabulary(
        counter={"tokens": {"the": 6, "ran": 2}, "token_characters": {"a": 1}},
        tokens_to_add={"tokens": ["more"]},
    )
    shuffled._retained_counter["tokens"]["more"] = 3
    with pytest.raises(
        ConfigurationError, match=r"'ran' stands before 'more' and occurs 2 times, less than 3"
    ):
        make(vocab=shuffled, cutoffs=[3])
    assert make(vocab=shuffled)[2].num_words == 5


def test_a_vocabulary_from_files_is_taken_as_it_is(tmp_path):
    vocab = Vocabulary.from_instances(instances(TEXTS))
    vocab.save_to_files(str(tmp_path / "vocabulary"))
    loaded = Vocabulary.from_files(str(tmp_path / "vocabulary"))
    assert make(vocab=loaded, cutoffs=[4])[2].num_words == vocab.get_vocab_size("tokens")


@pytest.mark.parametrize(
    "options, message",
    [
        ({"lambda_0": -1.0}, "lambda_0 of co_training is -1.0"),
        ({"num_highway_layers": -2}, "num_highway_layers .* is -2"),
        ({"dropout": 1.5}, "dropout .* is 1.5"),
        ({"embedder": "characters"}, "'characters' .embedder. .* does not exist"),
        ({"embedder": "tokens"}, "'tokens' .embedder. .* has the type Embedding"),
        ({"indexer": "words"}, "namespace 'words', .* but there is no word"),
        ({"namespace": "labels"}, "namespace 'labels', .* but it has no padding"),
        ({"cutoffs": [5, 4]}, "start at 1 or more and increase"),
    ],
)
def test_impossible_settings_are_refused(options, message):
    vocab = Vocabulary.from_instances(instances(TEXTS))
    vocab.add_tokens_to_namespace(["A", "B", "C"], "labels")
    with pytest.raises(ConfigurationError, match=message):
        make(vocab=vocab, **options)


def test_sentences_without_the_words_are_refused():
    vocab, embedder, part = make()
    tokens = tensors(TEXTS, vocab)
    with part.recording(embedder) as states:
        embedder(tokens)
    only = {"token_characters": tokens["token_characters"]}
    with pytest.raises(ConfigurationError, match=r"indexer 'tokens' .* have token_characters only"):
        part(states[0], only)
    shorter = {**only, "tokens": {"tokens": tokens["tokens"]["tokens"][:, 1:]}}
    with pytest.raises(ConfigurationError, match=r"shape \(5, 7\) and words of shape \(5, 5\)"):
        part(states[0], shorter)
