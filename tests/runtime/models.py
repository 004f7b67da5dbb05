"""Small taggers as ONNX files, with every kind of input."""

import numpy
from onnx import TensorProto, helper, numpy_helper

from ldnet_runtime.model_file import (
    METADATA_KEY,
    SentenceCharacterInput,
    TaggerDescription,
    WordCharacterInput,
    WordInput,
    to_json,
)

LABELS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
SIZE = len(LABELS)
WORDS = [
    "@@PADDING@@",
    "@@UNKNOWN@@",
    "<eof>",
    "Ada",
    "Lovelace",
    "Charles",
    "Babbage",
    "London",
    "in",
    "lived",
    ".",
]
CHARACTERS = ["@@PADDING@@", "@@UNKNOWN@@", *"abcdefghijklmnopqrstuvwxyzABCL."]
# Ada Lovelace, Charles Babbage, London; the rest is outside.
_GOOD = {"Ada": 1, "Lovelace": 2, "Charles": 1, "Babbage": 2, "London": 3}


def bio_constraints(labels=LABELS):
    """(N + 2, N + 2)"""
    size = len(labels)
    allowed = numpy.ones((size + 2, size + 2), bool)
    for i, label in enumerate(labels):
        if label.startswith("I-"):
            allowed[:, i] = [other[1:] == label[1:] and other != "O" for other in labels] + [False, False]
    return allowed


def describe(inputs, **options):
    """A description with random transitions."""
    generator = numpy.random.default_rng(7)
    content = {
        "vocabularies": {"tokens": WORDS, "characters": CHARACTERS},
        "inputs": inputs,
        "labels": LABELS,
        "label_encoding": "BIO",
        "transitions": (0.1 * generator.normal(size=(SIZE, SIZE))).astype(numpy.float32),
        "start": (0.1 * generator.normal(size=SIZE)).astype(numpy.float32),
        "end": (0.1 * generator.normal(size=SIZE)).astype(numpy.float32),
        "allowed": bio_constraints(),
        "mode": "whitespace",
        "provenance": {"archive": "toy"},
    }
    return TaggerDescription(**{**content, **options})


def serialize(description, nodes, initializers, metadata=None, opset=17, functions=()):
    """The bytes of a model."""
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, None) for name in description.tensors]
    output = helper.make_tensor_value_info("emissions", TensorProto.FLOAT, None)
    tensors = [numpy_helper.from_array(array, name) for name, array in initializers.items()]
    graph = helper.make_graph(nodes, "tagger", inputs, [output], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, to_json(description) if metadata is None else metadata
    return model.SerializeToString()


def word_table(seed=0):
    """Scores of labels for words: certain ones for names, O else."""
    generator = numpy.random.default_rng(seed)
    table = (0.5 * generator.normal(size=(len(WORDS), SIZE))).astype(numpy.float32)
    table[:, 0] += 2
    for word, label in _GOOD.items():
        table[WORDS.index(word), label] += 6
    return table


def word_model(table=None, **options):
    """A tagger that looks at words alone, each by itself."""
    description = describe([WordInput("tokens", "tokens")], **options)
    nodes = [
        helper.make_node("Cast", ["lengths"], ["unused"], to=TensorProto.FLOAT),
        helper.make_node("Gather", ["table", "tokens"], ["emissions"]),
    ]
    return serialize(description, nodes, {"table": word_table() if table is None else table})


def lstm_model(**options):
    """A bidirectional LSTM over word vectors: words see their neighbors."""
    generator = numpy.random.default_rng(3)
    hidden, size = 4, 6

    def weights(*shape):
        return generator.normal(size=shape).astype(numpy.float32)

    description = describe([WordInput("tokens", "tokens")], **options)
    initializers = {
        "table": weights(len(WORDS), size),
        "W": weights(2, 4 * hidden, size),
        "R": weights(2, 4 * hidden, hidden),
        "B": weights(2, 8 * hidden),
        "P": 3 * weights(2 * hidden, SIZE),
        "shape": numpy.array([0, 0, -1], numpy.int64),
    }
    nodes = [
        helper.make_node("Cast", ["lengths"], ["lens"], to=TensorProto.INT32),
        helper.make_node("Transpose", ["tokens"], ["by_step"], perm=[1, 0]),
        helper.make_node("Gather", ["table", "by_step"], ["vectors"]),
        helper.make_node(
            "LSTM",
            ["vectors", "W", "R", "B", "lens"],
            ["states"],
            hidden_size=hidden,
            direction="bidirectional",
        ),
        helper.make_node("Transpose", ["states"], ["turned"], perm=[2, 0, 1, 3]),
        helper.make_node("Reshape", ["turned", "shape"], ["flat"]),
        helper.make_node("MatMul", ["flat", "P"], ["emissions"]),
    ]
    return serialize(description, nodes, initializers)


def character_inputs():
    """One input of each kind of characters."""
    return [
        WordCharacterInput("chars", "characters", min_length=3),
        WordCharacterInput("bytes", None, lowercase=True, start=(256,), end=(255,)),
        SentenceCharacterInput("stream", "characters"),
    ]
