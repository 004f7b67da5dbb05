"""
Compatibility of AllenNLP 2.10.1 with current torch and transformers. Two of its constructors pass arguments that these
releases no longer accept. Importing this module replaces functions of AllenNLP with ones of the same signature that
omit the arguments. It also makes a folder given to `allennlp predict` an error that names the option to add.

- `reduce_on_plateau` passes `verbose`, which torch 2.7 removed.
- The `pretrained_transformer` tokenizer passes `add_special_tokens` to `AutoTokenizer.from_pretrained`. It never had an
  effect there, and transformers 4.45 and later reject it.
"""

import functools
import inspect
import os
from collections.abc import Iterator
from typing import Any

import torch
from allennlp.commands.predict import _PredictManager
from allennlp.common import cached_transformers
from allennlp.common.checks import ConfigurationError
from allennlp.training.learning_rate_schedulers.pytorch_lr_schedulers import (
    ReduceOnPlateauLearningRateScheduler,
)

_construct_plateau = ReduceOnPlateauLearningRateScheduler.__init__
_get_tokenizer = cached_transformers.get_tokenizer
_read_json = _PredictManager._get_json_data


@functools.wraps(_construct_plateau)
def construct_plateau(self: ReduceOnPlateauLearningRateScheduler, *args: Any, **kwargs: Any) -> None:
    """The constructor of `ReduceOnPlateauLearningRateScheduler`; ignores `verbose`, which printed each reduction."""
    bound = inspect.signature(_construct_plateau).bind(self, *args, **kwargs)
    bound.apply_defaults()
    options = {name: value for name, value in bound.arguments.items() if name not in ("self", "verbose")}
    self.lr_scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(**options)  # type: ignore[assignment]


@functools.wraps(_get_tokenizer)
def get_tokenizer(model_name: str, **kwargs: Any) -> Any:
    """AllenNLP's cached tokenizer, without `add_special_tokens`, which every call to the tokenizer passes again."""
    kwargs.pop("add_special_tokens", None)
    return _get_tokenizer(model_name, **kwargs)


@functools.wraps(_read_json)
def read_json(self: _PredictManager) -> Iterator[Any]:
    """The inputs of `allennlp predict` without a dataset reader."""
    if os.path.isdir(self._input_file):
        raise ConfigurationError(f"{self._input_file} is a folder: add the option --use-dataset-reader.")
    yield from _read_json(self)


ReduceOnPlateauLearningRateScheduler.__init__ = construct_plateau  # type: ignore[method-assign]
cached_transformers.get_tokenizer = get_tokenizer
_PredictManager._get_json_data = read_json  # type: ignore[method-assign]
