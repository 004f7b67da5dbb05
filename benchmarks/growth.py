"""
Measure words per second against sentence length, batch size, layers, vocabulary and number of tags.

    python benchmarks/growth.py --json growth.json --plot growth.svg
    python benchmarks/growth.py --quick --plot growth.svg                 # about two minutes on one core

One parameter varies at a time; the others keep the published sizes (10 layers of 300 in each direction, 33,000 words,
17 tags), with sentences of 16 words and 1,024 tokens per batch. All sentences of a text have the same length, so there
is no padding. The published setting, which all panels share, is measured once. Each point is the exported tagger in
`ldnet_runtime`, from words to tags: the median of the rounds. The plot (matplotlib) has a panel for each of them.
"""

import argparse
import json
import os
import platform
import random
import statistics
import sys
import time
import warnings
from pathlib import Path
from typing import Any, NamedTuple

warnings.filterwarnings("ignore")
HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

import torch  # noqa: E402
from synthetic_taggers import Sizes, build_tagger, make_sentences, make_words  # noqa: E402


class Point(NamedTuple):
    """A setting to measure."""

    axis: str
    value: int
    sizes: Sizes
    length: int = 16
    tokens_per_batch: int = 1024


def points(quick: bool) -> list[Point]:
    """The settings, the published one in each of the axes."""
    usual = Sizes()
    lengths = (4, 16, 64) if quick else (1, 4, 16, 64, 256, 1024)
    batches = (16, 256, 1024) if quick else (16, 64, 256, 1024, 4096)
    layers = (0, 2, 10) if quick else (0, 1, 2, 4, 6, 8, 10)
    vocabularies = (1_000, 33_000) if quick else (1_000, 33_000, 100_000, 400_000)
    types = (1, 4, 26) if quick else (1, 4, 11, 26, 50)
    return [
        *(Point("words per sentence", length, usual, length=length) for length in lengths),
        *(Point("tokens per batch", size, usual, tokens_per_batch=size) for size in batches),
        *(Point("layers per direction", number, usual._replace(layers=number)) for number in layers),
        *(
            Point("words in the vocabulary", number, usual._replace(lm_words=number))
            for number in vocabularies
        ),
        *(Point("tags", 4 * number + 1, usual._replace(types=number)) for number in types),
    ]


def seconds_of(point: Point, num_words: int, rounds: int, seed: int, threads: int) -> list[float]:
    """The seconds of each round for `num_words` words."""
    from allennlp.common import Params
    from allennlp.data import DatasetReader

    from ldnet_allennlp.export import export_tagger
    from ldnet_runtime import Tagger

    rng = random.Random(seed)
    words = make_words(max(point.sizes.lm_words, point.sizes.tagger_words) + 2000, rng)
    # Without layers it is the tagger without language models.
    kind = "unpruned" if point.sizes.layers else "vanilla"
    model, config = build_tagger(point.sizes, kind, words, seed)
    reader = DatasetReader.from_params(Params(config["dataset_reader"]))
    tagger = Tagger(export_tagger(model, reader), threads, point.tokens_per_batch)
    number = max(1, num_words // point.length)
    sentences = make_sentences(words, [point.length] * number, rng)
    seconds = []
    for _ in range(rounds + 1):
        before = time.perf_counter()
        for _prediction in tagger.tag_many(sentences, confidences=False):
            pass
        seconds.append((time.perf_counter() - before) * num_words / (number * point.length))
    return seconds[1:]  # the first one does what is only done once


# Color-blind safe palette of Okabe and Ito.
BLUE, ORANGE = "#0072B2", "#D55E00"


def plot(rows: list[dict[str, Any]], path: str) -> None:
    """Draw a panel for each axis; the published size is marked."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import FuncFormatter, NullLocator

    axes: list[str] = list(dict.fromkeys(row["axis"] for row in rows))
    figure, panels = pyplot.subplots(1, len(axes), figsize=(3.1 * len(axes), 3.2), sharey=True)
    published = {
        "layers per direction": 10,
        "words in the vocabulary": 33_000,
        "tags": 17,
        "tokens per batch": 1024,
    }
    for panel, axis in zip(panels, axes):
        of_axis = [row for row in rows if row["axis"] == axis]
        values = [row["value"] for row in of_axis]
        panel.plot(
            values, [row["words_per_second"] for row in of_axis], "o-", color=BLUE, linewidth=2, markersize=6
        )
        for row in of_axis:
            if row["value"] == published.get(axis, 16):
                panel.plot(row["value"], row["words_per_second"], "s", color=ORANGE, markersize=9, zorder=3)
        if axis != "layers per direction":
            panel.set_xscale("log")
        panel.set_yscale("log")
        panel.set_xlabel(axis, fontsize=11)
        panel.set_xticks(values)
        panel.xaxis.set_major_formatter(FuncFormatter(_short))
        panel.xaxis.set_minor_locator(NullLocator())
        panel.yaxis.set_major_formatter(FuncFormatter(_short))
        panel.grid(True, which="major", color="0.9")
        panel.tick_params(labelsize=9, labelleft=panel is panels[0])
        for side in ("top", "right"):
            panel.spines[side].set_visible(False)
    panels[0].set_ylabel("words per second", fontsize=11)
    panels[0].plot([], [], "s", color=ORANGE, markersize=9, label="as published")
    panels[0].legend(frameon=False, fontsize=9)
    figure.suptitle("Speed of an exported tagger (float32): one size changes, the others stay as published")
    figure.tight_layout()
    figure.savefig(path)


def _short(value: float, _: int | None = None) -> str:
    return f"{value / 1000:g}k" if value >= 10_000 else f"{value:,g}"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer points, fewer words")
    parser.add_argument("--words", type=int, help="words of each text (default: 8,192, with --quick 2,048)")
    parser.add_argument("--rounds", type=int, help="default: 3, with --quick 2")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=13)
    parser.add_argument("--plot", help="an SVG, PNG or PDF file to draw to")
    parser.add_argument("--json", help="write settings and results to this file")
    options = parser.parse_args(arguments)
    options.words = options.words or (2048 if options.quick else 8192)
    options.rounds = options.rounds or (2 if options.quick else 3)
    torch.set_num_threads(options.threads)
    settings = {
        **{name: value for name, value in vars(options).items() if name not in ("json", "plot")},
        "python": platform.python_version(),
        "torch": torch.__version__,
        "machine": platform.machine(),
        "cores": os.cpu_count(),
    }
    print(json.dumps(settings))
    print("\n| | | words/s | min..max |\n|---|---|---|---|")
    rows = []
    measured: dict[Any, list[float]] = {}
    for point in points(options.quick):
        setting = point[2:]
        if setting not in measured:
            measured[setting] = seconds_of(
                point, options.words, options.rounds, options.seed, options.threads
            )
        seconds = measured[setting]
        speeds = sorted(options.words / value for value in seconds)
        rows.append(
            {
                "axis": point.axis,
                "value": point.value,
                "words_per_second": statistics.median(speeds),
                "lowest": speeds[0],
                "highest": speeds[-1],
            }
        )
        median, spread = rows[-1]["words_per_second"], f"{speeds[0]:,.0f}..{speeds[-1]:,.0f}"
        print(f"| {point.axis} | {point.value:,} | {median:,.0f} | {spread} |", flush=True)
    if options.plot:
        plot(rows, options.plot)
    if options.json:
        Path(options.json).write_text(json.dumps({"settings": settings, "results": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
