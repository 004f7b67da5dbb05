"""
`allennlp ldnet-annotate`: label raw text with dictionaries, to train taggers without annotated sentences.

    allennlp ldnet-annotate articles/ --dictionary core.tsv --phrases full.txt -o train.conll
    allennlp ldnet-annotate raw_text.txt --input tokens --dictionary core.tsv -o train.ck --format ck
    allennlp ldnet-annotate truth_dev.ck --input ck -o dev.conll
"""

import argparse
from collections.abc import Iterator

from allennlp.commands.subcommand import Subcommand
from allennlp.common.checks import ConfigurationError
from overrides import overrides

from ldnet_allennlp.commands.annotate.dictionary import (
    DictionaryMatcher,
    Entry,
    MatchCounts,
    read_dictionary,
    read_phrases,
)
from ldnet_allennlp.commands.annotate.formats import (
    UNKNOWN,
    Labeled,
    Match,
    ck_rows,
    conll_rows,
    read_ck,
    read_sentences,
)
from ldnet_allennlp.commands.console import Command, add_force, arguments_of
from ldnet_allennlp.common.files import atomic_write, check_output
from ldnet_allennlp.common.lines import PathOrPaths, expand_paths


@Subcommand.register("ldnet-annotate")
class LdnetAnnotate(Command):
    """
    Label raw text with dictionaries (AutoNER; Shang et al. 2018, arXiv 1809.03599), to train a
    `tie_or_break_tagger` or an `ldnet_tagger` with partial labels. Writes CoNLL columns or AutoNER's .ck rows.
    """

    summary = "Label raw text with dictionaries."

    @overrides
    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        add = parser.add_argument
        add("raw", nargs="+", help="raw text, plain or compressed: files, folders or globs")
        add("-o", "--output", required=True, help="the file to write")
        add(
            "--input",
            dest="kind",
            choices=("text", "tokens", "ck"),
            default="text",
            help="text: any text, split by rules; tokens: one word per line, a blank line after each "
            "sentence; ck: labeled sentences in AutoNER's format, to convert",
        )
        add("--language", default="en", help="language of the text")
        add("--dictionary", help="names with types, one per line: TYPE<TAB>name")
        add("--phrases", help="phrases of unknown type, one per line: their words become '?'")
        add("--outside", choices=("O", UNKNOWN), default="O", help="the tag of all other words")
        add(
            "--format",
            dest="output_format",
            choices=("conll", "ck"),
            default="conll",
            help="CoNLL columns, or AutoNER's rows",
        )
        add_force(parser)

    @overrides
    def run(self, args: argparse.Namespace) -> None:
        print(annotate(**arguments_of(annotate, args)))


def annotate(
    raw: PathOrPaths,
    output: str,
    dictionary: str | None = None,
    phrases: str | None = None,
    kind: str = "text",
    language: str = "en",
    outside: str = "O",
    output_format: str = "conll",
    force: bool = False,
) -> str:
    """
    Label raw text. The arguments are those of the command. Returns the report: totals, the most frequent matches,
    ambiguous surfaces, entries that never matched.

    Raises `ConfigurationError` for lines that cannot be read, for options that do not fit, and if the output exists.
    """
    check_output(output, force)
    paths = expand_paths(raw, folders=True)
    if dictionary is None and kind != "ck":
        raise ConfigurationError("Found no --dictionary, expected a file with one TYPE<TAB>name per line.")
    for option, value in (("--dictionary", dictionary), ("--phrases", phrases)):
        if value is not None and kind == "ck":
            raise ConfigurationError(f"Found {option}, expected none: sentences of --input ck have labels.")
    if outside != "O" and output_format == "ck":
        raise ConfigurationError(f"Found --outside {outside!r} and --format ck, expected --format conll.")
    counts = MatchCounts()
    if kind == "ck":
        entries: list[Entry] = []
        sentences = (sentence for path in paths for sentence in _gold_sentences(path))
    else:
        assert dictionary is not None
        entries = read_dictionary(dictionary) + ([] if phrases is None else read_phrases(phrases))
        matcher = DictionaryMatcher(entries, language, is_raw=kind == "text")
        sentences = (
            Labeled(words, matcher.matches(words))
            for path in paths
            for words in read_sentences(path, kind, language)
        )
    with atomic_write(output) as file:
        for sentence in sentences:
            counts.add(sentence.words, sentence.matches)
            rows = ck_rows(sentence) if output_format == "ck" else conll_rows(sentence, outside)
            file.write("".join(f"{row}\n" for row in rows) + "\n")
        if counts.sentences == 0:
            raise ConfigurationError(f"{', '.join(paths)}: found no sentence.")
    return counts.report(entries)


def _gold_sentences(path: str) -> Iterator[Labeled]:
    for words, spans in read_ck(path):
        matches = [
            Match(start, end, Entry(" ".join(words[start:end]), frozenset([kind])))
            for kind, start, end in spans
        ]
        yield Labeled(words, matches)
