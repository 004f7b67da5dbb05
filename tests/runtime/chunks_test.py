"""Tie-or-break scores beside an enumeration of all chunks and types."""

import itertools
import math

import numpy
import pytest

from ldnet_runtime.decoding.chunks import ChunkDecoder, chunk_types, num_chunk_scores
from ldnet_runtime.errors import InputError
from ldnet_runtime.prediction import Options
from ldnet_runtime.tag_schemes import tags_from_spans

LENGTHS = numpy.array([4, 1, 0, 3])


def labels_of(encoding):
    spans = [("A", 0, 2), ("A", 3, 3), ("B", 4, 6), ("B", 7, 7)]
    return sorted({*tags_from_spans(spans, 9, encoding)})


def scores_of(labels, seed=0):
    """Padding is NaN, so that nothing may depend on it."""
    generator = numpy.random.default_rng(seed)
    scores = generator.normal(0, 2, (4, 5, num_chunk_scores(labels))).astype(numpy.float32)
    scores[numpy.arange(5) >= LENGTHS[:, None]] = numpy.nan
    return scores


def enumerate_sentence(words):
    """(probability, chunks) of all ways to cut a sentence and to type its chunks, from the definition."""
    size, half = len(words), words.shape[1] // 2
    gaps = [
        (words[place, :half] if place < size else 0) + (words[place - 1, half:] if place else 0)
        for place in range(size + 1)
    ]
    for is_break in itertools.product([False, True], repeat=size - 1):
        places = [0, *(place for place, cut in enumerate(is_break, 1) if cut), size]
        p = math.prod(
            1 / (1 + math.exp(-gaps[place][0] if cut else gaps[place][0]))
            for place, cut in enumerate(is_break, 1)
        )
        pairs = list(zip(places, places[1:]))
        of_types = []
        for start, end in pairs:
            powers = [math.exp(gaps[start][1 + k] + gaps[end][4 + k]) for k in range(3)]
            of_types.append([power / sum(powers) for power in powers])
        for types in itertools.product(range(3), repeat=len(pairs)):
            total = p * math.prod(row[k] for row, k in zip(of_types, types))
            yield total, is_break, [(start, end, k) for (start, end), k in zip(pairs, types)]


def tags_of(chunks, types, size, encoding):
    return tags_from_spans([(types[k - 1], start, end - 1) for start, end, k in chunks if k], size, encoding)


@pytest.mark.parametrize("encoding", ["BIO", "BIOUL", "IOBES", "BMES"])
def test_equals_an_enumeration(encoding):
    labels = labels_of(encoding)
    decoder, scores = ChunkDecoder(labels, encoding), scores_of(labels)
    decoded = decoder.decode(scores, LENGTHS, Options(marginals=True))
    num_spans = 0
    for row, size in enumerate(LENGTHS):
        if size == 0:
            assert decoded[row].tags == decoded[row].spans == decoded[row].marginals == []
            continue
        ways = list(enumerate_sentence(scores[row, :size].astype(float)))
        assert sum(p for p, _, _ in ways) == pytest.approx(1)
        cuts = {}
        for p, cut, _ in ways:
            cuts[cut] = cuts.get(cut, 0) + p
        best_cut = max(cuts, key=lambda cut: cuts[cut])  # gaps are independent of each other
        _, chunks = max((p, chunks) for p, cut, chunks in ways if cut == best_cut)
        assert decoded[row].tags == tags_of(chunks, decoder.types, size, encoding)
        spans = [(start, end, k) for start, end, k in chunks if k]
        assert [span[1:3] for span in decoded[row].spans] == [span[:2] for span in spans]
        for span, (_, _, _, confidence) in zip(spans, decoded[row].spans):
            assert confidence == pytest.approx(sum(p for p, _, chunks in ways if span in chunks))
        for step in range(size):
            for label in labels:
                p = sum(
                    p
                    for p, _, chunks in ways
                    if tags_of(chunks, decoder.types, size, encoding)[step] == label
                )
                assert decoded[row].marginals[step][label] == pytest.approx(p, abs=1e-12)
        num_spans += len(spans)
    assert num_spans >= 3


def test_padding_changes_nothing():
    labels = labels_of("BIOUL")
    decoder, scores = ChunkDecoder(labels, "BIOUL"), scores_of(labels)
    together = decoder.decode(scores, LENGTHS, Options())
    for row, size in enumerate(LENGTHS):
        assert decoder.decode(scores[row : row + 1, :size], LENGTHS[row : row + 1], Options()) == [
            together[row]
        ]


def test_marginals_of_large_scores_are_those_of_the_tags():
    labels = labels_of("BIOUL")
    scores, options = 1e4 * scores_of(labels), Options(marginals=True)
    with numpy.errstate(over="raise"):
        decoded = ChunkDecoder(labels, "BIOUL").decode(scores, LENGTHS, options)
    for sentence in decoded:
        for tag, marginals in zip(sentence.tags, sentence.marginals, strict=True):
            assert marginals == pytest.approx({label: float(label == tag) for label in labels}, abs=1e-6)


def test_options_and_encodings_are_checked():
    decoder = ChunkDecoder(["O", "B-x", "I-x", "B-a", "I-a"], "IOB2")
    assert decoder.label_encoding == "BIO" and decoder.span_types == ["a", "x"]
    with pytest.raises(InputError, match="n_best is for taggers with a CRF"):
        decoder.decode(numpy.zeros((1, 1, 14)), numpy.array([1]), Options(n_best=1))
    with pytest.raises(ValueError, match="is IO; expected one of BIO, BIOUL"):
        ChunkDecoder(["O", "I-x"], "IO")
    assert chunk_types(["O", "U-b", "B-a", "I-b", "@@PADDING@@"]) == ["b", "a"]


def test_marginals_of_a_very_long_sentence_are_refused():
    """They take quadratic memory."""
    labels = labels_of("BIO")
    decoder, lengths = ChunkDecoder(labels, "BIO"), numpy.array([2000])
    scores = numpy.zeros((1, 2000, num_chunk_scores(labels)), numpy.float32)
    assert len(decoder.decode(scores, lengths, Options())[0].tags) == 2000
    with pytest.raises(InputError, match="the marginals of a sentence of 2,000 words need 12,000,000"):
        decoder.decode(scores, lengths, Options(marginals=True))
