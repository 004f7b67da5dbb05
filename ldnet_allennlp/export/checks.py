"""Checks of exportable parts, by exact type: a subclass may compute something else."""

from typing import Any

from allennlp.common.checks import ConfigurationError


class NotExportable(ConfigurationError):
    """A model has a part or a setting without an ONNX equivalent."""


def require(condition: bool, key: str, problem: str) -> None:
    """Raise `NotExportable`, with the message "`key` `problem`", unless the condition holds."""
    if not condition:
        raise NotExportable(f"{key} {problem}.")


def require_type(part: Any, key: str, *types: type) -> None:
    """Raise `NotExportable` unless the class of the part with this config key is one of `types`."""
    if type(part) not in types:
        raise refusal(part, key, types)


def refusal(part: Any, key: str, types: Any) -> NotExportable:
    """The error for a part whose class is not among `types`."""
    base = next((cls for cls in types if isinstance(part, cls)), None)
    subclass = f", a subclass of {base.__name__} that may compute something else" if base else ""
    names = ", ".join(sorted(cls.__name__ for cls in types))
    return NotExportable(
        f"{key} is a {type(part).__name__}{subclass}: it cannot be exported. Exportable are: {names}."
    )
