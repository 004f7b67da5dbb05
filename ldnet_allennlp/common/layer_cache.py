"""Keeps what frozen language models say about the sentences of a training on disk, for later epochs and trainings."""

import itertools
import json
import logging
import os
from hashlib import blake2b, sha256
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import numpy
import torch
from allennlp.common.checks import ConfigurationError

from ldnet_allennlp.common.vector_store import VectorStore
from ldnet_allennlp.modules.embedders.frozen_language_model import LanguageModelLayers
from ldnet_allennlp.modules.rnn.dense_rnn_stack import LayerDropout

logger = logging.getLogger(__name__)

# Another number leaves all older caches alone: for each change of what a language model computes from its weights.
FORMAT = 1
DTYPES = ("float32", "float16")

# What a tensor was when it was looked at: its object, its memory, and how often it was changed in place.
_State = List[Tuple[int, int, int]]


class _Open(NamedTuple):
    """A store and what it was opened for."""

    state: _State
    setting: str
    store: VectorStore
    tensors: List[torch.Tensor]
    """Kept, so that no other tensor gets the identity of one of these."""


class LayerCache:
    """
    A frozen language model gives a sentence the same vectors in each epoch. This keeps them in a directory, and
    computes only those of new sentences. It takes `size of all layers x 4` bytes a token for each language model
    (13.2 kB at the published sizes), or half of that.

    The vectors are found by the sentence's word ids, in a directory for the language model whose name is a hash of
    all its weights and of what else they depend on. So a cache may serve many trainings, and another language model
    never reads from it. It may be deleted at any time when no training runs.

    # Parameters

    directory : `str`
        Is created when it is first used.
    dtype : `str`, optional (default = `"float32"`)
        "float32", or "float16" for half of the space and vectors that are rounded to 11 significant bits.

    Raises `ConfigurationError` for another dtype; and when it is first used, if `directory` is a file.
    """

    def __init__(self, directory: str, dtype: str = "float32") -> None:
        if dtype not in DTYPES:
            raise ConfigurationError(
                f"The cache_dtype of an ldnet token embedder is {' or '.join(DTYPES)}, but '{dtype}' was found."
            )
        self.directory = directory
        self.dtype = dtype
        self._stores: Dict[int, _Open] = {}

    def __getstate__(self) -> Dict[str, Any]:
        return {**self.__dict__, "_stores": {}}  # a copy, or another process, opens its own

    def read(self, model: LanguageModelLayers, token_ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """
        What `model(token_ids, mask)` gives, a tensor of shape (B, T, output size): from the disk where it is there. A
        model whose vectors cannot be kept is computed, see `can_be_kept`.
        """
        if not can_be_kept(model):
            return model(token_ids, mask)
        store = self._store_of(model, token_ids.device)
        sentences = _sentences(token_ids)
        keys = [_key(sentence) for sentence in sentences]
        found = {key: store.get(key) for key, sentence in zip(keys, sentences) if len(sentence)}
        if any(rows is None for rows in found.values()):
            store.refresh()
            found = {key: store.get(key) for key in found}
            missing = {key: row for row, key in enumerate(keys) if key in found and found[key] is None}
            if missing:
                computed = self._compute(model, token_ids, mask, sentences, missing)
                found.update(computed)
                store.add(computed)
        vectors = numpy.zeros((*token_ids.shape, model.get_output_dim()), dtype=numpy.float32)
        for row, (key, sentence) in enumerate(zip(keys, sentences)):
            if len(sentence):
                vectors[row, : len(sentence)] = found[key]
        return torch.from_numpy(vectors).to(token_ids.device, model.selection.gates.dtype)

    def _compute(
        self,
        model: LanguageModelLayers,
        token_ids: torch.Tensor,
        mask: torch.Tensor,
        sentences: List[numpy.ndarray],
        missing: Dict[bytes, int],
    ) -> Dict[bytes, numpy.ndarray]:
        rows = list(missing.values())
        longest = max(len(sentences[row]) for row in rows)
        chosen = torch.tensor(rows, device=token_ids.device)
        with torch.no_grad():
            vectors = model(
                token_ids[chosen, :longest], mask[chosen, :longest]
            )  # (rows, longest, output size)
        # Rounded here, so that the first epoch reads what the later ones do.
        arrays = vectors.float().cpu().numpy().astype(self.dtype)
        return {key: array[: len(sentences[row])] for (key, row), array in zip(missing.items(), arrays)}

    def _store_of(self, model: LanguageModelLayers, device: torch.device) -> VectorStore:
        """The model's own store; another one as soon as the model, or how it is computed, has changed."""
        state, setting = _state(model), _setting(device)
        known = self._stores.get(id(model))
        if known is not None and (known.state, known.setting) == (state, setting):
            return known.store
        if os.path.exists(self.directory) and not os.path.isdir(self.directory):
            raise ConfigurationError(
                f"The cache of an ldnet token embedder is a directory, but '{self.directory}' is a file."
            )
        name = fingerprint(model, setting)
        store = VectorStore(
            os.path.join(self.directory, f"{model.direction}-{name}-{self.dtype}"),
            model.get_output_dim(),
            self.dtype,
        )
        logger.info(
            "The %s language model's vectors of %d sentences, %d tokens are in '%s'; %d bytes a token.",
            model.direction,
            len(store),
            store.num_rows,
            store.directory,
            store.size * store.dtype.itemsize,
        )
        tensors = [tensor for _, tensor in _tensors(model)]
        self._stores[id(model)] = _Open(state, setting, store, tensors)
        return store


def can_be_kept(model: LanguageModelLayers) -> bool:
    """Whether nothing in a language model is trained or dropped; its vectors have at most the precision of float32."""
    if model.selection.gates.dtype == torch.float64 or any(
        weight.requires_grad for weight in model.parameters()
    ):
        return False
    return not any(
        isinstance(module, (torch.nn.Dropout, LayerDropout)) and module.p > 0 for module in model.modules()
    )


def fingerprint(model: LanguageModelLayers, setting: str = "") -> str:
    """A hash of all that the vectors depend on beside the word ids: weights, gates, layout, boundary, `setting`."""
    digest = sha256()
    about = [FORMAT, model.direction, model.boundary_id, model.describe(), setting]
    digest.update(json.dumps(about, sort_keys=True).encode())
    for name, tensor in _tensors(model):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        content = tensor.detach().cpu().contiguous().flatten()
        if content.numel():
            digest.update(content.view(torch.uint8).numpy().data)
    return digest.hexdigest()[:32]


def _tensors(model: torch.nn.Module) -> List[Tuple[str, torch.Tensor]]:
    return list(itertools.chain(model.named_parameters(), model.named_buffers()))


def _state(model: LanguageModelLayers) -> _State:
    """Changes with each change of a weight (but for those through `.data`), so that none is hashed in each step."""
    return [(id(tensor), tensor.data_ptr(), tensor._version) for _, tensor in _tensors(model)]


def _setting(device: torch.device) -> str:
    """What the rounding of the vectors depends on."""
    autocast: Optional[torch.dtype] = None
    if device.type == "cpu" and torch.is_autocast_cpu_enabled():
        autocast = torch.get_autocast_cpu_dtype()
    elif device.type == "cuda" and torch.is_autocast_enabled():
        autocast = torch.get_autocast_gpu_dtype()
    return f"{device.type} {autocast}"


def _key(sentence: numpy.ndarray) -> bytes:
    return blake2b(sentence.tobytes(), digest_size=16).digest()


def _sentences(token_ids: torch.Tensor) -> List[numpy.ndarray]:
    """The ids of each row, without the padding at its end."""
    sentences = []
    for row in token_ids.cpu().numpy():
        words = numpy.flatnonzero(row)
        sentences.append(row[: int(words[-1]) + 1 if len(words) else 0])
    return sentences
