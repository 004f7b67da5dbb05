"""Continue training from an archived tagger, with new words, characters and labels."""

import logging
import re
from typing import Any

import torch
from allennlp.common.checks import ConfigurationError
from allennlp.data import Vocabulary
from allennlp.models import Model
from allennlp.modules import ConditionalRandomField, TimeDistributed
from allennlp.nn import Initializer
from overrides import overrides

from ldnet_allennlp.common.archives import read_archive
from ldnet_allennlp.data.language_model_vocabulary import words_of
from ldnet_allennlp.modules.chunks.tie_or_break_loss import score_names

logger = logging.getLogger(__name__)

_CONSTRAINTS = "crf._constraint_mask"
_LANGUAGE_MODEL = re.compile(r".*\blanguage_models\.\w+\.")


@Initializer.register("continue_from")
class ContinueFrom(Initializer):
    """
    Copies the weights of an archived tagger. Rows of words, characters, labels and types are matched by name, so the
    vocabulary may differ; new rows keep their initial values. Vocabulary namespaces are matched by size. The new
    tagger's archive does not need the old one, because AllenNLP skips initializers when it loads an archive.

    Registered as an `Initializer` with name "continue_from".

    # Parameters

    archive_file : `str`
        The tagger's archive.
    vocab : `Vocabulary`
        The new tagger's vocabulary; AllenNLP provides it.

    Raises `ConfigurationError` if the archive is missing, holds no tagger, or has other or pruned language models.
    """

    def __init__(self, archive_file: str, vocab: Vocabulary) -> None:
        self._archive_file = archive_file
        self._vocab = vocab
        self._old: Model | None = None
        self._weights: dict[str, torch.Tensor] = {}

    @overrides(check_signature=False)
    def __call__(self, tensor: torch.Tensor, parameter_name: str, **kwargs: Any) -> None:  # type: ignore[override]
        if self._old is None:
            self._old = read_archive(self._archive_file, trust=True).model
            self._weights = self._old.state_dict()
            if not hasattr(self._old, "tag_projection_layer"):
                raise ConfigurationError(
                    f"continue_from takes a tagger's archive, but '{self._archive_file}' was made for the "
                    f"model type {type(self._old).__name__}."
                )
        old = self._weights.get(parameter_name)
        if parameter_name == _CONSTRAINTS:
            return
        self._check_language_model(tensor, parameter_name, old)
        if old is None or old.dim() != tensor.dim():
            logger.warning("%s: not in %s, keeps its initial values.", parameter_name, self._archive_file)
            return
        with torch.no_grad():
            matched = old
            for dim in range(old.dim()):
                namespace = self._namespace(parameter_name, dim, old.size(dim), tensor.size(dim))
                if namespace is not None:
                    matched = self._matched(matched, parameter_name, dim, namespace)
            if matched.size() != tensor.size():
                logger.warning(
                    f"{parameter_name}: size {tuple(old.size())} in {self._archive_file}, but {tuple(tensor.size())} "
                    f"now, keeps its initial values."
                )
                return
            # Where the archive has nothing, `_matched` left NaN.
            tensor.copy_(torch.where(matched.isnan(), tensor, matched.to(tensor)))

    def _check_language_model(self, tensor: torch.Tensor, name: str, old: torch.Tensor | None) -> None:
        prefix = _LANGUAGE_MODEL.match(name)
        if prefix is None or not any(other.startswith(prefix[0]) for other in self._weights):
            return
        is_other = old is None or old.size() != tensor.size()
        # Word vectors show which model it is, unless they are trained, or NaN because none were read.
        if (
            old is not None
            and not is_other
            and name.endswith("embedding.weight")
            and not tensor.requires_grad
        ):
            old = old.to(tensor)  # which may be in float16
            is_other = not torch.allclose(tensor.where(~tensor.isnan(), old), old, rtol=1e-2, atol=1e-3)
        if is_other:
            raise ConfigurationError(
                f"'{self._archive_file}' has other language models than the new tagger, or they are pruned: "
                f"'{name}' differs. Name the language models that it was trained with, and continue from the "
                f"unpruned archive."
            )

    def _namespace(self, name: str, dim: int, old_size: int, size: int) -> str | None:
        """The vocabulary namespace of a dimension, or `None`."""
        assert self._old is not None
        if name.startswith(("crf.", "tag_projection_layer.")):
            is_of_labels = name.startswith("crf.") or dim == 0
            return getattr(self._old, "label_namespace", "labels") if is_of_labels else None
        if dim > 0 or not name.endswith("weight"):
            return None
        candidates = [
            namespace
            for namespace in self._old.vocab._token_to_index
            if self._old.vocab.get_vocab_size(namespace) == old_size
            and self._vocab.get_vocab_size(namespace) == size
        ]
        named = [namespace for namespace in candidates if namespace in name]
        return max(named or candidates[:1], key=len, default=None)

    def _matched(self, old: torch.Tensor, name: str, dim: int, namespace: str) -> torch.Tensor:
        """`old` with the entries of a dimension in the order of the new vocabulary, NaN for new entries."""
        assert self._old is not None
        old_names: list[Any] = words_of(self._old.vocab, namespace)
        names: list[Any] = words_of(self._vocab, namespace)
        if name.startswith("tag_projection_layer.") and hasattr(self._old, "tie_or_break_loss"):
            old_names, names = score_names(old_names), score_names(names)
        ids = {old_name: row for row, old_name in enumerate(old_names)}
        rows = torch.tensor([ids.get(new_name, -1) for new_name in names])
        matched = old.index_select(dim, rows.clamp(min=0))
        is_new = (rows < 0).view([-1 if axis == dim else 1 for axis in range(old.dim())])
        return matched.masked_fill(is_new, float("nan"))


def grow_labels(model: Any) -> None:
    """
    Add rows to an `ldnet_tagger` for new labels in its vocabulary, for AllenNLP's `from_archive`. The rows of old
    labels keep their values.
    """
    old_size, size = model.num_tags, model.vocab.get_vocab_size(model.label_namespace)
    if size == old_size:
        return
    old_layer, old_crf = model.tag_projection_layer._module, model.crf
    layer = torch.nn.Linear(old_layer.in_features, size).to(old_layer.weight)
    weights: list[float] = getattr(model, "label_weights", [])
    weights.extend([1.0] * (size - old_size) if weights else [])
    model.num_tags = size
    model.tag_projection_layer = TimeDistributed(layer)
    model.set_labels(ConditionalRandomField(size, None, old_crf.include_start_end_transitions))
    model.crf.to(old_layer.weight)
    old_parameters = dict(old_crf.named_parameters())
    pairs = [
        (parameter, old_parameters[name])
        for name, parameter in model.crf.named_parameters()
        if name != "_constraint_mask"
    ]
    with torch.no_grad():
        if model.loss == "softmax":  # the transitions stay 0
            for parameter, _ in pairs:
                parameter.zero_()
        for parameter, old in [(layer.weight, old_layer.weight), (layer.bias, old_layer.bias), *pairs]:
            parameter[tuple(slice(0, length) for length in old.size())] = old
            parameter.requires_grad_(old.requires_grad)
