"""Output of a plain stack for an "ldnet" token embedder: the top layer, or an ELMo-style mixture."""

import torch
from allennlp.modules import ScalarMix
from overrides import overrides

from ldnet_allennlp.modules.rnn.stacked_rnn import StackedRnn


class StackedLayers(torch.nn.Module):
    """
    The counterpart of `LayerSelection` for a `StackedRnn`: its top layer (`model_seq/seqlm.py` of the original LD-Net),
    or the mixture gamma * sum_l softmax(w)_l h_l of all layers, without the word vector (`model_seq/elmo.py`). It has
    no gates and cannot be pruned.

    # Parameters

    encoder : `StackedRnn`
        The network.
    mixture : `bool`
        Whether to mix all layers. The weights w and gamma are trained.
    freeze_encoder : `bool`
        Whether to freeze the network's weights.
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
        """
        # Parameters

        inputs : `torch.Tensor`
            Shape (B, T, input size of the encoder).
        mask : `torch.BoolTensor`, optional
            Shape (B, T).

        # Returns

        `torch.Tensor`
            Shape (B, T, hidden size of the encoder).
        """
        layers = self.encoder.all_layers(inputs, mask)
        return layers[-1] if self.mixture is None else self.mixture(layers)
