"""
`allennlp ldnet-report`: layers, costs, sizes and speed of trained models, side by side.

    allennlp ldnet-report out/ner/model.tar.gz out/pruned/model.tar.gz
    allennlp ldnet-report out/*/model.tar.gz --text test.conll --threads 1 --json report.json --plot report.svg
"""

import argparse
import json
import os
from typing import Any, Dict, List, Optional, cast

import torch
from allennlp.commands.subcommand import Subcommand
from allennlp.common.checks import ConfigurationError
from allennlp.data.fields import MetadataField
from allennlp.models.archival import Archive
from overrides import overrides

from ldnet_allennlp.commands.ldnet_prune import read_sentences
from ldnet_allennlp.commands.report.model_report import report_of, sentences_for
from ldnet_allennlp.commands.report.plot import check_plot, write_plot
from ldnet_allennlp.commands.report.speed import torch_threads
from ldnet_allennlp.commands.report.table import short_names, table
from ldnet_allennlp.common.archives import (
    check_is_there,
    read_archive,
    replacing,
    without_progress_messages,
)
from ldnet_allennlp.data.conll.reader import ConllColumnsReader

TEXT_FORMATS = ("auto", "plain", "conll")
_COLUMN_ENDINGS = (".conll", ".conllu", ".iob", ".iob2", ".bio", ".bioes", ".tsv")


@Subcommand.register("ldnet-report")
class LdnetReport(Subcommand):
    """
    Tells what models cost: layers and gates, parameters, multiply-adds by component, bytes, words a second; as a
    table, as JSON, and as a picture.
    """

    @overrides
    def add_subparser(self, parser: argparse._SubParsersAction) -> argparse.ArgumentParser:
        description = (
            "Counts and measures taggers, language models and other models with ldnet token embedders: layers and "
            "gates of each direction, parameters, multiply-adds a word by component, sizes, words a second."
        )
        subparser = parser.add_parser(
            self.name, description=description, help="Layers, costs, sizes and speed of models."
        )
        subparser.add_argument(
            "archive", nargs="+", help="trained models: model.tar.gz or the directory of a training"
        )
        subparser.add_argument(
            "--text",
            metavar="FILE",
            help="what the speed is measured on and the length of words is taken from; otherwise sentences of random "
            "words of the first model's vocabulary",
        )
        subparser.add_argument(
            "--text-format",
            choices=TEXT_FORMATS,
            default="auto",
            help="plain: a sentence a line, words between blanks; conll: columns, as the first model's reader reads "
            f"them, or the word in the first; by default conll if the name ends in {', '.join(_COLUMN_ENDINGS)}",
        )
        subparser.add_argument(
            "--characters-per-word",
            type=_positive_float,
            metavar="NUMBER",
            help="for multiply-adds of character networks, without the space; by default the mean of the text. The "
            "published figures come out with 8",
        )
        subparser.add_argument(
            "--threads", type=_positive_int, help="torch's threads while the speed is measured"
        )
        subparser.add_argument("--batch-size", type=_positive_int, default=32, help="sentences (default: 32)")
        subparser.add_argument(
            "--passes",
            type=_whole_number,
            default=3,
            help="how often the text is read, the median time counts (default: 3); 0 measures no speed",
        )
        subparser.add_argument("--json", metavar="FILE", help="write everything as JSON, too")
        subparser.add_argument(
            "--plot",
            metavar="FILE",
            help="write a picture, .png or .svg: cost by component, which layers read which, and gates over training "
            "where a gates.jsonl lies beside an archive. Needs matplotlib",
        )
        subparser.set_defaults(func=report_from_args)
        return subparser


def report_from_args(args: argparse.Namespace) -> None:
    """Runs the command. Errors of the user are told in a line and end with exit status 1."""
    try:
        if args.plot:
            check_plot(args.plot)  # before the work
        with without_progress_messages():
            result = report(
                args.archive,
                text=args.text,
                text_format=args.text_format,
                characters_per_word=args.characters_per_word,
                threads=args.threads,
                batch_size=args.batch_size,
                passes=args.passes,
            )
        names = short_names(args.archive)
        print("\n".join([*table(result["archives"], names), "", *_settings_in_words(result)]))
        if args.json:
            with replacing(args.json) as path, open(path, "w", encoding="utf-8") as file:
                json.dump(result, file, indent=2)
                file.write("\n")
        if args.plot:
            with without_progress_messages():  # of matplotlib
                write_plot(args.plot, result["archives"], names)
    except (ConfigurationError, OSError) as error:
        raise SystemExit(f"ldnet-report: {error}") from error


def report(
    archives: List[str],
    text: Optional[str] = None,
    text_format: str = "auto",
    characters_per_word: Optional[float] = None,
    threads: Optional[int] = None,
    batch_size: int = 32,
    passes: int = 3,
) -> Dict[str, Any]:
    """
    Reports on archives, one after the other.

    # Parameters

    archives : `List[str]`
    text, text_format, characters_per_word, threads, batch_size, passes
        See the command's `--help`.

    # Returns

    `Dict[str, Any]`
        `archives`: what `report_of` gives, for each; and the settings: `text` (`None` for generated sentences),
        `num_words`, `characters_per_word`, `threads`, `batch_size`, `passes`, `torch`.

    Raises `ConfigurationError` if an archive or the text cannot be read.
    """
    for path in archives:
        check_is_there(path)  # before the work
    sentences: List[List[str]] = []
    reports = []
    with torch_threads(threads) as used_threads:
        for path in archives:
            archive = read_archive(path)
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


def read_text(path: str, text_format: str, archive: Archive) -> List[List[str]]:
    """
    The words of the sentences of a file.

    # Parameters

    path : `str`
    text_format : `str`
        One of `TEXT_FORMATS`, see the command's `--help`.
    archive : `Archive`
        Its reader reads columns, if it can: a "conll_columns" reader.

    Raises `ConfigurationError` if there are no sentences, or if the reader cannot read the file.
    """
    if not os.path.isfile(path):
        raise ConfigurationError(f"The text '{path}' was not found.")
    is_columns = text_format == "conll" or (text_format == "auto" and path.lower().endswith(_COLUMN_ENDINGS))
    if not is_columns:
        return read_sentences(path)
    reader = archive.validation_dataset_reader
    if not isinstance(reader, ConllColumnsReader):
        reader = ConllColumnsReader(layout="conllu" if path.lower().endswith(".conllu") else "columns")
    instances = reader.for_prediction()._read(path)  # not by `read`, which shows a bar
    return [cast(MetadataField, instance["metadata"])["words"] for instance in instances]


def _settings_in_words(result: Dict[str, Any]) -> List[str]:
    source = result["text"] or "random words of the first model"
    lines = [f"Multiply-adds are those of words of {result['characters_per_word']:.2f} characters."]
    if result["passes"] > 0:
        threads = f"{result['threads']} thread{'s' if result['threads'] > 1 else ''}"
        passes = f"{result['passes']} {'passes' if result['passes'] > 1 else 'pass'}"
        lines.append(
            f"Words per second, from words to output: {threads}, batches of {result['batch_size']}, median of {passes} "
            f"over {result['num_words']:,} words ({source}); torch {result['torch']}."
        )
    return lines


def _whole_number(text: str, least: int = 0) -> int:
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(
            f"a whole number of at least {least} was expected, but '{text}' was found"
        )
    return int(text)


def _positive_int(text: str) -> int:
    return _whole_number(text, least=1)


def _positive_float(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"a number above 0 was expected, but '{text}' was found")
    return number
