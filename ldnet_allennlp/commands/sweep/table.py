"""Table of `ldnet-sweep`, and its plot of scores against costs."""

from typing import Any

from ldnet_allennlp.commands.report.plot import BLUE, VERMILLION, check_plot
from ldnet_allennlp.commands.report.table import aligned, in_mebibytes, kept_layers, short_names, shortened
from ldnet_allennlp.common.files import atomic_path

Point = dict[str, Any]


def sweep_table(result: dict[str, Any]) -> list[str]:
    """Aligned lines: one row per point of `sweep`."""
    points = result["points"]
    splits = list(points[0]["scores"])
    head = ["", "layers", *(f"{split} {result['metric']}" for split in splits)]
    rows = [[*head, "multiply-adds", "words/s", "archive"]]
    for name, point in zip(names_of(points), points):
        report = point["report"]
        rows.append(
            [
                name,
                str(count_layers(point)),
                *(f"{point['scores'][split]:.4f}" for split in splits),
                shortened(report["multiply_adds"]),
                "-" if report["words_per_second"] is None else f"{report['words_per_second']:,.0f}",
                in_mebibytes(report["archive_bytes"]),
            ]
        )
    threads = f"{result['threads']} thread{'s' if result['threads'] > 1 else ''}"
    return [
        *aligned(rows),
        f"Multiply-adds are for words of {result['characters_per_word']:.2f} characters. Words per second, from "
        f"words to output: {threads}, batches of {result['batch_size']}, torch {result['torch']}.",
    ]


def names_of(points: list[Point]) -> list[str]:
    """The names of budgets; short names of other archives."""
    paths = [point["name"] for point in points if point["name"] == point["archive"]]
    short: dict[str, str] = dict(zip(paths, short_names(paths)))
    return [short.get(point["name"]) or str(point["name"]) for point in points]


def count_layers(point: Point) -> int:
    """The remaining language model layers of a point, in all directions."""
    return sum(len(kept_layers(stack)) for stack in point["report"]["layers"].values())


def write_sweep_plot(path: str, result: dict[str, Any]) -> None:
    """
    Plot the score against multiply-adds and, if measured, against words per second.

    Raises `ConfigurationError` like `check_plot`.
    """
    check_plot(path)
    import matplotlib

    figure = draw_sweep(result)
    with matplotlib.rc_context({"svg.fonttype": "none"}), atomic_path(path) as file:
        figure.savefig(file, dpi=150)


def draw_sweep(result: dict[str, Any]) -> Any:
    """The plot of `write_sweep_plot` as a `matplotlib.figure.Figure`."""
    import matplotlib
    from matplotlib.figure import Figure

    points = result["points"]
    costs = [
        ("multiply-adds per word, millions", [point["report"]["multiply_adds"] / 1e6 for point in points])
    ]
    speeds = [point["report"]["words_per_second"] for point in points]
    if None not in speeds:
        costs.append(("words per second, thousands", [speed / 1e3 for speed in speeds]))
    split = list(points[0]["scores"])[-1]  # test, where there is one
    scores = [point["scores"][split] for point in points]
    # Label budgets with their layer count, and other archives with their name.
    labels = [
        name if point["name"] == point["archive"] else f"{count_layers(point)}"
        for name, point in zip(names_of(points), points)
    ]
    with matplotlib.rc_context({"font.size": 10}):
        figure = Figure(figsize=(5.2 * len(costs), 3.8), layout="constrained")
        for number, (label, values) in enumerate(costs):
            panel = figure.add_subplot(1, len(costs), number + 1)
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
    """Points with error bars. Layer counts are next to their points, other labels in a legend."""
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
    with_log_scale(panel, values)
    if panel.get_legend_handles_labels()[0]:
        panel.legend(fontsize=8, framealpha=0.7)


def with_log_scale(panel: Any, values: list[float]) -> None:
    """Make the horizontal axis logarithmic, with ticks at the values themselves."""
    panel.set_xscale("log")
    panel.margins(0.15)
    panel.grid(alpha=0.3)
    panel.minorticks_off()
    ticks: list[float] = []
    for tick in sorted(float(f"{value:.2g}") for value in values):
        if not ticks or tick > 1.2 * ticks[-1]:  # or their labels would overlap
            ticks.append(tick)
    panel.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
