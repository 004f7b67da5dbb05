"""Best and k-best label sequences (Viterbi)."""

import numpy
from numpy.typing import NDArray

from ldnet_runtime.decoding.scores import Floats, Integers, Scores, by_step

# AllenNLP's score of a forbidden transition, used only for sentences without an allowed sequence.
_PENALTY = -10000.0


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
    best = by_step(
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
        Labels (B, k, T) and scores (B, k); missing sequences have the score -inf.
    """
    rows, num_steps, size = emissions.shape
    lengths = numpy.asarray(lengths)
    transitions, start, end = (numpy.asarray(part, emissions.dtype) for part in scores)
    steps = by_step(emissions, lengths)
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
    `k_best_paths` among the allowed sequences. A sentence without any is decoded as in AllenNLP: each forbidden
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


def without_end_step(emissions: Floats, lengths: Integers, end: int) -> tuple[Floats, Integers]:
    """
    Emissions (B, T - 1, N) and lengths without the last step of each sentence, whose label is `end`. Its score is added
    to all labels of the last word, so sequence scores stay the same.
    """
    rows = numpy.arange(len(lengths))
    emissions = emissions.copy()
    emissions[rows, lengths - 2] += emissions[rows, lengths - 1, end][:, None]
    return emissions[:, :-1], lengths - 1


def _decode(emissions: Floats, lengths: Integers, scores: Scores, k: int) -> tuple[Integers, Floats]:
    if k > 1:
        return k_best_paths(emissions, lengths, scores, k)
    tags, best = best_paths(emissions, lengths, scores)
    return tags[:, None], best[:, None]


def _k_highest(values: Floats, k: int) -> tuple[Floats, Integers]:
    """The k highest values along the last axis, highest first (ties in order), with their positions."""
    size = values.shape[-1]
    if size < k:
        padding = [(0, 0)] * (values.ndim - 1) + [(0, k - size)]
        values = numpy.pad(values, padding, constant_values=-numpy.inf)
    places = numpy.argsort(-values, axis=-1, kind="stable")[..., :k]
    return numpy.take_along_axis(values, places, -1), numpy.minimum(places, size - 1)
