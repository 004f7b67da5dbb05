"""One direction of a densely connected recurrent network, with layer-wise dropout."""

from collections.abc import Sequence

import torch
from overrides import overrides

from ldnet_allennlp.common.checks import check_probability
from ldnet_allennlp.modules.rnn.initialization import init_rnn_
from ldnet_allennlp.modules.rnn.layers import CELLS, LayerState, reads_columns, run_layer


class LayerDropout(torch.nn.Module):
    """
    Layer-wise dropout: hides the whole output of a layer from the layers above it, in training only.

    One draw, on the CPU to avoid waiting for a GPU, decides for all sentences and steps of the batch. Nothing is
    rescaled: the layers above learn to do without this one, so that it can be pruned later (LD-Net, section 3.2).

    `p` is the probability that the layer is hidden. `few_layers` is the probability of a batch that reads the stack as
    if it were pruned; see `LdRnn`.
    """

    def __init__(self, p: float, few_layers: float = 0.0) -> None:
        super().__init__()
        check_probability("an ld_rnn", layer_dropout=p, few_layers=few_layers)
        self.p = p
        self.few_layers = few_layers

    def is_hidden(self) -> bool:
        """Draw once for one layer; always `False` outside training."""
        return self.training and self.p > 0 and bool(torch.rand((), device="cpu") < self.p)

    def layers_left(self, num_layers: int) -> list[int] | None:
        """Draw the only layers that this batch sees; `None` if it sees all."""
        reads_all = not self.training or num_layers < 2 or not self.few_layers
        if reads_all or torch.rand((), device="cpu") >= self.few_layers:
            return None
        count = int(torch.randint(1, num_layers // 2 + 1, (), device="cpu"))
        return torch.randperm(num_layers, device="cpu")[:count].tolist()

    @overrides
    def extra_repr(self) -> str:
        return f"p={self.p}, few_layers={self.few_layers}"


class DenseRnnStack(torch.nn.Module):
    """
    One direction of an `LdRnn`, with its parameters: layer l reads the input and the outputs of the layers 1 to l-1.
    """

    layers: Sequence[torch.nn.RNNBase]

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        cell_type: str,
        dropout: float,
        layer_dropout: float,
        few_layers: float = 0.0,
    ) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList(  # type: ignore[assignment]
            CELLS[cell_type](input_size + number * hidden_size, hidden_size, batch_first=True)
            for number in range(num_layers)
        )
        self.dropout = torch.nn.Dropout(dropout)
        self.layer_dropout = LayerDropout(layer_dropout, few_layers)
        for layer in self.layers:
            init_rnn_(layer)

    @overrides(check_signature=False)
    def forward(
        self,
        inputs: torch.Tensor,
        gates: torch.Tensor | None = None,
        states: list[LayerState] | None = None,
        lengths: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, list[LayerState]]:
        """
        The outputs (B, T, D + num_layers * hidden_size) for inputs (B, T, D), and the state of each layer after the
        last step. Layer l gives `gates[l]` times its output, to later layers and to the caller. The layers start from
        `states`, zeros by default. With `lengths` (B,), on the CPU, the final states are those of the rows' last real
        steps. Outputs at padded steps are unspecified with and without it.
        """
        # Later layers skip a hidden layer and its weights, instead of reading zeros.
        can_skip = lengths is None and all(map(reads_columns, self.layers))
        outputs = [inputs]
        visible = [inputs]  # the input of later layers
        columns = [torch.arange(inputs.size(-1))]  # which columns of their input weights read it
        final_states = []
        left = None if gates is not None else self.layer_dropout.layers_left(len(self.layers))
        for number, layer in enumerate(self.layers):
            is_complete = len(visible) == len(outputs)
            layer_input = self.dropout(torch.cat(visible, dim=-1))  # (B, T, D + visible layers * H)
            output, state = run_layer(
                layer,
                layer_input,
                start=None if states is None else states[number],
                lengths=lengths,
                columns=None if is_complete else torch.cat(columns).to(inputs.device, non_blocking=True),
            )
            if gates is not None:
                output = output * gates[number]
            first = inputs.size(-1) + number * layer.hidden_size
            is_hidden = self.layer_dropout.is_hidden() if left is None else number not in left
            if is_hidden and left is not None:
                # No backward pass. But distributed training needs a gradient of each parameter, of zero.
                output = output.detach() * 0.0 + sum(weight.sum() * 0.0 for weight in layer.parameters())
            if not (is_hidden and can_skip):
                visible.append(torch.zeros_like(output) if is_hidden else output)
                columns.append(torch.arange(first, first + layer.hidden_size))
            outputs.append(output)
            final_states.append(state)
        return torch.cat(outputs, dim=-1), final_states
