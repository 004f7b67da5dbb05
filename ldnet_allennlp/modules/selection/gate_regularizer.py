"""The penalty of layer selection as a regularizer, for models that do not add it to their loss."""

from typing import Any

import torch
from allennlp.nn.regularizers import Regularizer
from overrides import overrides

from ldnet_allennlp.modules.selection.layer_budget import (
    LayerBudget,
    MaxLayersOption,
    check_lambda_0,
    selection_penalty,
)


@Regularizer.register("layer_selection")
class GateRegularizer(MaxLayersOption, Regularizer):
    """
    Adds the penalty of layer selection (`selection_penalty`) to the loss of any AllenNLP model that takes a
    `regularizer`: `{"regexes": [["gates$", {"type": "layer_selection", "lambda_0": 0.05, "lambda_1": 1}]]}`, with
    `"lambda_0": 0` for the "ldnet" embedder, so that its gates are trained.

    AllenNLP calls it for each parameter, so the budget is that of one language model. Do not use it with
    "ldnet_tagger", which adds the penalty itself.

    Registered as a `Regularizer` with name "layer_selection".

    # Parameters

    lambda_0 : `float`
        The weight of the penalty, at least 0.
    lambda_1 : `int`
        The layer budget of each language model, at least 0. Configs may also call it `max_layers`.

    Raises `ConfigurationError` if one of them is negative.
    """

    def __init__(self, lambda_0: float, lambda_1: int) -> None:
        check_lambda_0(lambda_0)
        LayerBudget(lambda_1)
        self.lambda_0 = lambda_0
        self.lambda_1 = lambda_1

    @overrides(check_signature=False)  # upstream declares no type
    def __call__(self, parameter: torch.Tensor) -> Any:
        """The penalty on gates, shape (number of gates,): a scalar."""
        return selection_penalty(parameter, self.lambda_0, self.lambda_1)
