"""Batches of sentences of similar lengths, computed in parallel."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
MAX_WORDS = 2**17  # of a window


def batches(words: Sequence[Sequence[str]], tokens_per_batch: int) -> Iterator[list[int]]:
    """
    Batches of sentence numbers, the longest sentences first, without empty sentences.

    # Parameters

    words : `Sequence[Sequence[str]]`
        The words of each sentence.
    tokens_per_batch : `int`
        The maximum number of words per batch, padding included, unless one sentence has more. A batch with a very long
        word is smaller, because its characters may be padded, too.
    """
    longest = [max(map(len, sentence), default=0) for sentence in words]
    # By words and then by characters: both are padded.
    by_length = sorted(
        (number for number, sentence in enumerate(words) if len(sentence)),
        key=lambda number: (-len(words[number]), -sum(map(len, words[number]))),
    )
    batch: list[int] = []
    widest = 0
    for number in by_length:
        widest = max(widest, longest[number])
        # All are padded to the first one; words of up to 64 characters cost nothing extra.
        cost = (len(batch) + 1) * len(words[batch[0] if batch else number]) * max(1, widest // 64)
        if batch and cost > tokens_per_batch:
            yield batch
            batch, widest = [], longest[number]
        batch.append(number)
    if batch:
        yield batch


def run(
    words: Sequence[Sequence[str]],
    compute: Callable[[list[int]], Sequence[Result]],
    tokens_per_batch: int,
    threads: int,
) -> list[Result | None]:
    """
    The results for all sentences in order; `None` for empty sentences.

    # Parameters

    words : `Sequence[Sequence[str]]`
    compute : `Callable[[list[int]], Sequence[Result]]`
        Computes the results for the sentences with these numbers. Called from several threads.
    tokens_per_batch : `int`
    threads : `int`
        The maximum number of parallel batches.
    """
    results: list[Result | None] = [None] * len(words)
    of_sentences = list(batches(words, tokens_per_batch))
    if threads > 1 and len(of_sentences) > 1:
        with ThreadPoolExecutor(min(threads, len(of_sentences))) as pool:
            computed = list(pool.map(compute, of_sentences))
    else:
        computed = [compute(batch) for batch in of_sentences]
    for batch, of_batch in zip(of_sentences, computed):
        for number, result in zip(batch, of_batch):
            results[number] = result
    return results


def windows(items: Iterable[Item], size: int, size_of: Callable[[Item], int]) -> Iterator[list[Item]]:
    """
    Lists of up to `size` items, read lazily, fewer if they have `MAX_WORDS` words. Raises `ValueError` for a size
    below 1.
    """
    if size < 1:
        raise ValueError(f"window is {size}; expected 1 or more.")
    window: list[Item] = []
    words = 0
    for item in items:
        window.append(item)
        words += size_of(item)
        if len(window) == size or words >= MAX_WORDS:
            yield window
            window, words = [], 0
    if window:
        yield window
