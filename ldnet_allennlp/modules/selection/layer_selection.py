"""Gates on the layers of an `ld_rnn`, and pruning of layers with gate 0."""

import copy
from collections.abc import Sequence
from typing import NamedTuple, Optional, Union

import torch
from allennlp.common.checks import ConfigurationError
from allennlp.modules.seq2seq_encoders import Seq2SeqEncoder
from overrides import overrides

from ldnet_allennlp.common.checks import check_at_least
from ldnet_allennlp.modules.rnn.layers import NUM_GATES
from ldnet_allennlp.modules.rnn.ld_rnn import LdRnn
from ldnet_allennlp.modules.selection.layer_budget import (
    GatedStack,
    LayerBudget,
    MaxLayersOption,
)

DIRECTIONS = ("forward", "backward")


class PrunedLayers(NamedTuple):
    """The result of `LayerSelection.prune`."""

    encoder: LdRnn
    """An `ld_rnn` with the kept layers only."""

    gates: torch.Tensor
    """The gates of the kept layers, in the order of the encoder's layers."""

    columns: torch.Tensor
    """The columns of the old output, in order, that the new output (B, T, their number) holds."""


@Seq2SeqEncoder.register("layer_selection")
class LayerSelection(MaxLayersOption, Seq2SeqEncoder):
    """
    An `ld_rnn` with one gate per layer (LD-Net, section 3.3; `model_seq/sparse_lm.py` of the original): layer l gives
    z_l * h_l, both to the later layers and in the output. All gates start at 1.

    Training drives gates to exactly 0 with a penalty (`selection_penalty`) in the loss and the "proximal" optimizer,
    which clamps them to [0, 1] after each step. `prune` then cuts the layers whose gate is 0.

    Registered as a `Seq2SeqEncoder` with name "layer_selection".

    # Parameters

    encoder : `LdRnn`
        The encoder whose layers get gates.
    lambda_0 : `float`, optional (default = `0.0`)
        The weight of the penalty on this encoder's gates, at least 0. Leave it at 0 if a wrapper, such as the "ldnet"
        token embedder, computes the penalty over several encoders.
    lambda_1, max_multiply_adds, over_budget_weight
        The budget, see `LayerBudget`; `max_layers` is another name of `lambda_1` in configs. Multiply-adds are those
        of the layers.
    train_gates : `bool`, optional (default = `True`)
        Whether to train the gates.
    freeze_encoder : `bool`, optional (default = `True`)
        Whether to freeze the encoder's weights. The published method never trains them.
    return_all_layers : `bool`, optional (default = `False`)
        See `LdRnn`. The layers are multiplied by their gates.

    Raises `ConfigurationError` if the encoder is not an `ld_rnn`, and for a budget that is impossible to meet.
    """

    def __init__(
        self,
        encoder: Seq2SeqEncoder,
        lambda_0: float = 0.0,
        lambda_1: Union[int, dict[str, int]] = 0,
        max_multiply_adds: Optional[float] = None,
        over_budget_weight: float = 1.0,
        train_gates: bool = True,
        freeze_encoder: bool = True,
        return_all_layers: bool = False,
    ) -> None:
        super().__init__(stateful=encoder.stateful)
        if not isinstance(encoder, LdRnn):
            raise ConfigurationError(
                f"layer_selection chooses among the layers of an ld_rnn, "
                f"but its encoder is a {type(encoder).__name__}."
            )
        check_at_least(0, "layer selection", lambda_0=lambda_0)
        if return_all_layers:
            encoder.return_all_layers()
        self.encoder = encoder
        self.lambda_0 = lambda_0
        self.budget = LayerBudget(lambda_1, max_multiply_adds, over_budget_weight)
        self.gates = torch.nn.Parameter(torch.ones(sum(encoder.layer_counts)), requires_grad=train_gates)
        if freeze_encoder:
            for parameter in encoder.parameters():
                parameter.requires_grad_(False)
        self.budget.check(self.gated_stacks())

    @overrides
    def get_input_dim(self) -> int:
        return self.encoder.get_input_dim()

    @overrides
    def get_output_dim(self) -> int:
        return self.encoder.get_output_dim()

    @property
    def full_output_dim(self) -> int:
        """See `LdRnn`."""
        return self.encoder.full_output_dim

    @property
    def num_layers(self) -> int:
        """The layers of a direction."""
        return self.encoder.num_layers

    @overrides
    def is_bidirectional(self) -> bool:
        return self.encoder.is_bidirectional()

    @overrides
    def reset_states(self, mask: torch.BoolTensor | None = None) -> None:
        self.encoder.reset_states(mask)

    @overrides(check_signature=False)  # torch declares that a forward returns None
    def forward(
        self, inputs: torch.Tensor, mask: torch.BoolTensor | None = None
    ) -> torch.Tensor | list[torch.Tensor]:
        """Like the encoder, with the gates: inputs (B, T, D) and mask (B, T) give (B, T, output size)."""
        return self.encoder(inputs, mask, self.direction_gates())

    def direction_gates(self) -> list[torch.Tensor]:
        """The gates of each direction, each of shape (layers of that direction,)."""
        return list(self.gates.split(self.encoder.layer_counts))

    def kept_layers(self) -> list[list[int]]:
        """The numbers, from 0, of the layers whose gate is above 0: one list per direction."""
        return [
            [number for number, gate in enumerate(gates.tolist()) if gate > 0]
            for gates in self.direction_gates()
        ]

    def gated_stacks(self, names: Sequence[str] = DIRECTIONS, projection_dim: int = 0) -> list[GatedStack]:
        """Each direction's gates and the cost of its layers, with their columns in a projection of this size."""
        size, gates_of_cell = self.encoder.hidden_size, NUM_GATES[self.encoder.cell_type]
        layer_cost = gates_of_cell * size * (self.encoder.input_size + size) + size * projection_dim
        counts, grad = self.encoder.layer_counts, self.gates.grad
        gradients = [None] * len(counts) if grad is None else grad.split(counts)
        return [
            GatedStack(
                name,
                gates,
                layer_cost=layer_cost,
                pair_cost=gates_of_cell * size * size,
                fixed_cost=self.encoder.input_size * projection_dim,
                gradient=gradient,
            )
            for name, gates, gradient in zip(names, self.direction_gates(), gradients)
        ]

    def penalty(self) -> torch.Tensor:
        """The penalty (see `LayerBudget`) on this encoder's gates. A scalar."""
        return self.budget.penalty(self.gated_stacks(), self.lambda_0)

    def prune(self, keep: list[list[int]] | None = None) -> PrunedLayers:
        """
        A copy, in the same mode (training or evaluation), without the RNNs of the other layers and the columns that
        read them in the input weights of later layers. If their gates are 0, the other layers keep their outputs.
        `keep` are the numbers of layers of each direction; by default `kept_layers()`.
        """
        keep = self.kept_layers() if keep is None else [sorted(layers) for layers in keep]
        description = self.encoder.describe()
        description.pop("type")
        description["num_layers"] = [len(layers) for layers in keep]
        pruned = LdRnn(**description, stateful=self.encoder.stateful)
        like = next(self.encoder.parameters(), self.gates)
        pruned.to(device=like.device, dtype=like.dtype)

        columns, offset = [], 0
        for old, new, layers in zip(self.encoder.stacks, pruned.stacks, keep):
            new.dropout, new.layer_dropout = copy.copy(old.dropout), copy.copy(old.layer_dropout)
            for position, number in enumerate(layers):
                read = self._columns(layers[:position])
                _copy_layer(old.layers[number], new.layers[position], read)
            columns.append(offset + self._columns(layers))
            offset += self.encoder.input_size + len(old.layers) * self.encoder.hidden_size
        gates = [gates[layers] for gates, layers in zip(self.direction_gates(), keep)]
        pruned.train(self.training)
        return PrunedLayers(pruned, torch.cat(gates).detach(), torch.cat(columns))

    def fold_gates(self) -> torch.Tensor:
        """
        Multiply each gate into the input weights of the later layers that read its layer, and make it 1, in place.
        Returns the factors (output size,) that turn the output into the previous one: the gate for each column of a
        layer, 1 for the input's.
        """
        input_size, hidden_size = self.encoder.input_size, self.encoder.hidden_size
        factors = []
        with torch.no_grad():
            for stack, gates in zip(self.encoder.stacks, self.direction_gates()):
                # (D + layers * H,): layer l reads the first D + (l - 1) * H of these columns.
                columns = torch.cat([gates.new_ones(input_size), gates.repeat_interleave(hidden_size)])
                for layer in stack.layers:
                    layer.all_weights[0][0].mul_(columns[: layer.input_size])  # the input weights
                factors.append(columns)
            self.gates.fill_(1.0)
        return torch.cat(factors)

    def _columns(self, layers: list[int]) -> torch.Tensor:
        """The columns of one direction's output that hold the input and these layers."""
        input_size, hidden_size = self.encoder.input_size, self.encoder.hidden_size
        device = self.gates.device
        starts = [input_size + number * hidden_size for number in layers]
        parts = [torch.arange(input_size, device=device)]
        parts += [torch.arange(start, start + hidden_size, device=device) for start in starts]
        return torch.cat(parts)


def _copy_layer(old: torch.nn.RNNBase, new: torch.nn.RNNBase, columns: torch.Tensor) -> None:
    """Copy a layer's parameters, of the input weights only these columns."""
    state = old.state_dict()
    state["weight_ih_l0"] = state["weight_ih_l0"][:, columns]
    new.load_state_dict(state)
    for source, target in zip(old.parameters(), new.parameters()):
        target.requires_grad_(source.requires_grad)
