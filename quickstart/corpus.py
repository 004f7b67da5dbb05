"""Build a corpus from Python's own text: help topics, labeled by their markup.

    python -m quickstart.corpus FOLDER

writes `{train,dev,test}.conll` (word TAB tag, BIO; types CODE, TERM, PEP). No sentence is in two files.
"""

import hashlib
import sys
from pathlib import Path
from pydoc_data.topics import topics

from quickstart.prose import Sentence, paragraphs, tagged_sentences

SHARES = {"test": 0.15, "dev": 0.12}
LARGEST_HELD_OUT = 0.06  # a larger share of all words stays in train: dev and test need many topics
LENGTHS = range(3, 81)  # words a sentence


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
        texts[f"{part}.conll"] = "".join("".join(f"{w}\t{tag}\n" for w, tag in row) + "\n" for row in rows)
    version = sys.version.split()[0]
    texts["ABOUT.txt"] = f"pydoc_data.topics of Python {version} (Python Software Foundation License).\n"
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    write_corpus(Path(sys.argv[1]))
