"""
Types that the config of an untrusted archive may contain.

AllenNLP constructs whatever a "type" names: a registered class, or any class or function that can be imported. Some of
its own types load a second archive, fetch files or run code that they find. So an archive is opened only if all its
types are from this package, or are AllenNLP types listed here: layers, losses, text readers and the like.
"""

import contextlib
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

from allennlp.common.checks import ConfigurationError
from allennlp.common.registrable import Registrable

_PACKAGE = "ldnet_allennlp."
_NAMES = """
crf_tagger simple_tagger basic_classifier language_model bidirectional-language-model multitask classifier
basic embedding character_encoding empty bag_of_word_counts pass_through compose feedforward gated-cnn-encoder
gru lstm rnn augmented_lstm alternating_lstm stacked_bidirectional_lstm pytorch_transformer
bidirectional_language_model_transformer bag_of_embeddings boe cls_pooler cnn cnn-highway
bilinear additive cosine dot_product linear scaled_dot_product
relu relu6 elu gelu prelu leaky_relu threshold hardtanh sigmoid tanh log_sigmoid softplus softshrink softsign
tanhshrink selu mish swish gelu_new gelu_fast
normal orthogonal uniform constant dirac xavier_uniform xavier_normal kaiming_uniform kaiming_normal sparse eye
block_orthogonal uniform_unit_scaling zero lstm_hidden_bias pretrained l1 l2
single_id characters elmo_characters letters_digits character just_spaces whitespace
conll2003 conll2000 ccgbank ontonotes_ner sequence_tagging simple_language_modeling text_classification_json
sharded interleaving from_files from_instances extend
multiprocess simple bucket max_tokens_sampler allennlp
default no_op gradient_descent adam sparse_adam adamax adamw huggingface_adamw huggingface_adafactor adagrad
adadelta sgd rmsprop averaged_sgd dense_sparse_adam multi constant_with_warmup cosine_with_warmup
cosine_hard_restarts_with_warmup step multi_step exponential reduce_on_plateau combined noam slanted_triangular
polynomial_decay linear_with_warmup inverted_triangular null console_logger confidence_checks sanity_checks
tensorboard track_epoch_callback mixed_precision_backward should_validate_callback torch
average boolean_accuracy categorical_accuracy entropy fbeta fbeta_verbose fbeta_multi_label f1 f1_multi_label
mean_absolute_error perplexity sequence_accuracy span_f1 auc
"""
_ALLOWED = frozenset(_NAMES.split())
_ADDRESS = ("http://", "https://", "s3://", "gs://", "hf://")
_BUILT = ("model", "dataset_reader", "validation_dataset_reader", "vocabulary")
# AllenNLP skips the first two when it loads a model. A cache is a directory of the machine that trained it.
_LEFT_OUT = ("pretrained_file", "initializer", "cache", "cache_dtype")

_REFUSED_KEYS = {"trust_remote_code": "which runs remote code", "_pretrained": "which loads another archive"}

_lock = threading.RLock()
_is_restricted: ContextVar[bool] = ContextVar("is_restricted", default=False)


class ForbiddenType(ConfigurationError):
    """An untrusted archive's config contains a forbidden type."""


def check_types(config: dict[str, Any], is_trained: bool = True) -> None:
    """
    Check the config of an archive; with `is_trained=False`, only the parts that predictions need.

    Raises `ForbiddenType`, with the type or the key, if the config names a type that is not allowed, requests remote
    code, or fetches a part that predictions need from a URL.
    """
    built = {name: config[name] for name in _BUILT if name in config}
    for key, value in items(config if is_trained else built):
        if key == "type" and isinstance(value, str) and not _is_allowed(value):
            raise ForbiddenType(_refusal(value))
        if key in _REFUSED_KEYS and value:
            raise ForbiddenType(f"its config has the key {key!r}, {_REFUSED_KEYS[key]}")
    for key, value in items(_stripped(built)):
        if isinstance(value, str) and value.lower().startswith(_ADDRESS):
            raise ForbiddenType(f"its config fetches {key} from the address {value!r:.100}")


def without_files(config: dict[str, Any]) -> dict[str, Any]:
    """The config without the parts that a loaded model does not need: files of initial weights, and caches."""
    return {name: _stripped(value) if name in _BUILT else value for name, value in config.items()}


def named_files(config: dict[str, Any]) -> list[str]:
    """The parts that `without_files` leaves out, with their values."""
    built = {name: config[name] for name in _BUILT if name in config}
    return [f"{key} {value!r:.100}" for key, value in items(built) if key in _LEFT_OUT and value]


@contextlib.contextmanager
def restricted_types() -> Iterator[None]:
    """
    Context in which AllenNLP constructs allowed types only, even if a config names a type by a plain string. Other
    threads are not affected.
    """
    with _lock:  # of two contexts at once, one would restore the other's function
        original = Registrable.__dict__["resolve_class_name"]

        def resolve(cls: Any, name: str) -> tuple[Any, str | None]:
            if _is_restricted.get() and not _is_allowed(name, cls):
                raise ForbiddenType(_refusal(name))
            return original.__func__(cls, name)

        token = _is_restricted.set(True)
        Registrable.resolve_class_name = classmethod(resolve)  # type: ignore[assignment, method-assign]
        try:
            yield
        finally:
            Registrable.resolve_class_name = original  # type: ignore[method-assign]
            _is_restricted.reset(token)


def _is_allowed(name: str, base: Any = None) -> bool:
    """Return whether a type is allowed. AllenNLP reports unregistered names, with a better message."""
    registries = Registrable._registry
    classes = [
        entries[name][0]
        for kind, entries in list(registries.items())
        if name in entries and (base is None or kind is base)
    ]
    if classes and all(part.__module__.startswith(_PACKAGE) for part in classes):
        return True
    if "." in name:
        return name.startswith(_PACKAGE) and any(
            part.__name__ == name.rpartition(".")[2] and part.__module__.startswith(_PACKAGE)
            for entries in list(registries.values())
            for part, _ in entries.values()
        )
    return name in _ALLOWED or not classes


def _refusal(name: str) -> str:
    return (
        f"its config has the type {name!r:.100}, which is not among the layers, readers and the like that an archive "
        f"of unknown origin may use"
    )


def items(node: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """All keys of a config with their values, in order. Elements of lists have the key of their list."""
    yield key, node
    if isinstance(node, dict):
        for name, child in node.items():
            yield from items(child, name)
    elif isinstance(node, list):
        for child in node:
            yield from items(child, key)


def _stripped(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _stripped(value) for key, value in node.items() if key not in _LEFT_OUT}
    return [_stripped(value) for value in node] if isinstance(node, list) else node
