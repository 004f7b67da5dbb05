"""An adaptive softmax whose words have the vectors of the language model's input."""

from typing import List, Optional, Sequence, Tuple

import torch
from allennlp.common.checks import ConfigurationError
from allennlp.modules.token_embedders import Embedding
from overrides import overrides

from ldnet_allennlp.modules.softmax.adaptive_softmax import AdaptiveSoftmax


class TiedAdaptiveSoftmax(AdaptiveSoftmax):
    """
    An `AdaptiveSoftmax` with tied weights (Press and Wolf 2017, arXiv 1608.05859): the weights of a word are its
    vector in the embedding that the language model reads. Parameters of its own are one vector for each tail cluster,
    and the head's bias; clusters have no projection. The published language models are not tied.

    # Parameters

    embedding : `Embedding`
        Row 0 is the padding, row w + 1 the vector of word w.
    embedding_dim : `int`
        The size of the input vectors, which must be the embedding's.
    cutoffs, head_bias, tail_samples
        As in `AdaptiveSoftmax`.

    Raises `ConfigurationError` if the sizes differ.
    """

    tie_embeddings = True

    def __init__(
        self,
        embedding: Embedding,
        embedding_dim: int,
        cutoffs: Sequence[int],
        head_bias: bool = True,
        tail_samples: Optional[int] = None,
    ) -> None:
        rows, size = embedding.weight.shape
        if size != embedding_dim or embedding._projection is not None:
            raise ConfigurationError(
                f"Tied weights need word vectors of the size that the softmax reads, without a projection of their "
                f"own: the embedding has the size {size}"
                + (" and a projection" if embedding._projection is not None else "")
                + f", and the softmax reads vectors of size {embedding_dim} (projection_dim, or else the "
                f"contextualizer's output size)."
            )
        super().__init__(rows - 1, embedding_dim, cutoffs, head_bias=head_bias, tail_samples=tail_samples)
        # In a list, so that its weights are not this module's, too: they would be saved twice.
        self._tied: List[Embedding] = [embedding]

    @overrides
    def _make_weights(self, div_value: float, tail_offset: int, head_bias: bool) -> None:
        self.head = torch.nn.Linear(self.embedding_dim, self.num_clusters, bias=False)
        self.tail = torch.nn.ModuleList()
        size = self.cutoffs[0] + self.num_clusters
        self.bias = torch.nn.Parameter(torch.zeros(size)) if head_bias else None

    @overrides
    def sampled_parameters(self) -> List[Tuple[str, torch.nn.Parameter]]:
        return []  # all of them are the embedding's

    @overrides
    def _head_weights(self) -> Tuple[torch.Tensor, Optional[torch.Tensor]]:
        return torch.cat([self._rows(0, self.cutoffs[0]), self.head.weight]), self.bias

    @overrides
    def _cluster_input(self, number: int, embeddings: torch.Tensor) -> torch.Tensor:
        return embeddings

    @overrides
    def _cluster_weight(self, number: int) -> torch.Tensor:
        return self._rows(self.cutoffs[number], self.cutoffs[number + 1])

    @overrides
    def _word_vectors(self, number: int, words: torch.Tensor) -> torch.Tensor:
        return self._look_up(words + self.cutoffs[number])

    def _rows(self, first: int, last: int) -> torch.Tensor:
        """The vectors of the words from `first` to `last - 1`."""
        weight = self._tied[0].weight
        if not self._tied[0].sparse:
            return weight[first + 1 : last + 1]
        # The gradient of a slice is dense, and as large as the embedding.
        return self._look_up(torch.arange(first, last, device=weight.device))

    def _look_up(self, words: torch.Tensor) -> torch.Tensor:
        embedding = self._tied[0]
        return torch.nn.functional.embedding(words + 1, embedding.weight, sparse=embedding.sparse)
