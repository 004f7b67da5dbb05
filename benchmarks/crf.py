"""
Compare the speed of our CRF with AllenNLP's and pytorch-crf's:

    python benchmarks/crf.py --threads 2 --json crf.json

Each case draws one batch with a fixed seed. The CRFs take turns in random order, once per round, so that other load on
the machine affects all alike. The script prints the median and the quartiles of the rounds in milliseconds, and the
ratios of the medians to ours. Before the timing of a case, the results are compared.

"viterbi" and "top_5" are decoding into lists, constrained to BIOUL (pytorch-crf has no constraints). "loss" is the
negative log-likelihood and its gradient with respect to logits and parameters; "loss_forbidding" the same with three
tenths of the transitions at -10000, for which our CRF takes its slower way. "marginals" are token marginals, the
gradient of log Z with respect to the logits.

Times are CPU time with `--threads 1`, else wall time. With more threads, the machine needs one idle core per thread: a
parallel operation waits for its slowest thread, for milliseconds if another program uses that core. Our few large
operations lose more than the many small ones of the others. On a busy machine, compare with `--threads 1`.

Limits of ours at 128x40x105: in "loss", 78 products (128, 105) x (105, 105) and one of (105, 4992) x (4992, 105) take
more than half of the time; in "viterbi", 39 times adding to and maximizing over 1.4 million pairs.
"""

import argparse
import json
import platform
import random
import statistics
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

warnings.filterwarnings("ignore")

import torch  # noqa: E402
from allennlp.modules.conditional_random_field import ConditionalRandomField, allowed_transitions  # noqa: E402

from ldnet_allennlp.modules.crf.conditional_random_field import FastConditionalRandomField  # noqa: E402

OURS, ALLENNLP, PYTORCH_CRF = "ours", "allennlp", "pytorch-crf"


class Case(NamedTuple):
    """`what` is "viterbi", "top_5", "loss", "loss_forbidding" or "marginals"."""

    what: str
    batch_size: int
    num_steps: int
    num_tags: int
    ragged: bool = False

    @property
    def name(self) -> str:
        return f"{self.what} {self.batch_size}x{self.num_steps}x{self.num_tags}{' ragged' * self.ragged}"


SIZES = ((128, 40, 19), (128, 40, 105), (32, 25, 9), (1, 25, 19), (1, 25, 105))
CASES = [
    *(Case(what, *size) for size in SIZES for what in ("viterbi", "loss")),
    *(Case(what, 128, 40, tags, ragged=True) for tags in (19, 105) for what in ("viterbi", "loss")),
    *(Case(what, 1, length, 19) for length in (1, 5, 100) for what in ("viterbi", "loss")),
    *(Case(what, 1, length, 105) for length in (1, 5, 100) for what in ("viterbi", "loss")),
    *(Case("loss_forbidding", 128, 40, tags) for tags in (19, 105)),
    *(Case("top_5", *size) for size in SIZES),
    *(Case("marginals", *size) for size in SIZES),
]


class Batch:
    """The random scores of a case and one CRF of each kind with the same parameters."""

    def __init__(self, case: Case, seed: int) -> None:
        torch.manual_seed(seed)
        num_tags = case.num_tags
        # The last type may lack tags.
        labels = ["O"] + [f"{prefix}-T{i}" for i in range(num_tags) for prefix in "BLUI"]
        constraints = allowed_transitions("BIOUL", dict(enumerate(labels[:num_tags])))
        self.logits = torch.randn(case.batch_size, case.num_steps, num_tags, requires_grad=True)
        self.tags = torch.randint(num_tags, (case.batch_size, case.num_steps))
        lengths = torch.full((case.batch_size,), case.num_steps)
        if case.ragged:
            lengths = torch.randint(1, case.num_steps + 1, (case.batch_size,))
        self.mask = torch.arange(case.num_steps) < lengths.unsqueeze(1)
        self.crfs: dict[str, Any] = {
            ALLENNLP: ConditionalRandomField(num_tags, constraints),
            OURS: FastConditionalRandomField(num_tags, constraints),
        }
        if case.what == "loss_forbidding":
            transitions = self.crfs[ALLENNLP].transitions.data
            transitions[torch.rand_like(transitions) < 0.3] = -10000.0
        self.crfs[OURS].load_state_dict(self.crfs[ALLENNLP].state_dict())
        try:
            from torchcrf import CRF
        except ImportError:
            return
        rival = CRF(num_tags, batch_first=True)
        parameters = {key: value for key, value in self.crfs[OURS].state_dict().items() if key[0] != "_"}
        rival.load_state_dict(parameters)
        self.crfs[PYTORCH_CRF] = rival

    def runs(self, what: str) -> dict[str, Callable[[], Any]]:
        """What to time, by rival. Each call returns something that can be compared with the others'."""
        if what.startswith("loss"):
            return {name: partial(self._loss, name) for name in self.crfs}
        runs: dict[str, Callable[[], Any]]
        ours, allennlp = self.crfs[OURS], self.crfs[ALLENNLP]
        logits, mask = self.logits.detach(), self.mask
        if what == "marginals":
            return {name: partial(self._marginals, name) for name in self.crfs}
        top_k = 5 if what == "top_5" else None
        runs = {
            OURS: lambda: ours.viterbi_tags(logits, mask, top_k),
            ALLENNLP: lambda: allennlp.viterbi_tags(logits, mask, top_k),
        }
        if PYTORCH_CRF in self.crfs and top_k is None:
            runs[PYTORCH_CRF] = lambda: self.crfs[PYTORCH_CRF].decode(logits, mask)
        return runs

    def _loss(self, name: str) -> torch.Tensor:
        crf = self.crfs[name]
        crf.zero_grad(set_to_none=True)
        self.logits.grad = None
        loss = -crf(self.logits, self.tags, self.mask)
        loss.backward()
        return loss

    def _marginals(self, name: str) -> torch.Tensor:
        """The derivative of log Z with respect to the logits, (B, T, N)."""
        crf = self.crfs[name]
        if name == OURS:
            log_z = crf.log_partition(self.logits, self.mask)
        elif name == ALLENNLP:
            log_z = crf._input_likelihood(self.logits, crf.transitions, self.mask)
        else:
            log_z = crf._compute_normalizer(self.logits.transpose(0, 1), self.mask.t())
        return torch.autograd.grad(log_z.sum(), self.logits)[0]

    def check(self, what: str) -> None:
        """Raise `AssertionError` if the CRFs disagree."""
        runs = self.runs(what)
        if what.startswith("loss"):
            losses = {name: float(run()) for name, run in runs.items()}
            assert all(abs(loss - losses[OURS]) < 1e-5 * losses[OURS] for loss in losses.values()), losses
        elif what == "marginals":
            marginals = runs[OURS]()
            for name, run in runs.items():
                assert torch.allclose(run(), marginals, atol=1e-5), f"the marginals of {name} differ"
        else:
            flat = [_paths(runs[name]()) for name in (OURS, ALLENNLP)]
            assert len(flat[0]) <= len(flat[1])
            assert what == "top_5" or flat[0] == flat[1], "the decoded tags differ"


def _paths(decoded: list[Any]) -> list[list[int]]:
    return [path for entry in decoded for path, _ in (entry if isinstance(entry, list) else [entry])]


def time_case(case: Case, seed: int, seconds: float, min_rounds: int) -> dict[str, dict[str, float]]:
    """Times in milliseconds by rival: "median", "lower" and "upper" quartile, "rounds"."""
    batch = Batch(case, seed)
    batch.check(case.what)
    runs = batch.runs(case.what)
    for run in runs.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in runs}
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    order = list(runs)
    shuffle = random.Random(seed).shuffle
    began = time.perf_counter()
    while len(times[OURS]) < min_rounds or time.perf_counter() - began < seconds:
        shuffle(order)
        for name in order:
            before = clock()
            runs[name]()
            times[name].append(1000 * (clock() - before))
    return {name: _summary(values) for name, values in times.items()}


def _summary(values: list[float]) -> dict[str, float]:
    lower, median, upper = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": median, "lower": lower, "upper": upper, "rounds": len(values)}


def _row(case: Case, result: dict[str, dict[str, float]]) -> str:
    def cell(name: str) -> tuple[str, str]:
        if name not in result:
            return "", ""
        entry = result[name]
        ratio = "" if name == OURS else f"{entry['median'] / result[OURS]['median']:.1f}x"
        return f"{entry['median']:.3g} ({entry['lower']:.3g}..{entry['upper']:.3g})", ratio

    columns = [case.name, cell(OURS)[0], *cell(ALLENNLP), *cell(PYTORCH_CRF)]
    return "| " + " | ".join(columns) + " |"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2, help="threads of torch (default: 2)")
    parser.add_argument("--seed", type=int, default=13, help="of batches and parameters (default: 13)")
    parser.add_argument("--seconds", type=float, default=1.0, help="at least, for each case (default: 1)")
    parser.add_argument("--rounds", type=int, default=9, help="at least, for each case (default: 9)")
    parser.add_argument("--only", help="run the cases whose name contains this")
    parser.add_argument("--json", help="write settings and results to this file")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)

    settings = {
        "threads": options.threads,
        "seed": options.seed,
        "seconds": options.seconds,
        "rounds": options.rounds,
        "dtype": "float32",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "machine": platform.machine(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }
    for key, value in settings.items():
        print(f"{key}: {value}")
    print("\nBatch x steps x tags; milliseconds, median (quartiles); ratio of medians to ours.\n")
    print("| case | ours | AllenNLP | ratio | pytorch-crf | ratio |")
    print("|---|---|---|---|---|---|")
    results = {}
    for case in CASES:
        if options.only is None or options.only in case.name:
            results[case.name] = time_case(case, options.seed, options.seconds, options.rounds)
            print(_row(case, results[case.name]), flush=True)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"settings": settings, "milliseconds": results}, file, indent=1)


if __name__ == "__main__":
    main()
