"""What a tagger's predictor reads: JSON lines, plain text, CoNLL columns."""

import gzip
import json
import zlib
from typing import Any, Iterator, List, cast

from allennlp.common.checks import ConfigurationError
from allennlp.common.file_utils import cached_path, open_compressed
from allennlp.common.util import JsonDict
from allennlp.data import DatasetReader, Instance, Token
from allennlp.data.fields import MetadataField, TextField
from overrides import overrides

from ldnet_allennlp.common.gc_pause import in_groups
from ldnet_allennlp.common.lines import shown
from ldnet_allennlp.data.conll.reader import ConllColumnsReader

INPUTS = ("auto", "jsonl", "text", "conll")

# So many instances are made without looking for garbage.
_GROUP = 256

_EXPECTED = 'Each input was expected to be an object with a "sentence" (text) or "tokens" (a list)'


def words_of(json_dict: JsonDict) -> List[str]:
    """
    The words of `{"sentence": "words between blanks"}` or `{"tokens": ["words", "as", "given"]}`.

    Raises `ValueError` for anything else.
    """
    if not isinstance(json_dict, dict) or not {"sentence", "tokens"} & set(json_dict):
        found = ", ".join(json_dict) if isinstance(json_dict, dict) else type(json_dict).__name__
        raise ValueError(f"{_EXPECTED}, but this was found: {found or 'an empty one'}.")
    if "tokens" in json_dict:
        if not isinstance(json_dict["tokens"], list):
            raise ValueError(f"{_EXPECTED}, but its tokens are: {json_dict['tokens']!r}.")
        return [str(token) for token in json_dict["tokens"]]
    if not isinstance(json_dict["sentence"], str):
        raise ValueError(f"{_EXPECTED}, but its sentence is: {json_dict['sentence']!r}.")
    return json_dict["sentence"].split()


def instance_of(words: List[str], reader: DatasetReader) -> Instance:
    """The instance that a reader makes of words; one without words, which readers refuse, is made here."""
    if words:
        return reader.text_to_instance([Token(word) for word in words])
    return Instance({"tokens": TextField([]), "metadata": MetadataField({"words": []})})


class LineParser:
    """
    Makes an input of each line of a file, one after the other.

    # Parameters

    kind : `str`
        "jsonl", a JSON object a line; "text", a sentence a line; or "auto": JSON if the first line that is not
        blank begins with "{", else text. That line decides for all: in text, later ones may begin with "{".
    source : `str`, optional
        The file, for messages.
    """

    def __init__(self, kind: str, source: str = "") -> None:
        self._kind = kind
        self._source = f"{source}, " if source else ""
        self._number = 0

    def parse(self, line: str) -> JsonDict:
        """
        The input in the next line; that in a blank line has no words. Raises `ConfigurationError` with the number
        of the line, what was found and what was expected.
        """
        self._number += 1
        if self._number == 1 and line.startswith("\ufeff"):
            line = line[1:]  # a byte order mark
        line = line.rstrip("\r\n")
        was_auto = self._kind == "auto"
        if was_auto and line.strip():
            self._kind = "jsonl" if line.lstrip().startswith("{") else "text"
        if self._kind != "jsonl":
            return {"sentence": line}
        if not line.strip():
            return {"tokens": []}
        try:
            found = json.loads(line)
            words_of(found)
        except (ValueError, RecursionError) as error:
            hint = ' If the file is plain text, set "input": "text".' if was_auto else ""
            raise ConfigurationError(
                f"{self._source}line {self._number} (counting the lines that are read): found {shown(line)}, expected "
                f'JSON such as {{"sentence": "the words"}} or {{"tokens": ["the", "words"]}}: {error}{hint}'
            ) from error
        return found


class SentenceInstance(Instance):
    """An instance that is shown as its words: `allennlp predict` makes this text of each, printed or not."""

    @overrides
    def __str__(self) -> str:
        return " ".join(token.text or "" for token in cast(TextField, self.fields["tokens"]).tokens)


class PredictionReader(DatasetReader):
    """
    A tagger's reader for prediction: what it reads has no labels, whether the files have some or not.

    # Parameters

    reader : `DatasetReader`
        The tagger's reader, which makes instances of tokens.
    kind : `str`
        What files hold: "jsonl" or "text", see `LineParser`, a sentence without words for each blank line; "conll"
        or "auto", what `reader` itself reads. A "conll_columns" reader needs no tags then, and the instances'
        metadata hold all "columns".

    Raises `ConfigurationError` for another kind, and for "conll" if the reader is not "conll_columns".
    """

    def __init__(self, reader: DatasetReader, kind: str = "auto") -> None:
        super().__init__()
        if kind not in INPUTS:
            raise ConfigurationError(f"Found the input '{kind}', expected one of {', '.join(INPUTS)}.")
        if kind == "conll" and not isinstance(reader, ConllColumnsReader):
            raise ConfigurationError(
                f"The input is 'conll', which needs a model whose dataset reader is 'conll_columns', but it is "
                f"{type(reader).__name__}. The input 'auto' reads files with that one (--use-dataset-reader)."
            )
        self.kind = kind
        self.reader = reader
        # Where AllenNLP's attackers look for them.
        self._token_indexers = getattr(reader, "_token_indexers", {})

    @overrides
    def _read(self, file_path: Any) -> Iterator[Instance]:
        reader = self.reader
        if isinstance(reader, ConllColumnsReader):
            reader = reader.for_prediction()
        is_lines = self.kind in ("jsonl", "text")
        instances = self._read_lines(str(file_path)) if is_lines else reader.read(file_path)
        for instance in in_groups(instances, _GROUP):
            # Labels are not looked at: those that training did not have would stop the run.
            yield SentenceInstance({name: field for name, field in instance.fields.items() if name != "tags"})

    def _read_lines(self, path: str) -> Iterator[Instance]:
        parser = LineParser(self.kind, path)
        number = 0
        try:
            # What is not UTF-8 becomes halves of surrogate pairs, which UTF-8 cannot hold.
            with open_compressed(cached_path(path), errors="surrogateescape") as lines:
                for number, line in enumerate(lines, start=1):  # noqa: B007, for the message
                    line.encode("utf-8")
                    yield instance_of(words_of(parser.parse(line)), self.reader)
        except UnicodeEncodeError as error:
            raise ConfigurationError(
                f"{path}, line {number}: found bytes that are not UTF-8 in {shown(error.object)} (character "
                f"{error.start + 1}), expected UTF-8."
            ) from error
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ConfigurationError(
                f"{path}: could not be read after line {number}: {error}. Expected a complete file."
            ) from error

    @overrides(check_signature=False)
    def text_to_instance(self, *inputs: Any, **options: Any) -> Instance:
        return self.reader.text_to_instance(*inputs, **options)

    @overrides
    def apply_token_indexers(self, instance: Instance) -> None:
        self.reader.apply_token_indexers(instance)
