"""Table of `ldnet-report`."""

import os
from collections.abc import Sequence
from typing import Any

Report = dict[str, Any]


def short_names(paths: Sequence[str]) -> list[str]:
    """
    Names for archives: the directory of a `model.tar.gz`, or the file name without extension; full paths if two names
    are equal.
    """
    names = []
    for path in paths:
        folder, name = os.path.split(os.path.abspath(path))
        names.append(os.path.basename(folder) if name == "model.tar.gz" else name.removesuffix(".tar.gz"))
    return names if len(set(names)) == len(names) else list(paths)


def shortened(number: float) -> str:
    """12,345,678 as "12.35 M", and less than a tenth of a million in thousands."""
    if number >= 1e5:
        return f"{number / 1e6:.2f} M"
    return f"{number / 1e3:.1f} k" if number else "0"


def in_mebibytes(size: int | None) -> str:
    """Bytes as "1.5 MiB"."""
    return "-" if size is None else f"{size / 2**20:.1f} MiB"


def speed_of(report: Report) -> str:
    """Words per second, "-" if they were not measured."""
    speed = report["words_per_second"]
    return "-" if speed is None else f"{speed:,.0f}"


def kept_layers(layers: dict[str, Any]) -> list[int]:
    """The numbers of one direction's layers with a gate other than 0."""
    return [number for number, gate in zip(layers["layers"], layers["gates"]) if gate is None or gate > 0]


def union(reports: Sequence[Report], key: str) -> list[str]:
    """The names in all reports under a key, each once."""
    return list(dict.fromkeys(name for report in reports for name in report[key]))


def table(reports: Sequence[Report], names: Sequence[str]) -> list[str]:
    """
    The reports (see `report_of`) as aligned lines, one column per archive; then the layers of each archive and the
    parts not counted.
    """
    rows = [["", *names], ["model", *(r["model"] for r in reports)]]
    for direction in union(reports, "layers"):
        rows.append([f"layers, {direction}", *(_count_of(r["layers"].get(direction)) for r in reports)])
    rows.append(["parameters", *(shortened(r["parameters"]) for r in reports)])
    rows.append(["multiply-adds per word", *(shortened(r["multiply_adds"]) for r in reports)])
    for part in union(reports, "components"):
        costs = [r["components"].get(part) for r in reports]
        rows.append([f"  {part}", *("-" if cost is None else shortened(cost) for cost in costs)])
    for label, key in (
        ("embeddings", "embedding_bytes"),
        ("all weights", "total_bytes"),
        ("archive", "archive_bytes"),
    ):
        rows.append([label, *(in_mebibytes(r[key]) for r in reports)])
    rows.append(["words/second", *map(speed_of, reports)])
    lines = aligned(rows)
    details: dict[str, list[list[list[str]]]] = {
        "Layers and their gates (-: removed):": [_layer_rows(r) for r in reports],
        "Not counted:": [[[text] for text in r["not_counted"]] for r in reports],
        "Not measured:": [[[r["not_measured"]]] if "not_measured" in r else [] for r in reports],
    }
    for title, rows_of_each in details.items():
        named = [[f"  {name}", *cells] for name, rows in zip(names, rows_of_each) for cells in rows]
        if named:
            lines += ["", title, *aligned(named, left=True)]
    return lines


def _count_of(layers: dict[str, Any] | None) -> str:
    return "-" if layers is None else f"{len(kept_layers(layers))} of {layers['unpruned']}"


def _layer_rows(report: Report) -> list[list[str]]:
    rows = []
    for direction, layers in report["layers"].items():
        gates = dict(zip(layers["layers"], layers["gates"]))
        cells = []
        for number in range(1, layers["unpruned"] + 1):
            gate = gates.get(number, "-")
            value = f"{gate:.3g}" if isinstance(gate, float) else gate
            cells.append(f"{number}" if gate is None else f"{number}: {value}")
        rows.append([direction, "  ".join(cells) or "none"])
    return rows


def aligned(rows: list[list[str]], left: bool = False) -> list[str]:
    """Aligned lines: the first column is left-aligned, the others right-aligned unless in `left`."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    return [
        "  ".join(
            f"{cell:{'<' if left or not number else '>'}{width}}"
            for number, (cell, width) in enumerate(zip(row, widths))
        ).rstrip()
        for row in rows
    ]


def conditions(result: dict[str, Any]) -> list[str]:
    """Notes on the conditions of the measurements in a result of `report`."""
    lines = [f"Multiply-adds are for words of {result['characters_per_word']:.2f} characters."]
    if result["passes"] > 0:
        threads = f"{result['threads']} thread{'s' if result['threads'] > 1 else ''}"
        passes = f"{result['passes']} {'passes' if result['passes'] > 1 else 'pass'}"
        source = result["text"] or "random words of the first model"
        lines.append(
            f"Words per second, from words to output: {threads}, batches of {result['batch_size']}, median of {passes} "
            f"over {result['num_words']:,} words ({source}); torch {result['torch']}."
        )
    return lines
