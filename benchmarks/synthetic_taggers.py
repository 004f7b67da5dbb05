"""
Build taggers of the published sizes with random weights, and CoNLL-like text, for the speed benchmarks.

Speed does not depend on the weights, so no training is needed. The text has a Zipf vocabulary, the lengths of sentences
and words are like those of CoNLL-2003's test set (13.4 words per sentence, of 4.5 characters, many short lines and few
of more than 60 words), and the scores are scaled so that about as many words are in spans as there.
"""

import copy
import io
import json
import math
import random
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from allennlp.common import Params
from allennlp.data import Vocabulary
from allennlp.models import Model
from allennlp.models.archival import CONFIG_NAME

import ldnet_allennlp  # noqa: F401
from ldnet_allennlp.commands.model_configs import pruned_config
from ldnet_allennlp.common.archives import remove_namespace
from ldnet_allennlp.data.language_model_vocabulary import architecture_namespace, store_words
from ldnet_allennlp.modules.embedders.ldnet_embedder import LdnetEmbedder

LETTERS = "etaoinshrdlucmfwypvbgkjqxz"
CHARACTERS = LETTERS + LETTERS.upper() + "0123456789.,-'()/:&"
BOUNDARY = "<eos>"
# What is kept of the language models of the pruned tagger: a layer in each direction.
KEPT = {"forward": [4], "backward": [6]}


class Sizes(NamedTuple):
    """The published ones."""

    layers: int = 10
    hidden: int = 300
    lm_words: int = 33_000
    lm_dim: int = 300
    tagger_words: int = 20_000
    word_dim: int = 100
    char_dim: int = 30
    char_hidden: int = 150
    encoder_hidden: int = 300
    types: int = 4
    """Of spans: with BIOUL letters, 4 * types + 1 tags."""


def make_words(number: int, rng: random.Random) -> list[str]:
    """Different words, the frequent ones shorter: about 4.5 characters a word of text."""
    words: dict[str, None] = {}
    while len(words) < number:
        mean = 1.5 + 0.52 * math.log1p(len(words))
        length = max(1, min(30, round(rng.gauss(mean, 0.35 * mean))))
        word = "".join(rng.choices(LETTERS, k=length))
        words[word.capitalize() if rng.random() < 0.2 else word] = None
    return list(words)


def make_lengths(number: int, rng: random.Random) -> list[int]:
    """
    Lengths like those of CoNLL-2003: headlines and table lines of a few words, and prose. Neighbors are often of one
    kind, so that a batch of 32 in the order of the file takes 2.5 positions a word, as there.
    """
    lengths, short = [], rng.random() < 0.45
    for _ in range(number):
        if rng.random() < 0.08:
            short = rng.random() < 0.45
        if short:
            lengths.append(max(1, round(rng.gauss(5.5, 2.2))))
        else:
            lengths.append(max(1, min(124, round(rng.lognormvariate(2.92, 0.42)))))
    return lengths


def make_sentences(words: list[str], lengths: list[int], rng: random.Random) -> list[list[str]]:
    """Words drawn with Zipf's frequencies, 1 / (rank + 2.7)."""
    total, cumulative = 0.0, []
    for rank in range(len(words)):
        total += 1 / (rank + 2.7)
        cumulative.append(total)
    drawn = iter(rng.choices(words, cum_weights=cumulative, k=sum(lengths)))
    return [[next(drawn) for _ in range(length)] for length in lengths]


def write_conll(path: Path, sentences: list[list[str]]) -> None:
    """Four columns, as CoNLL-2003 has them; the tags are all "O"."""
    blocks = ("".join(f"{word} NN B-NP O\n" for word in sentence) for sentence in sentences)
    path.write_text("\n".join(blocks), encoding="utf-8")


def tagger_config(sizes: Sizes, kind: str) -> dict[str, Any]:
    """The config of the "vanilla" or "unpruned" tagger, or of allennlp-models' "crf_tagger" of the same sizes."""
    upstream = kind == "crf_tagger"
    indexers: dict[str, Any] = {
        "tokens": {"type": "single_id", "lowercase_tokens": True},
        "token_characters": {"type": "characters", "min_padding_length": 1},
    }
    embedders: dict[str, Any] = {"tokens": {"type": "embedding", "embedding_dim": sizes.word_dim}}
    if upstream:
        # An LSTM over the characters of each word, in both directions.
        embedders["token_characters"] = {
            "type": "character_encoding",
            "embedding": {"embedding_dim": sizes.char_dim, "vocab_namespace": "token_characters"},
            "encoder": {
                "type": "lstm",
                "input_size": sizes.char_dim,
                "hidden_size": sizes.char_hidden,
                "bidirectional": True,
            },
        }
        input_size = sizes.word_dim + 2 * sizes.char_hidden
        reader = {"type": "conll2003", "tag_label": "ner", "convert_to_coding_scheme": "BIOUL"}
    else:
        embedders["token_characters"] = {
            "type": "sentence_character_lstm",
            "embedding_dim": sizes.char_dim,
            "hidden_size": sizes.char_hidden,
            "projection_dim": sizes.word_dim,
        }
        input_size = 2 * sizes.word_dim
        reader = {"type": "conll_columns", "label_encoding": "BIO", "target_label_encoding": "BIOUL"}
    if kind == "unpruned":
        indexers["ldnet"] = {"type": "ldnet"}
        network = {
            "type": "ld_rnn",
            "input_size": sizes.lm_dim,
            "hidden_size": sizes.hidden,
            "num_layers": sizes.layers,
        }
        language_model = {"contextualizer": network, "boundary": BOUNDARY}
        embedders["ldnet"] = {
            "type": "ldnet",
            "forward": language_model,
            "backward": copy.deepcopy(language_model),
            "projection_dim": sizes.word_dim,
        }
        input_size += sizes.word_dim
    return {
        "dataset_reader": {**reader, "token_indexers": indexers},
        "model": {
            "type": "crf_tagger" if upstream else "ldnet_tagger",
            "label_encoding": "BIOUL",
            "text_field_embedder": {"token_embedders": embedders},
            "encoder": {
                "type": "lstm",
                "input_size": input_size,
                "hidden_size": sizes.encoder_hidden,
                "bidirectional": True,
            },
        },
    }


def make_vocabulary(sizes: Sizes, words: list[str], with_language_models: bool) -> Vocabulary:
    """Of the tagger: its most frequent words in lower case, all characters, the tags, the language models' words."""
    vocab = Vocabulary()
    lowered = dict.fromkeys(word.lower() for word in words)
    vocab.add_tokens_to_namespace(list(lowered)[: sizes.tagger_words], "tokens")
    vocab.add_tokens_to_namespace(list(CHARACTERS), "token_characters")
    letters = ["O", *(f"{letter}-T{number}" for number in range(sizes.types) for letter in "BLUI")]
    vocab.add_tokens_to_namespace(letters, "labels")
    if with_language_models:
        known = [vocab._padding_token, vocab._oov_token, BOUNDARY, *words[: sizes.lm_words - 3]]
        store_words(vocab, "ldnet_words", known)
    return vocab


def build_tagger(sizes: Sizes, kind: str, words: list[str], seed: int) -> tuple[Model, dict[str, Any]]:
    """
    A tagger in evaluation mode, and its config.

    # Parameters

    sizes : `Sizes`
    kind : `str`
        "vanilla", "unpruned", "pruned" (a layer left in each direction) or "crf_tagger" (allennlp-models').
    words : `List[str]`
        The words of the text, the frequent ones first.
    seed : `int`
    """
    config = tagger_config(sizes, "unpruned" if kind == "pruned" else kind)
    torch.manual_seed(seed)
    vocab = make_vocabulary(sizes, words, kind in ("unpruned", "pruned"))
    model = Model.from_params(Params(config["model"]).duplicate(), vocab=vocab).eval()
    embedders = [module for module in model.modules() if isinstance(module, LdnetEmbedder)]
    with torch.no_grad():
        for embedder in embedders:
            for language_model in embedder.language_models.values():
                language_model.embedding.weight.uniform_(
                    -math.sqrt(3 / sizes.lm_dim), math.sqrt(3 / sizes.lm_dim)
                )
        # Scores that differ from word to word, and an O that wins most of the time.
        projection = model.tag_projection_layer._module
        projection.weight.mul_(12.0)
        projection.bias[vocab.get_token_index("O", "labels")] += 1.2
    if kind == "pruned":
        for embedder in embedders:
            embedder.prune(KEPT if sizes.layers == 10 else {name: [0] for name in KEPT})
        config = pruned_config(config, embedders)
        remove_namespace(vocab, architecture_namespace("ldnet"))
    return model, config


def write_archive(path: Path, model: Model, config: dict[str, Any]) -> None:
    """Like AllenNLP's `archive_model`, with the fastest compression: random numbers cannot be compressed."""
    weights = io.BytesIO()
    torch.save(model.state_dict(), weights)
    vocabulary = path.parent / f"{path.name}.vocabulary"
    model.vocab.save_to_files(str(vocabulary))
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for name, content in ((CONFIG_NAME, json.dumps(config).encode()), ("weights.th", weights.getvalue())):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        archive.add(vocabulary, arcname="vocabulary")


class Setting(NamedTuple):
    """What a benchmark runs on."""

    archives: dict[str, str]
    text: str
    num_sentences: int
    num_words: int
    characters_per_word: float
    padded_positions_per_word: float
    """In batches of 32 in the order of the file."""


def prepare(
    folder: Path,
    kinds: list[str],
    sizes: Sizes,
    num_sentences: int,
    seed: int,
    lengths: list[int] | None = None,
) -> Setting:
    """Write the archives of `kinds` and the text into a folder."""
    rng = random.Random(seed)
    words = make_words(max(sizes.lm_words, sizes.tagger_words) + 2000, rng)
    archives = {}
    for kind in kinds:
        model, config = build_tagger(sizes, kind, words, seed)
        archives[kind] = str(folder / f"{kind}.tar.gz")
        write_archive(Path(archives[kind]), model, config)
        del model
    sentences = make_sentences(words, lengths or make_lengths(num_sentences, rng), rng)
    text = folder / "text.conll"
    write_conll(text, sentences)
    num_words = sum(map(len, sentences))
    padded = sum(len(batch) * max(map(len, batch)) for batch in _groups(sentences, 32))
    characters = sum(len(word) for sentence in sentences for word in sentence)
    return Setting(archives, str(text), len(sentences), num_words, characters / num_words, padded / num_words)


def _groups(items: list[list[str]], size: int) -> Iterator[list[list[str]]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
