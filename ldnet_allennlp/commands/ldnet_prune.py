"""
`allennlp ldnet-prune`: cuts the layers that layer selection has switched off out of a trained model.

    allennlp ldnet-prune ner_select/model.tar.gz pruned/model.tar.gz
    allennlp ldnet-prune ner_select/model.tar.gz pruned/ --keep 2 --keep-words words.txt --fold
    allennlp ldnet-prune ner_select/model.tar.gz pruned/ --keep forward:1,3 backward:2
"""

import argparse
import copy
import os
from typing import Any, Dict, List, Optional, Set

from allennlp.commands.subcommand import Subcommand
from allennlp.common.checks import ConfigurationError
from allennlp.data import DatasetReader
from allennlp.models.archival import Archive
from allennlp.models.model import Model
from overrides import overrides

from ldnet_allennlp.commands.prune.kept_words import KeptWords, read_words
from ldnet_allennlp.commands.prune.layer_choice import Layers, choose_layers, cut_gates, shown_layers
from ldnet_allennlp.commands.report.component_costs import component_costs
from ldnet_allennlp.common.archives import (
    archive_path,
    find_sections,
    read_archive,
    remove_namespace,
    without_progress_messages,
    write_archive,
)
from ldnet_allennlp.common.lines import decode_line, numbered_lines
from ldnet_allennlp.common.verification import TOLERANCE, difference, generated_sentences, outputs_of
from ldnet_allennlp.data.language_model_vocabulary import architecture_namespace
from ldnet_allennlp.modules.embedders.ldnet_embedder import LdnetEmbedder


@Subcommand.register("ldnet-prune")
class LdnetPrune(Subcommand):
    """
    Cuts every layer whose gate is 0, or that the user does not name, out of the language models in an archive (any
    model with an "ldnet" token embedder), checks that the outputs stay the same (as with those gates at 0), and
    writes an ordinary archive.
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
        subparser.add_argument(
            "--keep",
            nargs="+",
            metavar="LAYERS",
            help="what to keep: a number N, for the N layers with the largest gates of both directions together, or "
            "layers by name, numbered from 1: forward:1,3 backward:2. The others are cut even if their gate is above "
            "0, which may change tags; by default those whose gate is 0 are cut, which does not",
        )
        subparser.add_argument(
            "--keep-words",
            metavar="FILE",
            help="a file of words, one a line: the vectors of all other words are dropped from the language models, "
            "to which these are unknown words then. Sentences of the kept words are tagged as before",
        )
        subparser.add_argument(
            "--fold",
            action="store_true",
            help="multiply the gates of the layers that are left into the weights that read them",
        )
        subparser.add_argument("-f", "--force", action="store_true", help="replace the output if it exists")
        subparser.set_defaults(func=prune_from_args)
        return subparser


def prune_from_args(args: argparse.Namespace) -> None:
    """Runs the command. Errors of the user are told in a line and end with exit status 1."""
    try:
        sentences = read_sentences(args.sentences) if args.sentences else None
        with without_progress_messages():
            report = prune_archive(
                args.archive,
                args.output,
                sentences,
                args.force,
                keep=args.keep,
                keep_words=read_words(args.keep_words) if args.keep_words else None,
                fold=args.fold,
            )
        print("\n".join(report))
    except (ConfigurationError, OSError) as error:
        raise SystemExit(f"ldnet-prune: {error}") from error


def read_sentences(path: str) -> List[List[str]]:
    """The words of each line of a text file that is not empty. Raises `ConfigurationError` if it cannot be read."""
    lines = (decode_line(line, "utf-8", path, number).split() for number, line in numbered_lines(path))
    sentences = [words for words in lines if words]
    if not sentences:
        raise ConfigurationError(f"'{path}' was expected to have a sentence a line, but it has none.")
    return sentences


def prune_archive(
    source: str,
    output: str,
    sentences: Optional[List[List[str]]] = None,
    force: bool = False,
    keep: Optional[List[str]] = None,
    keep_words: Optional[Set[str]] = None,
    fold: bool = False,
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
    keep : `List[str]`, optional
        The layers to keep, as `choose_layers` reads them; by default those whose gate is above 0.
    keep_words : `Set[str]`, optional
        The words that the language models keep, see `KeptWords`; by default all.
    fold : `bool`, optional (default = `False`)
        Whether the gates of the layers that are left go into the weights that read them, and are 1 then.

    # Returns

    `List[str]`
        What was done, in lines for the user.

    Raises `ConfigurationError` if there is nothing to prune in the archive, if `keep` or `keep_words` do not fit it,
    if `output` exists, or if the pruned model's outputs differ: then nothing is written.
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
    words = None if keep_words is None else KeptWords(model.vocab, embedders, reader, keep_words)
    sentences = _sentences_to_check(sentences, model, embedders[0].namespace, words)
    characters = sum(len(word) for sentence in sentences for word in sentence) / sum(map(len, sentences))

    report = [_describe("before", model, embedders, characters)]
    if keep is None:
        kept = [embedder.kept_layers() for embedder in embedders]
    else:
        kept = choose_layers(embedders, keep)
    told = _switch_off(model, reader, sentences, embedders, kept)
    before = outputs_of(model, reader, sentences)
    for embedder, layers in zip(embedders, kept):
        embedder.prune(layers)
        if fold:
            embedder.fold_gates()
    if words is not None:
        told += words.drop_others()
    _check_same(before, outputs_of(model, reader, sentences))
    config = pruned_config(archive.config.as_dict(quiet=True), embedders)
    for embedder in embedders:
        # The config describes the language models now.
        remove_namespace(model.vocab, architecture_namespace(embedder.namespace))

    def check(written: Archive) -> None:
        _check_same(before, outputs_of(written.model, written.validation_dataset_reader, sentences))

    write_archive(target, model, config, check)
    report.append(_describe("after", model, embedders, characters))
    report += told
    report.append(f"Checked on {len(sentences)} sentences: same tags, scores within {TOLERANCE:g}.")
    report.append(f"Written to {target} ({os.path.getsize(target) / 2**20:.1f} MiB).")
    return report


def described_config(config: Dict[str, Any], embedders: List[LdnetEmbedder]) -> Dict[str, Any]:
    """
    The config of a model whose weights come from its archive: its language models are described as they are now.

    # Parameters

    config : `Dict[str, Any]`
        The config of the model. It is not changed.
    embedders : `List[LdnetEmbedder]`
        The model's embedders, in the order in which they stand in it.

    Raises `ConfigurationError` if the embedders' sections cannot be told.
    """
    config = copy.deepcopy(config)
    sections = list(find_sections(config["model"], "ldnet"))
    if len(sections) != len(embedders):
        raise ConfigurationError(
            f"The model has {len(embedders)} ldnet token embedders, but {len(sections)} were found in its config. A "
            f"model that was loaded with from_archive does not say how it is built: give the archive that it was "
            f"loaded from."
        )
    for section, embedder in zip(sections, embedders):
        section.update(embedder.describe())
        for option in ("cache", "cache_dtype"):  # a directory of the machine that trained it
            section.pop(option, None)
    config["model"].pop("initializer", None)
    return config


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
    config = described_config(config, embedders)
    for section in find_sections(config["model"], "ldnet"):
        for option in ("lambda_0", "lambda_1", "max_multiply_adds", "over_budget_weight"):
            section.pop(option, None)
    regularizer = config["model"].get("regularizer")
    if regularizer is not None:
        regularizer["regexes"] = [
            pair for pair in regularizer["regexes"] if not is_of_type(pair[1], "layer_selection")
        ]
    trainer = config.get("trainer", {})
    wrapper = trainer.get("optimizer")  # a section or, without options, a name
    if isinstance(wrapper, dict) and wrapper.get("type") == "proximal":
        inner = wrapper["optimizer"]
        inner = {"type": inner} if isinstance(inner, str) else inner
        groups = wrapper.get("parameter_groups")
        trainer["optimizer"] = {**inner, **({"parameter_groups": groups} if groups else {})}
    if "callbacks" in trainer:
        trainer["callbacks"] = [
            callback for callback in trainer["callbacks"] if not is_of_type(callback, "layer_selection")
        ]
    return config


def is_of_type(section: Any, name: str) -> bool:
    """Whether a section of a config, which without options may be just a name, is of a registered type."""
    return (section.get("type") if isinstance(section, dict) else section) == name


def _check_same(before: List[Dict[str, Any]], after: List[Dict[str, Any]]) -> None:
    found = difference(before, after)
    if found:
        raise ConfigurationError(f"The pruned model does not say the same, so nothing was written: {found}")


def _sentences_to_check(
    given: Optional[List[List[str]]], model: Model, namespace: str, words: Optional[KeptWords]
) -> List[List[str]]:
    """Of the given sentences those whose words are kept, or, if there are none, generated ones."""
    allowed = None if words is None else words.reads_the_same
    found = [sentence for sentence in given or [] if allowed is None or all(map(allowed, sentence))]
    return found or generated_sentences(model.vocab, namespace, allowed=allowed)


def _switch_off(
    model: Model,
    reader: DatasetReader,
    sentences: List[List[str]],
    embedders: List[LdnetEmbedder],
    kept: List[Layers],
) -> List[str]:
    """Sets the gates of the layers that are to be cut to 0, and tells what changes if any were above."""
    switched_off = sum(
        len(set(numbers) - set(layers[name]))
        for embedder, layers in zip(embedders, kept)
        for name, numbers in embedder.kept_layers().items()
    )
    if not switched_off:
        return []
    before = outputs_of(model, reader, sentences)
    cut_gates(embedders, kept)
    after = outputs_of(model, reader, sentences)
    pairs = [
        pair
        for first, second in zip(before, after)
        for pair in zip(first.get("tags", []), second.get("tags", []))
    ]
    changed = sum(first != second for first, second in pairs)
    tags = f", which changes {changed} of {len(pairs)} tags of the sentences below" if pairs else ""
    return [f"Of the layers cut, {switched_off} had gates above 0{tags}."]


def _describe(moment: str, model: Model, embedders: List[LdnetEmbedder], characters_per_word: float) -> str:
    layers = ", ".join(shown_layers(embedder.all_layers()) for embedder in embedders)
    costs = component_costs(model, characters_per_word)
    parameters = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    without = " (not all is counted: see ldnet-report)" if costs.not_counted else ""
    return (
        f"{moment + ':':8} {costs.total / 1e6:.2f} M multiply-adds a word{without}, {parameters:.2f} M parameters, "
        f"language model layers: {layers}"
    )
