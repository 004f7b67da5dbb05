"""Train, prune and compare LD-Net taggers. quickstart.sh prepares the environment and calls this."""

import argparse
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

from quickstart.report import MODELS, archive, report
from quickstart.steps import Runner, Step, StepFailed, allennlp, clock

ROOT = Path(__file__).resolve().parent.parent
CORPUS = {
    "lm_train": "lm/train.txt",
    "lm_valid": "lm/valid.txt",
    "ner_train": "ner/train.conll",
    "ner_dev": "ner/dev.conll",
    "ner_test": "ner/test.conll",
}
# The configs' defaults are the published sizes; these train in minutes on two cores.
SETTINGS: dict[str, dict[str, Any]] = {
    "lm": {
        **{
            "num_layers": 5,
            "embedding_dim": 64,
            "hidden_size": 64,
            "projection_dim": 128,
            "layer_dropout": 0.2,
        },
        **{"cutoffs": [1000, 4000], "batch_size": 32, "learning_rate": 0.003, "num_epochs": 4},
    },
    "ner": {"word_dim": 50, "char_hidden": 50, "word_hidden": 80, "num_epochs": 12, "patience": 5},
    # In few steps: a penalty six times the published one, and three layers where the published taggers keep two.
    "select": {"num_epochs": 10, "lambda_0": 0.3, "lambda_1": 3},
}


class BadArguments(Exception):
    """Invalid arguments; the message is for the user."""


def recipe(out: Path, data: dict[str, Path], settings: dict[str, dict[str, Any]]) -> list[list[Step]]:
    """The commands, in stages; the commands of a stage run in parallel."""
    lm = {"train": str(data["lm_train"]), "valid": str(data["lm_valid"]), **settings["lm"]}
    ner: dict[str, Any] = {part: str(data[f"ner_{part}"]) for part in ("train", "dev", "test")}
    ner.update(settings["ner"], vectors=str(data["vectors"]) if "vectors" in data else None)
    with_lm = {name: str(archive(out, name)) for name in ("lm_forward", "lm_backward")}
    # The gated tagger has the tagger's sizes, and epochs and patience of its own.
    select = {name: value for name, value in ner.items() if name not in ("num_epochs", "patience")}
    select.update(settings["select"], tagger=str(out / "ner"))
    lm_files = [data[name] for name in data if name.startswith("lm_")]
    ner_files = [data[name] for name in data if not name.startswith("lm_")]
    gated, pruned, test = archive(out, "ner_select"), archive(out, "pruned"), data["ner_test"]

    def train(name: str, settings: dict[str, Any], *inputs: Path) -> Step:
        config = f"training_config/{name}.jsonnet"
        command = allennlp("train", config, "-s", out / name, "--force", "--file-friendly-logging")
        return Step(name, command, archive(out, name), list(inputs), settings, out / name / "metrics.json")

    def tag(model: str) -> Step:
        source, output = archive(out, model), out / f"{model}.jsonl"
        options = ["--use-dataset-reader", "--silent", "--output-file", output]
        return Step(f"tag_{model}", allennlp("predict", source, test, *options), output, [source, test])

    evaluate = allennlp("evaluate", pruned, test, "--output-file", out / "evaluation.json")
    archives = [archive(out, model) for model in MODELS]
    report = ["--text", test, "--text-format", "conll", "--threads", 1, "--json", out / "report.json"]
    return [
        [train("lm_forward", lm, *lm_files), train("lm_backward", lm, *lm_files)],
        [train("ner", {**ner, **with_lm}, *ner_files, *map(Path, with_lm.values())),
         train("ner_vanilla", ner, *ner_files)],
        [train("ner_select", select, *ner_files, archive(out, "ner"))],
        [Step("pruned", allennlp("ldnet-prune", gated, pruned), pruned, [gated])],
        [Step("evaluate", evaluate, out / "evaluation.json", [pruned, test], None, out / "evaluation.json"),
         tag("ner_select"), tag("pruned")],
        [Step("report", allennlp("ldnet-report", *archives, *report), out / "report.json", [*archives, test])],
    ]  # fmt: skip


def corpus_step(out: Path) -> Step:
    """Build the corpus of Python's own text."""
    about = out / "corpus" / "ABOUT.txt"
    command = [sys.executable, "-m", "quickstart.corpus", str(about.parent)]
    sources = [ROOT / "quickstart" / name for name in ("corpus.py", "prose.py")]
    return Step("corpus", command, about, [*sources, Path(sys.executable)], summary=about)


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="quickstart.sh",
        description="Trains language models and taggers, selects layers, prunes, and prints a table of results. "
        "Without arguments it uses text that comes with Python.",
    )
    parser.add_argument("--out", default=str(ROOT / "quickstart" / "out"), help="output folder")
    lm = parser.add_argument_group("text for the language models: a sentence a line, plain or compressed")
    ner = parser.add_argument_group("sentences for the tagger: CoNLL columns, word first, tag last")
    for name in CORPUS:
        group = lm if name.startswith("lm_") else ner
        group.add_argument(f"--{name.replace('_', '-')}", metavar="FILE")
    ner.add_argument("--vectors", metavar="FILE", help="word vectors in GloVe layout, plain or gzip")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="GROUP.NAME=VALUE",
        help=f"a setting of the configs; GROUP is one of {', '.join(SETTINGS)}: --set lm.num_epochs=8",
    )
    return parser.parse_args(arguments)


def read_settings(assignments: list[str]) -> dict[str, dict[str, Any]]:
    """The quickstart's settings with the user's. Raises `BadArguments` unless each reads GROUP.NAME=VALUE."""
    settings = {group: dict(values) for group, values in SETTINGS.items()}
    for text in assignments:
        path, equals, value = text.partition("=")
        group, dot, name = path.partition(".")
        if not equals or not dot or group not in settings:
            raise BadArguments(
                f"--set expects GROUP.NAME=VALUE with a GROUP of {', '.join(settings)}, not '{text}'."
            )
        try:
            settings[group][name] = json.loads(value)
        except ValueError:
            settings[group][name] = value
    return settings


def find_data(arguments: argparse.Namespace, out: Path) -> dict[str, Path]:
    """
    The user's files, and the corpus files for each group without user files.

    Raises `BadArguments` if a file does not exist or a group is incomplete.
    """
    data = {name: out / "corpus" / path for name, path in CORPUS.items()}
    for group in ("lm_", "ner_"):
        names = [name for name in CORPUS if name.startswith(group)]
        missing = [f"--{name.replace('_', '-')}" for name in names if getattr(arguments, name) is None]
        if missing and len(missing) < len(names):
            raise BadArguments(f"{', '.join(missing)} is missing: these files come together.")
    for name in (*CORPUS, "vectors"):
        path = getattr(arguments, name)
        if path is not None:
            data[name] = Path(path).resolve()
            if not data[name].is_file():
                raise BadArguments(f"There is no file '{path}' ({data[name]}).")
    return data


def check_folder(out: Path) -> None:
    """Raise `BadArguments` if the output folder contains other files."""
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / "done").is_dir())):
        raise BadArguments(f"{out} exists and was not made by the quickstart. Choose another --out.")


def main(arguments: list[str] | None = None) -> int:
    """Run the quickstart; returns the exit status."""
    started = time.monotonic()
    options = parse_arguments(arguments)
    out = Path(options.out).resolve()
    try:
        data, settings = find_data(options, out), read_settings(options.set)
        check_folder(out)
        stages = recipe(out, data, settings)
        if any(out in path.parents for path in data.values()):
            stages.insert(0, [corpus_step(out)])
        print(f"LD-Net from text to tags. Results and logs go to {out}.", flush=True)
        (out / "done").mkdir(parents=True, exist_ok=True)
        commands = [step.shell() for stage in stages for step in stage]
        head = "# Run in the repository's root, with .venv/bin on PATH."
        (out / "commands.sh").write_text("\n\n".join([head, *commands]) + "\n", encoding="utf-8")
        runner = Runner(ROOT, out)
        for stage in stages:
            runner.run(stage)
        lines = [*report(out), f"Done in {clock(time.monotonic() - started)}."]
    except (BadArguments, StepFailed) as error:
        print(f"\nerror: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped. The same command continues with the steps that were running.", file=sys.stderr)
        return 130
    (out / "report.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("", *lines, sep="\n")
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stops the commands, too
    sys.exit(main())
