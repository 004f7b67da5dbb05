import random

import pytest
import torch
from allennlp.common.checks import ConfigurationError
from allennlp.data import Vocabulary
from allennlp.data.dataset_readers.dataset_utils.span_utils import InvalidTagSequence
from allennlp.training.metrics import Metric, SpanBasedF1Measure
from seqeval.metrics import classification_report, f1_score, precision_score, recall_score
from seqeval.scheme import BILOU

from ldnet_allennlp.training.metrics.span_f1 import SpanF1
from ldnet_runtime.tag_schemes import tags_from_spans
from tests.conlleval import conlleval
from tests.processes import run_in_two_processes

TYPES = ["PER", "LOC", "creative-work"]
LETTERS = {"BIO": "BI", "IOB1": "BI", "BIOUL": "BIUL", "BMES": "BMES"}


def vocabulary(encoding):
    vocab = Vocabulary()
    tags = ["O"] + [f"{letter}-{kind}" for kind in TYPES for letter in LETTERS[encoding]]
    vocab.add_tokens_to_namespace(tags, "labels")
    return vocab


def random_tags(generator, length, encoding):
    """A well-formed sequence. BMES has no "O" in AllenNLP, so there the spans leave no room."""
    spans, position = [], 0
    while position < length:
        end = min(length - 1, position + generator.randrange(3))
        if encoding == "BMES" or generator.random() < 0.5:
            spans.append((generator.choice(TYPES), position, end))
        position = end + 1
    return tags_from_spans(spans, length, encoding)


def random_corpus(encoding, seed=0, sentences=40):
    """Gold tags, and predictions that agree with them for a part."""
    generator = random.Random(seed)
    gold = [random_tags(generator, generator.randrange(1, 12), encoding) for _ in range(sentences)]
    predicted = [
        tags if generator.random() < 0.4 else random_tags(generator, len(tags), encoding) for tags in gold
    ]
    return predicted, gold


def to_ids(vocab, sentences):
    return [[vocab.get_token_index(tag, "labels") for tag in tags] for tags in sentences]


def padded(rows):
    return torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True)


def fill(metric, vocab, predicted, gold, batch_size=7):
    for start in range(0, len(gold), batch_size):
        part = slice(start, start + batch_size)
        metric.add_tags(to_ids(vocab, predicted[part]), padded(to_ids(vocab, gold[part])))


@pytest.mark.parametrize("encoding", list(LETTERS))
def test_equals_allennlps_measure(encoding):
    vocab = vocabulary(encoding)
    predicted, gold = random_corpus(encoding)
    ours = SpanF1(vocab, "labels", label_encoding=encoding)
    fill(ours, vocab, predicted, gold)
    theirs = SpanBasedF1Measure(vocab, "labels", label_encoding=encoding)
    mask = padded([[1] * len(tags) for tags in gold]).bool()
    scores = torch.nn.functional.one_hot(padded(to_ids(vocab, predicted)), vocab.get_vocab_size("labels"))
    theirs(scores.float(), padded(to_ids(vocab, gold)), mask)
    found = {name: value for name, value in ours.get_metric().items() if not name.endswith("-macro")}
    assert found == pytest.approx(theirs.get_metric(), abs=1e-9)
    assert 0.2 < ours.get_metric()["f1-measure-overall"] < 0.9


@pytest.mark.parametrize("encoding", ["BIO", "BIOUL"])
def test_equals_seqeval(encoding):
    vocab = vocabulary(encoding)
    predicted, gold = random_corpus(encoding, seed=1)
    metric = SpanF1(vocab, "labels", label_encoding=encoding)
    fill(metric, vocab, predicted, gold)
    options = {} if encoding == "BIO" else {"mode": "strict", "scheme": BILOU}
    found = metric.get_metric()
    for name, function in (
        ("precision", precision_score),
        ("recall", recall_score),
        ("f1-measure", f1_score),
    ):
        assert found[f"{name}-overall"] == pytest.approx(function(gold, predicted, **options), abs=1e-9)
    report = classification_report(gold, predicted, output_dict=True, **options)
    for name, kind in [("macro", "macro avg"), *((kind, kind) for kind in TYPES)]:
        assert found[f"precision-{name}"] == pytest.approx(report[kind]["precision"], abs=1e-9)
        assert found[f"recall-{name}"] == pytest.approx(report[kind]["recall"], abs=1e-9)
        assert found[f"f1-measure-{name}"] == pytest.approx(report[kind]["f1-score"], abs=1e-9)


def ill_formed_corpus(encoding, seed, sentences=60):
    """Any tags in any order; predictions that agree for a part."""
    generator = random.Random(seed)
    tags = ["O", "O"] + [f"{letter}-{kind}" for kind in TYPES[:2] for letter in LETTERS[encoding]]
    gold = [[generator.choice(tags) for _ in range(generator.randrange(1, 9))] for _ in range(sentences)]
    predicted = [[tag if generator.random() < 0.8 else generator.choice(tags) for tag in row] for row in gold]
    return predicted, gold


@pytest.mark.parametrize("encoding", ["BIO", "IOB1", "BIOUL"])
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("corpus", [random_corpus, ill_formed_corpus], ids=["well-formed", "ill-formed"])
def test_equals_conlleval(encoding, seed, corpus):
    vocab = vocabulary(encoding)
    predicted, gold = corpus(encoding, seed=seed)
    metric = SpanF1(vocab, "labels", label_encoding=encoding)
    fill(metric, vocab, predicted, gold)
    found, expected = metric.get_metric(), conlleval(zip(gold, predicted))
    for name, values in [("overall", expected.overall), *expected.types.items()]:
        assert [found[f"{key}-{name}"] for key in ("precision", "recall", "f1-measure")] == pytest.approx(
            values, abs=1e-9
        )
    means = [sum(column) / len(expected.types) for column in zip(*expected.types.values())]
    assert [found[f"{key}-macro"] for key in ("precision", "recall", "f1-measure")] == pytest.approx(means)
    assert {name.split("-", 2)[-1] for name in found if "f1" in name} == {"overall", "macro", *expected.types}
    assert 0.1 < found["f1-measure-overall"] < 0.9
    # seqeval reads ill-formed sequences as conlleval does, too; its letters are those of IOBES.
    spelt = [[[_as_iobes(tag, encoding) for tag in tags] for tags in rows] for rows in (gold, predicted)]
    assert found["f1-measure-overall"] == pytest.approx(f1_score(*spelt), abs=1e-9)


def _as_iobes(tag, encoding):
    return tag.translate({ord("L"): "E", ord("U"): "S"}) if encoding == "BIOUL" and tag[1:2] == "-" else tag


@pytest.mark.parametrize("encoding", ["BIO", "BIOUL"])
def test_where_allennlps_measure_differs(encoding):
    """It reads ill-formed BIO as conlleval does, and does not read ill-formed BIOUL."""
    vocab = vocabulary(encoding)
    predicted, gold = ill_formed_corpus(encoding, seed=9)
    theirs = SpanBasedF1Measure(vocab, "labels", label_encoding=encoding)
    mask = padded([[1] * len(tags) for tags in gold]).bool()
    scores = torch.nn.functional.one_hot(padded(to_ids(vocab, predicted)), vocab.get_vocab_size("labels"))
    inputs = scores.float(), padded(to_ids(vocab, gold)), mask
    if encoding == "BIOUL":
        with pytest.raises(InvalidTagSequence):
            theirs(*inputs)
        return
    theirs(*inputs)
    expected = conlleval(zip(gold, predicted)).overall
    assert theirs.get_metric()["f1-measure-overall"] == pytest.approx(expected[2], abs=1e-9)


def test_true_tags_that_the_vocabulary_does_not_have():
    """They count as spans that were not found; the scores are those of a vocabulary that has them."""
    predicted, gold = random_corpus("BIO", seed=4)
    predicted = [["O" if tag.endswith("LOC") else tag for tag in tags] for tags in predicted]
    expected = SpanF1(vocabulary("BIO"), "labels", label_encoding="BIO")
    fill(expected, vocabulary("BIO"), predicted, gold)
    vocab = Vocabulary()
    vocab.add_tokens_to_namespace({tag for tags in predicted for tag in tags}, "labels")
    known = vocab.get_token_to_index_vocabulary("labels")
    assert "B-LOC" not in known
    ids = padded([[known.get(tag, -1) for tag in tags] for tags in gold])
    metric = SpanF1(vocab, "labels", label_encoding="BIO")
    metric.add_tags(to_ids(vocab, predicted), ids, gold)
    assert metric.get_metric() == pytest.approx(expected.get_metric())
    assert metric.get_metric()["recall-LOC"] == 0.0
    with pytest.raises(ValueError, match=r'Found the tag id -1.*"gold_tags"'):
        metric.add_tags(to_ids(vocab, predicted), ids)


def test_ill_formed_sequences_are_read_as_by_conlleval():
    vocab = vocabulary("BIO")
    metric = SpanF1(vocab, "labels", label_encoding="BIO")
    fill(metric, vocab, [["O", "I-PER", "I-LOC"]], [["O", "B-PER", "B-LOC"]])
    assert metric.get_metric()["f1-measure-overall"] == pytest.approx(1.0)


def test_padding_and_empty_predictions_do_not_count():
    vocab = vocabulary("BIO")
    metric = SpanF1(vocab, "labels", label_encoding="BIO")
    person = vocab.get_token_index("B-PER", "labels")
    metric.add_tags([[person], []], torch.tensor([[person, person], [person, person]]))
    found = metric.get_metric(reset=True)
    assert found["precision-overall"] == found["recall-overall"] == pytest.approx(1.0)
    assert metric.get_metric()["f1-measure-overall"] == 0.0  # it was reset


def test_ignored_classes():
    vocab = vocabulary("BIO")
    predicted, gold = random_corpus("BIO", seed=2)
    metric = SpanF1(vocab, "labels", ignore_classes=["LOC"], label_encoding="BIO")
    fill(metric, vocab, predicted, gold)
    without = [
        [["O" if tag.endswith("LOC") else tag for tag in tags] for tags in sentences]
        for sentences in (predicted, gold)
    ]
    assert metric.get_metric()["f1-measure-overall"] == pytest.approx(f1_score(*without[::-1]), abs=1e-9)
    assert "f1-measure-LOC" not in metric.get_metric()


def test_another_function_for_the_spans():
    def every_tag(tags, ignored):
        return [(tag, (position, position)) for position, tag in enumerate(tags) if tag not in ignored]

    vocab = vocabulary("BIO")
    metric = SpanF1(
        vocab, "labels", ignore_classes=["O"], label_encoding=None, tags_to_spans_function=every_tag
    )
    fill(metric, vocab, [["B-PER", "I-PER", "O"]], [["B-PER", "B-PER", "O"]])
    found = metric.get_metric()
    assert (found["precision-overall"], found["recall-B-PER"]) == (pytest.approx(0.5), pytest.approx(0.5))


def test_unknown_encoding():
    with pytest.raises(ConfigurationError, match="Unknown label encoding"):
        SpanF1(vocabulary("BIO"), "labels", label_encoding="XYZ")


def test_is_registered():
    assert Metric.by_name("span_f1_of_tags") is SpanF1


def check_worker(rank, world_size, expected):
    """Each worker sees every second sentence; the second one sees types that the first does not."""
    vocab = vocabulary("BIO")
    predicted, gold = random_corpus("BIO", seed=3)
    metric = SpanF1(vocab, "labels", label_encoding="BIO")
    fill(metric, vocab, predicted[rank::world_size], gold[rank::world_size])
    if rank == 1:
        fill(metric, vocab, [["B-creative-work", "O"]], [["B-creative-work", "O"]])
    found = metric.get_metric(reset=True)
    assert found == pytest.approx(expected, abs=1e-12)
    nothing = metric.get_metric()
    assert set(nothing.values()) == {0.0} and len(nothing) == 6


def test_two_workers_equal_one():
    vocab = vocabulary("BIO")
    metric = SpanF1(vocab, "labels", label_encoding="BIO")
    predicted, gold = random_corpus("BIO", seed=3)
    fill(metric, vocab, predicted, gold)
    fill(metric, vocab, [["B-creative-work", "O"]], [["B-creative-work", "O"]])
    run_in_two_processes(check_worker, metric.get_metric())


def test_types_named_as_the_averages_keep_their_scores():
    vocab = Vocabulary()
    vocab.add_tokens_to_namespace(["O", "B-overall", "B-macro", "B-PER"], "labels")
    metric = SpanF1(vocab, "labels", label_encoding="BIO")
    metric.add_tags([[1, 2, 3], [1, 0, 0]], torch.tensor([[1, 3, 3], [1, 1, 0]]))
    found = metric.get_metric()
    assert found["recall-type:overall"] == 2 / 3 and found["precision-type:overall"] == 1.0
    assert found["f1-measure-type:macro"] == 0.0 and found["recall-PER"] == 1 / 2
    assert found["precision-overall"] == 3 / 4 and found["recall-overall"] == 3 / 5
    assert found["recall-macro"] == (2 / 3 + 0.0 + 1 / 2) / 3


def test_scores_have_full_digits():
    vocab = vocabulary("BIO")
    metric = SpanF1(vocab, "labels", label_encoding="BIO")
    fill(metric, vocab, [["B-PER", "O", "B-LOC"]], [["B-PER", "O", "B-LOC"]])
    assert set(metric.get_metric().values()) == {1.0}


def test_sentences_with_partial_labels_are_left_out():
    metric = SpanF1(vocabulary("BIO"), "labels", label_encoding="BIO")
    metric.add_tags([[1, 0], [1, 0]], torch.tensor([[1, -2], [1, 0]]))
    assert sum(metric._true_positives.values()) == 1 and metric.get_metric()["recall-overall"] == 1.0


def test_the_table_has_seqevals_numbers():
    vocab = vocabulary("BIO")
    predicted, gold = random_corpus("BIO", seed=2)
    metric = SpanF1(vocab, "labels", label_encoding="BIO")
    fill(metric, vocab, predicted, gold)
    header, *rows = metric.table(metric.get_metric())
    assert header.split() == ["type", "precision", "recall", "F1", "support"]
    report = classification_report(gold, predicted, output_dict=True)
    names = {**{kind: kind for kind in TYPES}, "micro average": "micro avg", "macro average": "macro avg"}
    assert {row[:13].strip() for row in rows} == set(names)
    for row in rows:
        values = report[names[row[:13].strip()]]
        expected = [f"{100 * values[key]:.2f}" for key in ("precision", "recall", "f1-score")]
        assert row[13:].split() == [*expected, str(int(values["support"]))]
