import re

import numpy
import pytest
import torch
from allennlp.common.checks import ConfigurationError

from ldnet_allennlp.modules.embedders.word_vectors import WordVectors


@pytest.fixture
def weight():
    return torch.randn(11, 3, generator=torch.Generator().manual_seed(1))


def write(path, weight, dtype="float32"):
    numpy.save(str(path), weight.numpy().astype(dtype))
    return str(path)


IDS = torch.tensor([[0, 4, 10], [4, 1, 0]])


def test_ordinary_vectors(weight):
    vectors = WordVectors(11, 3, trainable=True)
    assert torch.isnan(vectors(IDS)).all()  # until it is loaded
    vectors.load_state_dict({"weight": weight})
    assert torch.equal(vectors(IDS), weight[IDS])
    vectors(IDS).sum().backward()
    assert vectors.weight.grad.sum(dim=1).tolist() == [
        0.0,
        3.0,
        0,
        0,
        6.0,
        0,
        0,
        0,
        0,
        0,
        3.0,
    ]  # 0 is padding


def test_half_precision_is_stored_and_not_given(weight):
    vectors = WordVectors(11, 3, "float16")
    vectors.load_state_dict({"weight": weight})
    assert vectors.weight.dtype == vectors.state_dict()["weight"].dtype == torch.float16
    assert vectors(IDS).dtype == torch.float32
    rounded = torch.tensor(weight.numpy().astype("float16").astype("float32"))
    assert torch.equal(vectors(IDS), rounded[IDS]) and not torch.equal(rounded, weight)
    assert vectors.double()(IDS).dtype == torch.float64


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_file(weight, tmp_path, dtype):
    path = write(tmp_path / "vectors.npy", weight, dtype)
    vectors = WordVectors(11, 3, dtype, path)
    expected = torch.tensor(weight.numpy().astype(dtype).astype("float32"))
    assert torch.equal(vectors(IDS), expected[IDS])
    # It is no part of the state, and its state fits.
    assert vectors.state_dict() == {} and vectors.load_state_dict({}).missing_keys == []
    # What is written to it stays in this process.
    with torch.no_grad():
        vectors.weight.fill_(7.0)
    assert torch.equal(WordVectors(11, 3, dtype, path)(IDS), expected[IDS])


def anonymous_bytes():
    """The memory of this process that is a copy, or its own, and no page of a file."""
    with open("/proc/self/smaps_rollup") as lines:
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("Anonymous:"))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_file_takes_no_memory_of_the_process(tmp_path, dtype):
    try:
        anonymous_bytes()
    except (OSError, StopIteration):
        pytest.skip("this system does not tell what memory is used for")
    rows, size = 200_000, 100  # over 32 MiB, which malloc never takes from what was freed before
    array = numpy.ones((rows, size), dtype=dtype)
    numpy.save(str(tmp_path / "vectors.npy"), array)
    matrix_bytes = array.nbytes
    del array

    def growth(make):
        before = anonymous_bytes()
        vectors = make()
        total = sum(vectors(ids).sum().item() for ids in torch.arange(rows).split(1000))
        assert total == rows * size  # every page has been looked at
        return anonymous_bytes() - before

    def loaded():
        vectors = WordVectors(rows, size, dtype)
        vectors.load_state_dict({"weight": torch.ones(rows, size, dtype=vectors.weight.dtype)})
        return vectors

    assert growth(lambda: WordVectors(rows, size, dtype, str(tmp_path / "vectors.npy"))) < matrix_bytes / 4
    assert growth(loaded) > 0.75 * matrix_bytes


def test_what_is_refused(weight, tmp_path):
    path = write(tmp_path / "vectors.npy", weight)
    objects = str(tmp_path / "objects.npy")
    numpy.save(objects, numpy.array([{}]), allow_pickle=True)
    (tmp_path / "text.npy").write_text("no array")
    for arguments, message in [
        ((11, 3, "bfloat16"), "is float32 or float16, but 'bfloat16' was found"),
        ((11, 3, "float16", None, True), "embedding_dtype is float16"),
        ((11, 3, "float32", path, True), "embedding_dtype is float32 and embedding_file is given"),
        ((11, 3, "float32", str(tmp_path / "none.npy")), "none.npy' (embedding_file), but it was not found"),
        ((11, 3, "float32", objects), "cannot be read: "),
        ((11, 3, "float32", str(tmp_path / "text.npy")), "cannot be read: "),
        ((12, 3, "float32", path), "12 vectors of size 3 as float32"),
        ((11, 4, "float32", path), "it holds float32 of shape (11, 3)"),
        ((11, 3, "float16", path), "as float16"),
    ]:
        with pytest.raises(ConfigurationError, match=re.escape(message)):
            WordVectors(*arguments)
