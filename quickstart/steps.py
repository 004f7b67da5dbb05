"""Runs commands that depend on each other: side by side, with logs, and only those whose inputs have changed."""

import hashlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence

from quickstart.progress import Display, Progress


class Step(NamedTuple):
    """
    One command.

    # Parameters

    name : `str`
        Names the log and what is remembered of the step.
    title : `str`
        For the user.
    command : `List[str]`
        What runs, from the repository's root.
    output : `Path`
        The file or folder that it makes. An old one is removed before.
    result : `Path`
        The file that is there when the step is done: `output`, or a file in it.
    inputs : `List[Path]`
        Files that the outcome depends on.
    needs : `List[str]`
        The names of the steps that must be done before.
    settings : `Dict[str, Any]`, optional
        Goes to the config in the environment variable LDNET_SETTINGS.
    summary : `Callable[[], str]`, optional
        Says in a few words what came out.
    """

    name: str
    title: str
    command: List[str]
    output: Path
    result: Path
    inputs: List[Path]
    needs: List[str]
    settings: Optional[Dict[str, Any]] = None
    summary: Callable[[], str] = lambda: ""

    def shell(self) -> str:
        """The command as one would type it."""
        words = " ".join(shlex.quote(word) for word in ["allennlp", *self.command[1:]])
        if os.path.basename(self.command[0]) != "allennlp":
            words = " ".join(shlex.quote(word) for word in self.command)
        if self.settings is None:
            return words
        return f"LDNET_SETTINGS={shlex.quote(json.dumps(self.settings))} {words}"


class StepFailed(Exception):
    """A step's command did not succeed; the message is for the user."""


class Runner:
    """
    Runs steps.

    # Parameters

    root : `Path`
        The repository, where `.allennlp_plugins` is.
    folder : `Path`
        Where logs and what is remembered go: `logs/` and `done/` in it.
    display : `Display`
        Shows how far things are.
    slots : `int`
        How many steps run at a time.
    """

    def __init__(self, root: Path, folder: Path, display: Display, slots: int) -> None:
        self.root = root
        self.logs = folder / "logs"
        self.done = folder / "done"
        self.display = display
        self.slots = slots
        self._processes: Dict[str, subprocess.Popen[bytes]] = {}
        self._failure: Optional[BaseException] = None
        self._digests: Dict[str, str] = {}

    def run(self, steps: Sequence[Step]) -> None:
        """
        Runs all steps, each as soon as those that it needs are done; of those that could, the first in order.

        Raises `StepFailed` if one does not succeed; the others are then stopped.
        """
        for folder in (self.logs, self.done):
            folder.mkdir(parents=True, exist_ok=True)
        waiting = {step.name: step for step in steps}
        finished: Dict[str, bool] = {}
        threads: Dict[str, threading.Thread] = {}
        try:
            while waiting or threads:
                for name in [name for name, thread in threads.items() if not thread.is_alive()]:
                    threads.pop(name).join()
                    finished[name] = True
                if self._failure is not None:
                    raise self._failure
                for step in list(waiting.values()):
                    if len(threads) < self.slots and all(need in finished for need in step.needs):
                        del waiting[step.name]
                        threads[step.name] = threading.Thread(target=self._guarded, args=(step,), daemon=True)
                        threads[step.name].start()
                time.sleep(0.05)
                self.display.refresh()
        finally:
            for process in list(self._processes.values()):
                process.send_signal(signal.SIGTERM)
            for thread in threads.values():
                thread.join(timeout=20)

    def _guarded(self, step: Step) -> None:
        try:
            self._run(step)
        except BaseException as error:
            self._failure = self._failure or error

    def _run(self, step: Step) -> None:
        fingerprint = self._fingerprint(step)
        stamp = self.done / f"{step.name}.json"
        if step.result.exists() and stamp.exists():
            known = json.loads(stamp.read_text(encoding="utf-8"))
            if known == {"fingerprint": fingerprint, "result": self._digest(step.result)}:
                self.display.start(step.title)
                self.display.finish(step.title, "kept", step.summary())
                return
        stamp.unlink(missing_ok=True)
        if step.output.is_dir():
            shutil.rmtree(step.output)
        elif step.output.exists():
            step.output.unlink()
        step.output.parent.mkdir(parents=True, exist_ok=True)

        progress = self.display.start(step.title)
        log = self.logs / f"{step.name}.log"
        status = self._call(step, log, progress)
        if status != 0 or not step.result.exists():
            self.display.finish(step.title, "ERROR" if self._failure is None else "stop", "")
            raise StepFailed(_failure(step, status, log))
        self._digests.pop(str(step.result), None)
        record = {"fingerprint": fingerprint, "result": self._digest(step.result)}
        stamp.write_text(json.dumps(record), encoding="utf-8")
        self.display.finish(step.title, "done", step.summary())

    def _call(self, step: Step, log: Path, progress: Progress) -> int:
        cores = os.cpu_count() or 1
        environment = {
            "OMP_NUM_THREADS": str(max(1, cores // self.slots)),
            # Libraries under AllenNLP warn about each other on import; nothing here may reach for a hub.
            "PYTHONWARNINGS": "ignore",
            "HF_HUB_OFFLINE": "1",
            **os.environ,
        }
        environment.pop("LDNET_SETTINGS", None)
        if step.settings is not None:
            environment["LDNET_SETTINGS"] = json.dumps(step.settings)
        with open(log, "w", encoding="utf-8") as file:
            file.write(f"$ {step.shell()}\n")
            file.flush()
            process = subprocess.Popen(
                step.command,
                cwd=str(self.root),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            self._processes[step.name] = process
            for line in _lines(process):
                progress.read(line)
                if line.endswith(
                    "\n"
                ):  # states of a bar end in a carriage return: they are not worth keeping
                    file.write(line)
                    file.flush()
            status = process.wait()
            del self._processes[step.name]
        return status

    def _fingerprint(self, step: Step) -> str:
        facts = {
            "command": step.command,
            "settings": step.settings,
            "inputs": {str(path): self._digest(path) for path in step.inputs},
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode("utf-8")).hexdigest()

    def _digest(self, path: Path) -> str:
        """What is in a file, in short; each file is read once a run."""
        if str(path) not in self._digests:
            if not path.is_file():
                raise StepFailed(f"{path} is needed, but it is not there.")
            digest = hashlib.sha256()
            with open(path, "rb") as file:
                for piece in iter(lambda: file.read(1 << 20), b""):
                    digest.update(piece)
            self._digests[str(path)] = digest.hexdigest()
        return self._digests[str(path)]


def _lines(process: "subprocess.Popen[bytes]") -> Iterator[str]:
    """The output as it comes, cut after line feeds and after carriage returns."""
    assert process.stdout is not None
    rest = b""
    while True:
        piece = os.read(process.stdout.fileno(), 65536)
        if not piece:
            break
        *lines, rest = (rest + piece).replace(b"\r", b"\r\0").replace(b"\n", b"\n\0").split(b"\0")
        for line in lines:
            yield line.decode("utf-8", "replace")
    if rest:
        yield rest.decode("utf-8", "replace") + "\n"


def _failure(step: Step, status: int, log: Path) -> str:
    with open(log, encoding="utf-8") as file:
        last = [line.rstrip() for line in file if line.strip()][-8:]
    ended = f"ended with status {status}" if status else f"succeeded but did not write {step.result}"
    lines = "\n".join(f"    {line[:300]}" for line in last)
    return (
        f"'{step.title}' {ended}. Its last lines:\n{lines}\nThe whole log: {log}\n"
        f"Once the cause is gone, run the same command again: what is done stays done."
    )
