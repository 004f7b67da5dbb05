import json
import random
from types import SimpleNamespace

import pytest
import torch
from allennlp.commands.train import train_model
from allennlp.common.checks import ConfigurationError
from allennlp.models.archival import load_archive
from allennlp.training.metric_tracker import MetricTracker

from ldnet_allennlp.modules.rnn.ld_rnn import LdRnn
from ldnet_allennlp.modules.selection.gated_modules import selection_metrics
from ldnet_allennlp.modules.selection.layer_selection import LayerSelection
from ldnet_allennlp.training.layer_budgets import BudgetedMetricTracker
from ldnet_allennlp.training.layer_selection_callback import (
    GATES_FILE,
    BudgetMissed,
    LayerSelectionCallback,
    gates_of,
)
from tests.taggers import ldnet_embedder, tagger_params

NO_TRAINING = {"trainer.optimizer.optimizer.lr": 0.0}


def selection(gates, **options):
    module = LayerSelection(LdRnn(3, 2, len(gates)), **options)
    module.gates.data = torch.tensor(gates)
    return module


class Epochs:
    """Feeds a tracker epochs of so many kept layers and such a score."""

    def __init__(self, budget, patience=None, model=None):
        self.model = model or selection([1.0] * 6)
        self.tracker = BudgetedMetricTracker(MetricTracker("+f1", patience), self.model, budget, [])

    def add(self, kept, score):
        self.model.gates.data = torch.tensor([1.0] * kept + [0.0] * (6 - kept))
        self.tracker.add_metrics({"f1": score})
        return self.tracker


def test_an_epoch_over_budget_is_never_the_best():
    epochs = Epochs(budget=2)
    assert not epochs.add(6, 0.9).is_best_so_far()
    assert not epochs.add(3, 0.8).is_best_so_far()
    assert epochs.tracker.best_epoch is None
    assert epochs.add(2, 0.3).is_best_so_far() and epochs.tracker.best_epoch == 2
    assert not epochs.add(3, 0.99).is_best_so_far() and epochs.tracker.best_epoch == 2
    assert not epochs.add(1, 0.2).is_best_so_far() and epochs.tracker.best_epoch == 2
    assert epochs.add(0, 0.4).is_best_so_far() and epochs.tracker.best_epoch == 5
    assert epochs.tracker.least["kept_layers"] == 0


def test_patience_counts_from_the_first_epoch_within_budget():
    epochs = Epochs(budget=2, patience=2)
    for _ in range(5):
        assert not epochs.add(3, 0.5).should_stop_early()
    assert not epochs.add(2, 0.4).should_stop_early()
    assert not epochs.add(2, 0.3).should_stop_early()
    assert epochs.add(4, 0.9).should_stop_early()  # over budget again is no improvement either


@pytest.mark.parametrize("patience", [None, 3])
def test_equals_the_trackers_base_class_when_always_within_budget(patience):
    generator = random.Random(0)
    plain, epochs = MetricTracker("+f1", patience), Epochs(budget=6, patience=patience)
    for _ in range(30):
        score = generator.random()
        plain.add_metrics({"f1": score})
        epochs.add(generator.randrange(7), score)
        assert epochs.tracker.state_dict() == plain.state_dict()
        assert epochs.tracker.is_best_so_far() == plain.is_best_so_far()
        assert epochs.tracker.should_stop_early() == plain.should_stop_early()


def test_takes_over_the_state_and_the_signs_of_several_metrics():
    before = MetricTracker(["+f1", "-loss"], patience=4)
    before.add_metrics({"f1": 0.5, "loss": 0.1})
    before.add_metrics({"f1": 0.5, "loss": 0.2})
    after = BudgetedMetricTracker(before, selection([1.0, 0.0]), 1, [])
    assert after.state_dict() == before.state_dict() and after.tracked_metrics == before.tracked_metrics
    assert after._patience == 4
    after.add_metrics({"f1": 0.5, "loss": 0.05})
    assert after.best_epoch == 2


def test_what_counts_as_a_kept_layer():
    model = torch.nn.ModuleDict(
        {"trained": selection([0.3, 0.0, 1e-9, 1.0]), "other": selection([1.0, 1.0], train_gates=False)}
    )
    assert selection_metrics(model)["kept_layers"] == 3
    assert gates_of(model) == {"trained": [pytest.approx([0.3, 0.0, 1e-9, 1.0])]}


def trainer_for(model, validation=True):
    return SimpleNamespace(
        _pytorch_model=model,
        _validation_data_loader=[] if validation else None,
        _metric_tracker=MetricTracker("+f1"),
        _start_after_epochs_completed=0,
    )


@pytest.mark.parametrize("budget, wanted", [(None, 3), (1, 1), (0, 0)])
def test_the_budget_is_the_models_unless_given(tmp_path, budget, wanted):
    trainer = trainer_for(selection([1.0] * 4, lambda_0=0.1, lambda_1=3))
    LayerSelectionCallback(str(tmp_path), max_layers=budget).on_start(trainer)
    tracker = trainer._metric_tracker
    for kept in range(5):
        trainer._pytorch_model.gates.data = torch.tensor([1.0] * kept + [0.0] * (4 - kept))
        assert tracker.is_within_budget() == (kept <= wanted)
    assert tracker.budget() == f"{wanted} layers"


def test_no_gates(tmp_path):
    for model in (torch.nn.Linear(2, 2), selection([1.0], train_gates=False)):
        with pytest.raises(ConfigurationError, match="found no trained gates in the model"):
            LayerSelectionCallback(str(tmp_path)).on_start(trainer_for(model))


def test_no_validation_data(tmp_path):
    with pytest.raises(ConfigurationError, match="Set validation_data_path"):
        LayerSelectionCallback(str(tmp_path)).on_start(trainer_for(selection([1.0]), validation=False))


def test_no_budget(tmp_path):
    with pytest.raises(ConfigurationError, match="Give the callback max_layers"):
        LayerSelectionCallback(str(tmp_path)).on_start(trainer_for(selection([1.0])))


def test_a_negative_budget(tmp_path):
    with pytest.raises(ConfigurationError, match="is -1; expected 0 or more"):
        LayerSelectionCallback(str(tmp_path), max_layers=-1)


def test_the_fewest_layers_survive_a_checkpoint(tmp_path):
    trainer = trainer_for(selection([1.0, 1.0, 0.0]))
    callback = LayerSelectionCallback(str(tmp_path), max_layers=1)
    callback.on_start(trainer)
    trainer._metric_tracker.add_metrics({"f1": 0.1})
    again = LayerSelectionCallback(str(tmp_path), max_layers=1)
    again.load_state_dict(callback.state_dict())
    again.on_start(trainer_for(selection([1.0, 1.0, 1.0])))
    with pytest.raises(BudgetMissed, match=r"budget of 1 layers.* fewest layers .* are 2,"):
        again.on_end(trainer, metrics={}, epoch=0)


def test_an_interrupted_training_shows_its_own_error(tmp_path):
    callback = LayerSelectionCallback(str(tmp_path), max_layers=0)
    trainer = trainer_for(selection([1.0]))
    callback.on_start(trainer)
    callback.on_end(trainer, metrics=None, epoch=None)


SCHEDULE = {"lambda_0": [(1, 0.0), (3, 0.4)], "lambda_1": [(0, 4), (4, 1)]}


class TestSchedule:
    @pytest.mark.parametrize("start", [0, 2])  # 2: a training that is recovered
    def test_values_of_each_epoch(self, tmp_path, start):
        trainer = trainer_for(selection([1.0] * 4, lambda_0=0.7, lambda_1=3))
        trainer._start_after_epochs_completed = start
        callback = LayerSelectionCallback(str(tmp_path), schedule=SCHEDULE)
        callback.on_start(trainer)
        model = trainer._pytorch_model
        found = []
        for epoch in range(start, 6):
            found.append((pytest.approx(model.lambda_0), model.budget.lambda_1))
            callback.on_epoch(trainer, {}, epoch)
        expected = [(0.0, 4), (0.0, 4), (0.2, 3), (0.4, 2), (0.4, 1), (0.4, 1)]
        assert expected[start:] == found

    def test_the_last_budget_counts(self, tmp_path):
        trainer = trainer_for(selection([1.0, 1.0, 0.0, 0.0], lambda_0=0.7, lambda_1=3))
        LayerSelectionCallback(str(tmp_path), schedule=SCHEDULE).on_start(trainer)
        trainer._metric_tracker.add_metrics({"f1": 0.5})  # two layers, within the first budgets
        assert trainer._metric_tracker.best_epoch is None

    def test_multiply_adds(self, tmp_path):
        model = selection([1.0] * 4, lambda_0=0.7, max_multiply_adds=100)
        points = {"max_multiply_adds": [(0, 300), (2, 100)]}
        callback = LayerSelectionCallback(str(tmp_path), schedule=points)
        trainer = trainer_for(model)
        callback.on_start(trainer)
        assert model.budget.max_multiply_adds == 300
        callback.on_epoch(trainer, {}, 0)
        assert model.budget.max_multiply_adds == 200
        # A layer costs 4 * 2 * (3 + 2) = 40, and 16 for each earlier one.
        for kept, expected in ((2, True), (3, False)):
            model.gates.data = torch.tensor([1.0] * kept + [0.0] * (4 - kept))
            assert trainer._metric_tracker.is_within_budget() is expected

    @pytest.mark.parametrize(
        "schedule, message",
        [
            ({"lambda_2": [(0, 1)]}, "schedule of .* is 'lambda_2'"),
            ({"lambda_0": []}, "pairs of epoch and value"),
            ({"lambda_0": [(2, 1), (2, 0)]}, "rising epochs"),
            ({"lambda_0": [(0, -1)]}, "at least 0"),
            ({"max_multiply_adds": [(0, 10)]}, "max_multiply_adds .* budget is 0 layers"),
        ],
    )
    def test_errors(self, tmp_path, schedule, message):
        with pytest.raises(ConfigurationError, match=message):
            LayerSelectionCallback(str(tmp_path), schedule=schedule).on_start(
                trainer_for(selection([1.0], lambda_0=0.1))
            )

    @pytest.mark.parametrize("budget", [{"lambda_1": {"forward": 1}}, {"max_multiply_adds": 5}])
    def test_layers_of_another_kind_of_budget(self, tmp_path, budget):
        with pytest.raises(ConfigurationError, match="layers of all directions together"):
            LayerSelectionCallback(str(tmp_path), schedule={"lambda_1": [(0, 1)]}).on_start(
                trainer_for(selection([1.0], lambda_0=0.1, **budget))
            )


def test_training_ends_with_an_error_if_no_epoch_came_within_budget(tmp_path, language_models):
    ldnet = "model.text_field_embedder.token_embedders.ldnet"
    overrides = {f"{ldnet}.lambda_0": 1e-9, f"{ldnet}.lambda_1": 0, **NO_TRAINING}
    params = tagger_params(language_models, "select", overrides)
    with pytest.raises(BudgetMissed, match=r"budget of 0 layers.*fewest layers .* are 8,"):
        train_model(params, str(tmp_path / "run"))
    assert not (tmp_path / "run" / "model.tar.gz").exists()
    assert not (tmp_path / "run" / "best.th").exists()
    assert len((tmp_path / "run" / GATES_FILE).read_text().splitlines()) == 2


@pytest.fixture(scope="module")
def selected(tmp_path_factory, language_models):
    """A training whose penalty is strong enough to come within its budget of 2 of 8 layers."""
    folder = tmp_path_factory.mktemp("selected") / "run"
    params = tagger_params(language_models, "select", num_epochs=12, learning_rate=0.05)
    train_model(params, str(folder))
    return folder


def test_the_archive_is_within_budget(selected):
    model = load_archive(str(selected / "model.tar.gz")).model
    assert 0 <= selection_metrics(model)["kept_layers"] <= 2
    gates = ldnet_embedder(model).gates()
    assert gates.min().item() >= 0 and gates.max().item() <= 1


def test_the_log_has_the_gates_of_each_epoch(selected):
    records = [json.loads(line) for line in (selected / GATES_FILE).read_text().splitlines()]
    metrics = json.loads((selected / "metrics.json").read_text())
    assert [record["epoch"] for record in records] == list(range(len(records)))
    for record in records:
        gates = [gate for module in record["gates"].values() for part in module for gate in part]
        assert len(gates) == 8 and record["kept_layers"] == sum(gate > 0 for gate in gates)
        assert record["metrics"]["validation_kept_layers"] == record["kept_layers"]
        assert record["metrics"]["training_reg_loss"] >= 0
    assert set(records[0]["gates"]) == {
        f"text_field_embedder.token_embedder_ldnet.language_models.{name}_lm.selection"
        for name in ("forward", "backward")
    }
    assert records[0]["kept_layers"] == 8  # the budget had an epoch to refuse
    best = records[metrics["best_epoch"]]
    assert best["kept_layers"] <= 2
    model = load_archive(str(selected / "model.tar.gz")).model
    assert ldnet_embedder(model).gates().tolist() == pytest.approx(
        [gate for module in best["gates"].values() for part in module for gate in part]
    )
    within = [record for record in records if record["kept_layers"] <= 2]
    scores = [record["metrics"]["validation_f1-measure-overall"] for record in within]
    assert best["metrics"]["validation_f1-measure-overall"] == max(scores)


def test_a_recovered_training_goes_on_with_the_budget(tmp_path, language_models):
    """The same training in one go and in two."""
    params = {"num_epochs": 12, "learning_rate": 0.05, "dropout": 0.0}
    overrides = {"data_loader": {"batch_size": 10, "shuffle": False}}
    train_model(tagger_params(language_models, "select", overrides, **params), str(tmp_path / "once"))
    folder = str(tmp_path / "twice")
    with pytest.raises(BudgetMissed, match="No epoch meets"):
        train_model(
            tagger_params(language_models, "select", overrides, **{**params, "num_epochs": 2}), folder
        )
    # Recovering wants the config that the run was started with.
    config = tagger_params(language_models, "select", overrides, **params)
    config.to_file(str(tmp_path / "twice" / "config.json"))
    train_model(config, folder, recover=True)
    logs = [(tmp_path / name / GATES_FILE).read_text().splitlines() for name in ("once", "twice")]
    once, twice = ([json.loads(line) for line in lines] for lines in logs)
    assert [record["epoch"] for record in twice] == [record["epoch"] for record in once]
    for record, other in zip(once, twice):
        assert record["kept_layers"] == other["kept_layers"]
    best = [json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("once", "twice")]
    assert best[0]["best_epoch"] == best[1]["best_epoch"]
