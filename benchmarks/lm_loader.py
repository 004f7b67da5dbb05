"""
Measure the "lm_stream" data loader on a generated corpus, by default a billion tokens:

    python benchmarks/lm_loader.py --directory /a/disk/with/5/GB --json lm_loader.json

Reading: random words (Zipf's law over those of the One Billion Word benchmark) are written as shards, as the
preparation of a text would leave them, and the loader reads all of them forward, backward and in both directions, once
for the time and once to check that every token was a target exactly once (the number of times that each id came). A
tenth of the corpus is read in the same way: the memory must not depend on the size. Each reading runs in a separate
process with one thread. The script prints the memory of Python, torch, AllenNLP and the vocabulary at the start, and
the additional peak of the resident memory and of its part without backing files. If the corpus fits into memory,
reading uses the page cache.

Preparing: one and several processes read a text (of the same distribution, or your file).

The script finally removes its files from the directory. Linux only (/proc).
"""

import argparse
import json
import multiprocessing
import os
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from itertools import chain
from typing import Any

import numpy
import torch
from allennlp.data import Vocabulary

from ldnet_allennlp.data.lm_stream import corpus as lm_corpus
from ldnet_allennlp.data.lm_stream.corpus import NUMBER_TYPE, NumberedText
from ldnet_allennlp.data.lm_stream.loader import LmStreamLoader
from ldnet_allennlp.data.lm_stream.reader import LmStreamReader
from ldnet_allennlp.data.lm_stream.shards import read_text

TOKENS_OF_A_PART = 1 << 24
DIRECTIONS = ("forward", "backward", "both")


def random_numbers(random: numpy.random.RandomState, count: int, num_words: int) -> numpy.ndarray:
    """Numbers from 1 to `num_words`, the n-th as frequent as 1/n."""
    numbers = numpy.exp(random.random_sample(count) * numpy.log(num_words)).astype(NUMBER_TYPE)
    return numpy.minimum(numbers, num_words)


class Corpus:
    """Shards of random words in the place where the loader looks for those of a (tiny) text."""

    def __init__(self, directory: str, num_tokens: int, num_words: int, seed: int) -> None:
        self.path = os.path.join(directory, f"text-{num_tokens}.txt")
        self.histogram = self.path + ".npy"
        self.shards = os.path.join(directory, "shards")
        self.num_tokens = num_tokens
        self._num_words = num_words
        self._seed = seed
        with open(self.path, "w", encoding="utf-8") as file:
            file.write("a\n")

    def loader(self, **options: Any) -> LmStreamLoader:
        loader = LmStreamLoader(LmStreamReader(), self.path, shards=self.shards, **options)
        loader.index_with(Vocabulary.from_instances(loader.iter_instances()))
        return loader

    def write(self) -> None:
        """Write the shards, and how often each word is a target: forward, then backward."""
        text = lm_corpus.Corpus(self.path, LmStreamReader().end_of_sentence)
        text.number = self._number  # type: ignore[method-assign]
        read_text(text, self.shards)

    def _number(self, write: Callable[[Any], Any]) -> NumberedText:
        random = numpy.random.RandomState(self._seed)
        counts = numpy.zeros(self._num_words + 1, dtype=numpy.int64)
        parts = []
        last = 0
        for start in range(0, self.num_tokens, TOKENS_OF_A_PART):
            count = min(TOKENS_OF_A_PART, self.num_tokens - start)
            numbers = random_numbers(random, count, self._num_words)
            write(numbers)
            counts += numpy.bincount(numbers, minlength=len(counts))
            last = int(numbers[-1])
            parts.append((0, count))
        backward = counts.copy()  # the boundary before the first token is a target, the last token is not
        backward[0] += 1
        backward[last] -= 1
        numpy.save(self.histogram, numpy.stack([counts, backward]))
        words = ["<eos>", *(f"word{number}" for number in range(1, len(counts)))]
        return NumberedText(words, numpy.maximum(counts, 1), parts)


def memory(what: str) -> int:
    """Megabytes from /proc/self/status, such as `VmHWM`: the peak of the resident memory."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) // 1000 for line in file if line.startswith(what + ":"))


def read(corpus: Corpus, direction: str, batch_size: int, sequence_length: int) -> dict[str, Any]:
    """Read the corpus once for the time and once for the check."""
    started = time.perf_counter()
    loader = corpus.loader(batch_size=batch_size, sequence_length=sequence_length, direction=direction)
    opened, cpu = time.perf_counter(), time.process_time()
    at_start = {"VmRSS": memory("VmRSS"), "RssAnon": memory("RssAnon")}
    batches, anonymous = 0, at_start["RssAnon"]
    for _ in loader:
        batches += 1
        if batches % 5000 == 0:
            anonymous = max(anonymous, memory("RssAnon"))
    done, cpu = time.perf_counter(), time.process_time() - cpu
    if batches != len(loader):
        raise SystemExit(f"{len(loader)} batches were announced, but {batches} came.")
    peaks = {"VmHWM": memory("VmHWM"), "RssAnon": max(anonymous, memory("RssAnon"))}
    delivered = corpus.num_tokens * (2 if direction == "both" else 1)
    check(corpus, loader, direction)
    return {
        "tokens": corpus.num_tokens,
        "direction": direction,
        "batches": batches,
        "open_seconds": opened - started,
        "read_seconds": done - opened,
        "targets_per_second": delivered / (done - opened),
        "targets_per_cpu_second": delivered / cpu,
        "resident_mb_at_start": at_start["VmRSS"],
        "resident_mb_peak": peaks["VmHWM"],
        "anonymous_mb_at_start": at_start["RssAnon"],
        "anonymous_mb_peak": peaks["RssAnon"],
        "every_token_once": True,
    }


def check(corpus: Corpus, loader: LmStreamLoader, direction: str) -> None:
    """End the program unless every token was a target exactly once."""
    by_word = numpy.load(corpus.histogram)
    expected = numpy.zeros((2, loader._ids.max() + 1), dtype=numpy.int64)  # by the ids of the vocabulary
    expected[:, loader._ids] = by_word
    entries = {"forward": ["targets"], "backward": ["targets"], "both": ["targets", "backward_targets"]}
    for number, entry in enumerate(entries[direction]):
        row = 1 if direction == "backward" else number
        found = numpy.zeros(expected.shape[1], dtype=numpy.int64)
        waiting: list[numpy.ndarray] = []
        for batch in chain(loader, [None]):
            if batch is not None:
                waiting.append(batch[entry].numpy().ravel())  # type: ignore[union-attr]
            if waiting and (batch is None or len(waiting) == 500):
                found += numpy.bincount(numpy.concatenate(waiting), minlength=len(found))
                waiting.clear()
        found[0] = 0  # padding
        if not (found == expected[row]).all():
            raise SystemExit(f"{direction}, {entry}: not every token was a target exactly once.")


def write_text(path: str, num_tokens: int, num_words: int, seed: int) -> None:
    """A text of random words."""
    random = numpy.random.RandomState(seed)
    words = [f"word{number}" for number in range(num_words + 1)]
    with open(path, "w", encoding="utf-8") as file:
        for start in range(0, num_tokens, 1_000_000):
            ids = random_numbers(random, min(1_000_000, num_tokens - start), num_words).tolist()
            sentences = ([words[number] for number in ids[i : i + 24]] for i in range(0, len(ids), 24))
            file.writelines(" ".join(sentence) + "\n" for sentence in sentences)


def prepare_text(directory: str, path: str, workers: list[int], rounds: int) -> list[dict[str, Any]]:
    """Tokens per second, for each number of processes in turn."""
    times: dict[int, list[float]] = {}
    for number in range(rounds):
        for num_workers in workers:
            folder = os.path.join(directory, f"sample-{num_workers}-{number}")
            started = time.perf_counter()
            text = read_text(LmStreamReader().corpus(path, num_workers), folder)
            times.setdefault(num_workers, []).append(time.perf_counter() - started)
            shutil.rmtree(folder)
    total = int(text.counts.sum())
    return [
        {
            "num_workers": num_workers,
            "tokens": total,
            "bytes": os.path.getsize(path),
            "words": len(text.words),
            "tokens_per_second": total / statistics.median(seconds),
        }
        for num_workers, seconds in times.items()
    ]


def in_child(function: Callable[..., Any], *arguments: Any) -> Any:
    """What the function returns in a process of its own."""
    context = multiprocessing.get_context("fork")
    receiving, sending = context.Pipe(duplex=False)

    def run() -> None:
        torch.set_num_threads(1)
        sending.send(function(*arguments))

    process = context.Process(target=run)
    process.start()
    sending.close()
    try:
        return receiving.recv()
    except EOFError as error:
        raise SystemExit(f"{function.__name__}{arguments[1:]} failed.") from error
    finally:
        process.join()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tokens", type=int, default=1_000_000_000)
    parser.add_argument("--sample-tokens", type=int, default=10_000_000, help="of text; 0 leaves it out")
    parser.add_argument("--text", help="a text for the preparation, in place of a generated one")
    parser.add_argument("--words", type=int, default=793_470)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--sequence-length", type=int, default=20)
    parser.add_argument("--num-workers", type=int, nargs="+", default=[0, 2])
    parser.add_argument("--rounds", type=int, default=3, help="of preparing, of which the median counts")
    parser.add_argument(
        "--directory", help="where the corpus is written: 5 bytes a token (default: temporary)"
    )
    parser.add_argument("--seed", type=int, default=13370)
    parser.add_argument("--json", help="a file for the figures")
    options = parser.parse_args()
    print(
        f"Python {platform.python_version()}, numpy {numpy.__version__}, torch {torch.__version__}, "
        f"{os.cpu_count()} cores, seed {options.seed}, {options.batch_size}x{options.sequence_length} windows"
    )
    figures: dict[str, Any] = {"settings": vars(options), "reading": [], "preparing": []}
    directory = tempfile.mkdtemp(prefix="lm_loader-", dir=options.directory)
    try:
        for num_tokens in (options.tokens // 10, options.tokens):
            corpus = Corpus(directory, num_tokens, options.words, options.seed)
            in_child(Corpus.write, corpus)
            print(f"{num_tokens:,} tokens", flush=True)
            for direction in DIRECTIONS:
                result = in_child(read, corpus, direction, options.batch_size, options.sequence_length)
                figures["reading"].append(result)
                print(
                    "  {direction:8} {targets_per_second:>11,.0f} targets/s ({targets_per_cpu_second:,.0f} per second "
                    "of the processor), {batches:,} batches, opened in "
                    "{open_seconds:.1f} s; resident {resident_mb_at_start} -> {resident_mb_peak} MB, "
                    "anonymous {anonymous_mb_at_start} -> {anonymous_mb_peak} MB; every token once".format(
                        **result
                    ),
                    flush=True,
                )
            shutil.rmtree(corpus.shards)
        if options.text or options.sample_tokens:
            text = options.text
            if text is None:
                text = os.path.join(directory, "sample.txt")
                in_child(write_text, text, options.sample_tokens, options.words, options.seed)
            sample = in_child(prepare_text, directory, text, options.num_workers, options.rounds)
            figures["preparing"] = sample
            for result in sample:
                print(
                    "prepared with num_workers {num_workers}: {tokens_per_second:,.0f} tokens/s "
                    "({tokens:,} tokens, {words:,} words, {bytes:,} bytes)".format(**result)
                )
    finally:
        shutil.rmtree(directory)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(figures, file, indent=1)


if __name__ == "__main__":
    main()
