"""
`allennlp ldnet-convert`: convert files of the original LD-Net to archives.

    allennlp ldnet-convert ld0.th lm_forward/model.tar.gz --maps test.pk --direction forward
    allennlp ldnet-convert ner.th ner/model.tar.gz --maps ner_dataset.pk
    allennlp ldnet-convert pner0.th pruned/model.tar.gz
    allennlp ldnet-convert ner_dataset.pk conll/
"""

import argparse
import os

from allennlp.commands.subcommand import Subcommand
from allennlp.common.checks import ConfigurationError
from overrides import overrides

from ldnet_allennlp.common.archives import archive_path, without_progress_messages, write_archive
from ldnet_allennlp.common.files import check_output
from ldnet_allennlp.convert.datasets import write_dataset
from ldnet_allennlp.convert.language_models import ACTIVATIONS, convert_language_model
from ldnet_allennlp.convert.original_files import is_pickle_of_maps, read_checkpoint, read_options
from ldnet_allennlp.convert.taggers import convert_tagger
from ldnet_allennlp.convert.vocabularies import check_vocabulary


@Subcommand.register("ldnet-convert")
class LdnetConvert(Subcommand):
    """
    Convert checkpoints of the original LD-Net (language models, taggers, pruned taggers) to archives, and its datasets
    to CoNLL files. Nothing in the files is executed.
    """

    @overrides
    def add_subparser(self, parser: argparse._SubParsersAction) -> argparse.ArgumentParser:
        description = (
            "Convert the original LD-Net's checkpoints (language models, taggers, pruned taggers) to archives, and its "
            "dataset pickles to CoNLL files. Nothing in the files is executed."
        )
        subparser = parser.add_parser(
            self.name, description=description, help="Convert the original's files."
        )
        subparser.add_argument("source", help="a .th or .pk file")
        subparser.add_argument(
            "output",
            help="the archive to write (a file, or a directory for model.tar.gz), or the folder for CoNLL files",
        )
        subparser.add_argument(
            "--maps",
            help="the pickle with the maps: test.pk of a language model, ner_dataset.pk of a tagger. Pruned "
            "taggers contain them",
        )
        subparser.add_argument(
            "--direction", choices=["forward", "backward"], help="the direction of a language model"
        )
        subparser.add_argument(
            "--options",
            help="the options of the run as JSON, such as dropouts; by default x.config.json "
            "next to x.th, if it exists",
        )
        subparser.add_argument(
            "--projection-activation",
            choices=list(ACTIVATIONS),
            help="activation after the projection of a language model, if the options lack it: relu if it was "
            "trained with --add_relu",
        )
        subparser.add_argument("-f", "--force", action="store_true", help="replace the output if it exists")
        subparser.set_defaults(func=convert_from_args)
        return subparser


def convert_from_args(args: argparse.Namespace) -> None:
    """Run the command."""
    try:
        with without_progress_messages():
            lines = convert(
                args.source,
                args.output,
                maps=args.maps,
                direction=args.direction,
                options=args.options,
                activation=args.projection_activation,
                force=args.force,
            )
    except (ConfigurationError, OSError) as error:
        raise SystemExit(f"ldnet-convert: {error}") from error
    for line in lines:
        print(line)


def convert(
    source: str,
    output: str,
    maps: str | None = None,
    direction: str | None = None,
    options: str | None = None,
    activation: str | None = None,
    force: bool = False,
) -> list[str]:
    """
    Convert a checkpoint of the original to an archive at `output` (a file, or a directory for `model.tar.gz`), or a
    dataset pickle to CoNLL files in the folder `output`. The other arguments are those of the command.

    Returns the lines of a report. Raises `ConfigurationError`, and writes nothing, if a file is invalid or if `output`
    exists.
    """
    if is_pickle_of_maps(source):
        return write_dataset(source, output, force)
    target = check_output(archive_path(output), force)
    checkpoint = read_checkpoint(source)
    run_options = read_options(source, options)
    if checkpoint.is_tagger:
        converted = convert_tagger(checkpoint, maps, run_options)
    else:
        converted = convert_language_model(checkpoint, maps, direction, run_options, activation)
    vocab = converted.model.vocab
    write_archive(
        target, converted.model, converted.config, check=lambda written: check_vocabulary(written, vocab)
    )
    return [*converted.notes, f"Written to {target} ({os.path.getsize(target) / 2**20:.1f} MiB)."]
