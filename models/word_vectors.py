"""
Train word vectors (skip-gram, lower-cased words) on a text, in GloVe layout for the setting `vectors`:

    python models/word_vectors.py train.txt vectors.txt.gz --size 50

Needs gensim in an environment of its own; this package does not require it.
"""

import argparse
import gzip
import os
from collections.abc import Iterator
from pathlib import Path

from gensim.models import Word2Vec
from smart_open import open as open_text  # comes with gensim; reads .gz and .xz


class LowerCased:
    """The sentences of a text file, plain or compressed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __iter__(self) -> Iterator[list[str]]:
        with open_text(self.path, encoding="utf-8") as file:
            for line in file:
                yield line.lower().split()


def main() -> None:
    """Train and write the vectors."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("text", type=Path)
    parser.add_argument("vectors", type=Path, help="ends in .gz")
    parser.add_argument("--size", type=int, default=100)
    parser.add_argument("--min-count", type=int, default=34)
    parser.add_argument("--epochs", type=int, default=2)
    arguments = parser.parse_args()
    vectors = Word2Vec(
        LowerCased(arguments.text),
        vector_size=arguments.size,
        min_count=arguments.min_count,
        epochs=arguments.epochs,
        sg=1,
        sample=1e-4,
        workers=1,
        seed=1,
    ).wv
    beside = arguments.vectors.with_suffix(".new")
    with gzip.open(beside, "wt", encoding="utf-8") as file:
        for word in vectors.index_to_key:
            file.write(f"{word} {' '.join(f'{number:.4f}' for number in vectors[word])}\n")
    os.replace(beside, arguments.vectors)
    print(f"{arguments.vectors}: {len(vectors)} words of {arguments.size} dimensions")


if __name__ == "__main__":
    main()
