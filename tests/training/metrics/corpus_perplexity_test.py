import math

import pytest
import torch
from allennlp.training.metrics import Metric

from ldnet_allennlp.training.metrics.corpus_perplexity import CorpusPerplexity
from tests.processes import run_in_two_processes


def test_batches_count_by_their_targets():
    metric = CorpusPerplexity()
    losses = torch.rand(100, dtype=torch.float64) * 9
    for part in losses.split([1, 40, 9, 50]):
        metric(part.sum(), len(part))
    assert metric.get_metric() == pytest.approx(math.exp(losses.mean().item()), rel=1e-12)
    # Not the mean of the batches' means, which AllenNLP's own metric takes.
    means = [part.mean().item() for part in losses.split([1, 40, 9, 50])]
    assert abs(metric.get_metric() - math.exp(sum(means) / 4)) > 1e-3


def test_a_batch_without_targets_changes_nothing():
    metric = CorpusPerplexity()
    metric(torch.tensor(3.0), 2)
    metric(torch.tensor(0.0), 0)
    assert metric.get_metric() == pytest.approx(math.exp(1.5))


def test_reset_forgets():
    metric = CorpusPerplexity()
    assert metric.get_metric() == 0
    metric(torch.tensor(3.0), 2)
    assert metric.get_metric(reset=True) > 0
    assert metric.get_metric() == 0


def test_no_graph_is_kept():
    metric = CorpusPerplexity()
    metric(torch.ones((), requires_grad=True) * 2, torch.tensor(2))
    assert not any(isinstance(value, torch.Tensor) for value in vars(metric).values())


def test_what_is_too_large_for_a_number_is_infinite():
    metric = CorpusPerplexity()
    metric(torch.tensor(1e6), 1)
    assert metric.get_metric() == math.inf


def test_is_registered():
    assert Metric.by_name("corpus_perplexity") is CorpusPerplexity


def count_a_part(rank: int, world_size: int, parts) -> None:
    metric = CorpusPerplexity()
    for part in parts[rank]:
        metric(part.sum(), len(part))
    everything = torch.cat([part for parts_of_one in parts for part in parts_of_one])
    assert metric.get_metric() == pytest.approx(math.exp(everything.mean().item()), rel=1e-12)


def test_processes_count_together():
    losses = torch.rand(60, dtype=torch.float64) * 9
    first, second, third, fourth = losses.split([5, 20, 34, 1])
    run_in_two_processes(count_a_part, [[first, second], [third, fourth]])
