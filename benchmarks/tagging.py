"""
Measure the speed of taggers on a file: exported taggers, `allennlp predict`, the baseline, and other packages.

    python benchmarks/tagging.py --quick # two minutes on one core: smoke test python benchmarks/tagging.py --json
    tagging.json # half an hour: all rows python benchmarks/tagging.py --peers /path/to/python --trained
    ner/model.tar.gz test.conll

Four taggers of the published sizes with random weights (`synthetic_taggers.py`): "vanilla" without language models,
"pruned" with one layer of 300 left in each direction, "unpruned" with 10, and allennlp-models' "crf_tagger" of the
sizes of "vanilla". Each program tags the same CoNLL file in a separate process, in random order per round:

baseline           `allennlp predict` with `baseline.py`: the same weights, one nn.LSTM a layer over torch.cat, batches
                   of 32 in the order of the file; for "crf_tagger" AllenNLP's own predictor, batches of 32
allennlp predict   the package's predictor, which uses ONNX Runtime
ldnet-tag          the exported tagger
ldnet-tag int8     the tagger exported with --int8

The start-up of a process (interpreter, imports, loading) ends when it begins to read the file, and is reported
separately. Speed-ups are ratios of medians to the baseline of the same tagger, without and with start-up, in wall time
and in CPU time: use CPU time unless the machine is idle. The tags of float32 programs are compared with the baseline's,
and the run fails if more than one word in ten thousand differs; for int8 the share is printed. --trained ARCHIVE FILE
also prints F1 on the file in float32 and int8.

--peers PYTHON runs `peers.py` in another environment with spaCy and/or flair, on the same text.
"""

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

TAGGERS = ("vanilla", "pruned", "unpruned", "crf_tagger")
BASELINE, PREDICT, TAG, TAG_INT8 = "baseline", "allennlp predict", "ldnet-tag", "ldnet-tag int8"
WAYS = (BASELINE, PREDICT, TAG, TAG_INT8)
WINDOW, BATCH_SIZE = 4096, 32
FEATURES = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "amx_int8", "asimddp", "i8mm")


class Case(NamedTuple):
    """What is measured."""

    tagger: str
    way: str
    threads: int


def predict_arguments(case: Case, archive: str, text: str, target: str) -> list[str]:
    """The arguments of `allennlp predict`."""
    predictor, options = "ldnet_tagger", {"confidences": False}
    if case.way == BASELINE:
        predictor, options = ("upstream_crf_tagger" if case.tagger == "crf_tagger" else "baseline"), {}
    return [
        *("predict", archive, text, "--output-file", target, "--silent", "--use-dataset-reader"),
        *("--predictor", predictor, "--predictor-args", json.dumps(options)),
        *("--batch-size", str(BATCH_SIZE if case.way == BASELINE else WINDOW)),
        *("--include-package", "ldnet_allennlp", "--include-package", "baseline"),
    ]


def in_process(
    task: dict[str, Any], threads: int, python: str = sys.executable, script: str = "tagging_tasks.py"
) -> Any:
    """Run a task in a separate process."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    environment.update(PYTHONPATH=os.pathsep.join([str(HERE.parent), str(HERE)]), PYTHONWARNINGS="ignore")
    if python != sys.executable:
        del environment["PYTHONPATH"]
    with tempfile.NamedTemporaryFile("r", suffix=".json") as result:
        task = {**task, "began": time.time(), "result": result.name, "threads": threads}
        command = [python, str(HERE / script), "--task", json.dumps(task)]
        finished = subprocess.run(command, capture_output=True, text=True, env=environment)
        if finished.returncode:
            raise SystemExit(f"{task}\n{finished.stderr[-4000:]}")
        return json.load(result)


def measure(case: Case, setting: dict[str, Any], target: Path) -> dict[str, float]:
    """One round of a case; the tags are in `target` then."""
    if case.way in (BASELINE, PREDICT):
        archive = setting["archives"][case.tagger]
        arguments = predict_arguments(case, archive, setting["text"], str(target))
        return in_process({"what": "predict", "arguments": arguments}, case.threads)
    arguments = [setting["exported"][case.way][case.tagger], setting["text"], "-o", str(target)]
    arguments += ["--threads", str(case.threads), "--no-confidences", "--quiet"]
    return in_process({"what": "tag", "arguments": arguments}, case.threads)


def tags_in(path: Path) -> list[str]:
    """The tags of all words of an output."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [tag for line in lines for tag in json.loads(line)["tags"]]


def measure_all(setting: dict[str, Any], options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """A row for each case with the medians of all rounds."""
    cases = [
        Case(tagger, way, threads)
        for threads in options.threads
        for tagger in options.taggers
        for way in WAYS
    ]
    runs: dict[Case, list[dict[str, float]]] = {case: [] for case in cases}
    targets = {case: folder / f"{number}.jsonl" for number, case in enumerate(cases)}
    shuffle = random.Random(options.seed)
    for _ in range(options.rounds):
        for case in shuffle.sample(cases, len(cases)):
            runs[case].append(measure(case, setting, targets[case]))
    rows = []
    for case in cases:
        row: dict[str, Any] = {**case._asdict(), "runs": runs[case]}
        for name in runs[case][0]:
            row[name] = statistics.median(run[name] for run in runs[case])
        row["total"] = statistics.median(run["start_up"] + run["seconds"] for run in runs[case])
        row["words_per_second"] = setting["num_words"] / row["seconds"]
        row["file_megabytes"] = size_of(case, setting) / 2**20
        truth, tags = (tags_in(targets[one]) for one in (case._replace(way=BASELINE), case))
        row["changed"] = sum(one != other for one, other in zip(truth, tags, strict=True)) / len(truth)
        if case.way in (PREDICT, TAG) and row["changed"] > 1e-4:
            raise SystemExit(f"{case}: {100 * row['changed']:.3f} % of the tags differ from the baseline's.")
        rows.append(row)
    return rows


def size_of(case: Case, setting: dict[str, Any]) -> int:
    """The bytes of what is loaded."""
    path = setting["exported"][case.way if case.way == TAG_INT8 else TAG][case.tagger]
    return os.path.getsize(path)


def ratios(rows: list[dict[str, Any]]) -> None:
    """Add each row's speed-ups over the baseline of the same tagger with as many threads."""
    base = {(row["tagger"], row["threads"]): row for row in rows if row["way"] == BASELINE}
    for row in rows:
        other = base[row["tagger"], row["threads"]]
        row["faster"] = {
            "wall": other["seconds"] / row["seconds"],
            "cpu": other["cpu"] / row["cpu"],
            "with_start_up": other["total"] / row["total"],
        }


def print_rows(rows: list[dict[str, Any]], num_sentences: int) -> None:
    print(f"\n{num_sentences:,} sentences, from file to file\n")
    print(
        "| tagger | threads | way | words/s | s (min..max) | start-up s | CPU s | peak MB | model MB | tags changed |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for row in rows:
        seconds = [run["seconds"] for run in row["runs"]]
        print(
            f"| {row['tagger']} | {row['threads']} | {row['way']} | {row['words_per_second']:,.0f} | "
            f"{row['seconds']:.2f} ({min(seconds):.2f}..{max(seconds):.2f}) | {row['start_up']:.2f} | "
            f"{row['cpu']:.2f} | {row['peak_megabytes']:.0f} | {row['file_megabytes']:.0f} | "
            f"{100 * row['changed']:.2f} % |"
        )
    print("\nSpeed-up over the baseline of the same tagger\n")
    print(
        "| tagger | threads | way | wall time | CPU time | wall time with start-up |\n|---|---|---|---|---|---|"
    )
    for row in rows:
        if row["way"] != BASELINE:
            faster = " | ".join(f"{ratio:.2f}x" for ratio in row["faster"].values())
            print(f"| {row['tagger']} | {row['threads']} | {row['way']} | {faster} |")


def print_peers(rows: list[dict[str, Any]]) -> None:
    print(
        "\n| peer | threads | words/s | start-up s | CPU s | peak MB | packages MB |\n|---|---|---|---|---|---|---|"
    )
    for row in rows:
        print(
            f"| {row['peer']} | {row['threads']} | {row['words_per_second']:,.0f} | {row['start_up']:.2f} | "
            f"{row['cpu']:.2f} | {row['peak_megabytes']:.0f} | {row['package_megabytes']:.0f} |"
        )


def cpu_features() -> dict[str, str]:
    """The processor, and which of the instructions that matter here it has."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = (facts.get("flags") or facts.get("Features") or "").split()
    return {
        "cpu": facts.get("model name", platform.processor()),
        "features": " ".join(set(FEATURES) & set(flags)),
    }


def settings_of(options: argparse.Namespace) -> dict[str, Any]:
    packages = ("torch", "onnxruntime", "numpy", "allennlp", "allennlp-models")
    return {
        **{name: value for name, value in vars(options).items() if name != "json"},
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in packages},
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        **cpu_features(),
    }


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="64 sentences, 1 round, 1 thread")
    parser.add_argument("--sentences", type=int, help="default: 1,000, with --quick 64")
    parser.add_argument("--rounds", type=int, help="default: 5, with --quick 1")
    parser.add_argument("--taggers", nargs="+", choices=TAGGERS, default=list(TAGGERS))
    parser.add_argument("--lm-words", type=int, default=33_000, help="the language models' vocabulary")
    parser.add_argument("--threads", type=int, nargs="+", help="default: 1 and 2, with --quick 1")
    parser.add_argument("--trained", nargs=2, action="append", default=[], metavar=("ARCHIVE", "FILE"))
    parser.add_argument(
        "--peers", metavar="PYTHON", help="the interpreter of an environment with spaCy and/or flair"
    )
    parser.add_argument("--seed", type=int, default=13)
    parser.add_argument("--json", help="write settings and results to this file")
    options = parser.parse_args(arguments)
    options.sentences = options.sentences or (64 if options.quick else 1000)
    options.rounds = options.rounds or (1 if options.quick else 5)
    options.threads = options.threads or ([1] if options.quick else [1, 2])
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    report: dict[str, Any] = {"settings": settings_of(options)}
    print(json.dumps(report["settings"]), flush=True)
    with tempfile.TemporaryDirectory() as name:
        task = {name: getattr(options, name) for name in ("taggers", "sentences", "lm_words", "seed")}
        setting = in_process({"what": "prepare", "folder": name, **task}, 1)
        report["text"] = {key: value for key, value in setting.items() if key.startswith("num_")}
        report["rows"] = measure_all(setting, options, Path(name))
        ratios(report["rows"])
        print_rows(report["rows"], setting["num_sentences"])
        report["trained"] = {
            archive: in_process({"what": "quality", "folder": name, "archive": archive, "test": test}, 1)
            for archive, test in options.trained
        }
        for archive, lines in report["trained"].items():
            print("\n".join(["", f"{archive}, int8:", *lines[1:]]))
        if options.peers:
            peers = [
                {"what": peer, "text": setting["text"], "rounds": options.rounds, "seed": options.seed}
                for peer in in_process({"what": "list"}, 1, options.peers, "peers.py")
            ]
            report["peers"] = [
                in_process(peer, threads, options.peers, "peers.py")
                for threads in options.threads
                for peer in peers
            ]
            print_peers(report["peers"])
    if options.json:
        Path(options.json).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
