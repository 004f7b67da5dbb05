"""Checks of options in constructors: `ConfigurationError`s that name the option, its owner and its value."""

from collections.abc import Iterable

from allennlp.common.checks import ConfigurationError


def check_at_least(minimum: float, owner: str, **options: float | None) -> None:
    """Options that are `None` pass."""
    for name, value in options.items():
        if value is not None and not value >= minimum:
            raise ConfigurationError(f"{name} of {owner} is {value}; expected {minimum} or more.")


def check_probability(owner: str, **options: float) -> None:
    """Probabilities from 0 to 1."""
    for name, value in options.items():
        if not 0.0 <= value <= 1.0:
            raise ConfigurationError(f"{name} of {owner} is {value}; expected a probability from 0 to 1.")


def check_choice(choices: Iterable[str | None], owner: str, **options: str | None) -> None:
    """Options with a few names as values."""
    for name, value in options.items():
        if value not in choices:
            names = ", ".join(repr(choice) for choice in choices)
            raise ConfigurationError(f"{name} of {owner} is {value!r}; expected one of {names}.")
