"""HTML page of `ldnet-report --errors`: one file without scripts, for light and dark screens."""

from collections.abc import Iterable, Sequence
from html import escape

from ldnet_allennlp.commands.report.errors import ErrorReport, Mistake, Span

MAX_MISTAKES = 100
_CONTEXT = 12  # words on each side of a mistake
_STYLE = """
:root { color-scheme: light dark; --text: #1b1b1b; --page: #fff; --line: #d8d8d8; --gold: #cfe6f7; --wrong: #fbdcb8;
  --bar: #0072b2; --faint: #6b6b6b; }
@media (prefers-color-scheme: dark) { :root { --text: #e6e6e6; --page: #16181b; --line: #3a3d42; --gold: #17435f;
  --wrong: #6b3f0c; --bar: #56b4e9; --faint: #9a9a9a; } }
body { color: var(--text); background: var(--page); font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto;
  max-width: 64rem; padding: 0 1rem; }
table { border-collapse: collapse; display: block; margin: 1rem 0; overflow-x: auto; }
th, td { border-bottom: 1px solid var(--line); padding: .25rem .75rem; text-align: right; }
th:first-child, td:first-child, .text { text-align: left; }
td.same { font-weight: 600; }
.bar { background: var(--line); display: inline-block; height: .75rem; position: relative; width: 12rem; }
.bar i { background: var(--bar); display: block; height: 100%; }
.bar b { background: var(--text); height: 1.1rem; position: absolute; top: -.18rem; width: 2px; }
mark { border-radius: .2rem; color: inherit; padding: .05rem .25rem; }
mark.gold { background: var(--gold); } mark.wrong { background: var(--wrong); }
mark small, .faint { color: var(--faint); }
"""


def error_page(title: str, source: str, report: ErrorReport) -> str:
    """The HTML of an error report; `title` names the model and `source` the data."""
    total = report.scores[""]
    sections = [
        f"<h1>Errors of {escape(title)}</h1>",
        f"<p>{report.num_sentences:,} sentences of {escape(source)}: {total.gold:,} gold spans, {total.predicted:,} "
        f"predicted, {total.correct:,} correct (F1 {100 * total.f1:.2f}).</p>",
        _score_table(report),
        _kind_table(report),
        _confusion_table(report),
        _boundary_table(report),
        _calibration_table(report),
        _mistake_table(report.mistakes),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>Errors of {escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(section for section in sections if section)
        + "\n</body>\n</html>\n"
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table. Cells are HTML; a cell that begins with "<th" or "<td" is used as is."""
    lines = [
        "<table>",
        "<tr>" + "".join(cell if cell.startswith("<th") else f"<th>{cell}</th>" for cell in head) + "</tr>",
    ]
    for row in rows:
        cells = (cell if cell.startswith("<td") else f"<td>{cell}</td>" for cell in row)
        lines.append("<tr>" + "".join(cells) + "</tr>")
    return "\n".join([*lines, "</table>"])


def _score_table(report: ErrorReport) -> str:
    rows = [
        [
            escape(name) or "all",
            *(f"{100 * value:.2f}" for value in (scores.precision, scores.recall, scores.f1)),
            f"{scores.gold:,}",
            f"{scores.predicted:,}",
        ]
        for name, scores in sorted(report.scores.items(), key=lambda item: (not item[0], item[0]))
    ]
    return "<h2>Scores by type</h2>\n" + _table(
        ["type", "precision", "recall", "F1", "gold spans", "predicted"], rows
    )


def _kind_table(report: ErrorReport) -> str:
    return "<h2>Kinds of mistakes</h2>\n" + _table(
        ["kind", "count"], ([kind, f"{count:,}"] for kind, count in report.kinds().items())
    )


def _confusion_table(report: ErrorReport) -> str:
    names = [name for name in report.scores if name]
    rows = []
    for gold in [*names, ""]:
        cells = []
        for predicted in [*names, ""]:
            count = report.confusion[gold, predicted]
            text = f"{count:,}" if count else '<span class="faint">0</span>'
            cells.append(f'<td class="same">{text}</td>' if gold == predicted and gold else text)
        rows.append([escape(gold) or "spurious", *cells[:-1], cells[-1] if gold else ""])
    return (
        "<h2>Confusion of types</h2>\n<p>Rows: gold type; columns: predicted type of the span at the same place, or "
        "of the one that overlaps.</p>\n" + _table(["", *map(escape, names), "missed"], rows)
    )


def _boundary_table(report: ErrorReport) -> str:
    if not report.boundaries:
        return ""
    rows = ([name, f"{count:,}"] for name, count in report.boundaries.most_common())
    note = "<p>The predicted span, compared with the gold one of the same type.</p>"
    return f"<h2>Boundary errors</h2>\n{note}\n" + _table(["difference", "count"], rows)


def _calibration_table(report: ErrorReport) -> str:
    if report.calibration_error is None:
        return ""
    rows = [
        [
            f"{part.low:.1f} to {part.high:.1f}",
            f"{part.num_spans:,}",
            f"{part.mean_confidence:.3f}",
            f"{part.precision:.3f}",
            f'<td class="text"><span class="bar"><i style="width:{100 * part.precision:.1f}%"></i>'
            f'<b style="left:{100 * part.mean_confidence:.1f}%"></b></span></td>',
        ]
        for part in report.calibration
    ]
    return (
        f"<h2>Calibration</h2>\n<p>Of spans with a confidence of 0.9, nine in ten should be correct. Bar: the share "
        f"that is; line: the mean confidence. Expected calibration error: {report.calibration_error:.3f}.</p>\n"
        + _table(["confidence", "spans", "mean", "correct", ""], rows)
    )


def _mistake_table(mistakes: Sequence[Mistake]) -> str:
    rows = [
        [
            f"{mistake.confidence:.3f}" if mistake.confidence >= 0 else "-",
            f'<td class="text">{mistake.kind}</td>',
            f'<td class="text">{_in_context(mistake)}</td>',
        ]
        for mistake in mistakes[:MAX_MISTAKES]
    ]
    if not rows:
        return ""
    shown = f"{len(rows)} of {len(mistakes):,} mistakes" if len(mistakes) > len(rows) else "All mistakes"
    head = ["confidence", '<th class="text">kind</th>', '<th class="text">sentence</th>']
    return (
        f'<h2>Most confident mistakes</h2>\n<p>{shown}, with <mark class="wrong">predicted</mark> and '
        f'<mark class="gold">gold</mark> spans.</p>\n' + _table(head, rows)
    )


def _in_context(mistake: Mistake) -> str:
    spans = [span for span in (mistake.predicted, mistake.gold) if span is not None]
    first = max(0, min(span.start for span in spans) - _CONTEXT)
    last = min(len(mistake.words), max(span.end for span in spans) + 1 + _CONTEXT)
    lines = []
    for span, css in ((mistake.predicted, "wrong"), (mistake.gold, "gold")):
        if span is not None:
            lines.append(_marked(mistake.words, span, css, first, last))
    return "<br>".join(lines)


def _marked(words: list[str], span: Span, css: str, first: int, last: int) -> str:
    before, inside, after = (
        escape(" ".join(words[start:end]))
        for start, end in ((first, span.start), (span.start, span.end + 1), (span.end + 1, last))
    )
    start = "\u2026 " if first else ""
    end = " \u2026" if last < len(words) else ""
    return (
        f'{start}{before} <mark class="{css}">{inside} <small>{escape(span.type)}</small></mark> {after}{end}'
    )
