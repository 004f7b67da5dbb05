"""
`allennlp ldnet-sweep`: prune a trained tagger to several layer budgets.

    allennlp ldnet-sweep out/ner/model.tar.gz out/sweep --layers 6 4 2 1 --epochs 10 --plot out/sweep.svg
    allennlp ldnet-sweep out/ner/model.tar.gz out/sweep --multiply-adds 2e6 1e6 --also out/ner_vanilla/model.tar.gz
"""

import argparse
import json
import os
from contextlib import nullcontext
from functools import partial
from typing import Any

from allennlp.commands.subcommand import Subcommand
from allennlp.common.checks import ConfigurationError
from allennlp.common.params import parse_overrides, with_overrides
from overrides import overrides

from ldnet_allennlp.commands.console import (
    Command,
    add_speed,
    add_trust,
    arguments_of,
    positive_float,
    positive_int,
    whole_number,
)
from ldnet_allennlp.commands.ldnet_report import report
from ldnet_allennlp.commands.model_configs import described_config, plain_trainer
from ldnet_allennlp.commands.report.plot import check_plot, save_plot
from ldnet_allennlp.commands.sweep.points import make_point, metric_of, once, save_start, scores_of, start_of
from ldnet_allennlp.commands.sweep.selection_config import Budget, selection_config
from ldnet_allennlp.commands.sweep.table import draw_sweep, sweep_table
from ldnet_allennlp.common.archives import digest_of, read_archive, without_progress_messages
from ldnet_allennlp.common.files import LOCK, atomic_write, exclusive_lock
from ldnet_allennlp.common.untrusted.config_types import named_files, restricted_types, without_files
from ldnet_allennlp.modules.embedders.ldnet_embedder import LdnetEmbedder
from ldnet_allennlp.training.layer_selection_callback import BudgetMissed

SETTINGS_FILE = "sweep.json"
RESULTS_FILE = "results.json"


@Subcommand.register("ldnet-sweep")
class LdnetSweep(Command):
    """
    Continue training a tagger with layer selection, once per layer budget, remove the unused layers, and compare
    scores, multiply-adds, words per second and sizes in a table and a plot. Trains on the data that the tagger was
    trained on. After an interruption, run it again to continue.
    """

    summary = "Prune a tagger to several layer budgets."
    is_quiet = False

    @overrides
    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        add = parser.add_argument
        add("source", metavar="archive", help="the trained tagger: model.tar.gz or its directory")
        add("output", help="the output directory: one archive per budget, in NAME/pruned/model.tar.gz")
        budgets = parser.add_mutually_exclusive_group(required=True)
        budgets.add_argument(
            "--layers",
            type=whole_number,
            nargs="+",
            metavar="N",
            help="budgets in layers, both directions together",
        )
        budgets.add_argument(
            "--multiply-adds",
            type=positive_float,
            nargs="+",
            metavar="NUMBER",
            help="budgets in multiply-adds per word, of the language models with their projection: 2e6",
        )
        add("--lambda-0", type=float, default=0.05, help="the weight of the penalty")
        add(
            "--epochs",
            dest="num_epochs",
            type=positive_int,
            help="epochs of each selection (default: the tagger's)",
        )
        add(
            "--published-penalty",
            action="store_true",
            help="the paper's penalty, which may miss a budget (default: every budget is met exactly)",
        )
        add(
            "--retrain-epochs",
            type=positive_int,
            metavar="N",
            help="train a new tagger on each set of remaining layers for N epochs, with the tagger's own trainer, in "
            "NAME/retrained",
        )
        add(
            "-o",
            "--overrides",
            default="",
            help="JSON with other changes to the config, as for allennlp train",
        )
        add("--also", nargs="+", default=[], metavar="ARCHIVE", help="other models to compare with")
        add_speed(parser, "validation data")
        add("--plot", metavar="FILE", help="also write a plot, .png or .svg")
        add_trust(parser)

    @overrides
    def run(self, args: argparse.Namespace) -> None:
        if args.plot:
            check_plot(args.plot)  # before the work
        budgets = [Budget(layers=number) for number in args.layers or []]
        budgets += [Budget(multiply_adds=number) for number in args.multiply_adds or []]
        result = sweep(budgets=budgets, **arguments_of(sweep, args))
        print("\n".join(sweep_table(result)))
        if args.plot:
            with without_progress_messages():  # of matplotlib
                save_plot(args.plot, draw_sweep, result)
        if result["missed"]:
            reasons = " ".join(f"{name}: {reason}" for name, reason in result["missed"].items())
            raise ConfigurationError(f"These budgets were missed: {reasons}")


def sweep(
    source: str,
    output: str,
    budgets: list[Budget],
    lambda_0: float = 0.05,
    num_epochs: int | None = None,
    published_penalty: bool = False,
    retrain_epochs: int | None = None,
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
    with without_progress_messages():  # all archives, before anything is written
        for path in [*also, source]:
            archive = read_archive(path, trust)
    settings: dict[str, Any] = {
        "archive": os.path.abspath(source),
        "archive_sha256": digest_of(source),
        "lambda_0": lambda_0,
        "epochs": num_epochs,
        "published_penalty": published_penalty,
        "retrain_epochs": retrain_epochs,
        "overrides": parse_overrides(overrides),
    }
    config = archive.config.as_dict(quiet=True)
    embedders = [module for module in archive.model.modules() if isinstance(module, LdnetEmbedder)]
    if retrain_epochs is None:
        config = without_files(config)
    elif not trust and (files := named_files(described_config(config, embedders))):
        raise ConfigurationError(
            f"--retrain-epochs starts a new tagger from files that the archive names: {', '.join(files)}. Add "
            f"--trust to read them."
        )
    start = os.path.join(output, "start")  # where every selection starts from
    configs = {}
    for budget in budgets:
        selection = selection_config(
            config, embedders, start_of(start), budget, lambda_0, num_epochs, published_penalty
        )
        try:
            configs[budget] = with_overrides(selection, settings["overrides"])
        except ValueError as error:  # AllenNLP's for unused keys
            raise ConfigurationError(f"--overrides: {error}") from error
    overridden = next(iter(configs.values()), config)
    trainer = plain_trainer(config["trainer"])
    retraining = None if retrain_epochs is None else {**trainer, "num_epochs": retrain_epochs}
    missed = {}
    with exclusive_lock(output):
        _check_settings(output, settings)
        save_start(archive.model, start)
        points: list[dict[str, Any]] = []
        folders = [start, *(os.path.join(output, f"also-{digest_of(path)[:16]}") for path in also)]
        for path, folder in zip([source, *also], folders):
            scores = once(os.path.join(folder, "scores.json"), partial(scores_of, path, overridden, trust))
            name = "unpruned" if folder == start else path
            points.append({"name": name, "archive": path, "scores": scores})
        for budget, selection in configs.items():
            try:
                with nullcontext() if trust else restricted_types():
                    made = make_point(os.path.join(output, budget.name), selection, retraining)
                points.append({"name": budget.name, **made})
            except BudgetMissed as error:
                missed[budget.name] = str(error.message)
        with without_progress_messages():
            measured = report(
                [point["archive"] for point in points],
                text=overridden["validation_data_path"],
                text_format="reader",
                threads=threads,
                passes=passes,
                trust=trust,
            )
        for point, measures in zip(points, measured.pop("archives")):
            point["report"] = measures
        result = {"metric": metric_of(overridden), "points": points, "missed": missed, **measured}
        with atomic_write(os.path.join(output, RESULTS_FILE)) as file:
            json.dump(result, file, indent=2)
            file.write("\n")
    return result


def _check_settings(output: str, settings: dict[str, Any]) -> None:
    """Raise `ConfigurationError` if the directory holds anything but a sweep with the same settings."""
    path = os.path.join(output, SETTINGS_FILE)
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            before = {"published_penalty": True, **json.load(file)}  # the only one in earlier versions
        before.setdefault("archive_sha256", settings["archive_sha256"])  # which earlier versions lack
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
