"""Adam for models whose word vectors have sparse gradients."""

import inspect
from typing import Any, Callable, Dict, List, Optional, Tuple

import torch
from allennlp.common.checks import ConfigurationError
from allennlp.training.optimizers import Optimizer, make_parameter_groups
from overrides import overrides


@Optimizer.register("lazy_adam")
class LazyAdam(Optimizer, torch.optim.Adam):
    """
    Adam (arXiv 1412.6980) whose step costs what the gradients hold: of a parameter with sparse gradients, such as
    a large table of word vectors, only the rows in the gradient are read and written, and nothing of the size of the
    table is made. The moments of the other rows stay as they are until their words occur again ("lazy" Adam).
    Parameters with dense gradients are `torch.optim.Adam`'s, fused into one pass over memory where torch can.

    AllenNLP's own "dense_sparse_adam" does the same to sparse gradients without `grad_norm` and `row_moments`, and
    is slower on dense ones.

    Registered as an `Optimizer` with name "lazy_adam".

    # Parameters

    model_parameters : `List[Tuple[str, torch.nn.Parameter]]`
        Given by the trainer.
    parameter_groups : `List[Tuple[List[str], Dict[str, Any]]]`, optional
        As for all of AllenNLP's optimizers.
    lr, betas, eps : optional (default = `0.001`, `(0.9, 0.999)`, `1e-8`)
        As in `torch.optim.Adam`.
    grad_norm : `float`, optional
        The norm of all gradients together is scaled down to this. The trainer's option of the same name cannot take
        sparse gradients.
    row_moments : `bool`, optional (default = `False`)
        Whether parameters with sparse gradients have one second moment a row, of the mean square of the row's
        gradient, and no first one. This takes almost no memory (2 x 0.95 GB less for 793,470 words of size 300).
        The second moment's correction for its start at zero then counts the steps of each row, since there is no
        first moment to hold back the first steps of rare words.

    Raises `ConfigurationError` if `grad_norm` is not above 0.
    """

    def __init__(
        self,
        model_parameters: List[Tuple[str, torch.nn.Parameter]],
        parameter_groups: Optional[List[Tuple[List[str], Dict[str, Any]]]] = None,
        lr: float = 0.001,
        betas: Tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        grad_norm: Optional[float] = None,
        row_moments: bool = False,
    ) -> None:
        if grad_norm is not None and grad_norm <= 0:
            raise ConfigurationError(f"grad_norm of lazy_adam is above 0, but it is {grad_norm}.")
        self.grad_norm = grad_norm
        self.row_moments = row_moments
        arguments: Dict[str, Any] = {"params": make_parameter_groups(model_parameters, parameter_groups)}
        arguments.update(lr=lr, betas=betas, eps=eps)
        if "fused" not in inspect.signature(torch.optim.Adam.__init__).parameters:
            super().__init__(**arguments)
            return
        try:
            super().__init__(fused=True, **arguments)
        except RuntimeError:  # not every version of torch has a fused Adam for every device
            super().__init__(**arguments)
        # Otherwise a gradient scaler would leave the gradients scaled, and `grad_norm` would mean something else.
        self._step_supports_amp_scaling = False

    @torch.no_grad()
    @overrides(check_signature=False)  # torch's own signature differs from version to version
    def step(self, closure: Optional[Callable[[], float]] = None) -> Optional[float]:
        """One step for all parameters that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        sparse = []
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None and parameter.grad.is_sparse:
                    parameter.grad = parameter.grad.coalesce()  # a row that occurs twice has one gradient
                    sparse.append((group, parameter, parameter.grad))
        if self.grad_norm is not None:
            self._clip(self.grad_norm)
        for _, parameter, _ in sparse:
            parameter.grad = None  # torch's Adam passes over it
        super().step()
        for group, parameter, gradient in sparse:
            parameter.grad = gradient
            self._step_rows(group, parameter, gradient.indices()[0], gradient.values())
        return loss

    def _clip(self, grad_norm: float) -> None:
        values = [
            parameter.grad.values() if parameter.grad.is_sparse else parameter.grad
            for group in self.param_groups
            for parameter in group["params"]
            if parameter.grad is not None
        ]
        if not values:
            return
        device = values[0].device
        total = torch.stack([gradient.norm().to(device) for gradient in values]).norm()
        # As `torch.nn.utils.clip_grad_norm_`; without asking for the number, which a GPU would have to wait for.
        factor = (grad_norm / (total + 1e-6)).clamp(max=1.0)
        for gradient in values:
            gradient.mul_(factor.to(gradient.device))

    def _step_rows(
        self, group: Dict[str, Any], parameter: torch.Tensor, rows: torch.Tensor, gradient: torch.Tensor
    ) -> None:
        """Adam's step for the `rows` (n,) of a parameter, given their gradient (n, ...)."""
        beta1, beta2 = group["betas"]
        state = self.state[parameter]
        if not state:
            # A tensor, and with this name, since torch's Adam looks for it when a state is loaded.
            state["step"] = torch.tensor(0.0)
            for name in ("row_steps", "exp_avg_sq") if self.row_moments else ("exp_avg", "exp_avg_sq"):
                state[name] = parameter.new_zeros(parameter.shape[: 1 if self.row_moments else None])
        state["step"] += 1
        if self.row_moments:
            row_steps = state["row_steps"].index_select(0, rows) + 1  # (n,)
            state["row_steps"].index_copy_(0, rows, row_steps)
            square = gradient.pow(2).flatten(start_dim=1).mean(dim=1)  # (n,)
            second = self._move_average(state["exp_avg_sq"], rows, square, beta2) / (1 - beta2**row_steps)
            scale = second.sqrt_().add_(group["eps"]).view(-1, *[1] * (gradient.dim() - 1))
            parameter.index_add_(0, rows, gradient / scale, alpha=-group["lr"])
            return
        step = float(state["step"])
        first = self._move_average(state["exp_avg"], rows, gradient, beta1) / (1 - beta1**step)
        second = self._move_average(state["exp_avg_sq"], rows, gradient.pow(2), beta2) / (1 - beta2**step)
        parameter.index_add_(0, rows, first / second.sqrt_().add_(group["eps"]), alpha=-group["lr"])

    @staticmethod
    def _move_average(
        average: torch.Tensor, rows: torch.Tensor, values: torch.Tensor, beta: float
    ) -> torch.Tensor:
        """Moves the rows of a running average towards `values`, and gives them."""
        moved = average.index_select(0, rows).lerp_(values, 1 - beta)
        average.index_copy_(0, rows, moved)
        return moved
