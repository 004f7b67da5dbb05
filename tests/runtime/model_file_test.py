"""Files that strangers send: each is read right or refused in one sentence, before ONNX Runtime sees it."""

import json
import random
import subprocess
import sys

import numpy
import onnx
import pytest
from onnx import TensorProto, helper

from ldnet_runtime import Tagger
from ldnet_runtime.errors import ModelFileError
from ldnet_runtime.model_file import WordInput, check_model, from_json, read_model_file, to_json
from tests.runtime import models
from tests.runtime.models import LABELS, describe, serialize, word_model, word_table


def changed(change, content=None):
    """A model that `change` has edited."""
    model = onnx.load_from_string(content or word_model())
    change(model)
    return model.SerializeToString()


def refused(content, message):
    with pytest.raises(ModelFileError, match=message) as caught:
        Tagger(content)
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


@pytest.mark.parametrize("inputs", [[WordInput("w", "tokens", True)], models.character_inputs()])
def test_there_and_back(inputs):
    options = {"end_token": "<eof>", "boundary_tags": (1, 0), "language": "de", "decoder": "softmax"}
    description = describe(inputs, **options)
    found = from_json(to_json(description))
    for name, value in vars(description).items():
        if isinstance(value, numpy.ndarray):
            assert (getattr(found, name) == value).all() and getattr(found, name).dtype == value.dtype
        else:
            assert getattr(found, name) == value


def metadata(**entries):
    content = {**json.loads(to_json(describe([WordInput("tokens", "tokens")]))), **entries}
    return serialize(describe([WordInput("tokens", "tokens")]), [], {}, metadata=json.dumps(content))


WORDS_INPUT = {"kind": "words", "name": "tokens", "vocabulary": "tokens", "lowercase": False}


@pytest.mark.parametrize(
    "entries, message",
    [
        ({"format": 2}, "the format is 2; this version of ldnet_runtime reads 1"),
        ({"format": "1"}, "'format' is of type str; expected int"),
        ({"format": True}, "'format' is of type bool"),
        ({"vocabularies": {"tokens": ["", 5]}}, "'tokens' is not a list of strings"),
        ({"vocabularies": {"tokens": [""]}}, "'tokens' lacks a padding and an unknown token"),
        ({"vocabularies": {"tokens": ["", "a", "a"]}}, "'tokens' has a token twice"),
        ({"vocabularies": {}}, "has the vocabulary 'tokens', which is missing"),
        ({"inputs": []}, "the tagger has no input"),
        ({"inputs": [WORDS_INPUT, WORDS_INPUT]}, "are not unique"),
        (
            {"inputs": [{**WORDS_INPUT, "kind": "code"}]},
            "has the kind 'code'; expected one of words, word_char",
        ),
        ({"inputs": [{**WORDS_INPUT, "lowercase": 1}]}, "'lowercase' is of type int; expected bool"),
        ({"labels": ["O"] * 5}, "the labels are missing or not unique"),
        ({"labels": [*LABELS[:4], "I-x\u2028y"]}, "the label 'I-x.u2028y' has a line end or a TAB"),
        ({"labels": LABELS[:4]}, "'transitions' is not an array of numbers of the shape"),
        ({"label_encoding": "XYZ"}, "Found the label encoding 'XYZ'"),
        ({"transitions": [["0"] * 5] * 5}, "'transitions' is not an array of numbers"),
        ({"transitions": [[0] * 5] * 4 + [[0] * 4]}, "'transitions' is not an array of numbers"),
        ({"start": [float("nan")] * 5}, "start has numbers that are not finite"),
        ({"end": [10**400] * 5}, "end has numbers that are not finite"),
        ({"allowed": ["01"]}, "allowed is not 7 strings of 7 zeros and ones"),
        ({"allowed": ["0120000"] * 7}, "allowed is not 7 strings"),
        ({"boundary_tags": {"start": 0, "end": 9}, "end_token": "x"}, "two ids below 5"),
        ({"boundary_tags": {"start": 0, "end": 1}}, "there are boundary tags but no end_token"),
        ({"decoder": "beam"}, "the decoder is 'beam'"),
        ({"tokenizer": {"type": "magic", "language": "en"}}, "the tokenizer's mode is 'magic'"),
        ({"tokenizer": {"type": "auto", "language": "en.lex_attrs"}}, "the language is 'en.lex_attrs'"),
        (
            {"tokenizer": {"type": "auto", "language": "en\n"}},
            "the language is 'en.n'; expected two or three",
        ),
        ({"tokenizer": None}, "'tokenizer' is missing; expected dict"),
        ({"provenance": {"a": {}}}, "'a' is of type dict; expected str"),
    ],
)
def test_bad_metadata(entries, message):
    refused(metadata(**entries), message)


def test_metadata_that_are_none():
    refused(serialize(describe([WordInput("tokens", "tokens")]), [], {}, metadata="{"), "are not valid JSON")
    refused(serialize(describe([WordInput("tokens", "tokens")]), [], {}, metadata="[]"), "expected an object")
    refused(
        serialize(describe([WordInput("tokens", "tokens")]), [], {}, metadata="[" * 10**5),
        "are not valid JSON",
    )
    refused(changed(lambda model: model.metadata_props.pop()), "no metadata 'ldnet'")


def external(model):
    tensor = model.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "/etc/passwd"
    tensor.ClearField("raw_data")


def huge(model):
    tensor = model.graph.initializer[0]
    tensor.dims[:] = [2**31] * 3


def gigabytes(model):
    model.graph.initializer[0].dims[:] = [10**9, 3]


def spare_bytes(model):
    model.graph.initializer[0].raw_data += bytes(4)


def subgraph(model):
    body = helper.make_graph([], "body", [], [])
    model.graph.node.append(helper.make_node("If", ["x"], ["y"], then_branch=body, else_branch=body))


def graph_attribute(model):
    model.graph.node[0].attribute.append(helper.make_attribute("body", helper.make_graph([], "body", [], [])))


def nested_scans(model):
    nodes = []
    for _ in range(2):
        nodes = [helper.make_node("Scan", ["x"], ["y"], body=helper.make_graph(nodes, "body", [], []))]
    model.graph.node.extend(nodes)


def function(model):
    model.functions.append(helper.make_function("d", "f", [], [], [], [helper.make_opsetid("", 17)]))


def opset(model):
    model.opset_import[0].version = 7


def domain(model):
    model.opset_import.append(helper.make_opsetid("evil", 1))
    model.graph.node[0].domain = "evil"


@pytest.mark.parametrize(
    "change, message",
    [
        (external, "a tensor .external or unusual data. has the field 13"),
        (huge, "elements or more, more than the file holds"),
        (spare_bytes, "the tensor 'table' has 55 elements of 4 bytes, but 224 bytes of data"),
        (gigabytes, "the tensor 'table' has 3000000000 elements of 4 bytes, but 220 bytes of data"),
        (subgraph, "the operator 'If' is not one that exported taggers use"),
        (graph_attribute, "holds a graph, which exported taggers do not"),
        (function, "the model has the field 25"),
        (nested_scans, "the operator 'Scan' holds a graph, which exported taggers do not"),
        (opset, "the ONNX opset is 7; expected 13 to"),
        (domain, "the operator set 'evil' .version 1. is not one that exported taggers use"),
        (lambda m: m.graph.input.pop(), r"the graph reads \['lengths'\]|the graph reads \['tokens'\]"),
        (lambda m: m.graph.output.pop(), r"returns \[\]; expected"),
        (lambda m: setattr(m.graph.node[1], "op_type", "Gemm"), "the operator 'Gemm' is not one that"),
        (lambda m: setattr(m.graph.node[1], "op_type", "MatMul"), "ONNX Runtime cannot load the graph"),
        (lambda m: m.graph.node[1].input.__setitem__(0, "nothing"), "ONNX Runtime cannot load the graph"),
    ],
)
def test_hostile_graphs(change, message):
    refused(changed(change), message)


def test_scores_of_another_size():
    nodes = [
        helper.make_node("Cast", ["lengths"], ["unused"], to=TensorProto.FLOAT),
        helper.make_node("Gather", ["table", "tokens"], ["emissions"]),
    ]
    description = describe([WordInput("tokens", "tokens")])
    refused(serialize(description, nodes, {"table": word_table()[:, :4]}), "expected float32 and .1, 1, 5")
    refused(serialize(description, nodes, {"table": word_table()[:1]}), "the graph gives no scores: ")


def test_a_field_that_comes_twice():
    """Protobuf merges them; whoever checks the first one only has seen half of it."""
    content = word_model()
    graph = onnx.load_from_string(content).graph.SerializeToString()
    size = bytearray()
    number = len(graph)
    while number > 127:
        size.append(number & 127 | 128)
        number >>= 7
    size.append(number)
    refused(content + bytes([7 << 3 | 2]) + bytes(size) + graph, "the model has the field 7")


@pytest.mark.parametrize("content", [b"", b"\x00", b"PK\x03\x04" + bytes(100), b"{}", b"\xff" * 50])
def test_no_model_at_all(content, tmp_path):
    refused(content, "the model: ")
    (tmp_path / "a.onnx").write_bytes(content)
    with pytest.raises(ModelFileError, match=r"a\.onnx: "):
        read_model_file(tmp_path / "a.onnx")


def test_every_cut():
    content = word_model()
    for size in range(0, len(content) - 1, 7):
        with pytest.raises(ModelFileError):
            check_model(content[:size])


def test_a_folder_and_a_missing_file(tmp_path):
    with pytest.raises(OSError, match=str(tmp_path)):
        read_model_file(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_model_file(tmp_path / "missing.onnx")


def test_broken_bytes(tmp_path):
    """Hundreds of files with some bytes changed: all end in a tagger or in a `ModelFileError`, the process lives."""
    program = f"""
import random, sys
from ldnet_runtime import Tagger
from ldnet_runtime.errors import ModelFileError
content = open({str(tmp_path / "a.onnx")!r}, "rb").read()
generator = random.Random(5)
refused = 0
for _ in range(400):
    broken = bytearray(content)
    for _ in range(generator.randrange(1, 4)):
        position = generator.randrange(len(broken))
        choice = generator.random()
        if choice < 0.6:
            broken[position] = generator.randrange(256)
        elif choice < 0.8:
            del broken[position]
        else:
            broken.insert(position, generator.randrange(256))
    try:
        Tagger(bytes(broken), threads=1)(["Ada", "in", "London"])
    except ModelFileError as error:
        assert "\\n" not in str(error)
        refused += 1
print(refused)
"""
    (tmp_path / "a.onnx").write_bytes(models.lstm_model())
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) > 100


def test_random_descriptions():
    """Any JSON in the place of any entry is refused, or read."""
    generator = random.Random(1)
    content = json.loads(to_json(describe([WordInput("tokens", "tokens"), *models.character_inputs()])))
    values = [None, True, 0, -1, 1.5, "", "O", [], {}, [[]], [None], {"start": 0}, "\ud800", 10**30]
    for _ in range(500):
        broken = json.loads(json.dumps(content))
        place = broken
        while True:
            key = (
                generator.choice(list(place)) if isinstance(place, dict) else generator.randrange(len(place))
            )
            if isinstance(place[key], (dict, list)) and place[key] and generator.random() < 0.7:
                place = place[key]
                continue
            place[key] = generator.choice(values)
            break
        try:
            from_json(json.dumps(broken))
        except ModelFileError as error:
            assert "\n" not in str(error)
