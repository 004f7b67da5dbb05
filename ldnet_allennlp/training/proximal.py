"""Optimizer that keeps layer gates within [0, 1]."""

import re
from collections.abc import Callable
from typing import Any, Optional

import torch
from allennlp.common import Lazy
from allennlp.common.checks import ConfigurationError
from allennlp.training.optimizers import Optimizer
from overrides import overrides

_MOMENTA = ("momentum_buffer", "exp_avg")


@Optimizer.register("proximal")
class ProximalOptimizer(Optimizer):
    """
    Wraps any registered optimizer; after each of its steps the gates of layer selection are clamped to
    [0, 1] (the proximal step of LD-Net, section 3.3).

    The clamp is part of `step`, which AllenNLP's trainer calls once per accumulated group of batches, before the moving
    average and the checkpoint, and which a gradient scaler skips when gradients overflow. All processes of a
    distributed run clamp the same values.

    As in the original, the wrapped optimizer's momentum of a gate does not change: a gate that reached 0 with momentum
    stays there until its gradient has pointed up for a while (with a momentum of 0.9, about ten steps), so noise does
    not reopen it. With `reset_momentum` it can reopen in the next step.

    Registered as an `Optimizer` with name "proximal".

    # Parameters

    model_parameters : `List[Tuple[str, torch.nn.Parameter]]`
        Set by the trainer.
    optimizer : `Lazy[Optimizer]`
        The wrapped optimizer, for example `{"type": "sgd", "lr": 0.1, "momentum": 0.9}`.
    parameter_groups : `List[Tuple[List[str], Dict[str, Any]]]`, optional
        Passed to `optimizer`.
    gates : `str`, optional (default = `"(^|\\.)gates$"`)
        A regular expression for the names of the gates.
    zeros_stay : `bool`, optional (default = `False`)
        Whether a gate at 0 stays at 0. In the published method, it can reopen. With Adam, whose steps have the same
        size for any gradient, gates reopen again and again, and the number of layers does not converge.
    reset_momentum : `bool`, optional (default = `False`)
        Whether clamping resets a gate's momentum (`momentum_buffer` of SGD, `exp_avg` of Adam).

    Raises `ConfigurationError` if no parameter matches `gates`.
    """

    def __init__(
        self,
        model_parameters: list[tuple[str, torch.nn.Parameter]],
        optimizer: Lazy[Optimizer],
        parameter_groups: Optional[list[tuple[list[str], dict[str, Any]]]] = None,
        gates: str = r"(^|\.)gates$",
        zeros_stay: bool = False,
        reset_momentum: bool = False,
    ) -> None:
        self._zeros_stay = zeros_stay
        self._reset_momentum = reset_momentum
        self._gates = [parameter for name, parameter in model_parameters if re.search(gates, name)]
        if not self._gates:
            raise ConfigurationError(
                f"The proximal optimizer found no trainable parameter whose name matches '{gates}'. Layer selection "
                f"needs trained gates: give the ldnet token embedder a lambda_0, or use the wrapped optimizer directly."
            )
        groups: dict[str, Any] = {"parameter_groups": parameter_groups} if parameter_groups else {}
        self.optimizer = optimizer.construct(model_parameters=model_parameters, **groups)
        super().__init__(self.optimizer.param_groups, self.optimizer.defaults)
        self._share()

    def _share(self) -> None:
        # Schedulers change learning rates in `param_groups`, so both optimizers share them.
        self.param_groups = self.optimizer.param_groups
        self.state = self.optimizer.state

    @torch.no_grad()
    @overrides(check_signature=False)  # torch's own signature differs from version to version
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Make the wrapped optimizer's step, then clamp the gates."""
        were_zero = [gates == 0.0 for gates in self._gates] if self._zeros_stay else []
        # Some of AllenNLP's own optimizers take no closure.
        loss = self.optimizer.step() if closure is None else self.optimizer.step(closure)
        for gates in self._gates:
            if self._reset_momentum:
                state = self.optimizer.state.get(gates, {})
                for momentum in (state.get(name) for name in _MOMENTA):
                    if momentum is not None:
                        momentum.masked_fill_((gates < 0.0) | (gates > 1.0), 0.0)
            gates.clamp_(0.0, 1.0)
        for gates, were in zip(self._gates, were_zero):
            gates.masked_fill_(were, 0.0)
        return loss

    @overrides(check_signature=False)
    def zero_grad(self, set_to_none: bool = False) -> None:
        self.optimizer.zero_grad(set_to_none)

    @overrides
    def state_dict(self) -> dict[str, Any]:
        return self.optimizer.state_dict()

    @overrides
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state_dict)
        self._share()
