"""
Decoding of a linear-chain CRF in numpy: best sequences, n best, marginals, probabilities of spans and sequences.

All functions take `emissions` (B, T, N), the scores of N labels at T steps of B sentences, of which the first
`lengths` (B,) steps count; what stands beyond them (NaN included) changes nothing. `scores` are those of transitions:
(N, N) from the row's label to the column's, of the first label (N,) and of the last one (N,); -inf forbids. A
sequence with the score -inf stands for one that does not exist, and its labels mean nothing. An empty sentence has one
sequence, with the score 0.

Best sequences are computed in the type of the emissions, and of equal ones the first in the order of the ids is taken,
last label first, as AllenNLP does. Probabilities are computed in float64. Batches of sentences of like lengths are the
fastest, as each step is computed for all of them.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy
from numpy.typing import NDArray

Floats = NDArray[Any]
Integers = NDArray[numpy.int64]

# What AllenNLP scores a forbidden transition with. Here only for sentences without an allowed sequence.
_PENALTY = -10000.0
# Scores that lie further apart (natural logarithms) are summed by log-sum-exp, closer ones by a matrix product.
# float64 reaches from exp(-708) to exp(709).
_MAX_SPREAD = 200.0


class Scores(NamedTuple):
    """Scores of transitions (N, N), of first labels (N,) and of last labels (N,)."""

    transitions: Floats
    start: Floats
    end: Floats

    def restricted(self, allowed: NDArray[numpy.bool_] | None, forbidden: float = -numpy.inf) -> "Scores":
        """With `forbidden` where `allowed` (N + 2, N + 2) is not; N is the start and N + 1 the end."""
        if allowed is None:
            return self
        size = len(self.start)
        return Scores(
            numpy.where(allowed[:size, :size], self.transitions, forbidden),
            numpy.where(allowed[size, :size], self.start, forbidden),
            numpy.where(allowed[:size, size + 1], self.end, forbidden),
        )


def best_paths(
    emissions: Floats, lengths: Integers, scores: tuple[Floats, Floats, Floats]
) -> tuple[Integers, Floats]:
    """
    Viterbi decoding.

    # Returns

    `tuple[Integers, Floats]`
        Labels (B, T), 0 beyond the lengths, and the scores of the sequences (B,).
    """
    rows, num_steps, size = emissions.shape
    lengths = numpy.asarray(lengths)
    transitions, start, end = (numpy.asarray(part, emissions.dtype) for part in scores)
    tags = numpy.zeros((num_steps, rows), numpy.int64)
    if num_steps == 0 or rows == 0:
        return tags.T, numpy.zeros(rows, emissions.dtype)
    best = _by_step(
        emissions, lengths
    )  # (T, B, N), turned into the scores of the best sequences up to each step
    best[0] += start
    pairs = numpy.empty((rows, size, size), emissions.dtype)  # (B, from, to)
    highest = numpy.empty((rows, size), emissions.dtype)
    for previous, current in zip(best, best[1:]):
        numpy.add(previous[:, :, None], transitions, out=pairs)
        numpy.maximum.reduce(pairs, axis=1, out=highest)
        current += highest

    last = lengths - 1
    final = best[last, numpy.arange(rows)] + end  # (B, N)
    last_tags = final.argmax(1)
    path_scores = final.max(1)
    # The same additions as on the way forward find the same maxima again, bit by bit.
    to_from = numpy.ascontiguousarray(transitions.T)
    tags[-1] = last_tags
    for t in range(num_steps - 2, -1, -1):
        (to_from[tags[t + 1]] + best[t]).argmax(1, out=tags[t])
        numpy.copyto(tags[t], last_tags, where=last <= t)
    tags[numpy.arange(num_steps)[:, None] >= lengths] = 0
    return tags.T, numpy.where(lengths == 0, 0, path_scores)


def k_best_paths(
    emissions: Floats, lengths: Integers, scores: tuple[Floats, Floats, Floats], k: int
) -> tuple[Integers, Floats]:
    """
    The `k` best sequences, best first.

    # Returns

    `tuple[Integers, Floats]`
        Labels (B, k, T) and scores (B, k); the rest has the score -inf where there are fewer.
    """
    rows, num_steps, size = emissions.shape
    lengths = numpy.asarray(lengths)
    transitions, start, end = (numpy.asarray(part, emissions.dtype) for part in scores)
    steps = _by_step(emissions, lengths)
    # State j * k + r is the r-th best sequence that ends in label j.
    best = numpy.full((rows, size, k), -numpy.inf, emissions.dtype)
    if num_steps:
        best[:, :, 0] = steps[0] + start
    pointers = numpy.empty((max(num_steps - 1, 0), rows, size * k), numpy.int32)
    for t in range(1, num_steps):
        # From each state to each label: (B, to, from * k).
        pairs = best.reshape(rows, 1, size * k) + numpy.repeat(transitions.T, k, axis=1)
        reached, states = _k_highest(pairs, k)
        goes_on = (lengths > t)[:, None, None]
        best = numpy.where(goes_on, reached + steps[t][:, :, None], best)
        # Past its end a sentence keeps its scores, and each state points to itself.
        pointers[t - 1] = numpy.where(goes_on, states, numpy.arange(size * k).reshape(size, k)).reshape(
            rows, -1
        )
    path_scores, states = _k_highest((best + end[:, None]).reshape(rows, size * k), k)
    tags = numpy.zeros((num_steps, rows, k), numpy.int64)
    for t in range(num_steps - 1, -1, -1):
        tags[t] = states // k
        if t:
            states = numpy.take_along_axis(pointers[t - 1], states, axis=1)
    tags[numpy.arange(num_steps)[:, None] >= lengths] = 0
    of_nothing = numpy.where(numpy.arange(k) == 0, 0, -numpy.inf).astype(emissions.dtype)
    path_scores = numpy.where((lengths == 0)[:, None], of_nothing, path_scores)
    return tags.transpose(1, 2, 0), path_scores


def decode(
    emissions: Floats, lengths: Integers, scores: Scores, allowed: NDArray[numpy.bool_] | None, k: int = 1
) -> tuple[Integers, Floats]:
    """
    `k_best_paths` among the allowed sequences. A sentence that has none is decoded AllenNLP's way: each forbidden
    transition costs 10,000.

    # Parameters

    scores : `Scores`
        Without the constraints.
    allowed : `NDArray[numpy.bool_]`, optional
        (N + 2, N + 2), see `Scores.restricted`.
    """
    tags, path_scores = _decode(emissions, lengths, scores.restricted(allowed), k)
    impossible = numpy.flatnonzero(path_scores[:, 0] == -numpy.inf)
    if len(impossible):
        tags, path_scores = tags.copy(), path_scores.copy()
        penalized = scores.restricted(allowed, _PENALTY)
        lengths = numpy.asarray(lengths)[impossible]
        tags[impossible], path_scores[impossible] = _decode(emissions[impossible], lengths, penalized, k)
    return tags, path_scores


def path_scores(
    emissions: Floats, lengths: Integers, scores: tuple[Floats, Floats, Floats], tags: Integers
) -> NDArray[numpy.float64]:
    """The scores (B,) of the sequences `tags` (B, T)."""
    transitions, start, end = (numpy.asarray(part, numpy.float64) for part in scores)
    rows, num_steps, _ = emissions.shape
    lengths = numpy.asarray(lengths)
    if num_steps == 0:
        return numpy.zeros(rows)
    exists = numpy.arange(num_steps) < lengths[:, None]  # (B, T)
    tags = numpy.where(exists, tags, 0)
    steps = numpy.take_along_axis(emissions, tags[:, :, None], 2)[:, :, 0].astype(numpy.float64)
    total = numpy.where(exists, steps, 0).sum(1)
    total += numpy.where(exists[:, 1:], transitions[tags[:, :-1], tags[:, 1:]], 0).sum(1)
    ends = start[tags[:, 0]] + end[tags[numpy.arange(rows), lengths - 1]]
    return numpy.where(lengths > 0, total + ends, 0)


class Messages(NamedTuple):
    """
    Log-sums over the sequences: over all that precedes a step's label, itself included, (B, T, N); over all that
    follows it, (B, T, N); and over everything, (B,). Beyond a sentence's length they mean nothing.
    """

    forward: NDArray[numpy.float64]
    backward: NDArray[numpy.float64]
    log_partition: NDArray[numpy.float64]


def pass_messages(emissions: Floats, lengths: Integers, scores: tuple[Floats, Floats, Floats]) -> Messages:
    """The forward-backward algorithm."""
    transitions, start, end = (numpy.asarray(part, numpy.float64) for part in scores)
    lengths = numpy.asarray(lengths)
    rows, num_steps, size = emissions.shape
    steps = _by_step(emissions, lengths).astype(numpy.float64)
    forward = numpy.empty((num_steps, rows, size))
    backward = numpy.empty((num_steps, rows, size))
    if num_steps == 0 or rows == 0:
        return Messages(forward.transpose(1, 0, 2), backward.transpose(1, 0, 2), numpy.zeros(rows))
    step, step_back = _steppers(steps, transitions)
    forward[0] = start + steps[0]
    for t in range(1, num_steps):
        forward[t] = step(forward[t - 1]) + steps[t]
    backward[-1] = end
    for t in range(num_steps - 1, 0, -1):
        following = step_back(steps[t] + backward[t])
        backward[t - 1] = numpy.where((lengths <= t)[:, None], end, following)
    at_end = forward[lengths - 1, numpy.arange(rows)] + end
    log_partition = numpy.where(lengths > 0, _log_sum(at_end, 1), 0.0)
    return Messages(forward.transpose(1, 0, 2), backward.transpose(1, 0, 2), log_partition)


def log_partition(
    emissions: Floats, lengths: Integers, scores: tuple[Floats, Floats, Floats]
) -> NDArray[numpy.float64]:
    """The logarithm (B,) of the sum of exp(score) over all sequences."""
    return pass_messages(emissions, lengths, scores).log_partition


def marginals(
    emissions: Floats,
    lengths: Integers,
    scores: tuple[Floats, Floats, Floats],
    messages: Messages | None = None,
) -> NDArray[numpy.float64]:
    """
    The probability of each label at each step, (B, T, N): sums to 1 over the labels; 0 beyond a sentence's length and
    where no sequence is allowed.
    """
    messages = messages or pass_messages(emissions, lengths, scores)
    with numpy.errstate(invalid="ignore", over="ignore"):
        found = numpy.exp(messages.forward + messages.backward - messages.log_partition[:, None, None])
    exists = numpy.arange(emissions.shape[1]) < numpy.asarray(lengths)[:, None]
    return numpy.where(exists[:, :, None], numpy.nan_to_num(found, nan=0.0).clip(max=1.0), 0.0)


def sequence_probabilities(
    path_scores: NDArray[numpy.float64], log_partition: NDArray[numpy.float64]
) -> NDArray[numpy.float64]:
    """exp(score - log Z), (B,); 0 where no sequence is allowed."""
    with numpy.errstate(invalid="ignore"):
        found = numpy.exp(numpy.minimum(path_scores - log_partition, 0.0))
    return numpy.where(numpy.isneginf(log_partition), 0.0, numpy.nan_to_num(found, nan=0.0))


def span_probabilities(
    emissions: Floats,
    lengths: Integers,
    scores: tuple[Floats, Floats, Floats],
    tags: Integers,
    spans: Sequence[Sequence[tuple[int, int]]],
    continues: NDArray[numpy.bool_],
    messages: Messages | None = None,
) -> list[list[float]]:
    """
    The probability of each span: that its words have exactly these labels, and that it neither begins earlier nor
    ends later, whatever the other words are. For the span from s to e with the labels y_s..y_e of a sentence with
    the emissions x and the transitions A:

        P = 1/Z * [sum of exp(forward_(s-1)(a) + A[a, y_s]) over the labels a that y_s does not continue]
                * exp(x_s(y_s) + sum over s < t <= e of A[y_(t-1), y_t] + x_t(y_t))
                * [sum of exp(A[y_e, b] + x_(e+1)(b) + backward_(e+1)(b)) over the labels b that do not continue y_e]

    where the first bracket is exp(start(y_s)) at the first word and the last one exp(end(y_e)) at the last.

    # Parameters

    tags : `Integers`
        (B, T)
    spans : `Sequence[Sequence[tuple[int, int]]]`
        The first and the last word of each sentence's spans.
    continues : `NDArray[numpy.bool_]`
        (N, N): whether the column's label after the row's label belongs to the same span.

    # Returns

    `list[list[float]]`
        A probability for each span of each sentence; 0 where no sequence is allowed.
    """
    where = [(row, *span) for row, of_row in enumerate(spans) for span in of_row]
    if not where:
        return [[] for _ in spans]
    messages = messages or pass_messages(emissions, lengths, scores)
    transitions, start, end = (numpy.asarray(part, numpy.float64) for part in scores)
    lengths, num_steps = numpy.asarray(lengths), emissions.shape[1]
    row, first, last = numpy.array(where).T  # (S,) each
    begins, ends = tags[row, first], tags[row, last]
    inside = _inside_scores(emissions, transitions, tags, row, first, last)

    before = messages.forward[row, numpy.maximum(first - 1, 0)] + transitions.T[begins]  # (S, N)
    before = _log_sum(numpy.where(continues.T[begins], -numpy.inf, before), 1)
    before = numpy.where(first == 0, start[begins], before)
    following = numpy.minimum(last + 1, num_steps - 1)
    after = transitions[ends] + emissions[row, following] + messages.backward[row, following]
    after = _log_sum(numpy.where(continues[ends], -numpy.inf, after), 1)
    after = numpy.where(last == lengths[row] - 1, end[ends], after)

    probabilities = sequence_probabilities(before + inside + after, messages.log_partition[row])
    values = iter(probabilities.tolist())
    return [[next(values) for _ in of_row] for of_row in spans]


def _decode(emissions: Floats, lengths: Integers, scores: Scores, k: int) -> tuple[Integers, Floats]:
    if k > 1:
        return k_best_paths(emissions, lengths, scores, k)
    tags, best = best_paths(emissions, lengths, scores)
    return tags[:, None], best[:, None]


def _by_step(emissions: Floats, lengths: Integers) -> Floats:
    """A copy (T, B, N), with 0 beyond the lengths."""
    steps = numpy.array(emissions.transpose(1, 0, 2), order="C")
    steps[numpy.arange(len(steps))[:, None] >= lengths] = 0
    return steps


def _k_highest(values: Floats, k: int) -> tuple[Floats, Integers]:
    """The k highest along the last axis, highest first (equal ones in their order), and where they stand."""
    size = values.shape[-1]
    if size < k:
        padding = [(0, 0)] * (values.ndim - 1) + [(0, k - size)]
        values = numpy.pad(values, padding, constant_values=-numpy.inf)
    places = numpy.argsort(-values, axis=-1, kind="stable")[..., :k]
    return numpy.take_along_axis(values, places, -1), numpy.minimum(places, size - 1)


def _inside_scores(
    emissions: Floats, transitions: Floats, tags: Integers, row: Integers, first: Integers, last: Integers
) -> NDArray[numpy.float64]:
    """The emissions of each span's labels and the transitions between them, (S,)."""
    steps = numpy.take_along_axis(emissions, tags[:, :, None], 2)[:, :, 0].astype(numpy.float64)
    total = numpy.zeros(len(row))
    for offset in range(int((last - first).max()) + 1):
        position = first + offset
        live = position <= last
        place = row[live], position[live]
        total[live] += steps[place]
        if offset:
            total[live] += transitions[tags[row[live], position[live] - 1], tags[place]]
    return total


def _steppers(
    steps: NDArray[numpy.float64], transitions: NDArray[numpy.float64]
) -> tuple[Callable[[Floats], Floats], Callable[[Floats], Floats]]:
    """Two functions of messages (B, N): the log-sums over the transitions to each label, and from each label."""
    finite = transitions[transitions != -numpy.inf]
    spread = float(steps.max() - steps.min()) + (
        float(finite.max() - finite.min()) if finite.size else numpy.inf
    )
    if not spread < _MAX_SPREAD:
        return (
            lambda messages: _log_sum(messages[:, :, None] + transitions, 1),
            lambda messages: _log_sum(messages[:, None, :] + transitions, 2),
        )
    highest = finite.max()
    weights = numpy.exp(transitions - highest)  # (N, N)

    def multiply(messages: Floats, matrix: Floats) -> Floats:
        # A row without any allowed sequence is -inf throughout and stays so.
        shift = messages.max(1, keepdims=True)
        shift = numpy.where(shift == -numpy.inf, 0.0, shift)
        with numpy.errstate(divide="ignore"):
            return numpy.log(numpy.exp(messages - shift) @ matrix) + (shift + highest)

    return lambda messages: multiply(messages, weights), lambda messages: multiply(messages, weights.T)


def _log_sum(values: Floats, axis: int) -> Floats:
    """log(sum(exp(values))); -inf where all are."""
    shift = values.max(axis, keepdims=True)
    shift = numpy.where(numpy.isfinite(shift), shift, 0.0)
    with numpy.errstate(divide="ignore"):
        return numpy.log(numpy.exp(values - shift).sum(axis)) + shift.squeeze(axis)


def without_end_step(emissions: Floats, lengths: Integers, end: int) -> tuple[Floats, Integers]:
    """
    Emissions (B, T - 1, N) and lengths without the last step of each sentence, whose label is `end`. Its score is
    added to all labels of the last word, so that the scores of sequences stay what they are.
    """
    rows = numpy.arange(len(lengths))
    emissions = emissions.copy()
    emissions[rows, lengths - 2] += emissions[rows, lengths - 1, end][:, None]
    return emissions[:, :-1], lengths - 1
