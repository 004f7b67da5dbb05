"""Real text that every machine with Python has: its help topics, labelled by their mark-up, and its docstrings.

Written are `ner/{train,dev,test}.conll` (word TAB tag, BIO; types CODE, TERM, PEP) and `lm/{train,valid,test}.txt`
(one sentence a line). No sentence stands in two of the tagger's files, and none of its dev and test in the LM's.
"""

import ast
import hashlib
import inspect
import os
import sys
import sysconfig
import tempfile
import warnings
from collections import Counter
from pathlib import Path
from pydoc_data.topics import topics
from typing import Dict, Iterable, Iterator, List, Set, Tuple

from quickstart.prose import Sentence, paragraphs, plain_sentences, tagged_sentences

DEV_SHARE, TEST_SHARE = 0.12, 0.15
# A topic above this share of all words stays in train: dev and test are to hold many topics, not one.
LARGEST_HELD_OUT = 0.06
SHORTEST, LONGEST = 3, 80  # words a sentence
NOT_LIBRARY = {
    "test",
    "tests",
    "idle_test",
    "site-packages",
    "dist-packages",
    "turtledemo",
    "pydoc_data",
    "__pycache__",
}

ABOUT = "ABOUT.txt"

Split = Dict[str, List[Sentence]]


def _hash(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8")).hexdigest()


def _fits(words: List[str]) -> bool:
    return SHORTEST <= len(words) <= LONGEST


def topic_sentences(text: str) -> List[Sentence]:
    """The labelled sentences of one help topic."""
    return [
        sentence
        for paragraph in paragraphs(text)
        for sentence in tagged_sentences(paragraph)
        if _fits(sentence.words)
    ]


def split_topics(sizes: Dict[str, int]) -> Dict[str, str]:
    """
    A split for each topic, from the number of its words. Topics are taken in the order of a hash of their names:
    first test is filled, then dev; the rest is train.
    """
    total = sum(sizes.values())
    split = {}
    filled = {"test": 0, "dev": 0}
    for name in sorted(sizes, key=_hash):
        split[name] = "train"
        if sizes[name] > LARGEST_HELD_OUT * total:
            continue
        for part, share in (("test", TEST_SHARE), ("dev", DEV_SHARE)):
            if filled[part] < share * total:
                split[name] = part
                filled[part] += sizes[name]
                break
    return split


def tagging_data() -> Split:
    """
    The labelled sentences of all topics as train, dev and test. Topics quote each other at length; each distinct
    sentence is kept once, by test before dev before train.
    """
    by_topic = {name: topic_sentences(text) for name, text in topics.items()}
    split = split_topics({name: sum(len(s.words) for s in found) for name, found in by_topic.items()})
    data: Split = {"train": [], "dev": [], "test": []}
    seen: Set[Tuple[str, ...]] = set()
    for part in ("test", "dev", "train"):
        for name in sorted(by_topic):
            for sentence in by_topic[name] if split[name] == part else []:
                if tuple(sentence.words) not in seen:
                    seen.add(tuple(sentence.words))
                    data[part].append(sentence)
    return data


def docstrings(path: Path) -> Iterator[str]:
    """The docstrings of a source file: the module's, its classes' and functions'. None if it does not parse."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in old modules
            tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return
    nodes: List[ast.AST] = [tree]
    while nodes:
        node = nodes.pop()
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            text = ast.get_docstring(node, clean=False)
            if text:
                yield inspect.cleandoc(text)
        # Definitions stand among statements only; to walk through the expressions takes twice as long.
        for field in ("body", "orelse", "handlers", "finalbody"):
            inner = getattr(node, field, None)
            nodes.extend(reversed(inner) if isinstance(inner, list) else ())


def library_files() -> List[Path]:
    """The standard library's source files, in a fixed order."""
    library = Path(sysconfig.get_path("stdlib"))
    return sorted(
        path
        for path in library.rglob("*.py")
        if not NOT_LIBRARY.intersection(path.relative_to(library).parts)
    )


def language_data(tagging: Split) -> Dict[str, List[List[str]]]:
    """Docstrings, split by file into train, valid and test, and the words of the tagger's train data."""
    seen = {tuple(sentence.words) for part in ("dev", "test") for sentence in tagging[part]}
    data: Dict[str, List[List[str]]] = {"train": [], "valid": [], "test": []}
    library = Path(sysconfig.get_path("stdlib"))

    def add(part: str, words: List[str]) -> None:
        if _fits(words) and tuple(words) not in seen:
            seen.add(tuple(words))
            data[part].append(words)

    for path in library_files():
        number = int(_hash(path.relative_to(library).as_posix())[:8], 16) % 100
        part = "test" if number < 4 else "valid" if number < 8 else "train"
        for text in docstrings(path):
            for paragraph in paragraphs(text):
                for words in plain_sentences(paragraph):
                    add(part, words)
    for sentence in tagging["train"]:
        add("train", sentence.words)
    return data


def bio(sentence: Sentence) -> List[str]:
    """One tag a word: B-X opens a span of type X, I-X goes on with it, O is outside."""
    tags = ["O"] * len(sentence.words)
    for span in sentence.spans:
        tags[span.start] = f"B-{span.label}"
        tags[span.start + 1 : span.end] = [f"I-{span.label}"] * (span.end - span.start - 1)
    return tags


def write_corpus(folder: Path) -> str:
    """
    Writes the corpus below `folder`; each file is either whole or not there, and `ABOUT.txt` comes last.

    # Returns

    `str`
        What `ABOUT.txt` says: the numbers of everything in a line, then file by file, and where it is from.
    """
    tagging = tagging_data()
    language = language_data(tagging)
    files = []
    for part, sentences in tagging.items():
        blocks = (
            "".join(f"{word}\t{tag}\n" for word, tag in zip(sentence.words, bio(sentence))) + "\n"
            for sentence in sentences
        )
        _write(folder / "ner" / f"{part}.conll", blocks)
        files.append(f"ner/{part}.conll: {_describe(sentences)}")
    for part, lines in language.items():
        _write(folder / "lm" / f"{part}.txt", (" ".join(words) + "\n" for words in lines))
        files.append(f"lm/{part}.txt: {len(lines):,} sentences, {sum(map(len, lines)):,} words")
    everything = [sentence for sentences in tagging.values() for sentence in sentences]
    words = sum(len(words) for lines in language.values() for words in lines)
    about = "\n".join(
        [
            f"{_describe(everything)}; {words:,} words for the language models",
            *files,
            f"From Python {sys.version.split()[0]}: pydoc_data.topics and the docstrings of the standard library",
            "(Python Software Foundation License).",
        ]
    )
    _write(folder / ABOUT, [about + "\n"])
    return about


def _describe(sentences: List[Sentence]) -> str:
    labels = Counter(span.label for sentence in sentences for span in sentence.spans)
    spans = ", ".join(f"{count:,} {label}" for label, count in labels.most_common())
    words = sum(len(sentence.words) for sentence in sentences)
    return f"{len(sentences):,} sentences, {words:,} words, spans {spans}"


def _write(path: Path, pieces: Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=str(path.parent), prefix=".", suffix=path.suffix)
    try:
        with open(handle, "w", encoding="utf-8", newline="\n") as file:
            file.writelines(pieces)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m quickstart.corpus FOLDER")
    print(write_corpus(Path(sys.argv[1])))
