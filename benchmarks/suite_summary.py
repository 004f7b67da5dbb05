"""Summarize the suite: the speed ratios of its parts."""

import statistics
from collections.abc import Callable, Iterator
from typing import Any

# What is compared, with what, and the outcome.
Row = tuple[str, str, str]


def summary(parts: dict[str, Any]) -> list[str]:
    """
    A table in Markdown.

    # Parameters

    parts : `Dict[str, Any]`
        The figures of the parts that were run, by name.
    """
    rows = [row for name, rows_of in PARTS.items() if name in parts for row in rows_of(parts[name])]
    return ["| what | against | outcome |", "|---|---|---|", *(f"| {' | '.join(row)} |" for row in rows)]


def tagging(report: dict[str, Any]) -> Iterator[Row]:
    for row in report["rows"]:
        if row["way"] != "baseline":
            what = f"{row['tagger']}, {row['way']}, threads {row['threads']}"
            yield f"{what}: start-up apart", "baseline", f"{row['faster']['wall']:.2f}x"
            yield f"{what}: with start-up", "baseline", f"{row['faster']['with_start_up']:.2f}x"
            yield (
                f"{what}: peak memory",
                "the model's file",
                f"{row['peak_megabytes'] / row['file_megabytes']:.2f}x",
            )


def lm_training(found: dict[str, Any]) -> Iterator[Row]:
    results = {row["way"]: row for row in found["results"] if row["seconds"]}
    for way, row in results.items():
        what = f"a step of a language model, {row['vocabulary']:,} words: {way}"
        yield what, "the limit in float32", f"{100 * statistics.median(row['shares']):.0f} %"
    for way, other in (("sparse", "baseline"), ("bfloat16", "sparse")):
        if way in results and other in results:
            yield f"the same: {way}", other, f"{_median(results[other]) / _median(results[way]):.2f}x"


def lm_vocabulary(found: dict[str, Any]) -> Iterator[Row]:
    results = {(row["way"], row["vocabulary"]): row for row in found["results"] if row["seconds"]}
    small, large = found["setting"]["vocabularies"]
    for way, size in results:
        if size == large and (way, small) in results:
            ratio = _median(results[way, large]) / _median(results[way, small])
            yield f"a step with {large:,} words: {way}", f"with {small:,} words", f"{ratio:.2f}x"
        if size == large and way != "dense" and ("dense", large) in results:
            ratio = results[way, large]["megabytes"] / results["dense", large]["megabytes"]
            yield f"its memory: {way}", "dense gradients with Adam", f"{100 * ratio:.0f} %"


def tagger_training(found: dict[str, Any]) -> Iterator[Row]:
    results = {row["way"]: row for row in found["results"]}
    base = results["baseline"]
    for way, row in results.items():
        if way != "baseline":
            yield f"an epoch of a tagger: {way}", "baseline", f"{_median(base) / _median(row):.2f}x"
        if row.get("first_epochs"):
            both = statistics.median(row["first_epochs"]) + _median(row)
            yield f"its first two epochs: {way}", "baseline", f"{2 * _median(base) / both:.2f}x"


def crf(found: dict[str, Any]) -> Iterator[Row]:
    for case, rivals in found["milliseconds"].items():
        ours = rivals["ours"]["median"]
        for rival, times in rivals.items():
            if rival != "ours":
                yield f"CRF: {case}", rival, f"{times['median'] / ours:.1f}x"


def startup(found: dict[str, Any]) -> Iterator[Row]:
    for name, ratio in found["wall_time"].items():
        yield f"start-up: {name}", "without the package", f"{ratio:.2f}x the time"


PARTS: dict[str, Callable[[dict[str, Any]], Iterator[Row]]] = {
    "tagging": tagging,
    "lm_training": lm_training,
    "lm_vocabulary": lm_vocabulary,
    "tagger_training": tagger_training,
    "crf": crf,
    "startup": startup,
}


def _median(row: dict[str, Any]) -> float:
    return statistics.median(row["seconds"])
