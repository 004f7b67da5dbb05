"""The base class of the commands, and the arguments that several share."""

import argparse
import inspect
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from allennlp.commands.subcommand import Subcommand
from allennlp.common.checks import ConfigurationError
from overrides import overrides

from ldnet_allennlp.common.archives import without_progress_messages


class Command(Subcommand):
    """A subcommand whose description is its docstring. Errors of the user end it with one line and exit status 1."""

    summary: str
    """The line about the command in `allennlp --help`."""
    is_quiet = True
    """Whether to hide AllenNLP's progress messages."""

    @overrides
    def add_subparser(self, parser: argparse._SubParsersAction) -> argparse.ArgumentParser:
        subparser = parser.add_parser(self.name, description=inspect.getdoc(self), help=self.summary)
        self.add_arguments(subparser)
        subparser.set_defaults(func=self._run_in_a_line)
        return subparser

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the command's arguments."""
        raise NotImplementedError

    def run(self, args: argparse.Namespace) -> None:
        """Run the command."""
        raise NotImplementedError

    def _run_in_a_line(self, args: argparse.Namespace) -> None:
        try:
            with without_progress_messages() if self.is_quiet else nullcontext():
                self.run(args)
        except (ConfigurationError, OSError) as error:
            raise SystemExit(f"{self.name}: {error}") from error


def arguments_of(function: Callable, args: argparse.Namespace) -> dict[str, Any]:
    """The arguments of the command line that are parameters of a function, by name."""
    parameters = inspect.signature(function).parameters
    return {name: value for name, value in vars(args).items() if name in parameters}


def add_force(parser: argparse.ArgumentParser) -> None:
    """Add `--force`."""
    parser.add_argument("-f", "--force", action="store_true", help="replace the output if it exists")


def add_trust(parser: argparse.ArgumentParser) -> None:
    """Add `--trust`."""
    parser.add_argument(
        "--trust", action="store_true", help="trust the archives: allow any registered type and any size"
    )


def add_speed(parser: argparse.ArgumentParser, text: str) -> None:
    """Add `--threads` and `--passes`, the options of the speed measurement on a text."""
    parser.add_argument("--threads", type=positive_int, help="torch threads for the speed measurement")
    parser.add_argument(
        "--passes",
        type=whole_number,
        default=3,
        help=f"passes over the {text}; the median time counts, and 0 measures no speed",
    )


def whole_number(text: str, least: int = 0) -> int:
    """Argument type: an integer of at least `least`."""
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"expected an integer of at least {least}, found '{text}'")
    return int(text)


def positive_int(text: str) -> int:
    """Argument type: an integer of at least 1."""
    return whole_number(text, least=1)


def positive_float(text: str) -> float:
    """Argument type: a finite number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, found '{text}'")
    return number
