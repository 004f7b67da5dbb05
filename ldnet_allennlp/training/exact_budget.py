"""Layer selection that meets its budget exactly."""

from typing import Any

import torch

from ldnet_allennlp.modules.selection.gated_modules import GatedModule, trained_selections
from ldnet_allennlp.modules.selection.layer_budget import LayerBudget

SMALLEST_GATE = 2**-7


class ExactBudget:
    """
    Keeps the gates of a module at its budget: sets the smallest to 0, and keeps the largest above 0.

    Among gates that a strong loss holds at exactly 1, the gradients decide: those with the strongest upward pull are
    kept.

    # Parameters

    module : `GatedModule`
        The module with the gates. Its own budget changes with the schedule.
    final : `LayerBudget`
        The budget at the end of the schedule. Its largest gates stay at `SMALLEST_GATE` or above.
    """

    def __init__(self, module: GatedModule, final: LayerBudget) -> None:
        stacks = module.gated_stacks()
        self.module = module
        self.final = final
        self._kept = [torch.ones_like(stack.gates, dtype=torch.bool) for stack in stacks]
        self._scores = [torch.zeros_like(stack.gates) for stack in stacks]
        self._protected = final.largest(stacks)

    @torch.no_grad()
    def cut(self) -> None:
        """Set the smallest gates to 0 until the module's budget is met."""
        self._kept = self.module.budget.largest(self.module.gated_stacks(), self._scores)
        self._protected = self.final.largest(self.module.gated_stacks(), self._scores)
        self._hold()
        for scores in self._scores:
            scores.zero_()

    @torch.no_grad()
    def after_step(self) -> None:
        """Correct the gates after an optimizer step: removed gates stay at 0, the largest stay above 0."""
        for scores, gradients in zip(self._scores, self._gradients()):
            scores.sub_(gradients)
        self._hold()
        self._protected = self.final.largest(self.module.gated_stacks(), self._scores)

    def _hold(self) -> None:
        for stack, kept, protected in zip(self.module.gated_stacks(), self._kept, self._protected):
            stack.gates.masked_fill_(~kept, 0.0)
            stack.gates.masked_fill_(protected & (stack.gates < SMALLEST_GATE), SMALLEST_GATE)

    def _gradients(self) -> list[torch.Tensor]:
        """The gradients of the gates of each stack."""
        parts = iter(
            part
            for selection in trained_selections(self.module).values()
            if selection.gates.grad is not None
            for part in selection.gates.grad.split(selection.encoder.layer_counts)
        )
        return [next(parts, scores) if len(scores) else scores for scores in self._scores]

    def state_dict(self) -> dict[str, Any]:
        """The state for a checkpoint, as lists."""
        return {
            "kept": [mask.tolist() for mask in self._kept],
            "scores": [scores.tolist() for scores in self._scores],
            "protected": [mask.tolist() for mask in self._protected],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a `state_dict`."""

        def like(values: list[Any], tensors: list[torch.Tensor]) -> list[torch.Tensor]:
            return [tensor.new_tensor(value) for value, tensor in zip(values, tensors)]

        self._kept = like(state["kept"], self._kept)
        self._scores = like(state["scores"], self._scores)
        self._protected = like(state["protected"], self._protected)
