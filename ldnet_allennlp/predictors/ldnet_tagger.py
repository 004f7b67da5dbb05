"""Tags text that is split on white space, or given as tokens."""

from typing import Dict, List, Optional, cast

import numpy
from allennlp.common.util import JsonDict, sanitize
from allennlp.data import DatasetReader, Instance, Token
from allennlp.data.fields import SequenceLabelField, TextField
from allennlp.models import Model
from allennlp.predictors import Predictor
from overrides import overrides

from ldnet_allennlp.data.tag_schemes import Span, spans_from_tags
from ldnet_allennlp.models.ldnet_tagger import LdnetTagger


@Predictor.register("ldnet_tagger")
class LdnetTaggerPredictor(Predictor):
    """
    A predictor for "ldnet_tagger", and for any other tagger whose reader takes a list of tokens.

    Input, a JSON object a line: `{"sentence": "words between blanks"}` or `{"tokens": ["words", "as", "given"]}`.
    Output: `words`, `tags`, and where the model knows its label encoding, `spans`: a list of
    `{"type", "start", "end", "text"}`, where `end` is the position after the last word.

    Registered as a `Predictor` with name "ldnet_tagger".

    # Parameters

    model : `Model`
        The tagger.
    dataset_reader : `DatasetReader`
        Its reader, with a `text_to_instance(tokens)`.

    Raises `ValueError` for an input that has neither a sentence nor tokens.
    """

    def __init__(self, model: Model, dataset_reader: DatasetReader) -> None:
        super().__init__(model, dataset_reader)
        self._label_encoding: Optional[str] = getattr(model, "label_encoding", None)

    def predict(self, sentence: str) -> JsonDict:
        """
        Tags one sentence.

        # Parameters

        sentence : `str`
            Words, separated by white space.

        # Returns

        `JsonDict`
            See the class.
        """
        return self.predict_json({"sentence": sentence})

    @overrides
    def _json_to_instance(self, json_dict: JsonDict) -> Instance:
        return self._dataset_reader.text_to_instance([Token(word) for word in _words(json_dict)])

    @overrides
    def predict_json(self, inputs: JsonDict) -> JsonDict:
        return self.predict_batch_json([inputs])[0]

    @overrides
    def predict_batch_json(self, inputs: List[JsonDict]) -> List[JsonDict]:
        """Like `predict` for many; a sentence without words gets an output without tags."""
        outputs = [self._readable({"words": [], "tags": []}) for _ in inputs]
        filled = [position for position, json_dict in enumerate(inputs) if _words(json_dict)]
        if filled:
            predicted = super().predict_batch_json([inputs[position] for position in filled])
            for position, output in zip(filled, predicted):
                outputs[position] = output
        return outputs

    @overrides
    def predict_instance(self, instance: Instance) -> JsonDict:
        return self._readable(super().predict_instance(instance))

    @overrides
    def predict_batch_instance(self, instances: List[Instance]) -> List[JsonDict]:
        return [self._readable(output) for output in super().predict_batch_instance(instances)]

    @overrides
    def predictions_to_labeled_instances(
        self, instance: Instance, outputs: Dict[str, numpy.ndarray]
    ) -> List[Instance]:
        """The instance with the predicted tags as its labels, which is what the interpreters explain."""
        labeled = instance.duplicate()
        # There may be an end step after the words, which has no tag.
        words = TextField(cast(TextField, labeled["tokens"]).tokens[: len(outputs["tags"])])
        labeled.add_field(
            "tags",
            SequenceLabelField(list(outputs["tags"]), words, _namespace(self._model)),
            vocab=self._model.vocab,
        )
        return [labeled]

    def _spans(self, tags: List[str]) -> List[Span]:
        if isinstance(self._model, LdnetTagger):
            return self._model.spans(tags)
        assert self._label_encoding is not None
        return spans_from_tags(tags, self._label_encoding)

    def _readable(self, output: JsonDict) -> JsonDict:
        if self._label_encoding is not None and "words" in output:
            output["spans"] = [
                {
                    "type": label,
                    "start": start,
                    "end": end + 1,
                    "text": " ".join(output["words"][start : end + 1]),
                }
                for label, start, end in self._spans(output["tags"])
            ]
        return sanitize(output)


def _namespace(model: Model) -> str:
    return getattr(model, "label_namespace", "labels")


def _words(json_dict: JsonDict) -> List[str]:
    expected = 'Each input was expected to be an object with a "sentence" (text) or "tokens" (a list)'
    if not isinstance(json_dict, dict) or not {"sentence", "tokens"} & set(json_dict):
        found = ", ".join(json_dict) if isinstance(json_dict, dict) else type(json_dict).__name__
        raise ValueError(f"{expected}, but this was found: {found or 'an empty one'}.")
    if "tokens" in json_dict:
        if not isinstance(json_dict["tokens"], list):
            raise ValueError(f"{expected}, but its tokens are: {json_dict['tokens']!r}.")
        return [str(token) for token in json_dict["tokens"]]
    if not isinstance(json_dict["sentence"], str):
        raise ValueError(f"{expected}, but its sentence is: {json_dict['sentence']!r}.")
    return json_dict["sentence"].split()
