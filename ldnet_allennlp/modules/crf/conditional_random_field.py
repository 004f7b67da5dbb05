"""AllenNLP's conditional random field, vectorized over the batch."""

import math

import torch
from allennlp.modules.conditional_random_field import ConditionalRandomField
from allennlp.modules.conditional_random_field.conditional_random_field import VITERBI_DECODING
from overrides import overrides

from ldnet_allennlp.modules.crf.forward_backward import log_partition
from ldnet_allennlp.modules.crf.steps import KeptSteps, last_step, step_mask
from ldnet_allennlp.modules.crf.viterbi import best_sequences, k_best_sequences

# AllenNLP's score of a forbidden transition, used here only for sentences without an allowed tag sequence.
_PENALTY = -10000.0
# Transitions (N, N), start transitions (N,) and end transitions (N,).
Scores = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


class FastConditionalRandomField(ConditionalRandomField):
    """
    A drop-in replacement for AllenNLP's `ConditionalRandomField`: the same constructor, parameters (checkpoints load
    in both directions) and results, with a closed-form gradient.

    All methods take scores `logits` (B, T, N) and a boolean `mask` (B, T), `None` for all steps. Masked steps are
    skipped, at any position in the row, and the content of masked cells (NaN included) affects neither results nor
    gradients. A row without steps is the empty sequence: its log-likelihood is 0, and it decodes to `[]` with score 0.
    Half-precision scores are computed in float32, also under autocast. `tags` (B, T) are ids from 0 to N - 1, arbitrary
    at masked steps. Wrong shapes raise `ValueError`.

    Differences from AllenNLP's class:

    * AllenNLP's loss reads the first step even if it is masked, reads the wrong last tag if steps in the middle are
      masked, and fails on a row without steps.
    * A forbidden transition is impossible, not scored -10000: scores of any size respect it, and `top_k` returns fewer
      sequences where fewer are allowed. A sentence without any allowed sequence is decoded with -10000 for each
      forbidden transition.
    * Second derivatives raise a `RuntimeError`.

    As in AllenNLP, constraints apply to decoding and not to the loss.

    # Parameters

    num_tags : `int`
        The number of tags, N.
    constraints : `List[Tuple[int, int]]`, optional (default = `None`)
        The allowed transitions (from tag, to tag), from AllenNLP's `allowed_transitions`. Tag N is the start, N + 1
        the end. `None` allows all.
    include_start_end_transitions : `bool`, optional (default = `True`)
        Whether the first and the last tag of a sentence have start and end scores.
    """

    # Ids of tags that no decoded sequence may contain.
    never_decoded: tuple[int, ...] = ()

    @overrides
    def forward(
        self, inputs: torch.Tensor, tags: torch.Tensor, mask: torch.BoolTensor | None = None
    ) -> torch.Tensor:
        """The log-likelihood of `tags`, a scalar: the sum over the batch."""
        kept = self._kept(inputs, mask, tags)
        return (
            self._path_score(inputs, self.scores(), kept, tags) - self._log_z(inputs, self.scores(), kept)
        ).sum()

    def partial_log_likelihood(
        self, logits: torch.Tensor, allowed: torch.Tensor, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """
        The log-likelihood of partial labels, a scalar: for each sentence the log of the total score of all sequences
        whose tags are `allowed` (B, T, N), minus that of all sequences (Tsuboi et al. 2008, "Training conditional
        random fields using incomplete annotations"). Constraints play no part.
        """
        kept = self._kept(logits, mask)
        if allowed.size() != logits.size():
            raise ValueError(
                f"Found allowed tags of size {tuple(allowed.size())}, expected {tuple(logits.size())} as the logits."
            )
        of_allowed = logits.masked_fill(~allowed, -math.inf)
        return (self._log_z(of_allowed, self.scores(), kept) - self._log_z(logits, self.scores(), kept)).sum()

    def log_partition(
        self, logits: torch.Tensor, mask: torch.Tensor | None = None, constrained: bool = False
    ) -> torch.Tensor:
        """
        The log of the sum of exp(score) over all tag sequences, or (unlike in the loss) over the allowed ones: (B,),
        differentiable, -inf where no sequence is allowed. exp(score - log_partition) is a sequence's probability.
        """
        return self._log_z(logits, self.scores(constrained), self._kept(logits, mask))

    def path_score(
        self, logits: torch.Tensor, tags: torch.Tensor, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """
        The score (B,) of one tag sequence for each sentence, differentiable: the sum of its logits and transitions.
        Constraints play no part.
        """
        return self._path_score(logits, self.scores(), self._kept(logits, mask, tags), tags)

    def marginals(
        self, logits: torch.Tensor, mask: torch.Tensor | None = None, constrained: bool = False
    ) -> torch.Tensor:
        """
        The probability of each tag at each step given the whole sentence, (B, T, N), without a graph: among all
        sequences, or among the allowed ones. 0 at masked steps and where no sequence is allowed.
        """
        with torch.enable_grad():
            logits = logits.detach().requires_grad_()
            if logits.dtype in (torch.float16, torch.bfloat16):
                logits = logits.float().detach().requires_grad_()
            total = self.log_partition(logits, mask, constrained).sum()
            return torch.autograd.grad(total, logits)[0]

    def perceptron_loss(
        self, inputs: torch.Tensor, tags: torch.Tensor, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """
        The structured perceptron's loss (Collins 2002), a scalar: the score of the best tag sequence minus that of
        `tags`, summed over the batch. The best sequence ignores the constraints, which do not apply to losses.
        """
        kept, scores = self._kept(inputs, mask, tags), self.scores()
        best, _ = self._decode(inputs, scores, kept, top_k=1)
        best_score = self._path_score(inputs, scores, kept, kept.to_places(best[:, 0]))
        return (best_score - self._path_score(inputs, scores, kept, tags)).sum()

    @torch.no_grad()
    @overrides
    def viterbi_tags(
        self, logits: torch.Tensor, mask: torch.BoolTensor | None = None, top_k: int | None = None
    ) -> list[VITERBI_DECODING] | list[list[VITERBI_DECODING]]:
        """
        The best allowed tag sequence of each sentence (without masked steps) and its score, or, with `top_k`, the list
        of its best ones, best first.
        """
        kept, k = self._kept(logits, mask), 1 if top_k is None else top_k
        tags, scores = self._decode(logits, self.scores(constrained=True), kept, k)
        path_scores = scores.tolist()
        impossible = [b for b, best in enumerate(path_scores) if best[0] == -math.inf]
        if impossible:
            some = KeptSteps(*(None if part is None else part[impossible] for part in kept))
            penalized = self.scores(constrained=True, forbidden=_PENALTY)
            tags[impossible], scores[impossible] = self._decode(logits[impossible], penalized, some, k)
            path_scores = scores.tolist()
        lengths = [logits.size(1)] * logits.size(0) if kept.lengths is None else kept.lengths.tolist()
        decoded = []
        for paths, scores_of_paths, length in zip(tags.tolist(), path_scores, lengths):
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
        barred, tags = ~self.constraint_matrix(), slice(self.num_tags)
        transitions = transitions.masked_fill(barred[tags, tags], forbidden)
        start = start.masked_fill(barred[self.num_tags, tags], forbidden)
        end = end.masked_fill(barred[tags, self.num_tags + 1], forbidden)
        if self.never_decoded:
            never = torch.zeros_like(start, dtype=torch.bool)
            never[list(self.never_decoded)] = True
            transitions = transitions.masked_fill(never | never.unsqueeze(1), -math.inf)
            start, end = start.masked_fill(never, -math.inf), end.masked_fill(never, -math.inf)
        return transitions, start, end

    def constraint_matrix(self) -> torch.Tensor:
        """The allowed transitions in decoding, (N + 2, N + 2), from row to column; N is the start and N + 1 the end."""
        allowed = self._constraint_mask > 0
        if self.never_decoded:
            allowed[list(self.never_decoded)] = False
            allowed[:, list(self.never_decoded)] = False
        return allowed

    def _unconstrained_scores(self) -> Scores:
        transitions: torch.Tensor = self.transitions
        if self.include_start_end_transitions:
            return transitions, self.start_transitions, self.end_transitions
        zeros = transitions.new_zeros(self.num_tags)
        return transitions, zeros, zeros

    def _kept(
        self, logits: torch.Tensor, mask: torch.Tensor | None, tags: torch.Tensor | None = None
    ) -> KeptSteps:
        """The unmasked steps. Checks the sizes."""
        if logits.dim() != 3 or logits.size(2) != self.num_tags:
            raise ValueError(
                f"Found logits of size {tuple(logits.size())}, expected (batch size, number of steps, "
                f"{self.num_tags}) for a CRF with num_tags {self.num_tags}."
            )
        for name, tensor in (("mask", mask), ("tags", tags)):
            if tensor is not None and tensor.size() != logits.size()[:2]:
                raise ValueError(
                    f"Found {name} of size {tuple(tensor.size())}, expected {tuple(logits.size()[:2])} with logits of "
                    f"size {tuple(logits.size())}."
                )
        return KeptSteps(None, None) if mask is None else KeptSteps.from_mask(mask.to(torch.bool))

    def _log_z(
        self, logits: torch.Tensor, scores: Scores, kept: KeptSteps, step_weights: torch.Tensor | None = None
    ) -> torch.Tensor:
        """`log_partition` (B,) of the kept steps, with optional `step_weights` (B, T)."""
        logits, scores = _in_one_type(kept.to_front(logits), scores)
        if logits.numel() == 0:
            return logits.sum((1, 2))
        step_weights = None if step_weights is None else kept.to_front(step_weights)
        return log_partition(logits, *scores, kept.lengths, step_weights)

    def _path_score(
        self, logits: torch.Tensor, scores: Scores, kept: KeptSteps, tags: torch.Tensor
    ) -> torch.Tensor:
        """The scores (B,) of `tags` (B, T)."""
        logits, (transitions, start, end) = _in_one_type(kept.to_front(logits), scores)
        if logits.numel() == 0:
            return logits.sum((1, 2))
        tags = kept.to_front(tags)
        if kept.lengths is None:
            steps = logits.gather(2, tags.unsqueeze(2)).squeeze(2)  # (B, T)
            moves = transitions[tags[:, :-1], tags[:, 1:]]  # (B, T - 1)
            return steps.sum(1) + moves.sum(1) + start[tags[:, 0]] + end[tags[:, -1]]
        exists = step_mask(kept.lengths, tags.size(1)).t()  # (B, T)
        tags = tags.masked_fill(~exists, 0)
        steps = logits.gather(2, tags.unsqueeze(2)).squeeze(2).masked_fill(~exists, 0.0)
        moves = transitions[tags[:, :-1], tags[:, 1:]].masked_fill(~exists[:, 1:], 0.0)
        ends = start[tags[:, 0]] + end[tags.t()[last_step(kept.lengths)]]  # (B,)
        return steps.sum(1) + moves.sum(1) + ends.masked_fill(kept.lengths == 0, 0.0)

    def _decode(
        self, logits: torch.Tensor, scores: Scores, kept: KeptSteps, top_k: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The `top_k` best sequences: tags (B, top_k, T), kept steps in front, and scores (B, top_k)."""
        if top_k < 1:
            raise ValueError(f"top_k is {top_k}; it must be None or at least 1.")
        logits, scores = _in_one_type(kept.to_front(logits.detach()), scores)
        batch_size, num_steps, _ = logits.size()
        if logits.numel() == 0:
            best_scores = logits.new_full((batch_size, top_k), -math.inf)
            best_scores[:, 0] = 0.0
            return best_scores.new_zeros((batch_size, top_k, num_steps), dtype=torch.long), best_scores
        if top_k == 1:
            tags, best = best_sequences(logits, *scores, kept.lengths)
            return tags.unsqueeze(1), best.unsqueeze(1)
        return k_best_sequences(logits, *scores, kept.lengths, top_k)


def _in_one_type(logits: torch.Tensor, scores: Scores) -> tuple[torch.Tensor, Scores]:
    """The tensors in the type of the computation: float64 if any of them is, else float32."""
    transitions, start, end = scores
    dtype = torch.promote_types(torch.promote_types(logits.dtype, transitions.dtype), torch.float32)
    return logits.to(dtype), (transitions.to(dtype), start.to(dtype), end.to(dtype))
