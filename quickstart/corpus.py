"""Build a corpus from Python's own text: help topics, labeled by their markup, and docstrings.

    python -m quickstart.corpus FOLDER

writes `ner/{train,dev,test}.conll` (word TAB tag, BIO; types CODE, TERM, PEP) and `lm/{train,valid,test}.txt` (one
sentence per line). No sentence is in two of the tagger's files, and no sentence of its dev and test files is in the LM
files.
"""

import ast
import hashlib
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path
from pydoc_data.topics import topics

from quickstart.prose import Sentence, paragraphs, plain_sentences, tagged_sentences

SHARES = {"test": 0.15, "dev": 0.12}
LARGEST_HELD_OUT = 0.06  # a larger share of all words stays in train: dev and test need many topics
LENGTHS = range(3, 81)  # words a sentence
NOT_LIBRARY = {
    *("test", "tests", "idle_test", "turtledemo", "pydoc_data"),
    *("site-packages", "dist-packages", "__pycache__"),
}


def _hash(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8")).hexdigest()


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
    by_topic = {
        name: [
            sentence
            for paragraph in paragraphs(text)
            for sentence in tagged_sentences(paragraph)
            if len(sentence.words) in LENGTHS
        ]
        for name, text in sorted(topics.items())
    }
    split = split_topics({name: sum(len(s.words) for s in sentences) for name, sentences in by_topic.items()})
    data: dict[str, list[Sentence]] = {"train": [], "dev": [], "test": []}
    seen: set[tuple[str, ...]] = set()
    for part in ("test", "dev", "train"):
        for sentence in (s for name in by_topic if split[name] == part for s in by_topic[name]):
            if tuple(sentence.words) not in seen:
                seen.add(tuple(sentence.words))
                data[part].append(sentence)
    return data


def docstrings(path: Path) -> Iterator[str]:
    """The docstrings of a source file: the module's, its classes' and functions'. None if it cannot be parsed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in old modules
            yield from _docstrings(ast.parse(path.read_bytes()))
    except (SyntaxError, ValueError):
        return


def _docstrings(node: ast.AST) -> Iterator[str]:
    definitions = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    if isinstance(node, definitions) and (text := ast.get_docstring(node)):
        yield text
    for field in ("finalbody", "handlers", "orelse", "body"):  # definitions are among statements only
        for statement in getattr(node, field, ()):
            yield from _docstrings(statement)


def language_data(tagging: dict[str, list[Sentence]]) -> dict[str, list[list[str]]]:
    """Docstrings, split by file into train, valid and test, and the words of the tagger's train data."""
    seen = {tuple(sentence.words) for part in ("dev", "test") for sentence in tagging[part]}
    data: dict[str, list[list[str]]] = {"train": [], "valid": [], "test": []}

    def add(part: str, words: list[str]) -> None:
        if len(words) in LENGTHS and tuple(words) not in seen:
            seen.add(tuple(words))
            data[part].append(words)

    library = Path(sysconfig.get_path("stdlib"))
    for path in sorted(library.rglob("*.py")):
        name = path.relative_to(library)
        if NOT_LIBRARY.isdisjoint(name.parts):
            number = int(_hash(name.as_posix())[:8], 16) % 100
            part = "test" if number < 4 else "valid" if number < 8 else "train"
            for paragraph in (paragraph for text in docstrings(path) for paragraph in paragraphs(text)):
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


def write_corpus(folder: Path) -> None:
    """Write the corpus to `folder`, `ABOUT.txt` last."""
    tagging = tagging_data()
    texts = {}
    for part, sentences in tagging.items():
        rows = (zip(sentence.words, bio(sentence)) for sentence in sentences)
        texts[f"ner/{part}.conll"] = "".join(
            "".join(f"{w}\t{tag}\n" for w, tag in row) + "\n" for row in rows
        )
    for part, lines in language_data(tagging).items():
        texts[f"lm/{part}.txt"] = "".join(" ".join(words) + "\n" for words in lines)
    texts["ABOUT.txt"] = (
        f"pydoc_data.topics and the docstrings of the standard library of Python {sys.version.split()[0]}\n"
        f"(Python Software Foundation License).\n"
    )
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    write_corpus(Path(sys.argv[1]))
