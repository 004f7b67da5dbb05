"""
Measure the taggers of `run.py` in one run, and write `benchmarks/results/speed.json`:

    OMP_NUM_THREADS=1 python benchmarks/results/speed.py out/results/modern wnut17 --seed 1

Words per second, from words to tags, on the corpus' test data, in batches of 32 sentences of similar length. The
archives take turns, so that other load on the machine affects all of them alike; the median of the rounds counts.
"""

import argparse
import json
import platform
import statistics
import sys
import warnings
from pathlib import Path

warnings.filterwarnings("ignore")

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
from corpora import CORPORA, paths_of  # noqa: E402
from run import DATA  # noqa: E402

from ldnet_allennlp.commands.report.model_report import words_per_second  # noqa: E402
from ldnet_allennlp.commands.sentences import read_text  # noqa: E402
from ldnet_allennlp.common.archives import read_archive, without_progress_messages  # noqa: E402

SPEEDS = Path(__file__).resolve().parent / "speed.json"


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("corpus", choices=list(CORPORA))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    folder = args.out / args.corpus
    archives = {}
    for cell in sorted(folder.glob(f"*/{args.seed}/cell.json")):
        with without_progress_messages():
            path = args.out / json.loads(cell.read_text())["archive"]
            archives[cell.parent.parent.name] = read_archive(str(path))
    if not archives:
        raise SystemExit(f"{folder} was expected to have cells of seed {args.seed}, but there are none.")
    test = paths_of(args.corpus, DATA, args.out / "data")["test"]
    sentences = read_text(test, "conll", next(iter(archives.values())))
    rounds = {name: [] for name in archives}
    for _ in range(args.rounds):
        for name, archive in archives.items():
            speed = words_per_second(archive.model, archive.validation_dataset_reader, sentences, passes=1)
            rounds[name].append(speed)
    measured = {
        "words": sum(map(len, sentences)),
        "threads": torch.get_num_threads(),
        "seed": args.seed,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "words_per_second": {name: round(statistics.median(speeds)) for name, speeds in rounds.items()},
        "least_and_most": {name: [round(min(speeds)), round(max(speeds))] for name, speeds in rounds.items()},
    }
    before = json.loads(SPEEDS.read_text()) if SPEEDS.exists() else {}
    SPEEDS.write_text(json.dumps({**before, args.corpus: measured}, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(measured, indent=2))


if __name__ == "__main__":
    main()
