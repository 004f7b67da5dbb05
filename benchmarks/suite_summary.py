"""The ratios that the README and docs/speed.md quote, out of the figures of the suite's parts."""

import statistics
from typing import Any, Callable, Dict, Iterator, List, Tuple

# What is compared, with what, and the outcome.
Row = Tuple[str, str, str]


def summary(parts: Dict[str, Any]) -> List[str]:
    """
    A table in Markdown.

    # Parameters

    parts : `Dict[str, Any]`
        The figures of the parts that were run, by name.
    """
    rows = [row for name, rows_of in PARTS.items() if name in parts for row in rows_of(parts[name])]
    return ["| what | against | outcome |", "|---|---|---|", *(f"| {' | '.join(row)} |" for row in rows)]


def tagging(found: Dict[str, Any]) -> Iterator[Row]:
    for row in found.get("predict", []):
        if "speed_up" in row and row["way"] != "straightforward":
            what = f"allennlp predict, start-up apart: {row['tagger']}, {row['way']}, {row['output']}"
            yield what, "straightforward", f"{row['speed_up']:.2f}x"
        if "ours_against_it" in row:
            against = row["ours_against_it"]
            outcome = f"{against['speed']:.2f}x, {100 * against['bytes']:.1f} % of the bytes"
            yield "allennlp predict: vanilla, ours, json", "allennlp-models' crf_tagger", outcome
    for kind, result in found["network"].items():
        speeds = result["words_per_second"]
        for way, speed in speeds.items():
            if way != "straightforward":
                what = f"the network alone: {kind}, {way}"
                yield what, "straightforward", f"{speed / speeds['straightforward']:.2f}x"
                yield what, "the limit in float32", f"{100 * speed / result['limit_words_per_second']:.0f} %"
    if "memory" in found:
        memory = found["memory"]
        what = f"memory of tagging, {memory['lm_words']:,} words"
        yield what, "the weights", f"{memory['tagging_ratio']:.2f}x"
        long_line = f"{what}, a line of {memory['long_line']:,} words"
        yield long_line, "the weights", f"{memory['long_line_ratio']:.2f}x"


def lm_training(found: Dict[str, Any]) -> Iterator[Row]:
    results = {row["way"]: row for row in found["results"] if row["seconds"]}
    for way, row in results.items():
        what = f"a step of a language model, {row['vocabulary']:,} words: {way}"
        yield what, "the limit in float32", f"{100 * statistics.median(row['shares']):.0f} %"
    for way, other in (("sparse", "straightforward"), ("bfloat16", "sparse")):
        if way in results and other in results:
            yield f"the same: {way}", other, f"{_median(results[other]) / _median(results[way]):.2f}x"


def lm_vocabulary(found: Dict[str, Any]) -> Iterator[Row]:
    results = {(row["way"], row["vocabulary"]): row for row in found["results"] if row["seconds"]}
    small, large = found["setting"]["vocabularies"]
    for way, size in results:
        if size == large and (way, small) in results:
            ratio = _median(results[way, large]) / _median(results[way, small])
            yield f"a step with {large:,} words: {way}", f"with {small:,} words", f"{ratio:.2f}x"
        if size == large and way != "dense" and ("dense", large) in results:
            ratio = results[way, large]["megabytes"] / results["dense", large]["megabytes"]
            yield f"its memory: {way}", "dense gradients with Adam", f"{100 * ratio:.0f} %"


def tagger_training(found: Dict[str, Any]) -> Iterator[Row]:
    results = {row["way"]: row for row in found["results"]}
    base = results["straightforward"]
    for way, row in results.items():
        if way != "straightforward":
            yield f"an epoch of a tagger: {way}", "straightforward", f"{_median(base) / _median(row):.2f}x"
        if row.get("first_epochs"):
            both = statistics.median(row["first_epochs"]) + _median(row)
            yield f"its first two epochs: {way}", "straightforward", f"{2 * _median(base) / both:.2f}x"


def crf(found: Dict[str, Any]) -> Iterator[Row]:
    for case, rivals in found["milliseconds"].items():
        ours = rivals["ours"]["median"]
        for rival, times in rivals.items():
            if rival != "ours":
                yield f"CRF: {case}", rival, f"{times['median'] / ours:.1f}x"


def startup(found: Dict[str, Any]) -> Iterator[Row]:
    for name, ratio in found["wall_time"].items():
        yield f"start-up: {name}", "without the package", f"{ratio:.2f}x the time"


PARTS: Dict[str, Callable[[Dict[str, Any]], Iterator[Row]]] = {
    "tagging": tagging,
    "tagging_deep": tagging,
    "lm_training": lm_training,
    "lm_vocabulary": lm_vocabulary,
    "tagger_training": tagger_training,
    "crf": crf,
    "startup": startup,
}


def _median(row: Dict[str, Any]) -> float:
    return statistics.median(row["seconds"])
