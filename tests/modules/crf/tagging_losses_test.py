import itertools

import pytest
import torch
from allennlp.modules.conditional_random_field import allowed_transitions

from ldnet_allennlp.modules.crf.conditional_random_field import FastConditionalRandomField
from ldnet_allennlp.modules.crf.tagging_losses import TAGGING_LOSSES, tagging_loss

NAMES = {0: "O", 1: "B-X", 2: "I-X"}


def case(seed: int = 0):
    """A constrained CRF, and ragged sentences with NaN in their padding; sentence 2 has no word."""
    torch.manual_seed(seed)
    crf = FastConditionalRandomField(3, allowed_transitions("BIO", NAMES)).double()
    for parameter in crf.parameters():
        if parameter.requires_grad:
            parameter.data.normal_()
    lengths = torch.tensor([4, 3, 0, 1])
    mask = torch.arange(4) < lengths.unsqueeze(1)
    logits = torch.randn(4, 4, 3, dtype=torch.float64).masked_fill(~mask.unsqueeze(2), float("nan"))
    tags = torch.randint(3, (4, 4))
    tags[0, 0] = 2  # I-X at the beginning, which no decoding gives
    return crf, logits.requires_grad_(), tags, mask


def path_score(crf, logits, path):
    """(T, N) logits and a path, by the definition."""
    if not path:
        return logits.new_zeros(())
    score = crf.start_transitions[path[0]] + crf.end_transitions[path[-1]]
    for step, tag in enumerate(path):
        score = score + logits[step, tag]
    for before, after in zip(path, path[1:]):
        score = score + crf.transitions[before, after]
    return score


def all_scores(crf, logits):
    return {path: path_score(crf, logits, path) for path in itertools.product(range(3), repeat=len(logits))}


def test_the_log_likelihood_is_that_of_all_paths():
    crf, logits, tags, mask = case()
    expected = 0.0
    for row, gold, kept in zip(logits, tags, mask):
        scores = all_scores(crf, row[kept])
        expected += torch.stack(list(scores.values())).logsumexp(0) - scores[tuple(gold[kept].tolist())]
    loss = tagging_loss("negative_log_likelihood", crf, logits, tags, mask)
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("seed", range(4))
def test_the_perceptron_is_the_best_path_of_all_minus_the_true_one(seed):
    """And its gradient is how often the best path has a logit or a transition, minus how often the true one has."""
    crf, logits, tags, mask = case(seed)
    loss = tagging_loss("structured_perceptron", crf, logits, tags, mask)
    expected = 0.0
    visits = torch.zeros(logits.shape, dtype=torch.float64)
    moves = torch.zeros(3, 3, dtype=torch.float64)
    for number, (row, gold, kept) in enumerate(zip(logits, tags, mask)):
        scores = all_scores(crf, row[kept])
        best, true = max(scores, key=lambda path: scores[path].item()), tuple(gold[kept].tolist())
        assert scores[best] >= scores[true]
        expected += (scores[best] - scores[true]).item()
        for path, sign in ((best, 1.0), (true, -1.0)):
            for step, tag in enumerate(path):
                visits[number, step, tag] += sign
            for before, after in zip(path, path[1:]):
                moves[before, after] += sign
    assert loss.item() == pytest.approx(expected)
    gradients = torch.autograd.grad(loss, [logits, crf.transitions])
    torch.testing.assert_close(gradients[0], visits)
    torch.testing.assert_close(gradients[1], moves)


def test_the_perceptron_is_zero_where_the_true_path_is_the_best():
    crf, logits, tags, mask = case()
    for number, (row, kept) in enumerate(zip(logits, mask)):
        scores = all_scores(crf, row[kept])
        best = max(scores, key=lambda path: scores[path].item())
        tags[number, : len(best)] = torch.tensor(best)
    loss = tagging_loss("structured_perceptron", crf, logits, tags, mask)
    assert loss.item() == 0.0
    loss.backward()
    assert not logits.grad.any() and not crf.transitions.grad.any()
    # The same path with worse transitions is not the best one any more.
    crf.transitions.data[tags[0, 0], tags[0, 1]] -= 100.0
    assert tagging_loss("structured_perceptron", crf, logits, tags, mask) > 1.0


def test_the_softmax_is_the_cross_entropy_of_each_token():
    crf, logits, tags, mask = case()
    loss = tagging_loss("softmax", crf, logits, tags, mask)
    expected = 0.0
    for row, gold, kept in zip(logits, tags, mask):
        for scores, tag in zip(row[kept], gold[kept]):
            expected -= scores.softmax(0)[tag].log()
    torch.testing.assert_close(loss, expected)
    (gradient,) = torch.autograd.grad(loss, [logits])
    hot = torch.nn.functional.one_hot(tags, 3).double()
    wanted = torch.where(mask.unsqueeze(2), logits.softmax(2) - hot, torch.zeros_like(hot))
    torch.testing.assert_close(gradient, wanted)


@pytest.mark.parametrize("name", sorted(TAGGING_LOSSES))
def test_a_batch_without_words_has_no_loss_but_a_graph(name):
    crf, logits, tags, _ = case()
    logits = torch.zeros_like(logits, requires_grad=True)
    loss = tagging_loss(name, crf, logits, tags, torch.zeros(4, 4, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0.0 and not logits.grad.any()
