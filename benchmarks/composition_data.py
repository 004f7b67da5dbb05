"""
Convert a CoNLL-U corpus to the other formats of the configs in training_config/compose/:

    python benchmarks/composition_data.py en_ewt-ud-train.conllu.gz en_ewt-ud-dev.conllu.gz \\
        en_ewt-ud-test.conllu.gz out/composition

writes for each of train, dev and test

- `train.conllu`: the file itself, not compressed, for allennlp-models' `universal_dependencies` reader;
- `lemmas.train.tsv`, for seq2seq.jsonnet: the part of speech and the characters of a word, TAB, the characters of its
  lemma, with blanks between: "VERB w r o t e" and "w r i t e". Pairs are unique, in lower case, with words and lemmas
  of letters only, without numbers, punctuation, symbols and X. Dev and test exclude the pairs of the earlier files, so
  all their words are new;
- `genres.train.jsonl`, for classifier.jsonnet: {"text": "words between blanks", "label": "weblog"}, where the label is
  the beginning of the sentence's `sent_id` up to the first hyphen, which in English EWT is its genre.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from allennlp.common.file_utils import open_compressed
from conllu import parse_incr

SPLITS = ("train", "dev", "test")
NO_WORDS = ("NUM", "PUNCT", "SYM", "X")


class Sentence(NamedTuple):
    """`words` are form, lemma and part of speech of each, without multiword ranges and empty nodes."""

    genre: str
    words: list[tuple[str, str, str]]


def read_sentences(path: Path) -> Iterator[Sentence]:
    """The sentences of a plain CoNLL-U file. Raises `ValueError` for one without a `sent_id`."""
    with path.open(encoding="utf-8") as file:
        for number, tokens in enumerate(parse_incr(file), start=1):
            if "sent_id" not in tokens.metadata:
                raise ValueError(
                    f"{path}, sentence {number}: found no '# sent_id = ...', expected one that begins with the genre."
                )
            words = [
                (token["form"], token["lemma"], token["upos"])
                for token in tokens
                if isinstance(token["id"], int)
            ]
            yield Sentence(tokens.metadata["sent_id"].partition("-")[0], words)


def lemma_pairs(sentences: list[Sentence], known: set[str]) -> dict[tuple[str, str], None]:
    """The pairs of source and target, each once, in order; none whose source is `known`."""
    pairs: dict[tuple[str, str], None] = {}
    for sentence in sentences:
        for form, lemma, part_of_speech in sentence.words:
            if part_of_speech in NO_WORDS or not (form.isalpha() and lemma.isalpha()):
                continue
            source = f"{part_of_speech} {' '.join(form.lower())}"
            if source not in known:
                pairs[source, " ".join(lemma.lower())] = None
    return pairs


def write_data(paths: dict[str, str], folder: Path) -> dict[str, int]:
    """
    Write all files, and return the number of sentences or pairs in each by its name.

    # Parameters

    paths : `Dict[str, str]`
        The CoNLL-U file of each of `SPLITS`, in this order.
    folder : `Path`
        Where to write to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    counts: dict[str, int] = {}
    known: set[str] = set()
    for split, path in paths.items():
        plain = folder / f"{split}.conllu"
        with open_compressed(path) as file:
            plain.write_text(file.read(), encoding="utf-8")
        sentences = list(read_sentences(plain))
        pairs = lemma_pairs(sentences, known)
        known.update(source for source, _ in pairs)
        lines = {
            f"lemmas.{split}.tsv": ["\t".join(pair) for pair in pairs],
            f"genres.{split}.jsonl": [
                json.dumps({"text": " ".join(form for form, _, _ in words), "label": genre})
                for genre, words in sentences
            ],
        }
        counts[plain.name] = len(sentences)
        for name, content in lines.items():
            (folder / name).write_text("".join(f"{line}\n" for line in content), encoding="utf-8")
            counts[name] = len(content)
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for split in SPLITS:
        parser.add_argument(split, help="CoNLL-U, plain or gzip")
    parser.add_argument("folder", type=Path, help="where to write to")
    args = parser.parse_args()
    try:
        counts = write_data({split: getattr(args, split) for split in SPLITS}, args.folder)
    except (OSError, ValueError) as error:
        sys.exit(f"composition_data.py: {error}")
    for name, count in counts.items():
        print(f"{count:8,} {args.folder / name}")


if __name__ == "__main__":
    main()
