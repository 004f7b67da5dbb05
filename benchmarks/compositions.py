"""
Train the configs in training_config/compose/ on their corpora, and print the scores of their headers:

    OMP_NUM_THREADS=1 python benchmarks/compositions.py --out out/compositions
    OMP_NUM_THREADS=1 python benchmarks/compositions.py --out out/compositions pos_char_lstm seq2seq

The corpora are read from the folder in the variable LDNET_DATA, by default ../shared/data. Runs with language models
use those of `--lm-forward` and `--lm-backward`. The transformer is a random one, see `random_transformer`. The CPU time
covers loading the data, training, validation and test on one thread.
"""

import argparse
import json
import logging
import os
import platform
import resource
import shutil
import sys
import warnings
from pathlib import Path
from typing import Any, NamedTuple

warnings.filterwarnings("ignore")

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import allennlp_models.generation  # noqa: E402
import allennlp_models.structured_prediction  # noqa: E402, F401
import torch  # noqa: E402
from allennlp.commands.train import train_model  # noqa: E402
from allennlp.common import Params  # noqa: E402
from allennlp.predictors import Predictor  # noqa: E402
from composition_data import SPLITS, write_data  # noqa: E402

import ldnet_allennlp  # noqa: E402, F401

DATA = Path(os.environ.get("LDNET_DATA", ROOT.parent / "shared" / "data"))
SIZES = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}


class Run(NamedTuple):
    """`scores` are the names of metrics without "test_" or "best_validation_". `folder` is what the paths are in."""

    config: str
    folder: str
    files: tuple[str, ...]
    settings: dict[str, Any]
    scores: tuple[str, ...]


WNUT = ("wnut17train.conll", "emerging.dev.conll", "emerging.test.annotated")
EWT = tuple(f"en_ewt-ud-{split}.conllu.gz" for split in SPLITS)
SPANS = ("f1-measure-overall",)
MADE = "made"  # by composition_data.py
RUNS = {
    "pos_char_lstm": Run(
        "pos_char_lstm", "pos/ud_english_ewt", EWT, {"learning_rate": 0.003, "num_epochs": 5}, ("accuracy",)
    ),
    "bilstm_crf": Run("bilstm_crf", "ner/wnut17", WNUT, {"learning_rate": 0.003, "num_epochs": 10}, SPANS),
    "bilstm_crf_perceptron": Run(
        "bilstm_crf",
        "ner/wnut17",
        WNUT,
        {"learning_rate": 0.003, "num_epochs": 10, "loss": "structured_perceptron"},
        SPANS,
    ),
    "seq2seq": Run(
        "seq2seq",
        MADE,
        tuple(f"lemmas.{split}.tsv" for split in SPLITS),
        {"learning_rate": 0.003, "num_epochs": 6},
        ("loss",),
    ),
    "classifier": Run(
        "classifier",
        MADE,
        tuple(f"genres.{split}.jsonl" for split in SPLITS),
        {"num_epochs": 5},
        ("accuracy",),
    ),
    "classifier_pass_through": Run(
        "classifier",
        MADE,
        tuple(f"genres.{split}.jsonl" for split in SPLITS),
        {"num_epochs": 5, "encoder": "pass_through"},
        ("accuracy",),
    ),
    "biaffine_parser": Run(
        "biaffine_parser",
        MADE,
        tuple(f"{split}.conllu" for split in SPLITS),
        {"learning_rate": 0.002, "num_epochs": 2},
        ("UAS", "LAS"),
    ),
    "transformer": Run(
        "transformer",
        "ner/wnut17",
        WNUT,
        {
            "transformer_dim": SIZES["hidden_size"],
            "max_length": 128,
            "transformer_learning_rate": 0.0005,
            "learning_rate": 0.003,
            "num_epochs": 4,
        },
        SPANS,
    ),
    "crf_tagger": Run(
        "crf_tagger", "ner/wnut17", WNUT, {"learning_rate": 0.003, "num_epochs": 4, "batch_size": 10}, SPANS
    ),
    "upstream_reader": Run(
        "upstream_reader",
        "ner/sec_filings",
        ("FIN5.txt", "", "FIN3.txt"),
        {"learning_rate": 0.003, "num_epochs": 10},
        SPANS,
    ),
}


def random_transformer(words: list[str], folder: Path, seed: int = 13) -> None:
    """
    Write a BERT of `SIZES` with random weights and at most 4,000 word pieces learnt from `words`: it has seen no text,
    so that a run with it shows that the parts fit, and not what a transformer can do.
    """
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder.mkdir(parents=True)
    pieces = BertWordPieceTokenizer(lowercase=False)
    pieces.train_from_iterator(words, vocab_size=4000, show_progress=False)
    pieces.save_model(str(folder))
    tokenizer = BertTokenizerFast(vocab_file=str(folder / "vocab.txt"), do_lower_case=False)
    tokenizer.save_pretrained(str(folder))
    torch.manual_seed(seed)
    BertModel(BertConfig(vocab_size=len(tokenizer), max_position_embeddings=128, **SIZES)).save_pretrained(
        str(folder)
    )


def settings_of(run: Run, args: argparse.Namespace) -> dict[str, Any]:
    """The run's settings with its paths."""
    made = args.out / "data"
    if run.folder == MADE and not made.exists():
        corpus = DATA / "pos" / "ud_english_ewt"
        write_data({split: str(corpus / name) for split, name in zip(SPLITS, EWT)}, made)
    folder = made if run.folder == MADE else DATA / run.folder
    settings = {split: str(folder / name) if name else None for split, name in zip(SPLITS, run.files)}
    settings.update(run.settings)
    if run.config in ("transformer", "crf_tagger"):
        settings.update(lm_forward=args.lm_forward, lm_backward=args.lm_backward)
    if run.config == "transformer":
        transformer = args.out / "random_transformer"
        if not transformer.exists():
            lines = (DATA / "ner" / "wnut17" / WNUT[0]).read_text(encoding="utf-8").splitlines()
            random_transformer([line.split("\t")[0] for line in lines if line.strip()], transformer)
        settings["transformer"] = str(transformer)
    return settings


def train(name: str, run: Run, args: argparse.Namespace) -> dict[str, float]:
    """Train, and return the scores, the epoch they are of, counted from 0, CPU time and memory."""
    os.environ["LDNET_SETTINGS"] = json.dumps(settings_of(run, args))
    params = Params.from_file(str(ROOT / "training_config" / "compose" / f"{run.config}.jsonnet"))
    folder = args.out / name
    shutil.rmtree(folder, ignore_errors=True)
    before = resource.getrusage(resource.RUSAGE_SELF)
    train_model(params, str(folder))
    after = resource.getrusage(resource.RUSAGE_SELF)
    metrics = json.loads((folder / "metrics.json").read_text())
    minutes = (after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime) / 60
    found = {
        "cpu_minutes": minutes,
        "memory_gib": metrics["peak_worker_0_memory_MB"] / 1024,
        "epoch": metrics.get("best_epoch", metrics["epoch"]),
    }
    for score in run.scores:
        for split in ("best_validation_", "test_"):
            if f"{split}{score}" in metrics:
                found[f"{split}{score}"] = metrics[f"{split}{score}"]
    if run.config == "seq2seq":
        found.update(exact_match(folder / "model.tar.gz", args.out / "data" / run.files[2]))
    return found


def exact_match(archive: Path, path: Path) -> dict[str, float]:
    """The share of a file's lines whose best prediction is the target, and of those whose word is its own lemma."""
    predictor = Predictor.from_path(str(archive))
    lines = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]
    correct = 0
    for start in range(0, len(lines), 64):
        batch = lines[start : start + 64]
        outputs = predictor.predict_batch_json([{"source": source} for source, _ in batch])
        correct += sum(
            output["predicted_tokens"] == target.split() for output, (_, target) in zip(outputs, batch)
        )
    copied = sum(source.split()[1:] == target.split() for source, target in lines)
    return {"test_exact_match": correct / len(lines), "test_copied": copied / len(lines)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help=f"which runs, by default all: {', '.join(RUNS)}")
    parser.add_argument("--out", type=Path, default=Path("out/compositions"))
    parser.add_argument("--lm-forward", default="out/lm_forward/model.tar.gz")
    parser.add_argument("--lm-backward", default="out/lm_backward/model.tar.gz")
    args = parser.parse_args()
    unknown = sorted(set(args.names) - set(RUNS))
    if unknown:
        sys.exit(f"compositions.py: found {', '.join(unknown)}, expected names among {', '.join(RUNS)}.")
    logging.getLogger("allennlp").setLevel(logging.WARNING)
    torch.set_num_threads(1)
    print(
        f"torch {torch.__version__}, Python {platform.python_version()}, {platform.machine()}, 1 thread, seed 13370"
    )
    for name in args.names or RUNS:
        found = train(name, RUNS[name], args)
        shown = ", ".join(f"{key} {value:.4g}" for key, value in found.items())
        print(f"{name} {json.dumps(RUNS[name].settings)}: {shown}", flush=True)


if __name__ == "__main__":
    main()
