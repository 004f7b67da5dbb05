"""Scores of a distributed run: summed over all ranks in training and validation, of one rank in the test evaluation."""

import json

import pytest
import torch
from allennlp.common import Params
from allennlp.data import Vocabulary
from torch.nn.parallel import DistributedDataParallel

from ldnet_allennlp.training.metrics.corpus_perplexity import CorpusPerplexity
from ldnet_allennlp.training.metrics.tagging_scores import TaggingScores
from ldnet_runtime.tag_schemes import spans_from_tags
from tests.processes import run_in_two_processes

GOLD = [torch.tensor([[1, 0]]), torch.tensor([[1, 1], [0, 1]])]  # of each rank
MASK = [torch.ones(1, 2, dtype=torch.bool), torch.tensor([[True, True], [True, False]])]
PREDICTED = [[[1, 1]], [[1, 0], [0]]]
CORRECT, WORDS = [1, 2], [2, 3]


class Counting(torch.nn.Module):
    """Counts in its forward pass, as models do."""

    def __init__(self):
        super().__init__()
        vocab = Vocabulary(tokens_to_add={"labels": ["O", "B-X"]})
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.scores = TaggingScores(vocab, "labels", spans_of_tags)
        self.perplexity = CorpusPerplexity()

    def forward(self, part):
        self.scores.update(PREDICTED[part], GOLD[part], MASK[part])
        self.perplexity(torch.tensor(float(part + 1)), WORDS[part])
        return self.weight.sum()


def spans_of_tags(tags):
    return spans_from_tags(tags, "BIO")


def check_rank(rank, world_size):
    model = Counting()
    parallel = DistributedDataParallel(model)
    parallel(rank)
    scores = model.scores.get(reset=True)
    assert scores["accuracy"] == pytest.approx(sum(CORRECT) / sum(WORDS))
    assert scores["recall-overall"] == pytest.approx(2 / 3)
    assert model.perplexity.get_metric(reset=True) == pytest.approx(torch.tensor(3.0 / 5).exp().item())
    if rank == 0:  # AllenNLP's evaluation of the test set: the other ranks have left
        model(0)
        scores = model.scores.get(reset=True)
        assert scores["accuracy"] == pytest.approx(CORRECT[0] / WORDS[0]) and scores["recall-overall"] == 1.0
        assert model.perplexity.get_metric(reset=True) == pytest.approx(torch.tensor(1.0 / 2).exp().item())


def test_one_rank_can_evaluate_alone():
    run_in_two_processes(check_rank)


def test_a_distributed_training_with_a_test_file_ends_with_an_archive(tmp_path):
    from allennlp.commands.train import train_model

    path = tmp_path / "data.conll"
    path.write_text("Ada B-PER\nmet O\nParis B-LOC\n\nParis B-LOC\nfell O\n\n" * 4)
    config = {
        "dataset_reader": {"type": "conll_columns"},
        **{f"{name}_data_path": str(path) for name in ("train", "validation", "test")},
        "evaluate_on_test": True,
        "model": {
            "type": "ldnet_tagger",
            "label_encoding": "BIO",
            "text_field_embedder": {"token_embedders": {"tokens": {"type": "embedding", "embedding_dim": 4}}},
            "encoder": {"type": "lstm", "input_size": 4, "hidden_size": 4},
        },
        "data_loader": {"batch_size": 2},
        "trainer": {
            "optimizer": {"type": "sgd", "lr": 0.1},
            "num_epochs": 1,
            "validation_metric": "+f1-measure-overall",
        },
        "distributed": {"cuda_devices": [-1, -1], "primary_port": 29517},
    }
    train_model(Params(config), str(tmp_path / "run"), include_package=["ldnet_allennlp"])
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert {"test_accuracy", "test_f1-measure-overall", "validation_accuracy"} <= set(metrics)
    assert (tmp_path / "run" / "model.tar.gz").exists()
