"""Characters of a batch of sentences, packed into strings for `SentenceCharacterLstm`."""

import math
from typing import NamedTuple

import torch

# Special codes in a string; the ids of characters are above 0.
SPACE = -2
MARKER = -1
# A segment ends when fewer than this share of its sentences are unfinished. At most about a quarter of the computed
# steps are idle, and 128 sentences need at most 14 segments.
MIN_RUNNING = 0.75
# Segments' steps, and the sentences of segments after the first one, are multiples of these where possible, because
# torch's LSTM for CPUs (oneDNN) is rebuilt for each new shape.
STEPS, SENTENCES = 8, 4


class CharacterStrings(NamedTuple):
    """
    The strings of B sentences in both reading directions, with the read position of each of T words.

    The string of a sentence has its S characters and spaces and a sentence marker: at the end of the forward string, at
    the start of the backward string. Sentences are sorted by falling length and stored step by step, as in a
    `PackedSequence`, but the number of sentences changes only between segments. A slot is a position in this layout. N
    is the number of slots; slots after a string's end hold markers.

    The mask (B, T) is true at words and end positions.
    """

    forward_codes: torch.Tensor  # (N,): a character's id, `SPACE` or `MARKER`
    backward_codes: torch.Tensor
    segments: list[tuple[int, int]]  # the numbers of steps and sentences; the products sum to N
    forward_slots: torch.Tensor  # (B, T): the slot of the state that represents the word; 0 at padding
    backward_slots: torch.Tensor
    mask: torch.Tensor


def pack_characters(token_characters: torch.Tensor, end_position: str | None = None) -> CharacterStrings:
    """
    Join the characters of each sentence into one string per direction. The forward string is w_1, space, w_2,
    space, ..., w_L, space, marker, and a word is read at the space after it. The backward string is marker,
    space, w_L reversed, space, ..., w_1 reversed, and a word is read at its first character (the original's
    `model_seq/dataset.py`).

    `token_characters` are ids (B, T, C); 0 and below are padding. A row without a character is not a word. With the
    `end_position` "append" the result has T + 1 positions; the position after a sentence's last word is read at the
    marker in both directions. With "last_token" the last word of every sentence is this position, and its characters
    are ignored.
    """
    if end_position == "append":
        token_characters = torch.nn.functional.pad(token_characters, (0, 0, 0, 1))
    is_character = token_characters > 0  # (B, T, C), from here on T + 1 is T with "append"
    is_word = is_character.any(dim=2)  # (B, T)
    is_end = torch.zeros_like(is_word)  # (B, T)
    if end_position is not None:
        numbers = torch.arange(1, is_word.size(1) + 1, device=is_word.device)
        # The number of the last word, 0 without words, also in batches without words. (B, 1)
        last = torch.nn.functional.pad(is_word * numbers, (1, 0)).amax(dim=1, keepdim=True)
        is_end = (numbers == last + (end_position == "append")) & (last > 0)
    if end_position == "last_token":
        is_word = is_word & ~is_end
        is_character = is_character & is_word.unsqueeze(2)

    # With a space after every word, characters and spaces form one matrix in reading order.
    present = torch.cat([is_character, is_word.unsqueeze(2)], dim=2).flatten(1)  # (B, T * (C + 1))
    spaces = token_characters.new_full((*is_word.shape, 1), SPACE)
    codes = torch.cat([token_characters, spaces], dim=2).flatten(1)[present]  # (K,)
    sentences = present.nonzero(as_tuple=True)[0]  # (K,)
    sizes = present.sum(dim=1)  # (B,)
    first = sizes.cumsum(0) - sizes
    # The position of each in its forward string. (K,)
    positions = torch.arange(codes.size(0), device=codes.device) - first[sentences]

    ranks, offsets, segments = _segment(sizes + 1)
    slots = sum(steps * width for steps, width in segments)
    forward_codes = codes.new_full((slots,), MARKER)
    forward_codes[offsets[positions] + ranks[sentences]] = codes
    backward_codes = codes.new_full((slots,), MARKER)
    backward_codes[offsets[sizes[sentences] - positions] + ranks[sentences]] = codes

    mask = is_word | is_end
    spaces = (is_character.sum(dim=2) + is_word).cumsum(dim=1) - 1  # (B, T), positions in the forward string
    # Position p of the forward string is position S - p of the backward one, whose position 0 is the marker.
    forward_reads = torch.where(is_end, sizes.unsqueeze(1), spaces).masked_fill(~mask, 0)
    backward_reads = (sizes.unsqueeze(1) - spaces + is_character.sum(dim=2)).masked_fill(~is_word, 0)
    ranks = ranks.unsqueeze(1)  # (B, 1)
    return CharacterStrings(
        forward_codes,
        backward_codes,
        segments,
        (offsets[forward_reads] + ranks).masked_fill(~mask, 0),
        (offsets[backward_reads] + ranks).masked_fill(~mask, 0),
        mask,
    )


def _round_up(number: int, unit: int) -> int:
    return -(-number // unit) * unit


def _segment(lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, list[tuple[int, int]]]:
    """
    The layout for strings of these lengths, (B,): the sentences' ranks by falling length, (B,); the first slot of each
    step, (longest string,); and the segments, as in `CharacterStrings`.
    """
    order = lengths.argsort(descending=True)
    ranks = torch.empty_like(order)
    ranks[order] = torch.arange(order.size(0), device=order.device)

    # The number of unfinished sentences at each step.
    running = lengths.size(0) - torch.bincount(lengths.cpu()).cumsum(0)[:-1]  # (longest string,)
    segments: list[tuple[int, int]] = []
    start = 0
    while start < running.size(0):
        width = int(running[start])
        if segments and width > SENTENCES:
            width = min(segments[-1][1], _round_up(width, SENTENCES))
        steps = int((running >= math.ceil(MIN_RUNNING * width)).sum()) - start
        steps = min(_round_up(max(steps, 1), STEPS), running.size(0) - start)
        segments.append((steps, width))
        start += steps
    counts, widths = torch.tensor(segments).reshape(-1, 2).unbind(1)
    widths = widths.repeat_interleave(counts)
    return ranks, (widths.cumsum(0) - widths).to(lengths.device), segments


def run_segments(
    rnn: torch.nn.RNNBase, inputs: torch.Tensor, segments: list[tuple[int, int]]
) -> torch.Tensor:
    """
    Run a network over slots, (N, E), in the layout of `CharacterStrings`; returns its outputs, (N, H). Sentences that
    have ended drop out at the next segment. The result equals that of a `PackedSequence`, whose backward pass on a CPU
    is quadratic in the number of steps (13x slower at 200).
    """
    outputs = []
    state = None
    for (steps, width), block in zip(segments, inputs.split([steps * width for steps, width in segments])):
        if isinstance(state, tuple):
            # Under autocast states come out in half precision, and go in with the inputs'.
            state = tuple(part[:, :width].to(block.dtype).contiguous() for part in state)
        elif state is not None:
            state = state[:, :width].to(block.dtype).contiguous()
        output, state = rnn(block.view(steps, width, -1), state)  # (steps, width, H)
        outputs.append(output.flatten(0, 1))
    return torch.cat(outputs)
