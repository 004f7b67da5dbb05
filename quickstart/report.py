"""What the quickstart prints: tagged sentences, and a table of the taggers."""

import json
import shlex
from pathlib import Path
from typing import Any

MODELS = {
    "ner_vanilla": "without LM",
    "ner": "with LM, unpruned",
    "ner_select": "with LM, gated",
    "pruned": "with LM, pruned",
}


def archive(out: Path, model: str) -> Path:
    """The archive of a model."""
    return out / "pruned.tar.gz" if model == "pruned" else out / model / "model.tar.gz"


def _read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def _read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def f1(out: Path, model: str) -> float:
    """F1 on the test data."""
    if model == "pruned":
        return _read_json(out / "evaluation.json")["f1-measure-overall"]
    return _read_json(out / model / "metrics.json")["test_f1-measure-overall"]


def layers(costs: dict[str, Any]) -> str:
    """The language models' layers: "3 of 10", "10", or "-" without language models."""
    directions = costs["layers"].values()
    kept = sum(gate is None or gate > 0 for direction in directions for gate in direction["gates"])
    total = sum(direction["unpruned"] for direction in directions)
    return f"{kept} of {total}" if kept < total else str(total or "-")


def table(out: Path) -> list[str]:
    """A line for each tagger under a heading. Costs and speed are those of `allennlp ldnet-report`."""
    heading = f"{'tagger':<20} {'F1 (test)':>9} {'LM layers':>10} {'multiply-adds':>14} {'archive':>9} {'words/s':>9}"
    lines = [heading, "-" * len(heading)]
    for (model, title), costs in zip(MODELS.items(), _read_json(out / "report.json")["archives"]):
        multiply_adds = f"{costs['multiply_adds'] / 1e6:.2f} M"
        size = f"{costs['archive_bytes'] / 2**20:.1f} MiB"
        lines.append(
            f"{title:<20} {f1(out, model):>9.3f} {layers(costs):>10} {multiply_adds:>14} {size:>9} "
            f"{costs['words_per_second']:>9,.0f}"
        )
    return lines


def bracketed(sentence: dict[str, Any]) -> str:
    """A tagged sentence with its spans in brackets: `the [for CODE] loop`."""
    words = list(sentence["words"])
    for span in sentence["spans"]:
        words[span["start"]] = "[" + words[span["start"]]
        words[span["end"] - 1] += f" {span['type']}]"
    return " ".join(words)


def examples(sentences: list[dict[str, Any]], count: int = 3) -> list[dict[str, Any]]:
    """Of the sentences that fit on a line or two, those with up to three spans of the most types."""
    short = [sentence for sentence in sentences if 8 <= len(sentence["words"]) <= 24] or sentences
    return sorted(
        short,
        key=lambda sentence: (
            -min(len(sentence["spans"]), 3),
            -len({span["type"] for span in sentence["spans"]}),
        ),
    )[:count]


def first_tags(out: Path, count: int = 4) -> list[str]:
    """Lines with named entities that the English tagger has found."""
    lines = [line for line in (out / "english.txt").read_text("utf-8").splitlines() if "</" in line] or [
        "none"
    ]
    return [
        "",
        "Named entities, found by the tagger that comes with the package (models/english/ner.onnx)",
        *(f"  {line}" for line in lines[:count]),
        "",
    ]


def report(out: Path) -> list[str]:
    """The lines of the final report."""
    gated, pruned = (_read_lines(out / f"{model}.jsonl") for model in ("ner_select", "pruned"))
    same = [line["tags"] for line in gated] == [line["tags"] for line in pruned]
    return [
        *table(out),
        "  Multiply-adds are per word; words per second on one thread, in batches of 32, words to tags.",
        f"  On the test data the pruned tagger predicts {'the tags' if same else 'OTHER TAGS THAN THOSE (a defect)'} "
        "of the gated one.",
        "",
        "Three sentences, tagged by the pruned tagger",
        *(f"  {bracketed(sentence)}" for sentence in examples(pruned)),
        "",
        f"The archives are in {out}; every command that ran is in {out / 'commands.sh'}.",
        "Tag a sentence of your own (words between blanks), in the repository's root:",
        """  echo '{"sentence": "Use the yield statement in a generator ."}' > one.jsonl""",
        f"  .venv/bin/allennlp predict {shlex.quote(str(archive(out, 'pruned')))} one.jsonl",
    ]
