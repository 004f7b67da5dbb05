"""Drop words from the vocabularies of language models, whose vectors dominate the archive's size."""

from collections.abc import Iterator, Sequence

import torch
from allennlp.common.checks import ConfigurationError
from allennlp.data import DatasetReader, Vocabulary

from ldnet_allennlp.commands.model_configs import frozen_models
from ldnet_allennlp.common.archives import remove_namespace
from ldnet_allennlp.common.lines import decode_line, numbered_lines
from ldnet_allennlp.data.language_model_vocabulary import words_of
from ldnet_allennlp.data.ldnet_indexer import LdnetIndexer
from ldnet_allennlp.modules.embedders.frozen_language_model import FrozenLanguageModel
from ldnet_allennlp.modules.embedders.language_model_source import namespace_of_words
from ldnet_allennlp.modules.embedders.ldnet_embedder import LdnetEmbedder

_NUM_SPECIAL = 2  # the padding and the unknown token come first
_UNKNOWN = 1


def read_words(path: str) -> set[str]:
    """The words of a file, one per line. Raises `ConfigurationError` if it has none."""
    words = {decode_line(line, "utf-8", path, number).strip() for number, line in numbered_lines(path)} - {""}
    if not words:
        raise ConfigurationError(f"'{path}' was expected to have one word per line, but it has none.")
    return words


class KeptWords:
    """
    The words that a model's language models keep. All others lose their vectors and vocabulary entries and become
    unknown words. The padding, the unknown token and the sentence boundaries stay.

    # Parameters

    vocab : `Vocabulary`
        The model's.
    embedders : `Sequence[LdnetEmbedder]`
        All of the model.
    reader : `DatasetReader`
        The model's. If its "ldnet" indexer lowercases words, `words` are lowercased, too.
    words : `Set[str]`
        The words to keep.

    Raises `ConfigurationError` if no word is in the vocabulary of a language model.
    """

    def __init__(
        self, vocab: Vocabulary, embedders: Sequence[LdnetEmbedder], reader: DatasetReader, words: set[str]
    ) -> None:
        self.vocab = vocab
        self.embedders = embedders
        indexers = getattr(reader, "_token_indexers", None) or getattr(reader, "token_indexers", {})
        lowercased = {
            indexer.namespace
            for indexer in indexers.values()
            if isinstance(indexer, LdnetIndexer) and indexer.lowercase_tokens
        }
        self._is_lowercased: dict[str, bool] = {}  # by the namespace of the words, as `_rows`
        self._rows: dict[str, list[int]] = {}
        boundaries: dict[str, set[int]] = {}
        for embedder, model, namespace in self._language_models():
            self._is_lowercased[namespace] = embedder.namespace in lowercased
            boundaries.setdefault(namespace, set()).update({model.boundary_id} - {None})  # type: ignore[arg-type]
        for namespace, lower in self._is_lowercased.items():
            wanted = {word.lower() for word in words} if lower else words
            vocabulary = words_of(vocab, namespace)
            rows = {row for row, word in enumerate(vocabulary) if row >= _NUM_SPECIAL and word in wanted}
            if not rows:
                raise ConfigurationError(
                    f"None of the {len(words)} words to keep is among the {len(vocabulary) - _NUM_SPECIAL} of the "
                    f"language model (vocabulary namespace '{namespace}')."
                )
            self._rows[namespace] = sorted(rows | boundaries[namespace] | set(range(_NUM_SPECIAL)))
        self._row_sets = {namespace: set(rows) for namespace, rows in self._rows.items()}

    def reads_the_same(self, word: str) -> bool:
        """Return whether a word keeps its vector: it is kept, or was unknown before."""
        for namespace, rows in self._row_sets.items():
            row = self.vocab.get_token_index(
                word.lower() if self._is_lowercased[namespace] else word, namespace
            )
            if row != _UNKNOWN and row not in rows:
                return False
        return True

    def drop_others(self) -> list[str]:
        """Drop all other words, in place. Returns one sentence per vocabulary."""
        words = {namespace: words_of(self.vocab, namespace) for namespace in self._rows}
        for _, model, namespace in self._language_models():
            rows = self._rows[namespace]
            weight = model.embedding.weight
            kept = weight.detach()[torch.tensor(rows, device=weight.device)]
            model.embedding.weight = torch.nn.Parameter(kept, weight.requires_grad)
            model.embedding.num_embeddings = len(rows)
            if model.boundary_id is not None:
                model.boundary_id = rows.index(model.boundary_id)
        report = []
        for namespace, rows in self._rows.items():
            remove_namespace(self.vocab, namespace)
            kept_words = [words[namespace][row] for row in rows[_NUM_SPECIAL:]]
            self.vocab.add_tokens_to_namespace(kept_words, namespace)
            report.append(
                f"Words of the language models ({namespace}): {len(kept_words)} of "
                f"{len(words[namespace]) - _NUM_SPECIAL} are kept."
            )
        return report

    def _language_models(self) -> Iterator[tuple[LdnetEmbedder, FrozenLanguageModel, str]]:
        for embedder in self.embedders:
            for model in frozen_models(embedder):
                yield embedder, model, namespace_of_words(self.vocab, embedder.namespace, model.direction)
