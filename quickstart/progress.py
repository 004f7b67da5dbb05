"""How far an `allennlp` command is, read from what it prints, and bars for several commands at once."""

import re
import shutil
import sys
import threading
import time
from typing import Dict, Optional, TextIO

_BAR = re.compile(
    r"(?:(?P<text>[^\r\n|]*?)(?: \|\|)?: )? *\d+%\|[^|]*\| *(?P<done>[\d,]+)/(?P<total>[\d,]+) "
)
_COUNT = re.compile(r"(?:^|\W)(?P<done>\d+)it \[")  # a bar of unknown length
_EPOCH = re.compile(r" - Epoch (\d+)/(\d+)\s*$")
_SHOWN = ("perplexity", "f1-measure-overall", "accuracy", "loss")
TRAINING_SHARE = 0.9  # of an epoch's time; the rest is validation


class Progress:
    """
    What is known of one running command.

    # Attributes

    fraction : `float`
        How much is done, from 0 to 1. It never falls.
    note : `str`
        The epoch and a number to watch.
    """

    def __init__(self) -> None:
        self.fraction = 0.0
        self.note = "starting"
        self.started = time.monotonic()
        self._epoch = 0
        self._epochs: Optional[int] = None
        self._validating = False

    def read(self, line: str) -> None:
        """Takes in one line of the command's output, or one state of a bar."""
        epoch = _EPOCH.search(line)
        bar = _BAR.search(line)
        if epoch:
            self._epoch, self._epochs = int(epoch.group(1)), int(epoch.group(2)) + 1
            self._validating = False
            self._advance(0.0, "")
        elif line.rstrip().endswith(" - Validating"):
            self._validating = True
        elif bar:
            total = int(bar.group("total").replace(",", ""))
            self._advance(int(bar.group("done").replace(",", "")) / max(1, total), bar.group("text") or "")
        elif _COUNT.search(line) and self._epochs is None:
            self.note = line.strip().split(": ")[0] if line.strip()[:1].isalpha() else "running"

    def _advance(self, share: float, text: str) -> None:
        if self._epochs is None:  # a command without epochs, or one that still reads its data
            self.note = text.strip().split(": ")[0] or "running"
            return
        within = TRAINING_SHARE + (1 - TRAINING_SHARE) * share if self._validating else TRAINING_SHARE * share
        self.fraction = max(self.fraction, (self._epoch + within) / self._epochs)
        metrics = dict(re.findall(r"([\w-]+): (-?[\d.]+)", text))
        shown = next((f", {name} {metrics[name]}" for name in _SHOWN if name in metrics), "")
        self.note = f"epoch {self._epoch + 1}/{self._epochs}{shown}"


def clock(seconds: float) -> str:
    """`1:05` for 65 seconds."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


class Display:
    """
    One line a command: a bar that moves while it runs, and its result when it is done. Where the output is no
    terminal, only beginnings and ends are told.

    # Parameters

    output : `TextIO`, optional (default = `sys.stdout`)
        Where to write.
    """

    def __init__(self, output: TextIO = sys.stdout) -> None:
        self._output = output
        self._live = output.isatty()
        self._lock = threading.Lock()
        self._running: Dict[str, Progress] = {}
        self._drawn = 0
        self._last_drawn = 0.0

    def say(self, text: str) -> None:
        """Writes a line that stays."""
        with self._lock:
            self._erase()
            print(text, file=self._output)
            self._draw()

    def start(self, title: str) -> Progress:
        """Begins a command's line."""
        if not self._live:
            self.say(f"  ...  {title}")
        with self._lock:
            self._running[title] = Progress()
            return self._running[title]

    def refresh(self) -> None:
        """Draws the bars as they are now, a few times a second at most."""
        with self._lock:
            if self._live and time.monotonic() - self._last_drawn > 0.2:
                self._erase()
                self._draw()

    def finish(self, title: str, mark: str, result: str) -> None:
        """Ends a command's line."""
        with self._lock:
            progress = self._running.pop(title)
        self.say(f"{mark:>5}  {title:<18} {clock(time.monotonic() - progress.started):>6}  {result}".rstrip())

    def _erase(self) -> None:
        if self._drawn:
            self._output.write(f"\x1b[{self._drawn}A\x1b[J")
            self._drawn = 0

    def _draw(self) -> None:
        if self._live:
            width = shutil.get_terminal_size().columns - 1
            for title, progress in self._running.items():
                filled = int(20 * progress.fraction)
                bar = "#" * filled + "-" * (20 - filled)
                elapsed = clock(time.monotonic() - progress.started)
                line = f"{progress.fraction:>5.0%}  {title:<18} {elapsed:>6}  [{bar}] {progress.note}"
                self._output.write(line[:width] + "\n")
            self._drawn = len(self._running)
            self._last_drawn = time.monotonic()
        self._output.flush()
