"""What came out: perplexities, a table of F1, layers, cost, size and speed, and three tagged sentences."""

import json
import shlex
import time
from pathlib import Path
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Tuple

from quickstart.plan import MODELS, archive, evaluation, tagged_file

BATCH_SIZE = 32
ROUNDS = 3


class Row(NamedTuple):
    """One line of the table: a tagger on the test data."""

    model: str
    f1: float
    layers: str
    multiply_adds: float
    size: int
    words_per_second: float


def read_sentences(path: Path) -> List[Tuple[List[str], List[str]]]:
    """The words (first column) and tags (last column) of a CoNLL file's sentences."""
    sentences: List[Tuple[List[str], List[str]]] = [([], [])]
    with open(path, encoding="utf-8") as file:
        for line in file:
            columns = line.split()
            if not columns or columns[0] == "-DOCSTART-":
                sentences.append(([], []))
            else:
                sentences[-1][0].append(columns[0])
                sentences[-1][1].append(columns[-1])
    return [sentence for sentence in sentences if sentence[0]]


def write_examples(source: Path, target: Path, count: int = 3) -> None:
    """Writes the first sentences of a CoNLL file that fit on a line or two and have most labels, as JSON lines."""
    fitting = [
        (words, len({tag for tag in tags if tag != "O"}), len([tag for tag in tags if tag[0] in "BSU"]))
        for words, tags in read_sentences(source)
        if 8 <= len(words) <= 24
    ]
    fitting = fitting or [(words, 0, 0) for words, _ in read_sentences(source)]
    chosen = sorted(fitting, key=lambda found: (-min(found[2], 3), -found[1]))[:count]
    text = "".join(json.dumps({"sentence": " ".join(words)}) + "\n" for words, _, _ in chosen)
    if not target.exists() or target.read_text(encoding="utf-8") != text:
        target.write_text(text, encoding="utf-8")


def measure(out: Path, test: Path) -> Tuple[List[Row], bool]:
    """
    The table's rows, and whether the pruned tagger gives the very tags of the gated one on the whole test data.
    """
    import torch

    torch.set_num_threads(1)
    sentences = [{"tokens": words} for words, _ in read_sentences(test)]
    words = sum(len(sentence["tokens"]) for sentence in sentences)
    characters = sum(len(word) for sentence in sentences for word in sentence["tokens"]) / words
    # Of one length each: what is measured is the network, not the padding.
    sentences.sort(key=lambda sentence: len(sentence["tokens"]))
    rows = []
    tags: Dict[str, List[List[str]]] = {}
    for model in MODELS:
        row, tags[model] = _measure(out, model, sentences, words, characters)
        rows.append(row)
    return rows, tags["pruned"] == tags["ner_select"]


def _measure(
    out: Path, model: str, sentences: List[Dict[str, Any]], words: int, characters: float
) -> Tuple[Row, List[List[str]]]:
    from allennlp.models.archival import load_archive
    from allennlp.predictors import Predictor

    from ldnet_allennlp.modules.embedders.ldnet_embedder import LdnetEmbedder
    from ldnet_allennlp.modules.selection.multiply_adds import multiply_adds

    loaded = load_archive(str(archive(out, model)), cuda_device=-1)
    predictor = Predictor.from_archive(loaded, "ldnet_tagger", extra_args={"confidences": False})
    embedders = [module for module in loaded.model.modules() if isinstance(module, LdnetEmbedder)]
    kept = sum(len(numbers) for embedder in embedders for numbers in embedder.kept_layers().values())
    there = sum(len(numbers) for embedder in embedders for numbers in embedder.all_layers().values())
    layers = f"{kept} of {there}" if kept != there else str(there) if embedders else "-"
    best = float("inf")
    for _ in range(ROUNDS):
        started = time.perf_counter()
        outputs: List[Dict[str, Any]] = []
        for start in range(0, len(sentences), BATCH_SIZE):
            outputs += predictor.predict_batch_json(sentences[start : start + BATCH_SIZE])
        best = min(best, time.perf_counter() - started)
    metrics = evaluation(out) if model == "pruned" else out / model / "metrics.json"
    found = json.loads(metrics.read_text(encoding="utf-8"))
    row = Row(
        model=model,
        f1=found["f1-measure-overall" if model == "pruned" else "test_f1-measure-overall"],
        layers=layers,
        multiply_adds=multiply_adds(loaded.model, characters),
        size=archive(out, model).stat().st_size,
        words_per_second=words / best,
    )
    return row, [output["tags"] for output in outputs]


def perplexities(out: Path) -> List[str]:
    """A line for each language model."""
    lines = []
    for direction in ("forward", "backward"):
        metrics = json.loads((out / f"lm_{direction}" / "metrics.json").read_text(encoding="utf-8"))
        found = [
            f"{metrics[name]:.1f} on {part}"
            for name, part in (("best_validation_perplexity", "validation"), ("test_perplexity", "test"))
            if name in metrics
        ]
        lines.append(f"{direction:>10}: {', '.join(found)}")
    return lines


def table(rows: Iterable[Row]) -> List[str]:
    """The rows as lines of text under a heading."""
    lines = [
        f"{'tagger':<20} {'F1 (test)':>9} {'LM layers':>10} {'multiply-adds':>14} {'archive':>9} {'words/s':>9}",
    ]
    lines.append("-" * len(lines[0]))
    for row in rows:
        cost, size = f"{row.multiply_adds / 1e6:.2f} M", f"{row.size / 2**20:.1f} MiB"
        lines.append(
            f"{MODELS[row.model]:<20} {row.f1:>9.3f} {row.layers:>10} {cost:>14} {size:>9} "
            f"{row.words_per_second:>9,.0f}"
        )
    return lines


def tagged_sentences(out: Path) -> List[str]:
    """The example sentences with their spans in brackets: `the [for CODE] loop`."""
    lines = []
    with open(tagged_file(out), encoding="utf-8") as file:
        for line in file:
            output = json.loads(line)
            words = list(output["words"])
            for span in output["spans"]:
                words[span["start"]] = "[" + words[span["start"]]
                words[span["end"] - 1] += f" {span['type']}]"
            lines.append(" ".join(words))
    return lines


def report(out: Path, test: Path, elapsed: Optional[str] = None) -> List[str]:
    """Everything that the quickstart says at its end."""
    rows, same = measure(out, test)
    pruned = archive(out, "pruned")
    return [
        "",
        "Perplexity of the language models",
        *perplexities(out),
        "",
        *table(rows),
        "  Multiply-adds are per word; words per second on one thread, in batches of 32, text to tags.",
        f"  On all of the test data the pruned tagger gives "
        f"{'the very tags of the gated one.' if same else 'OTHER TAGS THAN THE GATED ONE: this is a defect.'}",
        "",
        "Three sentences, tagged by the pruned tagger",
        *(f"  {line}" for line in tagged_sentences(out)),
        "",
        f"The archives are below {out}; every command that ran is in {out / 'commands.sh'}.",
        "Tag a sentence of your own (words between blanks), from the repository's root:",
        """  echo '{"sentence": "Use the yield statement in a generator ."}' > one.jsonl""",
        f"  .venv/bin/allennlp predict {shlex.quote(str(pruned))} one.jsonl",
        *([f"Done in {elapsed}."] if elapsed else []),
    ]
