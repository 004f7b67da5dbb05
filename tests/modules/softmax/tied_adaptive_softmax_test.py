import pytest
import torch
from allennlp.common.checks import ConfigurationError
from allennlp.modules.token_embedders import Embedding

from ldnet_allennlp.modules.softmax.tied_adaptive_softmax import TiedAdaptiveSoftmax


def make(sparse=False, num_words=30, dim=6, cutoffs=(5, 12), **options):
    torch.manual_seed(3)
    embedding = Embedding(dim, num_words + 1, sparse=sparse).double()
    softmax = TiedAdaptiveSoftmax(embedding, dim, list(cutoffs), **options).double()
    with torch.no_grad():
        for parameter in (*softmax.parameters(), embedding.weight):
            parameter.uniform_(-1, 1)
    return embedding, softmax


def brute_force(embedding, softmax, x):
    """The log-probabilities of all words, one word's vector at a time."""
    words = embedding.weight[1:]
    head = torch.cat([x @ words[:5].t(), x @ softmax.head.weight.t()], dim=1) + softmax.bias
    head = torch.log_softmax(head, dim=1)
    clusters = [
        torch.log_softmax(x @ words[first:last].t(), dim=1) + head[:, 5 + number : 6 + number]
        for number, (first, last) in enumerate([(5, 12), (12, 30)])
    ]
    return torch.cat([head[:, :5], *clusters], dim=1)


class TestTiedAdaptiveSoftmax:
    @pytest.mark.parametrize("sparse", [False, True])
    def test_against_the_definition(self, sparse):
        embedding, softmax = make(sparse)
        x, targets = torch.randn(30, 6, dtype=torch.float64), torch.arange(30)
        expected = brute_force(embedding, softmax, x)
        torch.testing.assert_close(softmax.log_prob(x), expected)
        torch.testing.assert_close(softmax.log_prob(x).exp().sum(dim=1), torch.ones(30, dtype=torch.float64))
        torch.testing.assert_close(softmax.target_log_prob(x, targets), expected.diagonal())
        torch.testing.assert_close(softmax.predict(x), expected.argmax(dim=1))

    def test_gradients_of_a_sparse_embedding_are_those_of_a_dense_one(self):
        x, targets = torch.randn(4, 6, dtype=torch.float64), torch.tensor([1, 7, 8, 20])
        gradients = []
        for sparse in (False, True):
            embedding, softmax = make(sparse)
            softmax(x + embedding(targets), targets).backward()
            assert embedding.weight.grad.is_sparse is sparse
            gradients.append(embedding.weight.grad.to_dense() if sparse else embedding.weight.grad)
        torch.testing.assert_close(*gradients)
        assert gradients[0][0].abs().sum() == 0  # the padding

    def test_samples_read_the_same_vectors(self):
        embedding, softmax = make(sparse=True, tail_samples=3)
        x, targets = torch.randn(2, 6, dtype=torch.float64), torch.tensor([13, 29])
        with torch.no_grad():
            draws = torch.stack([softmax.target_log_prob(x, targets) for _ in range(4000)])
        expected = brute_force(embedding, softmax, x)[torch.arange(2), targets]
        torch.testing.assert_close((-draws).exp().mean(dim=0), (-expected).exp(), rtol=0.05, atol=0)

    def test_the_vectors_are_not_saved_twice(self):
        _, softmax = make()
        assert set(softmax.state_dict()) == {"head.weight", "bias"}

    def test_sizes_must_agree(self):
        embedding = Embedding(6, 31)
        with pytest.raises(ConfigurationError, match="size 6, and the softmax reads vectors of size 8"):
            TiedAdaptiveSoftmax(embedding, 8, [5])
        with pytest.raises(ConfigurationError, match="size 6 and a projection"):
            TiedAdaptiveSoftmax(Embedding(6, 31, projection_dim=8), 6, [5])
