"""
Other popular taggers on a CPU, on the text of `tagging.py`, which runs this with `--peers` in an environment with spaCy
and/or flair. No model is downloaded: spaCy's `spacy.blank("en")` with an "ner" over its default "tok2vec", flair's
`SequenceTagger` with the sizes of "vanilla" (words 100, characters 30/150, a BiLSTM of 300, CRF), both with random
weights. Only spaCy's speed depends on them a little, through the number of entities.

    python -m venv peers && peers/bin/pip install spacy flair
"""

import importlib.util
import json
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

TYPES = ("T0", "T1", "T2", "T3")
Tag = Callable[[], None]


def read_sentences(path: str) -> list[list[str]]:
    """The words of a CoNLL file."""
    blocks = Path(path).read_text(encoding="utf-8").split("\n\n")
    return [[line.split(" ")[0] for line in block.splitlines()] for block in blocks if block.strip()]


def spacy_tagger(sentences: list[list[str]]) -> Tag:
    import spacy
    from spacy.tokens import Doc
    from spacy.training import Example

    nlp = spacy.blank("en")
    recognizer = nlp.add_pipe("ner")
    for label in TYPES:
        recognizer.add_label(label)
    entities = {"entities": [(0, 1, TYPES[0])]}
    nlp.initialize(lambda: [Example.from_dict(nlp.make_doc(word), entities) for word in ("a", "b")])

    def tag() -> None:
        for doc in nlp.pipe((Doc(nlp.vocab, words) for words in sentences), batch_size=256):
            [token.ent_type_ for token in doc]

    return tag


def flair_tagger(sentences: list[list[str]]) -> Tag:
    import torch
    from flair.data import Dictionary, Sentence
    from flair.embeddings import CharacterEmbeddings, OneHotEmbeddings, StackedEmbeddings
    from flair.models import SequenceTagger

    words = Dictionary(add_unk=True)
    for sentence in sentences:
        for word in sentence:
            words.add_item(word)
    characters = Dictionary(add_unk=True)
    for character in sorted({character for sentence in sentences for word in sentence for character in word}):
        characters.add_item(character)
    labels = Dictionary(add_unk=False)
    for label in TYPES:
        labels.add_item(label)
    embeddings = StackedEmbeddings(
        [
            OneHotEmbeddings(words, embedding_length=100),
            CharacterEmbeddings(characters, char_embedding_dim=30, hidden_size_char=150),
        ]
    )
    tagger = SequenceTagger(embeddings, labels, tag_type="ner", hidden_size=300, use_crf=True).eval()

    def tag() -> None:
        with torch.no_grad():
            tagger.predict([Sentence(words) for words in sentences], mini_batch_size=32)

    return tag


PEERS: dict[str, Callable[[list[list[str]]], Tag]] = {"spacy": spacy_tagger, "flair": flair_tagger}


def package_megabytes() -> float:
    """All files of this environment's packages."""
    folders = {str(distribution.locate_file("")) for distribution in metadata.distributions()}
    files = (path for folder in folders for path in Path(folder).rglob("*") if path.is_file())
    return sum(path.stat().st_size for path in files) / 2**20


def measure(task: dict[str, Any]) -> dict[str, Any]:
    sentences = read_sentences(task["text"])
    if "torch" in sys.modules or importlib.util.find_spec("torch"):
        import torch

        torch.set_num_threads(task["threads"])
    tag = PEERS[task["what"]](sentences)
    tag()  # what is only done once
    start_up = time.time() - task["began"]
    seconds, cpu = [], []
    for _ in range(task["rounds"]):
        before, before_cpu = time.perf_counter(), time.process_time()
        tag()
        seconds.append(time.perf_counter() - before)
        cpu.append(time.process_time() - before_cpu)
    return {
        "peer": f"{task['what']} {metadata.version(task['what'])}",
        "threads": task["threads"],
        "start_up": start_up,
        "seconds": seconds,
        "cpu": statistics.median(cpu),
        "words_per_second": sum(map(len, sentences)) / statistics.median(seconds),
        "peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "package_megabytes": package_megabytes(),
    }


if __name__ == "__main__":
    task = json.loads(sys.argv[sys.argv.index("--task") + 1])
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    installed = [name for name in PEERS if importlib.util.find_spec(name)]
    Path(task["result"]).write_text(json.dumps(installed if task["what"] == "list" else measure(task)))
