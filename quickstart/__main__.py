"""Train, prune and compare LD-Net taggers. quickstart.sh prepares the environment and calls this."""

import argparse
import json
import re
import signal
import sys
import time
from pathlib import Path
from typing import Any

from quickstart.report import MODELS, archive, first_tags, report
from quickstart.steps import Runner, Step, StepFailed, allennlp, clock

ROOT = Path(__file__).resolve().parent.parent
CORPUS = {
    "ner_train": "train.conll",
    "ner_dev": "dev.conll",
    "ner_test": "test.conll",
}
LM_TEXTS = ("lm_train", "lm_valid")
ENGLISH = ROOT / "models" / "english"
TAGGER = ENGLISH / "ner.onnx"
# The configs' defaults are the published sizes; these train in minutes on two cores.
SETTINGS: dict[str, dict[str, Any]] = {
    "lm": {
        "num_layers": 5,
        "embedding_dim": 64,
        "hidden_size": 64,
        "projection_dim": 128,
        "layer_dropout": 0.2,
        "cutoffs": [1000, 4000],
        "batch_size": 32,
        "learning_rate": 0.003,
        "num_epochs": 4,
    },
    "ner": {
        "word_dim": 50,
        "char_hidden": 50,
        "word_hidden": 80,
        "lm_dropout": 0.0,
        "batch_size": 16,
        "optimizer": "adam",
        "learning_rate": 0.005,
        "num_epochs": 8,
    },
    # The budget falls from all layers to three in two epochs; two more repair what the removal breaks.
    "select": {
        "num_epochs": 4,
        "lambda_1": 3,
        "exact_budget": True,
        "learning_rate": 0.002,
        "gate_learning_rate": 0.03,
        "batch_size": 32,
    },
}


def recipe(out: Path, data: dict[str, Path], settings: dict[str, dict[str, Any]]) -> list[list[Step]]:
    """The commands, in stages; the commands of a stage run in parallel."""
    ner: dict[str, Any] = {part: str(data[f"ner_{part}"]) for part in ("train", "dev", "test")}
    ner.update(settings["ner"], vectors=str(data["vectors"]) if "vectors" in data else None)
    pretraining = "lm_train" in data
    language_models = {
        f"lm_{way}": archive(out, f"lm_{way}") if pretraining else ENGLISH / f"{way}.tar.gz"
        for way in ("forward", "backward")
    }
    # The gated tagger has the tagger's sizes.
    select = {**ner, **settings["select"], "tagger": str(out / "ner")}
    ner_files = [data[name] for name in data if name not in LM_TEXTS]
    gated, pruned, test = archive(out, "ner_select"), archive(out, "pruned"), data["ner_test"]

    def train(name: str, settings: dict[str, Any], *inputs: Path) -> Step:
        config = f"training_config/{name}.jsonnet"
        command = allennlp("train", config, "-s", out / name, "--force", "--file-friendly-logging")
        return Step(name, command, archive(out, name), list(inputs), settings)

    def tag(model: str) -> Step:
        source, output = archive(out, model), out / f"{model}.jsonl"
        options = ["--use-dataset-reader", "--silent", "--output-file", output]
        return Step(f"tag_{model}", allennlp("predict", source, test, *options), output, [source, test])

    evaluate = allennlp("evaluate", pruned, test, "--output-file", out / "evaluation.json")
    archives = [archive(out, model) for model in MODELS]
    report = ["--text", test, "--text-format", "conll", "--threads", 1, "--json", out / "report.json"]
    stages = []
    if pretraining:
        texts = [data[name] for name in LM_TEXTS]
        lm = {"train": str(texts[0]), "valid": str(texts[1]), **settings["lm"]}
        stages = [[train(name, lm, *texts) for name in language_models]]
    with_lm = {
        **ner,
        **{name: str(path) for name, path in language_models.items()},
        "cache": str(out / "cache"),
    }
    return [
        *stages,
        [train("ner", with_lm, *ner_files, *language_models.values()), train("ner_vanilla", ner, *ner_files)],
        [train("ner_select", select, *ner_files, archive(out, "ner"))],
        [Step("pruned", allennlp("ldnet-prune", gated, pruned), pruned, [gated])],
        [Step("evaluate", evaluate, out / "evaluation.json", [pruned, test]), tag("ner_select"), tag("pruned")],
        [Step("report", allennlp("ldnet-report", *archives, *report), out / "report.json", [*archives, test])],
    ]  # fmt: skip


def first_stages(out: Path, data: dict[str, Path]) -> list[list[Step]]:
    """Tag text with the English tagger, and build the corpus of Python's own text: steps that take seconds."""
    text, about, output = data["ner_test"], out / "corpus" / "ABOUT.txt", out / "english.txt"
    first = []
    if about.parent in text.parents:  # not the user's data
        corpus = [sys.executable, "-m", "quickstart.corpus", str(about.parent)]
        sources = [ROOT / "quickstart" / name for name in ("corpus.py", "prose.py")]
        first = [Step("corpus", corpus, about, [*sources, Path(sys.executable)])]
        text = ROOT / "fixtures" / "text" / "article.txt"
    tag = [
        sys.executable,
        "-m",
        "ldnet_runtime",
        str(TAGGER),
        str(text),
        "--output",
        "inline",
        "-o",
        str(output),
    ]
    return [[*first, Step("tag_english", tag, output, [TAGGER, text])]]


def existing_file(text: str) -> Path:
    """Argument type: a file."""
    path = Path(text).resolve()
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"there is no file '{text}' ({path})")
    return path


def output_folder(text: str) -> Path:
    """Argument type: a folder of the quickstart, or a new one."""
    out = Path(text).resolve()
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / "done").is_dir())):
        raise argparse.ArgumentTypeError(f"{out} exists and was not made by the quickstart")
    return out


def setting(text: str) -> tuple[str, str, Any]:
    """Argument type: GROUP.NAME=VALUE; a value that is not JSON is a string."""
    match = re.fullmatch(r"(\w+)\.(\w+)=(.*)", text, re.DOTALL)
    if match is None or match[1] not in SETTINGS:
        raise argparse.ArgumentTypeError(
            f"expected GROUP.NAME=VALUE with a GROUP of {', '.join(SETTINGS)}, not '{text}'"
        )
    try:
        return match[1], match[2], json.loads(match[3])
    except ValueError:
        return match[1], match[2], match[3]


def parse_arguments(
    arguments: list[str] | None = None,
) -> tuple[Path, dict[str, Path], dict[str, dict[str, Any]]]:
    """The output folder, the data files (from Python's text, unless the user names some) and the settings."""
    parser = argparse.ArgumentParser(
        prog="quickstart.sh",
        description="Trains taggers with and without language models, selects layers, prunes, and prints a table of "
        "results. Without arguments it uses text that comes with Python, and the English language models of models/.",
    )
    parser.add_argument(
        "--out", type=output_folder, default=str(ROOT / "quickstart" / "out"), help="output folder"
    )
    lm = parser.add_argument_group(
        "text to pre-train language models on, instead of the English ones: one sentence per line, plain or compressed"
    )
    ner = parser.add_argument_group("sentences for the tagger: CoNLL columns, word first, tag last")
    for name in (*LM_TEXTS, *CORPUS):
        group = lm if name.startswith("lm_") else ner
        group.add_argument(f"--{name.replace('_', '-')}", metavar="FILE", type=existing_file)
    ner.add_argument(
        "--vectors", metavar="FILE", type=existing_file, help="word vectors in GloVe layout, plain or gzip"
    )
    parser.add_argument(
        "--set",
        action="append",
        type=setting,
        default=[],
        metavar="GROUP.NAME=VALUE",
        help=f"a setting of the configs; GROUP is one of {', '.join(SETTINGS)}: --set lm.num_epochs=8",
    )
    options = parser.parse_args(arguments)
    options_of_files = (*LM_TEXTS, *CORPUS, "vectors")
    files = {name: path for name in options_of_files if (path := getattr(options, name)) is not None}
    for names in (LM_TEXTS, tuple(CORPUS)):
        missing = [name for name in names if name not in files]
        if 0 < len(missing) < len(names):
            flags = ", ".join(f"--{name.replace('_', '-')}" for name in missing)
            parser.error(f"{flags} is missing: these files come together")
    data = {name: options.out / "corpus" / path for name, path in CORPUS.items()} | files
    settings = {group: dict(values) for group, values in SETTINGS.items()}
    for part, name, value in options.set:
        settings[part][name] = value
    return options.out, data, settings


def main(arguments: list[str] | None = None) -> int:
    """Run the quickstart; returns the exit status."""
    started = time.monotonic()
    out, data, settings = parse_arguments(arguments)
    first, stages = first_stages(out, data), recipe(out, data, settings)
    print(f"LD-Net from text to tags. Results and logs go to {out}.", flush=True)
    (out / "done").mkdir(parents=True, exist_ok=True)
    commands = [step.shell() for stage in [*first, *stages] for step in stage]
    head = "# Run in the repository's root, with .venv/bin on PATH."
    (out / "commands.sh").write_text("\n\n".join([head, *commands]) + "\n", encoding="utf-8")
    try:
        runner = Runner(ROOT, out)
        for stage in first:
            runner.run(stage)
        print(*first_tags(out), sep="\n", flush=True)
        for stage in stages:
            runner.run(stage)
    except StepFailed as error:
        print(f"\nerror: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped. The same command continues with the steps that were running.", file=sys.stderr)
        return 130
    lines = [*report(out), f"Done in {clock(time.monotonic() - started)}."]
    (out / "report.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("", *lines, sep="\n")
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stops the commands, too
    sys.exit(main())
