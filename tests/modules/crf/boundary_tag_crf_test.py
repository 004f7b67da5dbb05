import pytest
import torch
from torch.testing import assert_close

from ldnet_allennlp.modules.crf.boundary_tag_crf import BoundaryTagCrf
from ldnet_allennlp.modules.crf.conditional_random_field import FastConditionalRandomField
from tests.modules.crf.oracle import random_batch

NUM_TAGS, START, END = 6, 4, 5
# What AllenNLP numbers 6 and 7 are the start and the end. Neither tag 0 begins a sentence nor tag 1 ends one.
CONSTRAINTS = [
    (i, j)
    for i in range(NUM_TAGS + 1)
    for j in [*range(NUM_TAGS), NUM_TAGS + 1]
    if (i, j) not in {(NUM_TAGS, 0), (1, NUM_TAGS + 1), (2, 3), (NUM_TAGS, NUM_TAGS + 1)}
]


def pair(constraints):
    """
    A CRF with boundary tags, and one with start and end transitions that are copies of those of these tags.
    """
    torch.manual_seed(0)
    crf = BoundaryTagCrf(NUM_TAGS, (START, END), constraints).double()
    reference = FastConditionalRandomField(NUM_TAGS, constraints).double()
    with torch.no_grad():
        reference.transitions.copy_(crf.transitions)
        reference.start_transitions.copy_(crf.transitions[START])
        reference.end_transitions.copy_(crf.transitions[:, END])
    return crf, reference


def test_loss_and_its_gradient_are_those_of_shared_parameters():
    crf, reference = pair(None)
    logits, tags, mask = random_batch(5, 7, NUM_TAGS, 1, torch.float64)
    losses = [some(logits, tags, mask) for some in (crf, reference)]
    assert_close(*losses)
    for loss in losses:
        loss.backward()
    expected = reference.transitions.grad.clone()
    expected[START] += reference.start_transitions.grad
    expected[:, END] += reference.end_transitions.grad
    assert_close(crf.transitions.grad, expected)


@pytest.mark.parametrize("constraints", [None, CONSTRAINTS], ids=["free", "constrained"])
def test_decoding_and_scores_are_those_of_shared_parameters(constraints):
    crf, reference = pair(constraints)
    logits, _, mask = random_batch(30, 4, NUM_TAGS, 2, torch.float64)
    decoded = crf.viterbi_tags(logits, mask)
    assert decoded == reference.viterbi_tags(logits, mask)
    if constraints:
        assert all(path[0] != 0 and path[-1] != 1 for path, _ in decoded if path)
    assert crf.viterbi_tags(logits, mask, top_k=3) == reference.viterbi_tags(logits, mask, top_k=3)
    for constrained in (False, True):
        assert_close(crf.scores(constrained), reference.scores(constrained), rtol=0, atol=0)


def test_trains_one_parameter():
    parameters = pair(None)[0].named_parameters()
    assert [name for name, parameter in parameters if parameter.requires_grad] == ["transitions"]
