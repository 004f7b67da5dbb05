"""How likely a language model finds sentences."""

import math
from typing import Any, Dict, List

import torch
from allennlp.common.checks import ConfigurationError
from allennlp.common.util import JsonDict
from allennlp.data import Batch, DatasetReader, Instance
from allennlp.data.fields import TextField
from allennlp.models import Model
from allennlp.nn.util import move_to_device
from allennlp.predictors import Predictor
from overrides import overrides

from ldnet_allennlp.models.adaptive_language_model import AdaptiveLanguageModel


@Predictor.register("adaptive_language_model")
class LanguageModelPredictor(Predictor):
    """
    Gives the log-probability of each token of a sentence, and of the sentence.

    The input is `{"sentence": "..."}`, split at blanks, or `{"tokens": ["...", ...]}`. The output is

    `tokens` : `List[str]`
        The sentence between two boundaries, as the model reads it.
    `log_probs` : `List[float]`
        One for each of them, in nats, given the tokens before it (or after it, for a backward model): 0 for the
        boundary that is read first, which is not predicted.
    `log_prob`, `perplexity` : `float`
        Their sum, and exp(-sum / number of predicted tokens).

    and, for a bidirectional model, each of the last three twice: `forward_log_probs` and so on. Words that the
    vocabulary does not have get the probability of the unknown token, which stands for all of them.

    Registered as a `Predictor` with name "adaptive_language_model", the default of the model of that name.

    Raises `ConfigurationError` if the model is another one.
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
    def _json_to_instance(self, json_dict: JsonDict) -> Instance:
        for name, kind in (("tokens", list), ("sentence", str)):
            if isinstance(json_dict.get(name), kind):
                instance = self._dataset_reader.text_to_instance(json_dict[name])
                self._dataset_reader.apply_token_indexers(instance)
                return instance
        raise ConfigurationError(
            f'Expected {{"sentence": "..."}} or {{"tokens": ["...", ...]}}, but {json_dict!r:.80} was found.'
        )

    @overrides
    def predict_instance(self, instance: Instance) -> JsonDict:
        return self.predict_batch_instance([instance])[0]

    @overrides
    def predict_batch_instance(self, instances: List[Instance]) -> List[JsonDict]:
        batch = Batch(instances)
        batch.index_instances(self._language_model.vocab)
        tensors: Dict[str, Any] = move_to_device(batch.as_tensor_dict(), self.cuda_device)
        log_probs = self._language_model.token_log_probs(tensors["source"])
        return [
            _described(instance, {direction: values[row] for direction, values in log_probs.items()})
            for row, instance in enumerate(instances)
        ]


def _described(instance: Instance, log_probs: Dict[str, torch.Tensor]) -> JsonDict:
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
