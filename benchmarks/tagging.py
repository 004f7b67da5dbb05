"""
How fast the tagger tags, against the straightforward way of the original, allennlp-models' tagger and the machine.

    python benchmarks/tagging.py --quick                        # about two minutes on one core, a first look
    python benchmarks/tagging.py --json tagging.json            # some minutes
    python benchmarks/tagging.py --full --json tagging.json     # the whole of it

Three taggers of the published sizes with random weights (`synthetic_taggers.py`): "vanilla" without language models,
"unpruned" with 10 layers in each direction, "pruned" with one left in each. Each tags a CoNLL file with `allennlp
predict`, in a process of its own, in an order drawn anew each round:

ours              the package's predictor, `--batch-size` 4096 (the window in which it sorts)
ours, bfloat16    the same with `autocast: bfloat16` (with --autocast)
straightforward   `straightforward.py`: the same weights, the original's way, batches of 32 in the order of the file
crf_tagger        allennlp-models' tagger of the sizes of "vanilla", batches of 32

A process's start-up (interpreter, imports, the archive) ends where the command begins to read the file, and is given
apart; what follows, reading, tagging and writing, gives sentences a second. Predictions of ours and of the
straightforward way are compared, and the run fails if more than one sentence in a thousand differs. "Network" is the
same without processes and files: tensors in, tags out, the two ways in turn in one process. "Limit" is what the model's
multiply-adds alone would take at the rate of a large matrix product measured in that process. The profile is CPU time.
Speed-ups are given of wall time and of CPU time: the second one counts where the machine is not idle.

`--device cuda` runs the same on a GPU, with the profile and the memory on the CPU; it has not been measured yet.
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
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

warnings.filterwarnings("ignore")
HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

TAGGERS = ("vanilla", "pruned", "unpruned")
OURS, BFLOAT16, STRAIGHTFORWARD, UPSTREAM = "ours", "ours, bfloat16", "straightforward", "crf_tagger"
WINDOW, BATCH_SIZE = 4096, 32


def predict_arguments(way: str, archive: str, text: str, target: str, output: str, device: int) -> List[str]:
    """The arguments of `allennlp predict`."""
    options: Dict[str, Any] = {} if way == UPSTREAM else {"output": output}
    if way in (OURS, BFLOAT16):
        options["confidences"] = False  # as the others, which have none
    if way == BFLOAT16:
        options["autocast"] = "bfloat16"
    predictors = {STRAIGHTFORWARD: "straightforward", UPSTREAM: "upstream_crf_tagger"}
    return [
        *("predict", archive, text, "--output-file", target, "--silent", "--use-dataset-reader"),
        *("--predictor", predictors.get(way, "ldnet_tagger"), "--predictor-args", json.dumps(options)),
        *(
            "--batch-size",
            str(WINDOW if way in (OURS, BFLOAT16) else BATCH_SIZE),
            "--cuda-device",
            str(device),
        ),
        *("--include-package", "ldnet_allennlp"),
        *(() if way in (OURS, BFLOAT16) else ("--include-package", "straightforward")),
    ]


def run_predict(arguments: List[str], began: float) -> Dict[str, float]:
    """Runs the command in this process, and times it from the process's start."""
    from allennlp.__main__ import run
    from allennlp.commands.predict import _PredictManager

    times: Dict[str, float] = {}
    inner = _PredictManager.run

    def timed(manager: Any) -> None:
        times["start_up"] = time.time() - began
        before, cpu = time.perf_counter(), time.process_time()
        inner(manager)
        times["seconds"] = time.perf_counter() - before
        times["cpu_seconds"] = time.process_time() - cpu

    _PredictManager.run = timed
    sys.argv = ["allennlp", *arguments]
    run()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {**times, "peak_megabytes": peak}


def in_process(task: Dict[str, Any], threads: int) -> Any:
    """Runs this script with a task in a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    # What this process has put on its path, for `--include-package`.
    environment["PYTHONPATH"] = os.pathsep.join([str(HERE.parent), str(HERE)])
    with tempfile.NamedTemporaryFile("r", suffix=".json") as result:
        task = {**task, "began": time.time(), "result": result.name, "threads": threads}
        command = [sys.executable, str(HERE / "tagging.py"), "--task", json.dumps(task)]
        finished = subprocess.run(command, capture_output=True, text=True, env=environment)
        if finished.returncode:
            raise SystemExit(f"{task}\n{finished.stderr[-4000:]}")
        return json.load(result)


def run_task(task: Dict[str, Any]) -> None:
    """What a process of `in_process` does."""
    if task["what"] == "predict":
        found: Any = run_predict(task["arguments"], task["began"])
    else:
        import tagging_parts

        found = getattr(tagging_parts, task["what"])(task)
    Path(task["result"]).write_text(json.dumps(found), encoding="utf-8")


def tags_in(path: Path, output: str) -> List[List[str]]:
    """The tags of each sentence of an output."""
    text = path.read_text(encoding="utf-8")
    if output == "json":
        return [json.loads(line)["tags"] for line in text.splitlines()]
    return [[line.split()[-1] for line in block.splitlines()] for block in text.strip().split("\n\n")]


def measure_processes(
    setting: Dict[str, Any], options: argparse.Namespace, folder: Path
) -> List[Dict[str, Any]]:
    """A row for each tagger, way and output, with the figures of all rounds."""
    cases: List[Tuple[str, str, str]] = []
    ways = (OURS, BFLOAT16, STRAIGHTFORWARD) if options.autocast else (OURS, STRAIGHTFORWARD)
    for output in ("json", "conll") if options.full else ("json",):
        cases += [(kind, way, output) for kind in options.taggers for way in ways]
    if "vanilla" in options.taggers:
        cases.append((UPSTREAM, UPSTREAM, "json"))
    rows: Dict[Any, Dict[str, Any]] = {
        case: {"tagger": case[0], "way": case[1], "output": case[2], "runs": []} for case in cases
    }
    shuffle = random.Random(options.seed)
    device = 0 if options.device == "cuda" else -1
    for _ in range(options.rounds):
        for case in shuffle.sample(cases, len(cases)):
            kind, way, output = case
            target = folder / f"{kind}.{way}.{output}"
            arguments = predict_arguments(
                way, setting["archives"][kind], setting["text"], str(target), output, device
            )
            rows[case]["runs"].append(
                in_process({"what": "predict", "arguments": arguments}, options.threads)
            )
            rows[case]["bytes"] = target.stat().st_size
    for case, row in rows.items():
        kind, way, output = case
        if way in (OURS, BFLOAT16):
            given, expected = (
                tags_in(folder / f"{kind}.{of}.{output}", output) for of in (way, STRAIGHTFORWARD)
            )
            row["sentences_that_differ"] = sum(one != other for one, other in zip(given, expected))
            assert len(given) == len(expected), (case, len(given), len(expected))
            if way == OURS and row["sentences_that_differ"] > len(given) / 1000:
                raise SystemExit(f"{case}: {row['sentences_that_differ']} of {len(given)} sentences differ")
    return list(rows.values())


def median(values: List[float]) -> float:
    return statistics.median(values)


def spread(values: List[float]) -> str:
    return f"{min(values):.2f}..{max(values):.2f}"


def print_processes(rows: List[Dict[str, Any]], setting: Dict[str, Any]) -> None:
    print("\nallennlp predict, a process each\n")
    print(
        "| tagger | output | way | sentences/s | s (min..max) | CPU s | start-up s | MB written | peak MB | speed-up "
        "| in CPU time |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    by_case = {(row["tagger"], row["way"], row["output"]): row for row in rows}
    for row in rows:
        seconds = [run["seconds"] for run in row["runs"]]
        row["sentences_per_second"] = setting["num_sentences"] / median(seconds)
        base = by_case.get((row["tagger"], STRAIGHTFORWARD, row["output"]))
        if base is not None:
            row["speed_up"], row["cpu_speed_up"] = (
                median([run[name] for run in base["runs"]]) / median([run[name] for run in row["runs"]])
                for name in ("seconds", "cpu_seconds")
            )
    for row in rows:
        runs = row["runs"]
        seconds = [run["seconds"] for run in runs]
        cpu_seconds = median([run["cpu_seconds"] for run in runs])
        faster, in_cpu_time = (
            f"{row[name]:.2f}x" if name in row else "" for name in ("speed_up", "cpu_speed_up")
        )
        if row["way"] == UPSTREAM:
            ours = by_case["vanilla", OURS, "json"]
            ratio = ours["sentences_per_second"] / row["sentences_per_second"]
            cpu_ratio = cpu_seconds / median([run["cpu_seconds"] for run in ours["runs"]])
            row["ours_against_it"] = {
                "speed": ratio,
                "cpu_speed": cpu_ratio,
                "bytes": ours["bytes"] / row["bytes"],
            }
            faster = f"(ours {ratio:.2f}x, {100 * ours['bytes'] / row['bytes']:.1f} % of the bytes)"
            in_cpu_time = f"(ours {cpu_ratio:.2f}x)"
        print(
            f"| {row['tagger']} | {row['output']} | {row['way']} | {row['sentences_per_second']:.0f} | "
            f"{median(seconds):.2f} ({spread(seconds)}) | {cpu_seconds:.2f} | "
            f"{median([run['start_up'] for run in runs]):.1f} | {row['bytes'] / 1e6:.2f} | "
            f"{max(run['peak_megabytes'] for run in runs):.0f} | {faster} | {in_cpu_time} |"
        )


def print_networks(found: Dict[str, Dict[str, Any]]) -> None:
    print("\nThe network alone, in one process\n")
    print(
        "| tagger | million multiply-adds a word | limit words/s | straightforward | ours | speed-up | in CPU time "
        "| of the limit |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for kind, result in found.items():
        ours, base = (result["num_words"] / median(result["seconds"][way]) for way in (OURS, STRAIGHTFORWARD))
        limit = result["limit_words_per_second"]
        result.update(words_per_second={OURS: ours, STRAIGHTFORWARD: base}, speed_up=ours / base)
        spent = result["cpu_seconds"]
        result["cpu_speed_up"] = median(spent[STRAIGHTFORWARD]) / median(spent[OURS])
        extra = ""
        if BFLOAT16 in result["seconds"]:
            half = result["num_words"] / median(result["seconds"][BFLOAT16])
            result["words_per_second"][BFLOAT16] = half
            extra = f" (bfloat16 {half:.0f}, {half / base:.2f}x)"
        print(
            f"| {kind} | {result['multiply_adds'] / 1e6:.2f} | {limit:.0f} | {base:.0f} | {ours:.0f}{extra} | "
            f"{ours / base:.2f}x | {result['cpu_speed_up']:.2f}x | {100 * ours / limit:.0f} % |"
        )


def print_profiles(found: Dict[str, Dict[str, Dict[str, float]]]) -> None:
    print("\nWhere the time goes: milliseconds for 1,000 words, one thread\n")
    parts = list(next(iter(next(iter(found.values())).values())))
    print(f"| tagger | way | {' | '.join(parts)} |\n|---|---|{'---|' * len(parts)}")
    for kind, ways in found.items():
        for way, times in ways.items():
            print(f"| {kind} | {way} | {' | '.join(f'{times[part]:.1f}' for part in parts)} |")


def print_memory(found: Dict[str, Any]) -> None:
    print(
        f"\nMemory, unpruned tagger with {found['lm_words']:,} words: the model is {found['model_megabytes']:.0f} MB; "
        f"while tagging the process has {found['tagging_megabytes']:.0f} MB more than before the model was made "
        f"({found['tagging_ratio']:.2f}x), for a sentence of {found['long_line']:,} words "
        f"{found['long_line_megabytes']:.0f} MB ({found['long_line_ratio']:.2f}x)."
    )


def main(arguments: Optional[List[str]] = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--full", action="store_true", help="3,453 sentences, 5 rounds, both outputs, memory")
    parser.add_argument("--quick", action="store_true", help="128 sentences, 1 round")
    parser.add_argument("--sentences", type=int, help="default: 1,000, with --full 3,453, with --quick 128")
    parser.add_argument("--rounds", type=int, help="default: 3, with --full 5, with --quick 1")
    parser.add_argument("--taggers", nargs="+", choices=TAGGERS, default=list(TAGGERS))
    parser.add_argument("--lm-words", type=int, default=33_000, help="the language models' vocabulary")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--autocast", action="store_true", help="measure bfloat16, too")
    parser.add_argument("--memory-words", type=int, help="measure memory with so many words; --full: 400,000")
    parser.add_argument("--skip-processes", action="store_true", help="only what runs in one process")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--seed", type=int, default=13)
    parser.add_argument("--json", help="write settings and results to this file")
    parser.add_argument("--task", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.task:
        run_task(json.loads(options.task))
        return
    options.sentences = options.sentences or (3453 if options.full else 128 if options.quick else 1000)
    options.rounds = options.rounds or (5 if options.full else 1 if options.quick else 3)
    if options.full and options.memory_words is None:
        options.memory_words = 400_000
    import torch
    from allennlp.version import VERSION

    settings = {
        **{name: value for name, value in vars(options).items() if name not in ("json", "task")},
        "python": platform.python_version(),
        "torch": torch.__version__,
        "allennlp": VERSION,
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability() if hasattr(torch.backends, "cpu") else "",
    }
    print(json.dumps(settings))
    report: Dict[str, Any] = {"settings": settings}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        kinds = [*options.taggers, *([UPSTREAM] if "vanilla" in options.taggers else [])]
        task = {
            "folder": name,
            "sentences": options.sentences,
            "seed": options.seed,
            "lm_words": options.lm_words,
        }
        setting = in_process({"what": "prepare_task", "kinds": kinds, **task}, options.threads)
        report["text"] = {key: value for key, value in setting.items() if key not in ("archives", "text")}
        print(json.dumps(report["text"]))
        if not options.skip_processes:
            report["predict"] = measure_processes(setting, options, folder)
            print_processes(report["predict"], setting)
        common = {**task, "setting": setting, "rounds": options.rounds, "device": options.device}
        common["autocast"] = options.autocast
        report["network"] = {
            kind: in_process({"what": "network_task", "kind": kind, **common}, options.threads)
            for kind in options.taggers
        }
        print_networks(report["network"])
        report["profile"] = {
            kind: in_process({"what": "profile_task", "kind": kind, **common}, 1) for kind in options.taggers
        }
        print_profiles(report["profile"])
        if options.memory_words:
            memory = {**task, "what": "memory_task", "lm_words": options.memory_words}
            report["memory"] = in_process(memory, options.threads)
            print_memory(report["memory"])
    if options.json:
        Path(options.json).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
