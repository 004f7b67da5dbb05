"""Implementation of `ldnet-tag`: any number of inputs in any format, one output or one per input."""

import argparse
import contextlib
import os
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ldnet_runtime.errors import InputError
from ldnet_runtime.formats import LAYOUT, Writer, read_items
from ldnet_runtime.formats.files import STANDARD, expand, refuse_to_replace, written_beside
from ldnet_runtime.formats.words import Words
from ldnet_runtime.formats.writing import encodable, text_of
from ldnet_runtime.model_file import read_model_file
from ldnet_runtime.prediction import Options
from ldnet_runtime.tagger import Tagger, decoder_of

_SUFFIXES = {
    **{"json": ".jsonl", "inline": ".txt", "conll": ".conll", "html": ".html", "standoff": ".ann"},
    **{"doccano": ".jsonl", "label_studio": ".json"},
}


def describe(path: str) -> str:
    """The description of a model file, as text."""
    description = read_model_file(path).description
    types = decoder_of(description).span_types
    entries = {
        **({"types": ", ".join(types)} if types else {}),
        "labels": f"{len(description.labels)} ({description.label_encoding or 'no spans'})",
        "decoder": description.decoder,
        "tokenizer": f"{description.mode}, {description.language}",
        **{f"vocabulary {name}": str(len(tokens)) for name, tokens in description.vocabularies.items()},
        **description.provenance,
    }
    return "\n".join(f"{_printable(name)}: {_printable(value)}" for name, value in entries.items())


def _printable(text: str) -> str:
    return text if text.isprintable() else repr(text)[:200]


def run(options: argparse.Namespace) -> None:
    """Tag all inputs."""
    paths = expand(options.inputs)
    tagger = Tagger(options.model, options.threads, options.tokens_per_batch)
    if tagger.description.label_encoding is None:
        if options.tag_encoding is not None:
            raise InputError("--tag-encoding requires a label encoding, but this tagger has none.")
        if options.output not in ("json", "conll"):
            raise InputError(
                f"--output {options.output} shows spans, but this tagger has none; use json or conll."
            )
    job = _Job(tagger, options, several=len(paths) > 1)
    to_folder = options.output == "standoff" or (
        options.output_file is not None
        and (os.path.isdir(options.output_file) or options.output_file.endswith(os.sep))
    )
    if to_folder:
        _tag_into_folder(job, paths, options)
    else:
        refuse_to_replace([options.model, *paths], [options.output_file or STANDARD])
        job.tag(paths, options.output_file or STANDARD)


class _Job:
    """A run of the command."""

    def __init__(self, tagger: Tagger, options: argparse.Namespace, several: bool) -> None:
        self._tagger = tagger
        self._options = options
        self._several = several
        self._wanted = Options(options.n_best, options.marginals, not options.no_confidences)
        self._progress = _Progress(shown=not options.quiet and sys.stderr is not None and sys.stderr.isatty())

    def tag(self, paths: list[str], target: str, texts: str | None = None) -> None:
        """Tag files and write the results to another one; `texts` receives the text of standoff annotations."""
        title = Path(paths[0]).name if len(paths) == 1 and paths[0] != STANDARD else "Entities"
        writer = Writer(self._options.output, self._tagger.span_types, self._options.tag_encoding, title)
        with contextlib.ExitStack() as stack:
            stack.callback(self._progress.finish)
            file = stack.enter_context(written_beside(target))
            text_file = None if texts is None else stack.enter_context(written_beside(texts))
            file.write(writer.start().encode())
            for output in self._outputs(paths):
                file.write(writer.write(output).encode())
                if text_file is not None:
                    text_file.write(encodable(text_of(output) + "\n").encode())
            file.write(writer.end().encode())

    def _outputs(self, paths: list[str]) -> Iterator[dict[str, Any]]:
        waiting: deque[dict[str, Any]] = deque()

        def inputs() -> Iterator[Words]:
            for path in paths:
                yield from self._words(path, waiting)

        wanted = self._wanted
        predictions = self._tagger.tag_many(
            inputs(), wanted.n_best, wanted.marginals, wanted.confidences, self._options.window
        )
        for prediction in predictions:
            self._progress.add(len(prediction.words))
            yield {**waiting.popleft(), **prediction.to_json(wanted)}

    def _words(self, path: str, waiting: deque[dict[str, Any]]) -> Iterator[Words]:
        """The inputs of a file; their other columns are added to `waiting`."""
        name = "standard input" if path == STANDARD else path
        if path == STANDARD and sys.stdin is None:
            raise InputError("standard input is closed.")
        with contextlib.ExitStack() as stack:
            file = sys.stdin.buffer if path == STANDARD else stack.enter_context(open(path, "rb"))
            for item in read_items(file, name, self._options.input):
                try:
                    words = self._tagger.split(item.value)
                except InputError as error:
                    raise InputError(f"{name}, {item.place}: {error}") from error
                beside: dict[str, Any] = {"file": path} if self._several else {}
                if isinstance(item.value, dict):
                    beside.update({key: item.value[key] for key in LAYOUT if key in item.value})
                waiting.append(beside)
                yield words


def _tag_into_folder(job: _Job, paths: list[str], options: argparse.Namespace) -> None:
    if options.output_file is None:
        raise InputError("the output 'standoff' writes two files for each input; name a folder with -o.")
    folder = Path(options.output_file)
    folder.mkdir(parents=True, exist_ok=True)
    suffix, is_standoff = _SUFFIXES[options.output], options.output == "standoff"
    targets: dict[Path, str] = {}
    for path in paths:
        target = folder / f"{'input' if path == STANDARD else Path(path).stem}{suffix}"
        if target in targets:
            raise InputError(
                f"{path} and {targets[target]} would both be written to {target}; use two output folders."
            )
        refuse_to_replace(
            [options.model, path],
            [str(target), str(target.with_suffix(".txt"))] if is_standoff else [str(target)],
        )
        targets[target] = path
    for target, path in targets.items():
        job.tag([path], str(target), str(target.with_suffix(".txt")) if is_standoff else None)


class _Progress:
    """Progress line on the terminal: texts, words, words per second."""

    def __init__(self, shown: bool) -> None:
        self._shown = shown
        self._start = self._last = time.monotonic()
        self._texts = self._words = 0

    def add(self, words: int) -> None:
        """Count a text."""
        self._texts += 1
        self._words += words
        if self._shown and time.monotonic() - self._last > 0.2:
            self._last = time.monotonic()
            self._show()

    def finish(self) -> None:
        """Keep the last progress line."""
        if self._shown:
            self._show()
            print(file=sys.stderr)

    def _show(self) -> None:
        speed = self._words / max(time.monotonic() - self._start, 1e-6)
        line = f"{self._texts:,} texts, {self._words:,} words, {speed:,.0f} words/s"
        print(f"\r{line:<60}", end="", file=sys.stderr, flush=True)
