import copy
import math

import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.training.optimizers import Optimizer

import ldnet_allennlp  # noqa: F401


class Toy(torch.nn.Module):
    def __init__(self, sparse=True):
        super().__init__()
        torch.manual_seed(1)
        self.embedding = torch.nn.Embedding(9, 4, sparse=sparse)
        self.linear = torch.nn.Linear(4, 3)

    def forward(self, words):
        return self.linear(self.embedding(words)).pow(2).sum()


def optimizer_of(model, **options):
    parameters = [(name, parameter) for name, parameter in model.named_parameters()]
    return Optimizer.from_params(Params({"type": "lazy_adam", **options}), model_parameters=parameters)


def train(model, optimizers, batches):
    for words in batches:
        model.zero_grad()
        model(words).backward()
        for optimizer in optimizers:
            optimizer.step()


BATCHES = [torch.tensor(words) for words in ([1, 2, 2], [2, 5], [7, 1, 1, 1], [2], [5, 6])]


class TestLazyAdam:
    def test_equals_torchs_adam_and_sparse_adam(self):
        ours, theirs = Toy(), Toy()
        train(ours, [optimizer_of(ours, lr=0.03, betas=(0.8, 0.95))], BATCHES)
        options = {"lr": 0.03, "betas": (0.8, 0.95)}
        train(
            theirs,
            [
                torch.optim.SparseAdam(list(theirs.embedding.parameters()), **options),
                torch.optim.Adam(theirs.linear.parameters(), **options),
            ],
            BATCHES,
        )
        for mine, other in zip(ours.parameters(), theirs.parameters()):
            torch.testing.assert_close(mine, other)

    @pytest.mark.parametrize("grad_norm", [0.1, 1e9])
    def test_clips_sparse_and_dense_gradients_together(self, grad_norm):
        sparse, dense = Toy(), Toy(sparse=False)
        for model in (sparse, dense):
            model(torch.tensor([1, 2, 2, 3])).backward()
        expected = copy.deepcopy(dense)
        for mine, other in zip(expected.parameters(), dense.parameters()):
            mine.grad = other.grad.clone()
        torch.nn.utils.clip_grad_norm_(expected.parameters(), grad_norm)
        optimizer_of(sparse, grad_norm=grad_norm).step()
        for mine, other in zip(sparse.parameters(), expected.parameters()):
            gradient = mine.grad.to_dense() if mine.grad.is_sparse else mine.grad
            torch.testing.assert_close(gradient, other.grad)

    def test_row_moments_against_the_formula(self):
        model = Toy()
        reference = copy.deepcopy(model.embedding.weight.detach())
        optimizer = optimizer_of(model, lr=0.02, row_moments=True)
        moments, steps = [0.0] * 9, [0] * 9
        for words in BATCHES:
            model.zero_grad()
            model(words).backward()
            gradient = model.embedding.weight.grad.to_dense()
            optimizer.step()
            for row in set(words.tolist()):
                steps[row] += 1
                moments[row] = 0.999 * moments[row] + 0.001 * gradient[row].pow(2).mean().item()
                second = moments[row] / (1 - 0.999 ** steps[row])
                reference[row] -= 0.02 * gradient[row] / (math.sqrt(second) + 1e-8)
            torch.testing.assert_close(model.embedding.weight.detach(), reference)
        state = optimizer.state[model.embedding.weight]
        assert sum(tensor.numel() for tensor in state.values()) == 2 * 9 + 1

    @pytest.mark.parametrize("row_moments", [False, True])
    def test_goes_on_from_a_saved_state(self, row_moments):
        whole, halves = Toy(), Toy()
        train(whole, [optimizer_of(whole, row_moments=row_moments)], BATCHES)
        first = optimizer_of(halves, row_moments=row_moments)
        train(halves, [first], BATCHES[:3])
        second = optimizer_of(halves, row_moments=row_moments)
        second.load_state_dict(copy.deepcopy(first.state_dict()))
        train(halves, [second], BATCHES[3:])
        for mine, other in zip(halves.parameters(), whole.parameters()):
            assert torch.equal(mine, other)

    def test_rows_without_a_gradient_stay_as_they_are(self):
        model = Toy()
        before = model.embedding.weight.detach().clone()
        train(model, [optimizer_of(model)], BATCHES)
        changed = (model.embedding.weight != before).any(dim=1).nonzero().squeeze(1).tolist()
        assert changed == [1, 2, 5, 6, 7]

    def test_parameter_groups_and_errors(self):
        model = Toy()
        optimizer = optimizer_of(model, lr=0.5, parameter_groups=[[["linear"], {"lr": 0.1}]])
        assert sorted(group["lr"] for group in optimizer.param_groups if group["params"]) == [0.1, 0.5]
        with pytest.raises(ConfigurationError, match=r"is 0.0; expected more"):
            optimizer_of(model, grad_norm=0.0)
