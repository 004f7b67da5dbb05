"""
`allennlp ldnet-prune`: cuts the layers that layer selection has switched off out of a trained model.

    allennlp ldnet-prune ner_select/model.tar.gz pruned/model.tar.gz
"""

import argparse
import copy
import os
from typing import Any, Dict, List, Optional

from allennlp.commands.subcommand import Subcommand
from allennlp.common.checks import ConfigurationError
from allennlp.models.archival import Archive
from allennlp.models.model import Model
from overrides import overrides

from ldnet_allennlp.commands.archives import (
    archive_path,
    find_sections,
    read_archive,
    remove_namespace,
    without_progress_messages,
    write_archive,
)
from ldnet_allennlp.commands.verification import TOLERANCE, difference, generated_sentences, outputs_of
from ldnet_allennlp.data.language_model_vocabulary import architecture_namespace
from ldnet_allennlp.modules.ldnet_embedder import LdnetEmbedder
from ldnet_allennlp.modules.multiply_adds import multiply_adds


@Subcommand.register("ldnet-prune")
class LdnetPrune(Subcommand):
    """
    Cuts every layer whose gate is 0 out of the language models in an archive (any model with an "ldnet" token
    embedder), checks that the outputs stay the same, and writes an ordinary archive.
    """

    @overrides
    def add_subparser(self, parser: argparse._SubParsersAction) -> argparse.ArgumentParser:
        description = (
            "Cuts the layers whose gate is 0 out of a trained model, checks that tags stay the same and scores "
            "agree to 1e-5, and writes the smaller model as an ordinary archive."
        )
        subparser = parser.add_parser(self.name, description=description, help="Cut unused LM layers out.")
        subparser.add_argument("archive", help="the trained model: model.tar.gz or its directory")
        subparser.add_argument("output", help="the archive to write: a file, or a directory for model.tar.gz")
        subparser.add_argument(
            "--sentences",
            help="a text file, one sentence a line, words between blanks, to check on; otherwise sentences are "
            "made of the language model's words",
        )
        subparser.add_argument("-f", "--force", action="store_true", help="replace the output if it exists")
        subparser.set_defaults(func=prune_from_args)
        return subparser


def prune_from_args(args: argparse.Namespace) -> None:
    """Runs the command. Errors of the user are told in a line and end with exit status 1."""
    try:
        sentences = read_sentences(args.sentences) if args.sentences else None
        with without_progress_messages():
            report = prune_archive(args.archive, args.output, sentences, args.force)
        print("\n".join(report))
    except (ConfigurationError, OSError) as error:
        raise SystemExit(f"ldnet-prune: {error}") from error


def read_sentences(path: str) -> List[List[str]]:
    """The words of each line of a text file that is not empty."""
    with open(path, encoding="utf-8") as text:
        sentences = [line.split() for line in text if line.strip()]
    if not sentences:
        raise ConfigurationError(f"'{path}' was expected to have a sentence a line, but it has none.")
    return sentences


def prune_archive(
    source: str, output: str, sentences: Optional[List[List[str]]] = None, force: bool = False
) -> List[str]:
    """
    Writes a pruned copy of an archive.

    # Parameters

    source : `str`
        The archive of a model with "ldnet" token embedders.
    output : `str`
        Where to write: a file, or a directory for `model.tar.gz`.
    sentences : `List[List[str]]`, optional
        The sentences to check on; otherwise they are made up.
    force : `bool`, optional (default = `False`)
        Whether `output` may be replaced.

    # Returns

    `List[str]`
        What was done, in lines for the user.

    Raises `ConfigurationError` if there is nothing to prune in the archive, if `output` exists, or if the
    pruned model's outputs differ: then nothing is written.
    """
    target = archive_path(output)
    if os.path.exists(target) and not force:
        raise ConfigurationError(f"'{target}' exists already. Give another output, or --force to replace it.")
    archive = read_archive(source)
    model, reader = archive.model, archive.validation_dataset_reader
    embedders = [module for module in model.modules() if isinstance(module, LdnetEmbedder)]
    if not embedders:
        raise ConfigurationError(
            f"'{source}' was expected to hold a model with an ldnet token embedder, but its "
            f"{type(model).__name__} has none: there is nothing to prune."
        )
    if sentences is None:
        sentences = generated_sentences(model.vocab, embedders[0].namespace)
    words = [word for sentence in sentences for word in sentence]
    characters = sum(map(len, words)) / len(words)

    report = [_describe("before", model, embedders, characters)]
    before = outputs_of(model, reader, sentences)
    for embedder in embedders:
        embedder.prune()
    _check_same(before, outputs_of(model, reader, sentences))
    config = pruned_config(archive.config.as_dict(quiet=True), embedders)
    for embedder in embedders:
        # The config describes the language models now.
        remove_namespace(model.vocab, architecture_namespace(embedder.namespace))

    def check(written: Archive) -> None:
        _check_same(before, outputs_of(written.model, written.validation_dataset_reader, sentences))

    write_archive(target, model, config, check)
    report.append(_describe("after", model, embedders, characters))
    report.append(f"Checked on {len(sentences)} sentences: same tags, scores within {TOLERANCE:g}.")
    report.append(f"Written to {target} ({os.path.getsize(target) / 2**20:.1f} MiB).")
    return report


def pruned_config(config: Dict[str, Any], embedders: List[LdnetEmbedder]) -> Dict[str, Any]:
    """
    The config of a pruned model: its language models are described as they are now, and what only layer
    selection needs is left out, so that the config serves for training on.

    # Parameters

    config : `Dict[str, Any]`
        The config of the unpruned model. It is not changed.
    embedders : `List[LdnetEmbedder]`
        The pruned embedders, in the order in which they stand in the model.

    Raises `ConfigurationError` if the embedders' sections cannot be told.
    """
    config = copy.deepcopy(config)
    sections = list(find_sections(config["model"], "ldnet"))
    if len(sections) != len(embedders):
        raise ConfigurationError(
            f"The model has {len(embedders)} ldnet token embedders, but {len(sections)} were found in its "
            f"config. A model that was loaded with from_archive does not say how it is built: prune the "
            f"archive that it was loaded from."
        )
    for section, embedder in zip(sections, embedders):
        section.update(embedder.describe())
        section.pop("lambda_0", None)
        section.pop("lambda_1", None)
    # These weights come from the archive.
    config["model"].pop("initializer", None)
    trainer = config.get("trainer", {})
    wrapper = trainer.get("optimizer")  # a section or, without options, a name
    if isinstance(wrapper, dict) and wrapper.get("type") == "proximal":
        inner = wrapper["optimizer"]
        inner = {"type": inner} if isinstance(inner, str) else inner
        groups = wrapper.get("parameter_groups")
        trainer["optimizer"] = {**inner, **({"parameter_groups": groups} if groups else {})}
    if "callbacks" in trainer:
        trainer["callbacks"] = [
            callback
            for callback in trainer["callbacks"]
            if callback != "layer_selection"
            and not (isinstance(callback, dict) and callback.get("type") == "layer_selection")
        ]
    return config


def _check_same(before: List[Dict[str, Any]], after: List[Dict[str, Any]]) -> None:
    found = difference(before, after)
    if found:
        raise ConfigurationError(f"The pruned model does not say the same, so nothing was written: {found}")


def _describe(moment: str, model: Model, embedders: List[LdnetEmbedder], characters_per_word: float) -> str:
    layers = ", ".join(
        f"{direction} {numbers}"
        for embedder in embedders
        for direction, numbers in embedder.all_layers().items()
    )
    cost = multiply_adds(model, characters_per_word) / 1e6
    parameters = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    return (
        f"{moment + ':':8} {cost:.2f} M multiply-adds a word, {parameters:.2f} M parameters, "
        f"language model layers {layers}"
    )
