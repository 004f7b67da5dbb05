import logging

import pytest
import torch

from ldnet_allennlp.commands.report import speed
from ldnet_allennlp.commands.report.speed import torch_threads, words_per_second


class Model:
    """Notes what it is given; each batch takes as many seconds of the clock as it has sentences."""

    def __init__(self, clock):
        self.batches = []
        self.clock = clock
        self.is_training = True

    def eval(self):
        self.is_training = False

    def forward_on_instances(self, instances):
        assert not self.is_training
        logging.getLogger("allennlp.models.model").warning("a loss cannot be split")
        self.batches.append(instances)
        self.clock[0] += len(instances)


def test_the_median_of_all_passes(monkeypatch, caplog):
    clock = [0.0]
    monkeypatch.setattr(speed, "instance_of", lambda reader, words: words)
    monkeypatch.setattr(speed.time, "perf_counter", lambda: clock[0])
    model = Model(clock)
    sentences = [["a"] * length for length in (5, 1, 4, 2, 3)]
    # 15 words in 5 seconds, one pass like the other.
    assert words_per_second(model, None, sentences, batch_size=2, passes=3) == 3.0
    lengths = [[len(words) for words in batch] for batch in model.batches]
    assert lengths == [[5]] + 3 * [[1, 2], [3, 4], [5]]
    assert not caplog.records


def test_one_slow_pass_does_not_count(monkeypatch):
    times = iter([0.0, 2.0, 10.0, 110.0, 200.0, 203.0])
    monkeypatch.setattr(speed, "instance_of", lambda reader, words: words)
    monkeypatch.setattr(speed.time, "perf_counter", lambda: next(times))
    assert words_per_second(Model([0.0]), None, [["a"] * 6], passes=3) == 2.0


def test_threads_are_put_back():
    before = torch.get_num_threads()
    with pytest.raises(ValueError), torch_threads(before + 1) as used:
        assert used == torch.get_num_threads() == before + 1
        raise ValueError
    assert torch.get_num_threads() == before
    with torch_threads(None) as used:
        assert used == before
