import pytest
import torch
from allennlp.common.checks import ConfigurationError

from ldnet_allennlp.modules.embedders.word_vectors import WordVectors


@pytest.fixture
def weight():
    return torch.randn(11, 3, generator=torch.Generator().manual_seed(1))


IDS = torch.tensor([[0, 4, 10], [4, 1, 0]])


def test_ordinary_vectors(weight):
    vectors = WordVectors(11, 3, trainable=True)
    assert torch.isnan(vectors(IDS)).all()  # until it is loaded
    vectors.load_state_dict({"weight": weight})
    assert torch.equal(vectors(IDS), weight[IDS])
    vectors(IDS).sum().backward()
    assert vectors.weight.grad.sum(dim=1).tolist() == [0, 3, 0, 0, 6, 0, 0, 0, 0, 0, 3]  # 0 is padding


def test_half_precision_is_stored_and_not_given(weight):
    vectors = WordVectors(11, 3, "float16")
    vectors.load_state_dict({"weight": weight})
    assert vectors.weight.dtype == vectors.state_dict()["weight"].dtype == torch.float16
    assert vectors(IDS).dtype == torch.float32
    rounded = torch.tensor(weight.numpy().astype("float16").astype("float32"))
    assert torch.equal(vectors(IDS), rounded[IDS]) and not torch.equal(rounded, weight)
    assert vectors.double()(IDS).dtype == torch.float64


@pytest.mark.parametrize(
    "dtype, trainable, expected",
    [(None, False, torch.float16), (None, True, torch.float32), ("float32", False, torch.float32)],
)
def test_frozen_vectors_follow_the_state(weight, dtype, trainable, expected):
    vectors = WordVectors(11, 3, dtype, trainable)
    vectors.load_state_dict({"weight": weight.half()})
    assert vectors.weight.dtype == expected and vectors.weight.requires_grad == trainable
    assert torch.equal(vectors(IDS), weight.half().float()[IDS])


@pytest.mark.parametrize(
    "dtype, trainable, message",
    [
        ("bfloat16", False, "is 'bfloat16'; expected one of 'float32', 'float16'"),
        ("float16", True, "embedding_dtype is float16"),
    ],
)
def test_refused(dtype, trainable, message):
    with pytest.raises(ConfigurationError, match=message):
        WordVectors(11, 3, dtype, trainable)
