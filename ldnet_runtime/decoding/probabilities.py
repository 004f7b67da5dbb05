"""Forward-backward algorithm: probabilities of labels, spans and sequences, in float64."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy
from numpy.typing import NDArray

from ldnet_runtime.decoding.scores import Floats, Integers, by_step

# Scores that lie further apart (natural logarithms) are summed by log-sum-exp, closer ones by a matrix product.
# float64 reaches from exp(-708) to exp(709).
_MAX_SPREAD = 200.0


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
    Log-sums over the sequences: up to a step's label, (B, T, N); after it, (B, T, N); and over whole sequences, (B,).
    Cells beyond a sentence's length are meaningless.
    """

    forward: NDArray[numpy.float64]
    backward: NDArray[numpy.float64]
    log_partition: NDArray[numpy.float64]


def pass_messages(emissions: Floats, lengths: Integers, scores: tuple[Floats, Floats, Floats]) -> Messages:
    """The forward-backward algorithm."""
    transitions, start, end = (numpy.asarray(part, numpy.float64) for part in scores)
    lengths = numpy.asarray(lengths)
    rows, num_steps, size = emissions.shape
    steps = by_step(emissions, lengths).astype(numpy.float64)
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
    The probability of each label at each step, (B, T, N), which sums to 1 over the labels; 0 beyond a sentence's length
    and without an allowed sequence.
    """
    messages = messages or pass_messages(emissions, lengths, scores)
    with numpy.errstate(invalid="ignore", over="ignore"):
        found = numpy.exp(messages.forward + messages.backward - messages.log_partition[:, None, None])
    exists = numpy.arange(emissions.shape[1]) < numpy.asarray(lengths)[:, None]
    return numpy.where(exists[:, :, None], numpy.nan_to_num(found, nan=0.0).clip(max=1.0), 0.0)


def sequence_probabilities(
    path_scores: NDArray[numpy.float64], log_partition: NDArray[numpy.float64]
) -> NDArray[numpy.float64]:
    """The probability exp(score - log Z) of sequences, (B,); 0 without an allowed sequence."""
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
    The probability of each span: that its words have exactly these labels, and that it neither begins earlier nor ends
    later, for any labels of the other words. For the span from s to e with the labels y_s..y_e of a sentence with the
    emissions x and the transitions A:

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
        A probability for each span of each sentence; 0 without an allowed sequence.
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
    """log(sum(exp(values))); -inf if all values are -inf."""
    shift = values.max(axis, keepdims=True)
    shift = numpy.where(numpy.isfinite(shift), shift, 0.0)
    with numpy.errstate(divide="ignore"):
        return numpy.log(numpy.exp(values - shift).sum(axis)) + shift.squeeze(axis)
