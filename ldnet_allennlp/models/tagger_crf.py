"""CRF of an "ldnet_tagger"."""

from collections.abc import Sequence
from typing import Any

import torch
from allennlp.common.checks import ConfigurationError
from allennlp.data import Vocabulary
from allennlp.modules import ConditionalRandomField
from allennlp.modules.conditional_random_field import allowed_transitions

from ldnet_allennlp.data.conll.tag_field import UNSEEN
from ldnet_allennlp.modules.crf.boundary_tag_crf import BoundaryTagCrf
from ldnet_allennlp.modules.crf.conditional_random_field import FastConditionalRandomField
from ldnet_allennlp.modules.crf.label_weighted import LabelWeightedCrf
from ldnet_runtime.tag_schemes import canonical_encoding

# IOBES and BMES are BIOUL in other letters. AllenNLP's "BMES" is word segmentation: it has no "O".
_LETTERS_OF_BIOUL = {
    "IOBES": {"E": "L", "S": "U"},
    "BMES": {"M": "I", "E": "L", "S": "U", "W": "U"},
}


def crf_from_crf_tagger(
    crf: ConditionalRandomField,
    labels: Sequence[str],
    label_encoding: str | None,
    label_weights: list[float] | None = None,
    weight_strategy: str | None = None,
    boundary_tags: Sequence[str] = (),
) -> FastConditionalRandomField:
    """
    Replace the CRF that allennlp-models' `CrfTagger` builds; its options and parameters are kept. `labels` are all tags
    in the order of their ids. `label_encoding` constrains decoding; `None` for no constraints. For the other options,
    see `LdnetTagger`.

    Raises `ConfigurationError` if the labels are not in the encoding, or if boundary tags are not two of the labels or
    are combined with label weights.
    """
    constraints = None
    if label_encoding is not None:
        check_letters(labels, label_encoding)
        letters = _LETTERS_OF_BIOUL.get(label_encoding, {})
        spelled = [letters.get(label[:1], label[:1]) + label[1:] for label in labels]
        constraints = allowed_transitions("BIOUL" if letters else label_encoding, dict(enumerate(spelled)))
    if boundary_tags:
        if label_weights is not None:
            raise ConfigurationError("Found label_weights and boundary_tags, expected only one of them.")
        return BoundaryTagCrf(len(labels), _boundary_ids(labels, boundary_tags), constraints)
    built: FastConditionalRandomField
    if label_weights is None:
        built = FastConditionalRandomField(len(labels), constraints, crf.include_start_end_transitions)
    else:
        built = LabelWeightedCrf(
            len(labels), label_weights, constraints, crf.include_start_end_transitions, weight_strategy
        )
    kept = {name: value for name, value in crf.named_parameters() if value.requires_grad}
    built.load_state_dict({**built.state_dict(), **kept})
    return built


def padding_labels(vocab: Vocabulary, namespace: str) -> tuple[int, ...]:
    """The ids of the padding and unknown tokens that AllenNLP adds to namespaces not named "...labels" or "...tags"."""
    labels = vocab.get_token_to_index_vocabulary(namespace)
    return tuple(labels[name] for name in (vocab._padding_token, vocab._oov_token) if name in labels)


def check_letters(labels: Sequence[str], label_encoding: str) -> None:
    """
    Raise `ConfigurationError` for labels that no well-formed text in the encoding has: a letter of another encoding, or
    spans that never end (never begin). A vocabulary that only lacks labels passes.
    """
    letters = {label[0] for label in labels if label[1:2] == "-"}
    encoding = canonical_encoding(label_encoding)
    with_single_words = {"BIOUL": "ILU", "IOBES": "IES", "BMES": "MESW"}  # their letters, except B
    foreign = letters & set("ILUESMW") - set(with_single_words.get(encoding, "I"))
    if encoding in with_single_words:
        endless = bool(letters & set("BIM")) and not letters & set("LE")
    else:
        endless = encoding == "BIO" and "I" in letters and "B" not in letters
    if not foreign and not endless:
        return
    has = (
        f"the letters {', '.join(sorted(foreign))}"
        if foreign
        else f"no letter but {', '.join(sorted(letters))}"
    )
    raise ConfigurationError(
        f"The model's label_encoding is {label_encoding}, but the tags of the vocabulary have {has}: set "
        f"model.label_encoding and dataset_reader.target_label_encoding to the same encoding."
    )


def check_tags(
    tags: torch.Tensor,
    mask: torch.Tensor,
    metadata: Sequence[dict[str, Any]],
    label_encoding: str | None,
    training: bool,
) -> None:
    """
    Raise `ConfigurationError` unless the gold tags (B, T) match the mask (B, T) and are in the `label_encoding`, which
    constrains decoding. Sentences without spans pass, and so do encodings with the same letters. In training, labels
    that are not in the vocabulary are errors, too.
    """
    if tags.size() != mask.size():
        raise ConfigurationError(
            f"Found tags of size {tuple(tags.size())} for words of size {tuple(mask.size())}, expected one tag a "
            f"word: the reader's end_token and the model's boundary_tags require each other."
        )
    if training and bool(((tags == UNSEEN) & mask).any()):
        row, step = ((tags == UNSEEN) & mask).nonzero()[0].tolist()
        label = (
            repr(metadata[row]["gold_tags"][step]) if metadata and "gold_tags" in metadata[row] else "a label"
        )
        raise ConfigurationError(
            f"The training data have {label}, which the vocabulary lacks, so the model cannot learn it. To continue "
            f'from an archive with new labels, set vocabulary.type "extend" and an initializer of type "continue_from".'
        )
    if label_encoding is None:
        return
    for sentence in metadata:
        encoding = sentence.get("label_encoding")
        if encoding in (None, "IO", "BARE", label_encoding) or {*sentence.get("gold_tags", ())} <= {"O"}:
            continue
        if canonical_encoding(encoding) != canonical_encoding(label_encoding):
            raise ConfigurationError(
                f"The reader's tags are in {encoding} (dataset_reader.target_label_encoding), but the model decodes "
                f"{label_encoding} (model.label_encoding): set both to the same encoding."
            )


def _boundary_ids(labels: Sequence[str], boundary_tags: Sequence[str]) -> tuple[int, int]:
    if len(boundary_tags) != 2 or not set(boundary_tags) <= set(labels):
        raise ConfigurationError(
            f"boundary_tags are two tags of the label vocabulary, which has {', '.join(labels) or 'none'}, but they "
            f"are {list(boundary_tags)}."
        )
    first, last = boundary_tags
    return list(labels).index(first), list(labels).index(last)
