"""On-disk cache of frozen LM outputs, for later epochs and trainings."""

import contextlib
import itertools
import json
import logging
import os
from collections.abc import Iterator
from hashlib import blake2b, sha256
from typing import TYPE_CHECKING, Any

import numpy
import torch
from allennlp.common.checks import ConfigurationError

from ldnet_allennlp.common.checks import check_choice
from ldnet_allennlp.common.vector_store import VectorStore

if TYPE_CHECKING:
    from ldnet_allennlp.modules.embedders.frozen_language_model import FrozenLanguageModel

logger = logging.getLogger(__name__)

# Increase this number when language models compute other vectors from the same weights. Older caches are then ignored.
FORMAT = 1
DTYPES = ("float32", "float16")


class LayerCache:
    """
    On-disk cache of frozen LM outputs. A frozen language model computes the same vectors for a sentence in each epoch.
    The cache stores them in a directory and computes only those of new sentences. It takes `size of all layers x 4`
    bytes per token and language model (13.2 kB at the published sizes), or half of that.

    Vectors are keyed by the sentence's word ids, in one file per language model, named by a hash of its weights and of
    all other settings that affect them, so any number of trainings can share a cache. The last bits of a vector depend
    on the batch that computed it, so a training repeats exactly only with a cache of its own. You can delete the cache
    when no training runs.

    # Parameters

    directory : `str`
        Created when it is first used.
    dtype : `str`, optional (default = `"float32"`)
        "float32", or "float16" for half the space and vectors rounded to 11 significant bits.

    Raises `ConfigurationError` for any other dtype, and, at the first use, if `directory` is a file.
    """

    def __init__(self, directory: str, dtype: str = "float32") -> None:
        check_choice(DTYPES, "an ldnet token embedder", cache_dtype=dtype)
        self.directory = directory
        self.dtype = dtype
        # By the identity of a model: its state, its store, and its tensors, so that no others get their identities.
        self._stores: dict[int, tuple[Any, VectorStore, list[torch.Tensor]]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_stores": {}}  # a copy, or another process, opens the stores again

    def read(self, model: "FrozenLanguageModel", token_ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """
        The vectors of a `FrozenLanguageModel`, `model(token_ids, mask)`, shape (B, T, output size), from the cache
        where possible. See `can_be_kept` for models without caching.
        """
        if not can_be_kept(model):
            return model(token_ids, mask)
        store = self._store_of(model, token_ids.device)
        sentences = _sentences(token_ids)
        keys = [blake2b(sentence.tobytes(), digest_size=16).digest() for sentence in sentences]
        rows = {key: row for row, key in enumerate(keys) if len(sentences[row])}
        stored = store.get(list(rows))
        # A damaged file may have arrays of other lengths.
        arrays = {key: array for key, array in stored.items() if len(array) == len(sentences[rows[key]])}
        missing = {key: row for key, row in rows.items() if key not in arrays}
        if missing:
            computed = self._compute(model, token_ids, mask, sentences, missing)
            arrays.update(computed)
            store.add(computed)
        vectors = numpy.zeros((*token_ids.shape, model.get_output_dim()), dtype=numpy.float32)
        for row, (key, sentence) in enumerate(zip(keys, sentences)):
            if len(sentence):
                vectors[row, : len(sentence)] = arrays[key]
        return torch.from_numpy(vectors).to(token_ids.device, model.dtype)

    def _compute(
        self,
        model: "FrozenLanguageModel",
        token_ids: torch.Tensor,
        mask: torch.Tensor,
        sentences: list[numpy.ndarray],
        missing: dict[bytes, int],
    ) -> dict[bytes, numpy.ndarray]:
        rows = list(missing.values())
        longest = max(len(sentences[row]) for row in rows)
        chosen = torch.tensor(rows, device=token_ids.device)
        with torch.no_grad():
            vectors = model(
                token_ids[chosen, :longest], mask[chosen, :longest]
            )  # (rows, longest, output size)
        # Rounded here, so that the first epoch reads the same vectors as the later ones.
        arrays = vectors.float().cpu().numpy().astype(self.dtype)
        return {key: array[: len(sentences[row])] for (key, row), array in zip(missing.items(), arrays)}

    def _store_of(self, model: "FrozenLanguageModel", device: torch.device) -> VectorStore:
        """The store of a model's current state; a new one after its weights or precision have changed."""
        # The device and precision determine the rounding of the vectors.
        is_autocast = torch.is_autocast_enabled(device.type)
        setting = f"{device.type} {torch.get_autocast_dtype(device.type) if is_autocast else None}"
        tensors = [tensor for _, tensor in _tensors(model)]
        # Changes with the weights (except through `.data`), so that steps need not hash them.
        state = (setting, [(id(tensor), tensor.data_ptr(), tensor._version) for tensor in tensors])
        opened = self._stores.get(id(model))
        if opened is not None and opened[0] == state:
            return opened[1]
        if os.path.exists(self.directory) and not os.path.isdir(self.directory):
            raise ConfigurationError(
                f"The cache of an ldnet token embedder is a directory, but '{self.directory}' is a file."
            )
        name = f"{model.direction}-{fingerprint(model, setting)}-{self.dtype}.sqlite"
        store = VectorStore(os.path.join(self.directory, name), model.get_output_dim(), self.dtype)
        logger.info(
            "The %s language model's vectors of %d sentences are in '%s'; %d bytes per token.",
            model.direction,
            len(store),
            store.path,
            store.size * store.dtype.itemsize,
        )
        self._stores[id(model)] = state, store, tensors
        return store


@contextlib.contextmanager
def cached_evaluation(model: torch.nn.Module) -> Iterator[None]:
    """
    Context in which a model's "ldnet" embedders use their `cache` in evaluation mode, too, for validation during
    training.
    """
    embedders: list[Any] = [module for module in model.modules() if hasattr(module, "caches_evaluation")]
    for embedder in embedders:
        embedder.caches_evaluation = True
    try:
        yield
    finally:
        for embedder in embedders:
            embedder.caches_evaluation = False


def can_be_kept(model: "FrozenLanguageModel") -> bool:
    """Return whether a model's vectors are the same in each epoch and have a precision that the cache supports."""
    return model.is_fixed() and model.dtype != torch.float64


def fingerprint(model: "FrozenLanguageModel", setting: str = "") -> str:
    """
    A hash of everything that the vectors depend on except the word ids: weights, gates, layout, boundary, `setting`.
    """
    digest = sha256()
    about = [FORMAT, model.direction, model.boundary_id, model.describe(), setting]
    digest.update(json.dumps(about, sort_keys=True).encode())
    for name, tensor in _tensors(model):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        content = tensor.detach().cpu().contiguous().flatten()
        if content.numel():
            digest.update(content.view(torch.uint8).numpy().data)
    return digest.hexdigest()[:32]


def _tensors(model: "FrozenLanguageModel") -> list[tuple[str, torch.Tensor]]:
    return list(itertools.chain(model.named_parameters(), model.named_buffers()))


def _sentences(token_ids: torch.Tensor) -> list[numpy.ndarray]:
    """The ids of each row, without the padding at its end."""
    sentences = []
    for row in token_ids.cpu().numpy():
        words = numpy.flatnonzero(row)
        sentences.append(row[: int(words[-1]) + 1 if len(words) else 0])
    return sentences
