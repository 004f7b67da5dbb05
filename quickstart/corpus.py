"""Build a corpus from Python's own text: help topics, labeled by their markup, and docstrings.

    python -m quickstart.corpus FOLDER

writes `ner/{train,dev,test}.conll` (word TAB tag, BIO; types CODE, TERM, PEP) and `lm/{train,valid,test}.txt` (one
sentence per line). No sentence is in two of the tagger's files, and no sentence of its dev and test files is in the LM
files.
"""

import ast
import hashlib
import inspect
import sys
import sysconfig
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from pydoc_data.topics import topics

from quickstart.prose import Sentence, paragraphs, plain_sentences, tagged_sentences

SHARES = {"test": 0.15, "dev": 0.12}
LARGEST_HELD_OUT = 0.06  # a larger share of all words stays in train: dev and test need many topics
SHORTEST, LONGEST = 3, 80  # words a sentence
NOT_LIBRARY = {
    *(
        "test",
        "tests",
        "idle_test",
        "site-packages",
        "dist-packages",
        "turtledemo",
        "pydoc_data",
        "__pycache__",
    )
}


def _hash(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8")).hexdigest()


def _fits(words: list[str]) -> bool:
    return SHORTEST <= len(words) <= LONGEST


def topic_sentences(text: str) -> list[Sentence]:
    """The labeled sentences of one help topic."""
    sentences = [sentence for paragraph in paragraphs(text) for sentence in tagged_sentences(paragraph)]
    return [sentence for sentence in sentences if _fits(sentence.words)]


def split_topics(sizes: dict[str, int]) -> dict[str, str]:
    """The part of each topic, from its number of words. In the order of a hash, topics fill test, dev, then train."""
    total = sum(sizes.values())
    split = dict.fromkeys(sizes, "train")
    sums = dict.fromkeys(SHARES, 0)
    for name in sorted(sizes, key=_hash):
        open_parts = [part for part, share in SHARES.items() if sums[part] < share * total]
        if open_parts and sizes[name] <= LARGEST_HELD_OUT * total:
            split[name] = open_parts[0]
            sums[open_parts[0]] += sizes[name]
    return split


def tagging_data() -> dict[str, list[Sentence]]:
    """All topics' sentences by part. Topics quote each other: each sentence is kept once, by test before dev."""
    by_topic = {name: topic_sentences(text) for name, text in topics.items()}
    split = split_topics({name: sum(len(s.words) for s in sentences) for name, sentences in by_topic.items()})
    data: dict[str, list[Sentence]] = {"train": [], "dev": [], "test": []}
    seen: set[tuple[str, ...]] = set()
    for part in ("test", "dev", "train"):
        for name in sorted(by_topic):
            for sentence in by_topic[name] if split[name] == part else []:
                if tuple(sentence.words) not in seen:
                    seen.add(tuple(sentence.words))
                    data[part].append(sentence)
    return data


def docstrings(path: Path) -> Iterator[str]:
    """The docstrings of a source file: the module's, its classes' and functions'. None if it cannot be parsed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in old modules
            nodes: list[ast.AST] = [ast.parse(path.read_bytes())]
    except (SyntaxError, ValueError):
        return
    while nodes:
        node = nodes.pop()
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            text = ast.get_docstring(node, clean=False)
            if text:
                yield inspect.cleandoc(text)
        # Definitions are among statements only; walking through expressions takes twice as long.
        for field in ("body", "orelse", "handlers", "finalbody"):
            inner = getattr(node, field, None)
            nodes.extend(reversed(inner) if isinstance(inner, list) else ())


def language_data(tagging: dict[str, list[Sentence]]) -> dict[str, list[list[str]]]:
    """Docstrings, split by file into train, valid and test, and the words of the tagger's train data."""
    seen = {tuple(sentence.words) for part in ("dev", "test") for sentence in tagging[part]}
    data: dict[str, list[list[str]]] = {"train": [], "valid": [], "test": []}
    library = Path(sysconfig.get_path("stdlib"))

    def add(part: str, words: list[str]) -> None:
        if _fits(words) and tuple(words) not in seen:
            seen.add(tuple(words))
            data[part].append(words)

    for path in sorted(library.rglob("*.py")):
        name = path.relative_to(library)
        if NOT_LIBRARY.intersection(name.parts):
            continue
        number = int(_hash(name.as_posix())[:8], 16) % 100
        part = "test" if number < 4 else "valid" if number < 8 else "train"
        for text in docstrings(path):
            for paragraph in paragraphs(text):
                for words in plain_sentences(paragraph):
                    add(part, words)
    for sentence in tagging["train"]:
        add("train", sentence.words)
    return data


def bio(sentence: Sentence) -> list[str]:
    """One tag per word: B-X opens a span of type X, I-X continues it, O is outside."""
    tags = ["O"] * len(sentence.words)
    for span in sentence.spans:
        tags[span.start] = f"B-{span.label}"
        tags[span.start + 1 : span.end] = [f"I-{span.label}"] * (span.end - span.start - 1)
    return tags


def write_corpus(folder: Path) -> str:
    """Write the corpus to `folder`, `ABOUT.txt` last. Returns that file's text: the totals, each file, the source."""
    tagging = tagging_data()
    language = language_data(tagging)
    files = []
    for part, sentences in tagging.items():
        rows = (zip(sentence.words, bio(sentence)) for sentence in sentences)
        _write(
            folder / "ner" / f"{part}.conll",
            ("".join(f"{w}\t{tag}\n" for w, tag in row) + "\n" for row in rows),
        )
        files.append(f"ner/{part}.conll: {_describe(sentences)}")
    for part, lines in language.items():
        _write(folder / "lm" / f"{part}.txt", (" ".join(words) + "\n" for words in lines))
        files.append(f"lm/{part}.txt: {len(lines):,} sentences, {sum(map(len, lines)):,} words")
    words = sum(len(words) for lines in language.values() for words in lines)
    about = "\n".join(
        [
            f"{_describe([s for part in tagging.values() for s in part])}; {words:,} words for the language models",
            *files,
            f"From Python {sys.version.split()[0]}: pydoc_data.topics and the docstrings of the standard library",
            "(Python Software Foundation License).",
        ]
    )
    _write(folder / "ABOUT.txt", [about + "\n"])
    return about


def _describe(sentences: list[Sentence]) -> str:
    labels = Counter(span.label for sentence in sentences for span in sentence.spans)
    spans = ", ".join(f"{count:,} {label}" for label, count in labels.most_common())
    return f"{len(sentences):,} sentences, {sum(len(s.words) for s in sentences):,} words, spans {spans}"


def _write(path: Path, pieces: Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        file.writelines(pieces)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m quickstart.corpus FOLDER")
    print(write_corpus(Path(sys.argv[1])))
