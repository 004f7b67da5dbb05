"""Base class of readers of tagged sentences: tag encodings, sharding among processes, instances, logging."""

import copy
import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Optional, cast

from allennlp.common.checks import ConfigurationError
from allennlp.data import DatasetReader, Field, Instance, Token, TokenIndexer
from allennlp.data.fields import MetadataField, TextField
from allennlp.data.token_indexers import SingleIdTokenIndexer
from allennlp.data.tokenizers import Tokenizer
from allennlp.data.vocabulary import DEFAULT_OOV_TOKEN, DEFAULT_PADDING_TOKEN
from overrides import overrides

from ldnet_allennlp.common.lines import PathOrPaths, expand_paths
from ldnet_allennlp.data.conll.tag_detection import DetectedTags, EncodingDetector
from ldnet_allennlp.data.conll.tag_field import AllowedTagsField, TagField
from ldnet_allennlp.data.conll.tag_recoding import AUTO, RecodingOptions, TagRecoder
from ldnet_allennlp.data.rule_based_tokenizer import RuleBasedTokenizer
from ldnet_allennlp.data.sharing import share_of
from ldnet_allennlp.data.tagged_file import Sentence, TaggedFile

logger = logging.getLogger(__name__)


class TaggedSentenceReader(DatasetReader):
    """
    Reads files of tagged sentences; subclasses open them.

    # Parameters

    token_indexers : `Dict[str, TokenIndexer]`, optional (default = `{"tokens": SingleIdTokenIndexer()}`)
        The indexers of the `tokens` field.
    label_encoding : `str`, optional (default = `"auto"`)
        The span encoding in the files: "IOB1", "BIO" (IOB2), "BIOUL" (BILOU), "IOBES" (BIOES), "BMES", "IO" (I- only),
        "BARE" (types without letters), "BRACKETS" (OntoNotes' "(PER*"); `null` for tags without spans; "auto" detects
        it for each file by reading the file once in advance. Spellings such as `B_PER`, `b-per`, `PER-B` are read as
        `B-PER` (types in lower case as upper case if the letter is in lower case, too).
    target_label_encoding : `str`, optional
        The span encoding of the instances: "BIO", "BIOUL", "IOB1", "BMES" (AllenNLP's names), or "IOBES". By default
        the encoding of the file.
    on_invalid_tags : `str`, optional (default = `"repair"`)
        Treatment of ill-formed tag sequences. "repair" reads them like conlleval (I-X after anything but X begins a
        span) and rewrites them; "error" raises `ConfigurationError`; "keep" leaves all tags unchanged and excludes a
        target encoding.
    partial_label : `str`, optional
        The tag of words whose label is unknown, for example "?". With it a tag may also list alternatives, as in
        "B-Chemical|O".
    tag_map : `Dict[str, str]`, optional
        Tags to replace before anything else, for example `{"0": "O"}`.
    label_namespace : `str`, optional (default = `"labels"`)
        The vocabulary namespace of the tags.
    end_token : `str`, optional
        A token to append to the words of each sentence, without a tag, for an "ldnet_tagger" with
        `boundary_tags`: the original LD-Net's end-of-sentence step.
    tokenizer : `Tokenizer`, optional (default = `RuleBasedTokenizer()`)
        A "rule_based" tokenizer (or "whitespace") for raw text in the predictor and the exported tagger.
    max_instances : see `DatasetReader`
        The reader itself shards sentences among data loading workers and distributed ranks.
    """

    def __init__(
        self,
        token_indexers: Optional[dict[str, TokenIndexer]] = None,
        label_encoding: Optional[str] = AUTO,
        target_label_encoding: Optional[str] = None,
        on_invalid_tags: str = "repair",
        partial_label: Optional[str] = None,
        tag_map: Optional[dict[str, str]] = None,
        label_namespace: str = "labels",
        end_token: Optional[str] = None,
        tokenizer: Optional[Tokenizer] = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(manual_distributed_sharding=True, manual_multiprocess_sharding=True, **kwargs)
        self._token_indexers = token_indexers or {"tokens": SingleIdTokenIndexer()}
        self.recoding = RecodingOptions(
            label_encoding, target_label_encoding, on_invalid_tags, partial_label, tag_map
        )
        self.label_namespace = label_namespace
        self.end_token = end_token
        self.tokenizer = RuleBasedTokenizer.of(tokenizer)
        self.reads_tags = True
        self._keep_columns = False
        self._detected: dict[tuple, DetectedTags] = {}
        self._logged: set[str | tuple] = set()

    def open_file(self, path: str) -> TaggedFile:
        """The sentences of a file."""
        raise NotImplementedError

    def for_prediction(self) -> "TaggedSentenceReader":
        """
        A copy that ignores tags in files, and adds all columns of a sentence's words to the metadata, under "columns":
        one list of strings per word.
        """
        reader = copy.copy(self)
        reader.reads_tags = False
        reader._keep_columns = True
        reader._logged = set()
        return reader

    @overrides
    def _read(self, file_path: PathOrPaths) -> Iterator[Instance]:
        for sentence, recoder in share_of(self, self._sentences(expand_paths(file_path))):
            metadata = {"file": recoder.path, "line": sentence.lines[0], **sentence.extra}
            tags = None
            if sentence.tags is not None:
                tags = recoder.recode(sentence.tags, sentence.lines)
                metadata["label_encoding"] = recoder.target
            if self._keep_columns:
                metadata["columns"] = sentence.columns
            yield self.text_to_instance(sentence.words, tags, metadata)

    @overrides(check_signature=False)
    def text_to_instance(  # type: ignore[override]
        self,
        tokens: Sequence[str | Token],
        tags: Sequence[str] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> Instance:
        """
        One sentence as an instance; its tags are used unchanged, and `apply_token_indexers` adds the indexers.

        The fields are `tokens`, `metadata` ("words", "gold_tags" if there are tags, and from a file "file", "line",
        "label_encoding" and the extra columns) and, if there are tags, `tags`: a `TagField`, which takes labels that
        are not in the vocabulary. A word that is AllenNLP's padding token is an unknown word, since the mask would hide
        it. Raises `ConfigurationError` for an empty sentence or another number of tags than of words.
        """
        if not tokens:
            raise ConfigurationError("Found a sentence without words, expected at least one word.")
        if tags is not None and len(tags) != len(tokens):
            raise ConfigurationError(
                f"Found {len(tags)} tags for {len(tokens)} words, expected one tag per word."
            )
        words = [Token(token) if isinstance(token, str) else token for token in tokens]
        metadata = {**(metadata or {}), "words": [word.text for word in words]}
        text = TextField(
            [Token(DEFAULT_OOV_TOKEN) if word.text == DEFAULT_PADDING_TOKEN else word for word in words]
        )
        fields: dict[str, Field] = {"tokens": text, "metadata": MetadataField(metadata)}
        if tags is not None:
            metadata["gold_tags"] = list(tags)  # scores count those, too, that have no id
            partial_label = self.recoding.partial_label
            arguments = metadata["gold_tags"], text, self.label_namespace, partial_label
            fields["tags"] = TagField(*arguments)
            if partial_label is not None:
                fields["allowed_tags"] = AllowedTagsField(*arguments)
        if self.end_token is not None:
            fields["tokens"] = TextField([*text.tokens, Token(self.end_token)])
        return Instance(fields)

    @overrides
    def apply_token_indexers(self, instance: Instance) -> None:
        cast(TextField, instance["tokens"]).token_indexers = self._token_indexers

    def _sentences(self, paths: list[str]) -> Iterator[tuple[Sentence, TagRecoder]]:
        """All sentences of all files, each with the recoder of its file."""
        tagged: dict[bool, str] = {}
        encodings: dict[str | None, str] = {}
        for path in paths:
            file = self.open_file(path)
            recoder = TagRecoder(path, self._tags_of(path), self.recoding)
            counts: Counter[str] = Counter()
            try:
                for sentence in file.sentences():
                    counts.update(sentences=1, words=len(sentence.words))
                    tagged.setdefault(sentence.tags is not None, path)
                    if len(tagged) > 1:  # they could not be batched
                        raise ConfigurationError(
                            f"{path}, line {sentence.lines[0]}: found tags in '{tagged[True]}' and none in "
                            f"'{tagged[False]}', expected tags in all of these files or in none."
                        )
                    if sentence.tags is not None:
                        sentence = sentence._replace(tags=self.recoding.rename(sentence.tags))
                        recoder.check(sentence.tags or [], sentence.lines)
                    yield sentence, recoder
                recoder.finish()
            finally:
                self._log(file, recoder, counts, True in tagged)
            if recoder.has_spans:  # a file of nothing but "O" agrees with all encodings
                encodings.setdefault(recoder.target, path)
        if not tagged:
            raise ConfigurationError(
                f"{', '.join(paths)}: found no sentence, expected at least one word with its tag."
            )
        if len(encodings) > 1 and tuple(paths) not in self._logged:
            self._logged.add(tuple(paths))
            listed = ", ".join(f"{encoding} in {path}" for encoding, path in encodings.items())
            logger.warning("The label encodings of the files differ (%s): set target_label_encoding.", listed)

    def _tags_of(self, path: str) -> DetectedTags:
        """The declared encoding, or the one detected by reading the file, once while it is unchanged."""
        if not self.reads_tags or self.recoding.label_encoding != AUTO:
            return DetectedTags(self.recoding.label_encoding)
        if not os.path.isfile(path):
            raise ConfigurationError(
                f"{path}: found a pipe or device, expected a regular file, as the label_encoding 'auto' "
                f"reads it twice. Declare the label_encoding."
            )
        status = os.stat(path)
        key = (os.path.realpath(path), status.st_size, status.st_mtime_ns)
        if key not in self._detected:
            detector = EncodingDetector(self.recoding.partial_label)
            for sentence in self.open_file(path).sentences():
                if sentence.tags is not None:
                    detector.add(self.recoding.rename(sentence.tags), sentence.lines)
            try:
                self._detected[key] = detector.detect()
            except ValueError as error:
                raise ConfigurationError(f"{path}: {error}") from error
        return self._detected[key]

    def _log(self, file: TaggedFile, recoder: TagRecoder, counts: Counter[str], has_tags: bool) -> None:
        distributed, worker = self.get_distributed_info(), self.get_worker_info()
        # All processes read and check all sentences, and build instances for their share.
        is_first = (distributed is None or distributed.global_rank == 0) and (
            worker is None or worker.id == 0
        )
        # Lazy data loaders read the same file in each epoch.
        if not is_first or file.path in self._logged:
            return
        self._logged.add(file.path)
        clauses = [f"{counts['sentences']} sentences, {counts['words']} words"]
        if has_tags:
            clauses.append(f"tags: {recoder.source or 'no spans'}, read as {recoder.target or 'they are'}")
        if recoder.first_respelled:
            clauses.append("{!r} is read as {!r}".format(*recoder.first_respelled))
        for what, numbers in (("left out", file.left_out), ("changed or dropped", file.changed)):
            listed = ", ".join(f"{n} {kind}" for kind, n in sorted(numbers.items()) if n)
            clauses += [f"{what}: {listed}"] if listed else []
        report = recoder.report()
        clauses += [report] if report else []
        is_odd = report or +file.changed or not counts
        level = logging.WARNING if is_odd else logging.INFO
        logger.log(level, "%s: %s.", file.path, "; ".join(clauses))
