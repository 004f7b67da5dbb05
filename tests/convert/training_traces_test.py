"""Training step by step as the original's scripts do, with this package's parts and in this package's order."""

import re
from typing import Any

import pytest
import torch
from allennlp.common import Params
from allennlp.training.learning_rate_schedulers import LearningRateScheduler
from allennlp.training.optimizers import Optimizer

from ldnet_allennlp.modules.crf.tagging_losses import tagging_loss
from ldnet_allennlp.modules.embedders.ldnet_embedder import LdnetEmbedder
from tests.convert.originals import (
    convert_weights,
    instance_of,
    reader_of,
    sentences,
    tensors_of,
    with_original_padding,
)
from tests.resources import load_reference

BATCH_SIZE = 4


class Trace:
    """A converted tagger in training, on batches padded as in the original."""

    def __init__(self, name: str, learning_rate: float, lambda_0: Any = None, lambda_1: int = 0) -> None:
        self.arrays = load_reference(f"j_traces/{name}.npz")
        initial = {
            key[len("init/") :]: torch.as_tensor(value)
            for key, value in self.arrays.items()
            if key.startswith("init/")
        }
        converted = convert_weights(initial)
        if lambda_0 is not None:
            section = converted.config["model"]["text_field_embedder"]["token_embedders"]["ldnet"]
            section.update(lambda_0=lambda_0, lambda_1=lambda_1)
        self.model = _build(converted).double().train()
        reader = reader_of(converted)
        instances = [instance_of(reader, sentence) for sentence in sentences("train")]
        self.batches = [
            tensors_of(self.model, instances[start : start + BATCH_SIZE])
            for start in range(0, len(instances), BATCH_SIZE)
        ]
        self.parameters = [
            (parameter_name, parameter)
            for parameter_name, parameter in self.model.named_parameters()
            if parameter.requires_grad
        ]
        sgd = {"type": "sgd", "lr": learning_rate, "momentum": 0.9}
        params = sgd if lambda_0 is None else {"type": "proximal", "optimizer": sgd}
        self.optimizer = Optimizer.from_params(Params(params), model_parameters=self.parameters)
        self.scheduler = LearningRateScheduler.from_params(
            Params({"type": "inverse_time", "decay": 0.05}), optimizer=self.optimizer
        )

    def loss(self, batch: dict[str, Any]) -> torch.Tensor:
        found = with_original_padding(self.model, batch)
        mask = batch["tokens"]["tokens"]["tokens"] > 0
        scores, words = self.model.crf.without_end_step(found.emissions, mask)
        return tagging_loss(self.model.loss, self.model.crf, scores, batch["tags"], words) / len(scores)

    def gradients(self, loss: torch.Tensor) -> float:
        """Gradients as the trainer makes them: backward pass, then clipping. The norm before clipping."""
        self.optimizer.zero_grad()
        loss.backward()
        return float(torch.nn.utils.clip_grad_norm_([parameter for _, parameter in self.parameters], 5.0))

    def check_final(self, pattern: str) -> None:
        """The parameters whose names match against `final/*`, by way of a tagger with those weights."""
        weights = {}
        for moment in ("init/", "final/"):
            for key, value in self.arrays.items():
                if key.startswith(moment):
                    weights[key[len(moment) :]] = torch.as_tensor(value).double()
        truth = convert_weights(weights).model
        # Between words stand the boundary vectors; the same characters within a word do not occur, nor learn.
        characters = truth.vocab.get_token_to_index_vocabulary("token_characters")
        unused = [characters["\n"], characters[" "]]
        checked = 0
        for name, tensor in truth.state_dict().items():
            if re.search(pattern, name):
                found = self.model.state_dict()[name].clone()
                if name.endswith("token_characters.embedding.weight"):
                    found[unused] = tensor[unused]
                torch.testing.assert_close(found, tensor, rtol=1e-10, atol=1e-10)
                checked += 1
        assert checked


def _build(converted: Any) -> Any:
    """The model that the config describes now, with the converted weights."""
    from allennlp.models import Model

    model = Model.from_params(Params(converted.config["model"]).duplicate(), vocab=converted.model.vocab)
    model.load_state_dict(converted.model.state_dict())
    return model


class TestTaggerWithSgd:
    def test_losses_gradients_and_weights(self):
        trace = Trace("tagger_sgd", learning_rate=0.05)
        losses, norms = [], []
        for _ in range(3):
            for batch in trace.batches:
                loss = trace.loss(batch)
                losses.append(loss.item())
                norms.append(trace.gradients(loss))
                trace.optimizer.step()
            trace.scheduler.step()
        assert losses == pytest.approx(trace.arrays["loss"].tolist(), abs=1e-10)
        assert norms == pytest.approx(trace.arrays["grad_norm"].tolist(), abs=1e-10)
        trace.check_final("")


class TestLayerSelection:
    def test_the_gates_path(self):
        trace = Trace("prune", learning_rate=0.1, lambda_0=0.5, lambda_1=2)
        embedder = next(module for module in trace.model.modules() if isinstance(module, LdnetEmbedder))
        parts = {"f": embedder.language_models["forward_lm"], "b": embedder.language_models["backward_lm"]}
        before: dict[str, list[list[float]]] = {"f": [], "b": []}
        proximal_step = trace.optimizer.optimizer.step

        def step_that_is_watched(*arguments: Any) -> Any:
            result = proximal_step(*arguments)
            for letter, part in parts.items():
                before[letter].append(part.selection.gates.tolist())
            return result

        trace.optimizer.optimizer.step = step_that_is_watched
        step = 0
        for _ in range(14):
            for batch in trace.batches:
                crf_loss, penalty = trace.loss(batch), trace.model.get_regularization_penalty()
                values = {
                    "crf_loss": crf_loss.item(),
                    "total_loss": (crf_loss + penalty).item(),
                    "grad_norm": trace.gradients(crf_loss + penalty),
                }
                for letter, part in parts.items():
                    gates = part.selection.gates.detach()
                    terms = [(gates > 0).sum(), gates[gates > 0].sum(), (gates * (1 - gates)).sum()]
                    truth = trace.arrays[f"reg_{letter}"][step].tolist()
                    assert [float(term) for term in terms] == pytest.approx(truth, abs=1e-10)
                trace.optimizer.step()
                for name, value in values.items():
                    assert value == pytest.approx(trace.arrays[name][step], abs=1e-10), (name, step)
                for letter, part in parts.items():
                    for found, key in (
                        (before[letter][step], f"gates_before_prox_{letter}"),
                        (part.selection.gates.tolist(), f"gates_{letter}"),
                    ):
                        truth = trace.arrays[key][step].tolist()
                        assert found == pytest.approx(truth, abs=1e-10), (key, step)
                step += 1
            trace.scheduler.step()
        assert step == len(trace.arrays["crf_loss"])
        trace.check_final(r"ldnet\.projection|crf\.transitions|tag_projection")
