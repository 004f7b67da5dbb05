"""Shared arguments and error handling of the commands."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager

from allennlp.common.checks import ConfigurationError


@contextmanager
def errors_in_a_line(command: str) -> Iterator[None]:
    """Turn user errors into one line on stderr, without a traceback, and exit status 1."""
    try:
        yield
    except (ConfigurationError, OSError) as error:
        raise SystemExit(f"{command}: {error}") from error


def add_force(parser: argparse.ArgumentParser) -> None:
    """Add `--force`."""
    parser.add_argument("-f", "--force", action="store_true", help="replace the output if it exists")


def add_trust(parser: argparse.ArgumentParser) -> None:
    """Add `--trust`."""
    parser.add_argument(
        "--trust",
        action="store_true",
        help="trust the archives: allow any type in their configs, and any size",
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
