import json

import pytest
import torch
from allennlp.common.checks import ConfigurationError

from ldnet_allennlp.modules.softmax.adaptive_softmax import AdaptiveSoftmax, draw_log_uniform
from tests.resources import REFERENCE, load_reference, reference_parameters

PRECISIONS = [("f64", torch.float64, 1e-10), ("f32", torch.float32, 1e-5)]
CASES = ["small", "two_clusters", "no_tail", "single_hit", "medium"]


def close(actual, expected, tolerance=1e-12):
    torch.testing.assert_close(
        torch.as_tensor(actual), torch.as_tensor(expected), rtol=0, atol=tolerance, check_dtype=False
    )


def make(num_words=50, dim=16, cutoffs=(5, 12, 30), dtype=torch.float64, seed=1, **options):
    torch.manual_seed(seed)
    return AdaptiveSoftmax(num_words, dim, list(cutoffs), **options).to(dtype)


def vectors(rows, dim=16, seed=2):
    return torch.randn(rows, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * 2


class TestReference:
    """Vectors of the original's `AdaptiveSoftmax`."""

    def build(self, case, dtype):
        arrays = load_reference(f"c_adaptive/{case}.npz")
        cutoffs = arrays["cutoff"].tolist()
        softmax = AdaptiveSoftmax(cutoffs[-1], arrays["x"].shape[1], cutoffs).to(dtype)
        softmax.load_state_dict(reference_parameters(arrays, dtype))
        return softmax, arrays

    @pytest.mark.parametrize("suffix, dtype, tolerance", PRECISIONS)
    @pytest.mark.parametrize("case", CASES)
    def test_loss_gradients_and_log_probabilities(self, case, suffix, dtype, tolerance):
        softmax, arrays = self.build(case, dtype)
        if f"loss_{suffix}" not in arrays:
            # The medium case has float64 arrays only; float32 is compared with them.
            arrays = {key.replace("_f64", f"_{suffix}"): value for key, value in arrays.items()}
        x = torch.as_tensor(arrays["x"]).to(dtype).requires_grad_()
        target = torch.as_tensor(arrays["target"])
        loss = softmax(x, target) / len(target)
        close(loss, arrays[f"loss_{suffix}"], tolerance)
        close(softmax.log_prob(x), arrays[f"log_prob_{suffix}"], tolerance)
        loss.backward()
        close(x.grad, arrays[f"grad_x_{suffix}"], tolerance)
        for name, parameter in softmax.named_parameters():
            if f"grad/{name}_{suffix}" in arrays:
                close(parameter.grad, arrays[f"grad/{name}_{suffix}"], tolerance)

    def test_state_dict_of_the_original(self):
        state = torch.load(str(REFERENCE / "c_adaptive/small.pt"))
        arrays = load_reference("c_adaptive/small.npz")
        cutoffs = arrays["cutoff"].tolist()
        softmax = AdaptiveSoftmax(cutoffs[-1], 20, cutoffs)
        assert list(softmax.state_dict()) == list(state)
        softmax.load_state_dict(state)
        close(softmax.log_prob(torch.as_tensor(arrays["x"])), arrays["log_prob_f32"], 1e-5)

    def test_normalisation_record(self):
        # Per case how far the original's sums are from 1, and its loss from the mean of its log-probabilities.
        record = json.loads((REFERENCE / "c_adaptive/normalisation.json").read_text())
        for case, recorded in record.items():
            softmax, arrays = self.build(case, torch.float64)
            x, target = torch.as_tensor(arrays["x"]).double(), torch.as_tensor(arrays["target"])
            log_prob = softmax.log_prob(x)
            deviation = (log_prob.exp().sum(1) - 1).abs().max().item()
            mean = -log_prob.gather(1, target.unsqueeze(1)).mean()
            ours = [deviation, abs((softmax(x, target) / len(target) - mean).item())]
            assert max(ours) <= max(recorded) + 1e-14, case


class TestAgainstTorch:
    @pytest.mark.parametrize("div_value", [2.0, 4.0])
    def test_equals_torchs_module(self, div_value):
        torch.manual_seed(3)
        theirs = torch.nn.AdaptiveLogSoftmaxWithLoss(16, 50, [5, 12, 30], div_value=div_value).double()
        ours = make(tail_offset=1, div_value=div_value)
        ours.load_state_dict(theirs.state_dict())
        x, targets = vectors(40), torch.arange(40)
        expected = theirs(x, targets)
        close(ours.target_log_prob(x, targets), expected.output)
        close(ours(x, targets) / 40, expected.loss)
        close(ours.log_prob(x), theirs.log_prob(x))

    def test_head_bias_follows_the_tail_offset(self):
        assert make(tail_offset=1).head.bias is None
        assert make(tail_offset=0).head.bias is not None


class TestProbabilities:
    @pytest.mark.parametrize(
        "num_words, dim, cutoffs, options",
        [
            (50, 16, [5, 12, 30], {}),
            (50, 16, [5, 12, 30, 50], {"tail_offset": 1}),
            (50, 3, [1, 2, 3], {}),  # the projections shrink to nothing
            (50, 16, [50], {}),
            (50, 16, [49], {"div_value": 1.5}),
            (1, 4, [1], {}),
        ],
    )
    def test_everything_agrees_with_the_full_distribution(self, num_words, dim, cutoffs, options):
        softmax = make(num_words, dim, cutoffs, **options)
        x, targets = vectors(60, dim), torch.randint(num_words, (60,))
        log_prob = softmax.log_prob(x)
        assert log_prob.shape == (60, num_words)
        close(log_prob.exp().sum(1), torch.ones(60))
        expected = log_prob.gather(1, targets.unsqueeze(1)).squeeze(1)
        close(softmax.target_log_prob(x, targets), expected)
        close(softmax(x, targets), -expected.sum())

    def test_words_of_a_cluster_without_a_projection_are_equally_likely(self):
        softmax = make(50, 3, [5, 12, 30])
        assert softmax.tail[1][0].weight.shape == (0, 3) and softmax.tail[0][0].weight.shape == (3, 3)
        uniform = softmax.log_prob(vectors(7, 3))[:, 12:30]
        close(uniform, uniform[:, :1].expand(7, 18))

    def test_no_vector_is_an_empty_sum(self):
        softmax = make()
        loss = softmax(vectors(0), torch.zeros(0, dtype=torch.long))
        assert loss.item() == 0
        loss.backward()
        assert all(parameter.grad.abs().sum() == 0 for parameter in softmax.parameters())


class TestGradients:
    def test_parameters_of_empty_clusters_have_a_gradient_of_zero(self):
        softmax = make()
        softmax(vectors(9), torch.full((9,), 13)).backward()
        for number, cluster in enumerate(softmax.tail):
            for layer in cluster:
                assert layer.weight.grad is not None
                assert (layer.weight.grad.abs().sum() > 0) == (number == 1)

    def test_nothing_of_the_size_of_the_vocabulary_is_kept(self):
        softmax = make(num_words=5000, cutoffs=[50, 500])
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
            softmax(vectors(100), torch.cat([torch.arange(98), torch.tensor([100, 4000])]))
        assert 0 < max(sizes) < 5000 * 16 + 1  # the largest is a weight, not 100 x 5000

    def test_full_precision_under_autocast_outside_training(self):
        softmax = make(dtype=torch.float32).eval()
        x, targets = vectors(20).float(), torch.arange(20)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            halved = torch.nn.functional.linear(x, torch.eye(16))
            assert halved.dtype == torch.bfloat16
            loss, log_prob = softmax(halved, targets), softmax.log_prob(halved)
        assert loss.dtype == torch.float32
        assert torch.equal(loss, softmax(halved.float(), targets))
        assert torch.equal(log_prob, softmax.log_prob(halved.float()))

    @pytest.mark.parametrize("tail_samples", [None, 6])
    def test_training_under_autocast_rounds_products_alone(self, tail_samples):
        softmax = make(dtype=torch.float32, tail_samples=tail_samples)
        x, targets = vectors(20).float(), torch.arange(20)
        results = []
        for enabled in (False, True):
            softmax.zero_grad()
            torch.manual_seed(5)
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
                log_prob = softmax.target_log_prob(x, targets)
            assert log_prob.dtype == torch.float32
            log_prob.sum().backward()
            gradients = [weight.grad.to_dense() for weight in softmax.parameters()]
            assert all(gradient.dtype == torch.float32 for gradient in gradients)
            results.append([log_prob, *gradients])
        assert not torch.equal(results[0][0], results[1][0])
        for full, rounded in zip(*results):
            assert (full - rounded).norm() <= 0.02 * full.norm()

    def test_initial_weights_are_xaviers(self):
        softmax = make(num_words=3000, dim=200, cutoffs=[300, 1000], dtype=torch.float32)
        for name, weight in softmax.named_parameters():
            if name != "head.bias":
                expected = (2 / (weight.size(0) + weight.size(1))) ** 0.5
                assert abs(weight.std().item() / expected - 1) < 0.05, name
        assert softmax.head.bias.abs().max() <= 200**-0.5


class TestErrors:
    @pytest.mark.parametrize(
        "cutoffs, found",
        [
            ([], r"\[\]"),
            ([0, 5], "start at 1"),
            ([-1], "start at 1"),
            ([5, 5], "increase"),
            ([9, 5], "increase"),
            ([5, 51], "which is 50"),
            ([5.0], "one or more integers"),
            ([True, 5], "one or more integers"),
        ],
    )
    def test_cutoffs(self, cutoffs, found):
        with pytest.raises(ConfigurationError, match=found):
            make(cutoffs=cutoffs)

    @pytest.mark.parametrize(
        "options", [{"num_words": 0}, {"dim": 0}, {"div_value": 0.0}, {"tail_offset": -1}]
    )
    def test_sizes(self, options):
        with pytest.raises(ConfigurationError):
            make(**options)

    @pytest.mark.parametrize("target", [-100, -1, 50])
    @pytest.mark.parametrize("on_host", [False, True])
    def test_targets_that_are_no_words(self, target, on_host):
        targets = torch.tensor([3, target, 40])
        with pytest.raises(
            ConfigurationError, match=rf"words from 0 to 49 .* but a target is {target}\. Leave out"
        ):
            make().target_log_prob(vectors(3), targets, targets if on_host else None)


class TestTailSamples:
    """Training steps that draw words of the clusters instead of using all."""

    def test_estimates_the_sum_over_a_cluster_without_bias(self):
        exact, sampled = make(), make(tail_samples=4)
        x, targets = vectors(3), torch.tensor([14, 31, 49])
        with torch.no_grad():
            expected = exact.target_log_prob(x, targets)
            head = (
                exact.target_log_prob(x, torch.tensor([12, 30, 30]))
                - exact.log_prob(x)[torch.arange(3), torch.tensor([12, 30, 30])]
            )
            assert head.abs().max() < 1e-12
            draws = torch.stack([sampled.target_log_prob(x, targets) for _ in range(4000)])
        # 1 / p(w | cluster) = Z / exp(logit), and Z is what is estimated.
        inverse = (-draws).exp().mean(dim=0)
        torch.testing.assert_close(inverse, (-expected).exp(), rtol=0.05, atol=0)
        assert draws.std(dim=0).min() > 0.01

    def test_many_samples_come_close_to_the_exact_loss(self):
        x, targets = vectors(40), torch.arange(40) + 10
        exact, sampled = (
            make(num_words=500, cutoffs=(5, 40, 50)),
            make(num_words=500, cutoffs=(5, 40, 50), tail_samples=449),
        )
        torch.manual_seed(0)
        close(sampled(x, targets), exact(x, targets), 1.0)

    def test_gradients_of_the_words_are_sparse_and_only_of_clusters_that_are_large(self):
        softmax = make(tail_samples=10)
        names = [name for name, _ in softmax.sampled_parameters()]
        assert names == ["tail.1.1.weight", "tail.2.1.weight"]  # the first cluster has 7 words
        softmax(vectors(4), torch.tensor([1, 6, 13, 40])).backward()
        for name, parameter in softmax.named_parameters():
            assert parameter.grad.is_sparse == (name in names), name

    def test_evaluation_is_exact(self):
        exact, sampled = make().eval(), make(tail_samples=2).eval()
        x, targets = vectors(50), torch.arange(50)
        close(sampled(x, targets), exact(x, targets))

    def test_an_accidental_draw_of_the_target_does_not_count_twice(self):
        # Two words in the cluster: whatever is drawn, the target counts once, and the other one once or more.
        softmax = make(num_words=7, cutoffs=(5,), tail_samples=1)
        x, targets = vectors(1), torch.tensor([5])
        logits = softmax.tail[0](x)[0]
        whole = softmax.log_prob(x)[0, 5] - torch.log_softmax(logits, 0)[0]
        weight = logits[1] - log_uniform(5, 7)[1]
        possible = {0.0, (logits[0] - torch.stack([logits[0], weight]).logsumexp(0)).item()}
        found = {round((softmax(x, targets).neg() - whole).item(), 9) for _ in range(60)}
        assert found == {round(value, 9) for value in possible}

    def test_errors(self):
        with pytest.raises(ConfigurationError, match=r"tail_samples .* is 0; expected 1 or more"):
            make(tail_samples=0)


def log_uniform(first, last):
    """The log-probability of each word from `first` to `last - 1`."""
    weights = torch.log1p(1 / torch.arange(first + 1, last + 1, dtype=torch.float64))
    return (weights / weights.sum()).log()


class TestDrawLogUniform:
    @pytest.mark.parametrize("first, last", [(0, 7), (5, 50), (4000, 40000), (200000, 793470)])
    def test_log_probabilities_are_those_of_the_words(self, first, last):
        words, log_prob = draw_log_uniform(first, last, 1000, torch.device("cpu"))
        assert words.min() >= 0 and words.max() < last - first
        close(log_prob, log_uniform(first, last)[words], 1e-9)

    def test_words_are_drawn_with_their_probabilities(self):
        torch.manual_seed(1)
        words, _ = draw_log_uniform(3, 15, 200_000, torch.device("cpu"))
        shares = torch.bincount(words, minlength=12) / len(words)
        # Three standard deviations of a share of 0.15 are 0.0024.
        close(shares, log_uniform(3, 15).exp(), 0.004)
