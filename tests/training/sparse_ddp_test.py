import torch
from allennlp.nn.parallel.ddp_accelerator import DdpAccelerator

import ldnet_allennlp  # noqa: F401
from ldnet_allennlp.modules.softmax.adaptive_softmax import AdaptiveSoftmax
from ldnet_allennlp.training.sparse_ddp import sparse_parameters
from tests.processes import run_in_two_processes

TARGETS = [torch.tensor([1, 8, 8, 25]), torch.tensor([3, 27])]


class Toy(torch.nn.Module):
    """Word vectors and a softmax with sparse gradients, and dense ones beside them."""

    def __init__(self, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.embedding = torch.nn.Embedding(30, 4, sparse=True)
        self.softmax = AdaptiveSoftmax(30, 4, [3, 20], tail_samples=6)

    def forward(self, targets, seed):
        torch.manual_seed(seed)  # which words are drawn
        return self.softmax(self.embedding(targets), targets) / len(targets)


def dense(gradient):
    return gradient.to_dense() if gradient.is_sparse else gradient


def expected_gradients():
    """The mean of what each process computes alone, from the first one's weights."""
    total = {}
    for rank, targets in enumerate(TARGETS):
        model = Toy(seed=0)
        model(targets, seed=rank).backward()
        for name, parameter in model.named_parameters():
            total[name] = total.get(name, 0) + dense(parameter.grad) / 2
    return total


def exchange(rank, world_size, expected):
    accelerator = DdpAccelerator.by_name("sparse_torch")(local_rank=rank, world_size=world_size)
    model, wrapped = accelerator.wrap_model(Toy(seed=rank))
    for _ in range(2):
        model.zero_grad()
        wrapped.model(TARGETS[rank], seed=rank).backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(dense(parameter.grad), expected[name])
    assert model.embedding.weight.grad.is_sparse
    assert not any(name.startswith("module.") for name in wrapped.state_dict())


def test_gradients_are_the_mean_of_all_processes():
    run_in_two_processes(exchange, expected_gradients())


def test_finds_what_is_sparse():
    names = [name for name, _ in sparse_parameters(Toy(seed=0))]
    assert names == ["embedding.weight", "softmax.tail.0.1.weight", "softmax.tail.1.1.weight"]
