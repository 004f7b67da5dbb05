import itertools
import json
import os
import re
import sys
import xml.etree.ElementTree as ElementTree

import pytest
from allennlp.common.checks import ConfigurationError

from ldnet_allennlp.commands.report.plot import check_plot, draw_report, save_plot
from tests.commands.reports import make_report, make_stack

pytest.importorskip("matplotlib")


@pytest.fixture
def logged(tmp_path):
    """A report whose archive has a log of gates beside it."""
    with open(str(tmp_path / "gates.jsonl"), "w") as log:
        for epoch in range(40):
            gates = {
                f"x.{name}_lm.selection": [[max(0.0, 1 - epoch * number / 60) for number in range(10)]]
                for name in ("forward", "backward")
            }
            log.write(json.dumps({"epoch": epoch, "gates": gates}) + "\n")
    return make_report(archive=str(tmp_path / "model.tar.gz"))


def large_reports():
    """As many parts and layers as can be expected, and long names."""
    gates = [0.33, 0.5, 1.0, 0.25, 0.0, 0.125, 1.0, 0.0, 0.75, 0.9]
    layers = {
        "forward": make_stack(range(1, 11), 10, gates),
        "backward": make_stack([4, 10], 10, [1.0, 0.55]),
    }
    parts = {f"embedder number {number}": 1e5 * number for number in range(12)}
    other = {
        "forward": make_stack(range(1, 25), 24, [0.01 * n for n in range(24)]),
        "backward": make_stack([1], 1),
    }
    return [
        make_report(
            layers=layers, components={**parts, "LM forward": 1e6}, multiply_adds=sum(parts.values()) + 1e6
        ),
        make_report(layers=other, not_counted=["x"], components={}, multiply_adds=0.0),
        make_report(layers={}),
    ]


def texts_of(path):
    """The texts of a picture in SVG."""
    root = ElementTree.parse(str(path)).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    return ["".join(node.itertext()).strip() for node in root.iter("{http://www.w3.org/2000/svg}text")]


def test_the_labels_are_in_the_svg(logged, tmp_path):
    path = tmp_path / "new" / "report.svg"
    save_plot(str(path), draw_report, [make_report(), logged], ["first", "second"])
    texts = texts_of(path)
    for label in ("Cost by component", "LM forward", "BiLSTM", "0.62 M", "million multiply-adds per word"):
        assert label in texts
    assert texts.count("first") == 2 and texts.count("second") == 3  # costs and layers; and gates
    joined = " ".join(texts)
    for label in (
        "Connections of the layers",
        "word",
        "projection",
        "0.70",
        "Gates over training",
        "forward 10",
    ):
        assert label in joined
    assert os.listdir(str(tmp_path / "new")) == ["report.svg"]


def test_a_png_is_a_picture(tmp_path):
    from matplotlib import image

    path = tmp_path / "report.png"
    save_plot(str(path), draw_report, [make_report()], ["only"])
    with open(str(path), "rb") as file:
        assert file.read(8) == b"\x89PNG\r\n\x1a\n"
    pixels = image.imread(str(path))
    assert pixels.shape[0] > 300 and pixels.shape[1] > 1000 and len(set(map(tuple, pixels[:, 200]))) > 5


@pytest.fixture
def drawn_texts(monkeypatch):
    """Draws a figure and gives every text that is drawn, with its place in pixels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text

    drawn = []
    draw_text = Text.draw

    def note(text, renderer):
        drawn.append(text)
        draw_text(text, renderer)

    def draw_all(figure):
        canvas = FigureCanvasAgg(figure)
        canvas.draw()  # lays out
        monkeypatch.setattr(Text, "draw", note)
        canvas.draw()
        shown = [text for text in drawn if text.get_visible() and text.get_text()]
        return [(text.get_text(), text.get_window_extent(canvas.get_renderer())) for text in shown]

    return draw_all


@pytest.mark.parametrize("large", [False, True])
def test_no_two_texts_overlap_and_all_are_within_the_picture(logged, drawn_texts, large):
    if large:
        reports = [*large_reports(), logged]
        names = ["short", "out/a/very/long/path/to/an/archive/" * 3 + "model.tar.gz", "vanilla", "logged"]
    else:
        reports, names = [make_report(), logged, make_report()], ["ner", "ner_select", "pruned"]
    figure = draw_report(reports, names)
    texts = drawn_texts(figure)
    assert len(texts) > 30 and len(texts) == len({(text, box.x0, box.y0) for text, box in texts})
    for text, box in texts:
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1, text
        assert figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1, text
    for (first, one), (second, other) in itertools.combinations(texts, 2):
        assert not one.shrunk(0.98, 0.9).overlaps(other.shrunk(0.98, 0.9)), (first, second)


def arcs(figure):
    """The ends of all arcs, by the height of their line."""
    from matplotlib.patches import Arc

    return {
        (arc.center[1], arc.center[0] - arc.width / 2, arc.center[0] + arc.width / 2)
        for arc in figure.findobj(Arc)
    }


def test_the_arcs_are_who_reads_whom():
    """0 is the word vector; the last is what reads the layers. Layer 2 has a gate of 0, layer 4 was cut."""
    figure = draw_report([make_report()], ["ner"])
    forward, backward = 0.0, -1.75
    among = {(forward, first, second) for first, second in itertools.combinations([0, 1, 3, 5], 2)}
    assert arcs(figure) == among | {(backward, 0, 1)}


def test_a_plain_stack_reads_the_layer_below():
    stack = {"forward": make_stack([1, 2], 2, dense=False)}
    assert arcs(draw_report([make_report(layers=stack)], ["lm"])) == {(0.0, n, n + 1) for n in range(3)}


def test_the_colors_are_okabe_and_itos(logged):
    from matplotlib.colors import to_hex
    from matplotlib.patches import Rectangle

    palette = ["#000000", "#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7"]
    figure = draw_report(large_reports(), ["a", "b", "c"])
    axes = next(
        axes for axes in figure.findobj(lambda part: hasattr(part, "get_legend")) if axes.get_legend()
    )
    bars = [part for part in axes.patches if isinstance(part, Rectangle) and part.get_width() > 0]
    styles = {(to_hex(bar.get_facecolor()), bar.get_hatch()) for bar in bars}
    assert {color for color, _ in styles} <= set(palette)
    assert (
        len(styles) == len({part for report in large_reports() for part in report["components"]}) - 1
    )  # one is 0


def test_other_endings_and_no_matplotlib(tmp_path, monkeypatch):
    for name in ("report.pdf", "report", "svg"):
        with pytest.raises(
            ConfigurationError, match=re.escape("expected to be a .png or a .svg file, but it is")
        ):
            check_plot(str(tmp_path / name))
    check_plot(str(tmp_path / "report.SVG"))
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(
        ConfigurationError, match=r"needs matplotlib, which is not installed.*: pip install matplotlib"
    ):
        save_plot(str(tmp_path / "report.svg"), draw_report, [make_report()], ["one"])
    assert os.listdir(str(tmp_path)) == []
