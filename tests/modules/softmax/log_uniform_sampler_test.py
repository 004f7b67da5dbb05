import pytest
import torch

from ldnet_allennlp.modules.softmax.log_uniform_sampler import LogUniformSampler


class TestLogUniformSampler:
    @pytest.mark.parametrize("first, last", [(0, 7), (5, 50), (4000, 40000), (200000, 793470)])
    def test_probabilities_sum_to_one_and_fall(self, first, last):
        log_prob = LogUniformSampler(first, last).log_prob(torch.arange(last - first))
        torch.testing.assert_close(log_prob.exp().sum(), torch.tensor(1.0, dtype=torch.float64))
        assert (log_prob[1:] < log_prob[:-1]).all()

    def test_words_are_drawn_with_their_probabilities(self):
        torch.manual_seed(1)
        sampler = LogUniformSampler(3, 15)
        words, log_prob = sampler.draw(200_000, torch.device("cpu"))
        torch.testing.assert_close(log_prob, sampler.log_prob(words))
        shares = torch.bincount(words, minlength=12) / len(words)
        expected = sampler.log_prob(torch.arange(12)).exp().float()
        # Three standard deviations of a share of 0.15 are 0.0024.
        torch.testing.assert_close(shares, expected, rtol=0, atol=0.004)
