"""Densely connected recurrent network of LD-Net, as an AllenNLP encoder."""

from collections.abc import Sequence
from typing import Any, Union

import torch
from allennlp.common.checks import ConfigurationError
from allennlp.modules.seq2seq_encoders import Seq2SeqEncoder
from overrides import overrides

from ldnet_allennlp.modules.rnn.carried_states import CarryingEncoder, lengths_if_needed
from ldnet_allennlp.modules.rnn.dense_rnn_stack import DenseRnnStack
from ldnet_allennlp.modules.rnn.layers import reverse_sequences


@Seq2SeqEncoder.register("ld_rnn")
class LdRnn(CarryingEncoder):
    """
    The densely connected recurrent network (LD-RNN) of LD-Net (Liu et al., EMNLP 2018, section 3.1-3.2;
    `model_word_ada/ldnet.py` of the original).

    Every layer reads the input and the outputs of all earlier layers. The output contains all of them: `[x_0; h_1; ...;
    h_L]`. Layer-wise dropout hides a layer's output from the later layers at random, so that no layer becomes
    indispensable.

    Registered as a `Seq2SeqEncoder` with name "ld_rnn".

    # Parameters

    input_size : `int`
        The size D of the input vectors.
    hidden_size : `int`
        The size H of each layer, the growth rate. The published language models use 300.
    num_layers : `Union[int, List[int]]`
        The number of layers L, 0 or more. Two numbers, forward and backward, for a bidirectional encoder with
        differently pruned directions. The published language models use 10.
    cell_type : `str`, optional (default = `"lstm"`)
        "lstm", "gru" or "rnn" (tanh).
    dropout : `float`, optional (default = `0.0`)
        Dropout on the input of every layer, with a fresh mask for each.
    layer_dropout : `float`, optional (default = `0.0`)
        The probability that the later layers read zeros in place of a layer's output: one draw per layer and batch, in
        training only, nothing rescaled. The output still holds the real vectors. The published language models use 0.5.
    few_layers : `float`, optional (default = `0.0`)
        The probability of a batch, in training only, that reads no more than half of the layers: a random number of
        them, drawn at random. The others are zeros for the later layers and in the output, as if they had been pruned,
        and there is no layer-wise dropout. So a language model learns to predict with few of its layers. Not in the
        paper.
    bidirectional : `bool`, optional (default = `False`)
        Whether a second, independent stack reads each sentence reversed within its length. The output is then
        `[forward; backward]`, each with a copy of the input, as AllenNLP's language model expects.
    stateful : `bool`, optional (default = `False`)
        Whether each call starts from the (detached) final states of the previous one, to read a text in windows.
        `reset_states` clears them. With `bidirectional`, the two directions read different parts of the text through
        `read_windows`; `forward` then reads whole sentences and carries no states.
    return_all_layers : `bool`, optional (default = `False`)
        Whether `forward` returns the layers one by one, without the input: a list of L tensors of size H (2 H if
        bidirectional). allennlp-models' "language_model_token_embedder" sets it.

    Raises `ConfigurationError` for an unknown cell type, sizes below 1, a probability outside [0, 1], and if all layers
    are to be returned but the directions have different numbers of them, or none.
    """

    stacks: Sequence[DenseRnnStack]

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: Union[int, list[int]],
        cell_type: str = "lstm",
        dropout: float = 0.0,
        layer_dropout: float = 0.0,
        bidirectional: bool = False,
        stateful: bool = False,
        return_all_layers: bool = False,
        few_layers: float = 0.0,
    ) -> None:
        super().__init__(
            input_size, hidden_size, cell_type, dropout, stateful, num_directions=2 if bidirectional else 1
        )
        self.layer_counts = _layer_counts(num_layers, bidirectional)
        self.num_layers = max(self.layer_counts)
        self._bidirectional = bidirectional
        self.stacks = torch.nn.ModuleList(  # type: ignore[assignment]
            DenseRnnStack(input_size, hidden_size, count, cell_type, dropout, layer_dropout, few_layers)
            for count in self.layer_counts
        )
        self._returns_layers = False
        if return_all_layers:
            self.return_all_layers()

    def return_all_layers(self) -> None:
        """Turn the option of this name on."""
        if len(set(self.layer_counts)) > 1 or self.num_layers == 0:
            raise ConfigurationError(
                f"return_all_layers of an ld_rnn pairs the layers of its directions, but num_layers is "
                f"{self.layer_counts}."
            )
        self._returns_layers = True

    @overrides
    def get_output_dim(self) -> int:
        return len(self.stacks) * self.hidden_size if self._returns_layers else self.full_output_dim

    @property
    def full_output_dim(self) -> int:
        """The size of the input and all layers together, in all directions."""
        return sum(self.input_size + count * self.hidden_size for count in self.layer_counts)

    @overrides
    def is_bidirectional(self) -> bool:
        return self._bidirectional

    def describe(self) -> dict[str, Any]:
        """The constructor's arguments, except those for training only."""
        counts = self.layer_counts
        return {
            "type": "ld_rnn",
            "input_size": self.input_size,
            "hidden_size": self.hidden_size,
            "num_layers": counts[0] if len(set(counts)) == 1 else list(counts),
            "cell_type": self.cell_type,
            "bidirectional": self._bidirectional,
        }

    @overrides(check_signature=False)
    def forward(
        self,
        inputs: torch.Tensor,
        mask: torch.BoolTensor | None = None,
        gates: Sequence[torch.Tensor] | None = None,
    ) -> torch.Tensor | list[torch.Tensor]:
        """
        # Parameters

        inputs : `torch.Tensor`
            Shape (B, T, input_size).
        mask : `torch.BoolTensor`, optional
            Shape (B, T), `True` at real steps, at the left of each row.
        gates : `Sequence[torch.Tensor]`, optional
            One tensor per direction, of shape (number of layers in that direction,): multipliers of the layers.

        # Returns

        `Union[torch.Tensor, List[torch.Tensor]]`
            Shape (B, T, get_output_dim()); zeros at padded steps. With `return_all_layers` one tensor per layer.
        """
        direction_gates = gates if gates is not None else [None] * len(self.stacks)
        outputs = [self._read(0, inputs, mask, direction_gates[0], self.stateful and not self._bidirectional)]
        if self._bidirectional:
            outputs.append(self._read(1, inputs, mask, direction_gates[1], False))
        if self._returns_layers:
            layers = [part[..., self.input_size :].split(self.hidden_size, dim=-1) for part in outputs]
            return [torch.cat(directions, dim=-1) for directions in zip(*layers)]
        return torch.cat(outputs, dim=-1)

    def read_windows(
        self,
        forward_inputs: torch.Tensor,
        backward_inputs: torch.Tensor,
        forward_mask: torch.BoolTensor | None = None,
        backward_mask: torch.BoolTensor | None = None,
    ) -> torch.Tensor:
        """
        Read one window (B, T, input_size) of a text per direction of a bidirectional encoder, in the natural order: the
        forward layers come from the start of the text, the backward ones from its end. If `stateful`, each direction
        continues from its last window. The two halves of the output (B, T, get_output_dim()) belong to different
        tokens.
        """
        if not self._bidirectional:
            raise ConfigurationError("Only a bidirectional ld_rnn reads a window for each direction.")
        forward = self._read(0, forward_inputs, forward_mask, None, self.stateful)
        backward = self._read(1, backward_inputs, backward_mask, None, self.stateful)
        return torch.cat([forward, backward], dim=-1)

    def _read(
        self,
        direction: int,
        inputs: torch.Tensor,
        mask: torch.BoolTensor | None,
        gates: torch.Tensor | None,
        carry: bool,
    ) -> torch.Tensor:
        """The layers of one direction (0 forward, 1 backward), in the natural order."""
        inputs, without_padding = self._without_padding(inputs, mask)
        if direction == 1:
            row_lengths = (torch.ones_like(inputs[..., 0]).bool() if mask is None else mask).sum(dim=1)
            inputs = reverse_sequences(inputs, row_lengths)
        if carry:
            start = self._start(direction, inputs.size(0))
            outputs, final = self.stacks[direction](inputs, gates, start, lengths_if_needed(mask))
            self._keep(direction, final)
        else:
            outputs, _ = self.stacks[direction](inputs, gates)
        if direction == 1:
            outputs = reverse_sequences(outputs, row_lengths)
        return without_padding(outputs)


def _layer_counts(num_layers: int | list[int], bidirectional: bool) -> list[int]:
    directions = 2 if bidirectional else 1
    counts = [num_layers] * directions if isinstance(num_layers, int) else list(num_layers)
    if len(counts) != directions or min(counts) < 0:
        raise ConfigurationError(
            f"num_layers of {'a bidirectional' if bidirectional else 'a unidirectional'} ld_rnn is a number "
            f"of at least 0{' or a list of two' if bidirectional else ''}, but {num_layers} was found."
        )
    return counts
