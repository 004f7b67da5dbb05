"""Batches of sentences for a tagger, and what it gives for them."""

import threading
from typing import Any, Callable, Dict, Iterator, List, Optional, cast

import torch
from allennlp.common.util import JsonDict
from allennlp.data import DatasetReader, Instance
from allennlp.data.fields import TextField
from allennlp.models import Model
from allennlp.nn.util import move_to_device

from ldnet_allennlp.common.gc_pause import paused_collector
from ldnet_allennlp.models.ldnet_tagger import LdnetTagger
from ldnet_allennlp.predictors.indexed_words import IndexedWords


class TaggerBatches:
    """
    Runs a tagger over sentences of any lengths: in batches of similar lengths, on a CPU several at a time.

    # Parameters

    model : `Model`
        In evaluation mode.
    reader : `DatasetReader`
        Gives instances their token indexers.
    tokens_per_batch : `int`
        The most tokens of a batch, padding included, unless one sentence has more.
    num_workers : `int`
        The most batches that are computed at a time, each with a share of torch's threads. Only of an "ldnet_tagger"
        on a CPU whose modules carry no states from one batch to the next.
    """

    def __init__(self, model: Model, reader: DatasetReader, tokens_per_batch: int, num_workers: int) -> None:
        self._model = model
        self._reader = reader
        self._tokens_per_batch = tokens_per_batch
        self._num_workers = num_workers
        self._words: Optional[IndexedWords] = None
        self._lock = threading.Lock()

    def outputs(
        self,
        instances: List[Instance],
        finish: Callable[[Instance, JsonDict], JsonDict] = lambda instance, output: output,
    ) -> List[JsonDict]:
        """
        What `Model.forward_on_instances` gives for each, in their order; no tags where there are no words.

        # Parameters

        instances : `List[Instance]`
        finish : `Callable[[Instance, JsonDict], JsonDict]`, optional
            Called by the worker with each instance and what was found: its result is given out.
        """

        def outputs_of(positions: List[int]) -> List[JsonDict]:
            batch = [instances[position] for position in positions]
            return [finish(instance, output) for instance, output in zip(batch, self._forward(batch))]

        outputs: List[Optional[JsonDict]] = [None] * len(instances)
        with paused_collector():
            for positions in self._batches(instances):
                for position, output in zip(positions, outputs_of(positions)):
                    outputs[position] = output
        return [
            finish(instance, {"tags": []}) if output is None else output
            for instance, output in zip(instances, outputs)
        ]

    def _batches(self, instances: List[Instance]) -> Iterator[List[int]]:
        """The positions of the sentences with words, the longest batches first: a worker that ends with one is late."""
        lengths = [len(cast(TextField, instance["tokens"])) for instance in instances]
        characters = [
            sum(len(token.text or "") for token in cast(TextField, instance["tokens"]).tokens)
            for instance in instances
        ]
        in_order = sorted(
            (position for position, length in enumerate(lengths) if length > 0),
            key=lambda position: (-lengths[position], -characters[position]),
        )
        batch: List[int] = []
        for position in in_order:
            # All are padded to the first one.
            if batch and (len(batch) + 1) * lengths[batch[0]] > self._tokens_per_batch:
                yield batch
                batch = []
            batch.append(position)
        if batch:
            yield batch

    def _forward(self, batch: List[Instance]) -> List[JsonDict]:
        for instance in batch:
            self._reader.apply_token_indexers(instance)
        fields = [cast(TextField, instance["tokens"]) for instance in batch]
        indexers = fields[0]._token_indexers
        if (
            not isinstance(self._model, LdnetTagger)
            or any(set(instance.fields) - {"tokens", "metadata"} for instance in batch)
            or indexers is None
            or not IndexedWords.serves(indexers)
        ):
            return cast(List[JsonDict], self._model.forward_on_instances(batch))
        with self._lock:
            if self._words is None:
                self._words = IndexedWords(indexers, self._model.vocab)
        tensors = self._words.tensors([field.tokens for field in fields])
        if tensors is None:
            return cast(List[JsonDict], self._model.forward_on_instances(batch))
        with torch.no_grad():
            moved = move_to_device(tensors, self._model._get_prediction_device())
            output = self._model.make_output_human_readable(self._model(tokens=moved))
        return _separated(output, len(batch))


def _separated(output: Dict[str, Any], batch_size: int) -> List[JsonDict]:
    """An output for each sentence, as `Model.forward_on_instances` makes it."""
    outputs: List[JsonDict] = [{} for _ in range(batch_size)]
    for name, values in output.items():
        if isinstance(values, torch.Tensor):
            values = values.detach().cpu().numpy()
        for row, value in enumerate(values):
            outputs[row][name] = value
    return outputs
