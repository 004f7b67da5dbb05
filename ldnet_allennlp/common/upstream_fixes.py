"""
Compatibility of AllenNLP 2.10.1 with current torch and transformers. Two of its constructors pass arguments that these
releases no longer accept. Importing this module replaces both with constructors of the same signature that omit the
arguments. It also makes a folder given to `allennlp predict` an error that names the option to add.

- `reduce_on_plateau` passes `verbose`, which torch 2.7 removed.
- The `pretrained_transformer` tokenizer passes `add_special_tokens` to `AutoTokenizer.from_pretrained`. It never had an
  effect there, and transformers 4.45 and later reject it.
"""

import functools
import os
from collections.abc import Iterator
from typing import Any

import torch
from allennlp.commands.predict import _PredictManager
from allennlp.common import cached_transformers
from allennlp.common.checks import ConfigurationError
from allennlp.data.tokenizers.pretrained_transformer_tokenizer import PretrainedTransformerTokenizer
from allennlp.training.learning_rate_schedulers.pytorch_lr_schedulers import (
    ReduceOnPlateauLearningRateScheduler,
)
from allennlp.training.optimizers import Optimizer

_construct_tokenizer = PretrainedTransformerTokenizer.__init__
_get_tokenizer = cached_transformers.get_tokenizer
_read_json = _PredictManager._get_json_data


def construct_plateau(
    self: ReduceOnPlateauLearningRateScheduler,
    optimizer: Optimizer,
    mode: str = "min",
    factor: float = 0.1,
    patience: int = 10,
    verbose: bool = False,
    threshold_mode: str = "rel",
    threshold: float = 1e-4,
    cooldown: int = 0,
    min_lr: float | list[float] = 0,
    eps: float = 1e-8,
) -> None:
    """The constructor of `ReduceOnPlateauLearningRateScheduler`; ignores `verbose`, which printed each reduction."""
    self.lr_scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(  # type: ignore[assignment]
        optimizer=optimizer,
        mode=mode,  # type: ignore[arg-type]
        factor=factor,
        patience=patience,
        threshold_mode=threshold_mode,  # type: ignore[arg-type]
        threshold=threshold,
        cooldown=cooldown,
        min_lr=min_lr,
        eps=eps,
    )


@functools.wraps(_get_tokenizer)
def get_tokenizer(model_name: str, **kwargs: Any) -> Any:
    """AllenNLP's cached tokenizer, without `add_special_tokens`, which every call to the tokenizer passes again."""
    kwargs.pop("add_special_tokens", None)
    return _get_tokenizer(model_name, **kwargs)


@functools.wraps(_construct_tokenizer)
def construct_tokenizer(self: PretrainedTransformerTokenizer, *args: Any, **kwargs: Any) -> None:
    """The constructor of `PretrainedTransformerTokenizer`; looks up `get_tokenizer` when it runs."""
    cached_transformers.get_tokenizer = get_tokenizer
    _construct_tokenizer(self, *args, **kwargs)


@functools.wraps(_read_json)
def read_json(self: _PredictManager) -> Iterator[Any]:
    """The inputs of `allennlp predict` without a dataset reader."""
    if os.path.isdir(self._input_file):
        raise ConfigurationError(f"{self._input_file} is a folder: add the option --use-dataset-reader.")
    yield from _read_json(self)


ReduceOnPlateauLearningRateScheduler.__init__ = construct_plateau  # type: ignore[method-assign]
PretrainedTransformerTokenizer.__init__ = construct_tokenizer  # type: ignore[method-assign]
_PredictManager._get_json_data = read_json  # type: ignore[method-assign]
