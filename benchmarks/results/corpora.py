"""Corpora of the results page, with splits for those without official ones."""

import gzip
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple


class Corpus(NamedTuple):
    """Where train, dev and test are, below the folder of the data, and what a tagger's config says for them."""

    files: Sequence[str]
    """Train, dev and test; or fewer, which `split` then divides."""
    overrides: dict[str, Any]
    english: bool = True
    """Whether the language models and the word vectors are of its language."""
    is_train: Callable[[int], bool] = lambda digit: True
    """Of sentences whose words hash to so many tenths; see `split`."""
    is_dev: Callable[[int], bool] = lambda digit: False
    merged: Sequence[tuple[str, dict[str, str]]] = ()
    """Corpora whose training data replace those of `files`; for each, the types of its entities in this corpus."""


POS = {
    "dataset_reader.label_encoding": None,
    "dataset_reader.target_label_encoding": None,
    "model.label_encoding": None,
    "model.calculate_span_f1": False,
    "trainer.validation_metric": "+accuracy",
}
UNER = {
    "dataset_reader.layout": "conllu",
    "dataset_reader.column_names": ["id", "form", "ner", "nested", "annotator"],
    "dataset_reader.tag_column": "ner",
}
BTC = {"dataset_reader.empty_word": "_", "dataset_reader.separator": "tab"}
WIKIGOLD = Corpus(
    ("ner/wikigold/wikigold.conll.txt",),
    {},
    is_train=lambda digit: digit < 8,
    is_dev=lambda digit: digit == 8,
)
CONLL = {"": "O", "PER": "PER", "LOC": "LOC", "ORG": "ORG", "MISC": "MISC"}
CORPORA = {
    "wnut17": Corpus(
        (
            "ner/wnut17/wnut17train.conll",
            "ner/wnut17/emerging.dev.conll",
            "ner/wnut17/emerging.test.annotated",
        ),
        {},
    ),
    "wikigold": WIKIGOLD,
    # Training data of five corpora; dev and test are Wikigold's.
    "english_ner": WIKIGOLD._replace(
        overrides={"dataset_reader.partial_label": "?"},
        # Other corpora do not annotate MISC as Wikigold does: numbers and dates in multiNER, products and works in
        # WNUT-17 (but no nationalities), nothing in BTC.
        merged=(
            ("wikigold", CONLL),
            ("sec_filings", CONLL),
            ("multiner_gov", {"": "O", "PER": "PER", "LOC": "LOC", "ORG": "ORG"}),
            ("btc", {"PER": "PER", "LOC": "LOC", "ORG": "ORG"}),
            (
                "wnut17",
                {
                    "person": "PER",
                    "location": "LOC",
                    "corporation": "ORG",
                    "group": "ORG",
                    "creative-work": "MISC",
                    "product": "MISC",
                },
            ),
        ),
    ),
    "sec_filings": Corpus(
        ("ner/sec_filings/FIN5.txt", "ner/sec_filings/FIN3.txt"),
        {},
        is_train=lambda digit: digit < 9,
        is_dev=lambda digit: digit == 9,
    ),
    **{
        name: Corpus(tuple(f"ner/{name}/{split}.conll.gz" for split in ("train", "valid", "test")), overrides)
        # Some tweets have empty tokens, or tokens with a blank.
        for name, overrides in (
            ("btc", BTC),
            ("multiner_gov", {}),
            ("bc5cdr", {}),
        )
    },
    "uner_danish_ddt": Corpus(
        tuple(f"ner/uner_danish_ddt/da_ddt-ud-{split}.iob2" for split in ("train", "dev", "test")),
        UNER,
        english=False,
    ),
    "ud_english_ewt": Corpus(
        tuple(f"pos/ud_english_ewt/en_ewt-ud-{split}.conllu.gz" for split in ("train", "dev", "test")),
        {**POS, "dataset_reader.layout": "conllu"},
    ),
    "masc": Corpus(tuple(f"pos/masc/{split}.conll.gz" for split in ("train", "valid", "test")), POS),
}


def paths_of(name: str, data: Path, folder: Path) -> dict[str, str]:
    """
    The settings `train`, `dev` and `test` of a corpus; what has no split of its own is split into files in `folder`.
    """
    corpus = CORPORA[name]
    paths = [data / file for file in corpus.files]
    if len(paths) < 3:
        paths = split(paths, corpus, folder / name)
    if corpus.merged:
        others = [(paths_of(other, data, folder)["train"], types) for other, types in corpus.merged]
        paths[0].write_text("\n".join(retyped(Path(path), types) for path, types in others), encoding="utf-8")
    return {split: str(path) for split, path in zip(("train", "dev", "test"), paths)}


def retyped(path: Path, types: dict[str, str]) -> str:
    """A file in BIO with other types; words whose type is not in `types` ("": none) may be MISC or outside."""
    rows, previous = [], ""
    for row in read_text(path).split("\n"):
        if not row.strip() or row.startswith("-DOCSTART-"):
            rows.append("")
            previous = ""
            continue
        columns = row.split("\t") if "\t" in row else row.split()
        letter, _, old = columns[-1].partition("-")
        new = types.get(old, "O|B-MISC|I-MISC")
        if old in types and old:
            new = f"{'I' if letter == 'I' and old == previous else 'B'}-{new}"
        rows.append(f"{'_'.join(columns[0].split()) or '_'} {new}")
        previous = old
    return "\n".join(rows)


def split(paths: list[Path], corpus: Corpus, folder: Path) -> list[Path]:
    """
    Divide the sentences of the first file into train, dev and, if there is no second file, test, by the last decimal
    digit of the SHA-1 of their words with blanks between. So equal sentences stand on one side.
    """
    parts: dict[str, list[str]] = {"train": [], "dev": [], "test": []}
    for block in read_text(paths[0]).split("\n\n"):
        rows = [row for row in block.split("\n") if row.strip() and not row.startswith("-DOCSTART-")]
        if rows:
            words = " ".join(row.split()[0] for row in rows)
            digit = int(hashlib.sha1(words.encode("utf-8")).hexdigest(), 16) % 10
            name = "train" if corpus.is_train(digit) else "dev" if corpus.is_dev(digit) else "test"
            parts[name].append("\n".join(rows) + "\n")
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, sentences in parts.items():
        if sentences:
            written.append(folder / f"{name}.conll")
            written[-1].write_text("\n".join(sentences), encoding="utf-8")
    return [*written, *paths[1:]]


def read_text(path: Path) -> str:
    """A plain or gzip text."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8", newline="\n") as file:
        return str(file.read())
