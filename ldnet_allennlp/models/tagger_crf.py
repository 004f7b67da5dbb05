"""The batched CRF in the place of the one that allennlp-models' `CrfTagger` makes."""

from typing import Any, List, Optional, Sequence, Tuple

from allennlp.common.checks import ConfigurationError
from allennlp.modules import ConditionalRandomField
from allennlp.modules.conditional_random_field import allowed_transitions

from ldnet_allennlp.modules.crf.boundary_tag_crf import BoundaryTagCrf, BoundaryTags
from ldnet_allennlp.modules.crf.conditional_random_field import FastConditionalRandomField
from ldnet_allennlp.modules.crf.label_weighted import build_crf


def batched_crf(
    slow: ConditionalRandomField,
    labels: Sequence[str],
    iobes: bool = False,
    label_weights: Optional[Any] = None,
    weight_strategy: Optional[str] = None,
    boundary_tags: Optional[List[str]] = None,
) -> FastConditionalRandomField:
    """
    # Parameters

    slow : `ConditionalRandomField`
        AllenNLP's, whose options, constraints and parameters are taken over.
    labels : `Sequence[str]`
        All tags, in the order of their ids.
    iobes : `bool`, optional (default = `False`)
        Whether decoding is constrained to IOBES, which AllenNLP knows under other letters only (BIOUL).
    label_weights : optional
        As `CrfTagger` keeps them.
    weight_strategy : `str`, optional
        What the weights are for, as in `CrfTagger`.
    boundary_tags : `List[str]`, optional
        See `LdnetTagger`.

    Raises `ConfigurationError` if the boundary tags are not two of the labels, or go with label weights.
    """
    constraints: Optional[List[Tuple[int, int]]]
    if iobes:
        constraints = allowed_transitions("BIOUL", dict(enumerate(map(_in_letters_of_allennlp, labels))))
    else:
        allowed = slow._constraint_mask.nonzero(as_tuple=False).tolist()
        unconstrained = len(allowed) == (len(labels) + 2) ** 2
        constraints = None if unconstrained else [(before, after) for before, after in allowed]
    if boundary_tags:
        if label_weights is not None:
            raise ConfigurationError("There are label_weights and boundary_tags: a CRF has either, not both.")
        return BoundaryTagCrf(len(labels), _boundary_ids(labels, boundary_tags), constraints)
    crf = build_crf(
        len(labels),
        constraints=constraints,
        include_start_end_transitions=slow.include_start_end_transitions,
        label_weights=label_weights,
        weight_strategy=weight_strategy,
    )
    crf.load_state_dict({**slow.state_dict(), "_constraint_mask": crf._constraint_mask})
    return crf


def _boundary_ids(labels: Sequence[str], boundary_tags: List[str]) -> BoundaryTags:
    if len(boundary_tags) != 2 or not set(boundary_tags) <= set(labels):
        raise ConfigurationError(
            f"boundary_tags are two tags of the label vocabulary, which has {', '.join(labels) or 'none'}, but they "
            f"are {boundary_tags}."
        )
    return BoundaryTags(*(labels.index(tag) for tag in boundary_tags))


def _in_letters_of_allennlp(tag: str) -> str:
    letter, separator, label = tag.partition("-")
    return {"E": "L", "S": "U"}.get(letter, letter) + separator + label
