"""Select, prune, score and measure a tagger, once per budget."""

import json
import os
from contextlib import nullcontext
from typing import Any

from allennlp.common.checks import ConfigurationError
from allennlp.common.params import parse_overrides, with_overrides
from allennlp.models.model import Model

from ldnet_allennlp.commands.report.reporting import report
from ldnet_allennlp.commands.sweep.points import Budget, Config, make_point, metric_of, save_start, scores_of
from ldnet_allennlp.commands.sweep.selection_config import selection_config
from ldnet_allennlp.common.archives import read_archive, without_progress_messages
from ldnet_allennlp.common.files import LOCK, atomic_write, exclusive_lock
from ldnet_allennlp.common.untrusted.config_types import restricted_types, without_files
from ldnet_allennlp.modules.embedders.ldnet_embedder import LdnetEmbedder

SETTINGS_FILE = "sweep.json"
RESULTS_FILE = "results.json"


def sweep(
    source: str,
    output: str,
    budgets: list[Budget],
    lambda_0: float = 0.05,
    num_epochs: int | None = None,
    gate_learning_rate: float | None = None,
    over_budget_weight: float = 1.0,
    published_penalty: bool = False,
    finetune_epochs: int | None = None,
    overrides: str = "",
    also: list[str] | None = None,
    threads: int | None = None,
    passes: int = 3,
    trust: bool = False,
) -> dict[str, Any]:
    """
    Write a pruned archive for each budget to the directory `output`, and measure all of them in one run. The arguments
    are those of the command.

    # Returns

    `Dict[str, Any]`
        `metric`; `points`, a list of `name`, `archive`, `scores` (see `scores_of`) and `report` (see `report_of`), the
        tagger itself and `also` first; `missed`, the reason by missed budget; and the settings of `report`. It is also
        written to `results.json` in `output`.

    Raises `ConfigurationError` if the tagger's layers cannot be selected, if `output` has a sweep with other settings,
    or if another process works in it.
    """
    also = also or []
    settings: dict[str, Any] = {
        "archive": os.path.abspath(source),
        "lambda_0": lambda_0,
        "epochs": num_epochs,
        "gate_learning_rate": gate_learning_rate,
        "over_budget_weight": over_budget_weight,
        "published_penalty": published_penalty,
        "finetune_epochs": finetune_epochs,
        "overrides": parse_overrides(overrides),
    }
    start = os.path.join(output, "start")  # where every selection starts from
    model, config = _read_archives(source, also, trust)  # before anything is written
    configs = _selection_configs(model, config, budgets, start, settings)
    with exclusive_lock(output):
        _check_settings(output, settings)
        save_start(model, start)
        points: list[dict[str, Any]] = []
        for name, path, folder in [
            ("unpruned", source, start),
            *((path, path, os.path.join(output, f"also-{n}")) for n, path in enumerate(also, start=1)),
        ]:
            scores = _scores_once(path, config, os.path.join(folder, "scores.json"), trust)
            points.append({"name": name, "archive": path, "scores": scores})
        missed = _make_points(output, config, configs, finetune_epochs, trust, points)
        with without_progress_messages():
            measured = report(
                [point["archive"] for point in points],
                text=config["validation_data_path"],
                text_format="conll",
                threads=threads,
                passes=passes,
                trust=trust,
            )
        for point, measures in zip(points, measured.pop("archives")):
            point["report"] = measures
        result = {"metric": metric_of(config), "points": points, "missed": missed, **measured}
        with atomic_write(os.path.join(output, RESULTS_FILE)) as file:
            json.dump(result, file, indent=2)
            file.write("\n")
    return result


def _read_archives(source: str, also: list[str], trust: bool) -> tuple[Model, Config]:
    """The tagger and its config, without references to files of weights. Checks the other archives, too."""
    with without_progress_messages():
        for path in also:
            read_archive(path, trust)
        archive = read_archive(source, trust)
    return archive.model, without_files(archive.config.as_dict(quiet=True))


def _selection_configs(
    model: Model, config: Config, budgets: list[Budget], start: str, settings: dict[str, Any]
) -> dict[Budget, Config]:
    embedders = [module for module in model.modules() if isinstance(module, LdnetEmbedder)]
    return {
        budget: with_overrides(
            selection_config(
                config,
                embedders,
                os.path.join(start, "vocabulary"),
                os.path.join(start, "weights.th"),
                settings["lambda_0"],
                budget.layers,
                budget.multiply_adds,
                settings["epochs"],
                settings["gate_learning_rate"],
                settings["over_budget_weight"],
                settings["published_penalty"],
            ),
            settings["overrides"],
        )
        for budget in budgets
    }


def _make_points(
    output: str,
    config: Config,
    configs: dict[Budget, Config],
    finetune_epochs: int | None,
    trust: bool,
    points: list[dict[str, Any]],
) -> dict[str, str]:
    """Add a point for each budget to `points`. Returns the reason for each missed budget."""
    finetuning = None
    if finetune_epochs is not None:
        finetuning = {**config["trainer"], "num_epochs": finetune_epochs}
    missed = {}
    for budget, selection in configs.items():
        try:
            with nullcontext() if trust else restricted_types():
                made = make_point(os.path.join(output, budget.name), selection, finetuning)
            points.append({"name": budget.name, **made})
        except ConfigurationError as error:
            missed[budget.name] = str(error.message)
    return missed


def _check_settings(output: str, settings: dict[str, Any]) -> None:
    """Raise `ConfigurationError` if the directory holds anything but a sweep with the same settings."""
    path = os.path.join(output, SETTINGS_FILE)
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            before = {"published_penalty": True, **json.load(file)}  # the only one in earlier versions
        changed = [name for name, value in settings.items() if before.get(name) != value]
        if changed:
            raise ConfigurationError(
                f"'{output}' contains a sweep with other settings: "
                + ", ".join(f"{name} was {before.get(name)!r}" for name in changed)
                + ". Choose another output, or remove it."
            )
    elif os.path.isdir(output) and set(os.listdir(output)) - {LOCK}:
        raise ConfigurationError(f"'{output}' was expected to be empty or to contain a sweep.")
    with atomic_write(path) as file:
        json.dump(settings, file, indent=2)


def _scores_once(archive: str, config: dict[str, Any], path: str, trust: bool) -> dict[str, float]:
    """The scores of an archive, kept in a file."""
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    scores = scores_of(archive, config, trust)
    with atomic_write(path) as file:
        json.dump(scores, file, indent=2)
    return scores
