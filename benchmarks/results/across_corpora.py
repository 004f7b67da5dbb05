"""
F1 of exported taggers on the test data of every corpus that `english_ner` merges, for the types that all of them
annotate (PER, LOC, ORG), as a Markdown table:

    python benchmarks/results/across_corpora.py models/english/ner.onnx

Words whose gold label is partial count as outside of names. Takes seconds per tagger.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from corpora import CORPORA, paths_of, retyped  # noqa: E402

from ldnet_runtime import Tagger  # noqa: E402
from ldnet_runtime.tag_schemes import spans_from_tags  # noqa: E402

DATA = Path(os.environ.get("LDNET_DATA", ROOT.parent / "shared" / "data"))
TYPES = ("PER", "LOC", "ORG")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("taggers", nargs="+", help="files of ldnet-export")
    taggers = parser.parse_args().taggers
    print("| test data | " + " | ".join(taggers) + " |")
    print("|---" * (1 + len(taggers)) + "|")
    for corpus, types in CORPORA["english_ner"].merged:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(paths_of(corpus, DATA, Path(folder))["test"])
            sentences = list(sentences_of(retyped(path, types)))
        scores = [f1(Tagger(tagger), sentences) for tagger in taggers]
        print(f"| {corpus} | " + " | ".join(f"{100 * score:.1f}" for score in scores) + " |")


def sentences_of(text: str) -> Iterator[tuple[list[str], list[str]]]:
    """The words and the tags of each sentence."""
    for block in text.split("\n\n"):
        rows = [row.split() for row in block.split("\n") if row]
        if rows:
            yield [word for word, _ in rows], ["O" if "|" in tag else tag for _, tag in rows]


def f1(tagger: Tagger, sentences: list[tuple[list[str], list[str]]]) -> float:
    """Of the spans of TYPES, over all sentences."""
    found = right = true = 0
    for (_, tags), prediction in zip(sentences, tagger.tag_many(words for words, _ in sentences)):
        spans_of_tags = spans_from_tags(tags, "BIO")
        gold = {(kind, first, last + 1) for kind, first, last in spans_of_tags if kind in TYPES}
        spans = {(span.label, span.start, span.end) for span in prediction.spans if span.label in TYPES}
        found, right, true = found + len(spans), right + len(gold & spans), true + len(gold)
    return 2 * right / (found + true)


if __name__ == "__main__":
    main()
