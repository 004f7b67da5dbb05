"""The tables and the plot of the language models of the results page: `tables.py` prints and writes them."""

import statistics
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from ldnet_allennlp.commands.report.plot import BLUE, VERMILLION

Line = dict[str, Any]

NAMES = {
    "ld-rnn": "LD-RNN, layer-wise dropout 0.5",
    "ld-rnn-plain": "LD-RNN without layer-wise dropout",
    "stacked": "stacked LSTM",
    "allennlp": "allennlp-models' `LanguageModel`, sampled softmax",
}
CURVES = {
    "ld-rnn": ("with layer-wise dropout", BLUE, "o", "-"),
    "ld-rnn-plain": ("without", VERMILLION, "s", "--"),
}


def language_model_table(lines: list[Line]) -> list[str]:
    """Lines of Markdown: a row for each kind of language model, in the order of NAMES."""
    texts = list(lines[0]["perplexities"])
    table = [
        "| language model | "
        + " | ".join(f"perplexity, {text}" for text in texts)
        + " | recurrent + projection | all parameters | words read | words/s | seeds |",
        "|---" * (len(texts) + 6) + "|",
    ]
    for row, name in NAMES.items():
        cells = [line for line in lines if line["row"] == row]
        if cells:
            scores = [with_spread([cell["perplexities"][text] for cell in cells]) for text in texts]
            table.append(
                f"| {name} | {' | '.join(scores)} | {cells[0]['recurrent_and_projection_parameters'] / 1e6:.2f} M "
                f"| {cells[0]['parameters'] / 1e6:.1f} M "
                f"| {statistics.mean(cell['words'] for cell in cells) / 1e6:.2f} M "
                f"| {statistics.mean(cell['words_per_cpu_second'] for cell in cells):,.0f} | {len(cells)} |"
            )
    return table


def with_spread(values: list[float]) -> str:
    """Mean and, of several, standard deviation."""
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{spread}"


def pruning_table(lines: list[Line]) -> list[str]:
    """Lines of Markdown: what is left of each model's perplexity after so many layers were cut."""
    table = [
        "| layers cut | language model | hidden from the layers above | cut, mean (least, most) "
        "| cut by gates | and projection refitted |",
        "|---" * 6 + "|",
    ]
    for count in range(1 + max(len(one["layers"]) for line in lines for one in line["cuts"])):
        for line in lines:
            hidden, cut = perplexities(line, "hidden", count), perplexities(line, "cut", count)
            between = f" ({min(cut):.1f}, {max(cut):.1f})" if len(cut) > 1 else ""
            gates = [chosen(line, name, count) for name in ("cut", "refitted")]
            shown = ["-" if value is None else f"{value:.1f}" for value in gates]
            table.append(
                f"| {count} | {CURVES[line['row']][0]} | {statistics.mean(hidden):.1f} "
                f"| {statistics.mean(cut):.1f}{between} | {' | '.join(shown)} |"
            )
    return table


def few_layers_table(lines: list[Line]) -> list[str]:
    """Lines of Markdown: the perplexity with so many of a model's layers, over all sets of them."""
    counts = sorted({len(one["layers"]) for line in lines for one in line["cuts"]})
    layers = max(max(one["layers"], default=0) for line in lines for one in line["cuts"])
    table = [
        "| language model | " + " | ".join(f"{layers - count} of {layers} layers" for count in counts) + " |",
        "|---" * (1 + len(counts)) + "|",
    ]
    for line in lines:
        cells = []
        for count in counts:
            found = perplexities(line, "cut", count)
            between = f" ({min(found):.0f} to {max(found):.0f})" if len(found) > 1 else ""
            cells.append(f"{statistics.mean(found):.1f}{between}")
        table.append(f"| {line['row']} | {' | '.join(cells)} |")
    return table


def perplexities(line: Line, name: str, count: int) -> list[float]:
    """Of all sets of so many layers."""
    return [one[name] for one in line["cuts"] if len(one["layers"]) == count]


def chosen(line: Line, name: str, count: int) -> float | None:
    """Of the set of so many layers that the gates chose, if they chose one."""
    found = [one[name] for one in line["gates"] if len(one["layers"]) == count]
    return found[0] if found else None


def draw_pruning(lines: list[Line]) -> Any:
    """Perplexity against the number of layers that were cut: three panels, a curve for each model."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"font.size": 10, "svg.fonttype": "none"}):
        figure = Figure(figsize=(10.8, 3.9), layout="constrained")
        panels = figure.subplots(1, 3)
        titles = ("hidden from the layers above", "cut for good", "cut by gates, projection refitted")
        for panel, title in zip(panels, titles):
            panel.set_title(title, fontsize=11)
            panel.set_xlabel("layers cut, of five")
            panel.set_yscale("log")
            panel.grid(alpha=0.3, which="both")
        panels[0].set_ylabel("perplexity")
        for line in lines:
            label, color, _, style = CURVES[line["row"]]
            for panel, name in zip(panels, ("hidden", "cut")):
                draw_sets(panel, line, name)
            draw_chosen(panels[1], line, "cut", f"{label}, by gates", "none", "")
            draw_chosen(panels[2], line, "refitted", label, color, style)
        for panel in panels:
            with_plain_ticks(panel)
            panel.legend(fontsize=9, frameon=False, loc="upper left")
        figure.suptitle("Mean over all sets of layers; shaded: from the best set to the worst")
    return figure


def draw_sets(panel: Any, line: Line, name: str) -> None:
    """The mean over all sets of layers, and how far they are apart."""
    label, color, marker, style = CURVES[line["row"]]
    counts = sorted({len(one["layers"]) for one in line["cuts"]})
    values = [perplexities(line, name, count) for count in counts]
    panel.plot(counts, [statistics.mean(some) for some in values], marker + style, color=color, label=label)
    panel.fill_between(
        counts, [min(some) for some in values], [max(some) for some in values], color=color, alpha=0.15
    )


def draw_chosen(panel: Any, line: Line, name: str, label: str, face: str, style: str) -> None:
    """The sets that the gates chose."""
    _, color, marker, _ = CURVES[line["row"]]
    found = {count: chosen(line, name, count) for count in range(len(line["cuts"]))}
    points = [(count, value) for count, value in found.items() if value is not None]
    size = 6 if style else 10
    panel.plot(*zip(*points), marker + style, color=color, markerfacecolor=face, markersize=size, label=label)


def with_plain_ticks(panel: Any) -> None:
    """Ticks that are read as perplexities, also on an axis that spans less than a power of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = panel.get_ylim()
    panel.set_ylim(low, high * (high / low) ** 0.25)  # room for the legend
    panel.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.yaxis.set_minor_formatter(NullFormatter())


def cuts_table(lines: list[Line]) -> list[str]:
    """Lines of Markdown: taggers before and after the cut of layers, before they are trained on."""
    table = [
        "| row | layers | F1 dev, test | layers after the cut | F1 dev, test | tags that differ | emissions, at most |",
        "|---" * 7 + "|",
    ]
    for line in sorted(lines, key=lambda line: (line["row"].split("-")[0], -line["before"]["layers"])):
        sides = [
            f"{side['layers']} | {100 * side['scores']['dev']:.1f}, {100 * side['scores']['test']:.1f}"
            for side in (line["before"], line["after"])
        ]
        table.append(
            f"| {line['row']}, seed {line['seed']} | {' | '.join(sides)} "
            f"| {line['tags_changed']:,} of {line['words']:,} | {line['largest_difference']:.1e} |"
        )
    return table
