"""Schedule of the penalty and budget of layer selection."""

import math
from collections.abc import Sequence
from typing import Any

import numpy
from allennlp.common.checks import ConfigurationError

SCHEDULED = ("lambda_0", "lambda_1", "max_layers", "max_multiply_adds")

Points = list[tuple[float, float]]


class PenaltySchedule:
    """
    Piecewise linear values of `lambda_0`, `lambda_1` (or `max_layers`, its plain name) and `max_multiply_adds`.

    # Parameters

    points : `Dict[str, List[Tuple[float, float]]]`
        Pairs of epoch, from 0, and value for each option; constant before the first and after the last.

    Raises `ConfigurationError` for any other option, for negative values, and for epochs that do not increase.
    """

    def __init__(self, points: dict[str, Points]) -> None:
        for name, pairs in points.items():
            if name not in SCHEDULED:
                raise ConfigurationError(
                    f"The schedule of a layer_selection callback is for {', '.join(SCHEDULED)}, but '{name}' was found."
                )
            epochs = [epoch for epoch, _ in pairs]
            if not pairs or any(value < 0 for _, value in pairs) or epochs != sorted(set(epochs)):
                raise ConfigurationError(
                    f"The schedule of {name} was expected to be pairs of epoch and value, with rising epochs and "
                    f"values of at least 0, but it is {pairs}."
                )
        self.points = {"lambda_1" if name == "max_layers" else name: pairs for name, pairs in points.items()}

    def check(self, modules: Sequence[Any]) -> None:
        """Raise `ConfigurationError` if the schedule is for another kind of budget than that of gated modules."""
        for module in modules:
            has_layers = module.budget.max_multiply_adds is None
            if "max_multiply_adds" in self.points and has_layers:
                raise ConfigurationError(
                    "The schedule is for max_multiply_adds, but the model's budget is a number of layers (lambda_1)."
                )
            if "lambda_1" in self.points and (not has_layers or isinstance(module.budget.lambda_1, dict)):
                raise ConfigurationError(
                    f"The schedule is for lambda_1, the layers of all directions together, but the model's budget is "
                    f"{module.budget}."
                )

    def apply(self, modules: Sequence[Any], epoch: float) -> None:
        """Set the penalty and budget of gated modules for an epoch."""
        values = {name: _interpolated(pairs, epoch) for name, pairs in self.points.items()}
        for module in modules:
            module.lambda_0 = values.get("lambda_0", module.lambda_0)
            if "lambda_1" in values:
                module.budget = module.budget.with_limit(math.ceil(values["lambda_1"]))
            if "max_multiply_adds" in values:
                module.budget = module.budget.with_limit(max_multiply_adds=values["max_multiply_adds"])


def _interpolated(pairs: Points, epoch: float) -> float:
    epochs, values = zip(*pairs)
    return float(numpy.interp(min(epoch, epochs[-1]), epochs, values))
