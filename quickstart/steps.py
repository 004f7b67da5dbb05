"""Run commands in parallel, with one log each, and skip those with unchanged inputs."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple


class Step(NamedTuple):
    """One command, its output and the files that the output depends on."""

    name: str
    command: list[str]
    output: Path
    """The file or folder that the command makes. A former one is removed first."""
    inputs: list[Path]
    settings: dict[str, Any] | None = None
    """The config's settings, for the environment variable LDNET_SETTINGS."""

    def shell(self) -> str:
        """The command line."""
        words = shlex.join([os.path.basename(self.command[0]), *self.command[1:]])
        if self.settings is None:
            return words
        return f"LDNET_SETTINGS={shlex.quote(json.dumps(self.settings))} {words}"

    def fingerprint(self) -> str:
        """Changes with the command, its settings and its input files."""
        inputs = [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in self.inputs]
        return json.dumps([self.shell(), inputs])


class StepFailed(Exception):
    """A command failed; the message is for the user."""


class Runner:
    """Runs steps in `root`; logs and fingerprints of finished steps go to `out/logs` and `out/done`."""

    def __init__(self, root: Path, out: Path) -> None:
        self.root, self.logs, self.done = root, out / "logs", out / "done"

    def run(self, steps: Sequence[Step]) -> None:
        """Run steps side by side. Raises `StepFailed` if one fails, after stopping the others."""
        for folder in (self.logs, self.done):
            folder.mkdir(parents=True, exist_ok=True)
        waiting = [step for step in steps if not self._is_done(step)]
        started = time.monotonic()
        running: list[tuple[Step, subprocess.Popen[bytes]]] = []
        try:
            for step in waiting:
                running.append((step, self._start(step)))
            while running:
                time.sleep(0.2)
                for step, process in [pair for pair in running if pair[1].poll() is not None]:
                    running.remove((step, process))
                    self._check(step, process.returncode)
                    say("done", step.name, clock(time.monotonic() - started))
        finally:
            for _, process in running:
                process.terminate()
                process.wait()

    def _is_done(self, step: Step) -> bool:
        stamp = self.done / step.name
        kept = step.output.exists() and stamp.exists() and stamp.read_text("utf-8") == step.fingerprint()
        if kept:
            say("kept", step.name)
        return kept

    def _start(self, step: Step) -> "subprocess.Popen[bytes]":
        say("...", step.name)
        (self.done / step.name).unlink(missing_ok=True)
        if step.output.is_dir():
            shutil.rmtree(step.output)
        step.output.unlink(missing_ok=True)
        environment = {
            "OMP_NUM_THREADS": "1",  # networks this small gain little from more, and lose much on a busy machine
            "PYTHONWARNINGS": "ignore",  # AllenNLP's dependencies warn about each other
            "HF_HUB_OFFLINE": "1",
            **os.environ,
            "LDNET_SETTINGS": json.dumps(step.settings or {}),
        }
        with open(self.logs / f"{step.name}.log", "w", encoding="utf-8") as log:
            print(f"$ {step.shell()}", file=log, flush=True)
            return subprocess.Popen(
                step.command, cwd=self.root, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def _check(self, step: Step, status: int) -> None:
        """Mark a step as finished. Raises `StepFailed` with the end of its log."""
        if status != 0 or not step.output.exists():
            log = self.logs / f"{step.name}.log"
            lines = [line for line in log.read_text("utf-8", errors="replace").splitlines() if line.strip()]
            ended = f"ended with status {status}" if status else f"succeeded but did not write {step.output}"
            raise StepFailed(
                "\n    ".join([f"'{step.name}' {ended}. The end of its log, {log}:", *lines[-8:]])
                + "\nThe same command continues here once the cause is fixed."
            )
        (self.done / step.name).write_text(step.fingerprint(), encoding="utf-8")


def say(mark: str, name: str, text: str = "") -> None:
    """Print a line about a step."""
    print(f"{mark:>5}  {name:<18} {text}".rstrip(), flush=True)


def clock(seconds: float) -> str:
    """`1:05` for 65 seconds."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def allennlp(*arguments: object) -> list[str]:
    """An `allennlp` command of the running environment."""
    return [str(Path(sys.executable).parent / "allennlp"), *map(str, arguments)]
