"""Adaptive softmax: a softmax over a large vocabulary that spends less on rare words."""

import logging
import math
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from allennlp.common.checks import ConfigurationError
from overrides import overrides
from torch.nn.functional import cross_entropy, embedding

from ldnet_allennlp.common.checks import check_at_least

logger = logging.getLogger(__name__)


def cutoffs_within(cutoffs: Sequence[int], num_words: int) -> list[int]:
    """The cutoffs within a vocabulary of `num_words` words; a warning names the others."""
    within = [cutoff for cutoff in cutoffs if not isinstance(cutoff, int) or cutoff <= num_words]
    if len(within) < len(cutoffs):
        logger.warning(
            "The cutoffs %s exceed the vocabulary of %d words and are ignored.",
            [cutoff for cutoff in cutoffs if cutoff not in within],
            num_words,
        )
    return within if within or not cutoffs else [num_words]


class AdaptiveSoftmax(torch.nn.Module):
    """
    !!! Warning
        The words must be sorted by falling frequency: word 0 is the most frequent. Any other order gives valid
        probabilities, but a worse and much slower model.

    The adaptive softmax of Grave et al. 2017 (arXiv 1609.04309, section 4). The words before the first cutoff and one
    entry per tail cluster share one softmax, the head. Each cluster has a separate softmax over its words, on a
    projection that shrinks from cluster to cluster. With h an input vector,

        log p(w | h) = log_softmax(head(h))[w]                         for w < cutoffs[0]
        log p(w | h) = log_softmax(head(h))[cutoffs[0] + i]
                       + log_softmax(tail_i(h))[w - cutoffs[i]]        for cutoffs[i] <= w < cutoffs[i + 1]

    The probabilities of all words sum to one for every input. The parameters are named as in the original LD-Net's
    `model_word_ada/adaptive.py` and in `torch.nn.AdaptiveLogSoftmaxWithLoss`: `head.weight`, `head.bias`,
    `tail.{i}.0.weight` (the projection) and `tail.{i}.1.weight`.

    Under autocast, training computes products in half precision. Sums over a vocabulary, and all of evaluation, are in
    the precision of the parameters. (torch's own module fails on mixed precisions, pytorch issue 44724.)

    # Parameters

    num_words : `int`
        The size of the vocabulary.
    embedding_dim : `int`
        The size D of the input vectors.
    cutoffs : `Sequence[int]`
        The first word of each tail cluster, increasing. The list may end with the size of the vocabulary; `[num_words]`
        is a softmax without clusters. The published language models (793,470 words) use 4000, 40000 and 200000. The
        head should contain the words that make up most of the text.
    div_value : `float`, optional (default = `4.0`)
        The factor by which the projection shrinks from one cluster to the next.
    tail_offset : `int`, optional (default = `0`)
        Cluster i, counted from 0, is projected to `embedding_dim // div_value ** (i + tail_offset)` dimensions: 0 as
        in the original LD-Net, whose head has a bias; 1 as in `torch.nn.AdaptiveLogSoftmaxWithLoss`, whose head has
        none. With a projection to 0 dimensions, all words of the cluster are equally likely.
    tail_samples : `int`, optional
        Training steps compute the softmax of each larger cluster from its targets and this many words drawn by
        `draw_log_uniform`, and the gradients of the clusters' words are sparse: the cost of a step no longer grows
        with the vocabulary. The sum over a cluster's words is estimated without bias (importance sampling, Bengio
        and Senecal 2003) as
            exp(target's logit) + sum over drawn words w other than the target of exp(logit of w) / (samples * q(w)).
        Evaluation stays exact. Recommended: 1024 or more.

    All weights are drawn from `xavier_normal_`, as in the original.

    Raises `ConfigurationError` if a size is below 1 or the cutoffs do not increase from 1 to `num_words`.
    """

    tail: Any  # per cluster, the projection and the word weights: two linear layers

    def __init__(
        self,
        num_words: int,
        embedding_dim: int,
        cutoffs: Sequence[int],
        div_value: float = 4.0,
        tail_offset: int = 0,
        tail_samples: int | None = None,
    ) -> None:
        super().__init__()
        owner = "an adaptive softmax"
        check_at_least(1, owner, num_words=num_words, embedding_dim=embedding_dim, tail_samples=tail_samples)
        check_at_least(0, owner, tail_offset=tail_offset)
        if div_value <= 0:
            raise ConfigurationError(f"div_value of {owner} is {div_value}; expected more than 0.")
        self.tail_samples = tail_samples
        self.num_words = num_words
        self.embedding_dim = embedding_dim
        self.cutoffs = _checked_cutoffs(cutoffs, num_words)  # the last one is num_words
        self.num_clusters = len(self.cutoffs) - 1
        self.head = torch.nn.Linear(embedding_dim, self.cutoffs[0] + self.num_clusters, bias=tail_offset == 0)
        sizes = [int(embedding_dim // div_value ** (i + tail_offset)) for i in range(self.num_clusters)]
        with warnings.catch_warnings():
            # torch warns about the empty weights of a projection to 0 dimensions.
            warnings.filterwarnings("ignore", message="Initializing zero-element tensors")
            self.tail = torch.nn.ModuleList(
                torch.nn.Sequential(
                    torch.nn.Linear(embedding_dim, size, bias=False),
                    torch.nn.Linear(size, last - first, bias=False),
                )
                for size, first, last in zip(sizes, self.cutoffs, self.cutoffs[1:])
            )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all weights from `xavier_normal_`, and the head's bias as `torch.nn.Linear` does."""
        self.head.reset_parameters()
        torch.nn.init.xavier_normal_(self.head.weight)
        for weight in self.tail.parameters():
            if weight.numel():
                torch.nn.init.xavier_normal_(weight)

    def sampled_parameters(self) -> list[tuple[str, torch.nn.Parameter]]:
        """The names and weights of the sampled clusters, whose gradients are sparse."""
        return [
            (f"tail.{number}.1.weight", self.tail[number][1].weight)
            for number in range(self.num_clusters)
            if self._is_sampled(number)
        ]

    def _is_sampled(self, number: int) -> bool:
        size = self.cutoffs[number + 1] - self.cutoffs[number]
        return self.tail_samples is not None and size > self.tail_samples

    @overrides(check_signature=False)
    def forward(
        self, embeddings: torch.Tensor, targets: torch.Tensor, host_targets: torch.Tensor | None = None
    ) -> torch.Tensor:
        """
        The negative log-likelihood in nats, summed over the N targets; a scalar. Every parameter gets a gradient, zero
        in clusters without a target, so that all processes of a distributed training have gradients for the same
        parameters.

        # Parameters

        embeddings : `torch.Tensor`
            Shape (N, embedding_dim).
        targets : `torch.Tensor`
            Shape (N,), words from 0 to num_words - 1.
        host_targets : `torch.Tensor`, optional
            The same on the CPU, so that finding their clusters does not wait for a GPU.
        """
        return -self.target_log_prob(embeddings, targets, host_targets).sum()

    def target_log_prob(
        self, embeddings: torch.Tensor, targets: torch.Tensor, host_targets: torch.Tensor | None = None
    ) -> torch.Tensor:
        """
        The log-probability of each target, (N,), with the parameters of `forward`. No tensor of size N x num_words is
        created.

        Raises `ConfigurationError` if a target is not a word. Remove positions without a target, such as -100.
        """
        labels = targets if host_targets is None else host_targets
        if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < self.num_words:
            wrong = labels[(labels < 0) | (labels >= self.num_words)]
            raise ConfigurationError(
                f"The targets of this adaptive softmax are words from 0 to {self.num_words - 1} (num_words is "
                f"{self.num_words}), but a target is {int(wrong[0])}. Leave out positions without a target."
            )
        with nullcontext() if self.training else torch.autocast(embeddings.device.type, enabled=False):
            embeddings = embeddings.to(self.head.weight.dtype)
            head_targets = targets
            for number in range(self.num_clusters):
                head_targets = head_targets.masked_fill(
                    self._members(number, targets), self.cutoffs[0] + number
                )
            # Autocast computes cross entropies in float32.
            log_prob = -cross_entropy(self.head(embeddings), head_targets, reduction="none")  # (N,)
            for number in range(self.num_clusters):
                # Empty clusters, too, which costs nothing and keeps their parameters in the graph.
                members = self._members(number, targets if host_targets is None else host_targets)
                rows = members.nonzero().squeeze(1).to(targets.device, non_blocking=True)  # (n,)
                inside = self._cluster_log_prob(
                    number,
                    embeddings.index_select(0, rows),
                    targets.index_select(0, rows) - self.cutoffs[number],
                )  # (n,)
                log_prob = log_prob.index_add(0, rows, inside)
            return log_prob

    def _members(self, number: int, targets: torch.Tensor) -> torch.Tensor:
        """Mask (N,) of the targets in a cluster."""
        return (targets >= self.cutoffs[number]) & (targets < self.cutoffs[number + 1])

    def _cluster_log_prob(self, number: int, embeddings: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The log-probabilities (n,) of the targets (n,), counted within their cluster, given (n, D) vectors."""
        if not self.training or not self._is_sampled(number):
            return -cross_entropy(self.tail[number](embeddings), targets, reduction="none")
        assert self.tail_samples is not None
        projection, words = self.tail[number]
        hidden = projection(embeddings)  # (n, d)
        first, last = self.cutoffs[number : number + 2]
        drawn, log_prob = draw_log_uniform(first, last, self.tail_samples, hidden.device)  # (S,) each
        # One look-up for both, so that the gradient is one sparse tensor.
        vectors = embedding(torch.cat([drawn, targets]), words.weight, sparse=True)  # (S + n, d)
        of_targets = (hidden * vectors[self.tail_samples :]).sum(dim=-1, keepdim=True)  # (n, 1)
        of_drawn = hidden @ vectors[: self.tail_samples].t()  # (n, S)
        of_drawn = of_drawn - (log_prob + math.log(self.tail_samples)).to(vectors.dtype)
        of_drawn = of_drawn.masked_fill(drawn == targets.unsqueeze(1), -math.inf)
        return of_targets.squeeze(1) - torch.cat([of_targets, of_drawn], dim=1).logsumexp(dim=1)

    def log_prob(self, embeddings: torch.Tensor) -> torch.Tensor:
        """The log-probability of every word, (N, num_words), for vectors (N, embedding_dim)."""
        with torch.autocast(device_type=embeddings.device.type, enabled=False):
            embeddings = embeddings.to(self.head.weight.dtype)
            head = torch.log_softmax(self.head(embeddings), dim=-1)  # (N, cutoffs[0] + clusters)
            parts: list[torch.Tensor] = [head[:, : self.cutoffs[0]]]
            for number in range(self.num_clusters):
                inside = torch.log_softmax(self.tail[number](embeddings), dim=-1)  # (N, cluster size)
                parts.append(inside + head[:, self.cutoffs[0] + number].unsqueeze(1))
            return torch.cat(parts, dim=1)

    @overrides
    def extra_repr(self) -> str:
        return f"num_words={self.num_words}, embedding_dim={self.embedding_dim}, cutoffs={self.cutoffs}"


def _checked_cutoffs(cutoffs: Sequence[int], num_words: int) -> list[int]:
    """The cutoffs with `num_words` at the end. Raises `ConfigurationError` if they do not increase from 1 to it."""
    checked = list(cutoffs)
    if not checked or any(isinstance(cutoff, bool) or not isinstance(cutoff, int) for cutoff in checked):
        raise ConfigurationError(
            f"The cutoffs of an adaptive softmax are a list of one or more integers, such as [4000, 40000], "
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


def draw_log_uniform(
    first: int, last: int, count: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Draw `count` words of `first` to `last - 1` with replacement, about as often as in text. The probability of the word
    of rank r = word + 1 is proportional to log(1 + 1 / r): close to Zipf's 1 / r, and easy to draw from.

    Returns the words, counted from `first`, and their log-probabilities in float64, (count,) each.
    """
    log_range = math.log((last + 1) / (first + 1))
    uniform = torch.rand(count, device=device, dtype=torch.float64)
    ranks = (first + 1) * torch.exp(uniform * log_range)  # (count,), real numbers
    words = (ranks.long() - (first + 1)).clamp(0, last - first - 1)
    return words, torch.log(torch.log1p(1 / (words + first + 1).double())) - math.log(log_range)
