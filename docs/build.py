"""
Writes the API reference into a folder, with pdoc: see build.sh.

    python docs/build.py FOLDER
"""

import re
import sys
from pathlib import Path
from typing import Any

import pdoc.render
from jinja2 import pass_context
from pdoc.render_helpers import to_markdown_with_context

# `name : type`, or the type alone, as AllenNLP writes parameters and results: what it is stands under it, indented.
ENTRY = re.compile(r"(\w+|\*+\w+)(, \w+)* : \S|`[^`]+`(, optional.*)?$|(\w+)(, \w+)*$")


def with_lists(docstring: str) -> str:
    """
    A docstring whose `# Parameters`, `# Returns` and `# Raises` are lists. To Markdown their entries are one paragraph,
    and their headings those of a chapter.
    """
    lines, in_section = docstring.splitlines(), False
    for number, line in enumerate(lines):
        following = lines[number + 1] if number + 1 < len(lines) else ""
        if re.fullmatch("# (Parameters|Returns|Raises)", line):
            lines[number], in_section = f"**{line[2:]}**", True
        elif in_section and ENTRY.match(line) and (following.startswith("    ") or " : " in line):
            lines[number] = f"- {line}"
    return "\n".join(lines)


@pass_context
def to_markdown(context: Any, docstring: str) -> str:
    """pdoc's own filter, after ours."""
    return to_markdown_with_context(context, with_lists(docstring))


if __name__ == "__main__":
    pdoc.render.env.filters["to_markdown"] = to_markdown
    pdoc.render.configure(docformat="markdown")
    pdoc.pdoc("ldnet_allennlp", output_directory=Path(sys.argv[1]))
