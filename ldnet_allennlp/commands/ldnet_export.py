"""
`allennlp ldnet-export`: export a trained tagger to one .onnx file for `ldnet_runtime`.

    allennlp ldnet-export pruned/model.tar.gz ner.onnx
    allennlp ldnet-export pruned/model.tar.gz ner.onnx --int8 --int8-embeddings --test test.conll
"""

import argparse
import hashlib
import os
from collections.abc import Collection
from importlib import metadata

from allennlp.commands.subcommand import Subcommand
from allennlp.common.checks import ConfigurationError
from allennlp.models.archival import Archive
from overrides import overrides

from ldnet_allennlp.commands.console import Command, add_force, add_trust, arguments_of
from ldnet_allennlp.commands.sentences import labeled_sentences, read_sentences, read_words, sentences_for
from ldnet_allennlp.common.archives import read_archive
from ldnet_allennlp.common.files import atomic_write, check_output
from ldnet_allennlp.export import export_tagger
from ldnet_allennlp.export.verification import Comparison, compare
from ldnet_allennlp.models.tag_decoding import label_encoding_of
from ldnet_runtime import Tagger
from ldnet_runtime.tag_schemes import spans_from_tags

_MAX_CHANGED = 1.0


@Subcommand.register("ldnet-export")
class LdnetExport(Command):
    """
    Export a trained tagger to one .onnx file for ldnet_runtime, which needs neither AllenNLP nor torch: graph, weights,
    vocabularies, labels and transitions. Before it writes the file, the command checks on sentences that tags are the
    same and that scores agree to 1e-4.
    """

    summary = "Write a tagger as one .onnx file."

    @overrides
    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        add = parser.add_argument
        add("source", metavar="archive", help="the trained tagger: model.tar.gz or its directory")
        add("output", help="the file to write, for example ner.onnx")
        add(
            "--int8",
            action="store_true",
            help="8-bit weights in all LSTMs: smaller, faster, a few tags change",
        )
        add("--int8-embeddings", action="store_true", help="8-bit embeddings: smaller, a few tags may change")
        add("--keep-words", metavar="FILE", help="words to keep, one per line; all others become unknown")
        add(
            "--sentences",
            metavar="FILE",
            help="text for the verification, one sentence per line (default: generated)",
        )
        add(
            "--test",
            metavar="FILE",
            help="labeled data for the tagger's dataset reader: verify with it, too, and print F1 before and after",
        )
        add(
            "--max-changed",
            type=float,
            default=_MAX_CHANGED,
            metavar="PERCENT",
            help="with --int8 or --int8-embeddings: fail if more than this percentage of the tags changes",
        )
        add_force(parser)
        add_trust(parser)

    @overrides
    def run(self, args: argparse.Namespace) -> None:
        options = arguments_of(export_archive, args)
        options["keep_words"] = read_words(args.keep_words) if args.keep_words else None
        options["sentences"] = read_sentences(args.sentences) if args.sentences else None
        print("\n".join(export_archive(**options)))


def export_archive(
    source: str,
    output: str,
    int8: bool = False,
    int8_embeddings: bool = False,
    keep_words: Collection[str] | None = None,
    sentences: list[list[str]] | None = None,
    test: str | None = None,
    max_changed: float = _MAX_CHANGED,
    force: bool = False,
    trust: bool = False,
) -> list[str]:
    """
    Export the tagger of an archive to an .onnx file. The arguments are those of the command; see also `export_tagger`.
    Returns the report, in lines.

    Raises `ConfigurationError`, and writes nothing, if the tagger cannot be exported or the tags of the exported one
    differ.
    """
    check_output(output, force)
    archive = read_archive(source, trust)
    model, reader = archive.model, archive.validation_dataset_reader
    kinds = {"int8 LSTMs": int8, "int8 embeddings": int8_embeddings}
    precision = ", ".join(kind for kind, is_set in kinds.items() if is_set) or "float32"
    data = export_tagger(
        model,
        reader,
        int8=int8,
        int8_embeddings=int8_embeddings,
        keep_words=keep_words,
        provenance=_provenance(source, archive, precision),
    )
    tagger = Tagger(data)
    report = [f"{output}: {len(data) / 2**20:.1f} MiB, {len(tagger.labels)} labels, {precision}"]
    gold = None
    if test is not None:
        labeled = labeled_sentences(archive, test, "--test")
        sentences = [words for words, _ in labeled] + (sentences or [])
        gold = [tags for _, tags in labeled]
    is_exact = precision == "float32" and (keep_words is None or sentences is None)
    checked = compare(model, reader, tagger, sentences or _generated(archive, keep_words))
    if gold is not None:
        encoding = label_encoding_of(model)
        before, after = (
            _score(gold, tags[: len(gold)], encoding) for tags in (checked.before, checked.after)
        )
        name = "accuracy" if encoding is None else "F1"
        report.append(f"{test}: {name} {before:.2f} before, {after:.2f} after")
    report.append(_verdict(checked, is_exact, max_changed, source))
    with atomic_write(output, "wb") as file:
        file.write(data)
    return report


def _generated(archive: Archive, keep_words: Collection[str] | None) -> list[list[str]]:
    """Sentences of words in the vocabulary that keep their vectors."""
    sentences = sentences_for(archive)
    if keep_words is None:
        return sentences
    kept = set(keep_words)
    sentences = [words for sentence in sentences if (words := [word for word in sentence if word in kept])]
    if not sentences:
        raise ConfigurationError("No word of --keep-words is in the tagger's vocabulary.")
    return sentences


def _verdict(checked: Comparison, is_exact: bool, max_changed: float, source: str) -> str:
    """The result of the comparison. Raises `ConfigurationError` if too many tags change."""
    percent = 100.0 * checked.changed / max(1, checked.num_words)
    facts = f"{checked.changed} of {checked.num_words} tags change ({percent:.2f} %), "
    facts += f"scores by up to {checked.largest:.2g}"
    if is_exact and (checked.changed or not checked.agrees):
        raise ConfigurationError(
            f"The exported tagger differs from '{source}': {facts}. Nothing was written."
        )
    if not percent <= max_changed:
        raise ConfigurationError(
            f"The exported tagger differs too much from '{source}': {facts}, more than --max-changed {max_changed:g}. "
            f"Nothing was written."
        )
    if is_exact:
        return f"verified on {checked.num_words} words: same tags, scores agree to {checked.largest:.2g}"
    return f"verified on {checked.num_words} words: {facts}"


def _score(gold: list[list[str]], predicted: list[list[str]], encoding: str | None) -> float:
    """F1 of spans, or accuracy of labels without spans, in percent."""
    if encoding is None:
        pairs = [pair for tags in zip(gold, predicted, strict=True) for pair in zip(*tags, strict=True)]
        return 100.0 * sum(one == other for one, other in pairs) / max(1, len(pairs))
    true, given = (
        {(number, *span) for number, tags in enumerate(rows) for span in spans_from_tags(tags, encoding)}
        for rows in (gold, predicted)
    )
    return 200.0 * len(true & given) / max(1, len(true) + len(given))


def _provenance(source: str, archive: Archive, precision: str) -> dict[str, str]:
    try:
        version = metadata.version("ldnet_allennlp")
    except metadata.PackageNotFoundError:  # used from a checkout
        version = "(not installed)"
    facts = {
        "archive": os.path.basename(os.path.abspath(source)),
        "model": archive.config.get("model", {}).get("type", type(archive.model).__name__),
        "precision": precision,
        "exported_by": f"ldnet_allennlp {version}",
    }
    if os.path.isfile(source):
        with open(source, "rb") as file:
            facts["sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
    return facts
