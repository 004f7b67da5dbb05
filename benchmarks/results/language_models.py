"""
Trains and scores the language models of the results page: of equal size, on equal text, for equal time.

    python benchmarks/results/language_models.py out/results_lm --seconds 600 --seeds 1

Rows: `ld-rnn`, as training_config/lm_eltec.jsonnet has it, with layer-wise dropout 0.5; `ld-rnn-plain`, the same
without layer-wise dropout; `stacked`, a plain stack of two LSTMs with the same softmax; `allennlp`, allennlp-models'
`LanguageModel` with two LSTMs and its sampled softmax, an instance a sentence. The hidden size of the stacks is chosen
so that the recurrent layers, with the projection after them, have as many parameters as the LD-RNN's. All read forward.

Each is trained with one thread until the process has used so much CPU time, data loading included (CPU time and not
wall time, so that other work on the machine does not matter); the learning rate rises in the first twentieth of the
time and falls to 0 with what is left of it. The text is that of `lm/eltec` and `lm/openstax` together. The streams are
read at 128 places of it side by side, so that all of it takes part however short the time; for the same reason the
sentences of the last row are shuffled. Perplexities are of the whole held-out texts, every token once, the boundary
after each sentence included, with the same vocabulary; the exact softmax is used for all.

A row that is done is not done again. Each is a line of `benchmarks/results/language_models.jsonl`; its archive stays in
the output folder, where `lm_pruning.py` finds it. `tables.py` makes the table. The corpora are looked for in the folder
of the variable LDNET_DATA, by default ../shared/data, or are those of `--train` and `--heldout`.
"""

import argparse
import json
import logging
import math
import os
import platform
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
warnings.filterwarnings("ignore")

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

import numpy  # noqa: E402
import torch  # noqa: E402
from allennlp.common import Params  # noqa: E402
from allennlp.data import Vocabulary  # noqa: E402
from allennlp.data.data_loaders import MultiProcessDataLoader  # noqa: E402
from allennlp.data.samplers import BucketBatchSampler  # noqa: E402
from allennlp.models import Model  # noqa: E402
from allennlp.training.optimizers import Optimizer  # noqa: E402
from run import DATA, add_to_results, commit  # noqa: E402

import ldnet_allennlp  # noqa: E402, F401
from ldnet_allennlp.common.archives import write_archive  # noqa: E402
from ldnet_allennlp.common.lines import expand_paths, numbered_lines  # noqa: E402
from ldnet_allennlp.data.lm_stream.loader import LmStreamLoader  # noqa: E402
from ldnet_allennlp.data.lm_stream.reader import LmStreamReader  # noqa: E402
from ldnet_allennlp.data.lm_stream.shards import read_text  # noqa: E402

RESULTS = Path(__file__).resolve().parent / "language_models.jsonl"
ROWS = ("ld-rnn", "ld-rnn-plain", "stacked", "allennlp")

# Those of training_config/lm_eltec.jsonnet.
EMBEDDING_DIM, HIDDEN_SIZE, NUM_LAYERS, PROJECTION_DIM = 200, 100, 5, 200
CUTOFFS, SAMPLES = [2000, 10000], 1024
BATCH_SIZE, SEQUENCE_LENGTH, HELDOUT_BATCH_SIZE = 128, 20, 8
LEARNING_RATE, WARMUP = 0.003, 0.05
# As many sentences as have the words of the streams' batches.
SENTENCES_PER_BATCH = 112


def lstm_parameters(input_size: int, hidden_size: int) -> int:
    """Of one layer, with both of torch's bias vectors."""
    return 4 * hidden_size * (input_size + hidden_size + 2)


def equal_hidden_size() -> int:
    """The size of two LSTM layers and a projection with the parameters of the LD-RNN and its projection."""
    wanted = sum(
        lstm_parameters(EMBEDDING_DIM + HIDDEN_SIZE * layer, HIDDEN_SIZE) for layer in range(NUM_LAYERS)
    )
    wanted += (EMBEDDING_DIM + HIDDEN_SIZE * NUM_LAYERS) * PROJECTION_DIM

    def given(size: int) -> int:
        return lstm_parameters(EMBEDDING_DIM, size) + lstm_parameters(size, size) + size * PROJECTION_DIM

    return min(range(10, 1000), key=lambda size: abs(given(size) - wanted))


def model_config(row: str) -> dict[str, Any]:
    """The `model` section of a row's config."""
    embedder = {"type": "embedding", "embedding_dim": EMBEDDING_DIM, "sparse": True}
    bound = math.sqrt(3 / EMBEDDING_DIM)
    model: dict[str, Any] = {
        "text_field_embedder": {"token_embedders": {"tokens": embedder}},
        "initializer": {
            "regexes": [["token_embedder_tokens.weight", {"type": "uniform", "a": -bound, "b": bound}]]
        },
    }
    if row == "allennlp":
        size = equal_hidden_size()
        lstm = {"type": "lstm", "input_size": EMBEDDING_DIM, "hidden_size": size, "num_layers": 2}
        projection = {
            "input_dim": size,
            "num_layers": 1,
            "hidden_dims": PROJECTION_DIM,
            "activations": "relu",
        }
        encoders = [lstm, {"type": "feedforward", "feedforward": projection}]
        return {
            **model,
            "type": "language_model",
            "contextualizer": {"type": "compose", "encoders": encoders},
            "num_samples": SAMPLES,
            "sparse_embeddings": True,
        }
    encoder: dict[str, Any] = {"input_size": EMBEDDING_DIM, "dropout": 0.01, "stateful": True}
    if row == "stacked":
        encoder.update(type="stacked_rnn", hidden_size=equal_hidden_size(), num_layers=2)
    else:
        encoder.update(type="ld_rnn", hidden_size=HIDDEN_SIZE, num_layers=NUM_LAYERS)
        encoder["layer_dropout"] = 0.5 if row == "ld-rnn" else 0.0
    return {
        **model,
        "type": "adaptive_language_model",
        "contextualizer": encoder,
        "projection_dim": PROJECTION_DIM,
        "projection_activation": "relu",
        "cutoffs": CUTOFFS,
        "tail_samples": SAMPLES,
        "autocast": "auto",
    }


def main() -> None:
    """Train the requested rows that are not done."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="a folder for the archives")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--seconds", type=float, default=600.0, help="CPU seconds of training for each row")
    parser.add_argument("--min-count", type=int, default=3)
    parser.add_argument(
        "--train",
        nargs="+",
        default=[str(DATA / "lm" / name / "train.txt.gz") for name in ("eltec", "openstax")],
        help="text to train on, one sentence a line",
    )
    parser.add_argument(
        "--heldout",
        nargs="+",
        default=[f"eltec={DATA}/lm/eltec/test.txt", f"openstax={DATA}/lm/openstax/test.txt.gz"],
        help="texts to report perplexities of, as NAME=FILE",
    )
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    vocab: Vocabulary | None = None
    for seed in args.seeds:
        for row in args.rows:
            cell = args.out / row / str(seed) / "cell.json"
            if not cell.exists():
                vocab = vocab or vocabulary(args.train, args.min_count)
                cell.parent.mkdir(parents=True, exist_ok=True)
                line = run_row(args, row, seed, vocab, cell.parent)
                cell.write_text(json.dumps(line), encoding="utf-8")
            line = json.loads(cell.read_text(encoding="utf-8"))
            add_to_results(line, RESULTS, ("row", "seed"))
            print(row, seed, line["perplexities"], f"{line['words_per_cpu_second']:,} words/s", flush=True)


def vocabulary(paths: list[str], min_count: int) -> Vocabulary:
    """The words of the text that are frequent enough."""
    counts = read_text(LmStreamReader().corpus(paths)).token_counts()
    return Vocabulary(counter={"tokens": counts}, min_count={"tokens": min_count})


def run_row(args: argparse.Namespace, row: str, seed: int, vocab: Vocabulary, folder: Path) -> dict[str, Any]:
    """Train a language model, write its archive and return its result line."""
    torch.manual_seed(seed)
    numpy.random.seed(seed)
    config = model_config(row)
    model = Model.from_params(Params(json.loads(json.dumps(config))), vocab=vocab)
    text = args.train if row != "allennlp" else str(shuffled(args.train, args.out / "shuffled.txt"))
    started = time.time()
    steps, tokens = train(model, training_batches(row, text, vocab), args.seconds)
    seconds = time.time() - started
    # What the archive says it was trained on is what `allennlp evaluate` needs.
    section = {"dataset_reader": {"type": "lm_stream"}, "model": config, "train_data_path": args.train}
    if row != "allennlp":
        section["data_loader"] = {
            "type": "lm_stream",
            "batch_size": HELDOUT_BATCH_SIZE,
            "sequence_length": SEQUENCE_LENGTH,
        }
    write_archive(str(folder / "model.tar.gz"), model, section)
    heldout = dict(text.split("=", 1) for text in args.heldout)
    return {
        "row": row,
        "seed": seed,
        "perplexities": {
            name: round(perplexity(model, heldout_batches(row, path, vocab)), 3)
            for name, path in heldout.items()
        },
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "recurrent_and_projection_parameters": recurrent_parameters(model),
        "vocabulary": vocab.get_vocab_size(),
        "steps": steps,
        "words": tokens,
        "words_per_cpu_second": round(tokens / args.seconds),
        "cpu_seconds": args.seconds,
        "seconds": round(seconds, 1),
        "threads": torch.get_num_threads(),
        "settings": {
            "learning_rate": LEARNING_RATE,
            "warmup": WARMUP,
            "min_count": args.min_count,
            "batch": [SENTENCES_PER_BATCH] if row == "allennlp" else [BATCH_SIZE, SEQUENCE_LENGTH],
            "model": config,
        },
        "commit": commit(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def recurrent_parameters(model: Model) -> int:
    """Those of the recurrent layers and the projection after them."""
    parts = [model._contextualizer, getattr(model, "_projection", None)]
    return sum(parameter.numel() for part in parts if part is not None for parameter in part.parameters())


def shuffled(paths: list[str], written: Path) -> Path:
    """A file with the sentences of these texts in a random order, the same each time."""
    if not written.exists():
        lines = [line for path in expand_paths(paths) for _, line in numbered_lines(path) if line.strip()]
        beside = written.with_suffix(".new")
        with open(beside, "wb") as file:
            for number in numpy.random.RandomState(13).permutation(len(lines)):
                file.write(lines[number].rstrip(b"\n") + b"\n")
        os.replace(beside, written)
    return written


def training_batches(row: str, text: Any, vocab: Vocabulary) -> Any:
    """What a row is trained with: windows of a stream, or sentences of similar length."""
    if row != "allennlp":
        return indexed(LmStreamLoader(LmStreamReader(), text, BATCH_SIZE, SEQUENCE_LENGTH), vocab)
    # Sorted by length within what memory holds.
    sampler = BucketBatchSampler(SENTENCES_PER_BATCH, sorting_keys=["source"])
    return indexed(
        MultiProcessDataLoader(
            LmStreamReader(), text, batch_sampler=sampler, max_instances_in_memory=20_000, quiet=True
        ),
        vocab,
    )


def heldout_batches(row: str, path: str, vocab: Vocabulary) -> Any:
    """What a row is scored on."""
    if row != "allennlp":
        return indexed(LmStreamLoader(LmStreamReader(), path, HELDOUT_BATCH_SIZE, SEQUENCE_LENGTH), vocab)
    return indexed(MultiProcessDataLoader(LmStreamReader(), path, batch_size=4, quiet=True), vocab)


def indexed(loader: Any, vocab: Vocabulary) -> Any:
    """A data loader that is ready. (A stream's ids are made here.)"""
    loader.index_with(vocab)
    return loader


def endless(batches: Callable[[], Iterator[Any]]) -> Iterator[Any]:
    """One pass after the other."""
    while True:
        yield from batches()


def train(model: Model, batches: Any, seconds: float) -> tuple[int, int]:
    """Train for this CPU time; returns the steps and the words, boundaries of sentences included."""
    is_ours = hasattr(model, "token_log_probs")
    kind = {"type": "lazy_adam", "grad_norm": 5.0} if is_ours else {"type": "dense_sparse_adam"}
    optimizer = Optimizer.from_params(
        Params({**kind, "lr": LEARNING_RATE}), model_parameters=list(model.named_parameters())
    )
    model.train()
    started, steps, tokens = time.process_time(), 0, 0
    for batch in endless(lambda: iter(batches)):
        used = (time.process_time() - started) / seconds
        if used >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * min(max(used, 0.01 * WARMUP) / WARMUP, 1 - used)
        optimizer.zero_grad()
        outputs = model(**batch)
        outputs["loss"].backward()
        optimizer.step()
        steps += 1
        tokens += int(outputs["batch_weight"])
    return steps, tokens


@torch.no_grad()
def perplexity(model: Model, batches: Any) -> float:
    """Of every token of the batches."""
    model.eval()
    total, count = 0.0, 0.0
    for batch in batches:
        outputs = model(**batch)
        weight = float(outputs["batch_weight"])
        total += float(outputs["loss"]) * weight
        count += weight
    return math.exp(total / count)


if __name__ == "__main__":
    main()
