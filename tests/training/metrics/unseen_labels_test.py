import logging

from ldnet_allennlp.training.metrics.unseen_labels import UnseenLabels
from tests.processes import run_in_two_processes


def test_counts_are_logged_once_for_each_file_and_label(caplog):
    metric = UnseenLabels()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            metric(["B-X", "I-X"], "dev.conll")
            metric(["B-X"], "dev.conll")
            metric(["B-X"], "test.conll")
            metric(["B-Y"])
            assert metric.get_metric() == 5 and metric.get_metric(reset=True) == 5
    assert metric.get_metric(reset=True) == 0
    assert [record.getMessage().partition(" is not")[0] for record in caplog.records] == [
        "the label 'B-Y' of 1 word",
        "dev.conll: the label 'B-X' of 2 words",
        "dev.conll: the label 'I-X' of 1 word",
        "test.conll: the label 'B-X' of 1 word",
    ]


def check_worker(rank, world_size):
    metric = UnseenLabels()
    metric(["B-X"] * (1 + rank), "a")
    if rank:
        metric(["B-Y"], "b")
    assert metric.get_metric(reset=True) == 4
    assert metric.get_metric(reset=True) == 0


def test_two_workers():
    run_in_two_processes(check_worker)
