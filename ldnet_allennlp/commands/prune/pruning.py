"""Prune an archive: remove layers and words, check that the outputs stay the same, and write an ordinary archive."""

import os
from typing import Any, NamedTuple

from allennlp.common.checks import ConfigurationError
from allennlp.data import DatasetReader
from allennlp.models.archival import Archive
from allennlp.models.model import Model

from ldnet_allennlp.commands.model_configs import pruned_config
from ldnet_allennlp.commands.prune.kept_words import KeptWords
from ldnet_allennlp.commands.prune.layer_choice import Layers, choose_layers, cut_gates, shown_layers
from ldnet_allennlp.commands.report.component_costs import component_costs
from ldnet_allennlp.commands.sentences import Sentences
from ldnet_allennlp.common.archives import archive_path, read_archive, remove_namespace, write_archive
from ldnet_allennlp.common.files import check_output
from ldnet_allennlp.common.verification import (
    TOLERANCE,
    check_finite,
    difference,
    generated_sentences,
    outputs_of,
)
from ldnet_allennlp.data.language_model_vocabulary import architecture_namespace
from ldnet_allennlp.modules.embedders.ldnet_embedder import LdnetEmbedder


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
    Write a pruned copy of an archive.

    # Parameters

    source : `str`
        The archive of a model with "ldnet" token embedders.
    output : `str`
        A file, or a directory for `model.tar.gz`.
    sentences : `List[List[str]]`, optional
        Sentences for the check; by default generated from the words of the language models.
    force : `bool`, optional (default = `False`)
        Whether to replace `output`.
    keep : `List[str]`, optional
        The layers to keep, in the format of `choose_layers`; by default those with a gate above 0.
    keep_words : `Set[str]`, optional
        The words that the language models keep, see `KeptWords`; by default all.
    fold : `bool`, optional (default = `False`)
        Whether to multiply the gates of the remaining layers into the weights that read them; the gates become 1.
    trust : `bool`, optional (default = `False`)
        See `read_archive`.

    # Returns

    `List[str]`
        The lines of the report.

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
    sample = _sample(sentences, model, embedders[0].namespace, kept_words)

    report = [_describe("before", model, embedders, sample.characters_per_word)]
    layers = (
        [embedder.kept_layers() for embedder in embedders] if keep is None else choose_layers(embedders, keep)
    )
    notes = _switch_off(model, reader, sample.sentences, embedders, layers)
    before = outputs_of(model, reader, sample.sentences)
    for embedder, numbers in zip(embedders, layers):
        embedder.prune(numbers)
        if fold:
            embedder.fold_gates()
    if kept_words is not None:
        notes += kept_words.drop_others()
    _check_same(before, outputs_of(model, reader, sample.sentences))
    config = pruned_config(archive.config.as_dict(quiet=True), embedders)
    for embedder in embedders:  # the config describes the language models now
        remove_namespace(model.vocab, architecture_namespace(embedder.namespace))

    def check(written: Archive) -> None:
        _check_same(before, outputs_of(written.model, written.validation_dataset_reader, sample.sentences))

    write_archive(target, model, config, check, trust=trust)
    return [
        *report,
        _describe("after", model, embedders, sample.characters_per_word),
        *notes,
        f"Checked on {sample.description}: same tags, scores within {TOLERANCE:g}.",
        f"Written to {target} ({os.path.getsize(target) / 2**20:.1f} MiB).",
    ]


class _Sample(NamedTuple):
    """Sentences for the check of a model."""

    sentences: Sentences
    description: str

    @property
    def characters_per_word(self) -> float:
        words = [word for sentence in self.sentences for word in sentence]
        return sum(map(len, words)) / len(words)


def _sample(sentences: Sentences | None, model: Model, namespace: str, words: KeptWords | None) -> _Sample:
    """The user's sentences whose words are all kept; without any, generated ones."""
    allowed = None if words is None else words.reads_the_same
    usable = [sentence for sentence in sentences or [] if allowed is None or all(map(allowed, sentence))]
    if usable:
        left_out = len(sentences or []) - len(usable)
        note = f" ({left_out} others have dropped words)" if left_out else ""
        return _Sample(usable, f"{len(usable)} of your sentences{note}")
    generated = generated_sentences(model.vocab, namespace, allowed=allowed)
    reason = ", because each of yours has dropped words" if sentences else ""
    return _Sample(generated, f"{len(generated)} generated sentences{reason}")


def _check_same(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> None:
    change = difference(before, after)
    if change:
        raise ConfigurationError(f"Outputs of the pruned model differ; nothing was written: {change}")


def _switch_off(
    model: Model,
    reader: DatasetReader,
    sentences: Sentences,
    embedders: list[LdnetEmbedder],
    kept: list[Layers],
) -> list[str]:
    """Set the gates of the layers to remove to 0. Returns the number of changed tags if any gate was above 0."""
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


def _describe(moment: str, model: Model, embedders: list[LdnetEmbedder], characters_per_word: float) -> str:
    layers = ", ".join(shown_layers(embedder.all_layers()) for embedder in embedders)
    costs = component_costs(model, characters_per_word)
    parameters = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    incomplete = " (incomplete: see ldnet-report)" if costs.not_counted else ""
    return (
        f"{moment + ':':8} {costs.total / 1e6:.2f} M multiply-adds per word{incomplete}, {parameters:.2f} M "
        f"parameters, language model layers: {layers}"
    )
