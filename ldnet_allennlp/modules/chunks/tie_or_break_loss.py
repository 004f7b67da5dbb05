"""Loss of the "tie or break" scheme (AutoNER; Shang et al. 2018, arXiv 1809.03599), on full or partial labels."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch.nn.functional import binary_cross_entropy_with_logits, pad

from ldnet_runtime.decoding.chunks import chunk_types
from ldnet_runtime.tag_schemes import OUTSIDE, canonical_encoding, role_of, split_tag

TIE, BREAK, UNKNOWN = 0, 1, 2


class KnownChunks(NamedTuple):
    """The sentence, first and last gap of each chunk whose gaps are all known, and its allowed types (C, K + 1)."""

    rows: torch.Tensor
    starts: torch.Tensor
    ends: torch.Tensor
    types: torch.Tensor


class TieOrBreakLoss(torch.nn.Module):
    """
    Loss of the gaps and chunks that the allowed tags of words determine. For the scores, see
    `ldnet_runtime.decoding.chunks`.

    The gap between two words is a tie (a break) if every allowed pair of their tags is within one span (is not). It is
    unknown if both occur. It is also unknown between a word that may have any tag and one that is outside: in the
    paper, all gaps at a phrase of unknown type are unknown, except at the ends of other matches. Unknown gaps and
    chunks next to them are not part of the loss.

    # Parameters

    labels : `Sequence[str]`
        The N tags in the order of their ids.
    label_encoding : `str`
        One of `CHUNK_ENCODINGS`.
    """

    joins: torch.Tensor
    breaks: torch.Tensor
    type_of_tag: torch.Tensor

    def __init__(self, labels: Sequence[str], label_encoding: str) -> None:
        super().__init__()
        parts = [split_tag(label) or ("-", "-") for label in labels]  # padding has no type at all
        roles = [(role_of(letter), None if letter == OUTSIDE else kind) for letter, kind in parts]
        # Roles that end a chunk. In BIO, the next tag decides.
        closing = "BIO" if canonical_encoding(label_encoding) == "BIO" else "ESO"
        joins = [[a in "BI" and b in "IE" and kind == other for b, other in roles] for a, kind in roles]
        breaks = [[a in closing and b in "BSO" for b, _ in roles] for a, _ in roles]
        type_of_tag = [[kind == name for name in (None, *chunk_types(labels))] for _, kind in roles]
        # (N, N), (N, N) and (N, K + 1)
        for name, rows in (("joins", joins), ("breaks", breaks), ("type_of_tag", type_of_tag)):
            self.register_buffer(name, torch.tensor(rows), persistent=False)
        self.outside = list(labels).index(OUTSIDE)

    def gaps(self, allowed: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """
        The gaps (B, T + 1) of sentences whose words have the allowed tags (B, T, N): `TIE`, `BREAK` or `UNKNOWN`. The
        gaps at the ends of a sentence are breaks, and those beyond its end are ties.
        """
        left, right = allowed[:, :-1], allowed[:, 1:]
        may_tie = ((left.float() @ self.joins.float() > 0) & right).any(-1)
        may_break = ((left.float() @ self.breaks.float() > 0) & right).any(-1)
        free = allowed.all(-1)
        outside = allowed[..., self.outside] & (allowed.sum(-1) == 1)
        may_tie |= (free[:, :-1] & outside[:, 1:]) | (outside[:, :-1] & free[:, 1:])
        inner = torch.where(may_tie == may_break, UNKNOWN, may_break.long())  # (B, T - 1)
        gaps = pad(inner, (1, 1), value=BREAK) * pad(mask.long(), (1, 0), value=1)
        return gaps.scatter(1, mask.sum(1, keepdim=True), BREAK)

    def chunks(self, allowed: torch.Tensor, gaps: torch.Tensor) -> KnownChunks:
        """The chunks between two breaks with ties alone between them, and the types that all of their words allow."""
        rows, places = (gaps != TIE).nonzero(as_tuple=True)
        known = gaps[rows, places] == BREAK
        kept = (rows[:-1] == rows[1:]) & known[:-1] & known[1:]
        rows, starts, ends = rows[:-1][kept], places[:-1][kept], places[1:][kept]
        refused = (allowed.float() @ self.type_of_tag.float() == 0).long()  # (B, T, K + 1)
        before = pad(refused.cumsum(1), (0, 0, 1, 0))  # (B, T + 1, K + 1)
        return KnownChunks(rows, starts, ends, before[rows, ends] == before[rows, starts])

    def forward(self, scores: torch.Tensor, allowed: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """
        The sum of the cross entropies of the known gaps and of the types of the chunks between them. A chunk with
        several allowed types has the negative logarithm of their total probability, whose gradient is that of the
        paper's soft label: the model's probabilities of the allowed types, scaled to sum to one.

        # Parameters

        scores : `torch.Tensor`
            (B, T, M)
        allowed : `torch.Tensor`
            (B, T, N), boolean: the allowed tags of each word.
        mask : `torch.Tensor`
            (B, T)

        # Returns

        `torch.Tensor`
            A scalar.
        """
        allowed = allowed & mask.unsqueeze(-1)
        gaps = self.gaps(allowed, mask)
        of_gaps = gap_scores(scores, mask)
        inner = gaps[:, 1:-1]
        in_loss = (inner != UNKNOWN) & mask[:, 1:]
        loss = binary_cross_entropy_with_logits(
            of_gaps[:, 1:-1, 0][in_loss], inner[in_loss].to(scores.dtype), reduction="sum"
        )
        chunks = self.chunks(allowed, gaps)
        size = chunks.types.size(1)
        types = of_gaps[chunks.rows, chunks.starts, 1 : 1 + size]
        types = types + of_gaps[chunks.rows, chunks.ends, 1 + size :]  # (C, K + 1)
        possible = chunks.types.any(1)  # labels that contradict each other leave no type
        total = types.log_softmax(-1).masked_fill(~chunks.types, -torch.inf)[possible].logsumexp(-1)
        return loss - total.sum()


def score_names(labels: Sequence[str]) -> list[tuple[str | None, ...]]:
    """Names of the M scores of a word: the side of the gap; a break, or the end of a chunk and its type."""
    ends = [(end, kind) for end in ("begins", "ends") for kind in (None, *chunk_types(labels))]
    return [(side, *part) for side in ("after", "before") for part in (("break",), *ends)]


def gap_scores(scores: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The scores (B, T + 1, M / 2) of the gaps, as `ldnet_runtime.decoding.chunks.gap_scores` computes them."""
    words = torch.where(mask.unsqueeze(-1), scores, torch.zeros_like(scores))
    after, before = words.chunk(2, dim=-1)
    return pad(after, (0, 0, 0, 1)) + pad(before, (0, 0, 1, 0))
