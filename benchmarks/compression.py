"""
What `ldnet-compress` saves, and what it costs:

    OMP_NUM_THREADS=1 python benchmarks/compression.py out/pruned/model.tar.gz test.conll --json compression.json

makes every variant of an archive in a temporary folder, and prints for each one: the bytes on disk and of the weights;
span F1 on the test file, and how many of its tags changed; words a second, from words to tags, for batches of 32
sentences and for single ones; and the memory of one process and of four that have loaded the model and tagged the
file.

The speed is that of the variants taking turns, in an order drawn anew each round: the median of the rounds with their
first and third quartile, and the ratio of the medians to the archive's as it was. Memory is the proportional set size
(a page that n processes share counts as an n-th for each) above that of a process that has only imported the package,
and the largest resident set while loading. Both need Linux.

About five minutes on one idle core for a tagger of 100 MB.
"""

import argparse
import json
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

warnings.filterwarnings("ignore")

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
from allennlp.models.archival import Archive  # noqa: E402

import ldnet_allennlp  # noqa: E402, F401
from ldnet_allennlp.commands.compression import change_of  # noqa: E402
from ldnet_allennlp.commands.ldnet_compress import compress_archive  # noqa: E402
from ldnet_allennlp.commands.ldnet_report import read_text  # noqa: E402
from ldnet_allennlp.commands.report.model_report import archive_bytes, bytes_by_dtype  # noqa: E402
from ldnet_allennlp.commands.report.speed import words_per_second  # noqa: E402
from ldnet_allennlp.common.archives import read_archive, without_progress_messages  # noqa: E402
from ldnet_allennlp.common.verification import outputs_of  # noqa: E402
from ldnet_allennlp.data.conll.tag_schemes import spans_from_tags  # noqa: E402

AS_IT_WAS = "as it was"
VARIANTS: Dict[str, Tuple[str, ...]] = {
    "half": ("half_embeddings",),
    "int8": ("int8",),
    "int8 half": ("int8", "half_embeddings"),
    "mapped": ("mapped_embeddings",),
    "mapped half": ("mapped_embeddings", "half_embeddings"),
    "int8 mapped half": ("int8", "mapped_embeddings", "half_embeddings"),
}
IN_MEMORY = (AS_IT_WAS, "half", "mapped", "mapped half")
MEBIBYTE = 2**20
CHUNK = 64  # sentences at once


def make_variants(
    archive: str, folder: Path, sentences: List[List[str]], max_changed: float
) -> Dict[str, str]:
    """Where each variant is. What the command tells of each is printed."""
    paths = {AS_IT_WAS: archive}
    for name, options in VARIANTS.items():
        path = folder / name.replace(" ", "_")
        paths[name] = str(path if "mapped_embeddings" in options else path.with_suffix(".tar.gz"))
        told = compress_archive(
            archive,
            paths[name],
            sentences=sentences,
            max_changed=max_changed,
            **dict.fromkeys(options, True),  # type: ignore[arg-type]
        )
        print(f"{name}: {told[2]}")
    return paths


def tags_of(archive: Archive, sentences: List[List[str]]) -> List[Dict[str, Any]]:
    """The outputs' tags alone."""
    outputs: List[Dict[str, Any]] = []
    for start in range(0, len(sentences), CHUNK):
        chunk = outputs_of(archive.model, archive.validation_dataset_reader, sentences[start : start + CHUNK])
        outputs += [{"tags": output["tags"]} for output in chunk]
    return outputs


def span_f1(gold: List[List[str]], outputs: List[Dict[str, Any]], label_encoding: Optional[str]) -> float:
    """The F1 of the spans of all sentences."""
    correct = found = wanted = 0
    for tags, output in zip(gold, outputs):
        true, predicted = (set(spans_from_tags(each, label_encoding)) for each in (tags, output["tags"]))
        correct += len(true & predicted)
        found += len(predicted)
        wanted += len(true)
    return 2 * correct / max(1, found + wanted)


def measure_speed(
    archives: Dict[str, Archive], sentences: List[List[str]], batch_size: int, rounds: int, seed: int
) -> Dict[str, Tuple[float, float, float]]:
    """Words a second of each variant: the first quartile, the median and the third of the rounds."""
    generator = random.Random(seed)
    speeds: Dict[str, List[float]] = {name: [] for name in archives}
    for _ in range(rounds):
        for name in generator.sample(list(archives), len(archives)):
            archive = archives[name]
            speeds[name].append(
                words_per_second(
                    archive.model, archive.validation_dataset_reader, sentences, batch_size, passes=1
                )
            )
    return {name: tuple(statistics.quantiles(values, n=4)) for name, values in speeds.items()}  # type: ignore[misc]


def hold(path: str, test_file: str, limit: int) -> None:
    """A process that loads a model, tags a text, and waits. Without a model it has imported the package."""
    torch.set_num_threads(1)
    if path:
        with without_progress_messages():
            archive = read_archive(path)
            tags_of(archive, read_text(test_file, "conll", archive)[:limit])
    print("ready", flush=True)
    sys.stdin.readline()


def memory_of(path: str, test_file: str, limit: int, count: int) -> Tuple[List[float], float]:
    """The proportional set sizes, summed up, of 1 to `count` processes, and the largest resident set, in MiB."""
    processes = []
    sums = []
    try:
        for _ in range(count):
            command = [sys.executable, __file__, "--hold", path, test_file, "--sentences", str(limit)]
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                encoding="utf-8",
            )
            processes.append(process)
            assert process.stdout is not None
            while process.stdout.readline().strip() != "ready":
                if process.poll() is not None:
                    raise RuntimeError(f"The process for '{path}' ended with status {process.returncode}.")
            sums.append(sum(_kibibytes(other.pid, "smaps_rollup", "Pss:") for other in processes) / 1024)
        peak = max(_kibibytes(process.pid, "status", "VmHWM:") for process in processes) / 1024
    finally:
        for process in processes:
            process.communicate("\n")
    return sums, peak


def _kibibytes(pid: int, file: str, field: str) -> int:
    lines = Path(f"/proc/{pid}/{file}").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))


def print_memory(memory: Dict[str, Tuple[List[float], float]], base: Tuple[List[float], float]) -> None:
    print(f"\nMemory in MiB above {base[0][0]:.0f} of a process without a model (proportional set sizes):")
    for name, (sums, peak) in memory.items():
        without = [total - alone for total, alone in zip(sums, base[0])]
        print(
            f"  {name:17} one process {without[0]:7.1f}, {len(sums)} processes {without[-1]:7.1f}, "
            f"largest resident set {peak - base[1]:7.1f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("archive")
    parser.add_argument("test_file", help="columns, as the archive's reader reads them (conll_columns)")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--sentences", type=int, default=300, help="for speed and memory (default: 300)")
    parser.add_argument("--single", type=int, default=100, help="for single sentences (default: 100)")
    parser.add_argument("--processes", type=int, default=4, help="0 measures no memory")
    parser.add_argument("--max-changed", type=float, default=100.0)
    parser.add_argument("--seed", type=int, default=13)
    parser.add_argument("--json")
    parser.add_argument("--hold", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.hold:
        hold(args.archive, args.test_file, args.sentences)
        return
    torch.set_num_threads(args.threads)
    started = time.time()
    with tempfile.TemporaryDirectory() as folder, without_progress_messages():
        results = compare(args, Path(folder))
    print(
        f"\n{args.threads} thread(s), {args.rounds} rounds, {args.sentences} sentences (single: {args.single}), seed "
        f"{args.seed}; torch {torch.__version__} ({torch.backends.quantized.engine}), Python "
        f"{platform.python_version()}, {platform.processor() or platform.machine()}. "
        f"{time.time() - started:.0f} seconds."
    )
    if args.json:
        Path(args.json).write_text(json.dumps(results, indent=2) + "\n")


def compare(args: argparse.Namespace, folder: Path) -> Dict[str, Any]:
    original = read_archive(args.archive)
    instances = list(
        original.validation_dataset_reader._read(args.test_file)
    )  # not by `read`, which shows a bar
    text = [instance["metadata"]["words"] for instance in instances]
    gold = [list(instance["tags"].labels) for instance in instances]
    chosen = random.Random(args.seed).sample(text, min(args.sentences, len(text)))
    paths = make_variants(args.archive, folder, chosen, args.max_changed)
    archives = {name: read_archive(path) for name, path in paths.items()}
    tags = {name: tags_of(archive, text) for name, archive in archives.items()}
    speeds = {
        batch_size: measure_speed(archives, sentences, batch_size, args.rounds, args.seed)
        for batch_size, sentences in ((32, chosen), (1, chosen[: args.single]))
    }
    results: Dict[str, Any] = {}
    print(
        f"\n{'':17} {'on disk':>10} {'weights':>10} {'F1':>6} {'changed':>8}   words/second at 32, and at 1"
    )
    for name, path in paths.items():
        change = change_of(tags[AS_IT_WAS], tags[name])
        results[name] = {
            "archive_bytes": archive_bytes(path),
            "bytes_by_dtype": bytes_by_dtype(archives[name].model),
            "f1": span_f1(gold, tags[name], original.model.label_encoding),
            "changed": change.percent,
            "words_per_second": {size: list(found[name]) for size, found in speeds.items()},
        }
        print(_row(name, results[name], results[AS_IT_WAS]))
    del archives, original, instances
    if args.processes:
        base = memory_of("", args.test_file, args.sentences, args.processes)
        memory = {
            name: memory_of(paths[name], args.test_file, args.sentences, args.processes) for name in IN_MEMORY
        }
        print_memory(memory, base)
        results["memory"] = {"base": base, **memory}
    return results


def _row(name: str, result: Dict[str, Any], first: Dict[str, Any]) -> str:
    speeds = ", ".join(
        f"{median:,.0f} ({low:,.0f}-{high:,.0f}) x{median / first['words_per_second'][size][1]:.2f}"
        for size, (low, median, high) in result["words_per_second"].items()
    )
    sizes = (result["archive_bytes"], sum(result["bytes_by_dtype"].values()))
    on_disk, weights = (f"{size / MEBIBYTE:6.1f} MiB" for size in sizes)
    return f"{name:17} {on_disk} {weights} {100 * result['f1']:6.2f} {result['changed']:6.2f} %   {speeds}"


if __name__ == "__main__":
    main()
