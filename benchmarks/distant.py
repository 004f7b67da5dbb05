"""
Train and score the taggers of docs/distant.md, one cell (row, language models, seed) at a time:

    OMP_NUM_THREADS=1 python benchmarks/distant.py out/distant --rows dictionary fuzzy_crf autoner --lm none --seeds 1
    OMP_NUM_THREADS=1 python benchmarks/distant.py out/distant --rows autoner --lm english --seeds 1 2 3
    python benchmarks/distant.py --table

Finished cells are not repeated, and an interrupted training continues. Each finished cell is a line of
`benchmarks/results/distant.jsonl`: precision, recall and F1 on the gold dev and test sentences, and the commit,
settings, seed and versions.

Rows: `dictionary`, the typed matches of `ldnet-annotate`; `fuzzy_crf` and `autoner`, trained on the labels of
`ldnet-annotate`; `supervised`, ner_vanilla.jsonnet or ner.jsonnet on the annotated sentences of BC5CDR, which split
words differently than AutoNER's files, so its dev and test sentences, of the same articles, are those of this corpus.
Language models: `none`; `own`, pre-trained on the raw text by this script; `english`, those of `models/english`.
The data are in the folder of the variable LDNET_DATA, by default ../shared/data.
"""

import argparse
import json
import platform
import resource
import statistics
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

warnings.filterwarnings("ignore")

ROOT = Path(__file__).resolve().parent.parent
ENGLISH = tuple(str(ROOT / "models" / "english" / f"{way}.tar.gz") for way in ("forward", "backward"))
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks" / "results")]

import torch  # noqa: E402
from allennlp.commands.evaluate import evaluate_from_archive  # noqa: E402
from allennlp.common import Params  # noqa: E402
from run import DATA, add_to_results, commit  # noqa: E402

import ldnet_allennlp  # noqa: E402, F401
from ldnet_allennlp.commands.annotate.dictionary import (  # noqa: E402
    DictionaryMatcher,
    read_dictionary,
    read_phrases,
)
from ldnet_allennlp.commands.annotate.formats import read_ck  # noqa: E402
from ldnet_allennlp.commands.ldnet_annotate import annotate  # noqa: E402
from ldnet_allennlp.commands.sweep.points import train_once  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "distant.jsonl"
DISTANT, SUPERVISED = DATA / "distant" / "bc5cdr", DATA / "ner" / "bc5cdr"
DICTIONARY, PHRASES = DISTANT / "dict_core.txt.gz", DISTANT / "dict_full.txt.gz"

ROWS = {
    "dictionary": "dictionary match",
    "fuzzy_crf": "fuzzy CRF",
    "autoner": "tie or break",
    "supervised": "supervised",
}
LANGUAGE_MODELS = {"none": "none", "own": "the raw text's", "english": "English"}
# Precision, recall and F1 on test (Shang et al. 2018), with biomedical word vectors of 200 dimensions.
PUBLISHED = {
    "dictionary": (93.93, 58.35, 71.98),
    "fuzzy_crf": (88.27, 76.75, 82.11),
    "autoner": (88.96, 81.00, 84.80),
    "supervised": (88.84, 85.16, 86.96),
}
# Beside these, the rows with distant labels have the defaults of distant.libsonnet.
SETTINGS: dict[str, Any] = {"vectors": str(DATA / "vectors" / "eltec_openstax.50d.txt.gz"), "word_dim": 50}
SUPERVISED_SETTINGS: dict[str, Any] = {
    "char_hidden": 50,
    "word_hidden": 75,
    "batch_size": 16,
    "optimizer": "adam",
    "learning_rate": 0.005,
    "num_epochs": 12,
}
LM_SETTINGS: dict[str, Any] = {
    "num_layers": 4,
    "embedding_dim": 100,
    "hidden_size": 100,
    "projection_dim": 200,
    "cutoffs": [2000, 10000],
    "min_count": 2,
    "batch_size": 32,
    "learning_rate": 0.003,
    "num_epochs": 6,
}


def main() -> None:
    """Run the requested cells that are not done, or print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, nargs="?", default=Path("out/distant"))
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--lm", nargs="+", choices=list(LANGUAGE_MODELS), default=["none"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--vectors", default=SETTINGS["vectors"], help="word vectors (default: %(default)s)")
    parser.add_argument("--word-dim", type=int, default=SETTINGS["word_dim"], help="their dimension")
    parser.add_argument("--sentences", type=int, help="train on the first ones only; nothing is recorded")
    parser.add_argument("--table", action="store_true", help="print the table of the recorded cells")
    args = parser.parse_args()
    if args.table:
        print("\n".join(table()))
        return
    SETTINGS.update(vectors=args.vectors, word_dim=args.word_dim)
    for seed in args.seeds:
        for row in args.rows:
            for lm in args.lm:
                if row != "dictionary":
                    run_cell(args, row, lm, seed)
                elif (lm, seed) == (args.lm[0], args.seeds[0]):
                    run_cell(args, row, "none", 0)


def run_cell(args: argparse.Namespace, row: str, lm: str, seed: int) -> None:
    """Train and score one tagger, unless done, and add its line to the results."""
    folder = args.out / ("" if args.sentences is None else f"first_{args.sentences}") / row / lm / str(seed)
    cell = folder / "cell.json"
    if not cell.exists():
        started, before = time.time(), resource.getrusage(resource.RUSAGE_SELF)
        if row == "dictionary":
            scores = {split: dictionary_scores(split) for split in ("dev", "test")}
            folder.mkdir(parents=True, exist_ok=True)
        else:
            config = cell_config(args, row, lm, seed)
            archive = train_once(str(folder), config)
            paths = {"dev": config["validation_data_path"], "test": config["test_data_path"]}
            scores = {split: tagger_scores(archive, path) for split, path in paths.items()}
        used = resource.getrusage(resource.RUSAGE_SELF)
        line = {
            "row": row,
            "lm": lm,
            "seed": seed,
            "scores": scores,
            "settings": shown_settings(row, lm),
            "cpu_seconds": round(used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime, 1),
            "seconds": round(time.time() - started, 1),
            "commit": commit(),
            "torch": torch.__version__,
            "python": platform.python_version(),
        }
        cell.write_text(json.dumps(line), encoding="utf-8")
    line = json.loads(cell.read_text(encoding="utf-8"))
    if args.sentences is None:
        add_to_results(line, RESULTS, ("row", "lm", "seed"))
    print(row, lm, seed, json.dumps(line["scores"]), flush=True)


def settings_of(row: str) -> dict[str, Any]:
    """The settings of a tagger that are not its config's defaults."""
    return {**SETTINGS, **(SUPERVISED_SETTINGS if row == "supervised" else {})}


def shown_settings(row: str, lm: str) -> dict[str, Any]:
    """The settings of a cell, with the vectors by their name."""
    if row == "dictionary":
        return {}
    settings = {**settings_of(row), "vectors": Path(SETTINGS["vectors"]).name}
    return {**settings, "language_models": LM_SETTINGS} if lm == "own" else settings


def cell_config(args: argparse.Namespace, row: str, lm: str, seed: int) -> dict[str, Any]:
    """The config of a tagger."""
    settings = {**settings_of(row), **paths_of(args, row)}
    if lm != "none":
        forward, backward = own_language_models(args) if lm == "own" else ENGLISH
        settings.update(lm_forward=forward, lm_backward=backward, cache=str(args.out / "cache"))
    name = row if row != "supervised" else "ner_vanilla" if lm == "none" else "ner"
    seeds = {"random_seed": seed, "numpy_seed": seed, "pytorch_seed": seed}
    return config_of(name, settings, seeds)


def config_of(name: str, settings: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """A config of training_config/."""
    path = ROOT / "training_config" / f"{name}.jsonnet"
    params = Params.from_file(str(path), json.dumps(overrides), {"LDNET_SETTINGS": json.dumps(settings)})
    return dict(params.as_dict(quiet=True))


def paths_of(args: argparse.Namespace, row: str) -> dict[str, str]:
    """The data of a row. Distant labels and gold sentences are written to the folder `data` first."""
    if row == "supervised":
        names = {"train": "train", "dev": "valid", "test": "test"}
        return {split: str(SUPERVISED / f"{name}.conll.gz") for split, name in names.items()}
    folder = args.out / "data"
    folder.mkdir(parents=True, exist_ok=True)
    paths = {name: folder / f"{name}.conll" for name in ("train", "dev", "test")}
    if not paths["train"].exists():
        raw, options = (
            str(DISTANT / "raw_text.txt.gz"),
            {"dictionary": str(DICTIONARY), "phrases": str(PHRASES)},
        )
        print(annotate(raw, str(paths["train"]), **options, kind="tokens"))
    for split in ("dev", "test"):
        if not paths[split].exists():
            annotate(str(DISTANT / f"truth_{split}.ck.gz"), str(paths[split]), kind="ck")
    if args.sentences is not None:
        part = folder / f"train_{args.sentences}.conll"
        blocks = paths["train"].read_text(encoding="utf-8").split("\n\n")[: args.sentences]
        part.write_text("\n\n".join(blocks) + "\n\n", encoding="utf-8")
        paths["train"] = part
    return {name: str(path) for name, path in paths.items()}


def own_language_models(args: argparse.Namespace) -> tuple[str, str]:
    """Forward and backward language models of the raw text, without its last twentieth, which validates them."""
    paths_of(args, "autoner")  # writes the raw text with distant labels
    folder = args.out / "language_models"
    folder.mkdir(parents=True, exist_ok=True)
    blocks = (args.out / "data" / "train.conll").read_text(encoding="utf-8").strip().split("\n\n")
    lines = [" ".join(row.split("\t")[0] for row in block.split("\n")) + "\n" for block in blocks]
    end = len(lines) - len(lines) // 20
    parts = {"train": lines[:end], "valid": lines[end:]}
    for name, part in parts.items():
        (folder / f"{name}.txt").write_text("".join(part), encoding="utf-8")
    settings = {**LM_SETTINGS, **{name: str(folder / f"{name}.txt") for name in parts}}
    archives = [
        train_once(str(folder / name), config_of(f"lm_{name}", settings, {}))
        for name in ("forward", "backward")
    ]
    return archives[0], archives[1]


def tagger_scores(archive: str, path: str) -> list[float]:
    """Precision, recall and F1 in percent."""
    metrics = evaluate_from_archive(archive, path)
    return [100 * metrics[f"{name}-overall"] for name in ("precision", "recall", "f1-measure")]


def dictionary_scores(split: str) -> list[float]:
    """Precision, recall and F1 in percent of the matches with one type, as `annotate` labels them."""
    matcher = DictionaryMatcher(read_dictionary(str(DICTIONARY)) + read_phrases(str(PHRASES)))
    counts = [0, 0, 0]  # correct, predicted, gold
    for words, gold in read_ck(str(DISTANT / f"truth_{split}.ck.gz")):
        matches = {
            (*m.entry.types, m.start, m.end) for m in matcher.matches(words) if len(m.entry.types) == 1
        }
        of_one = len(matches & set(gold)), len(matches), len(gold)
        counts = [one + other for one, other in zip(counts, of_one)]
    correct, predicted, total = counts
    return [100 * correct / predicted, 100 * correct / total, 200 * correct / (predicted + total)]


def table() -> Iterator[str]:
    """Lines of Markdown: means on test, and the standard deviation of F1 over seeds."""
    lines = [json.loads(line) for line in RESULTS.read_text(encoding="utf-8").splitlines()]
    yield "| tagger | language models | precision | recall | F1 | F1 on dev | seeds | published |"
    yield "|---|---|---|---|---|---|---|---|"
    for row, name in ROWS.items():
        for lm, of_lm in LANGUAGE_MODELS.items():
            cells = [line["scores"] for line in lines if (line["row"], line["lm"]) == (row, lm)]
            if cells:
                precision, recall, f1 = zip(*(scores["test"] for scores in cells))
                dev = statistics.mean(scores["dev"][2] for scores in cells)
                spread = f" ± {statistics.stdev(f1):.1f}" if len(f1) > 1 else ""
                published = " / ".join(f"{value:.2f}" for value in PUBLISHED[row]) if lm == "none" else ""
                yield (
                    f"| {name} | {'' if row == 'dictionary' else of_lm} | {statistics.mean(precision):.1f} "
                    f"| {statistics.mean(recall):.1f} | {statistics.mean(f1):.1f}{spread} | {dev:.1f} "
                    f"| {'' if row == 'dictionary' else len(f1)} | {published} |"
                )


if __name__ == "__main__":
    main()
