"""Tensors of sentences, with the work of indexing done once a word."""

import itertools
import threading
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence

import numpy
import torch
from allennlp.data import TextFieldTensors, Token, TokenIndexer, Vocabulary
from allennlp.data.token_indexers import SingleIdTokenIndexer, TokenCharactersIndexer

from ldnet_allennlp.data.ldnet_indexer import LdnetIndexer

# Longer words are indexed as AllenNLP does it, with all sentences of their batch: one of them would make the table of
# all words wide.
_MAX_CHARACTERS = 40
_MAX_WORDS = 100_000


class _Table(NamedTuple):
    """What an indexer gives for words, a row each; row 0 is padding."""

    rows: numpy.ndarray  # (capacity,) or (capacity, _MAX_CHARACTERS)
    lengths: numpy.ndarray  # (capacity,): how many numbers of the row belong to the word


class IndexedWords:
    """
    Makes the tensors that AllenNLP's `Batch` makes of sentences, for indexers that look at one word at a time: each
    word is indexed when it is first seen, and sentences are looked up in tables from then on.

    # Parameters

    indexers : `Mapping[str, TokenIndexer]`
        Ones that `serves` has approved of.
    vocab : `Vocabulary`
        Must not change.
    """

    def __init__(self, indexers: Mapping[str, TokenIndexer], vocab: Vocabulary) -> None:
        self._indexers = dict(indexers)
        self._vocab = vocab
        self._lock = threading.Lock()  # batches are made on several threads
        self._forget()

    @staticmethod
    def serves(indexers: Mapping[str, TokenIndexer]) -> bool:
        """Whether these indexers are of classes that are known to look at one word at a time, at its text alone."""
        return bool(indexers) and all(map(_looks_at_one_word, indexers.values()))

    def tensors(self, sentences: Sequence[Sequence[Token]]) -> Optional[TextFieldTensors]:
        """
        # Parameters

        sentences : `Sequence[Sequence[Token]]`
            One or more, each with one word or more.

        # Returns

        `Optional[TextFieldTensors]`
            For each indexer its tensors, (B, T) or (B, T, C); `None` if there is a word that is not kept in tables.
        """
        with self._lock:
            numbers = self._numbers_of(sentences)
            if numbers is None:
                return None
            tensors = {
                name: {key: self._look_up(name, table, numbers) for key, table in tables.items()}
                for name, tables in self._tables.items()
            }
            if len(self._numbers) > _MAX_WORDS:
                self._forget()
        return tensors

    def _numbers_of(self, sentences: Sequence[Sequence[Token]]) -> Optional[numpy.ndarray]:
        """The row of each word in the tables, (B, T)."""
        known = self._numbers
        new = {}
        for token in itertools.chain.from_iterable(sentences):
            text = token.text or ""
            if getattr(token, "text_id", None) is not None:
                return None
            if text not in known and text not in new:
                if len(text.encode("utf-8", "replace")) > _MAX_CHARACTERS:
                    return None
                new[text] = token
        if new:
            self._add(list(new.values()))
        numbers = numpy.zeros((len(sentences), max(map(len, sentences))), dtype=numpy.int64)
        for row, sentence in enumerate(sentences):
            numbers[row, : len(sentence)] = [known[token.text or ""] for token in sentence]
        return numbers

    def _forget(self) -> None:
        self._numbers: Dict[str, int] = {}
        self._tables: Dict[str, Dict[str, _Table]] = {name: {} for name in self._indexers}

    def _add(self, tokens: List[Token]) -> None:
        """Indexes new words, and gives them the next numbers."""
        first = len(self._numbers) + 1
        for name, indexer in self._indexers.items():
            for key, found in indexer.tokens_to_indices(tokens, self._vocab).items():
                table = self._table(name, key, isinstance(found[0], list), first + len(found) - 1)
                if table.rows.ndim == 1:
                    table.rows[first : first + len(found)] = found
                    table.lengths[first : first + len(found)] = 1
                    continue
                for number, values in enumerate(found, start=first):
                    table.rows[number, : len(values)] = values
                    table.lengths[number] = len(values)
        for number, token in enumerate(tokens, start=first):
            self._numbers[token.text or ""] = number

    def _table(self, name: str, key: str, of_lists: bool, number: int) -> _Table:
        """A table that has a row of this number."""
        table = self._tables[name].get(key)
        if table is None or number >= len(table.rows):
            size = 2 * max(number, 512)
            shape: Any = (size, _MAX_CHARACTERS) if of_lists else (size,)
            larger = _Table(numpy.zeros(shape, dtype=numpy.int32), numpy.zeros(size, dtype=numpy.int32))
            if table is not None:
                larger.rows[: len(table.rows)] = table.rows
                larger.lengths[: len(table.lengths)] = table.lengths
            self._tables[name][key] = table = larger
        return table

    def _look_up(self, name: str, table: _Table, numbers: numpy.ndarray) -> torch.Tensor:
        indexer = self._indexers[name]
        steps = max(numbers.shape[1], indexer._token_min_padding_length)
        numbers = numpy.pad(numbers, ((0, 0), (0, steps - numbers.shape[1])))
        rows = table.rows
        if rows.ndim == 2:
            width = max(int(table.lengths[numbers].max()), getattr(indexer, "_min_padding_length", 0))
            if width > _MAX_CHARACTERS:
                rows = numpy.pad(rows, ((0, 0), (0, width - _MAX_CHARACTERS)))
            rows = rows[:, :width]
        return torch.from_numpy(rows[numbers].astype(numpy.int64))


def _looks_at_one_word(indexer: TokenIndexer) -> bool:
    if type(indexer) is LdnetIndexer:
        return True
    if not isinstance(indexer, (SingleIdTokenIndexer, TokenCharactersIndexer)):
        return False
    if type(indexer) is SingleIdTokenIndexer:
        alone = indexer._feature_name == "text" and indexer.namespace is not None
    else:
        alone = type(indexer) is TokenCharactersIndexer
    return alone and not indexer._start_tokens and not indexer._end_tokens
