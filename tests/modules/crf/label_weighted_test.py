import pytest
import torch
from allennlp.modules.conditional_random_field import (
    ConditionalRandomFieldWeightEmission,
    ConditionalRandomFieldWeightLannoy,
    ConditionalRandomFieldWeightTrans,
)
from torch.testing import assert_close

from ldnet_allennlp.modules.crf.conditional_random_field import FastConditionalRandomField
from ldnet_allennlp.modules.crf.label_weighted import LabelWeightedCrf
from tests.modules.crf.oracle import bioul_constraints, random_batch, randomize

VARIANTS = {
    "emission": ConditionalRandomFieldWeightEmission,
    "emission_transition": ConditionalRandomFieldWeightTrans,
    "lannoy": ConditionalRandomFieldWeightLannoy,
}


def pair(strategy, num_tags, start_end, dtype):
    generator = torch.Generator().manual_seed(1)
    weights = (3 * torch.rand(num_tags, generator=generator)).tolist()
    constraints = bioul_constraints(num_tags)
    theirs = VARIANTS[strategy](num_tags, weights, constraints, start_end).to(dtype)
    randomize(theirs, seed=0)
    ours = LabelWeightedCrf(num_tags, weights, constraints, start_end, strategy).to(dtype)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def loss_and_gradients(crf, logits, tags, mask):
    logits = logits.clone().requires_grad_()
    loss = -crf(logits, tags, mask)
    inputs = [logits, *(p for p in crf.parameters() if p.requires_grad)]
    gradients = torch.autograd.grad(loss, inputs, allow_unused=True)
    return loss, [torch.zeros_like(p) if g is None else g for p, g in zip(inputs, gradients)]


@pytest.mark.parametrize("start_end", [True, False])
@pytest.mark.parametrize("strategy", sorted(VARIANTS))
class TestLabelWeights:
    # AllenNLP's functions for one step or one sentence squeeze a dimension too many in part of these cases.
    @pytest.mark.parametrize("size", [(2, 1, 3), (5, 6, 4), (33, 8, 19), (3, 4, 105)], ids=str)
    def test_loss_equals_allennlps(self, strategy, start_end, size):
        batch = random_batch(*size, seed=2)
        expected = loss_and_gradients(pair(strategy, size[2], start_end, torch.float64)[0], *batch)
        for dtype, rtol, atol in ((torch.float64, 1e-11, 1e-11), (torch.float32, 1e-5, 1e-4)):
            logits, tags, mask = batch
            _, ours = pair(strategy, size[2], start_end, dtype)
            loss, gradients = loss_and_gradients(ours, logits.to(dtype), tags, mask)
            assert_close(loss, expected[0].to(dtype), rtol=rtol, atol=0)
            for gradient, oracle in zip(gradients, expected[1]):
                assert_close(gradient, oracle.to(dtype), rtol=rtol, atol=atol)

    def test_weights_of_one_change_nothing(self, strategy, start_end):
        batch = random_batch(6, 7, 5, seed=3)
        _, ours = pair(strategy, 5, start_end, torch.float64)
        ours.label_weights.fill_(1.0)
        plain = FastConditionalRandomField(5, None, start_end).double()
        plain.load_state_dict(
            {name: value for name, value in ours.state_dict().items() if name != "label_weights"}
        )
        assert_close(loss_and_gradients(ours, *batch), loss_and_gradients(plain, *batch))

    def test_masked_steps_count_for_nothing(self, strategy, start_end):
        _, ours = pair(strategy, 5, start_end, torch.float64)
        logits, tags, _ = random_batch(4, 6, 5, seed=4)
        mask = torch.tensor(
            [[1, 0, 1, 1, 0, 1], [0, 0, 1, 0, 1, 0], [0, 0, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0]]
        ).bool()
        expected = sum(ours(row[None, kept], gold[None, kept]) for row, gold, kept in zip(logits, tags, mask))
        spoilt = logits.masked_fill(~mask.unsqueeze(2), float("nan"))
        loss, gradients = loss_and_gradients(ours, spoilt, tags.masked_fill(~mask, -100), mask)
        assert_close(-loss, expected)
        assert not any(gradient.isnan().any() for gradient in gradients)
        assert not gradients[0][~mask].any()

    def test_decoding_knows_no_weights(self, strategy, start_end):
        theirs, ours = pair(strategy, 9, start_end, torch.float32)
        logits, _, mask = random_batch(8, 7, 9, seed=5, dtype=torch.float32)
        assert [p for p, _ in ours.viterbi_tags(logits, mask)] == [
            p for p, _ in theirs.viterbi_tags(logits, mask)
        ]

    def test_checkpoints_load_in_both_directions(self, strategy, start_end):
        theirs, ours = pair(strategy, 4, start_end, torch.float32)
        theirs.load_state_dict(ours.state_dict())
