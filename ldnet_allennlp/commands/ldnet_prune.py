"""
`allennlp ldnet-prune`: remove the layers with gate 0 from the language models of a trained model.

    allennlp ldnet-prune ner_select/model.tar.gz pruned/model.tar.gz
    allennlp ldnet-prune ner_select/model.tar.gz pruned/ --keep 2 --keep-words words.txt --fold
    allennlp ldnet-prune ner_select/model.tar.gz pruned/ --keep forward:1,3 backward:2
"""

import argparse

from allennlp.commands.subcommand import Subcommand
from overrides import overrides

from ldnet_allennlp.commands.console import add_force, add_trust, errors_in_a_line
from ldnet_allennlp.commands.prune.kept_words import read_words
from ldnet_allennlp.commands.prune.pruning import prune_archive
from ldnet_allennlp.commands.sentences import read_sentences
from ldnet_allennlp.common.archives import without_progress_messages


@Subcommand.register("ldnet-prune")
class LdnetPrune(Subcommand):
    """
    Remove layers from the language models in an archive (any model with an "ldnet" token embedder): those with gate 0,
    or all that `--keep` does not name. Checks that the outputs stay the same, and writes an ordinary archive.
    """

    @overrides
    def add_subparser(self, parser: argparse._SubParsersAction) -> argparse.ArgumentParser:
        description = (
            "Cut the layers whose gate is 0 out of a trained model, check that tags stay the same and scores agree to "
            "1e-5, and write the smaller model as an ordinary archive."
        )
        subparser = parser.add_parser(
            self.name, description=description, help="Remove unused language model layers."
        )
        subparser.add_argument("archive", help="the trained model: model.tar.gz or its directory")
        subparser.add_argument("output", help="the archive to write: a file, or a directory for model.tar.gz")
        subparser.add_argument(
            "--sentences",
            help="a text file for the check, one sentence per line, words separated by blanks "
            "(default: sentences generated "
            "from the language models' words)",
        )
        subparser.add_argument(
            "--keep",
            nargs="+",
            metavar="LAYERS",
            help="the layers to keep: a number N, for the N layers with the largest gates of both directions together, "
            "or layers by name, numbered from 1: forward:1,3 backward:2. The others are cut even if their gate is "
            "above 0, which may change tags (default: those whose gate is above 0, which changes nothing)",
        )
        subparser.add_argument(
            "--keep-words",
            metavar="FILE",
            help="a file of words, one per line: all other words become unknown to the language models, and their "
            "vectors are dropped. Sentences of kept words are tagged as before",
        )
        subparser.add_argument(
            "--fold",
            action="store_true",
            help="multiply the gates of the remaining layers into the weights that read them",
        )
        add_force(subparser)
        add_trust(subparser)
        subparser.set_defaults(func=prune_from_args)
        return subparser


def prune_from_args(args: argparse.Namespace) -> None:
    """Run the command."""
    with errors_in_a_line("ldnet-prune"), without_progress_messages():
        report = prune_archive(
            args.archive,
            args.output,
            read_sentences(args.sentences) if args.sentences else None,
            args.force,
            keep=args.keep,
            keep_words=read_words(args.keep_words) if args.keep_words else None,
            fold=args.fold,
            trust=args.trust,
        )
        print("\n".join(report))
