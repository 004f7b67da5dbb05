"""Select, prune, score and measure, once per budget."""

import json
import os
from contextlib import nullcontext
from typing import Any

from allennlp.common.checks import ConfigurationError
from allennlp.common.params import parse_overrides, with_overrides

from ldnet_allennlp.commands.report.reporting import report
from ldnet_allennlp.commands.sweep.points import Budget, make_point, metric_of, save_start, scores_of
from ldnet_allennlp.commands.sweep.selection_config import selection_config
from ldnet_allennlp.common.archives import check_exists, read_archive, without_progress_messages
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
    finetune_epochs: int | None = None,
    overrides: str = "",
    also: list[str] | None = None,
    threads: int | None = None,
    passes: int = 3,
    trust: bool = False,
) -> dict[str, Any]:
    """
    Writes a pruned archive for each budget, and measures all of them in one go.

    # Parameters

    source : `str`
        The archive of a trained "ldnet_tagger".
    output : `str`
        The directory to write, or one of an interrupted or smaller sweep with the same settings.
    budgets : `List[Budget]`
    lambda_0, num_epochs, gate_learning_rate, over_budget_weight, finetune_epochs, overrides, also, threads, passes,
    trust
        See the command's `--help`.

    # Returns

    `Dict[str, Any]`
        `metric`; `points`, a list of `name`, `archive`, `scores` (see `scores_of`) and `report` (see `report_of`), the
        tagger itself and `also` first; `missed`, the reason by missed budget; and the settings of `report`. It is also
        written to `results.json` in `output`.

    Raises `ConfigurationError` if the tagger's layers cannot be selected, if `output` has a sweep with other
    settings, or if another process is at work there.
    """
    for path in (source, *(also or [])):
        check_exists(path)
    settings: dict[str, Any] = {
        "archive": os.path.abspath(source),
        "lambda_0": lambda_0,
        "epochs": num_epochs,
        "gate_learning_rate": gate_learning_rate,
        "over_budget_weight": over_budget_weight,
        "finetune_epochs": finetune_epochs,
        "overrides": parse_overrides(overrides),
    }
    with exclusive_lock(output):
        _check_settings(output, settings)
        config, points, missed = _make_points(source, output, budgets, settings, also or [], trust)
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


def _make_points(
    source: str,
    output: str,
    budgets: list[Budget],
    settings: dict[str, Any],
    also: list[str],
    trust: bool,
) -> tuple[dict[str, Any], list[dict[str, Any]], dict[str, str]]:
    """The tagger's config; the points of the tagger, of `also` and of the budgets; and the reason by missed budget."""
    with without_progress_messages():
        archive = read_archive(source, trust)
    model, config = archive.model, without_files(archive.config.as_dict(quiet=True))
    embedders = [module for module in model.modules() if isinstance(module, LdnetEmbedder)]
    start = os.path.join(output, "start")  # where every selection starts from
    configs = {
        budget: selection_config(
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
        )
        for budget in budgets
    }
    save_start(model, start)
    finetuning = None
    if settings["finetune_epochs"] is not None:
        finetuning = {**config["trainer"], "num_epochs": settings["finetune_epochs"]}
    points = []
    for name, path, folder in [
        ("unpruned", source, start),
        *((path, path, os.path.join(output, f"also-{number}")) for number, path in enumerate(also, start=1)),
    ]:
        scores = _scores_once(path, config, os.path.join(folder, "scores.json"), trust)
        points.append({"name": name, "archive": path, "scores": scores})
    missed = {}
    for budget in budgets:
        try:
            changed = with_overrides(configs[budget], settings["overrides"])
            with nullcontext() if trust else restricted_types():
                made = make_point(os.path.join(output, budget.name), changed, finetuning)
            points.append({"name": budget.name, **made})
        except ConfigurationError as error:
            missed[budget.name] = str(error.message)
    return config, points, missed


def _check_settings(output: str, settings: dict[str, Any]) -> None:
    """Raises `ConfigurationError` if the directory holds anything but a sweep with the same settings."""
    path = os.path.join(output, SETTINGS_FILE)
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            before = json.load(file)
        changed = [name for name, value in settings.items() if before.get(name) != value]
        if changed:
            raise ConfigurationError(
                f"'{output}' has a sweep with other settings: "
                + ", ".join(f"{name} was {before.get(name)!r}" for name in changed)
                + ". Give another output, or remove it."
            )
    elif os.path.isdir(output) and set(os.listdir(output)) - {LOCK}:
        raise ConfigurationError(
            f"'{output}' was expected to be empty or to hold a sweep, but it holds neither."
        )
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
