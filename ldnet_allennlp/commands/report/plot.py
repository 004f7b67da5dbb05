"""Plot of `ldnet-report --plot`: gates over training, cost by component, connections of the layers."""

import os
from collections.abc import Callable, Sequence
from functools import partial
from itertools import zip_longest
from typing import Any, NamedTuple

from allennlp.common.checks import ConfigurationError

from ldnet_allennlp.commands.report.gates_history import GatesHistory, read_gates_history
from ldnet_allennlp.commands.report.table import Report, kept_layers, shortened, union
from ldnet_allennlp.common.files import atomic_path, check_output

# Color-blind safe palette of Okabe and Ito.
BLUE, VERMILLION, PURPLE = "#0072B2", "#D55E00", "#CC79A7"
COLORS = ["#E69F00", "#009E73", "#56B4E9", "#F0E442", "#000000"]  # of the parts that are not named below
PART_COLORS = {"LM forward": BLUE, "LM backward": VERMILLION, "LM projection": PURPLE}
_HATCHES = ["", "//", "..", "xx"]  # where there are more parts than colors
_PALE = "#BBBBBB"
_WIDTH = 10.8  # inches
_MANY_LAYERS = 8  # more need the whole width
_NAME = 48  # characters of an archive's name


def check_plot(path: str) -> None:
    """Raise `ConfigurationError` if matplotlib is not installed, or if the file extension is unknown."""
    if os.path.splitext(path)[1].lower() not in (".png", ".svg"):
        raise ConfigurationError(f"The plot was expected to be a .png or a .svg file, but it is '{path}'.")
    check_output(path, force=True)
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ConfigurationError(
            "A plot needs matplotlib, which is not installed. This installs it: pip install matplotlib"
        ) from error


def save_plot(path: str, draw: Callable[..., Any], *arguments: Any) -> None:
    """Save the figure that `draw` returns for the arguments. Raises `ConfigurationError` like `check_plot`."""
    check_plot(path)
    import matplotlib

    # Keep text as text in SVG.
    with matplotlib.rc_context({"font.size": 10, "svg.fonttype": "none"}), atomic_path(path) as file:
        draw(*arguments).savefig(file, dpi=150)


class _Section(NamedTuple):
    """Panels in rows, under a title."""

    title: str
    height: float  # of a row, in inches
    columns: int
    draw: Sequence[Callable[[Any], None]]  # on axes

    @property
    def num_rows(self) -> int:
        """Enough for all panels."""
        return -(-len(self.draw) // self.columns)


def draw_report(reports: Sequence[Report], names: Sequence[str]) -> Any:
    """
    A `matplotlib.figure.Figure` of reports (see `report_of`) with the names of their archives. Gates over training come
    from the logs next to the archives.

    Raises `ConfigurationError` if a log is invalid.
    """
    from matplotlib.figure import Figure

    names = [name if len(name) <= _NAME else "\u2026" + name[1 - _NAME :] for name in names]
    height = 1.4 + max(0.45 * len(reports), 0.22 * len(union(reports, "components")))
    sections = [_Section("Cost by component", height, 1, [partial(_plot_costs, reports, names)])]
    layered = [(name, report["layers"]) for name, report in zip(names, reports) if report["layers"]]
    if layered:
        stacks = [stack for _, directions in layered for stack in directions.values()]
        has_gates = any(gate is not None for stack in stacks for gate in stack["gates"])
        title = "Connections of the layers" + (" (gates below; pale layers are removed)" if has_gates else "")
        height = 0.75 + 1.5 * max(len(directions) for _, directions in layered)
        columns = 1 if any(stack["unpruned"] > _MANY_LAYERS for stack in stacks) else 2
        draw = [partial(_plot_layers, directions, name) for name, directions in layered]
        sections.append(_Section(title, height, columns, draw))
    histories = [(name, read_gates_history(report["archive"])) for name, report in zip(names, reports)]
    logged = [(name, history) for name, history in histories if history is not None]
    if logged:
        height = 1.45 + 0.22 * max(len(history.gates) for _, history in logged)
        draw = [partial(_plot_gates, history, name) for name, history in logged]
        sections.append(_Section("Gates over training (white is 0)", height, 2, draw))
    heights = [section.num_rows * section.height for section in sections]
    figure = Figure(figsize=(_WIDTH, sum(heights)), layout="constrained")
    parts = figure.subfigures(len(sections), 1, squeeze=False, height_ratios=heights)
    for part, section in zip(parts[:, 0], sections):
        part.suptitle(section.title, fontsize=12)
        panels = part.subplots(section.num_rows, section.columns, squeeze=False).flat
        for panel, fill in zip_longest(panels, section.draw):
            panel.set_axis_off() if fill is None else fill(panel)
    return figure


def _plot_costs(reports: Sequence[Report], names: Sequence[str], axes: Any) -> None:
    """One bar per archive, divided into parts."""
    places = list(range(len(reports)))
    ends = [0.0] * len(reports)
    parts = union(reports, "components")
    others = [part for part in parts if part not in PART_COLORS]
    for part in parts:
        number = 0 if part in PART_COLORS else others.index(part)
        costs = [report["components"].get(part, 0.0) / 1e6 for report in reports]
        axes.barh(
            places,
            costs,
            left=ends,
            height=0.6,
            label=part,
            color=PART_COLORS.get(part, COLORS[number % len(COLORS)]),
            hatch=_HATCHES[number // len(COLORS) % len(_HATCHES)],
            edgecolor="white",
            linewidth=0.6,
        )
        ends = [end + cost for end, cost in zip(ends, costs)]
    for place, end, report in zip(places, ends, reports):
        text = shortened(report["multiply_adds"]) + (" and more" if report["not_counted"] else "")
        axes.annotate(text, (end, place), xytext=(4, 0), textcoords="offset points", va="center")
    axes.set_yticks(places, names)
    axes.invert_yaxis()
    axes.set_xlim(0, max(*ends, 1e-9) * 1.25)  # with room for the numbers
    axes.set_xlabel("million multiply-adds per word")
    axes.spines[["top", "right"]].set_visible(False)
    if parts:
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)


def _plot_layers(stacks: dict[str, dict[str, Any]], name: str, axes: Any) -> None:
    """
    One row of nodes per direction: the word vector, the layers, and the reader of the layers. Arcs lead from each node
    to its readers; removed layers are pale and have no arcs.
    """
    longest = max(stack["unpruned"] for stack in stacks.values()) + 1
    for line, (direction, stack) in enumerate(stacks.items()):
        base = -1.75 * line
        color = (BLUE, VERMILLION)[line % 2]
        _plot_stack(axes, stack, base, color, longest)
        axes.text(-0.45, base + 0.98, direction, ha="left", va="center", color=color)
    axes.set_xlim(-0.6, longest + 0.12 * longest + 0.6)  # with room for the last word
    axes.set_ylim(-1.75 * (len(stacks) - 1) - 0.65, 1.15)
    axes.set_title(name, fontsize=11)
    axes.set_axis_off()


def _plot_stack(axes: Any, stack: dict[str, Any], base: float, color: str, longest: int) -> None:
    from matplotlib.patches import Arc

    count = stack["unpruned"]
    gates = dict(zip(stack["layers"], stack["gates"]))
    kept = kept_layers(stack)
    nodes = [0, *kept, count + 1]
    for position, reader in enumerate(nodes[1:], start=1):
        read = nodes[:position] if stack["dense"] else nodes[position - 1 : position]
        for source in read:
            width = reader - source
            height = 2 * 0.8 * (width / max(longest, 1)) ** 0.6
            arc = Arc(
                ((reader + source) / 2, base), width, height, theta1=0, theta2=180, color=color, alpha=0.6
            )
            axes.add_patch(arc)
    for number in range(count + 2):
        is_kept = number in nodes
        axes.plot(
            number,
            base,
            marker="s" if number in (0, count + 1) else "o",
            markersize=7,
            color=color if is_kept else "white",
            markeredgecolor=color if is_kept else _PALE,
        )
        text = {0: "word", count + 1: stack["output"]}.get(number, str(number))
        gate = gates.get(number)
        if is_kept and gate is not None:
            text += f"\n{gate:.2f}"
        is_last = number == count + 1
        axes.annotate(
            text,
            (number, base),
            xytext=(-5 if is_last else 0, -7),
            textcoords="offset points",
            ha="left" if is_last else "center",
            va="top",
            fontsize=min(8.5, 250 / (longest + 2)),  # of use above 27 layers
            linespacing=1.3,
            color="black" if is_kept else _PALE,
        )


def _plot_gates(history: GatesHistory, name: str, axes: Any) -> None:
    """One row per gate, one column per epoch; gates of exactly 0 are white."""
    import numpy
    from matplotlib import colormaps
    from matplotlib.ticker import MaxNLocator

    values = numpy.array(list(history.gates.values()))  # (gates, epochs)
    image = axes.pcolormesh(
        numpy.array([*history.epochs, history.epochs[-1] + 1]) - 0.5,
        numpy.arange(len(values) + 1) - 0.5,
        numpy.ma.masked_where(~(values > 0), values),
        cmap=colormaps["cividis_r"].with_extremes(bad="white"),
        vmin=0.0,
        vmax=1.0,
    )
    axes.hlines(numpy.arange(1, len(values)) - 0.5, *axes.get_xlim(), color="#DDDDDD", linewidth=0.6)
    axes.set_yticks(range(len(values)), history.gates)
    axes.invert_yaxis()
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("epoch")
    axes.set_title(name, fontsize=11)
    axes.figure.colorbar(image, ax=axes, label="gate")
