"""Parse and check the body of a request."""

import json
from typing import Any

from ldnet_runtime.prediction import Options

_OPTIONS = {"n_best": int, "marginals": bool, "confidences": bool, "runner_up": bool}
_INPUT_KEYS = ("text", "sentence", "tokens")
_INPUTS = ({"text", "tokens"}, {"sentence"}, {"inputs"})  # the offsets of tokens refer to the text
_EXPECTED = 'expected {"text": "..."}, {"tokens": [...]} or {"inputs": [...]}'


class RequestError(Exception):
    """A rejected request, with its HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def parse(body: bytes) -> dict[str, Any]:
    """The body of a request. Raises `RequestError` if it is not an object with one input."""
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RequestError(400, f"The body is not JSON: {error}.") from error
    if not isinstance(parsed, dict) or sum(not keys.isdisjoint(parsed) for keys in _INPUTS) != 1:
        raise RequestError(400, f"The body must name exactly one input; {_EXPECTED}.")
    unknown = sorted(set(parsed) - set(_OPTIONS) - {*_INPUT_KEYS, "inputs"})
    if unknown:
        raise RequestError(
            400, f"The body has the unknown keys {', '.join(map(repr, unknown))}; {_EXPECTED}."
        )
    return parsed


def inputs_and_options(parsed: dict[str, Any], max_n_best: int) -> tuple[list[Any], Options, bool]:
    """The inputs, the options, and whether to add the runner-up. Raises `RequestError` for invalid ones."""
    for name, kind in _OPTIONS.items():
        if name in parsed and type(parsed[name]) is not kind:
            raise RequestError(400, f"{name} is {parsed[name]!r}; expected {kind.__name__}.")
    n_best = parsed.get("n_best", 0)
    if not 0 <= n_best <= max_n_best:
        raise RequestError(400, f"n_best is {n_best}; expected 0 to {max_n_best}.")
    options = Options(n_best, parsed.get("marginals", False), parsed.get("confidences", True))
    inputs = parsed["inputs"] if "inputs" in parsed else [_input(parsed)]
    if not isinstance(inputs, list):
        raise RequestError(400, f"inputs is a {type(inputs).__name__}; expected a list.")
    for number, one in enumerate(inputs, 1):
        if isinstance(one, dict) and (misplaced := sorted(_OPTIONS.keys() & one)):
            raise RequestError(
                400, f"input {number} has {', '.join(misplaced)}; options stand beside inputs."
            )
    return inputs, options, parsed.get("runner_up", False)


def _input(parsed: dict[str, Any]) -> dict[str, Any]:
    return {key: parsed[key] for key in _INPUT_KEYS if key in parsed}
