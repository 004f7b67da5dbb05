"""Counts multiply-adds while a model runs: from what goes through its modules, and not from what they are."""

from collections import Counter

import torch
from allennlp.data import DatasetReader
from allennlp.models import Model
from torch.nn.utils.rnn import PackedSequence

from ldnet_allennlp.common.verification import instance_of


def _steps(inputs: torch.Tensor, features: int) -> int:
    if isinstance(inputs, PackedSequence):
        return inputs.data.size(0)
    return inputs.numel() // features


class MultiplyAddCounter:
    """Hooks into every RNN and every linear layer of a model; `counts` has the multiply-adds of each by name."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.counts: Counter = Counter()
        for name, module in model.named_modules():
            if isinstance(module, (torch.nn.RNNBase, torch.nn.Linear)):
                module.register_forward_hook(self._hook(name))

    def _hook(self, name):
        def count(module, inputs, outputs):
            weights = sum(weight.numel() for key, weight in module.named_parameters() if "weight" in key)
            features = getattr(module, "in_features", None) or module.input_size
            self.counts[name] += weights * _steps(inputs[0], features)

        return count


def counted_per_word(model: Model, reader: DatasetReader, words: list[str]) -> Counter:
    """
    The multiply-adds a word of each module. What a sentence costs beside its words (boundaries, markers) drops out:
    it is the difference between the words said twice and said once.
    """
    counter = MultiplyAddCounter(model)
    found = []
    for sentence in (words, words * 2):
        counter.counts.clear()
        model.eval()
        model.forward_on_instances([instance_of(reader, sentence)])
        found.append(Counter(counter.counts))
    return Counter({name: (found[1][name] - found[0][name]) / len(words) for name in found[1]})


def below(counts: Counter, *parts: str) -> float:
    """The sum over all modules whose name begins with one of these."""
    return sum(count for name, count in counts.items() if name.startswith(parts))
