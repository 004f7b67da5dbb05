"""One frozen language model inside a tagger: its word vectors and its gated layers."""

from typing import Any, Optional, Union

import torch
from allennlp.common.checks import ConfigurationError
from overrides import overrides

from ldnet_allennlp.data.language_model_archive import PretrainedLanguageModel
from ldnet_allennlp.modules.embedders.word_vectors import WordVectors
from ldnet_allennlp.modules.rnn.dense_rnn_stack import LayerDropout
from ldnet_allennlp.modules.rnn.ld_rnn import LdRnn, reverse_sequences
from ldnet_allennlp.modules.rnn.stacked_rnn import StackedLayers, StackedRnn
from ldnet_allennlp.modules.selection.layer_selection import LayerSelection


class FrozenLanguageModel(torch.nn.Module):
    """
    A frozen language model in a tagger: its word vectors and its gated layers.

    Its `direction` is "forward", "backward" or "bidirectional". It reads the `boundary` token, if it has one, before
    the first word. `requires_grad` trains the language model itself. `layers`, `mixture`, `unpruned_layers` and
    `embedding_dtype` are those of `LanguageModelSource`.

    Raises `ConfigurationError` if `layers` do not match the encoder, and for a `mixture` without a `StackedRnn`.
    """

    selection: Union[LayerSelection, StackedLayers]

    def __init__(
        self,
        direction: str,
        encoder: Union[LdRnn, StackedRnn],
        num_words: int,
        boundary_id: Optional[int],
        boundary: Optional[str],
        layers: Optional[list[list[int]]],
        train_gates: bool,
        requires_grad: bool,
        mixture: bool = False,
        unpruned_layers: Optional[list[int]] = None,
        embedding_dtype: Optional[str] = None,
    ) -> None:
        super().__init__()
        self.direction = direction
        self.boundary_id = boundary_id
        self.boundary = boundary
        self.layers = layers or [list(range(count)) for count in encoder.layer_counts]
        if [len(numbers) for numbers in self.layers] != encoder.layer_counts:
            raise ConfigurationError(
                f"The {direction} language model has {encoder.layer_counts} layers per direction, but the "
                f"numbers of {[len(numbers) for numbers in self.layers]} layers are given."
            )
        least = [max(numbers, default=-1) + 1 for numbers in self.layers]
        self.unpruned_layers = unpruned_layers or least
        if len(self.unpruned_layers) != len(least) or any(map(int.__lt__, self.unpruned_layers, least)):
            raise ConfigurationError(
                f"The numbers of the {direction} language model's layers show that it had at least {least} layers per "
                f"direction before pruning, but unpruned_layers is {unpruned_layers}."
            )
        # NaN until weights are loaded, which `forward` detects.
        self.embedding = WordVectors(
            num_words, encoder.get_input_dim(), embedding_dtype, trainable=requires_grad
        )
        if isinstance(encoder, StackedRnn):
            self.selection = StackedLayers(encoder, mixture, freeze_encoder=not requires_grad)
        elif mixture:
            raise ConfigurationError(
                f"A mixture of layers is for a stacked_rnn, whose layers are of one size, but the {direction} "
                f"language model has an ld_rnn."
            )
        else:
            self.selection = LayerSelection(
                encoder, train_gates=train_gates, freeze_encoder=not requires_grad
            )

    def load(self, language_model: PretrainedLanguageModel) -> None:
        """Copy the weights of a language model of the same sizes."""
        self.embedding.load_state_dict({"weight": language_model.embedding})
        self.selection.encoder.load_state_dict(language_model.contextualizer.state_dict())

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the output."""
        return self.selection.gates.dtype

    def is_fixed(self) -> bool:
        """Return whether a sentence gets the same vectors in each epoch: no training, no dropout."""
        dropouts = (torch.nn.Dropout, LayerDropout)
        return not any(weight.requires_grad for weight in self.parameters()) and not any(
            isinstance(module, dropouts) and module.p > 0 for module in self.modules()
        )

    def get_output_dim(self) -> int:
        """The size of the word vector and all layers together."""
        return self.selection.get_output_dim()

    def describe(self) -> dict[str, Any]:
        """A `LanguageModelSource` that builds the current state of this model."""
        description: dict[str, Any] = {
            "contextualizer": self.selection.encoder.describe(),
            "boundary": self.boundary,
            "layers": self.layers,
        }
        if self.unpruned_layers != self.selection.encoder.layer_counts:
            description["unpruned_layers"] = self.unpruned_layers
        if isinstance(self.selection, StackedLayers) and self.selection.mixture is not None:
            description["mixture"] = True
        if self.embedding.weight.dtype == torch.float16:
            description["embedding_dtype"] = "float16"
        return description

    def prune(self, keep: list[list[int]]) -> torch.Tensor:
        """
        Cut layers out, in place. `keep` are the numbers of the layers to keep, as in `layers`, one list per direction.
        Returns the columns of the old output in the new output.
        """
        if isinstance(self.selection, StackedLayers):
            if keep != self.layers:
                raise ConfigurationError(
                    f"The {self.direction} language model is a stacked_rnn: none of its layers {self.layers} "
                    f"can be cut."
                )
            return torch.arange(self.get_output_dim(), device=self.selection.gates.device)
        positions = [
            [numbers.index(number) for number in sorted(wanted)] for numbers, wanted in zip(self.layers, keep)
        ]
        encoder, gates, columns = self.selection.prune(positions)
        self.selection.encoder = encoder
        self.selection.gates = torch.nn.Parameter(gates, self.selection.gates.requires_grad)
        self.layers = [sorted(wanted) for wanted in keep]
        return columns

    def fold_gates(self) -> torch.Tensor:
        """See `LayerSelection.fold_gates`."""
        if isinstance(self.selection, StackedLayers):
            return torch.ones(self.get_output_dim(), device=self.selection.gates.device)
        return self.selection.fold_gates()

    @overrides(check_signature=False)  # torch declares that a forward returns None
    def forward(self, token_ids: torch.LongTensor, mask: torch.BoolTensor) -> torch.Tensor:
        """
        The word vector and the layers after reading each token, (B, T, output size), for ids (B, T) in the language
        model's vocabulary and a mask (B, T); zeros at padded steps.
        """
        if bool(torch.isnan(self.embedding.weight[0, 0])):
            raise ConfigurationError(
                f"The {self.direction} language model of the ldnet token embedder has no weights. Give its "
                f"archive as pretrained_file, or initialize the model from a trained one."
            )
        lengths = mask.sum(dim=1)
        if self.direction == "backward":
            outputs = self._read(reverse_sequences(token_ids, lengths), mask)
            return reverse_sequences(outputs, lengths)
        return self._read(token_ids, mask, lengths if self.direction == "bidirectional" else None)

    def _read(
        self,
        token_ids: torch.Tensor,
        mask: torch.Tensor,
        lengths: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Read a boundary first and, if `lengths` are given, another after the last word."""
        steps = token_ids.size(1)
        if self.boundary_id is None:
            return self.selection(self.embedding(token_ids), mask)
        boundary = torch.full_like(token_ids[:, :1], self.boundary_id)  # (B, 1)
        read = torch.cat([boundary, token_ids], dim=1)  # (B, 1 + T)
        read_mask = torch.cat([torch.ones_like(mask[:, :1]), mask], dim=1)
        if lengths is not None:
            read = torch.cat([read, torch.zeros_like(boundary)], dim=1)  # (B, 1 + T + 1)
            read = read.scatter(1, (lengths + 1).unsqueeze(1), self.boundary_id)
            read_mask = torch.cat([torch.ones_like(mask[:, :1]), read_mask], dim=1)
        outputs = self.selection(self.embedding(read), read_mask)[:, 1 : steps + 1]  # (B, T, output size)
        return torch.where(mask.unsqueeze(-1), outputs, torch.zeros_like(outputs))
