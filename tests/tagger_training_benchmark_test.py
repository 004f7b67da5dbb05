"""What `benchmarks/tagger_training.py` says, at sizes at which it takes no time."""

import importlib
import sys

import pytest
import torch

from tests.resources import ROOT


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.setattr(sys, "argv", ["tagger_training.py", "--quick"])
    module = importlib.import_module("tagger_training")
    # What takes the time at these sizes.
    monkeypatch.setattr(module, "product_rates", lambda arguments: {"float32": 1e12, "bfloat16": 1e12})
    return module


def test_every_way_trains(benchmark, tmp_path):
    """The baseline compares its loss with the tagger's by itself."""
    arguments = benchmark.parse_arguments()
    results = {}
    for way in benchmark.WAYS:
        (tmp_path / way).mkdir()
        results[way] = benchmark.measure(way, arguments, tmp_path / way)
    assert len({result["words"] for result in results.values()}) == 1
    sizes = benchmark.published(arguments)
    columns = 2 * (sizes.lm_dim + sizes.layers * sizes.hidden)  # of both language models
    for way, result in results.items():
        assert len(result["seconds"]) == 1 and 0 < result["limit"] < result["seconds"][0]
        stored = {"cached": 4, "cached float16": 2}.get(way, 0) * columns
        assert (stored <= result["bytes_a_word"]) if stored else result["bytes_a_word"] == 0
    assert results["cached"]["limit"] < results["ldnet_tagger"]["limit"] * 2


def test_a_baseline_way_that_differs_is_noticed(benchmark, tmp_path):
    arguments = benchmark.parse_arguments()
    tagger, loader, _ = benchmark.build("baseline", arguments, tmp_path)
    plain = benchmark.BaselineTraining(tagger, arguments.dropout)
    benchmark.check_equal_losses(tagger, plain, loader)
    with torch.no_grad():
        plain.encoder[0].weight_ih_l0.mul_(5)
    with pytest.raises(SystemExit, match="baseline's loss is"):
        benchmark.check_equal_losses(tagger, plain, loader)
