"""Reader of `allennlp predict --use-dataset-reader`: files of any format, without labels."""

import os
import re
from collections.abc import Iterable, Iterator
from typing import Any, cast

from allennlp.common.checks import ConfigurationError
from allennlp.common.file_utils import cached_path
from allennlp.data import DatasetReader, Instance
from allennlp.data.fields import MetadataField, TextField
from overrides import overrides

from ldnet_allennlp.common.lines import excerpt
from ldnet_allennlp.data.conll.reader import ConllColumnsReader
from ldnet_allennlp.data.conll.tag_spelling import respell
from ldnet_runtime.errors import InputError
from ldnet_runtime.formats import KINDS, LAYOUT, read_items
from ldnet_runtime.formats.detection import are_words, is_words_with_tags
from ldnet_runtime.formats.files import expand
from ldnet_runtime.formats.reading import detect_file, read_json_line
from ldnet_runtime.formats.words import Words, words_of
from ldnet_runtime.tag_schemes import split_tag

_JSON = re.compile(r"\s*(\{\s*[\"}]|\[\s*($|[\[{\"]))")
# A few columns, of which the last one is a tag in lower case.
_LOWER_ROW = re.compile(r"(\S+[ \t]+){1,3}[bi]-[a-z]+\s*")
# At most five columns before the tag: a longer line that ends with "E-mail" is text.
_ROW = re.compile(r"-DOCSTART-.*|(\S+[ \t]+){1,5}(O|[BILUESMW]-\S+)\s*|\S+(\t\S*){2,}")


class PredictionInstance(Instance):
    """The words of one input (one or more sentences) and the rest of its record. It has no fields."""

    def __init__(self, words: Words, beside: dict[str, Any] | None = None) -> None:
        super().__init__({})
        self.words = words
        self.beside = beside or {}

    @overrides
    def __str__(self) -> str:
        """The text that `allennlp predict` creates for each instance, even if it does not print it."""
        return " ".join(word for sentence in self.words.sentences for word in sentence)


class PredictionReader(DatasetReader):
    """
    A tagger's reader for prediction, which ignores the labels of files.

    For `kind`, the format of files, see `ldnet_runtime.formats.read_items`; "auto" detects it for each file. `reader`
    reads files with columns; a "conll_columns" reader does not require tags here. Lines whose tags are spelled `B_PER`
    or `b-per` count as rows if their type is among the model's `span_types`.

    Raises `ConfigurationError` for any other format, and for "conll" if the reader is not "conll_columns".
    """

    def __init__(self, reader: DatasetReader, kind: str = "auto", span_types: Iterable[str] = ()) -> None:
        super().__init__()
        if kind not in KINDS:
            raise ConfigurationError(f"The input is {kind!r}; expected one of {', '.join(KINDS)}.")
        if kind == "conll" and not isinstance(reader, ConllColumnsReader):
            raise ConfigurationError(
                f"The input 'conll' needs a model whose dataset reader is 'conll_columns', but it is "
                f"{type(reader).__name__}. The input 'auto' reads columns with that reader (--use-dataset-reader)."
            )
        self.kind = kind
        self.reader = reader
        self._span_types = {span_type.upper() for span_type in span_types if span_type}
        # AllenNLP's attackers read the indexers from this attribute.
        self._token_indexers = getattr(reader, "_token_indexers", {})

    def split(self, value: Any) -> Words:
        """The words of an input, by the tokenizer of the tagger's reader. Raises `InputError` or `TextError`."""
        return words_of(value, *tokenizer_of(self.reader))

    def parse_line(self, line: str) -> dict[str, Any]:
        """
        The input in a single line of a file. Raises `ConfigurationError` for a line that is part of CoNLL columns or a
        JSON array.
        """
        line = line.strip("\r\n").removeprefix("\ufeff")
        if self.kind in ("conll", "document"):
            raise ConfigurationError(
                f"The input '{self.kind}' needs the option --use-dataset-reader: without it, allennlp predict reads "
                f"lines and leaves the empty ones out."
            )
        if self.kind == "jsonl" or (self.kind == "auto" and _JSON.match(line)):
            return self._parse_json(line)
        if self.kind == "auto" and self._is_row(line):
            raise ConfigurationError(
                f"Found {excerpt(line)}, which is a row of CoNLL columns: add the option --use-dataset-reader. "
                f'If it is plain text, set "input": "text".'
            )
        return {"sentence": line}

    def _is_row(self, line: str) -> bool:
        """Return whether a line is a row of columns or `word###TAG`; tags in other spellings need a known type."""
        if _ROW.fullmatch(line) or _LOWER_ROW.fullmatch(line) or is_words_with_tags(line):
            return True
        *words, tag = line.split() or [""]
        parts = split_tag(respell(tag) or "")
        return bool(words) and parts is not None and parts[1].upper() in self._span_types

    def _parse_json(self, line: str) -> dict[str, Any]:
        try:
            value = read_json_line(line)
            value = {"sentence": value} if isinstance(value, str) else value
            words = self.split(value)
            if isinstance(value, list):
                if words.sentences != [[]] and not are_words(value):
                    raise InputError("the array has texts, not words")
                value = {"tokens": value}
        except ValueError as error:
            hint = ' If the file is plain text, set "input": "text".' if self.kind == "auto" else ""
            if line.lstrip().startswith("["):
                hint = " A JSON array needs the option --use-dataset-reader."
            raise ConfigurationError(f"Found {excerpt(line)}: {str(error).rstrip('.')}.{hint}") from error
        return cast(dict[str, Any], value)

    @overrides
    def _read(self, file_path: Any) -> Iterator[Instance]:
        try:
            for path in self.files(file_path):
                yield from self._read_file(path)
        except InputError as error:
            raise ConfigurationError(str(error)) from error

    def files(self, file_path: Any) -> list[str]:
        """The files of a path or a list of paths. Raises `InputError` for a name without a file."""
        names = [str(file_path)] if isinstance(file_path, (str, os.PathLike)) else [str(p) for p in file_path]
        # A name that is neither a file nor a folder here may be an address, or paths with commas between them.
        local = [name for name in names if os.path.exists(name) or any(sign in name for sign in "*?[")]
        return expand(local) if len(local) == len(names) else names

    def _read_file(self, path: str) -> Iterator[Instance]:
        if not os.path.exists(path) and self.kind in ("auto", "conll"):
            yield from self._read_columns(path)
            return
        with open(cached_path(path), "rb") as file:
            kind = detect_file(file) if self.kind == "auto" else self.kind
            if kind != "conll":
                for item in read_items(file, path, kind):
                    try:
                        words = self.split(item.value)
                    except InputError as error:
                        raise InputError(f"{path}, {item.place}: {error}") from error
                    yield PredictionInstance(words)
                return
        yield from self._read_columns(path)

    def _read_columns(self, path: str) -> Iterator[Instance]:
        reader, separator = self.reader, " "
        if isinstance(reader, ConllColumnsReader):
            reader = reader.for_prediction()
            separator = "\t" if reader.layout.separator == b"\t" else " "
        for instance in reader.read(path):
            sentence = prediction_instance(instance)
            sentence.beside["separator"] = separator
            yield sentence

    @overrides(check_signature=False)
    def text_to_instance(self, *inputs: Any, **options: Any) -> Instance:
        return self.reader.text_to_instance(*inputs, **options)

    @overrides
    def apply_token_indexers(self, instance: Instance) -> None:
        if not isinstance(instance, PredictionInstance):
            self.reader.apply_token_indexers(instance)


def tokenizer_of(reader: DatasetReader) -> tuple[str, str]:
    """The mode and the language of a reader's tokenizer; white space for a reader without one."""
    tokenizer = getattr(reader, "tokenizer", None)
    return getattr(tokenizer, "mode", "whitespace"), getattr(tokenizer, "language", "en")


def prediction_instance(instance: Instance) -> PredictionInstance:
    """The words of a reader's sentence, and all their columns if the metadata contain them."""
    if isinstance(instance, PredictionInstance):
        return instance
    metadata: dict[str, Any] = {}
    if isinstance(instance.fields.get("metadata"), MetadataField):
        metadata = cast(MetadataField, instance["metadata"]).metadata
    tokens = cast(TextField, instance["tokens"]).tokens
    words = metadata.get("words", [token.text or "" for token in tokens])
    beside = {name: metadata[name] for name in LAYOUT if name in metadata}
    return PredictionInstance(Words([list(words)]), beside)
