import tracemalloc

import numpy

from ldnet_allennlp.export.graph import Graph


def test_equal_constants_are_stored_once():
    graph = Graph()
    zeros = numpy.zeros((2, 3), numpy.float32)
    names = [graph.constant(zeros), graph.constant(zeros.T.copy().T), graph.constant([[0.0] * 3] * 2)]
    assert set(names) == {"constant_0"}
    others = [
        graph.constant(0),
        graph.constant(zeros.T),
        graph.constant(zeros, numpy.int32),
        graph.integers(),
    ]
    assert len({*names, *others}) == 5


def test_constants_are_kept_in_memory_once():
    weights = numpy.zeros(2**20, numpy.float32)
    graph = Graph()
    tracemalloc.start()
    try:
        graph.constant(weights)  # in a message of protobuf, which tracemalloc does not see
        assert tracemalloc.get_traced_memory()[0] < 2**20
    finally:
        tracemalloc.stop()
