"""
AllenNLP's conditional random field, with the loss and the decoding of a whole batch at once.
"""

import math
from typing import List, Optional, Tuple, Union

import torch
from allennlp.modules.conditional_random_field import ConditionalRandomField
from allennlp.modules.conditional_random_field.conditional_random_field import VITERBI_DECODING
from overrides import overrides

from ldnet_allennlp.modules.crf.forward_backward import LogLikelihood, token_marginals
from ldnet_allennlp.modules.crf.layout import KeptSteps
from ldnet_allennlp.modules.crf.viterbi import best_sequences, k_best_sequences, sequence_scores

# What AllenNLP scores a forbidden transition with. Here only for sentences without an allowed tag sequence.
_PENALTY = -10000.0
# Transitions (N, N), start transitions (N,) and end transitions (N,).
_Scores = Tuple[torch.Tensor, torch.Tensor, torch.Tensor]


class FastConditionalRandomField(ConditionalRandomField):
    """
    A drop-in replacement of AllenNLP's `ConditionalRandomField`: the same constructor, parameters
    (checkpoints load in both directions) and results, computed for all sentences of a batch at once and
    differentiated in closed form.

    All methods take scores `logits` (B, T, N) and a boolean `mask` (B, T), `None` for all steps. Steps whose
    mask is False are left out: what remains of a row is one sequence, wherever those steps stand, and what
    their cells hold (NaN included) changes neither a result nor a gradient. A row without steps is the empty
    sequence: its log-likelihood is 0, and it decodes to `[]` with the score 0. Half-precision scores are
    computed in float32, under autocast too.

    Where results differ from AllenNLP's class:

    * AllenNLP's loss reads the first step even if it is masked, reads the wrong last tag if steps in the
      middle are masked, and fails on a row without steps. Its decoding leaves masked steps out, as here.
    * A forbidden transition is impossible, not scored -10000: scores of any size respect it, and `top_k`
      returns fewer sequences where fewer are allowed. Only a sentence without any allowed sequence is
      decoded AllenNLP's way, at -10000 for each forbidden transition.
    * Second derivatives raise a `RuntimeError`.

    As in AllenNLP, constraints apply to decoding and not to the loss.

    # Parameters

    num_tags : `int`
        The number of tags, N.
    constraints : `List[Tuple[int, int]]`, optional (default = `None`)
        The allowed transitions (from tag, to tag), from AllenNLP's `allowed_transitions`. Tag N is the start,
        N + 1 the end. `None` allows all.
    include_start_end_transitions : `bool`, optional (default = `True`)
        Whether the first and the last tag of a sentence have scores of their own.
    """

    @overrides
    def forward(
        self, inputs: torch.Tensor, tags: torch.Tensor, mask: Optional[torch.BoolTensor] = None
    ) -> torch.Tensor:
        """
        The log-likelihood of tags given logits.

        # Parameters

        inputs : `torch.Tensor`
            (B, T, N)
        tags : `torch.Tensor`
            (B, T), whole numbers from 0 to N - 1, anything at masked steps.
        mask : `torch.BoolTensor`, optional (default = `None`)
            (B, T)

        # Returns

        `torch.Tensor`
            (), the sum over the batch.
        """
        kept = self._kept(inputs, mask)
        logits, transitions = self._weighted(inputs)
        _, start, end = self.scores()
        return self._log_likelihood(logits, (transitions, start, end), kept, tags).sum()

    def log_partition(
        self, logits: torch.Tensor, mask: Optional[torch.Tensor] = None, constrained: bool = False
    ) -> torch.Tensor:
        """
        The logarithm of the sum of exp(score) over all tag sequences. With it, exp(score - log_partition) is
        the probability of a sequence whose score comes from `path_score`, `viterbi_tags` or `viterbi_paths`.

        # Parameters

        logits : `torch.Tensor`
            (B, T, N)
        mask : `torch.Tensor`, optional (default = `None`)
            (B, T)
        constrained : `bool`, optional (default = `False`)
            Whether to sum over the allowed sequences only, unlike the loss.

        # Returns

        `torch.Tensor`
            (B,), differentiable; -inf where no sequence is allowed.
        """
        return -self._log_likelihood(logits, self.scores(constrained), self._kept(logits, mask))

    def path_score(
        self, logits: torch.Tensor, tags: torch.Tensor, mask: Optional[torch.Tensor] = None
    ) -> torch.Tensor:
        """
        The score of one tag sequence for each sentence: the sum of its logits, transitions, start and end
        transitions. Constraints play no part.

        # Parameters

        logits : `torch.Tensor`
            (B, T, N)
        tags : `torch.Tensor`
            (B, T), whole numbers from 0 to N - 1, anything at masked steps.
        mask : `torch.Tensor`, optional (default = `None`)
            (B, T)

        # Returns

        `torch.Tensor`
            (B,), differentiable.
        """
        return self._path_score(logits, self.scores(), self._kept(logits, mask), tags)

    def marginals(
        self, logits: torch.Tensor, mask: Optional[torch.Tensor] = None, constrained: bool = False
    ) -> torch.Tensor:
        """
        The probability of each tag at each step given the whole sentence.

        # Parameters

        logits : `torch.Tensor`
            (B, T, N)
        mask : `torch.Tensor`, optional (default = `None`)
            (B, T)
        constrained : `bool`, optional (default = `False`)
            Whether only allowed sequences have a probability, unlike in the loss.

        # Returns

        `torch.Tensor`
            (B, T, N), without a graph. Sums to 1 over the tags; 0 at masked steps and where no sequence is
            allowed.
        """
        kept = self._kept(logits, mask)
        logits, scores = self._in_one_type(kept.to_front(logits.detach()), self.scores(constrained))
        if logits.numel() == 0:
            return logits
        return kept.to_places(token_marginals(logits, *scores, kept.lengths))

    def perceptron_loss(
        self, inputs: torch.Tensor, tags: torch.Tensor, mask: Optional[torch.Tensor] = None
    ) -> torch.Tensor:
        """
        The structured perceptron's loss (Collins 2002): the score of the best tag sequence minus that of
        `tags`. The best sequence is sought among all, as constraints do not apply to losses.

        # Parameters

        inputs : `torch.Tensor`
            (B, T, N)
        tags : `torch.Tensor`
            (B, T), whole numbers from 0 to N - 1, anything at masked steps.
        mask : `torch.Tensor`, optional (default = `None`)
            (B, T)

        # Returns

        `torch.Tensor`
            (), the sum over the batch; 0 if every sentence's best sequence is `tags`.
        """
        kept, scores = self._kept(inputs, mask), self.scores()
        best, _ = self._decode(inputs, scores, kept, top_k=1)
        best_score = self._path_score(inputs, scores, kept, kept.to_places(best[:, 0]))
        return (best_score - self._path_score(inputs, scores, kept, tags)).sum()

    @torch.no_grad()
    @overrides
    def viterbi_tags(
        self, logits: torch.Tensor, mask: Optional[torch.BoolTensor] = None, top_k: Optional[int] = None
    ) -> Union[List[VITERBI_DECODING], List[List[VITERBI_DECODING]]]:
        """
        The best allowed tag sequences as lists.

        # Parameters

        logits : `torch.Tensor`
            (B, T, N)
        mask : `torch.BoolTensor`, optional (default = `None`)
            (B, T)
        top_k : `int`, optional (default = `None`)
            How many sequences to return.

        # Returns

        `Union[List[VITERBI_DECODING], List[List[VITERBI_DECODING]]]`
            For each sentence the best sequence and its score, or, with `top_k`, the list of its best ones,
            best first. The tags are those of the steps that are not masked.
        """
        kept, k = self._kept(logits, mask), 1 if top_k is None else top_k
        tags, scores = self._decode(logits, self.scores(constrained=True), kept, k)
        path_scores = scores.tolist()
        impossible = [b for b, best in enumerate(path_scores) if best[0] == -math.inf]
        if impossible:
            some = KeptSteps(*(None if part is None else part[impossible] for part in kept))
            penalised = self.scores(constrained=True, forbidden=_PENALTY)
            tags[impossible], scores[impossible] = self._decode(logits[impossible], penalised, some, k)
            path_scores = scores.tolist()
        lengths = [logits.size(1)] * logits.size(0) if kept.lengths is None else kept.lengths.tolist()
        decoded = []
        for paths, scores_of_paths, length in zip(tags.tolist(), path_scores, lengths):
            ranked = [(path[:length], score) for path, score in zip(paths, scores_of_paths)]
            decoded.append(ranked[:1] + [entry for entry in ranked[1:] if entry[1] != -math.inf])
        return [ranked[0] for ranked in decoded] if top_k is None else decoded

    @torch.no_grad()
    def viterbi_paths(
        self, logits: torch.Tensor, mask: Optional[torch.Tensor] = None, top_k: Optional[int] = None
    ) -> Tuple[torch.Tensor, torch.Tensor]:
        """
        The best allowed tag sequences as tensors, without waiting for the device.

        # Parameters

        logits : `torch.Tensor`
            (B, T, N)
        mask : `torch.Tensor`, optional (default = `None`)
            (B, T)
        top_k : `int`, optional (default = `None`)
            How many sequences to return.

        # Returns

        `Tuple[torch.Tensor, torch.Tensor]`
            Tags (B, T) and scores (B,), or, with `top_k`, tags (B, top_k, T) and scores (B, top_k), best
            first. Masked steps have the tag 0. Where there are fewer allowed sequences, the rest has the
            score -inf, and its tags mean nothing.
        """
        kept = self._kept(logits, mask)
        tags, scores = self._decode(
            logits, self.scores(constrained=True), kept, 1 if top_k is None else top_k
        )
        tags = torch.stack([kept.to_places(path) for path in tags.unbind(1)], dim=1)
        return (tags[:, 0], scores[:, 0]) if top_k is None else (tags, scores)

    def _kept(self, logits: torch.Tensor, mask: Optional[torch.Tensor]) -> KeptSteps:
        """Which steps count. Checks the sizes."""
        if logits.dim() != 3 or logits.size(2) != self.num_tags:
            raise ValueError(
                f"The CRF was given logits of size {tuple(logits.size())}; with its num_tags of "
                f"{self.num_tags} it expects (batch size, number of steps, {self.num_tags})."
            )
        if mask is None:
            return KeptSteps(None, None)
        if mask.size() != logits.size()[:2]:
            raise ValueError(
                f"The CRF was given a mask of size {tuple(mask.size())}; with logits of size "
                f"{tuple(logits.size())} it expects {tuple(logits.size()[:2])}."
            )
        return KeptSteps.from_mask(mask.to(torch.bool))

    def scores(self, constrained: bool = False, forbidden: float = -math.inf) -> _Scores:
        """
        The scores of transitions (N, N), from row to column, of starting (N,) and of ending (N,) with each tag: the
        parameters; if `constrained`, with `forbidden` in place of those of forbidden transitions.
        """
        transitions: torch.Tensor = self.transitions
        start: torch.Tensor
        end: torch.Tensor
        if self.include_start_end_transitions:
            start, end = self.start_transitions, self.end_transitions
        else:
            start = end = transitions.new_zeros(self.num_tags)
        if not constrained:
            return transitions, start, end
        barred, tags = self._constraint_mask == 0, slice(self.num_tags)
        return (
            transitions.masked_fill(barred[tags, tags], forbidden),
            start.masked_fill(barred[self.num_tags, tags], forbidden),
            end.masked_fill(barred[tags, self.num_tags + 1], forbidden),
        )

    def _weighted(self, logits: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        """The logits and transitions that the loss is computed from."""
        return logits, self.transitions

    @staticmethod
    def _in_one_type(logits: torch.Tensor, scores: _Scores) -> Tuple[torch.Tensor, _Scores]:
        """All in the type to compute in: float32, or float64 where that is given."""
        transitions, start, end = scores
        if logits.dtype == transitions.dtype == torch.float32:
            return logits, scores
        dtype = torch.promote_types(torch.promote_types(logits.dtype, transitions.dtype), torch.float32)
        return logits.to(dtype), (transitions.to(dtype), start.to(dtype), end.to(dtype))

    def _log_likelihood(
        self,
        logits: torch.Tensor,
        scores: _Scores,
        kept: KeptSteps,
        tags: Optional[torch.Tensor] = None,
        step_weights: Optional[torch.Tensor] = None,
    ) -> torch.Tensor:
        """`LogLikelihood` (B,), of `tags` and for `step_weights`, both (B, T), where given."""
        logits, scores = self._in_one_type(kept.to_front(logits), scores)
        if logits.numel() == 0:
            return logits.sum((1, 2))
        tags = None if tags is None else kept.to_front(tags)
        step_weights = None if step_weights is None else kept.to_front(step_weights)
        return LogLikelihood.apply(logits, *scores, kept.lengths, tags, step_weights)

    def _path_score(
        self, logits: torch.Tensor, scores: _Scores, kept: KeptSteps, tags: torch.Tensor
    ) -> torch.Tensor:
        """`sequence_scores` (B,) of `tags` (B, T)."""
        logits, scores = self._in_one_type(kept.to_front(logits), scores)
        if logits.numel() == 0:
            return logits.sum((1, 2))
        return sequence_scores(logits, *scores, kept.lengths, kept.to_front(tags))

    def _decode(
        self, logits: torch.Tensor, scores: _Scores, kept: KeptSteps, top_k: int
    ) -> Tuple[torch.Tensor, torch.Tensor]:
        """The `top_k` best sequences: tags (B, top_k, T), kept steps in front, and scores (B, top_k)."""
        if top_k < 1:
            raise ValueError(f"top_k is {top_k}; it must be None or at least 1.")
        logits, scores = self._in_one_type(kept.to_front(logits.detach()), scores)
        batch_size, num_steps, _ = logits.size()
        if logits.numel() == 0:
            best_scores = logits.new_full((batch_size, top_k), -math.inf)
            best_scores[:, 0] = 0.0
            return best_scores.new_zeros((batch_size, top_k, num_steps), dtype=torch.long), best_scores
        if top_k == 1:
            tags, best = best_sequences(logits, *scores, kept.lengths)
            return tags.unsqueeze(1), best.unsqueeze(1)
        return k_best_sequences(logits, *scores, kept.lengths, top_k)
