"""Predictor for the log-probabilities of sentences under a language model."""

import json
import math
from typing import Any

import torch
from allennlp.common.checks import ConfigurationError
from allennlp.common.util import JsonDict
from allennlp.data import Batch, DatasetReader, Instance
from allennlp.data.fields import TextField
from allennlp.models import Model
from allennlp.nn.util import move_to_device
from allennlp.predictors import Predictor
from overrides import overrides

from ldnet_allennlp.common.lines import excerpt
from ldnet_allennlp.models.adaptive_language_model import AdaptiveLanguageModel

_EXPECTED = '{"sentence": "..."}, {"tokens": ["...", ...]} or a line of text'


@Predictor.register("adaptive_language_model")
class LanguageModelPredictor(Predictor):
    """
    Predicts the log-probabilities of a sentence and each of its tokens.

    The input is a line of text, `{"sentence": "..."}` (both split at ASCII white space), or `{"tokens": ["...", ...]}`.
    The output is

    `tokens` : `List[str]`
        The sentence between two boundary tokens, as the model reads it.
    `log_probs` : `List[float]`
        One for each token, in nats, given the tokens before it (or after it, for a backward model): 0 for the first
        boundary, which is not predicted.
    `log_prob`, `perplexity` : `float`
        Their sum, and exp(-sum / number of predicted tokens).

    A bidirectional model returns the last three per direction: `forward_log_probs` and so on. Words outside the
    vocabulary share the probability of the unknown token.

    Registered as a `Predictor` with name "adaptive_language_model", the default of the model of that name.

    Raises `ConfigurationError` for any other model.
    """

    def __init__(self, model: Model, dataset_reader: DatasetReader, frozen: bool = True) -> None:
        super().__init__(model, dataset_reader, frozen)
        if not isinstance(model, AdaptiveLanguageModel):
            raise ConfigurationError(
                f"The adaptive_language_model predictor was given a {type(model).__name__}, expected an "
                f"adaptive_language_model."
            )
        self._language_model = model

    @overrides
    def load_line(self, line: str) -> JsonDict:
        line = line.strip()
        if line.startswith(("{", "[")):
            try:
                return json.loads(line)
            except json.JSONDecodeError as error:
                if line.startswith("{"):
                    raise ConfigurationError(
                        f"Found {excerpt(line)}, expected {_EXPECTED}: {error}."
                    ) from error
        return {"sentence": line}

    @overrides
    def _json_to_instance(self, json_dict: JsonDict) -> Instance:
        for name, kind in (("tokens", list), ("sentence", str)):
            if isinstance(json_dict, dict) and isinstance(json_dict.get(name), kind):
                instance = self._dataset_reader.text_to_instance(json_dict[name])
                self._dataset_reader.apply_token_indexers(instance)
                return instance
        raise ConfigurationError(f"Found {excerpt(json_dict)}, expected {_EXPECTED}.")

    @overrides
    def predict_instance(self, instance: Instance) -> JsonDict:
        return self.predict_batch_instance([instance])[0]

    @overrides
    def predict_batch_instance(self, instances: list[Instance]) -> list[JsonDict]:
        batch, vocab = Batch(instances), self._language_model.vocab
        batch.index_instances(vocab)
        tensors: dict[str, Any] = move_to_device(batch.as_tensor_dict(), self.cuda_device)
        if "tokens" in tensors["source"]:
            # Words that equal the padding token are unknown.
            for ids, instance in zip(tensors["source"]["tokens"]["tokens"], instances):
                of_sentence = ids[: len(instance["source"])]
                of_sentence[of_sentence == 0] = vocab.get_token_index(vocab._oov_token)
        log_probs = self._language_model.token_log_probs(tensors["source"])
        return [
            _described(instance, {direction: values[row] for direction, values in log_probs.items()})
            for row, instance in enumerate(instances)
        ]


def _described(instance: Instance, log_probs: dict[str, torch.Tensor]) -> JsonDict:
    source = instance["source"]
    assert isinstance(source, TextField)
    output: JsonDict = {"tokens": [token.text for token in source.tokens]}
    for direction, values in log_probs.items():
        prefix = f"{direction}_" if len(log_probs) > 1 else ""
        of_tokens = values[: len(source.tokens)].tolist()
        total = math.fsum(of_tokens)
        output[f"{prefix}log_probs"] = of_tokens
        output[f"{prefix}log_prob"] = total
        output[f"{prefix}perplexity"] = math.exp(-total / (len(of_tokens) - 1))
    return output
