"""Table of `ldnet-sweep`, and its plot of scores against costs."""

from typing import Any

from ldnet_allennlp.commands.report.plot import BLUE, VERMILLION
from ldnet_allennlp.commands.report.table import (
    aligned,
    conditions,
    in_mebibytes,
    kept_layers,
    short_names,
    shortened,
    speed_of,
)

Point = dict[str, Any]


def sweep_table(result: dict[str, Any]) -> list[str]:
    """Aligned lines: one row per point of `sweep`."""
    points = result["points"]
    splits = list(points[0]["scores"])
    scores = (f"{split} {result['metric']}" for split in splits)
    rows = [["", "layers", *scores, "multiply-adds", "words/s", "archive"]]
    for name, point in zip(names_of(points), points):
        report = point["report"]
        rows.append(
            [
                name,
                str(count_layers(point)),
                *(f"{point['scores'][split]:.4f}" for split in splits),
                shortened(report["multiply_adds"]),
                speed_of(report),
                in_mebibytes(report["archive_bytes"]),
            ]
        )
    return [*aligned(rows), *conditions(result)]


def names_of(points: list[Point]) -> list[str]:
    """The names of budgets; short names of other archives."""
    paths = [point["name"] for point in points if point["name"] == point["archive"]]
    short = dict(zip(paths, short_names(paths)))
    return [str(short.get(point["name"], point["name"])) for point in points]


def count_layers(point: Point) -> int:
    """The remaining language model layers of a point, in all directions."""
    return sum(len(kept_layers(stack)) for stack in point["report"]["layers"].values())


def draw_sweep(result: dict[str, Any]) -> Any:
    """A `matplotlib.figure.Figure`: the score against multiply-adds and, if measured, against words per second."""
    from matplotlib.figure import Figure

    points = result["points"]
    costs = {"multiply-adds per word, millions": [point["report"]["multiply_adds"] / 1e6 for point in points]}
    speeds = [point["report"]["words_per_second"] for point in points]
    if None not in speeds:
        costs["words per second, thousands"] = [speed / 1e3 for speed in speeds]
    split = list(points[0]["scores"])[-1]  # test, where there is one
    scores = [point["scores"][split] for point in points]
    # Label budgets with their layer count, and other archives with their name.
    labels = [
        name if point["name"] == point["archive"] else f"{count_layers(point)}"
        for name, point in zip(names_of(points), points)
    ]
    figure = Figure(figsize=(5.2 * len(costs), 3.8), layout="constrained")
    panels = figure.subplots(1, len(costs), squeeze=False)[0]
    for panel, (label, values) in zip(panels, costs.items()):
        draw_scores(panel, values, scores, labels)
        panel.set_xlabel(label)
        panel.set_ylabel(f"{result['metric']} ({split})")
    figure.suptitle("Score against cost (numbers: language model layers left)", fontsize=11)
    return figure


def draw_scores(
    panel: Any,
    values: list[float],
    scores: list[float],
    labels: list[str],
    spreads: list[float] | None = None,
) -> None:
    """Points with error bars on a logarithmic axis. Layer counts are next to their points, other labels in a legend."""
    markers = iter("sD^vP*X<>" * len(labels))
    for value, score, label, spread in zip(values, scores, labels, spreads or [0.0] * len(labels)):
        is_count = label.replace(", ", "").isdecimal()
        style = (
            {"fmt": "o", "color": BLUE}
            if is_count
            else {"fmt": next(markers), "color": VERMILLION, "label": label}
        )
        panel.errorbar([value], [score], [spread], capsize=3 if spread else 0, markersize=6, **style)
        if is_count:
            panel.annotate(label, (value, score), textcoords="offset points", xytext=(6, 4), fontsize=9)
    panel.set_xscale("log")
    panel.margins(0.15)
    panel.grid(alpha=0.3)
    panel.minorticks_off()
    ticks: list[float] = []
    for tick in sorted(float(f"{value:.2g}") for value in values):
        if not ticks or tick > 1.2 * ticks[-1]:  # or their labels would overlap
            ticks.append(tick)
    panel.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    if panel.get_legend_handles_labels()[0]:
        panel.legend(fontsize=8, framealpha=0.7)
