import pytest

from ldnet_allennlp.commands.report.table import kept_layers, short_names, shortened, table
from tests.commands.reports import make_report


def cells(lines, label):
    """The cells of the line that begins with a label."""
    return next(line for line in lines if line.strip().startswith(label)).strip()[len(label) :].split()


def test_the_columns_are_aligned():
    lines = table([make_report(), make_report(model="AdaptiveLanguageModel")], ["a", "a_longer_name"])
    head = lines[: lines.index("")]
    assert len({len(line) for line in head}) == 1  # right-aligned to the same edge
    ends = [len(line) - len(line.split()[-1]) for line in head]
    assert min(ends) > head[0].index("a ") > 0


def test_the_cells():
    first = make_report()
    second = make_report(
        components={"BiLSTM": 2e6, "tag projection": 300},
        layers={},
        words_per_second=None,
        not_measured="a reason",
        archive_bytes=None,
        not_counted=["x (Conv1d): why"],
    )
    lines = table([first, second], ["one", "two"])
    assert cells(lines, "layers, forward") == ["2", "of", "4", "-"]
    assert cells(lines, "LM forward") == ["0.50", "M", "-"]
    assert cells(lines, "BiLSTM") == ["0.12", "M", "2.00", "M"]
    assert cells(lines, "tag projection") == ["-", "0.3", "k"]
    assert cells(lines, "archive") == ["3.0", "MiB", "-"]
    assert cells(lines, "words/second") == ["12,346", "-"]
    assert "  one  forward   1: 0.7  2: 0  3: 1  4: -" in lines
    assert "  one  backward  none" in lines
    assert lines[lines.index("Not counted:") + 1] == "  two  x (Conv1d): why"
    assert lines[lines.index("Not measured:") + 1] == "  two  a reason"


def test_sections_without_content_are_left_out():
    lines = table([make_report(layers={})], ["one"])
    assert "" not in lines


def test_layers_without_gates():
    layers = {
        "forward": {"layers": [1, 2], "gates": [None, None], "unpruned": 2, "dense": True, "output": "x"}
    }
    lines = table([make_report(layers=layers)], ["lm"])
    assert cells(lines, "layers, forward") == ["2", "of", "2"] and "  lm  forward  1  2" in lines
    assert kept_layers(layers["forward"]) == [1, 2]


@pytest.mark.parametrize(
    "paths, names",
    [
        (["out/ner/model.tar.gz", "out/pruned.tar.gz", "out/lm"], ["ner", "pruned", "lm"]),
        (["a/ner/model.tar.gz", "b/ner/model.tar.gz"], ["a/ner/model.tar.gz", "b/ner/model.tar.gz"]),
        (["out/ner/"], ["ner"]),
    ],
)
def test_short_names(paths, names):
    assert short_names(paths) == names


@pytest.mark.parametrize(
    "number, text", [(0, "0"), (99_949, "99.9 k"), (100_000, "0.10 M"), (12_345_678, "12.35 M")]
)
def test_shortened(number, text):
    assert shortened(number) == text
