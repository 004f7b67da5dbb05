"""Trains, prunes and compares LD-Net taggers. Called by quickstart.sh, which makes the environment first."""

import argparse
import json
import os
import signal
import sys
import time
import warnings
from pathlib import Path
from typing import Any, Dict, List, Optional

from quickstart.plan import ROOT, SETTINGS, Data, plan, sentences_file
from quickstart.progress import Display, clock
from quickstart.report import report, write_examples
from quickstart.steps import Runner, Step, StepFailed

MARKER = "done"  # the folder by which an output folder of ours is known


class BadArguments(Exception):
    """The message is for the user."""


def parse_arguments(arguments: Optional[List[str]] = None) -> argparse.Namespace:
    """Reads the command line; paths are taken from where the user is."""
    parser = argparse.ArgumentParser(
        prog="quickstart.sh",
        description="Trains language models and taggers, selects layers, prunes, and prints what came out. "
        "Without arguments on text that comes with Python; with arguments on yours.",
    )
    parser.add_argument("--out", default=str(ROOT / "quickstart" / "out"), help="folder for everything made")
    lm = parser.add_argument_group("text for the language models: a sentence a line, plain or gzip")
    lm.add_argument("--lm-train", metavar="FILE")
    lm.add_argument("--lm-valid", metavar="FILE")
    ner = parser.add_argument_group("sentences for the tagger: CoNLL columns, word first, tag last")
    for part in ("train", "dev", "test"):
        ner.add_argument(f"--ner-{part}", metavar="FILE")
    ner.add_argument("--vectors", metavar="FILE", help="word vectors in GloVe layout, plain or gzip")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="GROUP.NAME=VALUE",
        help=f"a setting of the configs; GROUP is one of {', '.join(SETTINGS)}: --set lm.num_epochs=8",
    )
    return parser.parse_args(arguments)


def read_settings(given: List[str]) -> Dict[str, Dict[str, Any]]:
    """
    The quickstart's settings with the user's.

    Raises `BadArguments` for one that has another form than GROUP.NAME=VALUE.
    """
    settings = {group: dict(values) for group, values in SETTINGS.items()}
    for text in given:
        path, equals, value = text.partition("=")
        group, dot, name = path.partition(".")
        if not equals or not dot or group not in settings:
            raise BadArguments(
                f"--set takes GROUP.NAME=VALUE with a GROUP of {', '.join(settings)}, but '{text}' was given."
            )
        try:
            settings[group][name] = json.loads(value)
        except ValueError:
            settings[group][name] = value
    return settings


def find_data(arguments: argparse.Namespace, out: Path) -> Data:
    """
    The user's files where given, else those that the corpus step makes.

    Raises `BadArguments` if a file is not there or belongs to a group that is not complete.
    """
    groups = {"lm": ("train", "valid"), "ner": ("train", "dev", "test")}
    paths: Dict[str, Path] = {}
    for group, parts in groups.items():
        given = {part: getattr(arguments, f"{group}_{part}") for part in parts}
        missing = [f"--{group}-{part}" for part, path in given.items() if path is None]
        if missing and len(missing) < len(parts):
            raise BadArguments(f"{', '.join(missing)} is missing: these files come together.")
        for part, path in given.items():
            suffix = "txt" if group == "lm" else "conll"
            paths[f"{group}_{part}"] = (
                out / "corpus" / group / f"{part}.{suffix}" if path is None else _file(path)
            )
    own_corpus = arguments.lm_train is not None and arguments.ner_train is not None
    vectors = None if arguments.vectors is None else _file(arguments.vectors)
    return Data(own_corpus=own_corpus, vectors=vectors, **paths)


def _file(path: str) -> Path:
    absolute = Path(path).resolve()
    if not absolute.is_file():
        raise BadArguments(f"There is no file '{path}' (looked for {absolute}).")
    return absolute


def check_folder(out: Path) -> None:
    """Raises `BadArguments` if the output folder holds something that is not ours to replace."""
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / MARKER).is_dir())):
        raise BadArguments(f"{out} is there already and was not made by the quickstart. Give another --out.")


def write_commands(steps: List[Step], path: Path) -> None:
    """Writes every command as one would type it in the repository's root."""
    lines = [f"# {step.title}\n{step.shell()}\n" for step in steps]
    path.write_text(
        "\n".join(["# From the repository's root, with .venv/bin on PATH.\n", *lines]), encoding="utf-8"
    )


def main(arguments: Optional[List[str]] = None) -> int:
    """Runs the quickstart; returns the exit status."""
    started = time.monotonic()
    parsed = parse_arguments(arguments)
    out = Path(parsed.out).resolve()
    display = Display()
    try:
        settings = read_settings(parsed.set)
        data = find_data(parsed, out)
        check_folder(out)
        steps = plan(out, data, settings)
        runner = Runner(ROOT, out, display, slots=min(2, os.cpu_count() or 1))
        (out / MARKER).mkdir(parents=True, exist_ok=True)
        write_commands(steps, out / "commands.sh")
        display.say(f"LD-Net from text to tags. Everything goes to {out}.")
        prepare = [step for step in steps if step.name == "corpus"]
        runner.run(prepare)
        write_examples(data.ner_test, sentences_file(out))
        runner.run(
            [
                step._replace(needs=[n for n in step.needs if n != "corpus"])
                for step in steps
                if step not in prepare
            ]
        )
        display.say("  ...  measuring speed")
        lines = report(out, data.ner_test, clock(time.monotonic() - started))
    except (BadArguments, StepFailed) as error:
        print(f"\nerror: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped. The same command goes on with the step that was running.", file=sys.stderr)
        return 130
    (out / "report.txt").write_text("\n".join(lines).lstrip("\n") + "\n", encoding="utf-8")
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stops the commands, too
    sys.exit(main())
