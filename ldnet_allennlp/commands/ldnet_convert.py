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
from overrides import overrides

from ldnet_allennlp.commands.console import Command, add_force, arguments_of
from ldnet_allennlp.common.archives import archive_path, write_archive
from ldnet_allennlp.common.files import check_output
from ldnet_allennlp.convert.datasets import write_dataset
from ldnet_allennlp.convert.language_models import ACTIVATIONS, convert_language_model
from ldnet_allennlp.convert.original_files import is_pickle_of_maps, read_checkpoint, read_options
from ldnet_allennlp.convert.taggers import convert_tagger


@Subcommand.register("ldnet-convert")
class LdnetConvert(Command):
    """
    Convert the original LD-Net's checkpoints (language models, taggers, pruned taggers) to archives, and its dataset
    pickles to CoNLL files. Nothing in the files is executed.
    """

    summary = "Convert files of the original LD-Net."

    @overrides
    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        add = parser.add_argument
        add("source", help="a .th or .pk file")
        add(
            "output",
            help="the archive (a file, or a directory for model.tar.gz), or the folder of CoNLL files",
        )
        add(
            "--maps", help="the pickle with the maps: test.pk of a language model, ner_dataset.pk of a tagger"
        )
        add("--direction", choices=["forward", "backward"], help="the direction of a language model")
        add(
            "--options",
            help="the options of the run as JSON (default: x.config.json next to x.th, if it exists)",
        )
        add(
            "--projection-activation",
            dest="activation",
            choices=list(ACTIVATIONS),
            help="activation after a language model's projection, if the options lack it (--add_relu: relu)",
        )
        add_force(parser)

    @overrides
    def run(self, args: argparse.Namespace) -> None:
        print("\n".join(convert(**arguments_of(convert, args))))


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
    write_archive(target, converted.model, converted.config)
    return [*converted.notes, f"Written to {target} ({os.path.getsize(target) / 2**20:.1f} MiB)."]
