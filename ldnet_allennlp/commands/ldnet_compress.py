"""
`allennlp ldnet-compress`: makes a trained model smaller without changing its network.

    allennlp ldnet-compress pruned/model.tar.gz small/model.tar.gz --int8 --half-embeddings
    allennlp ldnet-compress pruned/model.tar.gz shared --mapped-embeddings --half-embeddings
"""

import argparse
import os
from typing import Any, Dict, List, Optional

import torch
from allennlp.commands.subcommand import Subcommand
from allennlp.common.checks import ConfigurationError
from allennlp.models.archival import Archive
from overrides import overrides

from ldnet_allennlp.commands.compression import (
    Change,
    change_of,
    check_is_whole,
    half_precision,
    int8_config,
    map_embeddings,
    rebuilt,
    set_embedding_dtype,
)
from ldnet_allennlp.commands.ldnet_prune import described_config, read_sentences
from ldnet_allennlp.commands.report.model_report import archive_bytes, bytes_by_dtype, sentences_for
from ldnet_allennlp.commands.report.table import in_mebibytes
from ldnet_allennlp.common.archives import (
    archive_path,
    check_is_replaceable,
    read_archive,
    remove_namespace,
    without_progress_messages,
    write_archive,
    write_directory,
)
from ldnet_allennlp.common.verification import difference, outputs_of
from ldnet_allennlp.data.language_model_vocabulary import architecture_namespace
from ldnet_allennlp.modules.embedders.ldnet_embedder import LdnetEmbedder

_MAX_CHANGED = 1.0


@Subcommand.register("ldnet-compress")
class LdnetCompress(Subcommand):
    """
    Stores the weights of a trained model in less space: integers of 8 bits for its recurrent layers, numbers of half
    precision for its embeddings, word vectors that processes share. Checks what that changes before anything is
    written.
    """

    @overrides
    def add_subparser(self, parser: argparse._SubParsersAction) -> argparse.ArgumentParser:
        description = (
            "Stores the weights of a trained model in less space, tells how many tags that changes, and writes an "
            "ordinary archive or, with --mapped-embeddings, a directory that is loaded like one."
        )
        subparser = parser.add_parser(self.name, description=description, help="Store a model in less space.")
        subparser.add_argument("archive", help="the trained model: model.tar.gz or its directory")
        subparser.add_argument(
            "output",
            help="the archive to write: a file, or a directory for model.tar.gz; with --mapped-embeddings, the "
            "model's directory itself",
        )
        subparser.add_argument(
            "--int8",
            action="store_true",
            help="8-bit weights in the language models and the encoder: for the CPU only, and not for training",
        )
        subparser.add_argument(
            "--half-embeddings",
            action="store_true",
            help="store all embeddings in half precision; the language models' stay so in memory",
        )
        subparser.add_argument(
            "--mapped-embeddings",
            action="store_true",
            help="keep the language models' word vectors in files of their own, which are mapped into memory and "
            "shared by all processes that load the model",
        )
        subparser.add_argument(
            "--sentences",
            metavar="FILE",
            help="a text file, one sentence a line, words between blanks, to check on; otherwise sentences are made "
            "of random words, which are harder to tag than text",
        )
        subparser.add_argument(
            "--max-changed",
            type=float,
            default=_MAX_CHANGED,
            metavar="PERCENT",
            help=f"how many of a hundred tags may change (default: {_MAX_CHANGED:g}); if more do, nothing is written",
        )
        subparser.add_argument("-f", "--force", action="store_true", help="replace the output if it exists")
        subparser.set_defaults(func=compress_from_args)
        return subparser


def compress_from_args(args: argparse.Namespace) -> None:
    """Runs the command. Errors of the user are told in a line and end with exit status 1."""
    try:
        with without_progress_messages():
            report = compress_archive(
                args.archive,
                args.output,
                int8=args.int8,
                half_embeddings=args.half_embeddings,
                mapped_embeddings=args.mapped_embeddings,
                sentences=read_sentences(args.sentences) if args.sentences else None,
                max_changed=args.max_changed,
                force=args.force,
            )
        print("\n".join(report))
    except (ConfigurationError, OSError) as error:
        raise SystemExit(f"ldnet-compress: {error}") from error


def compress_archive(
    source: str,
    output: str,
    int8: bool = False,
    half_embeddings: bool = False,
    mapped_embeddings: bool = False,
    sentences: Optional[List[List[str]]] = None,
    max_changed: float = _MAX_CHANGED,
    force: bool = False,
) -> List[str]:
    """
    Writes a compressed copy of an archive.

    # Parameters

    source : `str`
        The archive of any model. Mapped embeddings need "ldnet" token embedders, int8 weights these or an encoder.
    output : `str`
        Where to write: a file, or a directory for `model.tar.gz`; with `mapped_embeddings` the model's directory.
    int8, half_embeddings, mapped_embeddings : `bool`, optional (default = `False`)
        What to do, at least one of them. See the command's `--help`.
    sentences : `List[List[str]]`, optional
        The sentences to check on; otherwise they are made up.
    max_changed : `float`, optional (default = `1.0`)
        How many of a hundred tags may change.
    force : `bool`, optional (default = `False`)
        Whether `output` may be replaced.

    # Returns

    `List[str]`
        What was done, in lines for the user.

    Raises `ConfigurationError` if there is nothing to do, if the model cannot be compressed so, if `output` exists, if
    more tags change than may, or if what was written does not say what the compressed model says: then nothing is
    written.
    """
    if not (int8 or half_embeddings or mapped_embeddings):
        raise ConfigurationError("Give --int8, --half-embeddings or --mapped-embeddings, or several of them.")
    target = os.path.abspath(output) if mapped_embeddings else archive_path(output)
    _check_target(target, mapped_embeddings, force)
    archive = read_archive(source)
    model, reader = archive.model, archive.validation_dataset_reader
    check_is_whole(model, source)
    embedders = [part for part in model.modules() if isinstance(part, LdnetEmbedder)]
    if mapped_embeddings and not embedders:
        raise ConfigurationError(
            f"'{source}' was expected to hold a model with an ldnet token embedder, but its {type(model).__name__} has "
            f"none: there are no word vectors of language models to map."
        )
    kind = "given" if sentences else "generated"
    sentences = sentences or sentences_for(archive)
    before = outputs_of(model, reader, sentences)

    config = described_config(archive.config.as_dict(quiet=True), embedders)
    state: Dict[str, torch.Tensor] = dict(model.state_dict())
    stored: Dict[str, torch.Tensor] = {}
    if half_embeddings:
        stored = half_precision(model)
        state.update(stored)
        set_embedding_dtype(config["model"], "float16")
    if int8:
        config["model"] = int8_config(config["model"])
    compressed = rebuilt(model, config["model"], state)
    after = outputs_of(compressed, reader, sentences)
    change = change_of(before, after)
    if change.percent > max_changed:
        raise ConfigurationError(
            f"{_told(change)}, more than the {max_changed:g} % allowed (--max-changed), so nothing was written. "
            f"--sentences checks on text of yours."
        )

    def check(written: Archive) -> None:
        found = difference(after, outputs_of(written.model, written.validation_dataset_reader, sentences))
        if found:
            raise ConfigurationError(
                f"What was written does not say what the compressed model says, so it was removed: {found}"
            )

    for embedder in embedders:  # the config describes the language models now
        remove_namespace(compressed.vocab, architecture_namespace(embedder.namespace))
    weights = {**compressed.state_dict(), **stored}
    if mapped_embeddings:
        files = map_embeddings(compressed, config["model"])
        arrays = {file: weights.pop(name).detach().cpu().numpy() for name, file in files.items()}
        write_directory(target, compressed, config, check, weights, arrays)
    else:
        write_archive(target, compressed, config, check, weights)
    return [
        f"before: {_sizes(source, bytes_by_dtype(model))}",
        f"after:  {_sizes(target, bytes_by_dtype(compressed))}",
        f"{_told(change)}; the largest change of a score is {change.largest:.2g}.",
        f"Checked on {len(sentences)} {kind} sentences: what was written says the same as the compressed model.",
        f"Written to {target}.",
    ]


def _check_target(target: str, is_directory: bool, force: bool) -> None:
    if is_directory:
        check_is_replaceable(target)
    taken = os.path.exists(target) and not (is_directory and not os.listdir(target))
    if taken and not force:
        raise ConfigurationError(f"'{target}' exists already. Give another output, or --force to replace it.")


def _told(change: Change) -> str:
    return f"{change.changed:,} of {change.total:,} tags changed ({change.percent:.2f} %)"


def _sizes(path: str, kinds: Dict[str, Any]) -> str:
    by_kind = ", ".join(f"{in_mebibytes(size)} {kind}" for kind, size in kinds.items())
    return f"{in_mebibytes(archive_bytes(path))} on disk, weights {by_kind}"
