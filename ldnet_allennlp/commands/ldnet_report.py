"""
`allennlp ldnet-report`: compare layers, costs, sizes and speed of trained models.

    allennlp ldnet-report out/ner/model.tar.gz out/pruned/model.tar.gz
    allennlp ldnet-report out/*/model.tar.gz --text test.conll --threads 1 --json report.json --plot report.svg
    allennlp ldnet-report out/ner/model.tar.gz --errors test.conll --html errors.html
"""

import argparse
import json
from typing import Any

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
from ldnet_allennlp.commands.report.error_page import error_page
from ldnet_allennlp.commands.report.errors import find_errors
from ldnet_allennlp.commands.report.plot import check_plot, write_plot
from ldnet_allennlp.commands.report.reporting import report
from ldnet_allennlp.commands.report.table import short_names, table
from ldnet_allennlp.commands.report.tagged_sentences import tagged_sentences
from ldnet_allennlp.commands.sentences import COLUMN_ENDINGS, TEXT_FORMATS
from ldnet_allennlp.common.archives import read_archive, without_progress_messages
from ldnet_allennlp.common.files import atomic_write, check_output


@Subcommand.register("ldnet-report")
class LdnetReport(Subcommand):
    """
    Report the cost of models: layers and gates, parameters, multiply-adds by component, bytes, words per second; as a
    table, JSON or a plot.
    """

    @overrides
    def add_subparser(self, parser: argparse._SubParsersAction) -> argparse.ArgumentParser:
        description = (
            "Count and measure taggers, language models and other models with ldnet token embedders: layers and gates "
            "of each direction, parameters, multiply-adds per word by component, sizes, words per second."
        )
        subparser = parser.add_parser(
            self.name, description=description, help="Layers, costs, sizes and speed of models."
        )
        subparser.add_argument(
            "archive", nargs="+", help="trained models: model.tar.gz or its serialization directory"
        )
        subparser.add_argument(
            "--text",
            metavar="FILE",
            help="the text for measuring speed and word length (default: sentences of random words of the "
            "first model's vocabulary)",
        )
        subparser.add_argument(
            "--text-format",
            choices=TEXT_FORMATS,
            default="auto",
            help="plain: one sentence per line, words separated by blanks; conll: columns, read by the first model's "
            "reader if possible, with the word in the first; auto: conll if the name ends in "
            f"{', '.join(COLUMN_ENDINGS)}",
        )
        subparser.add_argument(
            "--characters-per-word",
            type=positive_float,
            metavar="NUMBER",
            help="for the multiply-adds of character networks, without the space (default: the mean of the text; the "
            "published figures are for 8)",
        )
        subparser.add_argument("--threads", type=positive_int, help="torch threads for the speed measurement")
        subparser.add_argument("--batch-size", type=positive_int, default=32, help="sentences (default: 32)")
        subparser.add_argument(
            "--passes",
            type=whole_number,
            default=3,
            help="number of passes over the text; the median time counts (default: 3). 0 measures no speed",
        )
        subparser.add_argument("--json", metavar="FILE", help="also write the report as JSON")
        subparser.add_argument(
            "--plot",
            metavar="FILE",
            help="also write a picture, .png or .svg: cost by component, which layers read which, and gates over "
            "training where a gates.jsonl is next to an archive. Needs matplotlib",
        )
        subparser.add_argument(
            "--errors",
            metavar="FILE",
            help="instead, compare the spans that one tagger predicts with those of a file with tags: scores by type, "
            "confusion of types, boundary errors, calibration, and the most confident mistakes, as the page --html",
        )
        subparser.add_argument("--html", metavar="FILE", help="the page for --errors")
        add_trust(subparser)
        subparser.set_defaults(func=report_from_args)
        return subparser


def report_from_args(args: argparse.Namespace) -> None:
    """Run the command."""
    with errors_in_a_line("ldnet-report"), without_progress_messages():
        if args.errors is not None or args.html is not None:
            _write_errors(args)
            return
        if args.plot:
            check_plot(args.plot)  # before the work
        if args.json is not None:
            check_output(args.json, force=True)
        result = report(
            args.archive,
            text=args.text,
            text_format=args.text_format,
            characters_per_word=args.characters_per_word,
            threads=args.threads,
            batch_size=args.batch_size,
            passes=args.passes,
            trust=args.trust,
        )
        names = short_names(args.archive)
        print("\n".join([*table(result["archives"], names), "", *_conditions(result)]))
        if args.json:
            with atomic_write(args.json) as file:
                json.dump(result, file, indent=2)
                file.write("\n")
        if args.plot:
            write_plot(args.plot, result["archives"], names)


def _write_errors(args: argparse.Namespace) -> None:
    """The page of `--errors`."""
    if not args.errors or not args.html or len(args.archive) != 1:
        raise ConfigurationError("--errors FILE and --html FILE belong together, with one archive.")
    check_output(args.html, force=True)
    (source,) = args.archive
    archive = read_archive(source, args.trust)
    errors = find_errors(tagged_sentences(archive, args.errors, source))
    with atomic_write(args.html) as file:
        file.write(error_page(short_names([source])[0], args.errors, errors))
    total = errors.scores[""]
    kinds = ", ".join(f"{count} {kind}" for kind, count in errors.kinds().items())
    print(
        f"F1 {100 * total.f1:.2f} on {errors.num_sentences} sentences; {len(errors.mistakes)} mistakes: {kinds}."
    )
    print(f"Written to {args.html}.")


def _conditions(result: dict[str, Any]) -> list[str]:
    """Notes on the conditions of the measurements."""
    lines = [f"Multiply-adds are for words of {result['characters_per_word']:.2f} characters."]
    if result["passes"] > 0:
        source = result["text"] or "random words of the first model"
        threads = f"{result['threads']} thread{'s' if result['threads'] > 1 else ''}"
        passes = f"{result['passes']} {'passes' if result['passes'] > 1 else 'pass'}"
        lines.append(
            f"Words per second, from words to output: {threads}, batches of {result['batch_size']}, median of {passes} "
            f"over {result['num_words']:,} words ({source}); torch {result['torch']}."
        )
    return lines
