"""Adam for models whose word vectors have sparse gradients."""

from collections.abc import Callable
from typing import Any, Optional

import torch
from allennlp.common.checks import ConfigurationError
from allennlp.training.optimizers import Optimizer, make_parameter_groups
from overrides import overrides


@Optimizer.register("lazy_adam")
class LazyAdam(Optimizer, torch.optim.Adam):
    """
    Adam (arXiv 1412.6980) for models with large tables of word vectors: for a parameter with sparse gradients, a step
    updates only the rows in the gradient. The moments of other rows stay unchanged until their words occur again
    ("lazy" Adam). Parameters with dense gradients use torch's fused Adam.

    AllenNLP's "dense_sparse_adam" does the same for sparse gradients, without `grad_norm` and `row_moments`, and is
    slower on dense ones.

    Registered as an `Optimizer` with name "lazy_adam".

    # Parameters

    model_parameters : `List[Tuple[str, torch.nn.Parameter]]`
        Set by the trainer.
    parameter_groups : `List[Tuple[List[str], Dict[str, Any]]]`, optional
        As in AllenNLP's optimizers.
    lr, betas, eps : optional (default = `0.001`, `(0.9, 0.999)`, `1e-8`)
        As in `torch.optim.Adam`.
    grad_norm : `float`, optional
        The maximum norm of all gradients together. The trainer's option of the same name does not support sparse
        gradients.
    row_moments : `bool`, optional (default = `False`)
        Whether parameters with sparse gradients have one second moment per row, of the mean square of the row's
        gradient, and no first moment. This saves 2 x 0.95 GB for 793,470 words of size 300. The bias correction of the
        second moment then counts the steps of each row, since no first moment dampens the first steps of rare words.

    Raises `ConfigurationError` if `grad_norm` is not above 0.
    """

    def __init__(
        self,
        model_parameters: list[tuple[str, torch.nn.Parameter]],
        parameter_groups: Optional[list[tuple[list[str], dict[str, Any]]]] = None,
        lr: float = 0.001,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        grad_norm: Optional[float] = None,
        row_moments: bool = False,
    ) -> None:
        if grad_norm is not None and grad_norm <= 0:
            raise ConfigurationError(f"grad_norm of lazy_adam is {grad_norm}; expected more than 0.")
        self.grad_norm = grad_norm
        self.row_moments = row_moments
        arguments: dict[str, Any] = {"params": make_parameter_groups(model_parameters, parameter_groups)}
        arguments.update(lr=lr, betas=betas, eps=eps)
        super().__init__(fused=True, **arguments)
        # A gradient scaler must unscale the gradients, or `grad_norm` would be another norm.
        self._step_supports_amp_scaling = False

    @torch.no_grad()
    @overrides(check_signature=False)  # torch's own signature differs from version to version
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update all parameters that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        sparse = []
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None and parameter.grad.is_sparse:
                    parameter.grad = parameter.grad.coalesce()  # rows that occur twice are summed
                    sparse.append((group, parameter, parameter.grad))
        if self.grad_norm is not None:
            self._clip(self.grad_norm)
        for _, parameter, _ in sparse:
            parameter.grad = None  # torch's Adam skips it
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
        # Like `torch.nn.utils.clip_grad_norm_`, but without reading the norm, which makes a GPU wait.
        factor = (grad_norm / (total + 1e-6)).clamp(max=1.0)
        for gradient in values:
            gradient.mul_(factor.to(gradient.device))

    def _step_rows(
        self, group: dict[str, Any], parameter: torch.Tensor, rows: torch.Tensor, gradient: torch.Tensor
    ) -> None:
        """Adam update of the `rows` (n,) of a parameter with the gradient (n, ...)."""
        beta1, beta2 = group["betas"]
        state = self.state[parameter]
        if not state:
            # torch's Adam expects a tensor with this name when a state is loaded.
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
        """Move the rows of a running average towards `values`, and return them."""
        moved = average.index_select(0, rows).lerp_(values, 1 - beta)
        average.index_copy_(0, rows, moved)
        return moved
