"""
Train and score the taggers of docs/results.md, one cell (corpus, row, seed) at a time:

    OMP_NUM_THREADS=1 python benchmarks/results/run.py out/results --vectors vectors.txt.gz --corpora wnut17 \\
        --rows vanilla unpruned layers-2 --seeds 1 2 3

Finished cells are not repeated, and an interrupted training continues. Each finished cell is a line of
`benchmarks/results/results.jsonl`: scores, layers, multiply-adds, sizes, and the commit, config, settings and seed; or
the error message if layer selection missed its budget. `benchmarks/results/speed.py` measures the archives, and
`benchmarks/results/tables.py` makes tables and plots.

Rows: `vanilla`, without language models; `unpruned`, with all of their layers; `layers-N` and `multiply-adds-N`, layer
selection that continues from the unpruned tagger of the same seed, pruning, and a new tagger on the remaining layers,
trained like the unpruned one; `published-N`, the same with the paper's penalty, which may miss the budget;
`clamped-N`, that without the proximal step: gates may leave [0, 1], are clamped after training, and the N largest are
kept; `elmo`, a mixture of the layers of stacked language models (`--elmo-forward`, `--elmo-backward`); `co-training`,
LM-LSTM-CRF.

`--text` names the text of the language models and word vectors: "modern" (the shipped language models, and vectors of
`models/word_vectors.py`), "modern-20M" (language models after 20 million tokens of it, for example) or "eltec". The
corpora are in the folder of the variable LDNET_DATA, by default ../shared/data.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

warnings.filterwarnings("ignore")

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
from allennlp.common import Params  # noqa: E402
from allennlp.common.params import with_overrides  # noqa: E402
from allennlp.models.archival import archive_model  # noqa: E402
from corpora import CORPORA, paths_of  # noqa: E402

import ldnet_allennlp  # noqa: E402, F401
from ldnet_allennlp.commands.ldnet_prune import prune_archive  # noqa: E402
from ldnet_allennlp.commands.report.model_report import report_of  # noqa: E402
from ldnet_allennlp.commands.report.table import kept_layers  # noqa: E402
from ldnet_allennlp.commands.sentences import read_text  # noqa: E402
from ldnet_allennlp.commands.sweep.points import make_point, scores_of, train_once  # noqa: E402
from ldnet_allennlp.commands.sweep.selection_config import Budget, selection_config  # noqa: E402
from ldnet_allennlp.common.archives import read_archive, write_archive  # noqa: E402
from ldnet_allennlp.modules.embedders.ldnet_embedder import LdnetEmbedder  # noqa: E402
from ldnet_allennlp.modules.selection.gated_modules import trained_selections  # noqa: E402
from ldnet_allennlp.training.layer_selection_callback import BudgetMissed  # noqa: E402

DATA = Path(os.environ.get("LDNET_DATA", ROOT.parent / "shared" / "data"))
RESULTS = Path(__file__).resolve().parent / "results.jsonl"
KEY = ("corpus", "text", "row", "seed")

# Chosen on the development data of WNUT-17 with seed 1, and the same for every corpus and row.
SETTINGS: dict[str, Any] = {
    "word_dim": 50,
    "char_hidden": 50,
    "word_hidden": 75,
    "dropout": 0.5,
    "lm_dropout": 0.0,
    "batch_size": 16,
    "num_epochs": 15,
    "patience": None,
    "optimizer": "adam",
    "learning_rate": 0.005,
}
SELECTION = {
    "epochs": 8,
    "optimizer": {"type": "sgd", "lr": 0.015, "momentum": 0.9},
    "lambda_0": 0.1,
    "after_pruning": "new tagger",
}
# Beside the archive of a `clamped-N` row's best epoch, that of its last.
LAST = "last.tar.gz"
CONFIGS = {"vanilla": "ner_vanilla", "unpruned": "ner", "elmo": "ner", "co-training": "lm_lstm_crf"}


def main() -> None:
    """Run the requested cells that are not done."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--corpora", nargs="+", choices=list(CORPORA), default=["wnut17"])
    parser.add_argument("--rows", nargs="+", default=["vanilla", "unpruned", "layers-6", "layers-2"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument(
        "--selection-epochs",
        type=int,
        default=SELECTION["epochs"],
        help="epochs of layer selection (default: 8): more for small corpora",
    )
    parser.add_argument("--text", default="modern")
    parser.add_argument(
        "--vectors", required=True, help="word vectors of 50 dimensions, trained on that text"
    )
    for way in ("forward", "backward"):
        parser.add_argument(f"--lm-{way}", default=str(ROOT / "models" / "english" / f"{way}.tar.gz"))
        parser.add_argument(f"--elmo-{way}", help="an archive")
    args = parser.parse_args()
    SELECTION["epochs"] = args.selection_epochs
    print(f"python {platform.python_version()}, torch {torch.__version__}, {torch.get_num_threads()} threads")
    for corpus in args.corpora:
        for seed in args.seeds:
            for row in args.rows:
                if CORPORA[corpus].english or row in ("vanilla", "co-training"):
                    try:
                        run_cell(args, corpus, row, seed)
                    except BudgetMissed as error:  # the one failure that is a result
                        line = {"corpus": corpus, "text": args.text, "row": row, "seed": seed}
                        add_to_results({**line, **missed(error)})
                        print(corpus, row, seed, error.message, flush=True)


def missed(error: BudgetMissed) -> dict[str, Any]:
    """The results of a cell without a tagger."""
    return {"missed": str(error.message), "settings": {**SETTINGS, **SELECTION}, "commit": commit()}


def run_cell(args: argparse.Namespace, corpus: str, row: str, seed: int) -> None:
    """Train, score and count one tagger, unless done, and add its line to the results."""
    folder = args.out / args.text / corpus / row / str(seed)
    cell = folder / "cell.json"
    if not cell.exists():
        started, before = time.time(), resource.getrusage(resource.RUSAGE_SELF)
        config = cell_config(args, corpus, row, seed)
        if row in CONFIGS:
            archive, scores = train(folder, config)
        else:
            if row.startswith("clamped-"):
                clamp_after_training(folder, config, row.rpartition("-")[2])
            point = make_point(str(folder), config, unpruned_trainer(args, corpus, seed))
            archive, scores = point["archive"], point["scores"]
        used = resource.getrusage(resource.RUSAGE_SELF)
        loaded = read_archive(archive)
        words = [
            word for sentence in read_text(config["test_data_path"], "conll", loaded) for word in sentence
        ]
        characters = sum(map(len, words)) / len(words)
        found = report_of(archive, loaded, [], characters, passes=0)
        line = {
            "corpus": corpus,
            "text": args.text,
            "row": row,
            "seed": seed,
            "scores": scores,
            "layers": {name: kept_layers(stack) for name, stack in found["layers"].items()},
            "multiply_adds": found["multiply_adds"],
            "characters_per_word": characters,
            "parameters": found["parameters"],
            "archive_bytes": found["archive_bytes"],
            "cpu_seconds": round(used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime, 1),
            "seconds": round(time.time() - started, 1),
            "config": CONFIGS.get(row, "ner + layer selection"),
            "settings": {**SETTINGS, **({} if row in CONFIGS else SELECTION)},
            "commit": commit(),
            "torch": torch.__version__,
        }
        cell.write_text(json.dumps({"line": line, "archive": os.path.relpath(archive, args.out / args.text)}))
    line = json.loads(cell.read_text())["line"]
    add_to_results(line)
    print(
        corpus, row, seed, line["scores"], line["layers"], f"{line['multiply_adds'] / 1e6:.3f} M", flush=True
    )


def train(folder: Path, config: dict[str, Any]) -> Any:
    """Train from scratch."""
    archive = train_once(str(folder), config)
    return archive, scores_of(archive, config)


def clamp_after_training(folder: Path, config: dict[str, Any], layers: str) -> None:
    """
    Train without the proximal step, and replace the pruned tagger by that of the last epoch with its gates
    clamped to [0, 1] and only the largest ones kept.
    """
    pruned = folder / "pruned" / "model.tar.gz"
    if pruned.exists():
        return
    train_once(str(folder), config)
    weights = f"model_state_e{SELECTION['epochs']}_b0.th"
    archive_model(str(folder), weights=weights, archive_path=str(folder / LAST))
    archive = read_archive(str(folder / LAST))
    for selection in trained_selections(archive.model).values():
        with torch.no_grad():
            selection.gates.clamp_(0.0, 1.0)
    pruned.parent.mkdir(parents=True, exist_ok=True)
    clamped = str(pruned.parent / "clamped.tar.gz")
    write_archive(clamped, archive.model, archive.config.as_dict(quiet=True))
    prune_archive(clamped, str(pruned), keep=[layers])


def unpruned_trainer(args: argparse.Namespace, corpus: str, seed: int) -> dict[str, Any]:
    """The trainer's section of the tagger with all layers."""
    return dict(cell_config(args, corpus, "unpruned", seed)["trainer"])


def cell_config(args: argparse.Namespace, corpus: str, row: str, seed: int) -> dict[str, Any]:
    """The config of a cell."""
    seeds = {"random_seed": seed, "numpy_seed": seed, "pytorch_seed": seed}
    if row not in CONFIGS:
        return {**select_config(args.out / args.text / corpus / "unpruned" / str(seed), row), **seeds}
    settings = {**SETTINGS, **paths_of(corpus, DATA, args.out / "data")}
    settings["vectors"] = args.vectors if CORPORA[corpus].english else None
    kind = "elmo" if row == "elmo" else "lm"
    if row in ("unpruned", "elmo"):
        settings["lm_forward"] = getattr(args, f"{kind}_forward")
        settings["lm_backward"] = getattr(args, f"{kind}_backward")
    if row == "unpruned":  # trained gates and mixtures cannot be cached
        # The last bits of cached vectors depend on the batches of the training that computed them.
        settings["cache"] = str(args.out / args.text / "cache" / corpus / str(seed))
    overrides: dict[str, Any] = {**seeds, **CORPORA[corpus].overrides}
    if row == "elmo":
        ldnet = "model.text_field_embedder.token_embedders.ldnet"
        overrides.update({f"{ldnet}.{way}.mixture": True for way in ("forward", "backward")})
    params = Params.from_file(
        str(ROOT / "training_config" / f"{CONFIGS[row]}.jsonnet"),
        json.dumps(overrides),
        {"LDNET_SETTINGS": json.dumps(settings)},
    )
    return dict(params.as_dict(quiet=True))


def select_config(unpruned: Path, row: str) -> dict[str, Any]:
    """The config of layer selection that continues from a tagger."""
    kind, _, number = row.rpartition("-")
    if kind not in ("layers", "published", "clamped", "multiply-adds") or not number.isdecimal():
        raise SystemExit(f"There is no row {row}.")
    archive = read_archive(str(unpruned / "model.tar.gz"))
    embedders = [module for module in archive.model.modules() if isinstance(module, LdnetEmbedder)]
    budget = Budget(multiply_adds=float(number)) if kind == "multiply-adds" else Budget(layers=int(number))
    config = selection_config(
        archive.config.as_dict(quiet=True),
        embedders,
        (str(unpruned / "vocabulary"), str(unpruned / "best.th")),
        budget,
        SELECTION["lambda_0"],
        int(SELECTION["epochs"]),
        published_penalty=kind in ("published", "clamped"),
    )
    trainer = config["trainer"]
    if kind == "clamped":
        trainer["optimizer"] = SELECTION["optimizer"]
        # A budget of all layers: the last epoch counts, not the best one within the budget.
        trainer["callbacks"][-1]["max_layers"] = sum(
            len(stack.gates) for embedder in embedders for stack in embedder.gated_stacks()
        )
        return dict(config)
    return dict(with_overrides(config, {"trainer.optimizer.optimizer": SELECTION["optimizer"]}))


def add_to_results(line: dict[str, Any], path: Path = RESULTS, key: Sequence[str] = KEY) -> None:
    """Write a cell's line to a file of results, replacing an older one with the same values of `key`."""
    lines: list[dict[str, Any]] = []
    if path.exists():
        lines = [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()]
    lines = [other for other in lines if any(other[name] != line[name] for name in key)] + [line]
    lines.sort(key=lambda other: [other[name] for name in key])
    beside = path.with_suffix(".new")
    beside.write_text("".join(json.dumps(other) + "\n" for other in lines), encoding="utf-8")
    os.replace(beside, path)


def commit() -> str:
    """The commit of this checkout, with a + if files of the package have been changed since."""

    def git(*command: str) -> str:
        return subprocess.run(
            ["git", *command], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return git("rev-parse", "--short", "HEAD") + (
            "+" if git("status", "--porcelain", "ldnet_allennlp") else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


if __name__ == "__main__":
    main()
