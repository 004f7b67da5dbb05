import html
import random
import re

import pytest

from ldnet_allennlp.predictors.tagger_outputs import column_lines, inline


def span(kind, start, end):
    return {"type": kind, "start": start, "end": end}


def read_back(line):
    """Words and spans, from the documented form alone."""
    words, spans, start = [], [], 0
    for part in line[:-1].split(" "):
        if part.startswith("</"):
            spans.append(span(html.unescape(part[2:-1]), start, len(words)))
        elif part.startswith("<"):
            start = len(words)
        else:
            words.append(html.unescape(part))
    return words, spans


def test_inline():
    line = inline(["Ada", "Lovelace", "in", "<London>", "."], [span("PER", 0, 2), span("LOC", 3, 4)])
    assert line == "<PER> Ada Lovelace </PER> in <LOC> &lt;London&gt; </LOC> .\n"
    assert inline([], []) == "\n"
    assert inline(["a\n\u2028b"], [span("", 0, 1)]) == "<span> a b </span>\n"


@pytest.mark.parametrize("seed", range(20))
def test_inline_can_be_read_back(seed):
    generator = random.Random(seed)
    words = [
        "".join(generator.choice("ab<>&/;lt") for _ in range(4)) for _ in range(generator.randrange(1, 12))
    ]
    spans, position = [], 0
    while position < len(words):
        end = min(len(words), position + generator.randrange(1, 4))
        if generator.random() < 0.5:
            spans.append(span(generator.choice(["PER", "creative-work", "A&B>"]), position, end))
        position = end
    line = inline(words, spans)
    assert read_back(line) == (words, spans)
    assert len(re.findall("<", line)) == 2 * len(spans)


def test_columns():
    assert column_lines(["a", "b"], ["O", "B-X"]) == "a O\nb B-X\n\n"
    assert column_lines(["a"], ["O"], [["1", "a b", ""]], "\t") == "1\ta b\t_\tO\n\n"
    assert column_lines(["New York", "", "a\nb\r", "\ud800"], ["O"] * 4) == "New_York O\n_ O\na_b_ O\n? O\n\n"
    assert column_lines([], []) == "\n"
