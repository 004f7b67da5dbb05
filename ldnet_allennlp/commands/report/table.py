"""Table of `ldnet-report`."""

import os
from collections.abc import Callable, Sequence
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
        name = os.path.basename(folder) if name == "model.tar.gz" else name
        names.append(name[: -len(".tar.gz")] if name.endswith(".tar.gz") else name)
    return names if len(set(names)) == len(names) else list(paths)


def shortened(number: float) -> str:
    """12,345,678 as "12.35 M", and less than a tenth of a million in thousands."""
    if number >= 1e5:
        return f"{number / 1e6:.2f} M"
    return f"{number / 1e3:.1f} k" if number else "0"


def in_mebibytes(size: int | None) -> str:
    """Bytes as "1.5 MiB"."""
    return "-" if size is None else f"{size / 2**20:.1f} MiB"


def kept_layers(layers: dict[str, Any]) -> list[int]:
    """The numbers of one direction's layers with a gate other than 0."""
    return [number for number, gate in zip(layers["layers"], layers["gates"]) if gate is None or gate > 0]


def table(reports: Sequence[Report], names: Sequence[str]) -> list[str]:
    """
    The reports (see `report_of`) as aligned lines, one column per archive; then the layers of each archive and the
    parts not counted.
    """
    rows = [["", *names]]

    def add(label: str, cell: Callable[[Report], str]) -> None:
        rows.append([label, *(cell(report) for report in reports)])

    def union(key: str) -> list[str]:
        return list(dict.fromkeys(name for report in reports for name in report[key]))

    add("model", lambda report: report["model"])
    for direction in union("layers"):
        add(f"layers, {direction}", lambda report: _count_of(report["layers"].get(direction)))  # noqa: B023
    add("parameters", lambda report: shortened(report["parameters"]))
    add("multiply-adds per word", lambda report: shortened(report["multiply_adds"]))
    for part in union("components"):
        add(f"  {part}", lambda report: _cost_of(report["components"].get(part)))  # noqa: B023
    add("embeddings", lambda report: in_mebibytes(report["embedding_bytes"]))
    add("all weights", lambda report: in_mebibytes(report["total_bytes"]))
    # Skip dtypes of 0.0 MiB, such as masks.
    kinds = [
        kind
        for kind in union("bytes_by_dtype")
        if any(report["bytes_by_dtype"].get(kind, 0) >= 0.05 * 2**20 for report in reports)
    ]
    for kind in kinds if len(kinds) > 1 else []:
        add(f"  {kind}", lambda report: in_mebibytes(report["bytes_by_dtype"].get(kind)))  # noqa: B023
    add("archive", lambda report: in_mebibytes(report["archive_bytes"]))
    add("words/second", lambda report: _speed_of(report["words_per_second"]))
    lines = aligned(rows)
    for title, details in (
        ("Layers and their gates (-: removed):", [_layer_rows(report) for report in reports]),
        ("Not counted:", [[[text] for text in report["not_counted"]] for report in reports]),
        (
            "Not measured:",
            [[[report["not_measured"]]] if "not_measured" in report else [] for report in reports],
        ),
    ):
        named = [
            [f"  {name}", *row] for name, details_of_one in zip(names, details) for row in details_of_one
        ]
        if named:
            lines += ["", title, *aligned(named, left=True)]
    return lines


def _count_of(layers: dict[str, Any] | None) -> str:
    return "-" if layers is None else f"{len(kept_layers(layers))} of {layers['unpruned']}"


def _cost_of(cost: float | None) -> str:
    return "-" if cost is None else shortened(cost)


def _speed_of(speed: float | None) -> str:
    return "-" if speed is None else f"{speed:,.0f}"


def _layer_rows(report: Report) -> list[list[str]]:
    rows = []
    for direction, layers in report["layers"].items():
        gates = dict(zip(layers["layers"], layers["gates"]))
        cells = []
        for number in range(1, layers["unpruned"] + 1):
            if number not in gates:
                cells.append(f"{number}: -")
            else:
                gate = gates[number]
                cells.append(f"{number}" if gate is None else f"{number}: {gate:.3g}")
        rows.append([direction, "  ".join(cells) or "none"])
    return rows


def aligned(rows: list[list[str]], left: bool = False) -> list[str]:
    """Aligned lines: the first column is left-aligned, the others right-aligned unless in `left`."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if left or not number else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines
