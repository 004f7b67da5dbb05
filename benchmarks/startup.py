"""
Measure the start-up cost of the package: `allennlp --help` with and without the plugin, and the import alone.

    python benchmarks/startup.py [--rounds 5] [--json startup.json]

Each measurement is a separate process, and the two of a pair take turns, so other load affects both. The script
measures wall time and CPU time; on a busy machine, use CPU time. A first round, which does not count, caches bytecode
in a temporary folder. Takes five minutes on an idle core.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ALLENNLP = "from allennlp.common.plugins import import_plugins; import allennlp.commands; import_plugins()"
PAIRS = {
    "allennlp --help": (["-m", "allennlp", "--help"], ["-m", "allennlp", "--help"]),
    # Without the plugin file: what a script pays that imports AllenNLP's commands, and then this package, too.
    "import": (["-c", "import allennlp.commands"], ["-c", "import allennlp.commands, ldnet_allennlp"]),
    "import of everything": (["-c", ALLENNLP], ["-c", f"{ALLENNLP}; import ldnet_allennlp"]),
}


def seconds(arguments: list[str], folder: Path, cache: Path) -> tuple[float, float]:
    """Wall time and CPU time of one process."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore", "HF_HUB_OFFLINE": "1"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    environment.update(PYTHONPYCACHEPREFIX=str(cache), OMP_NUM_THREADS="1")
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, *arguments], cwd=str(folder), env=environment, check=True, capture_output=True
    )
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each kind")
    parser.add_argument("--json", help="write the ratios to this file")
    options = parser.parse_args()
    rounds = options.rounds
    print(
        f"Python {platform.python_version()}, torch {metadata.version('torch')}, allennlp "
        f"{metadata.version('allennlp')}; {os.cpu_count()} CPUs, one thread; median of {rounds} (lowest to highest), s"
    )
    with tempfile.TemporaryDirectory() as scratch:
        plain, plugin, cache = (Path(scratch) / name for name in ("plain", "plugin", "cache"))
        for folder in (plain, plugin):
            folder.mkdir()
        (plugin / ".allennlp_plugins").write_text("ldnet_allennlp\n", encoding="utf-8")
        times: dict[str, list[list[tuple[float, float]]]] = {name: [[], []] for name in PAIRS}
        for turn in range(rounds + 1):
            for name, (without, with_ours) in PAIRS.items():
                folders = (plain, plugin if name == "allennlp --help" else plain)
                for side, (arguments, folder) in enumerate(zip((without, with_ours), folders)):
                    spent = seconds(arguments, folder, cache)
                    if turn:
                        times[name][side].append(spent)
    ratios: dict[str, dict[str, float]] = {}
    for clock, kind in enumerate(("wall time", "CPU time")):
        print(f"{kind:22}{'AllenNLP':>22}{'and ldnet_allennlp':>22}{'ratio':>8}")
        for name, sides in times.items():
            both = [[spent[clock] for spent in side] for side in sides]
            shown = [f"{statistics.median(side):.2f} ({min(side):.2f}-{max(side):.2f})" for side in both]
            # Of pairs: what slows the machine slows both of a pair.
            ratio = statistics.median(ours / theirs for theirs, ours in zip(*both))
            ratios.setdefault(kind.replace(" ", "_"), {})[name] = ratio
            print(f"{name:22}{shown[0]:>22}{shown[1]:>22}{ratio:8.3f}")
    if options.json:
        Path(options.json).write_text(json.dumps(ratios, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
