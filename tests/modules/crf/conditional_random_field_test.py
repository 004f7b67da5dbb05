import math

import pytest
import torch
from allennlp.modules.conditional_random_field import ConditionalRandomField
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from ldnet_allennlp.modules.crf.conditional_random_field import FastConditionalRandomField
from ldnet_allennlp.modules.crf.log_partition import log_partition
from tests.modules.crf.oracle import (
    bioul_constraints,
    enumerate_paths,
    path_score,
    random_batch,
    randomize,
)
from tests.resources import load_reference, reference_parameters

EMPTY_ROW = 2


def small_case(num_tags, start_end, seed=0, constraints=None):
    """A CRF and a ragged batch with one empty row, small enough to enumerate all tag sequences."""
    crf = FastConditionalRandomField(num_tags, constraints, start_end).double()
    randomize(crf, seed)
    logits, tags, mask = random_batch(5, 4, num_tags, seed)
    mask[EMPTY_ROW] = False
    mask[EMPTY_ROW + 1] = torch.tensor([True, False, False, False])
    return crf, logits, tags, mask


def pair(num_tags, constraints=None, start_end=True, seed=0, scale=1.0, dtype=torch.float64):
    """AllenNLP's CRF and ours with the same parameters."""
    theirs = ConditionalRandomField(num_tags, constraints, start_end).to(dtype)
    randomize(theirs, seed, scale)
    ours = FastConditionalRandomField(num_tags, constraints, start_end).to(dtype)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def marginals_of(crf, logits, mask):
    """The gradient of log Z, (B, T, N)."""
    logits = logits.detach().requires_grad_()
    return torch.autograd.grad(crf.log_partition(logits, mask).sum(), logits)[0]


def loss_and_gradients(crf, logits, tags, mask):
    logits = logits.clone().requires_grad_()
    loss = -crf(logits, tags, mask)
    names, parameters = zip(*((n, p) for n, p in crf.named_parameters() if p.requires_grad))
    gradients = torch.autograd.grad(loss, [logits, *parameters], allow_unused=True)
    zeros = [torch.zeros_like(p) if g is None else g for p, g in zip([logits, *parameters], gradients)]
    return loss.detach(), dict(zip(("logits", *names), zeros))


def gradient_error(gradients, expected):
    """The largest error of each gradient, relative to the gradient's largest entry."""
    assert gradients.keys() == expected.keys()
    return {
        name: ((gradient - expected[name]).abs().max() / (expected[name].abs().max() + 1e-30)).item()
        for name, gradient in gradients.items()
    }


def assert_same_losses(theirs, ours, batch, loss_rtol, gradient_tolerance):
    expected_loss, expected = loss_and_gradients(theirs, *batch)
    loss, gradients = loss_and_gradients(ours, *batch)
    assert_close(loss, expected_loss.to(loss.dtype), rtol=loss_rtol, atol=0)
    for name, error in gradient_error(gradients, expected).items():
        assert error <= gradient_tolerance, name  # Not so for NaN.


def assert_same_decoding(decoded, expected, tolerance=1e-6):
    assert [path for path, _ in decoded] == [path for path, _ in expected]
    for (path, score), (_, other) in zip(decoded, expected):
        assert score == pytest.approx(other, rel=tolerance, abs=tolerance * max(len(path), 1))


@pytest.mark.parametrize("start_end", [True, False])
@pytest.mark.parametrize("num_tags", [2, 3, 5])
class TestAgainstEnumeration:
    def test_log_likelihood(self, num_tags, start_end):
        crf, logits, tags, mask = small_case(num_tags, start_end, constraints=bioul_constraints(num_tags))
        expected = sum(
            path_score(crf, row[kept], tuple(gold[kept].tolist()))
            - enumerate_paths(crf, row, kept).log_partition
            for row, gold, kept in zip(logits, tags, mask)
        )
        assert_close(crf(logits, tags, mask), expected)

    def test_log_partition_and_marginals(self, num_tags, start_end):
        crf, logits, _, mask = small_case(num_tags, start_end, constraints=bioul_constraints(num_tags))
        log_z, marginals = crf.log_partition(logits, mask), marginals_of(crf, logits, mask)
        for b, (row, kept) in enumerate(zip(logits, mask)):
            sentence = enumerate_paths(crf, row, kept)
            assert_close(log_z[b], sentence.log_partition)
            expected = torch.zeros_like(row)
            expected[kept] = sentence.marginals(num_tags)
            assert_close(marginals[b], expected)

    def test_log_partition_of_the_allowed_sequences(self, num_tags, start_end):
        crf, logits, _, mask = small_case(num_tags, start_end, constraints=bioul_constraints(num_tags))
        log_z = log_partition(logits, crf.scores(constrained=True), mask.sum(1))
        for b, (row, kept) in enumerate(zip(logits, mask)):
            assert_close(log_z[b], enumerate_paths(crf, row, kept, constrained=True).log_partition)

    @pytest.mark.parametrize("constrained", [True, False])
    def test_decoding(self, num_tags, start_end, constrained):
        constraints = bioul_constraints(num_tags) if constrained else None
        crf, logits, _, mask = small_case(num_tags, start_end, constraints=constraints)
        sentences = [enumerate_paths(crf, row, kept, constrained) for row, kept in zip(logits, mask)]
        best = [(list(s.paths[0]), s.scores[0].item()) for s in sentences]
        assert_same_decoding(crf.viterbi_tags(logits, mask), best, 1e-12)
        for k in (1, 3, 1000):
            for ranked, sentence in zip(crf.viterbi_tags(logits, mask, top_k=k), sentences):
                expected = list(zip(map(list, sentence.paths[:k]), sentence.scores[:k].tolist()))
                assert_same_decoding(ranked, expected, 1e-12)

    def test_n_best_probabilities(self, num_tags, start_end):
        crf, logits, _, mask = small_case(num_tags, start_end)
        everything = crf.viterbi_tags(logits, mask, top_k=num_tags**4)
        for ranked, log_z in zip(everything, crf.log_partition(logits, mask)):
            assert sum(math.exp(score - log_z) for _, score in ranked) == pytest.approx(1.0)

    def test_perceptron_loss(self, num_tags, start_end):
        crf, logits, tags, mask = small_case(num_tags, start_end, constraints=bioul_constraints(num_tags))
        logits.requires_grad_()
        expected = 0.0
        for row, gold, kept in zip(logits, tags, mask):
            best = enumerate_paths(crf, row, kept).paths[0]
            expected += path_score(crf, row[kept], best) - path_score(
                crf, row[kept], tuple(gold[kept].tolist())
            )
        loss = crf.perceptron_loss(logits, tags, mask)
        assert_close(loss, expected)
        inputs = [logits, *(p for p in crf.parameters() if p.requires_grad)]
        for ours, oracle in zip(torch.autograd.grad(loss, inputs), torch.autograd.grad(expected, inputs)):
            assert_close(ours, oracle)
        decoded = _without_constraints(crf).viterbi_tags(logits, mask)
        best_tags = torch.nn.utils.rnn.pad_sequence(
            [torch.tensor(path, dtype=torch.long) for path, _ in decoded], batch_first=True
        )
        assert crf.perceptron_loss(logits, best_tags, mask).item() == 0.0


def _without_constraints(crf):
    free = FastConditionalRandomField(crf.num_tags, None, crf.include_start_end_transitions).double()
    free.load_state_dict({**crf.state_dict(), "_constraint_mask": free._constraint_mask})
    return free


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(
    mask=st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=1, max_size=3),
    seed=st.integers(0, 10000),
)
def test_any_mask_means_the_sequence_of_the_kept_steps(mask, seed):
    crf = FastConditionalRandomField(3).double()
    randomize(crf, seed)
    mask = torch.tensor(mask)
    logits, tags, _ = random_batch(mask.size(0), 4, 3, seed)
    logits = logits.masked_fill(~mask.unsqueeze(2), math.nan).requires_grad_()
    tags[~mask] = -100
    loss = -crf(logits, tags, mask)
    loss.backward()
    marginals = marginals_of(crf, logits, mask)
    decoded = crf.viterbi_tags(logits, mask, top_k=2)
    expected_loss = 0.0
    for b, kept in enumerate(mask):
        sentence = enumerate_paths(crf, logits[b].detach(), kept)
        gold = tuple(tags[b][kept].tolist())
        expected_loss -= path_score(crf, logits[b].detach()[kept], gold) - sentence.log_partition
        expected = torch.zeros(4, 3, dtype=torch.float64)
        expected[kept] = sentence.marginals(3)
        assert_close(marginals[b], expected)
        expected[kept] -= torch.nn.functional.one_hot(tags[b][kept], 3)
        assert_close(logits.grad[b], expected)
        assert_same_decoding(
            decoded[b], list(zip(map(list, sentence.paths[:2]), sentence.scores[:2].tolist()))
        )
    assert_close(loss.detach(), expected_loss.detach())


RANDOM_CASES = [  # batch size, steps, tags
    (1, 1, 2),
    (1, 9, 4),
    (6, 1, 7),
    (15, 6, 9),
    (16, 7, 9),
    (70, 12, 19),
    (3, 8, 105),
    (17, 3, 105),
    (2, 5, 300),
    (33, 2, 300),
]


@pytest.mark.parametrize("start_end", [True, False])
@pytest.mark.parametrize("constrained", [True, False])
@pytest.mark.parametrize("size", RANDOM_CASES, ids=str)
class TestAgainstAllenNLP:
    def test_decoding(self, size, constrained, start_end):
        constraints = bioul_constraints(size[2]) if constrained else None
        theirs, ours = pair(size[2], constraints, start_end, dtype=torch.float32)
        logits, _, mask = random_batch(*size, seed=1, dtype=torch.float32)
        expected = theirs.viterbi_tags(logits, mask)
        assert_same_decoding(ours.viterbi_tags(logits, mask), expected)
        assert_same_decoding(ours.viterbi_tags(logits), theirs.viterbi_tags(logits))
        assert_same_decoding(ours.double().viterbi_tags(logits.double(), mask), expected)

    def test_top_k(self, size, constrained, start_end):
        constraints = bioul_constraints(size[2]) if constrained else None
        theirs, ours = pair(size[2], constraints, start_end, dtype=torch.float32)
        logits, _, mask = random_batch(*size, seed=2, dtype=torch.float32)
        for ranked, expected in zip(
            ours.viterbi_tags(logits, mask, top_k=5), theirs.viterbi_tags(logits, mask, 5)
        ):
            possible = [
                entry for entry in expected if entry[1] > -5000
            ]  # Theirs break constraints at -10000.
            assert_same_decoding(ranked, possible)

    def test_loss(self, size, constrained, start_end):
        constraints = bioul_constraints(size[2]) if constrained else None
        batch = random_batch(*size, seed=3)
        theirs, ours = pair(size[2], constraints, start_end)
        assert_same_losses(theirs, ours, batch, 1e-12, 1e-11)
        logits, tags, mask = batch
        in_float = logits.float(), tags, mask
        assert_same_losses(theirs, ours.float(), in_float, 1e-6, 1e-5)
        assert_same_losses(theirs.float(), ours, in_float, 1e-6, 1e-5)
        assert_same_losses(theirs, ours, (logits.float(), tags, None), 1e-6, 1e-5)


@pytest.mark.parametrize("kind", ["emissions", "transitions", "outliers", "forbidding"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_scores_beyond_what_exp_can_hold(kind, dtype):
    logits, tags, mask = random_batch(20, 15, 7, seed=4)
    exact, ours = pair(7, seed=5, scale=60.0 if kind == "transitions" else 1.0)
    if kind == "emissions":
        logits *= 50
    elif kind == "outliers":
        logits[logits > 3] = 1e4
        exact.end_transitions.data[2] = -1e4
    elif kind == "forbidding":
        exact.transitions.data[torch.rand(7, 7, generator=torch.Generator().manual_seed(6)) < 0.4] = -1e4
        exact.start_transitions.data[3] = -1e4
    logits = logits.float()  # Numbers that both types hold.
    exact.float().double()
    ours.load_state_dict(exact.state_dict())
    batch = logits.to(dtype), tags, mask
    expected_loss, expected = loss_and_gradients(exact, logits.double(), tags, mask)
    loss, gradients = loss_and_gradients(ours.to(dtype), *batch)
    decoded = ours.viterbi_tags(batch[0], mask)
    theirs = exact.to(dtype)
    _, their_gradients = loss_and_gradients(theirs, *batch)
    assert loss.item() == pytest.approx(expected_loss.item(), rel=1e-6 if dtype == torch.float32 else 1e-12)
    # Sums of scores around 10000 lose digits in float32, theirs too.
    their_errors = gradient_error(their_gradients, expected)
    for name, error in gradient_error(gradients, expected).items():
        assert error <= max(1e-5 if dtype == torch.float32 else 1e-10, their_errors[name]), name
    assert_same_decoding(decoded, theirs.float().viterbi_tags(logits, mask), 1e-5)


def test_constraints_hold_for_scores_of_any_size():
    crf = FastConditionalRandomField(5, bioul_constraints(5)).double()
    logits, _, mask = random_batch(6, 4, 5, seed=7)
    logits *= 1e5
    best = [enumerate_paths(crf, row, kept, constrained=True).paths[0] for row, kept in zip(logits, mask)]
    assert [tuple(path) for path, _ in crf.viterbi_tags(logits, mask)] == best


def test_log_partition_is_minus_infinity_where_nothing_is_allowed():
    crf = FastConditionalRandomField(3, [(3, 0), (0, 0), (0, 4), (1, 1)])
    logits = torch.tensor([[[0.0, 1.0, 2.0], [-math.inf, 1.0, 1.0]], [[0.0, 1.0, 2.0], [3.0, 1.0, 1.0]]])
    logits.requires_grad_()
    log_z = log_partition(logits, crf.scores(constrained=True), torch.tensor([2, 2]))
    assert log_z[0] == -math.inf
    assert_close(log_z[1].double(), path_score(crf, logits[1], (0, 0)))
    (marginals,) = torch.autograd.grad(log_z.sum(), logits)
    assert not marginals[0].any()
    assert_close(marginals[1], torch.tensor([[1.0, 0.0, 0.0]] * 2))


def test_a_sentence_without_an_allowed_sequence_is_decoded_as_by_allennlp():
    constraints = [
        (0, 1),
        (1, 0),
        (3, 0),
        (0, 4),
    ]  # Allowed are 0, 0 1 0, 0 1 0 1 0, ...: odd numbers of steps.
    theirs, ours = pair(3, constraints, dtype=torch.float32)
    logits, _, _ = random_batch(4, 6, 3, seed=8, dtype=torch.float32)
    mask = torch.arange(6) < torch.tensor([6, 3, 4, 1]).unsqueeze(1)
    assert_same_decoding(ours.viterbi_tags(logits, mask), theirs.viterbi_tags(logits, mask))
    # With top_k, AllenNLP also returns paths through the start tag; the oracle is a CRF that pays for
    # breaches.
    payer = FastConditionalRandomField(3)
    payer.load_state_dict({**ours.state_dict(), "_constraint_mask": payer._constraint_mask})
    barred = ours._constraint_mask == 0
    payer.transitions.data[barred[:3, :3]] = -10000
    payer.start_transitions.data[barred[3, :3]] = -10000
    payer.end_transitions.data[barred[:3, 4]] = -10000
    for row, kept, ranked in zip(logits, mask, ours.viterbi_tags(logits, mask, top_k=3)):
        possible = kept.sum() % 2 == 1
        sentence = enumerate_paths(ours if possible else payer, row, kept, constrained=bool(possible))
        expected = list(zip(map(list, sentence.paths[:3]), sentence.scores[:3].tolist()))
        assert_same_decoding(ranked, expected)


def test_scores_do_not_depend_on_padding_or_company():
    _, ours = pair(9, bioul_constraints(9))
    logits, tags, mask = random_batch(40, 11, 9, seed=9)
    alone = torch.stack(
        [ours(row[None, kept], gold[None, kept]) for row, gold, kept in zip(logits, tags, mask)]
    )
    assert_close(ours(logits, tags, mask), alone.sum())
    decoded = ours.viterbi_tags(logits, mask)
    assert decoded == [ours.viterbi_tags(row[None, kept])[0] for row, kept in zip(logits, mask)]


def test_empty_input():
    crf = FastConditionalRandomField(3)
    for size in ((0, 4, 3), (2, 0, 3), (0, 0, 3)):
        logits = torch.zeros(size, requires_grad=True)
        tags = torch.zeros(size[:2], dtype=torch.long)
        loss = -crf(logits, tags, tags.bool()) + crf.perceptron_loss(logits, tags)
        loss.backward()
        assert loss.item() == 0.0
        assert crf.viterbi_tags(logits) == [([], 0.0)] * size[0]
        assert crf.viterbi_tags(logits, top_k=2) == [[([], 0.0)]] * size[0]
        assert crf.log_partition(logits).tolist() == [0.0] * size[0]
    nothing = torch.zeros(2, 4, dtype=torch.bool)
    logits = torch.full((2, 4, 3), math.nan, requires_grad=True)
    loss = crf(logits, torch.full((2, 4), -100), nothing)
    loss.backward()
    assert loss.item() == 0.0 and not logits.grad.any()
    assert all(not p.grad.any() for p in crf.parameters() if p.requires_grad)
    assert crf.viterbi_tags(logits, nothing) == [([], 0.0)] * 2


class TestNumberTypes:
    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_half_precision_logits_are_computed_in_float32(self, dtype):
        _, crf = pair(19, bioul_constraints(19), dtype=torch.float32)
        logits, tags, mask = random_batch(20, 9, 19, seed=10, dtype=torch.float32)
        half = logits.to(dtype)
        assert_close(crf(half, tags, mask), crf(half.float(), tags, mask), rtol=0, atol=0)
        assert crf.viterbi_tags(half, mask) == crf.viterbi_tags(half.float(), mask)
        assert_close(crf.to(dtype)(half, tags, mask), crf.float()(half.float(), tags, mask), rtol=0, atol=0)
        half.requires_grad_()
        crf(half, tags, mask).backward()
        assert half.grad.dtype == dtype
        expected = marginals_of(crf, half.float(), mask) - torch.nn.functional.one_hot(tags, 19)
        assert_close(-half.grad.float(), expected * mask.unsqueeze(2), rtol=0.01, atol=0.004)

    @pytest.mark.parametrize("scale", [1.0, 50.0, 5000.0])
    def test_autocast_changes_nothing(self, scale):
        _, crf = pair(19, bioul_constraints(19), dtype=torch.float32)
        logits, tags, mask = random_batch(20, 9, 19, seed=11, dtype=torch.float32)
        batch = (scale * logits, tags, mask)
        loss, gradients = loss_and_gradients(crf, *batch)
        decoded = crf.viterbi_tags(batch[0], mask)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss_in_autocast, gradients_in_autocast = loss_and_gradients(crf, *batch)
            assert crf.viterbi_tags(batch[0], mask) == decoded
        assert_close(loss_in_autocast, loss, rtol=0, atol=0)
        assert_close(gradients_in_autocast, gradients, rtol=0, atol=0)

    def test_float64_stays_float64(self):
        _, ours = pair(5)
        batch = random_batch(3, 4, 5, seed=12)
        assert ours(*batch).dtype == torch.float64
        assert ours.float()(*batch).dtype == torch.float64


def test_checkpoints_load_in_both_directions():
    for start_end in (True, False):
        theirs = ConditionalRandomField(5, bioul_constraints(5), start_end)
        ours = FastConditionalRandomField(5, None, start_end)
        ours.load_state_dict(theirs.state_dict())
        assert ours._constraint_mask.equal(theirs._constraint_mask)
        theirs.load_state_dict(ours.state_dict())
        trained = {name for name, p in ours.named_parameters() if p.requires_grad}
        assert trained == {name for name, p in theirs.named_parameters() if p.requires_grad}


def test_nan_in_a_valid_cell_is_not_hidden():
    crf = FastConditionalRandomField(3)
    logits = torch.zeros(2, 3, 3)
    logits[0, 1, 1] = math.nan
    assert math.isnan(crf(logits, torch.zeros(2, 3, dtype=torch.long)).item())


def test_errors_say_what_was_expected():
    crf = FastConditionalRandomField(4)
    with pytest.raises(ValueError, match=r"logits of size \(2, 3, 5\), expected .* num_tags 4"):
        crf(torch.zeros(2, 3, 5), torch.zeros(2, 3, dtype=torch.long))
    with pytest.raises(
        ValueError, match=r"mask of size \(2, 4\), expected \(2, 3\) with logits of size \(2, 3, 4\)"
    ):
        crf.viterbi_tags(torch.zeros(2, 3, 4), torch.ones(2, 4, dtype=torch.bool))
    for size in ((2, 2), (1, 3), (2, 4)):
        tags = torch.zeros(size, dtype=torch.long)
        for method in (crf.forward, crf.perceptron_loss):
            with pytest.raises(ValueError, match=r"tags of size \(\d, \d\), expected \(2, 3\)"):
                method(torch.zeros(2, 3, 4), tags)
    with pytest.raises(ValueError, match=r"allowed tags of size \(2, 3\), expected \(2, 3, 4\)"):
        crf.partial_log_likelihood(torch.zeros(2, 3, 4), torch.ones(2, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match="top_k is 0"):
        crf.viterbi_tags(torch.zeros(2, 3, 4), top_k=0)


WITH_GRADIENTS = ["small", "one_word_batch"]  # The files that have pairwise scores and their gradients.


@pytest.mark.parametrize("scale", [1.0, 100.0])
@pytest.mark.parametrize("start_end", [True, False])
class TestPartialLabels:
    @staticmethod
    def case(scale, start_end):
        crf, logits, tags, mask = small_case(4, start_end, seed=4, constraints=bioul_constraints(4))
        crf.transitions.data.mul_(scale)
        generator = torch.Generator().manual_seed(5)
        allowed = torch.rand(logits.size(), generator=generator) < 0.4
        allowed[1] = True  # nothing is known
        allowed[0] = torch.nn.functional.one_hot(tags[0], 4).bool()  # everything is
        allowed.scatter_(2, tags.unsqueeze(2), True)
        return crf, logits.requires_grad_(), tags, mask, allowed

    def test_equals_the_enumeration(self, scale, start_end):
        crf, logits, _, mask, allowed = self.case(scale, start_end)
        expected = 0.0
        for row, kept, sets in zip(logits, mask, allowed):
            sentence = enumerate_paths(crf, row, kept)
            matches = [all(sets[kept][step, tag] for step, tag in enumerate(path)) for path in sentence.paths]
            expected = expected + torch.logsumexp(sentence.scores[torch.tensor(matches)], 0)
            expected = expected - sentence.log_partition
        likelihood = crf.partial_log_likelihood(logits, allowed, mask)
        assert_close(likelihood, expected)
        inputs = [logits, *(p for p in crf.parameters() if p.requires_grad)]
        ours = torch.autograd.grad(likelihood, inputs)
        for gradient, oracle in zip(ours, torch.autograd.grad(expected, inputs)):
            assert_close(gradient, oracle)
        assert not ours[0][1].any() and not ours[0][~mask].any()

    def test_one_tag_each_gives_the_log_likelihood(self, scale, start_end):
        crf, logits, tags, mask, _ = self.case(scale, start_end)
        allowed = torch.nn.functional.one_hot(tags, 4).bool()
        inputs = [logits, *(p for p in crf.parameters() if p.requires_grad)]
        values = crf.partial_log_likelihood(logits, allowed, mask), crf(logits, tags, mask)
        assert_close(*values)
        assert_close(*(torch.autograd.grad(value, inputs) for value in values))
        allowed[:] = True
        assert crf.partial_log_likelihood(logits, allowed, mask).item() == 0.0

    def test_masked_cells_are_never_read(self, scale, start_end):
        crf, logits, _, mask, allowed = self.case(scale, start_end)
        expected = crf.partial_log_likelihood(logits, allowed, mask)
        spoilt = logits.detach().masked_fill(~mask.unsqueeze(2), math.nan).requires_grad_()
        result = crf.partial_log_likelihood(spoilt, allowed & mask.unsqueeze(2), mask)
        assert_close(result, expected, rtol=0, atol=0)
        (gradient,) = torch.autograd.grad(result, spoilt)
        assert gradient.isfinite().all() and not gradient[~mask].any()


@pytest.mark.parametrize("constraints", [None, bioul_constraints(5)])
def test_tags_that_are_never_decoded(constraints):
    crf, logits, _, mask = small_case(5, True, seed=6, constraints=constraints)
    crf.never_decoded = (0, 2)
    mask[EMPTY_ROW] = True
    for row, kept, ranked in zip(logits, mask, crf.viterbi_tags(logits, mask, top_k=3)):
        sentence = enumerate_paths(crf, row, kept, constrained=True)
        best = [
            (path, score)
            for path, score in zip(sentence.paths, sentence.scores.tolist())
            if not {0, 2} & {*path}
        ]
        if best:  # else, some constraint must be broken
            assert_same_decoding(ranked, [(list(path), score) for path, score in best[:3]])
        assert not any({0, 2} & {*path} for path, _ in ranked)


class TestReferenceVectors:
    """
    The original's CRF has the start and the end of a sentence as ordinary tags: a sentence of L words has L +
    1 steps, its first step has the transitions from the start tag, and its last tag must be the end tag.
    """

    @pytest.fixture(params=["small", "medium", "one_word_batch"])
    def case(self, request):
        arrays = load_reference(f"g_crf/{request.param}.npz")
        parameters = reference_parameters(arrays)
        feats = torch.from_numpy(arrays["feats"]).double()
        emissions = feats @ parameters["hidden2tag.weight"].t() + parameters["hidden2tag.bias"]
        num_tags = emissions.size(2)
        start_tag, end_tag = int(arrays["y"][0, 0]) // num_tags, num_tags - 1
        assert (arrays["y"][arrays["lens"], range(len(arrays["lens"]))] % num_tags == end_tag).all()
        crf = FastConditionalRandomField(num_tags).double()
        crf.transitions.data.copy_(parameters["transitions"])
        crf.start_transitions.data.copy_(parameters["transitions"][start_tag])
        crf.end_transitions.data.fill_(-math.inf)[end_tag] = 0.0
        mask = torch.from_numpy(arrays["mask"]).bool().t()
        tags = torch.from_numpy(arrays["y"]).t() % num_tags
        return arrays, crf, emissions.transpose(0, 1).contiguous(), tags, mask, start_tag

    @pytest.mark.parametrize("case", WITH_GRADIENTS, indirect=True)
    def test_scores(self, case):
        arrays, crf, emissions, _, _, _ = case
        pairwise = emissions.transpose(0, 1).unsqueeze(2) + crf.transitions
        assert_close(pairwise, torch.from_numpy(arrays["scores_f64"]), rtol=0, atol=1e-10)
        assert_close(pairwise.float(), torch.from_numpy(arrays["scores_f32"]), rtol=0, atol=1e-5)

    def test_likelihood_in_float64(self, case):
        arrays, crf, emissions, tags, mask, _ = case
        rows = zip(emissions, tags, mask)
        by_sentence = -torch.stack([crf(row[None], gold[None], kept[None]) for row, gold, kept in rows])
        expected = torch.from_numpy(arrays["per_sentence_nll_f64"])
        assert_close(by_sentence, expected, rtol=0, atol=1e-10)
        assert -crf(emissions, tags, mask).item() == pytest.approx(float(arrays["loss_sum_f64"]), abs=1e-10)
        assert -crf(emissions, tags, mask).item() / len(expected) == pytest.approx(
            float(arrays["loss_f64"]), abs=1e-10
        )

    @pytest.mark.parametrize("case", WITH_GRADIENTS, indirect=True)
    @pytest.mark.parametrize(
        "dtype, name, tolerance", [(torch.float64, "f64", 1e-10), (torch.float32, "f32", 1e-5)]
    )
    def test_gradients(self, case, dtype, name, tolerance):
        arrays, crf, emissions, tags, mask, start_tag = case
        batch = emissions.to(dtype), tags, mask
        loss, gradients = loss_and_gradients(crf.to(dtype), *batch)
        assert loss.item() == pytest.approx(float(arrays[f"loss_sum_{name}"]), abs=10 * tolerance)
        expected = len(mask) * torch.from_numpy(
            arrays[f"grad_scores_{name}"]
        )  # (L + 1, B, from, to) of the sum
        assert_close(gradients["logits"], expected.sum(2).transpose(0, 1), rtol=0, atol=tolerance)
        assert_close(gradients["transitions"], expected[1:].sum((0, 1)), rtol=0, atol=tolerance)
        assert_close(gradients["start_transitions"], expected[0, :, start_tag].sum(0), rtol=0, atol=tolerance)

    @pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-10), (torch.float32, 1e-4)])
    def test_decoding(self, case, dtype, tolerance):
        arrays, crf, emissions, _, mask, _ = case
        crf = crf.to(dtype)
        top_two = crf.viterbi_tags(emissions.to(dtype), mask, top_k=2)
        best = crf.viterbi_tags(emissions.to(dtype), mask)
        for b, length in enumerate(arrays["lens"]):
            path, score = best[b]
            assert path[:-1] == arrays["decoded"][:length, b].tolist()
            assert path[-1] == crf.num_tags - 1
            assert score == pytest.approx(arrays["best_score"][b], abs=tolerance)
            (first, first_score), (_, second_score) = top_two[b]
            assert first == path
            assert first_score - second_score == pytest.approx(arrays["margin"][b], abs=tolerance)
