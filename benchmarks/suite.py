"""
Run all speed benchmarks, and collect their tables and figures in a folder:

    python benchmarks/suite.py out/benchmarks --quick # a few minutes, tiny sizes: smoke test python benchmarks/suite.py
    out/benchmarks # half an hour on two idle cores python benchmarks/suite.py out/benchmarks --full # hours: more of
    everything

    tagging tagging.py: exported taggers and `allennlp predict` against the baseline and crf_tagger growth growth.py:
    cost by length, batch, layers, vocabulary and tags, with a plot lm_training lm_training.py: steps of a language
    model's training, without hidden layers lm_vocabulary the same with 33,000 and 793,470 words tagger_training
    tagger_training.py: steps of a tagger's training crf crf.py: the CRF against AllenNLP's and pytorch-crf's startup
    startup.py: the package's share of AllenNLP's start-up

Each runs in a separate process with the same number of threads (tagging with 1 and 2). Its output is shown and stored
in `<name>.txt`, its figures in `<name>.json`, and all figures in `suite.json`. If one fails, the others still run, and
the exit status is 1. The machine should be idle.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from suite_summary import summary  # noqa: E402


class Part(NamedTuple):
    """A script, and its arguments for the smallest, the usual and the full run."""

    name: str
    script: str
    quick: tuple[str, ...]
    usual: tuple[str, ...]
    full: tuple[str, ...]
    takes: tuple[str, ...]
    """Which of the common options it has."""


ALL = ("--threads", "--seed", "--device")
LM_STEP = (
    "--vocabularies",
    "33000",
    "--ways",
    "baseline",
    "sparse",
    "bfloat16",
    "--layer-dropout",
    "0",
)
TWO_VOCABULARIES = ("--vocabularies", "33000", "793470", "--ways", "sparse, drawn", "dense")
PARTS = [
    Part(
        "tagging",
        "tagging.py",
        ("--quick", "--lm-words", "3000", "--taggers", "vanilla", "pruned"),
        ("--rounds", "3"),
        ("--sentences", "3453", "--rounds", "7"),
        ("--seed",),
    ),
    Part(
        "growth",
        "growth.py",
        ("--quick", "--words", "64"),
        ("--quick",),
        (),
        ("--threads", "--seed"),
    ),
    Part(
        "lm_training",
        "lm_training.py",
        ("--quick",),
        (*LM_STEP, "--rounds", "1", "--profile"),
        ("--vocabularies", "33000", "--profile"),
        ALL,
    ),
    Part(
        "lm_vocabulary",
        "lm_training.py",
        ("--quick",),
        (*TWO_VOCABULARIES, "--rounds", "1"),
        TWO_VOCABULARIES,
        ALL,
    ),
    Part(
        "tagger_training",
        "tagger_training.py",
        ("--quick",),
        ("--sentences", "100", "--rounds", "1", "--profile"),
        ("--profile",),
        ALL,
    ),
    Part(
        "crf",
        "crf.py",
        ("--seconds", "0", "--rounds", "2"),
        ("--seconds", "0.2", "--rounds", "5"),
        (),
        ("--threads", "--seed"),
    ),
    Part("startup", "startup.py", ("--rounds", "1"), ("--rounds", "3"), (), ()),
]


def command_of(part: Part, options: argparse.Namespace, folder: Path) -> list[str]:
    """The command line of a part."""
    command = [sys.executable, str(HERE / part.script), "--json", str(folder / f"{part.name}.json")]
    for name in part.takes:
        command += [name, str(getattr(options, name[2:]))]
    if part.script == "growth.py":
        command += ["--plot", str(folder / "growth.svg")]
    return [*command, *(part.full if options.full else part.quick if options.quick else part.usual)]


def run(command: list[str], threads: int, log: Path) -> int:
    """Run a command, show what it prints and keep it in a file. Gives its exit status."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )
    assert process.stdout is not None
    with log.open("w", encoding="utf-8") as file:
        for line in process.stdout:
            print(line, end="", flush=True)
            file.write(line)
    return process.wait()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", help="where to write to; is made")
    extent = parser.add_mutually_exclusive_group()
    extent.add_argument("--quick", action="store_true", help="the smallest sizes, one round")
    extent.add_argument("--full", action="store_true", help="all sizes, all rounds")
    parser.add_argument("--only", nargs="+", choices=[part.name for part in PARTS], help="the parts to run")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=13)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="for the parts that have it")
    options = parser.parse_args(arguments)
    folder = Path(options.folder)
    folder.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {"python": platform.python_version(), "threads": options.threads, "parts": {}}
    outcomes = []
    for part in PARTS:
        if options.only is not None and part.name not in options.only:
            continue
        print(f"\n== {part.name}\n", flush=True)
        figures = folder / f"{part.name}.json"
        if figures.exists():
            figures.unlink()  # of an earlier run
        began = time.perf_counter()
        status = run(command_of(part, options, folder), options.threads, folder / f"{part.name}.txt")
        seconds = time.perf_counter() - began
        failed = status != 0 or not figures.exists()
        outcomes.append((part.name, f"exit status {status}" if failed else "done", f"{seconds:.0f} s"))
        if not failed:
            results["parts"][part.name] = json.loads(figures.read_text(encoding="utf-8"))
    (folder / "suite.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print("\n== all\n\n| part | | time |\n|---|---|---|")
    for row in outcomes:
        print(f"| {' | '.join(row)} |")
    print("\n".join(["", *summary(results["parts"])]))
    return int(any(status != "done" for _, status, _ in outcomes))


if __name__ == "__main__":
    sys.exit(main())
