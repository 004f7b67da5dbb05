"""
The counting of conlleval, the scorer of the CoNLL shared tasks, written from its rules: where chunks start and end
is decided from two neighboring tags, and a chunk is correct if both sequences start and end it together. The rules
for E and S are those of its Python ports. Nothing here is shared with the package.
"""

from collections import Counter
from collections import Counter as CounterType
from collections.abc import Iterable, Sequence
from typing import NamedTuple

LETTERS = str.maketrans({"L": "E", "U": "S"})


class Scores(NamedTuple):
    """Fractions; `types` and `overall` are precision, recall and F1."""

    accuracy: float
    overall: tuple[float, float, float]
    types: dict[str, tuple[float, float, float]]


def conlleval(pairs: Iterable[tuple[Sequence[str], Sequence[str]]]) -> Scores:
    """Scores (gold tags, predicted tags) of each sentence; letters of IOB1, BIO, IOBES or BIOUL."""
    correct: CounterType[str] = Counter()
    gold_chunks: CounterType[str] = Counter()
    guessed_chunks: CounterType[str] = Counter()
    right = total = 0
    for gold, guessed in pairs:
        right += sum(one == other for one, other in zip(gold, guessed))
        total += len(gold)
        _count(gold, guessed, correct, gold_chunks, guessed_chunks)
    kinds = sorted({*gold_chunks, *guessed_chunks})
    return Scores(
        right / max(1, total),
        _values(sum(correct.values()), sum(gold_chunks.values()), sum(guessed_chunks.values())),
        {kind: _values(correct[kind], gold_chunks[kind], guessed_chunks[kind]) for kind in kinds},
    )


def _values(correct: int, gold: int, guessed: int) -> tuple[float, float, float]:
    precision = correct / guessed if guessed else 0.0
    recall = correct / gold if gold else 0.0
    return precision, recall, 2 * precision * recall / (precision + recall) if correct else 0.0


def _count(gold: Sequence[str], guessed: Sequence[str], correct, gold_chunks, guessed_chunks) -> None:
    before = [("O", ""), ("O", "")]
    in_correct = False
    for pair in zip([*gold, "O"], [*guessed, "O"]):
        now: list[tuple[str, str]] = [_split(tag) for tag in pair]
        ends = [_ends(*old, *new) for old, new in zip(before, now)]
        starts = [_starts(*old, *new) for old, new in zip(before, now)]
        if in_correct:
            if all(ends) and before[0][1] == before[1][1]:
                in_correct = False
                correct[before[0][1]] += 1
            elif ends[0] != ends[1] or now[0][1] != now[1][1]:
                in_correct = False
        if all(starts) and now[0][1] == now[1][1]:
            in_correct = True
        for found, started, (_, kind) in zip((gold_chunks, guessed_chunks), starts, now):
            if started:
                found[kind] += 1
        before = now


def _split(tag: str) -> tuple[str, str]:
    letter, _, kind = tag.partition("-")
    return letter.translate(LETTERS), kind


def _starts(old: str, old_kind: str, new: str, new_kind: str) -> bool:
    if new in "BS" or (old in "ESO" and new in "EI"):
        return True
    return new != "O" and old_kind != new_kind


def _ends(old: str, old_kind: str, new: str, new_kind: str) -> bool:
    if old in "ES" or (old in "BI" and new in "BSO"):
        return True
    return old != "O" and old_kind != new_kind
