"""AllenNLP's conditional random field, vectorized over the batch."""

import math
from typing import Any

import torch
from allennlp.modules.conditional_random_field import ConditionalRandomField
from allennlp.modules.conditional_random_field.conditional_random_field import VITERBI_DECODING
from overrides import overrides
from torch.nn.functional import pad

from ldnet_allennlp.modules.crf.log_partition import Scores, last_steps, log_partition, step_mask
from ldnet_allennlp.modules.crf.viterbi import best_sequences

# AllenNLP's score of a forbidden transition, used here only for sentences without an allowed tag sequence.
_PENALTY = -10000.0


class FastConditionalRandomField(ConditionalRandomField):
    """
    A drop-in replacement for AllenNLP's `ConditionalRandomField`: the same constructor, parameters (checkpoints load
    in both directions) and results. As there, constraints apply to decoding and not to the losses.

    All methods take scores `logits` (B, T, N) and a boolean `mask` (B, T), `None` for all steps. `tags` (B, T) are ids
    from 0 to N - 1. Masked steps are skipped, at any position in the row, and their content (NaN included) affects
    neither results nor gradients. A row without steps is the empty sequence: its log-likelihood is 0, and it decodes to
    `[]` with score 0. Half-precision scores are computed in float32. Wrong shapes raise `ValueError`.

    Differences from AllenNLP's class:

    * Any mask is allowed. AllenNLP's loss is wrong if the first step or steps in the middle are masked.
    * A forbidden transition is impossible, not scored -10000: scores of any size respect it, and `top_k` returns fewer
      sequences where fewer are allowed. A sentence without any allowed sequence is decoded with -10000 for each
      forbidden transition.
    """

    # Ids of tags that no decoded sequence may contain.
    never_decoded: tuple[int, ...] = ()

    @overrides
    def forward(
        self, inputs: torch.Tensor, tags: torch.Tensor, mask: torch.BoolTensor | None = None
    ) -> torch.Tensor:
        """The log-likelihood of `tags`, a scalar: the sum over the batch."""
        inputs, lengths, tags = self._aligned(inputs, mask, tags)
        scores = self.scores()
        return (path_score(inputs, tags, scores, lengths) - log_partition(inputs, scores, lengths)).sum()

    def partial_log_likelihood(
        self, logits: torch.Tensor, allowed: torch.Tensor, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """
        The log-likelihood of partial labels, a scalar: for each sentence the log of the total score of all sequences
        whose tags are `allowed` (B, T, N), minus that of all sequences (Tsuboi et al. 2008, "Training conditional
        random fields using incomplete annotations").
        """
        _check_size("allowed tags", allowed, logits.size(), logits)
        of_allowed = self.log_partition(logits.masked_fill(~allowed, -math.inf), mask)
        return (of_allowed - self.log_partition(logits, mask)).sum()

    def log_partition(self, logits: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """
        The log of the sum of exp(score) over all tag sequences: (B,), differentiable. exp(score - log_partition) is a
        sequence's probability, and the gradient by the logits is the probability of each tag at each step.
        """
        logits, lengths = self._aligned(logits, mask)
        return log_partition(logits, self.scores(), lengths)

    def perceptron_loss(
        self, inputs: torch.Tensor, tags: torch.Tensor, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """
        The structured perceptron's loss (Collins 2002), a scalar: the score of the best tag sequence minus that of
        `tags`, summed over the batch.
        """
        inputs, lengths, tags = self._aligned(inputs, mask, tags)
        scores = self.scores()
        best = best_sequences(inputs, scores, lengths)[0][:, 0]
        return (path_score(inputs, best, scores, lengths) - path_score(inputs, tags, scores, lengths)).sum()

    @torch.no_grad()
    @overrides
    def viterbi_tags(
        self, logits: torch.Tensor, mask: torch.BoolTensor | None = None, top_k: int | None = None
    ) -> list[VITERBI_DECODING] | list[list[VITERBI_DECODING]]:
        """
        The best allowed tag sequence of each sentence (without masked steps) and its score, or, with `top_k`, the list
        of its best ones, best first.
        """
        k = 1 if top_k is None else top_k
        if k < 1:
            raise ValueError(f"top_k is {top_k}; it must be None or at least 1.")
        logits, lengths = self._aligned(logits, mask)
        tags, path_scores = best_sequences(logits, self.scores(constrained=True), lengths, k)
        impossible = path_scores[:, 0] == -math.inf
        if bool(impossible.any()):
            penalized = self.scores(constrained=True, forbidden=_PENALTY)
            tags[impossible], path_scores[impossible] = best_sequences(
                logits[impossible], penalized, lengths[impossible], k
            )
        decoded = []
        for paths, scores_of_paths, length in zip(tags.tolist(), path_scores.tolist(), lengths.tolist()):
            ranked = [(path[:length], score) for path, score in zip(paths, scores_of_paths)]
            decoded.append(ranked[:1] + [entry for entry in ranked[1:] if entry[1] != -math.inf])
        return [ranked[0] for ranked in decoded] if top_k is None else decoded

    def scores(self, constrained: bool = False, forbidden: float = -math.inf) -> Scores:
        """
        The scores of transitions (N, N), from row to column, of starting (N,) and of ending (N,) with each tag: the
        parameters; if `constrained`, with `forbidden` in place of those of forbidden transitions, and -inf for tags
        that are `never_decoded`.
        """
        transitions, start, end = self._unconstrained_scores()
        if not constrained:
            return transitions, start, end
        size = self.num_tags
        matrix = transitions.new_zeros(size + 2, size + 2)  # like the constraints
        matrix[:size, :size], matrix[size, :size], matrix[:size, size + 1] = transitions, start, end
        matrix = matrix.masked_fill(self._constraint_mask <= 0, forbidden)
        never = self._never()
        matrix = matrix.index_fill(0, never, -math.inf).index_fill(1, never, -math.inf)
        return matrix[:size, :size], matrix[size, :size], matrix[:size, size + 1]

    def constraint_matrix(self) -> torch.Tensor:
        """The allowed transitions in decoding, (N + 2, N + 2), from row to column; N is the start and N + 1 the end."""
        allowed = self._constraint_mask > 0
        return allowed.index_fill(0, self._never(), False).index_fill_(1, self._never(), False)

    def _never(self) -> torch.Tensor:
        return torch.tensor(self.never_decoded, dtype=torch.long, device=self.transitions.device)

    def _unconstrained_scores(self) -> Scores:
        transitions: torch.Tensor = self.transitions
        if self.include_start_end_transitions:
            return transitions, self.start_transitions, self.end_transitions
        zeros = transitions.new_zeros(self.num_tags)
        return transitions, zeros, zeros

    def _aligned(self, logits: torch.Tensor, mask: torch.Tensor | None, *tags: torch.Tensor) -> Any:
        """
        The logits (B, T, N) with the unmasked steps in front, in the type of the computation; the number of these steps
        (B,); and the `tags` with the same steps, 0 elsewhere. T is at least 1. Checks the sizes.
        """
        if logits.dim() != 3 or logits.size(2) != self.num_tags:
            raise ValueError(
                f"Found logits of size {tuple(logits.size())}, expected (batch size, number of steps, "
                f"{self.num_tags}) for a CRF with num_tags {self.num_tags}."
            )
        if mask is None:
            mask = logits.new_ones(logits.size()[:2])
        _check_size("mask", mask, logits.size()[:2], logits)
        for part in tags:
            _check_size("tags", part, logits.size()[:2], logits)
        dtype = torch.promote_types(logits.dtype, self.transitions.dtype)
        logits, mask = logits.to(torch.promote_types(dtype, torch.float32)), mask.to(torch.bool)
        tags = tuple(part.masked_fill(~mask, 0) for part in tags)
        if logits.size(1) == 0:
            logits, mask = pad(logits, (0, 0, 0, 1)), pad(mask, (0, 1))
            tags = tuple(pad(part, (0, 1)) for part in tags)
        # Only a mask on the CPU is read, because reading it elsewhere waits for the device.
        if mask.device.type != "cpu" or bool((mask[:, 1:] > mask[:, :-1]).any()):
            order = torch.sort((~mask).to(torch.uint8), stable=True, dim=1)[1]  # (B, T)
            logits = logits.gather(1, order.unsqueeze(2).expand_as(logits))
            tags = tuple(part.gather(1, order) for part in tags)
        return logits, mask.sum(1), *tags


def path_score(
    logits: torch.Tensor, tags: torch.Tensor, scores: Scores, lengths: torch.Tensor
) -> torch.Tensor:
    """The scores (B,) of aligned `tags` (B, T)."""
    transitions, start, end = (part.to(logits.dtype) for part in scores)
    steps = logits.gather(2, tags.unsqueeze(2)).squeeze(2)  # (B, T)
    moves = transitions[tags[:, :-1], tags[:, 1:]]  # (B, T - 1)
    ends = start[tags[:, 0]] + end[tags.t()[last_steps(lengths)]]  # (B,)
    exists = step_mask(lengths, tags.size(1)).t()  # (B, T)
    sums = steps.masked_fill(~exists, 0.0).sum(1) + moves.masked_fill(~exists[:, 1:], 0.0).sum(1)
    return sums + ends.masked_fill(lengths == 0, 0.0)


def _check_size(name: str, tensor: torch.Tensor, expected: torch.Size, logits: torch.Tensor) -> None:
    if tensor.size() != expected:
        raise ValueError(
            f"Found {name} of size {tuple(tensor.size())}, expected {tuple(expected)} with logits of size "
            f"{tuple(logits.size())}."
        )
