"""Plain stack of recurrent layers, and what an "ldnet" token embedder reads of it."""

from collections.abc import Sequence
from typing import Any

import torch
from allennlp.modules import ScalarMix
from allennlp.modules.seq2seq_encoders import Seq2SeqEncoder
from overrides import overrides

from ldnet_allennlp.common.checks import check_at_least
from ldnet_allennlp.modules.rnn.carried_states import CarryingEncoder, lengths_if_needed
from ldnet_allennlp.modules.rnn.initialization import init_rnn_
from ldnet_allennlp.modules.rnn.layers import CELLS, LayerState, run_layer


@Seq2SeqEncoder.register("stacked_rnn")
class StackedRnn(CarryingEncoder):
    """
    Stacked recurrent layers without the dense connections of an `LdRnn`: layer l reads layer l - 1, and the output is
    the top layer (`model_word_ada/basic.py` of the original LD-Net). An ELMo-style mixture reads `all_layers`.

    Registered as a `Seq2SeqEncoder` with name "stacked_rnn".

    # Parameters

    input_size, hidden_size, cell_type, stateful : as in `LdRnn`
    num_layers : `int`
        The number of layers, 1 or more.
    dropout : `float`, optional (default = `0.0`)
        Dropout on the output of every layer, also the last.
    return_all_layers : `bool`, optional (default = `False`)
        Whether `forward` returns `all_layers`. allennlp-models' "language_model_token_embedder" sets it.

    Raises `ConfigurationError` for an unknown cell type, sizes below 1, or a dropout outside [0, 1].
    """

    layers: Sequence[torch.nn.RNNBase]

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        cell_type: str = "lstm",
        dropout: float = 0.0,
        stateful: bool = False,
        return_all_layers: bool = False,
    ) -> None:
        super().__init__(input_size, hidden_size, cell_type, dropout, stateful)
        check_at_least(1, "a stacked_rnn", num_layers=num_layers)
        self.num_layers = num_layers
        self._returns_layers = return_all_layers
        self.layer_counts = [num_layers]
        self.layers = torch.nn.ModuleList(  # type: ignore[assignment]
            CELLS[cell_type](hidden_size if number else input_size, hidden_size, batch_first=True)
            for number in range(num_layers)
        )
        self.dropout = torch.nn.Dropout(dropout)
        for layer in self.layers:
            init_rnn_(layer)

    @overrides
    def get_output_dim(self) -> int:
        return self.hidden_size

    @overrides
    def is_bidirectional(self) -> bool:
        return False

    def describe(self) -> dict[str, Any]:
        """The constructor's arguments, except those for training only."""
        return {
            "type": "stacked_rnn",
            "input_size": self.input_size,
            "hidden_size": self.hidden_size,
            "num_layers": self.num_layers,
            "cell_type": self.cell_type,
        }

    @overrides(check_signature=False)  # torch declares that a forward returns None
    def forward(
        self, inputs: torch.Tensor, mask: torch.BoolTensor | None = None
    ) -> torch.Tensor | list[torch.Tensor]:
        """
        The top layer (B, T, hidden_size) for inputs (B, T, input_size) and a mask (B, T), `True` at real steps, at the
        left of each row; zeros at padded steps. With `return_all_layers` all layers.
        """
        layers = self.all_layers(inputs, mask)
        return layers if self._returns_layers else layers[-1]

    def all_layers(self, inputs: torch.Tensor, mask: torch.BoolTensor | None = None) -> list[torch.Tensor]:
        """Like `forward`, with the outputs of all layers, the lowest first; each of shape (B, T, hidden_size)."""
        inputs, without_padding = self._without_padding(inputs, mask)
        states = self._start(0, inputs.size(0)) if self.stateful else None
        lengths = lengths_if_needed(mask) if self.stateful else None
        outputs: list[torch.Tensor] = []
        final_states: list[LayerState] = []
        for number, layer in enumerate(self.layers):
            start = states[number] if states else None
            output, state = run_layer(layer, outputs[-1] if outputs else inputs, start, lengths)
            outputs.append(self.dropout(output))
            final_states.append(state)
        if self.stateful:
            self._keep(0, final_states)
        return [without_padding(output) for output in outputs]


class StackedLayers(torch.nn.Module):
    """
    The counterpart of `LayerSelection` for a `StackedRnn`: its top layer (`model_seq/seqlm.py` of the original LD-Net),
    or the mixture gamma * sum_l softmax(w)_l h_l of all layers, without the word vector (`model_seq/elmo.py`). It has
    no gates and cannot be pruned.

    The weights w and gamma of a `mixture` are trained, and those of the network unless `freeze_encoder`.
    """

    gates: torch.Tensor

    def __init__(self, encoder: StackedRnn, mixture: bool, freeze_encoder: bool = True) -> None:
        super().__init__()
        self.encoder = encoder
        self.mixture = ScalarMix(encoder.num_layers) if mixture else None
        # For code that reads the gates of all language models together.
        self.register_buffer("gates", torch.zeros(0), persistent=False)
        if freeze_encoder:
            for parameter in encoder.parameters():
                parameter.requires_grad_(False)

    def get_output_dim(self) -> int:
        """The size of a layer."""
        return self.encoder.get_output_dim()

    def kept_layers(self) -> list[list[int]]:
        """The numbers of all layers, like `LayerSelection.kept_layers`."""
        return [list(range(count)) for count in self.encoder.layer_counts]

    def regularizer(self) -> torch.Tensor:
        """
        sum_l (w_l - 1 / L)^2 over the raw weights of the mixture of L layers, as in the original: a scalar,
        0 without a mixture.
        """
        if self.mixture is None:
            return self.gates.sum()
        weights = torch.cat(list(self.mixture.scalar_parameters))  # (L,)
        return (weights - 1.0 / weights.numel()).pow(2).sum()

    @overrides(check_signature=False)  # torch declares that a forward returns None
    def forward(self, inputs: torch.Tensor, mask: torch.BoolTensor | None = None) -> torch.Tensor:
        """The vectors (B, T, hidden size of the encoder) for inputs (B, T, D) and a mask (B, T)."""
        layers = self.encoder.all_layers(inputs, mask)
        return layers[-1] if self.mixture is None else self.mixture(layers)
