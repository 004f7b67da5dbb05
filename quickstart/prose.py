"""Convert formatted text (pydoc's help topics) to tokenized sentences with spans from its markup.

The help topics are Sphinx's plain-text output: paragraphs between blank lines, code and tables indented or drawn, and
inline markup in three forms: `"code"`, `*emphasis*` and `**strong**`. Quotes in the text itself are curly, so straight
quotes are markup. Paragraphs with ambiguous marks are skipped.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple


class Span(NamedTuple):
    """A labeled range of characters or words, from `start` to `end` (exclusive)."""

    label: str
    start: int
    end: int


class Sentence(NamedTuple):
    """A sentence's words and its labeled ranges of words."""

    words: list[str]
    spans: list[Span]


_BULLET = re.compile(r"(?:[*-]|\(?\d+[.)]|\[\d+\]) +")
_SENTENCE_END = re.compile(r"""[.!?:;]["”’)*]*(?: \[\d+\]\.?)*$""")
# Grammar, doctests, tables, directives, field lists, underlines, and columns set apart by three blanks or more.
_NOT_PROSE = re.compile(
    r"::=|^ *(?:>>>|\.\.\.|Traceback|\(Pdb\)|[|+$%@:]|\.\. |-\[)|^ *([=*~^\"'#-])\1{2,} *$|\S {3,}\S", re.M
)
_ADMONITION = re.compile(
    r"(?:Note|See also|Warning|Caution|Important|Tip|Deprecated|CPython [\w ]+)[^:]{0,40}:$"
)


def paragraphs(text: str) -> list[str]:
    """
    The paragraphs of prose in `text`, each on one line. Headings, signatures, grammar, code and tables are left
    out: a paragraph must end like a sentence, and must not be an indented block after a line that ends in a colon.
    """
    found = []
    previous, previous_indent, code_indent = "", 0, None
    for indent, bullet, block in _blocks(text):
        if code_indent is not None and indent < code_indent:
            code_indent = None
        if code_indent is None and previous.endswith(":") and not _ADMONITION.match(previous):
            # After a colon, a block indented by three blanks or more is code, unless it is a list item.
            code_indent = indent if indent >= previous_indent + 3 and not bullet else None
        if code_indent is None and not _NOT_PROSE.search(block):
            line = _join(block)
            # `if x:` ends in a colon, too. A paragraph in lower case continues after code and is not a complete
            # sentence.
            if _SENTENCE_END.search(line) and (bullet or not line[0].islower()):
                found.append(line)
        previous, previous_indent = block.rstrip().rsplit("\n", 1)[-1].strip(), indent
    return found


def _blocks(text: str) -> Iterator[tuple[int, bool, str]]:
    """Blocks of lines: the indent, whether a list mark (removed) was in front, and the lines without that indent."""
    for chunk in re.split(r"\n[ \t]*(?:\n|$)", text.expandtabs()):
        lines: list[str] = []
        indent, listed = 0, False
        for raw in chunk.split("\n"):
            line = raw.strip()
            if not line:
                continue
            here = len(raw) - len(raw.lstrip())
            bullet = _BULLET.match(line)
            # A first line with the rest indented is a term and its definition (or a signature and its text).
            if lines and (bullet or here < indent or (here > indent and len(lines) == 1)):
                yield indent, listed, "\n".join(lines)
                lines = []
            if not lines:
                indent, listed = here, bool(bullet)
                if bullet:
                    line = line[bullet.end() :]
                    indent += bullet.end()
            lines.append(" " * max(0, here - indent) + line)
        if lines:
            yield indent, listed, "\n".join(lines)


def _join(block: str) -> str:
    """One line. Joins words that a line end splits at their hyphen (`non-` / `numeric`)."""
    line = " ".join(block.split("\n"))
    return " ".join(re.sub(r"(?<=[a-z])- +(?=[a-z])(?!and |or |to )", "-", line).split())


_CURLY = str.maketrans({"“": "", "”": "", "‘": "", "’": "'"})
_OPENS_AFTER = re.compile(r"(?:^|[\s(\[{/,—–…'-])$")
_CLOSES_BEFORE = re.compile(r"(?:$|[\s.,;:!?)\]}/—–…'-]|s\b)")
_MARKED = re.compile(r"\*\*(?P<strong>[^*\s](?:[^*]*[^*\s])?)\*\*|\*(?P<term>[^*\s](?:[^*]*[^*\s])?)\*")


def strip_marks(paragraph: str) -> tuple[str, list[Span]] | None:
    """
    The text without quotes and asterisks, and the spans that they marked: CODE, TERM (emphasis) and PEP (strong;
    other strong words are lead-ins and get no label). `None` if the marks are ambiguous.
    """
    paragraph = re.sub(r"‘([^‘’]*)’", r"\1", paragraph).translate(_CURLY)
    # Remove numbers of footnotes, and the full stop after one if another is before it.
    paragraph = re.sub(r"(?<=[.!?]) \[\d+\]\.?| \[\d+\]", "", paragraph).replace("``", '"')
    pieces = paragraph.split('"')
    if len(pieces) % 2 == 0 or "`" in paragraph:
        return None
    text = ""
    spans: list[Span] = []
    for number, piece in enumerate(pieces):
        if number % 2 == 1:  # in quotes
            if not piece or piece != piece.strip():
                return None
            spans.append(Span("CODE", len(text), len(text) + len(piece)))
            text += piece
            continue
        opens = number == len(pieces) - 1 or _OPENS_AFTER.search(piece)
        closes = number == 0 or _CLOSES_BEFORE.match(piece)
        if not (opens and closes) or "*" in _MARKED.sub("", piece):
            return None
        end = 0
        for match in _MARKED.finditer(piece):
            if not (
                _OPENS_AFTER.search(piece[: match.start()]) and _CLOSES_BEFORE.match(piece[match.end() :])
            ):
                return None
            text += piece[end : match.start()]
            content = match["strong"] or match["term"]
            if match["term"] or re.fullmatch(r"PEP \d+", content):
                spans.append(Span("TERM" if match["term"] else "PEP", len(text), len(text) + len(content)))
            text += content
            end = match.end()
        text += piece[end:]
    return text, spans


_TOKEN = re.compile(
    r"""https?://[^\s<>]*[^\s<>.,;:)]          # an address
      | (?:[^\W\d_]\.){2,}                     # e.g. i.e. U.S.
      | \w+(?=n't\b) | n't\b                   # does n't
      | (?<=\w)'(?:s|re|ve|ll|d|m)\b           # Python 's
      | (?<![\w-])--?[A-Za-z][\w-]*           # options of a command
      | \w+(?:[.-]\w+)*                        # words, numbers, dotted and hyphenated names
      | \.\.\. | \*\*=? | //=? | <<=? | >>=? | -> | := | [-+*/%&|^@<>=!]=
      | \S""",
    re.X,
)
_ABBREVIATIONS = {"vs", "cf", "etc", "al"}


def split_sentences(text: str) -> list[list[re.Match[str]]]:
    """
    The tokens of each sentence: words and punctuation, roughly as in the Penn Treebank; names with dots or
    underscores stay whole. A sentence ends with a full stop, question or exclamation mark between a word and a blank.
    """
    sentences: list[list[re.Match[str]]] = [[]]
    tokens = list(_TOKEN.finditer(text))
    for before, token, after in zip([None, *tokens], tokens, [*tokens[1:], None]):
        sentences[-1].append(token)
        if before is None or after is None or before.end() != token.start() or after.start() == token.end():
            continue
        ends = token[0] in {".", "!", "?"} or (token[0] == ")" and before[0] == ".")
        if ends and not (before[0] in _ABBREVIATIONS and after[0].islower()):
            sentences.append([])
    return [sentence for sentence in sentences if sentence]


def tagged_sentences(paragraph: str) -> list[Sentence]:
    """
    The sentences of one paragraph with their labels. Tokens never depend on the labels: the text is tokenized after
    the marks are removed, and sentences with a label that does not cover whole tokens are left out.
    """
    stripped = strip_marks(paragraph)
    if stripped is None:
        return []
    text, spans = stripped
    sentences = []
    for tokens in split_sentences(text):
        starts = {token.start(): i for i, token in enumerate(tokens)}
        ends = {token.end(): i + 1 for i, token in enumerate(tokens)}
        here = [span for span in spans if span.start < tokens[-1].end() and span.end > tokens[0].start()]
        if all(span.start in starts and span.end in ends for span in here):
            counted = [Span(span.label, starts[span.start], ends[span.end]) for span in here]
            sentences.append(Sentence([token[0] for token in tokens], counted))
    return sentences
