"""Drop words from the vocabularies of language models, whose vectors dominate the archive's size."""

from collections.abc import Sequence

import torch
from allennlp.common.checks import ConfigurationError
from allennlp.data import DatasetReader, Vocabulary

from ldnet_allennlp.common.archives import remove_namespace
from ldnet_allennlp.data.language_model_vocabulary import words_of
from ldnet_allennlp.data.ldnet_indexer import LdnetIndexer
from ldnet_allennlp.modules.embedders.frozen_language_model import FrozenLanguageModel
from ldnet_allennlp.modules.embedders.language_model_source import namespace_of_words
from ldnet_allennlp.modules.embedders.ldnet_embedder import LdnetEmbedder

_NUM_SPECIAL = 2  # the padding and the unknown token come first
_UNKNOWN = 1


class KeptWords:
    """
    The words that a model's language models keep. All others lose their vectors and vocabulary entries and become
    unknown words. The padding, the unknown token and the sentence boundaries stay.

    # Parameters

    vocab, embedders, reader
        The model's vocabulary, all its "ldnet" embedders, and its reader. If the reader's "ldnet" indexer lowercases
        words, `words` are lowercased, too.
    words : `Set[str]`
        The words to keep.

    Raises `ConfigurationError` if no word is in the vocabulary of a language model.
    """

    def __init__(
        self, vocab: Vocabulary, embedders: Sequence[LdnetEmbedder], reader: DatasetReader, words: set[str]
    ) -> None:
        self.vocab = vocab
        indexers = getattr(reader, "_token_indexers", None) or getattr(reader, "token_indexers", {})
        lowercased = {
            indexer.namespace
            for indexer in indexers.values()
            if isinstance(indexer, LdnetIndexer) and indexer.lowercase_tokens
        }
        # By the namespace of the words.
        self._models: dict[str, list[FrozenLanguageModel]] = {}
        self._is_lowercased: dict[str, bool] = {}
        for embedder in embedders:
            for model in embedder.language_models.values():
                namespace = namespace_of_words(vocab, embedder.namespace, model.direction)
                self._models.setdefault(namespace, []).append(model)
                self._is_lowercased[namespace] = embedder.namespace in lowercased
        self._rows = {namespace: self._rows_of(words, namespace) for namespace in self._models}

    def _rows_of(self, words: set[str], namespace: str) -> dict[int, int]:
        """The rows to keep, in order, and their new numbers."""
        if self._is_lowercased[namespace]:
            words = {word.lower() for word in words}
        vocabulary = words_of(self.vocab, namespace)
        rows = {row for row, word in enumerate(vocabulary) if row >= _NUM_SPECIAL and word in words}
        if not rows:
            raise ConfigurationError(
                f"None of the {len(words)} words to keep is among the {len(vocabulary) - _NUM_SPECIAL} of the "
                f"language model (vocabulary namespace '{namespace}')."
            )
        boundaries = {m.boundary_id for m in self._models[namespace] if m.boundary_id is not None}
        kept = sorted(rows | boundaries | set(range(_NUM_SPECIAL)))
        return {row: number for number, row in enumerate(kept)}

    def reads_the_same(self, word: str) -> bool:
        """Return whether a word keeps its vector: it is kept, or was unknown before."""
        for namespace, rows in self._rows.items():
            cased = word.lower() if self._is_lowercased[namespace] else word
            row = self.vocab.get_token_index(cased, namespace)
            if row != _UNKNOWN and row not in rows:
                return False
        return True

    def drop_others(self) -> list[str]:
        """Drop all other words, in place. Returns one sentence per vocabulary."""
        report = []
        for namespace, rows in self._rows.items():
            for model in self._models[namespace]:
                weight = model.embedding.weight
                kept = weight.detach()[torch.tensor(list(rows), device=weight.device)]
                model.embedding.weight = torch.nn.Parameter(kept, weight.requires_grad)
                model.embedding.num_embeddings = len(rows)
                if model.boundary_id is not None:
                    model.boundary_id = rows[model.boundary_id]
            words = words_of(self.vocab, namespace)
            kept_words = [words[row] for row in rows][_NUM_SPECIAL:]
            known = len(words) - _NUM_SPECIAL
            remove_namespace(self.vocab, namespace)
            self.vocab.add_tokens_to_namespace(kept_words, namespace)
            report.append(
                f"Words of the language models ({namespace}): {len(kept_words)} of {known} are kept."
            )
        return report
