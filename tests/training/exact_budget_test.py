"""Layer selection with `exact_budget`: simulated training of gates, without a network."""

import json
import math
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from allennlp.commands.train import train_model
from allennlp.common import Lazy
from allennlp.common.checks import ConfigurationError
from allennlp.models.archival import load_archive
from allennlp.training.metric_tracker import MetricTracker
from allennlp.training.optimizers import AdamOptimizer, SgdOptimizer

from ldnet_allennlp.modules.rnn.ld_rnn import LdRnn
from ldnet_allennlp.modules.selection.gated_modules import selection_metrics
from ldnet_allennlp.modules.selection.layer_budget import kept_multiply_adds
from ldnet_allennlp.modules.selection.layer_selection import LayerSelection
from ldnet_allennlp.training.layer_budgets import SMALLEST_GATE
from ldnet_allennlp.training.layer_selection_callback import LayerSelectionCallback
from ldnet_allennlp.training.proximal import ProximalOptimizer
from tests.taggers import tagger_params

LAYERS, EPOCHS, BATCHES = 6, 8, 5
OPTIMIZERS = {
    "sgd": Lazy(partial(SgdOptimizer, lr=0.1, momentum=0.9)),
    "plain": Lazy(partial(SgdOptimizer, lr=0.1)),
    "adam": Lazy(partial(AdamOptimizer, lr=0.1)),
}


def gated(**budget):
    """Both directions, three layers each."""
    return LayerSelection(LdRnn(3, 2, LAYERS // 2, bidirectional=True), lambda_0=0.05, **budget)


def simulate(folder, module, loss, optimizer="sgd", epochs=EPOCHS, start=0, state=None, **options):
    """Train the gates alone on `loss(step)`, their gradient; the gates after each epoch, as validation sees them."""
    trainer = SimpleNamespace(
        _pytorch_model=module,
        _validation_data_loader=[],
        _metric_tracker=MetricTracker("+f1"),
        _start_after_epochs_completed=start,
        _num_epochs=EPOCHS,
        _moving_average=None,
    )
    callback = LayerSelectionCallback(str(folder), **{"exact_budget": True, **options})
    if start:
        callback.load_state_dict(state)
    callback.on_start(trainer)
    steps = ProximalOptimizer([("gates", module.gates)], OPTIMIZERS[optimizer])
    history = []
    for epoch in range(start, epochs):
        for batch in range(BATCHES):
            steps.zero_grad()
            ((module.gates * loss(epoch * BATCHES + batch)).sum() + module.penalty()).backward()
            if module.gates.grad.isfinite().all():  # as in mixed precision
                steps.step()
            callback.on_batch(trainer, [], [], {}, epoch, batch, is_training=True)
        history.append(module.gates.detach().clone())
        trainer._metric_tracker.add_metrics({"f1": 0.5})
        callback.on_epoch(trainer, {}, epoch)
    if state is not None:
        state.update(callback.state_dict())
    callback.on_end(trainer, metrics={} if epochs == EPOCHS else None, epoch=epochs - 1)
    return history


def constant(gradient):
    return lambda step: torch.full((LAYERS,), gradient)


def random_losses(seed, scale):
    def loss(step):
        return torch.randn(LAYERS, generator=torch.Generator().manual_seed(1000 * seed + step)) * scale

    return loss


@pytest.mark.parametrize("budget", range(LAYERS + 1))
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize(
    "loss",
    [
        constant(-10.0),  # wants each gate at exactly 1
        constant(0.0),
        constant(10.0),  # wants each gate at 0
        random_losses(0, 0.01),
        random_losses(1, 1.0),
        random_losses(2, 100.0),
    ],
    ids=["up", "none", "down", "small", "medium", "large"],
)
def test_every_number_of_layers_is_reached_exactly(tmp_path, budget, optimizer, loss):
    history = simulate(tmp_path, gated(lambda_1=budget), loss, optimizer)
    kept = [int((gates > 0).sum()) for gates in history]
    assert min(kept) == budget and all(count == budget for count in kept[EPOCHS // 2 + 1 :])
    assert all(gate == 0 or SMALLEST_GATE <= gate <= 1 for gates in history for gate in gates.tolist())


def test_layers_fall_step_by_step(tmp_path):
    history = simulate(tmp_path, gated(lambda_1=1), constant(-10.0))
    # The budget falls from 6 layers in the first epoch to 1 in the fifth, rounded up; it is met after each epoch.
    assert [int((gates > 0).sum()) for gates in history] == [6, 6, 5, 4, 3, 1, 1, 1]


def test_the_published_penalty_misses_the_budget_there(tmp_path):
    """Its two terms cancel out at gates of exactly 1; and a strong loss takes all layers."""
    module = gated(lambda_1=2)
    with pytest.raises(ConfigurationError, match="Set exact_budget of the layer_selection callback"):
        simulate(tmp_path, module, constant(-1e-6), exact_budget=False)
    assert selection_metrics(module)["kept_layers"] == LAYERS
    simulate(tmp_path, module, constant(10.0), exact_budget=False)
    assert selection_metrics(module)["kept_layers"] == 0


@pytest.mark.parametrize("strength", [0.01, 1.0, 100.0])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_most_useful_layers_are_kept(tmp_path, strength, optimizer):
    """Where the loss is strong, it holds all gates at exactly 1, and their gradients decide."""
    use = torch.tensor([1.0, 2.0, 0.1, 1.1, 1.9, 0.5])
    module = gated(lambda_1=2)
    simulate(tmp_path, module, lambda step: -strength * use, optimizer)
    assert (module.gates > 0).nonzero().flatten().tolist() == [1, 4]


@pytest.mark.parametrize("layer, gradient", [(1, math.inf), (1, math.nan), (5, -math.inf)])
def test_steps_that_mixed_precision_skips_do_not_count(tmp_path, layer, gradient):
    use = torch.tensor([1.0, 2.0, 0.1, 1.1, 1.9, 0.5])

    def loss(step):
        is_skipped = (torch.arange(LAYERS) == layer) & (step % BATCHES == 1)
        return (-100.0 * use).masked_fill(is_skipped, gradient)

    module = gated(lambda_1=2)
    simulate(tmp_path, module, loss)
    assert (module.gates > 0).nonzero().flatten().tolist() == [1, 4]


@pytest.mark.parametrize("scale", [0.01, 1.0])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_multiply_adds(tmp_path, share, scale):
    whole = float(kept_multiply_adds(gated().gated_stacks()))
    module = gated(max_multiply_adds=share * whole)
    history = simulate(tmp_path, module, random_losses(3, scale))
    final = float(kept_multiply_adds(module.gated_stacks()))
    layer = max(stack.layer_cost + 2 * stack.pair_cost for stack in module.gated_stacks())
    assert share * whole - layer < final <= share * whole
    assert len({int((gates > 0).sum()) for gates in history[EPOCHS // 2 + 1 :]}) == 1


@pytest.mark.parametrize("forward, backward", [(0, 3), (1, 2), (3, 0)])
def test_a_budget_for_each_direction(tmp_path, forward, backward):
    module = gated(lambda_1={"forward": forward, "backward": backward})
    simulate(tmp_path, module, random_losses(4, 1.0))
    assert [len(layers) for layers in module.kept_layers()] == [forward, backward]


def test_a_schedule_of_max_layers(tmp_path):
    schedule = {"max_layers": [(1, 6), (3, 2)]}
    history = simulate(tmp_path, gated(lambda_1=5), constant(-10.0), schedule=schedule)
    assert [int((gates > 0).sum()) for gates in history] == [6, 6, 6, 4, 2, 2, 2, 2]


@pytest.mark.parametrize("budget", [{"lambda_1": 2}, {"max_multiply_adds": 150}])
def test_a_recovered_training_has_the_same_gates(tmp_path, budget):
    """Without momentum, which is not saved here."""
    whole = simulate(tmp_path, gated(**budget), random_losses(5, 0.1), "plain")
    module, state = gated(**budget), {}
    simulate(tmp_path, module, random_losses(5, 0.1), "plain", epochs=3, state=state)
    recovered = gated(**budget)
    recovered.load_state_dict(module.state_dict())
    again = simulate(tmp_path, recovered, random_losses(5, 0.1), "plain", start=3, state=state)
    assert all(torch.equal(one, other) for one, other in zip(whole[3:], again)) and len(again) == 5


@pytest.mark.parametrize(
    "options, average, message",
    [
        ({"max_layers": 2}, None, "requires the budget in the model"),
        ({}, object(), "does not work with the trainer's moving_average"),
    ],
)
def test_settings_that_do_not_fit(tmp_path, options, average, message):
    trainer = SimpleNamespace(
        _pytorch_model=gated(lambda_1=2), _validation_data_loader=[], _moving_average=average
    )
    with pytest.raises(ConfigurationError, match=message):
        LayerSelectionCallback(str(tmp_path), exact_budget=True, **options).on_start(trainer)


@pytest.mark.parametrize("budget", [1, 3])
def test_a_tagger_reaches_its_budget_without_a_penalty_that_fits(tmp_path, language_models, budget):
    ldnet = "model.text_field_embedder.token_embedders.ldnet"
    overrides = {
        f"{ldnet}.lambda_0": 1e-9,
        f"{ldnet}.lambda_1": budget,
        "trainer.callbacks": [{"type": "layer_selection", "exact_budget": True}],
    }
    params = tagger_params(language_models, "select", overrides, num_epochs=4)
    train_model(params, str(tmp_path / "run"))
    assert (
        selection_metrics(load_archive(str(tmp_path / "run" / "model.tar.gz")).model)["kept_layers"] == budget
    )
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["best_validation_kept_layers"] == budget
