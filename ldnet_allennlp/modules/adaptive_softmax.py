"""A softmax over a large vocabulary whose cost follows the words' frequencies."""

import warnings
from typing import List, Optional, Sequence

import torch
from allennlp.common.checks import ConfigurationError
from overrides import overrides


class AdaptiveSoftmax(torch.nn.Module):
    """
    !!! Warning
        The words must be sorted by falling frequency: word 0 is the most frequent. A vocabulary in another
        order gives valid probabilities, but a worse and much slower model.

    The adaptive softmax of Grave et al. 2017 (arXiv 1609.04309, section 4): the words before the first cutoff
    and one entry for each tail cluster share one softmax, the head; the words of a cluster have a softmax of
    their own, on a projection that gets smaller from cluster to cluster. With h an input vector,

        log p(w | h) = log_softmax(head(h))[w]                         for w < cutoffs[0]
        log p(w | h) = log_softmax(head(h))[cutoffs[0] + i]
                       + log_softmax(tail_i(h))[w - cutoffs[i]]        for cutoffs[i] <= w < cutoffs[i + 1]

    The probabilities of all words sum to one for every input. The parameters are named as in the original
    LD-Net's `model_word_ada/adaptive.py` and in `torch.nn.AdaptiveLogSoftmaxWithLoss`: `head.weight`,
    `head.bias`, `tail.{i}.0.weight` (the projection) and `tail.{i}.1.weight`.

    The softmax is computed in the precision of its parameters, under autocast too: a sum over a vocabulary
    needs it, and mixing precisions in the two levels is an error in torch's own module (pytorch issue 44724).

    # Parameters

    num_words : `int`
        The size of the vocabulary.
    embedding_dim : `int`
        The size D of the input vectors.
    cutoffs : `List[int]`
        The first word of each tail cluster, increasing. The size of the vocabulary may stand at the end;
        `[num_words]` is a softmax without clusters. The published language models (793,470 words) use
        4000, 40000 and 200000; the head should hold the words that make up most of the text.
    div_value : `float`, optional (default = `4.0`)
        How much smaller the projection gets from one cluster to the next.
    tail_offset : `int`, optional (default = `0`)
        Cluster i, counted from 0, is projected to `embedding_dim // div_value ** (i + tail_offset)`
        dimensions; 0 is the original LD-Net's way, 1 that of `torch.nn.AdaptiveLogSoftmaxWithLoss`. Where
        nothing is left of the projection, all words of the cluster are equally likely.
    head_bias : `bool`, optional
        Whether the head has a bias. By default it has one if `tail_offset` is 0, as the original.

    All weights start from `xavier_normal_`, as the original's.

    Raises `ConfigurationError` if a size is below 1 or the cutoffs do not increase from 1 to `num_words`.
    """

    tie_embeddings = False
    """What allennlp_models' `LanguageModel` asks of its softmax: the word vectors are not its weights."""

    def __init__(
        self,
        num_words: int,
        embedding_dim: int,
        cutoffs: Sequence[int],
        div_value: float = 4.0,
        tail_offset: int = 0,
        head_bias: Optional[bool] = None,
    ) -> None:
        super().__init__()
        if num_words < 1 or embedding_dim < 1:
            raise ConfigurationError(
                f"An adaptive softmax needs at least one word and one dimension, "
                f"but num_words is {num_words} and embedding_dim is {embedding_dim}."
            )
        if div_value <= 0 or tail_offset < 0:
            raise ConfigurationError(
                f"div_value of an adaptive softmax must be above 0 and tail_offset at least 0, "
                f"but they are {div_value} and {tail_offset}."
            )
        self.num_words = num_words
        self.embedding_dim = embedding_dim
        self.cutoffs = _checked_cutoffs(cutoffs, num_words)  # the last one is num_words
        self.num_clusters = len(self.cutoffs) - 1
        self.head = torch.nn.Linear(
            embedding_dim,
            self.cutoffs[0] + self.num_clusters,
            bias=tail_offset == 0 if head_bias is None else head_bias,
        )
        with warnings.catch_warnings():
            # torch warns of the empty weights that a projection to 0 dimensions has.
            warnings.filterwarnings("ignore", message="Initializing zero-element tensors")
            self.tail = torch.nn.ModuleList(
                torch.nn.Sequential(
                    torch.nn.Linear(embedding_dim, projection_dim, bias=False),
                    torch.nn.Linear(projection_dim, last - first, bias=False),
                )
                for projection_dim, first, last in zip(
                    (int(embedding_dim // div_value ** (i + tail_offset)) for i in range(self.num_clusters)),
                    self.cutoffs,
                    self.cutoffs[1:],
                )
            )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws all weights anew from `xavier_normal_`; the head's bias as `torch.nn.Linear` does."""
        self.head.reset_parameters()
        torch.nn.init.xavier_normal_(self.head.weight)
        for weight in self.tail.parameters():
            if weight.numel():
                torch.nn.init.xavier_normal_(weight)

    @overrides(check_signature=False)
    def forward(self, embeddings: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """
        # Parameters

        embeddings : `torch.Tensor`
            Shape (N, embedding_dim).
        targets : `torch.Tensor`
            Shape (N,), words from 0 to num_words - 1.

        # Returns

        `torch.Tensor`
            The negative log-likelihood in nats, summed over the N targets; a scalar. Every parameter takes
            part in it, also those of clusters without a target, whose gradient is zero then: so all processes
            of a distributed training have gradients for the same parameters.
        """
        return -self.target_log_prob(embeddings, targets).sum()

    def target_log_prob(self, embeddings: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """
        # Parameters

        embeddings, targets
            As in `forward`.

        # Returns

        `torch.Tensor`
            Shape (N,), the log-probability of each target. Nothing of the size N x num_words is made.

        Raises `ConfigurationError` if an embedding has another size, or if there is not a target for each.
        """
        if embeddings.dim() != 2 or embeddings.size(1) != self.embedding_dim:
            raise ConfigurationError(
                f"This adaptive softmax reads vectors of shape (N, {self.embedding_dim}) (embedding_dim), but "
                f"the shape {tuple(embeddings.shape)} was found."
            )
        if targets.shape != embeddings.shape[:1]:
            raise ConfigurationError(
                f"An adaptive softmax needs one target for each of the {embeddings.size(0)} vectors, but the "
                f"targets have the shape {tuple(targets.shape)}."
            )
        with torch.autocast(device_type=embeddings.device.type, enabled=False):
            embeddings = embeddings.to(self.head.weight.dtype)
            clusters = [
                (targets >= first) & (targets < last) for first, last in zip(self.cutoffs, self.cutoffs[1:])
            ]
            head_targets = targets
            for number, members in enumerate(clusters):
                head_targets = head_targets.masked_fill(members, self.cutoffs[0] + number)
            log_prob = _pick(self.head(embeddings), head_targets)  # (N,)
            for number, members in enumerate(clusters):
                # Empty clusters are computed, too: this costs nothing and puts them into the graph.
                rows = members.nonzero().squeeze(1)  # (n,)
                logits = self.tail[number](embeddings.index_select(0, rows))  # (n, cluster size)
                inside = _pick(logits, targets.index_select(0, rows) - self.cutoffs[number])  # (n,)
                log_prob = log_prob.index_add(0, rows, inside)
            return log_prob

    def log_prob(self, embeddings: torch.Tensor) -> torch.Tensor:
        """
        # Parameters

        embeddings : `torch.Tensor`
            Shape (N, embedding_dim).

        # Returns

        `torch.Tensor`
            Shape (N, num_words), the log-probability of every word.
        """
        with torch.autocast(device_type=embeddings.device.type, enabled=False):
            embeddings = embeddings.to(self.head.weight.dtype)
            head = torch.log_softmax(self.head(embeddings), dim=-1)  # (N, cutoffs[0] + clusters)
            parts: List[torch.Tensor] = [head[:, : self.cutoffs[0]]]
            for number, cluster in enumerate(self.tail):
                inside = torch.log_softmax(cluster(embeddings), dim=-1)  # (N, cluster size)
                parts.append(inside + head[:, self.cutoffs[0] + number].unsqueeze(1))
            return torch.cat(parts, dim=1)

    @torch.no_grad()
    def predict(self, embeddings: torch.Tensor) -> torch.Tensor:
        """
        # Parameters

        embeddings : `torch.Tensor`
            Shape (N, embedding_dim).

        # Returns

        `torch.Tensor`
            Shape (N,), the most likely word. A cluster's words are looked at only where the cluster as a whole
            is more likely than the best word so far, which is rare.
        """
        with torch.autocast(device_type=embeddings.device.type, enabled=False):
            embeddings = embeddings.to(self.head.weight.dtype)
            head = torch.log_softmax(self.head(embeddings), dim=-1)
            best, words = head[:, : self.cutoffs[0]].max(dim=-1)  # (N,), (N,)
            for number, cluster in enumerate(self.tail):
                whole = head[:, self.cutoffs[0] + number]  # (N,)
                rows = (whole > best).nonzero().squeeze(1)  # (n,)
                if rows.numel():
                    inside, members = torch.log_softmax(cluster(embeddings[rows]), dim=-1).max(dim=-1)
                    inside = inside + whole[rows]
                    better = inside > best[rows]
                    best[rows[better]] = inside[better]
                    words[rows[better]] = members[better] + self.cutoffs[number]
            return words

    @overrides
    def extra_repr(self) -> str:
        return f"num_words={self.num_words}, embedding_dim={self.embedding_dim}, cutoffs={self.cutoffs}"


def _pick(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The log-softmax of (n, C) logits at one (n,) target a row."""
    return -torch.nn.functional.cross_entropy(logits, targets, reduction="none")


def _checked_cutoffs(cutoffs: Sequence[int], num_words: int) -> List[int]:
    """The cutoffs with `num_words` at the end."""
    checked = list(cutoffs)
    if not checked or any(isinstance(cutoff, bool) or not isinstance(cutoff, int) for cutoff in checked):
        raise ConfigurationError(
            f"The cutoffs of an adaptive softmax are a list of one or more whole numbers, such as [4000, 40000], "
            f"or [{num_words}] (num_words) for no clusters, but {cutoffs} was found."
        )
    if checked[0] < 1 or any(first >= second for first, second in zip(checked, checked[1:])):
        raise ConfigurationError(
            f"The cutoffs of an adaptive softmax start at 1 or more and increase, but {checked} was found."
        )
    if checked[-1] > num_words:
        raise ConfigurationError(
            f"The last of the cutoffs of an adaptive softmax is at most the number of words (num_words), which "
            f"is {num_words}, but the cutoffs are {checked}."
        )
    return checked if checked[-1] == num_words else [*checked, num_words]
