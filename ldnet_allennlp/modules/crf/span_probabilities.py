"""How sure a CRF is of single spans: exact probabilities from forward and backward scores."""

import math
from typing import List, NamedTuple, Sequence, Tuple

import torch

from ldnet_allennlp.modules.crf.conditional_random_field import FastConditionalRandomField

# Scores that lie further apart (natural logarithms) are summed by logsumexp, closer ones by a matrix product.
# float64 reaches from exp(-708) to exp(709).
_MAX_SPREAD = 200.0


class _Messages(NamedTuple):
    """Log-sums over all that precedes a step's tag (itself included), and over all that follows it (without)."""

    forward: torch.Tensor  # (B, T, N)
    backward: torch.Tensor  # (B, T, N)
    log_partition: torch.Tensor  # (B,)


@torch.no_grad()
def span_probabilities(
    crf: FastConditionalRandomField,
    logits: torch.Tensor,
    mask: torch.Tensor,
    tags: Sequence[Sequence[int]],
    spans: Sequence[Sequence[Tuple[int, int]]],
    continues: torch.Tensor,
) -> List[List[float]]:
    """
    The probability of each span: that its words have exactly these tags, and that it neither begins earlier nor
    ends later, whatever the other words are. For the span from s to e with the tags y_s..y_e of a sentence with
    the scores x and the transitions A:

        P = 1/Z * [sum of exp(forward_(s-1)(a) + A[a, y_s]) over the tags a that y_s does not continue]
                * exp(x_s(y_s) + sum over s < t <= e of A[y_(t-1), y_t] + x_t(y_t))
                * [sum of exp(A[y_e, b] + x_(e+1)(b) + backward_(e+1)(b)) over the tags b that do not continue y_e]

    where the first bracket is exp(start(y_s)) at the first word and the last one exp(end(y_e)) at the last. All
    sums, Z too, are over the tag sequences that the constraints allow, which is what decoding chooses from.
    Computed in float64, in time linear in the number of steps.

    # Parameters

    crf : `FastConditionalRandomField`
        The CRF.
    logits : `torch.Tensor`
        (B, T, N)
    mask : `torch.Tensor`
        (B, T), boolean; the words of each sentence are its first steps.
    tags : `Sequence[Sequence[int]]`
        The tag ids of each sentence's words.
    spans : `Sequence[Sequence[Tuple[int, int]]]`
        The first and the last word of each sentence's spans.
    continues : `torch.Tensor`
        (N, N), boolean: whether the column's tag after the row's tag belongs to the same span.

    # Returns

    `List[List[float]]`
        A probability for each span of each sentence; 0 where no tag sequence is allowed.
    """
    rows = [row for row, found in enumerate(spans) if found]
    if not rows:
        return [[] for _ in spans]
    # Not the parameters themselves: the CRF's subclasses have different ones.
    transitions, start, end = (part.detach().double() for part in crf.scores(constrained=True))
    kept = mask[rows].to(torch.bool)
    lengths = kept.sum(1)
    steps = int(lengths.max())
    scores = logits[rows, :steps].detach().double().masked_fill(~kept[:, :steps].unsqueeze(2), 0.0)
    messages = _pass_messages(scores, lengths, transitions, start, end)
    path = torch.nn.utils.rnn.pad_sequence([torch.tensor(tags[row]) for row in rows], batch_first=True)
    path = path.to(scores.device)  # (rows, T)
    where = [(position, *span) for position, row in enumerate(rows) for span in spans[row]]
    row, first, last = torch.tensor(where, device=scores.device).unbind(1)  # (spans,) each

    step_scores = scores.gather(2, path.unsqueeze(2)).squeeze(2)  # (rows, T)
    step_scores[:, 1:] += transitions[path[:, :-1], path[:, 1:]]
    inside = _range_sums(step_scores, row, first + 1, last + 1)  # (spans,)

    begins, ends = path[row, first], path[row, last]
    before = messages.forward[row, first - 1] + transitions[:, begins].t()  # (spans, N)
    before = torch.logsumexp(before.masked_fill(continues[:, begins].t(), -math.inf), 1)
    before = torch.where(first == 0, start[begins], before) + scores[row, first, begins]
    following = (last + 1).clamp(max=steps - 1)
    after = transitions[ends] + scores[row, following] + messages.backward[row, following]
    after = torch.logsumexp(after.masked_fill(continues[ends], -math.inf), 1)
    after = torch.where(last == lengths[row] - 1, end[ends], after)

    # Without any allowed sequence this is exp(-inf + inf).
    found = (before + inside + after - messages.log_partition[row]).exp().nan_to_num(0.0).clamp(max=1.0)
    values = iter(found.tolist())
    return [[next(values) for _ in of_sentence] for of_sentence in spans]


def _range_sums(
    values: torch.Tensor, row: torch.Tensor, first: torch.Tensor, stop: torch.Tensor
) -> torch.Tensor:
    """The sums of `values` (rows, T) over [first, stop) of a row each; -inf only where the range holds it."""
    forbidden = values == -math.inf
    zero = values.new_zeros((values.size(0), 1))
    sums = torch.cat([zero, values.masked_fill(forbidden, 0.0).cumsum(1)], 1)
    counts = torch.cat([zero, forbidden.to(values.dtype).cumsum(1)], 1)
    difference = sums[row, stop] - sums[row, first]
    return difference.masked_fill(counts[row, stop] > counts[row, first], -math.inf)


def _pass_messages(
    scores: torch.Tensor,
    lengths: torch.Tensor,
    transitions: torch.Tensor,
    start: torch.Tensor,
    end: torch.Tensor,
) -> _Messages:
    """`scores` (B, T, N); what stands beyond a sentence's length means nothing in the result."""
    step, step_back = _steppers(scores, transitions)
    batch, steps, _ = scores.size()
    forward = [start + scores[:, 0]]  # (B, N) each
    for t in range(1, steps):
        forward.append(step(forward[-1]) + scores[:, t])
    backward = [end.expand(batch, -1)]
    for t in range(steps - 1, 0, -1):
        following = step_back(scores[:, t] + backward[-1])
        backward.append(torch.where((lengths <= t).unsqueeze(1), end, following))
    forwards = torch.stack(forward, 1)
    last = forwards[torch.arange(batch, device=scores.device), lengths - 1]  # (B, N)
    return _Messages(forwards, torch.stack(backward[::-1], 1), torch.logsumexp(last + end, 1))


def _steppers(scores: torch.Tensor, transitions: torch.Tensor):
    """Two functions of messages (B, N): the log-sum over the transitions from each tag, and to each tag."""
    allowed = transitions[transitions != -math.inf]
    spread = float(scores.amax() - scores.amin())
    spread += float(allowed.amax() - allowed.amin()) if allowed.numel() else math.inf
    if not spread < _MAX_SPREAD:
        return (
            lambda messages: torch.logsumexp(messages.unsqueeze(2) + transitions, 1),
            lambda messages: torch.logsumexp(messages.unsqueeze(1) + transitions, 2),
        )
    highest = allowed.amax()
    weights = (transitions - highest).exp()  # (N, N)

    def multiply(messages: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
        # A row without any allowed sequence is -inf throughout and stays so.
        shift = messages.amax(1, keepdim=True).nan_to_num(neginf=0.0) + highest
        return ((messages - shift + highest).exp() @ matrix).log() + shift

    return lambda messages: multiply(messages, weights), lambda messages: multiply(messages, weights.t())
