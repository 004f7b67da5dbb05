"""
Whether `autocast: "bfloat16"` trains a language model as float32 does: loss curves over the same text.

    python benchmarks/lm_precision.py eltec/train.txt.gz --json lm_precision.json     # about 8 minutes on one core

Each run has 300 steps of the sizes of training_config/lm_eltec.jsonnet (a smaller batch), dropout and layer-wise
dropout included. The runs in float32 differ in their seed: how far these curves are from each other is the noise that
the difference of the precisions is held against. The runs in bfloat16 have the same seeds, so the same initial weights,
the same batches and the same dropout. Losses are means over 25 steps, in nats a token.
"""

import argparse
import json
import math
import os
import platform
import statistics
import sys
import time
import warnings
from pathlib import Path
from typing import Any, Dict, List

os.environ.setdefault("OMP_NUM_THREADS", "1")
warnings.filterwarnings("ignore")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch  # noqa: E402
from allennlp.common import Params  # noqa: E402
from allennlp.data import Vocabulary  # noqa: E402
from allennlp.models import Model  # noqa: E402
from allennlp.training.optimizers import Optimizer  # noqa: E402

import ldnet_allennlp  # noqa: E402, F401
from ldnet_allennlp.data.lm_stream.loader import LmStreamLoader  # noqa: E402
from ldnet_allennlp.data.lm_stream.reader import LmStreamReader  # noqa: E402

WINDOW = 25
PRECISIONS = ("float32", "bfloat16")


def config(precision: str, arguments: argparse.Namespace) -> Dict[str, Any]:
    bound = math.sqrt(3 / arguments.embedding)
    return {
        "type": "adaptive_language_model",
        "text_field_embedder": {
            "token_embedders": {
                "tokens": {"type": "embedding", "embedding_dim": arguments.embedding, "sparse": True}
            }
        },
        "contextualizer": {
            "type": "ld_rnn",
            "input_size": arguments.embedding,
            "hidden_size": arguments.hidden,
            "num_layers": arguments.layers,
            "dropout": 0.01,
            "layer_dropout": 0.5,
            "stateful": True,
        },
        "projection_dim": arguments.projection,
        "projection_activation": "relu",
        "cutoffs": [2000, 10000],
        "autocast": None if precision == "float32" else precision,
        "initializer": {
            "regexes": [["token_embedder_tokens.weight", {"type": "uniform", "a": -bound, "b": bound}]]
        },
    }


def train(
    precision: str, seed: int, vocab: Vocabulary, loader: LmStreamLoader, arguments: argparse.Namespace
) -> Dict[str, Any]:
    torch.manual_seed(seed)
    model = Model.from_params(Params(config(precision, arguments)), vocab=vocab).train()
    optimizer = Optimizer.from_params(
        Params({"type": "lazy_adam", "lr": 0.003, "grad_norm": 5.0}),
        model_parameters=list(model.named_parameters()),
    )
    losses: List[float] = []
    started = time.process_time()
    for batch in loader:
        for parameter in model.parameters():
            parameter.grad = None
        loss = model(**batch)["loss"]
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    means = [statistics.mean(losses[first : first + WINDOW]) for first in range(0, len(losses), WINDOW)]
    return {
        "precision": precision,
        "seed": seed,
        "losses": losses,
        "means": means,
        "seconds": time.process_time() - started,
    }


def report(runs: List[Dict[str, Any]], arguments: argparse.Namespace) -> None:
    by_precision = {name: [run["means"] for run in runs if run["precision"] == name] for name in PRECISIONS}
    print(f"{'step':>5}{'float32':>10}{'bfloat16':>10}{'difference':>12}{'between seeds':>15}")
    for number in range(len(runs[0]["means"])):
        exact, rounded = ([means[number] for means in by_precision[name]] for name in PRECISIONS)
        differences = [other - one for one, other in zip(exact, rounded)]
        spread = statistics.stdev(exact) if len(exact) > 1 else math.nan
        print(
            f"{min((number + 1) * WINDOW, arguments.steps):>5}{statistics.mean(exact):>10.4f}"
            f"{statistics.mean(rounded):>10.4f}{statistics.mean(differences):>+12.4f}{spread:>15.4f}"
        )
    seconds = {
        name: statistics.median(run["seconds"] for run in runs if run["precision"] == name)
        for name in PRECISIONS
    }
    print(
        f"CPU time of a run: {seconds['float32']:.0f} s in float32, {seconds['bfloat16']:.0f} s in bfloat16"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("text", help="one sentence a line, plain or gzip")
    parser.add_argument("--layers", type=int, default=5)
    parser.add_argument("--hidden", type=int, default=100)
    parser.add_argument("--embedding", type=int, default=200)
    parser.add_argument("--projection", type=int, default=200)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--min-count", type=int, default=3)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--json", help="a file for the results")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    loader = LmStreamLoader(
        LmStreamReader(),
        arguments.text,
        batch_size=arguments.batch_size,
        sequence_length=20,
        max_batches=arguments.steps,
    )
    vocab = Vocabulary.from_instances(loader.iter_instances(), min_count={"tokens": arguments.min_count})
    loader.index_with(vocab)
    setting = {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "processor": platform.processor() or platform.machine(),
        "threads": 1,
        "vocabulary": vocab.get_vocab_size("tokens"),
        **{name: value for name, value in vars(arguments).items() if name != "json"},
    }
    print(json.dumps(setting))
    runs = [
        train(precision, seed, vocab, loader, arguments)
        for seed in arguments.seeds
        for precision in PRECISIONS
    ]
    report(runs, arguments)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps({"setting": setting, "runs": runs}, indent=1) + "\n")


if __name__ == "__main__":
    main()
