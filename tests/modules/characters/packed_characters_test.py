import random
from collections import Counter

import pytest
import torch

from ldnet_allennlp.modules.characters.packed_characters import (
    MARKER,
    SENTENCES,
    SPACE,
    STEPS,
    pack_characters,
)


def random_characters(generator: random.Random, batch: int, words: int, characters: int) -> torch.Tensor:
    """Ragged sentences of ragged words; some words and sentences are empty, some words have holes."""
    result = torch.zeros(batch, words, characters, dtype=torch.long)
    for b in range(batch):
        for t in range(generator.randint(0, words)):
            for c in range(generator.choice([0, 1, 2, generator.randint(0, characters)])):
                result[b, t, min(c, characters - 1)] = generator.randint(0, 9)
    return result


def strings_by_hand(token_characters: torch.Tensor):
    """The forward string of every sentence, with its marker."""
    strings = []
    for sentence in token_characters.tolist():
        string = []
        for word in sentence:
            ids = [c for c in word if c > 0]
            string += [*ids, SPACE] if ids else []
        strings.append([*string, MARKER])
    return strings


def read_back(codes: torch.Tensor, segments, ranks):
    """The string of each sentence, trailing markers included, from the slots."""
    columns = {rank: [] for rank in ranks}
    start = 0
    for steps, width in segments:
        block = codes[start : start + steps * width].view(steps, width)
        for rank in range(width):
            columns[rank] += block[:, rank].tolist()
        start += steps * width
    assert start == codes.numel()
    return [columns[rank] for rank in ranks]


@pytest.mark.parametrize("seed", range(8))
def test_strings_stand_in_their_slots_in_both_directions(seed):
    generator = random.Random(seed)
    token_characters = random_characters(generator, generator.randint(1, 30), 6, 8)
    expected = strings_by_hand(token_characters)
    result = pack_characters(token_characters)
    # A rank is found by what stands at it: longest first, so only strings of equal length can change places.
    order = sorted(range(len(expected)), key=lambda b: -len(expected[b]))
    ranks = range(len(expected))
    forward = read_back(result.forward_codes, result.segments, ranks)
    backward = read_back(result.backward_codes, result.segments, ranks)
    assert [len(expected[b]) for b in order] == sorted(map(len, expected), reverse=True)
    trimmed_forward, trimmed_backward = [], []
    for rank, b in enumerate(order):
        length = len(expected[b])
        assert set(forward[rank][length:]) <= {MARKER} and set(backward[rank][length:]) <= {MARKER}
        trimmed_forward.append(tuple(forward[rank][:length]))
        trimmed_backward.append(tuple(backward[rank][:length]))
    assert Counter(trimmed_forward) == Counter(map(tuple, expected))
    assert trimmed_backward == [tuple(reversed(string)) for string in trimmed_forward]


@pytest.mark.parametrize("seed", range(8))
def test_words_are_read_at_their_space_and_at_their_first_character(seed):
    token_characters = random_characters(random.Random(seed), 12, 6, 8)
    result = pack_characters(token_characters, "append")
    has_words = (token_characters > 0).any(2)
    for b in range(12):
        numbers = has_words[b].nonzero().flatten().tolist()
        ends = [numbers[-1] + 1] if numbers else []
        assert result.mask[b].nonzero().flatten().tolist() == sorted(numbers + ends)
        for t in numbers:
            first = next(c for c in token_characters[b, t].tolist() if c > 0)
            assert result.forward_codes[result.forward_slots[b, t]] == SPACE
            assert result.backward_codes[result.backward_slots[b, t]] == first
        for t in ends:
            assert result.forward_codes[result.forward_slots[b, t]] == MARKER
            assert result.backward_codes[result.backward_slots[b, t]] == MARKER


@pytest.mark.parametrize(
    "lengths", [[1] * 50, list(range(1, 129)), [2000, *([20] * 127)], [7], [1, 900, 2, 450]]
)
def test_slots_go_with_the_characters_and_not_with_the_longest_word(lengths):
    token_characters = torch.zeros(len(lengths), 3, max(lengths), dtype=torch.long)
    for b, length in enumerate(lengths):
        token_characters[b, 1, :length] = 5
    result = pack_characters(token_characters)
    needed = sum(length + 2 for length in lengths)  # with space and marker
    rounding = STEPS * len(lengths) + (SENTENCES - 1) * max(lengths)
    assert needed <= result.forward_codes.numel() <= needed * 4 / 3 + rounding
    assert sum(steps for steps, _ in result.segments) == max(lengths) + 2
    assert len(result.segments) <= 14
    widths = [width for _, width in result.segments]
    assert widths == sorted(set(widths), reverse=True)
    assert (result.forward_codes == SPACE).sum() == len(lengths)
