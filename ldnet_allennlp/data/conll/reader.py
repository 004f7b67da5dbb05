"""Dataset reader for CoNLL-like column files in any tag scheme."""

import copy
from typing import Any, Optional, Union, cast

from allennlp.common.checks import ConfigurationError
from allennlp.data import DatasetReader
from overrides import overrides

from ldnet_allennlp.data.conll.blocks import ColumnFile
from ldnet_allennlp.data.conll.columns import ColumnLayout
from ldnet_allennlp.data.tagged_sentence_reader import TaggedSentenceReader

# Metadata of each sentence.
_RESERVED = {"words", "file", "line", "gold_tags", "columns", "label_encoding"}


@DatasetReader.register("conll_columns")
class ConllColumnsReader(TaggedSentenceReader):
    """
    Reads files with one word per line, the word and its tag in columns, and an empty line (or one of blanks and TABs)
    after each sentence: CoNLL-2000, 2002 and 2003, WNUT-17, CoNLL-U, OntoNotes and similar formats, plain or
    compressed. Also reads files with one sentence per line and tags after "###", the format of allennlp-models'
    "sequence_tagging" reader.

    The file path given to `read` may be a path, a glob, a comma-separated list, or a list of these. Columns are numbers
    from 0, negative numbers from the end, or names. An invalid line is never skipped: it raises `ConfigurationError`
    with the file, the line, and the found and expected content. Skipped lines (`-DOCSTART-` rows, comments, CoNLL-U's
    multiword ranges and empty nodes) and repaired tags are counted and logged once per file.

    Registered as a `DatasetReader` with name "conll_columns".

    # Parameters

    layout : `str`, optional (default = `"columns"`)
        "columns"; "conllu": TAB-separated, lines that start with "#" are comments, the first column numbers the words
        (multiword ranges "1-2" and empty nodes "8.1" are skipped). Universal NER's .iob2 files are such files with
        other columns: `layout: "conllu", column_names: ["id", "form", "ner", "nested", "annotator"], tag_column:
        "ner"`. "ontonotes": .gold_conll files, the word in column 3, the entity in brackets in column 10.
    column_names : `List[str]`, optional
        Names for all columns; each row must then have exactly these. In "conllu" by default CoNLL-U's ten:
        id, form, lemma, upos, xpos, feats, head, deprel, deps, misc.
    word_column : `Union[int, str]`, optional (default = `0`; in "conllu" `1`)
    tag_column : `Union[int, str]`, optional (default = `-1`, the last; `"upos"` among CoNLL-U's ten)
        A column, or a column of `Key=Value|Key=Value` with a key ("feats:Number", "misc:Entity").
    missing_tag : `str`, optional
        The tag of words without the key. By default a missing key is an error.
    extra_columns : `List[Union[int, str]]`, optional
        Columns to keep in the metadata, under their name or as "column_2".
    separator : `str`, optional (default = `"whitespace"`; in "conllu" `"tab"`)
        "whitespace" (any run of ASCII white space) or "tab" (each TAB; words may contain blanks).
    comment_prefix : `str`, optional
        In "columns", lines before the first row of a sentence that start with this are comments ("# id"). By default
        there are no comments, so "#" is a word.
    same_columns : `bool`, optional (default = `True`)
        Whether all rows of a file must have the same number of columns.
    encoding : `str`, optional (default = `"utf-8"`)
        The text encoding of the files ("latin-1" for CoNLL-2002).
    labels : `str`, optional (default = `"required"`)
        "required"; "optional": a file may have no tags at all; or "ignored".
    empty_word : `str`, optional
        The word of rows whose word is empty (a TAB, then the tag), for example "_". By default an empty word is an
        error.
    word_tag_delimiter : `str`, optional
        Each line is a sentence, and this separates each word from its tag. "###" is recognized without this option.
    token_indexers, label_encoding, ... : see `TaggedSentenceReader`
    """

    layout: ColumnLayout

    def __init__(
        self,
        layout: str = "columns",
        column_names: Optional[list[str]] = None,
        word_column: Optional[Union[int, str]] = None,
        tag_column: Optional[Union[int, str]] = None,
        missing_tag: Optional[str] = None,
        extra_columns: Optional[list[Union[int, str]]] = None,
        separator: Optional[str] = None,
        comment_prefix: Optional[str] = None,
        same_columns: bool = True,
        encoding: str = "utf-8",
        labels: str = "required",
        empty_word: Optional[str] = None,
        word_tag_delimiter: Optional[str] = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
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
            empty_word=empty_word,
            word_tag_delimiter=word_tag_delimiter,
        )
        self.reads_tags = labels != "ignored"
        reserved = sorted(_RESERVED & set(self.layout.extra))
        if reserved:
            raise ConfigurationError(
                f"Found the extra columns {', '.join(reserved)}, expected other names: the metadata of each "
                f"sentence has these of its own."
            )

    @overrides
    def open_file(self, path: str) -> ColumnFile:
        return ColumnFile(path, self.layout)

    @overrides
    def for_prediction(self) -> "ConllColumnsReader":
        reader = cast(ConllColumnsReader, super().for_prediction())
        reader.layout = copy.copy(self.layout)
        reader.layout.labels = "ignored"
        return reader
