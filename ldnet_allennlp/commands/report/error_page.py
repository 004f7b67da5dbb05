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
        _scores(report),
        _section("Kinds of mistakes", "", ["kind", "count"], report.kinds().items()),
        _confusion(report),
        _section(
            "Boundary errors",
            "The predicted span, compared with the gold one of the same type.",
            ["difference", "count"],
            report.boundaries.most_common(),
        ),
        _calibration(report),
        _most_confident(report.mistakes),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>Errors of {escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(section for section in sections if section)
        + "\n</body>\n</html>\n"
    )


def _section(title: str, note: str, head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """
    A table under a title; nothing without rows. Cells are HTML, or integers; a cell that begins with "<th" or "<td" is
    used as is.
    """

    def cells(tag: str, row: Sequence[object]) -> str:
        texts = (f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row)
        return "".join(text if text.startswith(f"<{tag}") else f"<{tag}>{text}</{tag}>" for text in texts)

    lines = [f"<tr>{cells('td', row)}</tr>" for row in rows]
    if not lines:
        return ""
    table = ["<table>", f"<tr>{cells('th', head)}</tr>", *lines, "</table>"]
    return "\n".join([f"<h2>{title}</h2>", *([f"<p>{note}</p>"] if note else []), *table])


def _scores(report: ErrorReport) -> str:
    rows = []
    for name in sorted(report.scores):  # "", all types together, is the first
        scores = report.scores[name]
        percents = (f"{100 * value:.2f}" for value in (scores.precision, scores.recall, scores.f1))
        rows.append([escape(name) or "all", *percents, scores.gold, scores.predicted])
    head = ["type", "precision", "recall", "F1", "gold spans", "predicted"]
    return _section("Scores by type", "", head, rows)


def _confusion(report: ErrorReport) -> str:
    names = [name for name in report.scores if name]
    rows = []
    for gold in [*names, ""]:
        row = [escape(gold) or "spurious"]
        for predicted in [*names, ""] if gold else names:
            count = report.confusion[gold, predicted]
            text = f"{count:,}" if count else '<span class="faint">0</span>'
            row.append(f'<td class="same">{text}</td>' if gold == predicted else text)
        rows.append(row if gold else [*row, ""])
    note = (
        "Rows: gold type; columns: predicted type of the span at the same place, or of the one that overlaps."
    )
    return _section("Confusion of types", note, ["", *map(escape, names), "missed"], rows)


def _calibration(report: ErrorReport) -> str:
    rows = [
        [
            f"{part.low:.1f} to {part.high:.1f}",
            part.num_spans,
            f"{part.mean_confidence:.3f}",
            f"{part.precision:.3f}",
            f'<td class="text"><span class="bar"><i style="width:{100 * part.precision:.1f}%"></i>'
            f'<b style="left:{100 * part.mean_confidence:.1f}%"></b></span></td>',
        ]
        for part in report.calibration
    ]
    note = (
        f"Of spans with a confidence of 0.9, nine in ten should be correct. Bar: the share that is; line: the mean "
        f"confidence. Expected calibration error: {report.calibration_error or 0.0:.3f}."
    )
    return _section("Calibration", note, ["confidence", "spans", "mean", "correct", ""], rows)


def _most_confident(mistakes: Sequence[Mistake]) -> str:
    rows = [
        [
            f"{mistake.confidence:.3f}" if mistake.confidence >= 0 else "-",
            f'<td class="text">{mistake.kind}</td>',
            f'<td class="text">{_in_context(mistake)}</td>',
        ]
        for mistake in mistakes[:MAX_MISTAKES]
    ]
    shown = f"{len(rows)} of {len(mistakes):,} mistakes" if len(mistakes) > len(rows) else "All mistakes"
    note = f'{shown}, with <mark class="wrong">predicted</mark> and <mark class="gold">gold</mark> spans.'
    head = ["confidence", '<th class="text">kind</th>', '<th class="text">sentence</th>']
    return _section("Most confident mistakes", note, head, rows)


def _in_context(mistake: Mistake) -> str:
    marked = {"wrong": mistake.predicted, "gold": mistake.gold}
    spans = {css: span for css, span in marked.items() if span is not None}
    first = max(0, min(span.start for span in spans.values()) - _CONTEXT)
    last = min(len(mistake.words), max(span.end for span in spans.values()) + 1 + _CONTEXT)
    return "<br>".join(_marked(mistake.words, span, css, first, last) for css, span in spans.items())


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
