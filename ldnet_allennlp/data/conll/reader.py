"""Any CoNLL-like column file, in any span encoding, as AllenNLP instances."""

import copy
import itertools
import logging
import os
from typing import Any, Dict, Iterator, List, Optional, Sequence, Set, Tuple, TypeVar, Union, cast

from allennlp.common.checks import ConfigurationError
from allennlp.data import DatasetReader, Field, Instance, Token, TokenIndexer
from allennlp.data.fields import MetadataField, TextField
from allennlp.data.token_indexers import SingleIdTokenIndexer
from overrides import overrides

from ldnet_allennlp.common.lines import PathOrPaths, expand_paths
from ldnet_allennlp.data.conll.blocks import ColumnFile, Sentence
from ldnet_allennlp.data.conll.columns import ColumnLayout
from ldnet_allennlp.data.conll.tag_detection import EncodingDetector
from ldnet_allennlp.data.conll.tag_field import TagField
from ldnet_allennlp.data.conll.tag_recoding import AUTO, RecodingOptions, TagRecoder

logger = logging.getLogger(__name__)

_T = TypeVar("_T")


@DatasetReader.register("conll_columns")
class ConllColumnsReader(DatasetReader):
    """
    Reads sentences from files with one word a line, the word and its tag in columns, and an empty line (or
    one of blanks and TABs) after each sentence: CoNLL-2000, 2002 and 2003, WNUT-17, CoNLL-U and their like,
    plain or gzip.

    The file path given to `read` may be a path, a glob, a comma-separated list, or a list of these. Columns
    are counted from 0, or from the end with negative numbers, or go by name. A line that does not fit is
    never skipped: it raises `ConfigurationError` that says file, line, what was found and what was expected.
    What is left out (`-DOCSTART-` rows, comments, CoNLL-U's multiword ranges and empty nodes) and what is
    repaired is counted, and logged once for each file.

    Registered as a `DatasetReader` with name "conll_columns".

    # Parameters

    token_indexers : `Dict[str, TokenIndexer]`, optional (default = `{"tokens": SingleIdTokenIndexer()}`)
        The indexers of the `tokens` field.
    layout : `str`, optional (default = `"columns"`)
        "columns", or "conllu": TAB-separated, lines that start with "#" are comments, the first column
        numbers the words (multiword ranges "1-2" and empty nodes "8.1" are left out). Universal NER's .iob2
        files are such files with other columns: `layout: "conllu", column_names: ["id", "form", "ner",
        "nested", "annotator"], tag_column: "ner"`.
    column_names : `List[str]`, optional
        Names for all columns; each row must then have exactly these. In "conllu" by default CoNLL-U's ten:
        id, form, lemma, upos, xpos, feats, head, deprel, deps, misc.
    word_column : `Union[int, str]`, optional (default = `0`; in "conllu" `1`)
    tag_column : `Union[int, str]`, optional (default = `-1`, the last; `"upos"` among CoNLL-U's ten)
        A column, or a column and a key in it ("feats:Number", "misc:Entity") where it holds
        `Key=Value|Key=Value`.
    missing_tag : `str`, optional
        The tag of words whose column lacks the key. By default that is an error.
    extra_columns : `List[Union[int, str]]`, optional
        Columns to keep in the metadata, under their name or as "column_2".
    separator : `str`, optional (default = `"whitespace"`; in "conllu" `"tab"`)
        "whitespace" (any run of ASCII white space) or "tab" (each TAB; words may contain blanks).
    comment_prefix : `str`, optional
        In "columns", lines before the first row of a sentence that start with this are comments ("# id"). By
        default none is, so that "#" is a word.
    same_columns : `bool`, optional (default = `True`)
        Whether all rows of a file must have the same number of columns.
    encoding : `str`, optional (default = `"utf-8"`)
        The files' text encoding (CoNLL-2002 was published in "latin-1").
    labels : `str`, optional (default = `"required"`)
        "required"; "optional": a file may lack the tags, in all of its rows; or "ignored".
    label_encoding : `str`, optional (default = `"auto"`)
        The span encoding in the files: "IOB1", "BIO" (IOB2), "BIOUL" (BILOU), "IOBES" (BIOES), "BMES", "IO"
        (I- only), "BARE" (types without letters); `null` for tags that are no spans; "auto" to find out, for
        each file, by reading it once before (see `tag_detection.EncodingDetector`).
    target_label_encoding : `str`, optional
        The span encoding of the instances: "BIO", "BIOUL", "IOB1", "BMES" (AllenNLP's names), or "IOBES". By
        default that of the file.
    on_invalid_tags : `str`, optional (default = `"repair"`)
        What becomes of tag sequences that are ill-formed in their encoding. "repair": they are read as
        conlleval reads them (I-X after anything but X begins a span) and rewritten; "error":
        `ConfigurationError`; "keep": all tags stay as they are, which excludes a target encoding.
    label_namespace : `str`, optional (default = `"labels"`)
        The vocabulary namespace of the tags.
    end_token : `str`, optional
        A token to append to the words of each sentence, without a tag, for an "ldnet_tagger" with
        `boundary_tags`: the original LD-Net's end-of-sentence step.
    max_instances, serialization_dir : see `DatasetReader`
        Sharding among data loading workers and distributed ranks is done here, sentence by sentence.
    """

    def __init__(
        self,
        token_indexers: Optional[Dict[str, TokenIndexer]] = None,
        layout: str = "columns",
        column_names: Optional[List[str]] = None,
        word_column: Optional[Union[int, str]] = None,
        tag_column: Optional[Union[int, str]] = None,
        missing_tag: Optional[str] = None,
        extra_columns: Optional[List[Union[int, str]]] = None,
        separator: Optional[str] = None,
        comment_prefix: Optional[str] = None,
        same_columns: bool = True,
        encoding: str = "utf-8",
        labels: str = "required",
        label_encoding: Optional[str] = "auto",
        target_label_encoding: Optional[str] = None,
        on_invalid_tags: str = "repair",
        label_namespace: str = "labels",
        end_token: Optional[str] = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(manual_distributed_sharding=True, manual_multiprocess_sharding=True, **kwargs)
        self._token_indexers = token_indexers or {"tokens": SingleIdTokenIndexer()}
        self.layout = ColumnLayout(
            layout=layout,
            column_names=column_names,
            word_column=word_column,
            tag_column=tag_column,
            missing_tag=missing_tag,
            extra_columns=extra_columns or (),
            separator=separator,
            comment_prefix=comment_prefix,
            same_columns=same_columns,
            encoding=encoding,
            labels=labels,
        )
        reserved = sorted({"words", "file", "line", "gold_tags", "columns"} & set(self.layout.extra))
        if reserved:
            raise ConfigurationError(
                f"Found the extra columns {', '.join(reserved)}, expected other names: the metadata of each "
                f"sentence has these of its own."
            )
        self.recoding = RecodingOptions(label_encoding, target_label_encoding, on_invalid_tags)
        self.label_namespace = label_namespace
        self.end_token = end_token
        self._keep_columns = False
        self._detected: Dict[Tuple[str, int, int], Optional[str]] = {}
        self._logged: Set[str] = set()

    @overrides
    def _read(self, file_path: PathOrPaths) -> Iterator[Instance]:
        for sentence, recoder in self._share(self._sentences(expand_paths(file_path))):
            tags = None if sentence.tags is None else recoder.recode(sentence.tags, sentence.lines)
            metadata = {"file": recoder.path, "line": sentence.lines[0], **sentence.extra}
            if self._keep_columns:
                metadata["columns"] = sentence.columns
            yield self.text_to_instance(sentence.words, tags, metadata)

    @overrides(check_signature=False)
    def text_to_instance(  # type: ignore[override]
        self,
        tokens: Sequence[Union[str, Token]],
        tags: Optional[Sequence[str]] = None,
        metadata: Optional[Dict[str, Any]] = None,
    ) -> Instance:
        """
        One sentence as an instance; the token indexers are applied by `apply_token_indexers`.

        # Parameters

        tokens : `Sequence[Union[str, Token]]`
            At least one word.
        tags : `Sequence[str]`, optional
            One tag a word, already in the encoding that the model reads: they are taken as they are.
        metadata : `Dict[str, Any]`, optional
            What to put into the metadata beside the words.

        # Returns

        `Instance`
            Fields `tokens`, `metadata` ("words", "gold_tags" if there are tags, and from a file "file", "line"
            and the extra columns) and, if there are tags, `tags`: a `TagField`, which takes labels that are not
            in the vocabulary. Raises `ConfigurationError` for an empty sentence or another number of tags than
            of words.
        """
        if not tokens:
            raise ConfigurationError("Found a sentence without words, expected at least one word.")
        if tags is not None and len(tags) != len(tokens):
            raise ConfigurationError(
                f"Found {len(tags)} tags for {len(tokens)} words, expected one tag a word."
            )
        text = TextField([Token(token) if isinstance(token, str) else token for token in tokens])
        metadata = {**(metadata or {}), "words": [token.text for token in text.tokens]}
        fields: Dict[str, Field] = {"tokens": text, "metadata": MetadataField(metadata)}
        if tags is not None:
            metadata["gold_tags"] = list(tags)  # scores count those, too, that have no id
            fields["tags"] = TagField(metadata["gold_tags"], text, self.label_namespace)
        if self.end_token is not None:
            fields["tokens"] = TextField([*text.tokens, Token(self.end_token)])
        return Instance(fields)

    def for_prediction(self) -> "ConllColumnsReader":
        """
        A copy that reads no tags, whether there are any or not, and puts all columns of a sentence's words into
        its metadata, under "columns": a list of strings a word.
        """
        reader = copy.copy(self)
        reader.layout = copy.copy(self.layout)
        reader.layout.labels = "ignored"
        reader._keep_columns = True
        reader._logged = set()
        return reader

    @overrides
    def apply_token_indexers(self, instance: Instance) -> None:
        cast(TextField, instance["tokens"]).token_indexers = self._token_indexers

    def _sentences(self, paths: List[str]) -> Iterator[Tuple[Sentence, TagRecoder]]:
        """All sentences of all files, each with the recoder of its file."""
        tagged: Dict[bool, ColumnFile] = {}
        num_sentences = 0
        encodings: Dict[Optional[str], str] = {}
        for path in paths:
            file = ColumnFile(path, self.layout)
            recoder = TagRecoder(path, self._encoding_of(path), self.recoding)
            try:
                for sentence in file.sentences():
                    num_sentences += 1
                    self._check_tagged(tagged, sentence, file)
                    if sentence.tags is not None:
                        recoder.check(sentence.tags, sentence.lines)
                    yield sentence, recoder
            finally:
                self._log(file, recoder)
            if recoder.has_spans:  # a file of nothing but "O" agrees with all encodings
                encodings.setdefault(recoder.target, path)
        if not num_sentences:
            raise ConfigurationError(
                f"{', '.join(paths)}: found no sentence, expected at least one word with its tag."
            )
        if len(encodings) > 1 and self._once(", ".join(paths)):
            found = ", ".join(f"{encoding} in {path}" for encoding, path in encodings.items())
            logger.warning("The label encodings of the files differ (%s): set target_label_encoding.", found)

    @staticmethod
    def _check_tagged(tagged: Dict[bool, ColumnFile], sentence: Sentence, file: ColumnFile) -> None:
        """Raises `ConfigurationError` for sentences with and without tags: they fit into no batch."""
        tagged.setdefault(sentence.tags is not None, file)
        if len(tagged) > 1:
            raise ConfigurationError(
                f"{file.path}, line {sentence.lines[0]}: found tags in '{tagged[True].path}' and none in "
                f"'{tagged[False].path}', expected tags in all files that are read together or in none."
            )

    def _encoding_of(self, path: str) -> Optional[str]:
        """The declared encoding, or the one found by reading the file, once while it is unchanged."""
        if self.layout.labels == "ignored" or self.recoding.label_encoding != AUTO:
            return self.recoding.label_encoding
        if not os.path.isfile(path):
            raise ConfigurationError(
                f"{path}: found a pipe or device, expected a regular file, as the label_encoding 'auto' "
                f"reads it twice. Declare the label_encoding."
            )
        status = os.stat(path)
        key = (os.path.realpath(path), status.st_size, status.st_mtime_ns)
        if key not in self._detected:
            detector = EncodingDetector()
            for sentence in ColumnFile(path, self.layout).sentences():
                if sentence.tags is not None:
                    detector.add(sentence.tags, sentence.lines)
            try:
                self._detected[key] = detector.encoding()
            except ValueError as error:
                raise ConfigurationError(f"{path}: {error}") from error
        return self._detected[key]

    def _share(self, items: Iterator[_T]) -> Iterator[_T]:
        """
        This process's share of what all processes read.

        `shard_iterable` asks torch for the rank, which a data loading worker started by "spawn" does not
        have, so that every rank would read everything. The reader itself carries its rank along.
        """
        distributed, worker = self.get_distributed_info(), self.get_worker_info()
        if distributed is not None:
            items = itertools.islice(items, distributed.global_rank, None, distributed.world_size)
        if worker is not None:
            items = itertools.islice(items, worker.id, None, worker.num_workers)
        return items

    def _once(self, what: str) -> bool:
        """Whether this is the first call for `what`: lazy data loaders read the same file in each epoch."""
        is_first = what not in self._logged
        self._logged.add(what)
        return is_first

    def _log(self, file: ColumnFile, recoder: TagRecoder) -> None:
        if not self._is_first_process() or not self._once(file.path):
            return
        clauses = [f"{file.num_sentences} sentences, {file.num_words} words"]
        if file.has_tags:
            clauses.append(
                f"tags: {recoder.source or 'no spans'}, given out as {recoder.target or 'they are'}"
            )
        if file.left_out:
            clauses.append(
                "left out: " + ", ".join(f"{n} {what}" for what, n in sorted(file.left_out.items()))
            )
        report = recoder.report()
        if report:
            clauses.append(report)
        level = logging.WARNING if report or not file.num_sentences else logging.INFO
        logger.log(level, "%s: %s.", file.path, "; ".join(clauses))

    def _is_first_process(self) -> bool:
        """Whether this process reports: all of them read and check everything, and build a share."""
        distributed, worker = self.get_distributed_info(), self.get_worker_info()
        return (distributed is None or distributed.global_rank == 0) and (worker is None or worker.id == 0)
