"""
What a training step of a language model costs, in time and memory, with vocabularies of three sizes.

    python benchmarks/lm_training.py --json lm_training.json

The ways, all with the same LD-RNN:

sparse           adaptive softmax; sparse gradients of the word vectors, lazy_adam
sparse, drawn    the same, and 1,024 words drawn for each tail cluster (tail_samples), row_moments
dense            adaptive softmax; dense gradients, torch's Adam, the trainer's clipping: the straightforward way
AllenNLP sampled allennlp-models' LanguageModel, sampled softmax of 1,024 words, dense_sparse_adam
AllenNLP full    allennlp-models' LanguageModel, softmax over the whole vocabulary, Adam

Each way and vocabulary runs in a process of its own, in an order drawn anew each round. The batches are random words
with Zipf's frequencies, 128 x 20. Time is the process's CPU time with one thread, the median of the steps of all
rounds after the first two steps of each process; memory is the largest resident size, less what the process had
before the model was made. A way that would need more memory than the machine has is not run, and its need is given:
the parameters with their gradients and moments, and logits with their gradients.
"""

import argparse
import json
import os
import platform
import random
import resource
import statistics
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any, Dict, List

os.environ.setdefault("OMP_NUM_THREADS", "1")
warnings.filterwarnings("ignore")
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

BATCH_SIZE, STEPS = 128, 20
SAMPLES = 1024
WAYS = ("sparse", "sparse, drawn", "dense", "AllenNLP sampled", "AllenNLP full")


def model_config(way: str, sizes: argparse.Namespace) -> Dict[str, Any]:
    embedding = {
        "type": "embedding",
        "embedding_dim": sizes.embedding,
        "sparse": way not in ("dense", "AllenNLP full"),
    }
    network = {
        "type": "ld_rnn",
        "input_size": sizes.embedding,
        "hidden_size": sizes.hidden,
        "num_layers": sizes.layers,
        "layer_dropout": 0.5,
    }
    model = {"text_field_embedder": {"token_embedders": {"tokens": embedding}}}
    if way.startswith("AllenNLP"):
        width = sizes.embedding + sizes.layers * sizes.hidden
        projection = {
            "input_dim": width,
            "num_layers": 1,
            "hidden_dims": sizes.projection,
            "activations": "relu",
        }
        return {
            **model,
            "type": "language_model",
            "contextualizer": {
                "type": "compose",
                "encoders": [network, {"type": "feedforward", "feedforward": projection}],
            },
            **({"num_samples": SAMPLES, "sparse_embeddings": True} if way == "AllenNLP sampled" else {}),
        }
    return {
        **model,
        "type": "adaptive_language_model",
        "contextualizer": {**network, "stateful": True},
        "projection_dim": sizes.projection,
        "projection_activation": "relu",
        "cutoffs": [4000, 40000, 200000],
        "tail_samples": SAMPLES if way == "sparse, drawn" else None,
    }


OPTIMIZERS: Dict[str, Dict[str, Any]] = {
    "sparse": {"type": "lazy_adam", "grad_norm": 5.0},
    "sparse, drawn": {"type": "lazy_adam", "grad_norm": 5.0, "row_moments": True},
    "dense": {"type": "adam"},
    "AllenNLP sampled": {"type": "dense_sparse_adam"},
    "AllenNLP full": {"type": "adam"},
}


def peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(way: str, num_words: int, sizes: argparse.Namespace) -> Dict[str, Any]:
    """Times the steps of one way, in this process."""
    from allennlp.common import Params
    from allennlp.data import Vocabulary
    from allennlp.models import Model
    from allennlp.training.optimizers import Optimizer

    import ldnet_allennlp  # noqa: F401

    torch.set_num_threads(1)
    torch.manual_seed(sizes.seed)
    vocab = Vocabulary()
    vocab.add_tokens_to_namespace([f"w{number}" for number in range(num_words - 1)])
    frequencies = 1 / torch.arange(1, num_words, dtype=torch.float64)
    words = torch.multinomial(frequencies, sizes.steps * BATCH_SIZE * (STEPS + 1), replacement=True) + 2
    batches = words.view(sizes.steps, BATCH_SIZE, STEPS + 1)
    before = peak_megabytes()
    model = Model.from_params(Params(model_config(way, sizes)), vocab=vocab)
    optimizer = Optimizer.from_params(
        Params(dict(OPTIMIZERS[way])), model_parameters=list(model.named_parameters())
    )
    model.train()
    seconds: List[float] = []
    for number, batch in enumerate(batches):
        source, targets = batch[:, :-1].contiguous(), batch[:, 1:].contiguous()
        started = time.process_time()
        optimizer.zero_grad()
        if way.startswith("AllenNLP"):  # it takes its targets from the sentence itself
            loss = model(source={"tokens": {"tokens": batch}})["loss"]
        else:
            loss = model(source={"tokens": {"tokens": source}}, targets=targets, first_window=number == 0)[
                "loss"
            ]
        loss.backward()
        if way == "dense":
            torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        seconds.append(time.process_time() - started)
    return {"seconds": seconds[2:], "megabytes": peak_megabytes() - before}


def needed_gigabytes(way: str, num_words: int, sizes: argparse.Namespace) -> float:
    """A lower bound of what "AllenNLP full" takes; the others always fit."""
    if way != "AllenNLP full":
        return 0.0
    parameters = num_words * (sizes.embedding + sizes.projection)
    # The log-softmax keeps its output, and its input and both gradients live at the same time.
    return (4 * 4 * parameters + 3 * 4 * BATCH_SIZE * STEPS * num_words) / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--vocabularies", type=int, nargs="+", default=[33_000, 200_000, 793_470])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--hidden", type=int, default=150)
    parser.add_argument("--embedding", type=int, default=300)
    parser.add_argument("--projection", type=int, default=300)
    parser.add_argument("--steps", type=int, default=6, help="steps of each process, the first two untimed")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", help="a file for the results")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure[0], int(arguments.measure[1]), arguments)))
        return
    available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    setting = {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "threads": 1,
        "batch": [BATCH_SIZE, STEPS],
        "machine_gigabytes": round(available, 1),
        **{name: value for name, value in vars(arguments).items() if name not in ("measure", "json")},
    }
    print(json.dumps(setting))
    cases = [(way, size) for size in arguments.vocabularies for way in arguments.ways]
    results: Dict[Any, Dict[str, Any]] = {}
    shuffled = random.Random(arguments.seed)
    options = [
        f"--{name}={getattr(arguments, name)}" for name in ("layers", "hidden", "embedding", "projection")
    ]
    options += [f"--steps={arguments.steps}", f"--seed={arguments.seed}"]
    for _ in range(arguments.rounds):
        for way, size in shuffled.sample(cases, len(cases)):
            result = results.setdefault(
                (way, size), {"way": way, "vocabulary": size, "seconds": [], "megabytes": 0.0}
            )
            needed = needed_gigabytes(way, size, arguments)
            if needed > 0.8 * available:
                result["needs_gigabytes"] = needed
                continue
            command = [sys.executable, __file__, *options, "--measure", way, str(size)]
            finished = subprocess.run(command, capture_output=True, text=True)
            if finished.returncode:
                raise SystemExit(f"{way}, {size} words: {finished.stderr[-2000:]}")
            measured = json.loads(finished.stdout.splitlines()[-1])
            result["seconds"] += measured["seconds"]
            result["megabytes"] = max(result["megabytes"], measured["megabytes"])
    print(
        f"{'vocabulary':>10}  {'way':<18}{'ms a step':>10}{'tokens/s':>10}{'MB':>8}   time, memory against sparse"
    )
    for size in arguments.vocabularies:
        first = results[arguments.ways[0], size]
        for way in arguments.ways:
            result = results[way, size]
            if not result["seconds"]:
                print(f"{size:>10}  {way:<18} not run: it needs {result['needs_gigabytes']:.0f} GB")
                continue
            median = statistics.median(result["seconds"])
            times = median / statistics.median(first["seconds"])
            print(
                f"{size:>10}  {way:<18}{median * 1e3:>10.0f}{BATCH_SIZE * STEPS / median:>10.0f}"
                f"{result['megabytes']:>8.0f}   {times:.2f}x, {result['megabytes'] / first['megabytes']:.2f}x"
            )
    if arguments.json:
        written = {"setting": setting, "results": list(results.values())}
        Path(arguments.json).write_text(json.dumps(written, indent=1) + "\n")


if __name__ == "__main__":
    main()
