"""
Measure time and memory of a language model's training step, at the published sizes.

    python benchmarks/lm_training.py --json lm_training.json # about 25 minutes on one core python
    benchmarks/lm_training.py --vocabularies 33000 --rounds 3 --ways baseline sparse bfloat16 python
    benchmarks/lm_training.py --quick # seconds, tiny sizes

The programs, all with an LD-RNN of the same sizes:

baseline  one nn.LSTM a layer over the torch.cat of all below, as the original has it, an adaptive softmax out of
                 nn.Linear and cross_entropy, dense gradients, torch's Adam and clipping; written in this file
sparse           "adaptive_language_model" in float32, sparse gradients of the word vectors, "lazy_adam"
bfloat16         the same, with `autocast: "bfloat16"`
sparse, drawn    sparse, and 1,024 words drawn for each tail cluster (tail_samples), row_moments
drawn, bfloat16  the same, with `autocast: "bfloat16"`
dense            "adaptive_language_model" with dense gradients, torch's Adam and clipping
AllenNLP sampled allennlp-models' LanguageModel, sampled softmax of 1,024 words, dense_sparse_adam
AllenNLP full    allennlp-models' LanguageModel, softmax over the whole vocabulary, Adam

Each program and vocabulary runs in a separate process, in random order per round. The batches are random words with
Zipf's frequencies, 128 x 20; the hidden layers of a step (`layer_dropout`) are the same for all programs. Time is the
process's CPU time with one thread, else wall time, of the steps of all rounds after the first two of each process;
memory is the peak resident size, minus the size before the construction of the model. A program that needs more memory
than the machine has is skipped, and its estimated memory is printed.

The arithmetic limit: three times the forward pass's multiply-adds (the gradients of a product are two products), each
two operations, at the rate of a float32 product of 2560 x 1800 and 1800 x 1200 numbers with as many threads, which each
process measures before and after its steps. All columns are counted, also those of hidden layers, which are
zeros; `--layer-dropout 0` leaves no such work out. With `--device cuda` time is wall time with synchronization, and
memory the device's peak. GPU speed has not been measured.
"""

import argparse
import json
import math
import os
import platform
import random
import resource
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

warnings.filterwarnings("ignore")
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

BATCH_SIZE, STEPS = 128, 20
SAMPLES = 1024
CUTOFFS = [4000, 40000, 200000]
CLIP = 5.0
WAYS = (
    "baseline",
    "sparse",
    "bfloat16",
    "sparse, drawn",
    "drawn, bfloat16",
    "dense",
    "AllenNLP sampled",
    "AllenNLP full",
)
DRAWN = ("sparse, drawn", "drawn, bfloat16")
SIZES = ("layers", "hidden", "embedding", "projection", "dropout", "layer_dropout")


class BaselineLanguageModel(torch.nn.Module):
    """The original's way (`model_word_ada/` there), from torch's own modules."""

    def __init__(self, num_words: int, sizes: argparse.Namespace) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(num_words + 1, sizes.embedding)
        self.rnns = torch.nn.ModuleList(
            torch.nn.LSTM(sizes.embedding + layer * sizes.hidden, sizes.hidden, batch_first=True)
            for layer in range(sizes.layers)
        )
        self.dropout = torch.nn.Dropout(sizes.dropout)
        self.projection = torch.nn.Linear(sizes.embedding + sizes.layers * sizes.hidden, sizes.projection)
        edges = cluster_edges(num_words)
        self.edges = edges
        self.head = torch.nn.Linear(sizes.projection, edges[0] + len(edges) - 1)
        self.tails = torch.nn.ModuleList(
            torch.nn.Sequential(
                torch.nn.Linear(sizes.projection, sizes.projection // 4**number, bias=False),
                torch.nn.Linear(sizes.projection // 4**number, last - first, bias=False),
            )
            for number, (first, last) in enumerate(zip(edges, edges[1:]))
        )
        self.states: list[Any] = [None] * sizes.layers

    def forward(
        self, source: torch.Tensor, targets: torch.Tensor, is_hidden: Callable[[], bool]
    ) -> torch.Tensor:
        vectors = self.dropout(self.embedding(source))
        outputs, visible = [vectors], [vectors]
        for number, rnn in enumerate(self.rnns):
            output, state = rnn(self.dropout(torch.cat(visible, dim=2)), self.states[number])
            self.states[number] = tuple(tensor.detach() for tensor in state)
            outputs.append(output)
            visible.append(torch.zeros_like(output) if is_hidden() else output)
        read = torch.cat(outputs, dim=2).flatten(end_dim=1)
        hidden = self.dropout(torch.relu(self.projection(read)))
        words = targets.flatten() - 1
        head_targets, loss = words.clone(), hidden.new_zeros(())
        for number, (first, last) in enumerate(zip(self.edges, self.edges[1:])):
            members = (words >= first) & (words < last)
            head_targets[members] = self.edges[0] + number
            if members.any():
                logits = self.tails[number](hidden[members])
                loss = loss + torch.nn.functional.cross_entropy(
                    logits, words[members] - first, reduction="sum"
                )
        loss = loss + torch.nn.functional.cross_entropy(self.head(hidden), head_targets, reduction="sum")
        return loss / len(words)


def cluster_edges(num_words: int) -> list[int]:
    """The end of the head and of each cluster."""
    return [cutoff for cutoff in CUTOFFS if cutoff < num_words] + [num_words]


def network_multiply_adds(sizes: argparse.Namespace) -> int:
    """Those of the layers and the projection for a token, forward."""
    width = sizes.embedding + sizes.layers * sizes.hidden
    layers = sum(
        4 * sizes.hidden * (sizes.embedding + (layer + 1) * sizes.hidden) for layer in range(sizes.layers)
    )
    return layers + width * sizes.projection


def multiply_adds(way: str, num_words: int, targets: torch.Tensor, sizes: argparse.Namespace) -> float:
    """Those of a step, forward and backward, for these targets (B, T)."""
    token = network_multiply_adds(sizes)
    if way.startswith("AllenNLP"):
        token += sizes.projection * (SAMPLES + 1 if way == "AllenNLP sampled" else num_words)
        return 3.0 * targets.numel() * token
    edges, words = cluster_edges(num_words), targets - 1
    token += sizes.projection * (edges[0] + len(edges) - 1)
    total = float(targets.numel() * token)
    for number, (first, last) in enumerate(zip(edges, edges[1:])):
        count = int(((words >= first) & (words < last)).sum())
        size = sizes.projection // 4**number
        entries = min(last - first, SAMPLES + 1) if way in DRAWN else last - first
        total += count * size * (sizes.projection + entries)
    return 3.0 * total


def model_config(way: str, sizes: argparse.Namespace) -> dict[str, Any]:
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
        "dropout": sizes.dropout,
        "layer_dropout": sizes.layer_dropout,
    }
    model = {
        "text_field_embedder": {"token_embedders": {"tokens": embedding}},
        "dropout": sizes.dropout,
    }
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
        "embedding_dropout": sizes.dropout,
        "projection_dim": sizes.projection,
        "projection_activation": "relu",
        "cutoffs": CUTOFFS,
        "tail_samples": SAMPLES if way in DRAWN else None,
        "autocast": "bfloat16" if "bfloat16" in way else None,
    }


OPTIMIZERS: dict[str, dict[str, Any]] = {
    "baseline": {"type": "adam"},
    "sparse": {"type": "lazy_adam", "grad_norm": CLIP},
    "bfloat16": {"type": "lazy_adam", "grad_norm": CLIP},
    "sparse, drawn": {"type": "lazy_adam", "grad_norm": CLIP, "row_moments": True},
    "drawn, bfloat16": {"type": "lazy_adam", "grad_norm": CLIP, "row_moments": True},
    "dense": {"type": "adam"},
    "AllenNLP sampled": {"type": "dense_sparse_adam"},
    "AllenNLP full": {"type": "adam"},
}


def peak_megabytes(device: str) -> float:
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def clock(sizes: argparse.Namespace) -> float:
    if sizes.device == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time() if sizes.threads == 1 else time.perf_counter()


def product_rates(sizes: argparse.Namespace) -> dict[str, float]:
    """Operations per second of a product of the step's own sizes, the median of half a second's."""
    rates = {}
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        left = torch.randn(BATCH_SIZE * STEPS, 1800, device=sizes.device).to(dtype)
        right = torch.randn(1800, 1200, device=sizes.device).to(dtype)
        seconds: list[float] = []
        while sum(seconds) < 0.5:
            started = clock(sizes)
            left @ right
            seconds.append(clock(sizes) - started)
        rates[name] = 2 * BATCH_SIZE * STEPS * 1800 * 1200 / statistics.median(seconds[1:] or seconds)
    return rates


def build(
    way: str, num_words: int, sizes: argparse.Namespace, is_hidden: Callable[[], bool]
) -> tuple[torch.nn.Module, torch.optim.Optimizer, Callable[..., torch.Tensor]]:
    """A model, its optimizer, and what gives the loss of a batch (B, T + 1)."""
    from allennlp.common import Params
    from allennlp.data import Vocabulary
    from allennlp.models import Model
    from allennlp.training.optimizers import Optimizer

    vocab = Vocabulary()
    vocab.add_tokens_to_namespace([f"w{number}" for number in range(num_words - 1)])
    if way == "baseline":
        plain = BaselineLanguageModel(num_words, sizes)
        model: torch.nn.Module = plain

        def loss_of(batch: torch.Tensor, first: bool) -> torch.Tensor:
            return plain(batch[:, :-1], batch[:, 1:], is_hidden)
    else:
        model = Model.from_params(Params(model_config(way, sizes)), vocab=vocab)

        def loss_of(batch: torch.Tensor, first: bool) -> torch.Tensor:
            if way.startswith("AllenNLP"):  # it takes its targets from the sentence itself
                return model(source={"tokens": {"tokens": batch}})["loss"]
            source, targets = batch[:, :-1].contiguous(), batch[:, 1:].contiguous()
            return model(source={"tokens": {"tokens": source}}, targets=targets, first_window=first)["loss"]

    model.to(sizes.device).train()
    optimizer = Optimizer.from_params(
        Params(dict(OPTIMIZERS[way])), model_parameters=list(model.named_parameters())
    )
    return model, optimizer, loss_of


def measure(way: str, num_words: int, sizes: argparse.Namespace) -> dict[str, Any]:
    """Times the steps of one way, in this process."""
    import ldnet_allennlp  # noqa: F401
    from ldnet_allennlp.modules.rnn.dense_rnn_stack import LayerDropout

    torch.set_num_threads(sizes.threads)
    torch.manual_seed(sizes.seed)
    draws = random.Random(sizes.seed)

    def is_hidden(_: Any = None) -> bool:
        return draws.random() < sizes.layer_dropout

    LayerDropout.is_hidden = is_hidden  # type: ignore[method-assign, assignment]
    frequencies = 1 / torch.arange(1, num_words, dtype=torch.float64)
    words = torch.multinomial(frequencies, sizes.steps * BATCH_SIZE * (STEPS + 1), replacement=True) + 2
    batches = words.view(sizes.steps, BATCH_SIZE, STEPS + 1).to(sizes.device)
    before = peak_megabytes(sizes.device)
    model, optimizer, loss_of = build(way, num_words, sizes, is_hidden)

    def step(number: int) -> float:
        started = clock(sizes)
        for parameter in model.parameters():  # as AllenNLP's trainer
            parameter.grad = None
        loss_of(batches[number], number == 0).backward()
        if OPTIMIZERS[way]["type"] == "adam":
            torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        return clock(sizes) - started

    rates = [product_rates(sizes)]
    seconds = [step(number) for number in range(sizes.steps - bool(sizes.profile))]
    megabytes = peak_megabytes(sizes.device) - before
    rates.append(product_rates(sizes))
    result = {
        "seconds": seconds[2:],
        "operations": [
            2 * multiply_adds(way, num_words, batch[:, 1:], sizes) for batch in batches[2 : len(seconds)]
        ],
        "megabytes": megabytes,
        "rates": {name: statistics.mean(rate[name] for rate in rates) for name in rates[0]},
    }
    if sizes.profile:
        result["profile"] = profile(lambda: step(sizes.steps - 1), sizes.device)
    return result


def profile(step: Callable[[], Any], device: str) -> list[tuple[str, float, int]]:
    """Where the time of a step goes: the operations with the most time of their own, in ms, and their calls."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    if device == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as profiler:
        step()
    events = profiler.key_averages()
    own = "self_device_time_total" if device == "cuda" else "self_cpu_time_total"
    events = sorted(events, key=lambda event: -getattr(event, own, 0))
    return [(event.key, getattr(event, own, 0) / 1e3, event.count) for event in events[:12]]


def needed_gigabytes(way: str, num_words: int, sizes: argparse.Namespace) -> float:
    """A lower bound: the parameters with gradients and moments, and logits with their gradients."""
    edges = cluster_edges(num_words)
    softmax = num_words * sizes.projection
    if not way.startswith("AllenNLP"):
        softmax = edges[0] * sizes.projection + sum(
            (last - first) * (sizes.projection // 4**number)
            for number, (first, last) in enumerate(zip(edges, edges[1:]))
        )
    copies = 4 if way in ("baseline", "dense", "AllenNLP full") else 3
    gigabytes = 4 * copies * (softmax + num_words * sizes.embedding) / 1e9
    if way == "AllenNLP full":
        # The log-softmax keeps its output, and its input and both gradients live at the same time.
        gigabytes += 3 * 4 * BATCH_SIZE * STEPS * num_words / 1e9
    return gigabytes if way not in DRAWN else gigabytes / 2


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--vocabularies", type=int, nargs="+", default=[33_000, 793_470])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--layers", type=int, default=10)
    parser.add_argument("--hidden", type=int, default=300)
    parser.add_argument("--embedding", type=int, default=300)
    parser.add_argument("--projection", type=int, default=1600)
    parser.add_argument("--dropout", type=float, default=0.01)
    parser.add_argument("--layer-dropout", type=float, default=0.5)
    parser.add_argument("--steps", type=int, default=5, help="steps of each process, the first two untimed")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--profile", action="store_true", help="one more step of each process, profiled")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: only whether it runs")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", help="a file for the results")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.layers, arguments.hidden, arguments.embedding, arguments.projection = 2, 16, 16, 64
        arguments.steps, arguments.rounds, arguments.vocabularies = 3, 1, [5_000, 50_000]
    arguments.steps += arguments.profile and not arguments.measure
    return arguments


def run(way: str, size: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure in a process of its own."""
    command = [sys.executable, __file__, "--measure", way, str(size)]
    for name in (*SIZES, "steps", "seed", "threads", "device"):
        command.append(f"--{name.replace('_', '-')}={getattr(arguments, name)}")
    if arguments.profile:
        command.append("--profile")
    environment = {**os.environ, "OMP_NUM_THREADS": str(arguments.threads)}
    finished = subprocess.run(command, capture_output=True, text=True, env=environment)
    if finished.returncode:
        raise SystemExit(f"{way}, {size} words: {finished.stderr[-2000:]}")
    return json.loads(finished.stdout.splitlines()[-1])


def collect(arguments: argparse.Namespace) -> dict[Any, dict[str, Any]]:
    """The results of all rounds, by way and vocabulary."""
    available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    cases = [(way, size) for size in arguments.vocabularies for way in arguments.ways]
    results: dict[Any, dict[str, Any]] = {}
    shuffled = random.Random(arguments.seed)
    for _ in range(arguments.rounds):
        for way, size in shuffled.sample(cases, len(cases)):
            result = results.setdefault(
                (way, size),
                {"way": way, "vocabulary": size, "seconds": [], "shares": [], "megabytes": 0.0, "rates": []},
            )
            needed = needed_gigabytes(way, size, arguments)
            if needed > 0.8 * available:
                result["needs_gigabytes"] = needed
                continue
            measured = run(way, size, arguments)
            rate = measured["rates"]["float32"]
            result["seconds"] += measured["seconds"]
            result["shares"] += [
                operations / rate / seconds
                for operations, seconds in zip(measured["operations"], measured["seconds"])
            ]
            result["rates"].append(measured["rates"])
            result["megabytes"] = max(result["megabytes"], measured["megabytes"])
            result["profile"] = measured.get("profile")
    return results


def report(results: dict[Any, dict[str, Any]], arguments: argparse.Namespace) -> None:
    """A table: time and memory are compared with the first of the ways and vocabularies."""
    rates = [rate for result in results.values() for rate in result["rates"]]
    for name in ("float32", "bfloat16"):
        values = sorted(rate[name] / 1e9 for rate in rates)
        print(
            f"{name} products: {statistics.median(values):.0f} GFLOP/s ({values[0]:.0f} to {values[-1]:.0f})"
        )
    print(
        f"{'vocabulary':>10}  {'way':<17}{'s a step':>9}{'spread':>14}{'tokens/s':>9}{'MB':>7}{'of limit':>9}"
        f"   time, memory against {arguments.ways[0]}"
    )
    for size in arguments.vocabularies:
        first = results[arguments.ways[0], size]
        for way in arguments.ways:
            result = results[way, size]
            if not result["seconds"]:
                print(f"{size:>10}  {way:<17} not run: it needs {result['needs_gigabytes']:.0f} GB")
                continue
            median = statistics.median(result["seconds"])
            spread = f"{min(result['seconds']):.2f} - {max(result['seconds']):.2f}"
            base = statistics.median(first["seconds"]) if first["seconds"] else math.nan
            print(
                f"{size:>10}  {way:<17}{median:>9.3f}{spread:>14}{BATCH_SIZE * STEPS / median:>9.0f}"
                f"{result['megabytes']:>7.0f}{100 * statistics.median(result['shares']):>8.0f}%"
                f"   {median / base:.2f}x, {result['megabytes'] / (first['megabytes'] or math.nan):.2f}x"
            )
    for way in arguments.ways:
        sizes = [size for size in arguments.vocabularies if results[way, size]["seconds"]]
        if len(sizes) > 1:
            medians = [statistics.median(results[way, size]["seconds"]) for size in sizes]
            print(f"{way}: {sizes[-1]} words cost {medians[-1] / medians[0]:.2f}x a step with {sizes[0]}")
    for (way, size), result in results.items():
        if result.get("profile"):
            print(f"\n{way}, {size} words: ms and calls of a step's operations")
            for name, milliseconds, calls in result["profile"]:
                print(f"  {milliseconds:>9.1f}{calls:>7}  {name}")


def main() -> None:
    arguments = parse_arguments()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure[0], int(arguments.measure[1]), arguments)))
        return
    setting = {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "processor": platform.processor() or platform.machine(),
        "batch": [BATCH_SIZE, STEPS],
        **{name: value for name, value in vars(arguments).items() if name not in ("measure", "json")},
    }
    print(json.dumps(setting))
    results = collect(arguments)
    report(results, arguments)
    if arguments.json:
        written = {"setting": setting, "results": list(results.values())}
        Path(arguments.json).write_text(json.dumps(written, indent=1) + "\n")


if __name__ == "__main__":
    main()
