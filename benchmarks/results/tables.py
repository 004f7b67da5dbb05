"""
Print the tables and draw the plots of docs/results.md from the files in this folder:

    python benchmarks/results/tables.py --plot docs/results

The tables are in Markdown: one per corpus from `results.jsonl` and `speed.json`, then those of `cuts.jsonl`,
`language_models.jsonl` and `lm_pruning.jsonl`. The plots are `docs/results_CORPUS.svg`, F1 (or accuracy) on test
against multiply-adds and, if measured, words per second, for corpora with three rows or more, and
`docs/results_lm_pruning.svg`.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from lm_tables import cuts_table, draw_pruning, few_layers_table, language_model_table, pruning_table

from ldnet_allennlp.commands.sweep.table import draw_scores

HERE = Path(__file__).resolve().parent
NAMES = {
    "vanilla": "no language model",
    "unpruned": "all layers",
    "elmo": "ELMo-style mixture",
    "co-training": "co-trained characters (LM-LSTM-CRF)",
}
Cells = list[dict[str, Any]]


def main() -> None:
    """Print the tables and write the plots."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--plot", help="the beginning of the pictures' names")
    args = parser.parse_args()
    lines = lines_of("results")
    path = HERE / "speed.json"
    speeds = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for corpus, text in dict.fromkeys((line["corpus"], line["text"]) for line in lines):
        cells = [line for line in lines if line["corpus"] == corpus and belongs(line, text)]
        rows = rows_of([cell for cell in cells if "missed" not in cell])
        own = speeds.get(corpus, {}).get("words_per_second", {}) if text == "eltec" else {}
        print(f"\n{corpus} (language models and word vectors: {text})\n")
        print("\n".join(table(rows, own)))
        missed = [f"{name_of(cell['row'])}, seed {cell['seed']}" for cell in cells if "missed" in cell]
        if missed:
            print(f"\nNot within the budget: {'; '.join(missed)}.")
        if args.plot and len(rows) > 2 and text == "eltec":
            draw(rows, own, corpus).savefig(f"{args.plot}_{corpus}.svg")
    print("\nLanguage models\n")
    print("\n".join(text_table(lines)))
    for name, make in (
        ("cuts", cuts_table),
        ("language_models", language_model_table),
        ("lm_pruning", pruning_table),
        ("few_layers", few_layers_table),
    ):
        if lines_of(name):
            print(f"\n{name}\n")
            print("\n".join(make(lines_of(name))))
    if args.plot and lines_of("lm_pruning"):
        draw_pruning(lines_of("lm_pruning")).savefig(f"{args.plot}_lm_pruning.svg")


def belongs(cell: dict[str, Any], text: str) -> bool:
    """Whether a cell is in a text's table: "modern" without language models is in that of "modern-20M", too."""
    return cell["text"] == text or (cell["row"] == "vanilla" and cell["text"] == text.partition("-")[0])


def lines_of(name: str) -> Cells:
    """What a script recorded, if it did."""
    path = HERE / f"{name}.jsonl"
    return (
        [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
    )


def rows_of(cells: Cells) -> dict[str, Cells]:
    """The cells of each row, the dearest row first."""
    rows: dict[str, Cells] = {}
    for cell in cells:
        rows.setdefault(cell["row"], []).append(cell)
    return dict(sorted(rows.items(), key=lambda row: -mean(row[1], "multiply_adds")))


def mean(cells: Cells, name: str) -> float:
    """Of a number that all cells have."""
    return statistics.mean(float(cell[name]) for cell in cells)


def score(cells: Cells, split: str) -> str:
    """Mean and standard deviation over seeds, in percent."""
    return with_spread([100 * cell["scores"][split] for cell in cells], ".1f")


def difference(cells: Cells, others: Cells) -> str:
    """Test scores less those of other cells with the same seeds: mean and standard deviation, in points."""
    by_seed = {other["seed"]: other["scores"]["test"] for other in others}
    both = [cell for cell in cells if cell["seed"] in by_seed]
    return with_spread([100 * (cell["scores"]["test"] - by_seed[cell["seed"]]) for cell in both], "+.1f")


def with_spread(values: list[float], form: str) -> str:
    """The mean in this form and, of several, the standard deviation."""
    if not values:
        return "-"
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):{form}}{spread}"


def table(rows: dict[str, Cells], speeds: dict[str, float]) -> list[str]:
    """Lines of Markdown."""
    costs = ("multiply-adds per word", "words/s", "archive", "seeds")
    names = ("tagger", "layers kept", "dev", "test", "change from all layers", *costs)
    lines = [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    everything = [f"layers-{sum(map(len, cell['layers'].values()))}" for cell in rows.get("unpruned", [])]
    for row, cells in rows.items():
        name = "all layers, as many epochs as with a budget" if row in everything else name_of(row)
        kept = [sum(map(len, cell["layers"].values())) for cell in cells]
        speed = f"{speeds[row]:,.0f}" if row in speeds else "-"
        lines.append(
            f"| {name} | {', '.join(map(str, kept)) if len(set(kept)) > 1 else kept[0]} "
            f"| {score(cells, 'dev')} | {score(cells, 'test')} "
            f"| {'' if row == 'unpruned' else difference(cells, rows.get('unpruned', []))} "
            f"| {mean(cells, 'multiply_adds') / 1e6:.2f} M "
            f"| {speed} | {mean(cells, 'archive_bytes') / 2**20:.1f} MiB | {len(cells)} |"
        )
    return lines


def text_table(lines: Cells) -> list[str]:
    """
    Lines of Markdown: test scores by language model ("modern-20M") on the corpora that all of them have, with all and
    with two layers, and how many seeds.
    """
    rows = ("unpruned", "layers-2")
    cells = [line for line in lines if line["row"] in rows and line["text"].partition("-")[0] == "modern"]
    texts = dict.fromkeys(cell["text"] for cell in cells if cell["row"] == "unpruned")
    corpora = [
        corpus
        for corpus in dict.fromkeys(cell["corpus"] for cell in cells)
        if all(any((c["corpus"], c["text"]) == (corpus, text) for c in cells) for text in texts)
    ]
    columns = [(corpus, row) for corpus in corpora for row in rows]
    names = [f"{corpus}, {name_of(row)}" for corpus, row in columns]
    table = [f"| language models | {' | '.join(names)} |", "|---" * (1 + len(columns)) + "|"]
    for text in texts:
        found = [[c for c in cells if (c["corpus"], c["row"], c["text"]) == (*key, text)] for key in columns]
        scores = [f"{score(few, 'test')} ({len(few)})" if few else "-" for few in found]
        table.append(f"| {text} | {' | '.join(scores)} |")
    return table


def name_of(row: str) -> str:
    """What a row is called in a table."""
    kind, _, number = row.rpartition("-")
    if kind == "layers":
        return f"at most {number} layer{'' if number == '1' else 's'}"
    if kind == "published":
        return f"at most {number} layer{'' if number == '1' else 's'}, published penalty"
    if kind == "clamped":
        return f"{number} layers, clamped after training"
    if kind == "multiply-adds":
        return f"at most {float(number) / 1e6:g} M in the language models"
    return NAMES[row]


def draw(rows: dict[str, Cells], speeds: dict[str, float], corpus: str) -> Any:
    """Mean scores on test with their standard deviation, against costs."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"font.size": 10, "svg.fonttype": "none"}):
        costs: list[dict[str, float | None]] = [
            {row: mean(cells, "multiply_adds") / 1e6 for row, cells in rows.items()},
            {row: speeds[row] / 1e3 if row in speeds else None for row in rows},
        ]
        figure = Figure(figsize=(10.4, 4.0), layout="constrained")
        for number, costs_of in enumerate(costs):
            panel = figure.add_subplot(1, 2, number + 1)
            points: dict[tuple[float, float], list[str]] = {}  # rows at the same point share a label
            spreads = {}
            for row, cells in rows.items():
                value, scores = costs_of[row], [100 * cell["scores"]["test"] for cell in cells]
                if value is None:
                    continue
                point = (round(value, 2), round(statistics.mean(scores), 1))
                kind, _, layers = row.rpartition("-")
                points.setdefault(point, []).append(layers if kind == "layers" else name_of(row))
                spreads[point] = statistics.stdev(scores) if len(scores) > 1 else 0.0
            if points:
                values, means = zip(*points)
                labels = [", ".join(names) for names in points.values()]
                draw_scores(panel, list(values), list(means), labels, list(spreads.values()))
            panel.set_xlabel(
                ("multiply-adds per word, millions", "thousand words per second, one thread")[number]
            )
            panel.set_ylabel("score on test, %")
        figure.suptitle(
            f"{corpus}: score against cost (numbers: layer budgets; bars: one standard deviation)"
        )
    return figure


if __name__ == "__main__":
    main()
