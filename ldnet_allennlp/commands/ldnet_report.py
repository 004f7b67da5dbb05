"""
`allennlp ldnet-report`: compare layers, costs, sizes and speed of trained models.

    allennlp ldnet-report out/ner/model.tar.gz out/pruned/model.tar.gz
    allennlp ldnet-report out/*/model.tar.gz --text test.conll --threads 1 --json report.json --plot report.svg
    allennlp ldnet-report out/ner/model.tar.gz --errors test.conll --html errors.html
"""

import argparse
import json
from typing import Any

import torch
from allennlp.commands.subcommand import Subcommand
from allennlp.common.checks import ConfigurationError
from overrides import overrides

from ldnet_allennlp.commands.console import (
    Command,
    add_speed,
    add_trust,
    arguments_of,
    positive_float,
    positive_int,
)
from ldnet_allennlp.commands.report.error_page import error_page
from ldnet_allennlp.commands.report.errors import find_errors, tagged_sentences
from ldnet_allennlp.commands.report.model_report import report_of, torch_threads
from ldnet_allennlp.commands.report.plot import check_plot, draw_report, save_plot
from ldnet_allennlp.commands.report.table import conditions, short_names, table
from ldnet_allennlp.commands.sentences import ENDINGS, TEXT_FORMATS, Sentences, read_text, sentences_for
from ldnet_allennlp.common.archives import check_exists, read_archive
from ldnet_allennlp.common.files import atomic_write, check_output
from ldnet_allennlp.common.lines import PathOrPaths


@Subcommand.register("ldnet-report")
class LdnetReport(Command):
    """
    Count and measure taggers, language models and other models with ldnet token embedders: layers and gates of each
    direction, parameters, multiply-adds per word by component, sizes, words per second; as a table, JSON or a plot.
    """

    summary = "Layers, costs, sizes and speed of models."

    @overrides
    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        add = parser.add_argument
        add("archives", metavar="archive", nargs="+", help="trained models: model.tar.gz or its directory")
        add(
            "--text",
            metavar="FILE",
            help="text for speed and word length (default: random words of the first model)",
        )
        add(
            "--text-format",
            choices=TEXT_FORMATS,
            default="auto",
            help="plain: one sentence per line, words separated by blanks; conll: columns, read by the first model's "
            "reader if possible, else with the word in the first; annotated: files of annotation tools; reader: what "
            f"the first model's reader reads; auto: conll if the name ends in {', '.join(ENDINGS['conll'])}, "
            f"annotated if it ends in {', '.join(ENDINGS['annotated'])}, else plain",
        )
        add(
            "--characters-per-word",
            type=positive_float,
            metavar="NUMBER",
            help="word length for the multiply-adds of character networks (default: the text's mean; 8 in published "
            "figures)",
        )
        add("--batch-size", type=positive_int, default=32, help="sentences per batch")
        add_speed(parser, "text")
        add("--json", metavar="FILE", help="also write the report as JSON")
        add(
            "--plot",
            metavar="FILE",
            help="also write a picture, .png or .svg: cost by component, which layers read which, and gates over "
            "training if a gates.jsonl is next to an archive. Needs matplotlib",
        )
        add(
            "--errors",
            metavar="FILE",
            help="instead, compare one tagger's spans with those of this labeled file: scores by type, confusion of "
            "types, boundary errors, calibration, and the most confident mistakes, as the page --html",
        )
        add("--html", metavar="FILE", help="the page for --errors")
        add_trust(parser)

    @overrides
    def run(self, args: argparse.Namespace) -> None:
        if args.errors is not None or args.html is not None:
            _write_errors(args)
            return
        if args.plot:
            check_plot(args.plot)  # before the work
        if args.json is not None:
            check_output(args.json, force=True)
        result = report(**arguments_of(report, args))
        names = short_names(args.archives)
        print("\n".join([*table(result["archives"], names), "", *conditions(result)]))
        if args.json:
            with atomic_write(args.json) as file:
                json.dump(result, file, indent=2)
                file.write("\n")
        if args.plot:
            save_plot(args.plot, draw_report, result["archives"], names)


def report(
    archives: list[str],
    text: PathOrPaths | None = None,
    text_format: str = "auto",
    characters_per_word: float | None = None,
    threads: int | None = None,
    batch_size: int = 32,
    passes: int = 3,
    trust: bool = False,
) -> dict[str, Any]:
    """
    Report on archives, one after another. The arguments are those of the command.

    # Returns

    `Dict[str, Any]`
        `archives`: the result of `report_of` for each; and the settings: `text` (`None` for generated sentences),
        `num_words`, `characters_per_word`, `threads`, `batch_size`, `passes`, `torch`.

    Raises `ConfigurationError` if an archive or the text cannot be read.
    """
    for path in archives:
        check_exists(path)  # before the work
    sentences: Sentences = []
    reports = []
    with torch_threads(threads) as used_threads:
        for path in archives:
            archive = read_archive(path, trust)
            if not sentences:
                sentences = (
                    read_text(text, text_format, archive) if text is not None else sentences_for(archive)
                )
                words = [word for sentence in sentences for word in sentence]
                characters = characters_per_word or sum(map(len, words)) / len(words)
            reports.append(report_of(path, archive, sentences, characters, batch_size, passes))
            del archive  # one in memory at a time
    return {
        "archives": reports,
        "text": text,
        "num_words": len(words),
        "characters_per_word": characters,
        "threads": used_threads,
        "batch_size": batch_size,
        "passes": passes,
        "torch": torch.__version__,
    }


def _write_errors(args: argparse.Namespace) -> None:
    """The page of `--errors`."""
    if not args.errors or not args.html or len(args.archives) != 1:
        raise ConfigurationError("--errors FILE and --html FILE belong together, with one archive.")
    check_output(args.html, force=True)
    (source,) = args.archives
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
