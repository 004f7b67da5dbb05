"""
Self-contained HTML page with marked entities: no scripts, fonts or images.

The colors are the color-blind safe palette of Okabe and Ito, for light and dark mode. Each entity also shows its type,
and from the ninth type on a different underline.
"""

import html
import re
from collections.abc import Mapping, Sequence
from typing import Any

_HUES = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7", "#999999")
_LINES = ("solid", "dashed", "dotted", "double")

_STYLE = """
:root { color-scheme: light dark; --ink: #1a1a1a; --paper: #ffffff; --soft: #6b6b6b; --tint: 28%; }
@media (prefers-color-scheme: dark) { :root { --ink: #ececec; --paper: #161616; --soft: #a0a0a0; --tint: 42%; } }
body { margin: 2rem auto; max-width: 46rem; padding: 0 1rem; color: var(--ink); background: var(--paper);
       font: 1rem/1.9 system-ui, sans-serif; }
h1 { font-size: 1.2rem; } h2 { font-size: 1rem; margin: 2rem 0 -.4rem; overflow-wrap: anywhere; }
ul { padding: 0; display: flex; flex-wrap: wrap; gap: .5rem; list-style: none; }
p { white-space: pre-wrap; overflow-wrap: anywhere; padding-top: .8rem; border-top: 1px solid var(--soft); }
mark { color: inherit; padding: .1em .3em; border-radius: .3em; border-bottom: 3px solid var(--hue);
       background: color-mix(in srgb, var(--hue) var(--tint), transparent); box-decoration-break: clone; }
mark small { font-size: .7em; font-weight: 600; margin-left: .4em; color: var(--ink); }
"""


def page_start(title: str, span_types: Sequence[str]) -> str:
    """The head and legend of the page."""
    style = "\n".join(
        f".t{number} {{ --hue: {_HUES[number % len(_HUES)]}; border-bottom-style: "
        f"{_LINES[number // len(_HUES) % len(_LINES)]}; }}"
        for number in range(len(span_types) + 1)
    )
    entries = "".join(
        f'<li><mark class="t{number}">{_escape(kind) or "span"}</mark></li>'
        for number, kind in enumerate(span_types)
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>{_escape(title)}</title>\n<style>{_STYLE}{style}\n</style>\n</head>\n<body>\n"
        f'<h1>{_escape(title)}</h1>\n<ul aria-label="Types">{entries}</ul>\n'
    )


def page_heading(name: str) -> str:
    """The name of a file, above its texts."""
    return f"<h2>{_escape(name)}</h2>\n"


def page_text(text: str, spans: Sequence[Mapping[str, Any]], span_types: Sequence[str]) -> str:
    """One text with marked entities; hovering shows the confidence."""
    numbers = {kind: number for number, kind in enumerate(span_types)}
    parts, position = [], 0
    for span in spans:
        parts.append(_escape(text[position : span["start_char"]]))
        confidence = span.get("confidence")
        title = "" if confidence is None else f' title="confidence {confidence:.3f}"'
        number = numbers.get(span["type"], len(span_types))
        parts.append(
            f'<mark class="t{number}"{title}>{_escape(text[span["start_char"] : span["end_char"]])}'
            f"<small>{_escape(span['type']) or 'span'}</small></mark>"
        )
        position = span["end_char"]
    parts.append(_escape(text[position:]))
    return f'<p dir="auto">{"".join(parts)}</p>\n'


def page_end() -> str:
    """The end of the page."""
    return "</body>\n</html>\n"


def _escape(text: str) -> str:
    # Control characters are not allowed in HTML.
    text = re.sub("\r\n|[\r\f\v]", "\n", text)
    cleaned = "".join(c if c >= " " or c in "\n\t" else "\ufffd" for c in text)
    return html.escape(cleaned.encode("utf-8", "replace").decode("utf-8"))
