"""Griffe extension: turns AllenNLP-style sections of docstrings (`# Parameters`, `# Returns`) into Markdown lists."""

import re
from typing import Any

import griffe

# `name : type`, or a type alone, whose description is indented below it.
ENTRY = re.compile(r"(\w+|\*+\w+)(, \w+)* : \S|`[^`]+`(, optional.*)?$|(\w+)(, \w+)*$")


def with_lists(docstring: str) -> str:
    """Return `docstring` with bold section titles and one list item per parameter or result."""
    lines, in_section = docstring.splitlines(), False
    for number, line in enumerate(lines):
        following = lines[number + 1] if number + 1 < len(lines) else ""
        if re.fullmatch("# (Parameters|Returns|Raises)", line):
            lines[number], in_section = f"**{line[2:]}**\n", True
        elif in_section and ENTRY.match(line) and (following.startswith("    ") or " : " in line):
            lines[number] = f"- {line}"
    return "\n".join(lines)


class AllenNlpSections(griffe.Extension):
    """Rewrites each docstring before it is rendered."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Called by griffe for every module, class, function and attribute."""
        if obj.docstring:
            obj.docstring.value = with_lists(obj.docstring.value)
