import math

import pytest
import torch

from ldnet_allennlp.modules.rnn.dropped_elements import bernoulli_positions, draw_dropped, put_back, take_out


class TestDroppedElements:
    def test_only_the_first_columns(self):
        torch.manual_seed(3)
        buffer = torch.rand(4, 5, 7) + 1
        before = buffer.clone()
        positions = draw_dropped(buffer, 3, 0.4)
        kept = take_out(buffer, positions)
        dropped = buffer == 0
        assert dropped.sum() == len(positions) > 0 and not dropped[:, :, 3:].any()
        assert torch.equal(buffer[~dropped], before[~dropped])
        put_back(buffer, positions, kept)
        assert torch.equal(buffer, before)

    def test_no_dropout(self):
        buffer = torch.rand(2, 3, 4)
        before = buffer.clone()
        assert draw_dropped(buffer, 4, 0.0) is None and take_out(buffer, None) is None
        put_back(buffer, None, None)
        assert torch.equal(buffer, before)


class TestBernoulliPositions:
    @pytest.mark.parametrize("probability", [0.002, 0.01, 0.1, 0.3, 1.0])
    def test_number_and_places(self, probability):
        torch.manual_seed(5)
        count, trials = 1000, 300
        hits = torch.zeros(count)
        for _ in range(trials):
            positions = bernoulli_positions(count, probability)
            assert (
                (positions[1:] > positions[:-1]).all()
                and (positions >= 0).all()
                and (positions < count).all()
            )
            hits[positions] += 1
        total = count * trials
        spread = math.sqrt(total * probability * (1 - probability))
        assert abs(hits.sum() - total * probability) <= 5 * spread
        for half in hits.chunk(2):
            assert abs(half.sum() - total * probability / 2) <= 5 * spread

    def test_neighbours_are_independent(self):
        torch.manual_seed(6)
        count, probability = 2_000_000, 0.05
        positions = bernoulli_positions(count, probability)
        pairs = int((positions[1:] == positions[:-1] + 1).sum())
        assert abs(pairs - count * probability**2) < 5 * math.sqrt(count) * probability

    def test_none(self):
        assert len(bernoulli_positions(0, 0.01)) == 0
