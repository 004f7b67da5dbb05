"""
`allennlp ldnet-prune`: remove the layers with gate 0 from the language models of a trained model.

    allennlp ldnet-prune ner_select/model.tar.gz pruned/model.tar.gz
    allennlp ldnet-prune ner_select/model.tar.gz pruned/ --keep 2 --keep-words words.txt --fold
    allennlp ldnet-prune ner_select/model.tar.gz pruned/ --keep forward:1,3 backward:2
"""

import argparse
import os
from typing import Any

from allennlp.commands.subcommand import Subcommand
from allennlp.common.checks import ConfigurationError
from allennlp.models.archival import Archive
from allennlp.models.model import Model
from overrides import overrides

from ldnet_allennlp.commands.console import Command, add_force, add_trust, arguments_of
from ldnet_allennlp.commands.model_configs import pruned_config
from ldnet_allennlp.commands.prune.kept_words import KeptWords
from ldnet_allennlp.commands.prune.layer_choice import choose_layers, cut_gates, shown_layers
from ldnet_allennlp.commands.report.component_costs import component_costs
from ldnet_allennlp.commands.sentences import Sentences, read_sentences, read_words
from ldnet_allennlp.common.archives import archive_path, read_archive, remove_namespace, write_archive
from ldnet_allennlp.common.files import check_output
from ldnet_allennlp.common.verification import (
    TOLERANCE,
    check_finite,
    difference,
    outputs_of,
    random_sentences,
)
from ldnet_allennlp.data.language_model_vocabulary import architecture_namespace, words_namespace, words_of
from ldnet_allennlp.modules.embedders.ldnet_embedder import LdnetEmbedder


@Subcommand.register("ldnet-prune")
class LdnetPrune(Command):
    """
    Remove the layers whose gate is 0, or all that `--keep` does not name, from the language models of a trained model
    (any with an "ldnet" token embedder), check that tags stay the same and scores agree to 1e-5, and write the smaller
    model as an ordinary archive.
    """

    summary = "Remove unused language model layers."

    @overrides
    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        add = parser.add_argument
        add("source", metavar="archive", help="the trained model: model.tar.gz or its directory")
        add("output", help="the archive to write: a file, or a directory for model.tar.gz")
        add(
            "--sentences",
            metavar="FILE",
            help="text for the check, one sentence per line (default: generated)",
        )
        add(
            "--keep",
            nargs="+",
            metavar="LAYERS",
            help="the layers to keep: a number N, for the N layers with the largest gates of both directions together, "
            "or layers by name, numbered from 1: forward:1,3 backward:2. The others are cut even if their gate is "
            "above 0, which may change tags (default: those whose gate is above 0, which changes nothing)",
        )
        add(
            "--keep-words",
            metavar="FILE",
            help="words that the language models keep, one per line; all others become unknown",
        )
        add("--fold", action="store_true", help="multiply the gates into the weights that read their layers")
        add_force(parser)
        add_trust(parser)

    @overrides
    def run(self, args: argparse.Namespace) -> None:
        options = arguments_of(prune_archive, args)
        options["sentences"] = read_sentences(args.sentences) if args.sentences else None
        options["keep_words"] = read_words(args.keep_words) if args.keep_words else None
        print("\n".join(prune_archive(**options)))


def prune_archive(
    source: str,
    output: str,
    sentences: Sentences | None = None,
    force: bool = False,
    keep: list[str] | None = None,
    keep_words: set[str] | None = None,
    fold: bool = False,
    trust: bool = False,
) -> list[str]:
    """
    Write a pruned copy of an archive. The arguments are those of the command. Returns the lines of the report.

    Raises `ConfigurationError`, and writes nothing, if the archive has nothing to prune, if its weights are not finite,
    if `keep` or `keep_words` do not match it, if `output` exists, or if the outputs of the pruned model differ.
    """
    target = check_output(archive_path(output), force)
    archive = read_archive(source, trust)
    model, reader = archive.model, archive.validation_dataset_reader
    embedders = [module for module in model.modules() if isinstance(module, LdnetEmbedder)]
    if not embedders:
        raise ConfigurationError(
            f"'{source}' was expected to hold a model with an ldnet token embedder, but its {type(model).__name__} has "
            f"none."
        )
    check_finite(model, source)
    kept_words = None if keep_words is None else KeptWords(model.vocab, embedders, reader, keep_words)
    sample, checked_on = _sample(sentences, model, embedders[0].namespace, kept_words)
    words = [word for sentence in sample for word in sentence]
    characters_per_word = sum(map(len, words)) / len(words)

    report = [_describe("before", model, embedders, characters_per_word)]
    notes = []
    before = outputs_of(model, reader, sample)
    layers = None if keep is None else choose_layers(embedders, keep)
    if layers is not None and (switched_off := cut_gates(embedders, layers)):
        uncut, before = before, outputs_of(model, reader, sample)
        notes.append(f"Of the layers cut, {switched_off} had gates above 0{_changed_tags(uncut, before)}.")
    for number, embedder in enumerate(embedders):
        embedder.prune(None if layers is None else layers[number])
        if fold:
            embedder.fold_gates()
    if kept_words is not None:
        notes += kept_words.drop_others()
    _check_same(before, outputs_of(model, reader, sample))
    config = pruned_config(archive.config.as_dict(quiet=True), embedders)
    for embedder in embedders:  # the config describes the language models now
        remove_namespace(model.vocab, architecture_namespace(embedder.namespace))

    def check(written: Archive) -> None:
        _check_same(before, outputs_of(written.model, written.validation_dataset_reader, sample))

    write_archive(target, model, config, check, trust=trust)
    return [
        *report,
        _describe("after", model, embedders, characters_per_word),
        *notes,
        f"Checked on {checked_on}: same tags, scores within {TOLERANCE:g}.",
        f"Written to {target} ({os.path.getsize(target) / 2**20:.1f} MiB).",
    ]


def _sample(
    sentences: Sentences | None, model: Model, namespace: str, words: KeptWords | None
) -> tuple[Sentences, str]:
    """The user's sentences whose words are all kept; without any, generated ones; and a description."""
    allowed = None if words is None else words.reads_the_same
    usable = [sentence for sentence in sentences or [] if allowed is None or all(map(allowed, sentence))]
    if usable:
        left_out = len(sentences or []) - len(usable)
        note = f" ({left_out} others have dropped words)" if left_out else ""
        return usable, f"{len(usable)} of your sentences{note}"
    known = [word for word in words_of(model.vocab, words_namespace(namespace))[2:] if word.strip()]
    generated = random_sentences([word for word in known if allowed is None or allowed(word)])
    reason = ", because each of yours has dropped words" if sentences else ""
    return generated, f"{len(generated)} generated sentences{reason}"


def _check_same(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> None:
    change = difference(before, after)
    if change:
        raise ConfigurationError(f"Outputs of the pruned model differ; nothing was written: {change}")


def _changed_tags(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> str:
    pairs = [
        pair
        for first, second in zip(before, after)
        for pair in zip(first.get("tags", []), second.get("tags", []))
    ]
    changed = sum(first != second for first, second in pairs)
    return f", which changes {changed} of {len(pairs)} tags of the sentences below" if pairs else ""


def _describe(moment: str, model: Model, embedders: list[LdnetEmbedder], characters_per_word: float) -> str:
    layers = ", ".join(shown_layers(embedder.all_layers()) for embedder in embedders)
    costs = component_costs(model, characters_per_word)
    parameters = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    incomplete = " (incomplete: see ldnet-report)" if costs.not_counted else ""
    return (
        f"{moment + ':':8} {costs.total / 1e6:.2f} M multiply-adds per word{incomplete}, {parameters:.2f} M "
        f"parameters, language model layers: {layers}"
    )
