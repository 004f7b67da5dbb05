"""
Lets AllenNLP 2.10 load the tokenizers of recent releases of `transformers`.

AllenNLP gives `add_special_tokens` to `AutoTokenizer.from_pretrained`, where it has no effect: AllenNLP says it again
in every call. Recent tokenizers (transformers 4.45, say) refuse it: "add_special_tokens conflicts with the method
add_special_tokens in BertTokenizerFast". So no "pretrained_transformer" part of AllenNLP works with them. Importing
this module leaves the argument out, and changes nothing else.
"""

import functools
from typing import Any, Callable

from allennlp.common import cached_transformers


def without_special_tokens_argument(get_tokenizer: Callable[..., Any]) -> Callable[..., Any]:
    """`get_tokenizer(model_name, **kwargs)` without `add_special_tokens` among the arguments."""

    @functools.wraps(get_tokenizer)
    def get_loadable_tokenizer(model_name: str, **kwargs: Any) -> Any:
        kwargs.pop("add_special_tokens", None)
        return get_tokenizer(model_name, **kwargs)

    return get_loadable_tokenizer


cached_transformers.get_tokenizer = without_special_tokens_argument(cached_transformers.get_tokenizer)
