import random
from concurrent.futures import ThreadPoolExecutor

import numpy
import pytest

from ldnet_runtime.encoding import SentenceEncoder
from ldnet_runtime.errors import InputError
from ldnet_runtime.model_file import SentenceCharacterInput, WordCharacterInput, WordInput
from tests.runtime import models

SENTENCES = [["Ada", "London", "Zork", "ada"], ["", "@@PADDING@@", "\ud800é"], ["Ada"]]


def encode(inputs, sentences=SENTENCES, **options):
    return SentenceEncoder(models.describe(inputs, **options)).encode(sentences)


def word_id(word):
    return models.WORDS.index(word) if word in models.WORDS[1:] else 1


def character_ids(word):
    word = word.encode("utf-8", "replace").decode()
    return [models.CHARACTERS.index(c) if c in models.CHARACTERS[1:] else 1 for c in word]


def test_words():
    arrays = encode([WordInput("tokens", "tokens")])
    assert arrays["lengths"].tolist() == [4, 3, 1]
    expected = [[word_id(word) for word in sentence] for sentence in SENTENCES]
    assert expected == [[3, 7, 1, 1], [1, 1, 1], [3]]  # the padding token is an unknown word
    assert arrays["tokens"].tolist() == [row + [0] * (4 - len(row)) for row in expected]
    assert {array.dtype for array in arrays.values()} == {numpy.dtype("int64")}


def test_lower_case():
    vocabularies = {"tokens": ["", "?", "ada", "Ada"]}
    (row,) = encode(
        [WordInput("a", "tokens", lowercase=True)], [["Ada", "ADA", "x"]], vocabularies=vocabularies
    )["a"]
    assert row.tolist() == [2, 2, 1]


def test_an_end_token():
    arrays = encode([WordInput("tokens", "tokens")], end_token="<eof>")
    assert arrays["lengths"].tolist() == [5, 4, 2]
    assert [row[length - 1] for row, length in zip(arrays["tokens"], arrays["lengths"])] == [2, 2, 2]


def test_word_characters():
    arrays = encode([WordCharacterInput("chars", "characters", min_length=3)])
    rows, lengths, places = (arrays[name] for name in ("chars", "chars_lengths", "chars_rows"))
    assert not rows[0].any() and lengths[0] == 0
    assert len(rows) == 1 + len({word for sentence in SENTENCES for word in sentence})
    for sentence, of_sentence in zip(SENTENCES, places):
        assert (of_sentence[len(sentence) :] == 0).all()
        for word, place in zip(sentence, of_sentence):
            ids = character_ids(word)
            assert lengths[place] == len(ids)
            assert rows[place].tolist() == ids + [0] * (rows.shape[1] - len(ids))
    assert encode([WordCharacterInput("chars", "characters", min_length=30)])["chars"].shape[1] == 30


def test_many_words_beside_a_long_one_are_refused():
    words = [str(number) for number in range(2**12)]
    with pytest.raises(InputError, match=r"4,097 different words of up to 1,024 characters are too much"):
        encode([WordCharacterInput("chars", "characters")], [[*words, "x" * 2**10]])
    assert encode([WordCharacterInput("chars", "characters")], [[*words, "x" * 100]])["chars"].shape == (
        4098,
        100,
    )


def test_bytes_with_start_and_end():
    one = WordCharacterInput("chars", None, lowercase=True, start=(256,), end=(255, 254))
    arrays = encode([one], [["É", "Ada"]])
    assert arrays["chars"].tolist()[1:] == [[256, 0xC4, 0xAA, 255, 254, 0], [256, 98, 101, 98, 255, 254]]


def string_of(words):
    """The definition: each word's characters and a space, and a marker at the end."""
    string, places = [], []
    for word in words:
        ids = [number + 2 for number in character_ids(word)]
        places.append((len(string) + len(ids), len(string)) if ids else (-1, -1))
        string += [*ids, 0] if ids else []
    return [*string, 1], places


@pytest.mark.parametrize("end_position", [None, "last_token"])
def test_sentence_characters(end_position):
    generator = random.Random(1)
    sentences = SENTENCES + [
        [generator.choice(["Ada", "", "L.", "\ud800", "日本", "a"]) for _ in range(generator.randrange(1, 9))]
        for _ in range(30)
    ]
    options = {"end_token": "<eof>"} if end_position else {}
    one = SentenceCharacterInput("s", "characters", end_position=end_position)
    arrays = encode([one], sentences, **options)
    flat = arrays["s"].T.ravel()  # as an LSTM's output lies, step after step
    for row, words in enumerate(sentences):
        string, places = string_of(words)
        if end_position:
            places.append((len(string) - 1, len(string) - 1))
        assert arrays["s_lengths"][row] == len(string)
        assert arrays["s"][row].tolist() == string + [1] * (arrays["s"].shape[1] - len(string))
        for name, found in (("s_forward", 0), ("s_backward", 1)):
            expected = [-1 if place[found] < 0 else place[found] * len(sentences) + row for place in places]
            expected += [-1] * (arrays[name].shape[1] - len(expected))
            assert arrays[name][row].tolist() == expected
        for step, (end, start) in enumerate(places[: len(words)]):
            if end >= 0:
                assert flat[arrays["s_forward"][row, step]] == 0  # a space
                assert flat[arrays["s_backward"][row, step]] == string[start]


def test_the_same_characters_as_the_torch_network_reads():
    """Where its two networks read each word, given what AllenNLP's indexer gives."""
    torch = pytest.importorskip("torch")
    from ldnet_allennlp.modules.characters.packed_characters import pack_characters

    sentences = [["Ada", "", "in", "London"], ["a"], ["bc", "."]]
    ids = [[character_ids(word) for word in words] for words in sentences]
    table = torch.zeros(3, 4, 6, dtype=torch.long)
    for row, of_sentence in enumerate(ids):
        for step, of_word in enumerate(of_sentence):
            table[row, step, : len(of_word)] = torch.tensor(of_word, dtype=torch.long)
    strings = pack_characters(table)
    arrays = encode([SentenceCharacterInput("s", "characters")], sentences)
    flat = torch.from_numpy(arrays["s"].T.ravel())
    for codes, slots, places in (
        (strings.forward_codes, strings.forward_slots, arrays["s_forward"]),
        (strings.backward_codes, strings.backward_slots, arrays["s_backward"]),
    ):
        read = torch.from_numpy(places)[strings.mask]
        assert (codes[slots[strings.mask]] + 2).tolist() == flat[read].tolist()
        assert ((torch.from_numpy(places) >= 0) == strings.mask).all()


def test_from_many_threads():
    encoder = SentenceEncoder(models.describe([WordInput("tokens", "tokens"), *models.character_inputs()]))
    generator = random.Random(2)
    batches = [[[generator.choice(models.WORDS) for _ in range(5)] for _ in range(4)] for _ in range(40)]
    expected = [encoder.encode(batch) for batch in batches]
    with ThreadPoolExecutor(8) as pool:
        for one, other in zip(expected, pool.map(encoder.encode, batches)):
            assert list(one) == list(other)
            assert all((one[name] == other[name]).all() for name in one)
