"""
`allennlp ldnet-sweep`: prune a trained tagger to several layer budgets.

    allennlp ldnet-sweep out/ner/model.tar.gz out/sweep --layers 6 4 2 1 --epochs 10 --plot out/sweep.svg
    allennlp ldnet-sweep out/ner/model.tar.gz out/sweep --multiply-adds 2e6 1e6 --also out/ner_vanilla/model.tar.gz
"""

import argparse

from allennlp.commands.subcommand import Subcommand
from allennlp.common.checks import ConfigurationError
from overrides import overrides

from ldnet_allennlp.commands.console import (
    add_trust,
    errors_in_a_line,
    positive_float,
    positive_int,
    whole_number,
)
from ldnet_allennlp.commands.report.plot import check_plot
from ldnet_allennlp.commands.sweep.points import Budget
from ldnet_allennlp.commands.sweep.sweeping import sweep
from ldnet_allennlp.commands.sweep.table import sweep_table, write_sweep_plot
from ldnet_allennlp.common.archives import without_progress_messages


@Subcommand.register("ldnet-sweep")
class LdnetSweep(Subcommand):
    """
    Select layers of a trained tagger for several budgets; prune, score and measure each result; compare them in a table
    and a plot. Existing results are reused.
    """

    @overrides
    def add_subparser(self, parser: argparse._SubParsersAction) -> argparse.ArgumentParser:
        description = (
            "Continue training a tagger with layer selection, once per layer budget, cut the unused layers out, and "
            "compare scores, multiply-adds, words per second and sizes. The data are those that the tagger was trained "
            "on. An interrupted call continues where it stopped."
        )
        subparser = parser.add_parser(
            self.name, description=description, help="Prune a tagger to several layer budgets."
        )
        subparser.add_argument("archive", help="the trained tagger: model.tar.gz or its directory")
        subparser.add_argument(
            "output", help="the output directory: one archive per budget, in NAME/pruned/model.tar.gz"
        )
        budgets = subparser.add_mutually_exclusive_group(required=True)
        budgets.add_argument(
            "--layers",
            type=whole_number,
            nargs="+",
            metavar="N",
            help="budgets in layers of the language models, both directions together",
        )
        budgets.add_argument(
            "--multiply-adds",
            type=positive_float,
            nargs="+",
            metavar="NUMBER",
            help="budgets in multiply-adds per word, of the language models with their projection: 2e6",
        )
        subparser.add_argument(
            "--lambda-0", type=float, default=0.05, help="the weight of the penalty (default: 0.05)"
        )
        subparser.add_argument(
            "--epochs", type=positive_int, help="of each selection (default: as many as the tagger's)"
        )
        subparser.add_argument(
            "--gate-learning-rate",
            type=positive_float,
            metavar="RATE",
            help="learning rate of the gates, which move further than weights: with Adam, start with ten times the "
            "others' (default: as the others)",
        )
        subparser.add_argument(
            "--over-budget-weight",
            type=float,
            default=1.0,
            metavar="WEIGHT",
            help="factor of the penalty while over budget (default: 1, as published); more than 1 also removes layers "
            "that the tagger's loss holds at a gate of exactly 1",
        )
        subparser.add_argument(
            "--published-penalty",
            action="store_true",
            help="use the paper's penalty, which may leave more layers than the budget (default: every budget is "
            "met exactly)",
        )
        subparser.add_argument(
            "--finetune-epochs",
            type=positive_int,
            metavar="N",
            help="train each pruned tagger for N more epochs, with the tagger's own optimizer, in NAME/finetuned "
            "(default: none)",
        )
        subparser.add_argument(
            "-o",
            "--overrides",
            default="",
            help="JSON with other changes to the tagger's config, as for allennlp train",
        )
        subparser.add_argument(
            "--also",
            nargs="+",
            default=[],
            metavar="ARCHIVE",
            help="other models to compare with, such as one without language models",
        )
        subparser.add_argument("--threads", type=positive_int, help="torch threads for the speed measurement")
        subparser.add_argument(
            "--passes",
            type=whole_number,
            default=3,
            help="passes over the validation data for the speed measurement (default: 3); 0 measures none",
        )
        subparser.add_argument("--plot", metavar="FILE", help="also write a plot, .png or .svg")
        add_trust(subparser)
        subparser.set_defaults(func=sweep_from_args)
        return subparser


def sweep_from_args(args: argparse.Namespace) -> None:
    """Run the command."""
    with errors_in_a_line("ldnet-sweep"):
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
            published_penalty=args.published_penalty,
            finetune_epochs=args.finetune_epochs,
            overrides=args.overrides,
            also=args.also,
            threads=args.threads,
            passes=args.passes,
            trust=args.trust,
        )
        print("\n".join(sweep_table(result)))
        if args.plot:
            with without_progress_messages():  # of matplotlib
                write_sweep_plot(args.plot, result)
        if result["missed"]:
            reasons = " ".join(f"{name}: {reason}" for name, reason in result["missed"].items())
            raise ConfigurationError(f"These budgets were missed: {reasons}")
