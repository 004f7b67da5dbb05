import copy
import math

import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.modules.seq2seq_encoders import Seq2SeqEncoder
from allennlp.nn.regularizers import Regularizer
from hypothesis import given, settings
from hypothesis import strategies as st

from ldnet_allennlp.modules.rnn.ld_rnn import LdRnn
from ldnet_allennlp.modules.selection.gated_modules import selection_metrics
from ldnet_allennlp.modules.selection.layer_budget import (
    GatedStack,
    LayerBudget,
    kept_multiply_adds,
    selection_penalty,
)
from ldnet_allennlp.modules.selection.layer_selection import LayerSelection
from ldnet_allennlp.modules.selection.multiply_adds import multiply_adds
from ldnet_allennlp.training.layer_budgets import PenaltySchedule
from tests.taggers import build_tagger, set_gates, tagger_params


def stacks_of(**gates):
    return [GatedStack(name, torch.tensor(values), 10, 3, 7) for name, values in gates.items()]


gate_values = st.lists(st.sampled_from([0.0, 0.0, 0.3, 1.0]), min_size=1, max_size=5)


class TestCost:
    @pytest.mark.parametrize("cell_type", ["lstm", "gru", "rnn"])
    @settings(max_examples=15, deadline=None, derandomize=True)
    @given(forward=gate_values, backward=gate_values)
    def test_equals_the_count_of_the_pruned_encoder(self, cell_type, forward, backward):
        encoder = LdRnn(3, 2, [len(forward), len(backward)], cell_type=cell_type, bidirectional=True)
        selection = LayerSelection(encoder)
        selection.gates.data = torch.tensor(forward + backward)
        counted = multiply_adds(selection.prune().encoder)
        assert kept_multiply_adds(selection.gated_stacks()).item() == counted

    @pytest.mark.parametrize("gates", [[1.0] * 8, [0.0] * 8, [0, 0.2, 0, 1, 1, 0, 0.5, 1]])
    def test_equals_the_count_of_the_pruned_embedder(self, language_models, gates):
        embedder = build_tagger(tagger_params(language_models, "select")).embedder
        set_gates(embedder, gates)
        expected = kept_multiply_adds(embedder.gated_stacks()).item()
        pruned = copy.deepcopy(embedder)
        pruned.prune()
        assert multiply_adds(pruned) == expected
        assert (multiply_adds(embedder) == expected) == (0.0 not in gates)


class TestPenalty:
    def test_of_each_direction(self):
        stacks = stacks_of(forward=[1.0, 0.5, 0.0], backward=[0.25, 0.75])
        found = LayerBudget({"forward": 1, "backward": 2}).penalty(stacks, 0.3)
        over = selection_penalty(stacks[0].gates, 0.3, 1)
        within = selection_penalty(stacks[1].gates, 0.3, 2)
        assert found.item() == pytest.approx((over + within).item())
        # Together there are no more layers than the three allowed.
        together = LayerBudget(4).penalty(stacks, 0.3).item()
        assert found.item() == pytest.approx(together + 0.3 * 1.5)

    def test_of_multiply_adds(self):
        stacks = stacks_of(forward=[1.0, 0.5, 0.0], backward=[0.25, 0.75])  # 14 + 4 * 10 + 2 * 3 = 60
        within = LayerBudget(max_multiply_adds=60).penalty(stacks, 0.3).item()
        beyond = LayerBudget(max_multiply_adds=59).penalty(stacks, 0.3).item()
        assert within == pytest.approx(0.3 * (0.25 + 2 * 0.1875))
        assert beyond == pytest.approx(within + 0.3 * 2.5)

    @pytest.mark.parametrize("budget", [{"lambda_1": 1}, {"max_multiply_adds": 40}])
    def test_gates_of_one_have_a_slope_only_above_the_published_weight(self, budget):
        gates = torch.ones(3, requires_grad=True)
        stacks = [GatedStack("forward", gates, 20, 3)]
        for weight, slope in ((1.0, 0.0), (2.5, 0.3 * 1.5)):
            gates.grad = None
            LayerBudget(**budget, over_budget_weight=weight).penalty(stacks, 0.3).backward()
            assert gates.grad.tolist() == pytest.approx([slope] * 3)
            gates.grad = None
            with torch.no_grad():
                gates[1:] = 0.0  # within the budget the weight does not count
            LayerBudget(**budget, over_budget_weight=weight).penalty(stacks, 0.3).backward()
            assert gates.grad.tolist() == pytest.approx([-0.3, 0.3, 0.3])
            with torch.no_grad():
                gates.fill_(1.0)


class TestAllows:
    @pytest.mark.parametrize(
        "budget, allowed",
        [
            (LayerBudget(4), True),
            (LayerBudget(3), False),
            (LayerBudget({"forward": 2, "backward": 2}), True),
            (LayerBudget({"forward": 3, "backward": 1}), False),
            (LayerBudget(max_multiply_adds=60), True),
            (LayerBudget(max_multiply_adds=59.5), False),
        ],
    )
    def test_what_is_left(self, budget, allowed):
        assert budget.allows(stacks_of(forward=[1.0, 0.5, 0.0], backward=[0.25, 0.75])) is allowed


def test_among_equal_gates_the_lower_score_falls_first_then_the_later_layer():
    stacks = stacks_of(forward=[1.0, 1.0, 1.0], backward=[0.5, 1.0, 1.0])
    scores = [torch.tensor([3.0, 3.0, 1.0]), torch.tensor([9.0, 3.0, 4.0])]
    orders = {6: [3, 3], 5: [3, 2], 4: [2, 2], 3: [1, 2], 2: [1, 1], 1: [0, 1], 0: [0, 0]}
    kept = {budget: LayerBudget(budget).largest(stacks, scores) for budget in orders}
    assert {budget: [int(mask.sum()) for mask in masks] for budget, masks in kept.items()} == orders
    assert [mask.tolist() for mask in kept[2]] == [[True, False, False], [False, False, True]]
    equal = LayerBudget(1).largest(stacks_of(forward=[1.0, 1.0, 1.0]))
    assert equal[0].tolist() == [True, False, False]


@pytest.mark.parametrize(
    "budget, kept",
    [
        (LayerBudget(3), [[False, True], [True, True]]),
        (LayerBudget(2), [[False, True], [False, True]]),
        (LayerBudget(1), [[False, False], [False, True]]),
        (LayerBudget(max_multiply_adds=30), [[False, False], [False, True]]),
    ],
)
def test_the_last_layer_of_a_direction_remains_while_the_budget_can_be_met(budget, kept):
    stacks = stacks_of(forward=[0.1, 0.2], backward=[0.8, 0.9])
    assert [mask.tolist() for mask in budget.largest(stacks)] == kept


def test_metrics():
    selection = LayerSelection(LdRnn(3, 2, [2, 1], bidirectional=True))
    selection.gates.data = torch.tensor([1.0, 0.0, 0.5])
    metrics = selection_metrics(selection)
    assert metrics == {
        "kept_layers": 2,
        "kept_multiply_adds": pytest.approx(2 * 4 * 2 * (3 + 2) / 1e6),
        "_gates/forward_1": 1.0,
        "_gates/forward_2": 0.0,
        "_gates/backward_1": 0.5,
    }


def test_gates_without_the_proximal_optimizer_get_a_warning():
    selection = LayerSelection(LdRnn(3, 2, [2, 1], bidirectional=True))
    selection.gates.data = torch.tensor([1.1, 0.0, 0.5])
    with pytest.warns(UserWarning, match='set the optimizer "proximal"'):
        selection_metrics(selection)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"lambda_1": None}, "lambda_1 of layer selection is null; expected a number"),
        ({"lambda_1": -1}, "lambda_1 of layer selection is -1; expected 0 or more"),
        ({"lambda_1": {"forward": 1, "backward": -2}}, "lambda_1 of layer selection is -2"),
        ({"max_multiply_adds": -5.0}, "max_multiply_adds of layer selection is -5"),
        (
            {"lambda_1": 2, "max_multiply_adds": 1e6},
            "both are given: lambda_1 is 2 and max_multiply_adds 1000000",
        ),
        ({"lambda_1": {"forward": 1}}, "for forward, but it was expected for forward and backward"),
        ({"lambda_1": {"forward": 1, "backwards": 1}}, "for forward and backwards, but it was expected"),
        ({"max_multiply_adds": 10}, "is 10, but without any gated layer .* still cost 72 multiply-adds"),
    ],
)
def test_budgets_that_cannot_be(language_models, options, message):
    params = tagger_params(language_models, "select")
    section = params["model"]["text_field_embedder"]["token_embedders"]["ldnet"]
    section.pop("lambda_1")
    for name, value in options.items():
        section[name] = value
    with pytest.raises(ConfigurationError, match=message):
        build_tagger(params)


ENCODER = {
    "type": "layer_selection",
    "encoder": {
        "type": "ld_rnn",
        "input_size": 4,
        "hidden_size": 3,
        "num_layers": 3,
        "bidirectional": True,
    },
    "lambda_0": 0.1,
}


class TestMaxLayers:
    """The plain name of `lambda_1` in configs."""

    @pytest.mark.parametrize("value", [2, {"forward": 1, "backward": 2}])
    def test_is_lambda_1(self, value):
        section = {**ENCODER, "max_layers": value}
        encoder = Seq2SeqEncoder.from_params(Params(copy.deepcopy(section)))
        assert encoder.budget.lambda_1 == value

    def test_in_a_regularizer(self):
        regularizer = Regularizer.from_params(
            Params({"type": "layer_selection", "lambda_0": 0.5, "max_layers": 3})
        )
        assert (regularizer.lambda_0, regularizer.lambda_1) == (0.5, 3)

    def test_not_both_names(self):
        with pytest.raises(ConfigurationError, match="max_layers is another name of lambda_1"):
            Seq2SeqEncoder.from_params(Params({**copy.deepcopy(ENCODER), "max_layers": 1, "lambda_1": 1}))


def test_a_schedule_gives_each_epoch_its_values():
    torch.manual_seed(1)
    encoder = LayerSelection(LdRnn(4, 3, 4), lambda_0=0.1, lambda_1=4, over_budget_weight=1.5)
    schedule = PenaltySchedule({"lambda_0": [(0, 0.0), (4, 0.2)], "lambda_1": [(0, 4), (2, 1)]})
    schedule.check([encoder])
    values = []
    for epoch in (0, 1, 2, 5, math.inf):
        schedule.apply([encoder], epoch)
        values.append((round(encoder.lambda_0, 9), encoder.budget.lambda_1))
        assert encoder.budget.over_budget_weight == 1.5
    assert values == [(0.0, 4), (0.05, 3), (0.1, 1), (0.2, 1), (0.2, 1)]
