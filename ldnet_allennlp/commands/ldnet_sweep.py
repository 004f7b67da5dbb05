"""
`allennlp ldnet-sweep`: from one trained tagger to smaller ones, a budget each.

    allennlp ldnet-sweep out/ner/model.tar.gz out/sweep --layers 6 4 2 1 --epochs 10 --plot out/sweep.svg
    allennlp ldnet-sweep out/ner/model.tar.gz out/sweep --multiply-adds 2e6 1e6 --also out/ner_vanilla/model.tar.gz
"""

import argparse
import json
import os
from typing import Any, Dict, List, Optional, Tuple

from allennlp.commands.subcommand import Subcommand
from allennlp.common.checks import ConfigurationError
from allennlp.common.params import parse_overrides, with_overrides
from overrides import overrides

from ldnet_allennlp.commands.ldnet_report import report
from ldnet_allennlp.commands.report.plot import check_plot
from ldnet_allennlp.commands.sweep.points import Budget, make_point, metric_of, save_start, scores_of
from ldnet_allennlp.commands.sweep.selection_config import selection_config
from ldnet_allennlp.commands.sweep.table import sweep_table, write_sweep_plot
from ldnet_allennlp.common.archives import read_archive, replacing, without_progress_messages
from ldnet_allennlp.common.atomic import alone_in
from ldnet_allennlp.modules.embedders.ldnet_embedder import LdnetEmbedder

SETTINGS_FILE = "sweep.json"
RESULTS_FILE = "results.json"


@Subcommand.register("ldnet-sweep")
class LdnetSweep(Subcommand):
    """
    Selects layers of a trained tagger for several budgets, prunes, scores and measures each, and shows them in a table
    and a plot. What an earlier call has finished is not done again.
    """

    @overrides
    def add_subparser(self, parser: argparse._SubParsersAction) -> argparse.ArgumentParser:
        description = (
            "Goes on training a tagger with layer selection, once for each budget, cuts the layers out, and shows "
            "scores, multiply-adds, words a second and sizes side by side. The data are those that the tagger was "
            "trained on. A call that was interrupted goes on where it was."
        )
        subparser = parser.add_parser(
            self.name, description=description, help="Smaller and smaller taggers from one."
        )
        subparser.add_argument("archive", help="the trained tagger: model.tar.gz or its directory")
        subparser.add_argument(
            "output", help="the directory to write: an archive for each budget, in NAME/pruned/model.tar.gz"
        )
        budgets = subparser.add_mutually_exclusive_group(required=True)
        budgets.add_argument("--layers", type=int, nargs="+", metavar="N", help="budgets in layers")
        budgets.add_argument(
            "--multiply-adds",
            type=float,
            nargs="+",
            metavar="NUMBER",
            help="budgets in multiply-adds a word, of the language models with their projection: 2e6",
        )
        subparser.add_argument(
            "--lambda-0", type=float, default=0.05, help="the weight of the penalty (default: 0.05)"
        )
        subparser.add_argument(
            "--epochs", type=int, help="of each selection, by default as many as the tagger's"
        )
        subparser.add_argument(
            "--gate-learning-rate",
            type=float,
            metavar="RATE",
            help="of the gates, which have a longer way to go than weights: ten times the others' is a good start with "
            "Adam (default: as the others')",
        )
        subparser.add_argument(
            "--over-budget-weight",
            type=float,
            default=1.0,
            metavar="WEIGHT",
            help="of the penalty while over budget; above 1 (as published) also layers fall that the tagger's loss "
            "holds at a gate of exactly 1",
        )
        subparser.add_argument(
            "--finetune-epochs",
            type=int,
            metavar="N",
            help="train each pruned tagger for so many epochs more, with the tagger's own optimizer, in NAME/finetuned "
            "(default: none)",
        )
        subparser.add_argument(
            "-o",
            "--overrides",
            default="",
            help="JSON with what else is to be changed in the tagger's config, as of allennlp train",
        )
        subparser.add_argument(
            "--also",
            nargs="+",
            default=[],
            metavar="ARCHIVE",
            help="other models for the table, such as one without language models",
        )
        subparser.add_argument("--threads", type=int, help="torch's threads while the speed is measured")
        subparser.add_argument(
            "--passes",
            type=int,
            default=3,
            help="how often the validation data are read to measure the speed (default: 3)",
        )
        subparser.add_argument("--plot", metavar="FILE", help="write a picture, .png or .svg")
        subparser.set_defaults(func=sweep_from_args)
        return subparser


def sweep_from_args(args: argparse.Namespace) -> None:
    """Runs the command. Errors of the user are told in a line and end with exit status 1."""
    try:
        if args.plot:
            check_plot(args.plot)  # before the work
        budgets = [Budget(layers=number) for number in args.layers or []]
        budgets += [Budget(multiply_adds=number) for number in args.multiply_adds or []]
        result = sweep(
            args.archive,
            args.output,
            budgets,
            lambda_0=args.lambda_0,
            num_epochs=args.epochs,
            gate_learning_rate=args.gate_learning_rate,
            over_budget_weight=args.over_budget_weight,
            finetune_epochs=args.finetune_epochs,
            overrides=args.overrides,
            also=args.also,
            threads=args.threads,
            passes=args.passes,
        )
        print("\n".join(sweep_table(result)))
        if args.plot:
            with without_progress_messages():  # of matplotlib
                write_sweep_plot(args.plot, result)
        if result["missed"]:
            raise ConfigurationError(
                "These budgets were missed: "
                + " ".join(f"{name}: {reason}" for name, reason in result["missed"].items())
            )
    except (ConfigurationError, OSError) as error:
        raise SystemExit(f"ldnet-sweep: {error}") from error


def sweep(
    source: str,
    output: str,
    budgets: List[Budget],
    lambda_0: float = 0.05,
    num_epochs: Optional[int] = None,
    gate_learning_rate: Optional[float] = None,
    over_budget_weight: float = 1.0,
    finetune_epochs: Optional[int] = None,
    overrides: str = "",
    also: Optional[List[str]] = None,
    threads: Optional[int] = None,
    passes: int = 3,
) -> Dict[str, Any]:
    """
    Makes an archive for each budget, and measures all of them in one go.

    # Parameters

    source : `str`
        The archive of a trained "ldnet_tagger".
    output : `str`
        The directory to write, or one of an interrupted or smaller sweep with the same settings.
    budgets : `List[Budget]`
    lambda_0, num_epochs, gate_learning_rate, over_budget_weight, finetune_epochs, overrides, also, threads, passes
        See the command's `--help`.

    # Returns

    `Dict[str, Any]`
        `metric`; `points`, a list of `name`, `archive`, `scores` (see `scores_of`) and `report` (see `report_of`), the
        tagger itself and `also` first; `missed`, by budget why it was missed; and the settings of `report`. The same
        is written to `results.json` in `output`.

    Raises `ConfigurationError` if the tagger's layers cannot be selected, if `output` has a sweep with other
    settings, or if another process is at work there.
    """
    settings: Dict[str, Any] = {
        "archive": os.path.abspath(source),
        "lambda_0": lambda_0,
        "epochs": num_epochs,
        "gate_learning_rate": gate_learning_rate,
        "over_budget_weight": over_budget_weight,
        "finetune_epochs": finetune_epochs,
        "overrides": parse_overrides(overrides),
    }
    with alone_in(output):
        _check_settings(output, settings)
        config, points, missed = _make_points(source, output, budgets, settings, also or [])
        with without_progress_messages():
            measured = report(
                [point["archive"] for point in points],
                text=config["validation_data_path"],
                text_format="conll",
                threads=threads,
                passes=passes,
            )
        for point, found in zip(points, measured.pop("archives")):
            point["report"] = found
        result = {"metric": metric_of(config), "points": points, "missed": missed, **measured}
        with replacing(os.path.join(output, RESULTS_FILE)) as path, open(path, "w", encoding="utf-8") as file:
            json.dump(result, file, indent=2)
            file.write("\n")
    return result


def _make_points(
    source: str, output: str, budgets: List[Budget], settings: Dict[str, Any], also: List[str]
) -> Tuple[Dict[str, Any], List[Dict[str, Any]], Dict[str, str]]:
    """The tagger's config; the tagger, `also` and what came of the budgets; and by budget why it was missed."""
    with without_progress_messages():
        archive = read_archive(source)
    model, config = archive.model, archive.config.as_dict(quiet=True)
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
    points = [_given("unpruned", source, config, os.path.join(start, "scores.json"))]
    for number, path in enumerate(also, start=1):
        points.append(_given(path, path, config, os.path.join(output, f"also-{number}", "scores.json")))
    missed = {}
    for budget in budgets:
        try:
            changed = with_overrides(configs[budget], settings["overrides"])
            made = make_point(os.path.join(output, budget.name), changed, finetuning)
            points.append({"name": budget.name, **made})
        except ConfigurationError as error:
            missed[budget.name] = str(error.message)
    return config, points, missed


def _check_settings(output: str, settings: Dict[str, Any]) -> None:
    """A sweep with other settings must not be taken for this one."""
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
    elif os.path.isdir(output) and os.listdir(output):
        raise ConfigurationError(
            f"'{output}' was expected to be empty or to hold a sweep, but it holds neither."
        )
    with replacing(path) as beside, open(beside, "w", encoding="utf-8") as file:
        json.dump(settings, file, indent=2)


def _given(name: str, archive: str, config: Dict[str, Any], done: str) -> Dict[str, Any]:
    """A point that is there already: only its scores are missing."""
    if os.path.exists(done):
        with open(done, encoding="utf-8") as file:
            scores = json.load(file)
        return {"name": name, "archive": archive, "scores": scores}
    scores = scores_of(archive, config)
    with replacing(done) as path, open(path, "w", encoding="utf-8") as file:
        json.dump(scores, file, indent=2)
    return {"name": name, "archive": archive, "scores": scores}
