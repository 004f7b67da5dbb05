"""
Convert the original's maps to an AllenNLP vocabulary.

The original's `<unk>` becomes AllenNLP's unknown token, its boundaries ("\\n" in the maps of the language models,
"<\\n>" in that of the tagger's words) become one end token, and AllenNLP's padding is added as number 0.
"""

import os
import tempfile
from collections.abc import Sequence

import torch
from allennlp.common.checks import ConfigurationError
from allennlp.data import Vocabulary
from allennlp.data.vocabulary import DEFAULT_OOV_TOKEN, DEFAULT_PADDING_TOKEN

from ldnet_allennlp.convert.original_files import UNKNOWN, Map

END_TOKEN = "<eos>"
_RESERVED = (DEFAULT_PADDING_TOKEN, DEFAULT_OOV_TOKEN, "@@NEWLINE@@")
_NOT_PADDED = ["*tags", "*labels"]


def free_end_token(maps: Sequence[Map]) -> str:
    """A name for the end token that is in none of the maps: `<eos>`, unless that is a word."""
    name = END_TOKEN
    while any(name in mapping for mapping in maps):
        name += "_"
    return name


def renamed(mapping: Map, boundary: str | None, end_token: str) -> list[str]:
    """
    The entries of a map in the order of their numbers, under AllenNLP's names; the entry `boundary` becomes
    `end_token`.

    Raises `ConfigurationError` if an entry has a name that AllenNLP's vocabulary files reserve.
    """
    taken = [name for name in mapping if any(part in name for part in _RESERVED) or name.endswith("\r")]
    if taken:
        raise ConfigurationError(
            f"The word {taken[0]!r} in a map means something else in AllenNLP's vocabulary files: it cannot be kept."
        )
    special = {boundary: end_token, UNKNOWN: DEFAULT_OOV_TOKEN}
    return [special.get(name, name) for name in mapping]


def unknown_first(names: list[str], weights: torch.Tensor) -> tuple[list[str], torch.Tensor]:
    """Move the unknown token, and its row of the weights (V, D), to the front, as in AllenNLP."""
    order = list(range(len(names)))
    order.insert(0, order.pop(names.index(DEFAULT_OOV_TOKEN)))
    return [names[number] for number in order], weights[order]


def with_padding(weights: torch.Tensor) -> torch.Tensor:
    """A matrix (V, D) with a row of zeros before it, the padding's: (V + 1, D)."""
    return torch.cat([weights.new_zeros(1, weights.size(1)), weights])


def build_vocabulary(namespaces: dict[str, list[str]]) -> Vocabulary:
    """
    A vocabulary with the tokens of each namespace, without padding, in this order. All namespaces except labels include
    the unknown token.

    Raises `ConfigurationError` if AllenNLP's vocabulary files cannot hold them.
    """
    with tempfile.TemporaryDirectory() as folder:
        for namespace, names in {"non_padded_namespaces": _NOT_PADDED, **namespaces}.items():
            with open(os.path.join(folder, f"{namespace}.txt"), "w", encoding="utf-8", newline="") as file:
                file.writelines(name.replace("\n", "@@NEWLINE@@") + "\n" for name in names)
        vocab = Vocabulary.from_files(folder)
    for namespace, names in namespaces.items():
        expected = names if namespace == "labels" else [DEFAULT_PADDING_TOKEN, *names]
        if vocab.get_index_to_token_vocabulary(namespace) != dict(enumerate(expected)):
            raise ConfigurationError(
                f"The names in the map for '{namespace}' cannot be kept in AllenNLP's vocabulary files."
            )
    return vocab
