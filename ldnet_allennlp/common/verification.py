"""Compare the outputs of two models, or of one model before and after a change."""

import inspect
import random
from typing import Any

import numpy
import torch
from allennlp.common.checks import ConfigurationError
from allennlp.common.util import sanitize
from allennlp.data import DatasetReader, Instance, Token
from allennlp.models.model import Model

TOLERANCE = 1e-5


def check_finite(model: Model, source: str) -> None:
    """Raise `ConfigurationError`, with the weight and the file `source`, if a weight is infinite or NaN."""
    for name, parameter in model.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            raise ConfigurationError(
                f"The weight '{name}' of '{source}' has infinite or NaN values: outputs cannot be compared."
            )


def random_sentences(words: list[str], seed: int = 13) -> list[list[str]]:
    """Sentences of 1 to 40 random words, unknown words included. The same seed gives the same sentences."""
    words = words or ["word"]
    generator = random.Random(seed)
    lengths = [1, 2, 3, 5, 8, 13, 21, 40] * 2
    return [
        [generator.choice(words) if generator.random() < 0.9 else "Zyxgloub-7" for _ in range(length)]
        for length in lengths
    ]


def outputs_of(model: Model, reader: DatasetReader, sentences: list[list[str]]) -> list[dict[str, Any]]:
    """
    The model's outputs, including scores, for each sentence in evaluation mode.

    The reader must build instances from tokens, words or a text, and at most parts of speech. Raises
    `ConfigurationError` if it needs more.
    """
    model.eval()
    before = getattr(model, "return_logits", None)
    if before is not None:
        setattr(model, "return_logits", True)  # noqa: B010, of a tagger that has it
    try:
        instances = [instance_of(reader, words) for words in sentences]
        return [sanitize(output) for output in model.forward_on_instances(instances)]
    finally:
        if before is not None:
            setattr(model, "return_logits", before)  # noqa: B010


def instance_of(reader: DatasetReader, words: list[str]) -> Instance:
    """A sentence as an instance with the reader's indexers. Raises `ConfigurationError` like `outputs_of`."""
    instance = _without_indexers(reader, words)
    reader.apply_token_indexers(instance)
    return instance


def _without_indexers(reader: DatasetReader, words: list[str]) -> Instance:
    parameters = list(inspect.signature(reader.text_to_instance).parameters.values())
    required = [
        parameter
        for parameter in parameters
        if parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    # For parsers: every word gets the tag X, the other parts of speech of Universal Dependencies.
    tags = {
        parameter.name: ["X"] * len(words)
        for parameter in required[1:]
        if "pos" in parameter.name and "list[str]" in str(parameter.annotation).lower()
    }
    needed = [parameter.name for parameter in required if parameter.name not in tags]
    if len(needed) > 1 or not parameters:
        raise ConfigurationError(
            f"The reader ({type(reader).__name__}) was expected to make an instance of words alone, but its "
            f"text_to_instance needs: {', '.join(needed) or 'nothing'}. So the model cannot be run on sentences."
        )
    annotation = str(parameters[0].annotation)
    if annotation in (str(str), "str"):  # as of text classification
        return reader.text_to_instance(" ".join(words))
    if "list[str]" in annotation.lower() and "Token" not in annotation:
        return reader.text_to_instance(words, **tags)
    return reader.text_to_instance([Token(word) for word in words])


def difference(first: Any, second: Any, where: str = "output") -> str:
    """
    The first difference between two outputs, as a sentence; empty if they are equal. Numbers may differ by `TOLERANCE`,
    relative to the larger of 1 and their size.
    """
    if isinstance(first, dict) and isinstance(second, dict):
        if set(first) != set(second):
            return f"{where} has the keys {sorted(first)} before and {sorted(second)} after."
        changes = (difference(first[key], second[key], f"{where}.{key}") for key in first)
        return next((text for text in changes if text), "")
    if isinstance(first, list) and isinstance(second, list):
        if len(first) != len(second):
            return f"{where} has {len(first)} elements before and {len(second)} after."
        changes = (difference(*pair, f"{where}[{number}]") for number, pair in enumerate(zip(first, second)))
        return next((text for text in changes if text), "")
    if isinstance(first, float) and isinstance(second, float):
        if numpy.isclose(first, second, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True):
            return ""
        return f"{where} is {first!r} before and {second!r} after."
    return "" if first == second else f"{where} is {first!r} before and {second!r} after."
