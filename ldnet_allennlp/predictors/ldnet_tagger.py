"""Tags sentences that are given as text, tokens or CoNLL columns."""

import json
import os
from contextlib import contextmanager
from typing import Any, Dict, Iterable, Iterator, List, Optional, Sequence, Union, cast

import numpy
import torch
from allennlp.common.checks import ConfigurationError
from allennlp.common.util import JsonDict, lazy_groups_of, sanitize
from allennlp.data import DatasetReader, Instance
from allennlp.data.fields import MetadataField, SequenceLabelField, TextField
from allennlp.models import Model
from allennlp.predictors import Predictor
from overrides import overrides

from ldnet_allennlp.data.conll.reader import ConllColumnsReader
from ldnet_allennlp.data.conll.tag_schemes import Span, canonical_encoding, spans_from_tags, tags_from_spans
from ldnet_allennlp.models.ldnet_tagger import LdnetTagger
from ldnet_allennlp.predictors.tagger_batches import TaggerBatches
from ldnet_allennlp.predictors.tagger_inputs import LineParser, PredictionReader, instance_of, words_of
from ldnet_allennlp.predictors.tagger_outputs import OUTPUTS, column_lines, inline

AUTOCAST_TYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}

# Of what other taggers give out: padded tensors, which are cut to the sentence, and what is said once a batch.
_PADDED = ("logits", "class_probabilities")
_LEFT_OUT = ("mask", "loss", "confidences")


@Predictor.register("ldnet_tagger")
class LdnetTaggerPredictor(Predictor):
    """
    A predictor for "ldnet_tagger", and for any other tagger whose reader takes a list of tokens.

    The options are those of `allennlp predict --predictor-args '{"output": "inline", "n_best": 3}'`, and of
    `Predictor.from_path(archive, output="inline", n_best=3)`. The command's `--batch-size` is the window within
    which sentences are sorted by length; they are computed in batches of `tokens_per_batch` and come back in the
    order of the input. The command leaves blank lines out; with `--use-dataset-reader`, which CoNLL columns need,
    this predictor reads the file itself: a blank line of text or JSON lines then gives an output without words.

    An output is `{"words", "tags"}`, and, where the model knows its label encoding, `"spans"`: a list of `{"type",
    "start", "end", "text", "confidence"}`, where `end` is the position after the last word and `confidence` the
    probability of the span, see `span_probabilities`. All probabilities are those among the tag sequences that
    the model's constraints allow.

    Registered as a `Predictor` with name "ldnet_tagger".

    # Parameters

    model : `Model`
        The tagger.
    dataset_reader : `DatasetReader`
        Its reader, with a `text_to_instance(tokens)`.
    frozen : `bool`, optional (default = `True`)
        Whether the model is put into evaluation mode.
    input : `str`, optional (default = `"auto"`)
        "jsonl": `{"sentence": "words between blanks"}` or `{"tokens": ["words", "as", "given"]}` a line. "text": a
        sentence a line, words between white space. "conll": files as the model's "conll_columns" reader takes them,
        with tags or without; needs `--use-dataset-reader`. "auto": with `--use-dataset-reader` what the model's
        reader reads; else JSON lines if the first line begins with "{", else text.
    output : `str`, optional (default = `"json"`)
        "json": an object a line. "inline": a line with `<TYPE> ... </TYPE>` around spans, see
        `tagger_outputs.inline`. "conll": all columns of the input, or the word, and the predicted tag as the last
        column, see `tagger_outputs.column_lines`.
    tag_encoding : `str`, optional
        The span encoding of the predicted tags in "conll": one of `tag_schemes.ENCODINGS`, for example "BIO" where
        the tags of the input are. By default the model's.
    n_best : `int`, optional (default = `0`)
        How many of the best tag sequences to give out, as `"n_best"`: a list of `{"tags", "score", "probability"}`,
        best first; fewer where fewer are allowed.
    marginals : `bool`, optional (default = `False`)
        Whether to give out `"marginals"`: for each word a dictionary from tag to probability.
    confidences : `bool`, optional (default = `True`)
        Whether spans have a `"confidence"`. Only an "ldnet_tagger" gives these, `n_best` and `marginals`.
    tokens_per_batch : `int`, optional (default = `1024`)
        The most tokens, padding included, that are computed at once, unless one sentence has more.
    workers : `int`, optional (default = `4`)
        The most batches that are computed at a time on a CPU, each by one of torch's threads or more: with less than
        torch has threads, each gets several. Memory grows with them. Only an "ldnet_tagger" has more than one.
    autocast : `str`, optional
        "bfloat16" or "float16": the networks below the CRF compute in that precision. "bfloat16" is faster on CPUs
        that have it (AVX512_BF16, AMX) and GPUs; scores change in their third digit, tags seldom. "ldnet_tagger" only.

    Raises `ConfigurationError` for options that the model or the reader cannot serve, and `ValueError` for an
    input that has neither a sentence nor tokens.
    """

    def __init__(
        self,
        model: Model,
        dataset_reader: DatasetReader,
        frozen: bool = True,
        input: str = "auto",
        output: str = "json",
        tag_encoding: Optional[str] = None,
        n_best: int = 0,
        marginals: bool = False,
        confidences: bool = True,
        tokens_per_batch: int = 1024,
        workers: int = 4,
        autocast: Optional[str] = None,
    ) -> None:
        super().__init__(model, PredictionReader(dataset_reader, input), frozen)
        self._label_encoding: Optional[str] = getattr(model, "label_encoding", None)
        if output not in OUTPUTS:
            raise ConfigurationError(f"Found the output '{output}', expected one of {', '.join(OUTPUTS)}.")
        if (output == "inline" or tag_encoding is not None) and self._label_encoding is None:
            raise ConfigurationError(
                f"The output '{output}' with the tag_encoding {tag_encoding!r} needs spans, but the model has no "
                f"label_encoding."
            )
        if tag_encoding is not None:
            try:
                tag_encoding = canonical_encoding(tag_encoding)
            except ValueError as error:
                raise ConfigurationError(f"tag_encoding: {error}") from error
        if (n_best > 0 or marginals) and not isinstance(model, LdnetTagger):
            raise ConfigurationError(
                f"n_best and marginals need a model of the type 'ldnet_tagger', but it is {type(model).__name__}."
            )
        if n_best < 0 or tokens_per_batch < 1:
            raise ConfigurationError(
                f"n_best is at least 0 and tokens_per_batch at least 1, but they are {n_best} and {tokens_per_batch}."
            )
        if workers < 1:
            raise ConfigurationError(f"There must be at least 1 of the workers, but {workers} was found.")
        if autocast is not None and (autocast not in AUTOCAST_TYPES or not isinstance(model, LdnetTagger)):
            raise ConfigurationError(
                f"autocast is one of {', '.join(AUTOCAST_TYPES)} and for a model of the type 'ldnet_tagger', but "
                f"{autocast!r} was found for a {type(model).__name__}."
            )
        self._output = output
        self._tag_encoding = tag_encoding
        self._n_best = n_best
        self._marginals = marginals
        self._confidences = confidences and self._label_encoding is not None
        self._autocast = None if autocast is None else AUTOCAST_TYPES[autocast]
        self._tagger_batches = TaggerBatches(model, self._dataset_reader, tokens_per_batch, workers)
        self._lines = LineParser(input)

    def predict(self, sentence: str) -> JsonDict:
        """
        Tags one sentence.

        # Parameters

        sentence : `str`
            Words, separated by white space.

        # Returns

        `JsonDict`
            See the class.
        """
        return self.predict_json({"sentence": sentence})

    def predict_sentences(
        self, sentences: Iterable[Union[str, Sequence[str], JsonDict]], window: int = 1024
    ) -> Iterator[JsonDict]:
        """
        Tags many sentences, in their order, and keeps no more than a window of them in memory.

        # Parameters

        sentences : `Iterable[Union[str, Sequence[str], JsonDict]]`
            Texts, lists of words, or inputs as in JSON lines.
        window : `int`, optional (default = `1024`)
            How many are sorted by length at a time.

        # Returns

        `Iterator[JsonDict]`
            An output for each, see the class.
        """
        for group in lazy_groups_of(map(_as_json, sentences), window):
            yield from self.predict_batch_json(group)

    def tag_file(self, input_path: str, output_path: str, window: int = 1024) -> int:
        """
        Tags a file of the kind `input` (with "auto", one that the model's reader reads) and writes `output`.

        # Parameters

        input_path : `str`
            The file, plain or compressed.
        output_path : `str`
            Where to write to, in UTF-8. The file appears when it is complete.
        window : `int`, optional (default = `1024`)
            How many sentences are sorted by length at a time.

        # Returns

        `int`
            The number of sentences.
        """
        number = 0
        unfinished = f"{output_path}.unfinished"
        try:
            with open(unfinished, "w", encoding="utf-8", newline="\n") as file:
                for group in lazy_groups_of(iter(self._dataset_reader.read(input_path)), window):
                    file.writelines(map(self.dump_line, self.predict_batch_instance(group)))
                    number += len(group)
            os.replace(unfinished, output_path)
        finally:
            if os.path.exists(unfinished):
                os.remove(unfinished)
        return number

    @overrides
    def load_line(self, line: str) -> JsonDict:
        """The input in the next line of the file that `allennlp predict` reads."""
        if cast(PredictionReader, self._dataset_reader).kind == "conll":
            raise ConfigurationError(
                "The input 'conll' needs the option --use-dataset-reader: without it, allennlp predict reads "
                "lines and leaves the empty ones out, which separate sentences."
            )
        return self._lines.parse(line)

    @overrides
    def dump_line(self, outputs: JsonDict) -> str:
        if self._output == "inline":
            return inline(outputs["words"], outputs["spans"])
        if self._output == "conll":
            reader = cast(PredictionReader, self._dataset_reader).reader
            tabs = isinstance(reader, ConllColumnsReader) and reader.layout.separator == b"\t"
            tags = outputs["tags"]
            if self._tag_encoding is not None:
                tags = tags_from_spans(self._spans(tags), len(tags), self._tag_encoding)
            return column_lines(outputs["words"], tags, outputs.get("columns"), "\t" if tabs else " ")
        return json.dumps(outputs) + "\n"

    @overrides
    def _json_to_instance(self, json_dict: JsonDict) -> Instance:
        return instance_of(words_of(json_dict), self._dataset_reader)

    @overrides
    def predict_instance(self, instance: Instance) -> JsonDict:
        return self.predict_batch_instance([instance])[0]

    @overrides
    def predict_batch_instance(self, instances: List[Instance]) -> List[JsonDict]:
        """Like `predict` for many; a sentence without words gets an output without tags."""
        with self._asking():
            return self._tagger_batches.outputs(instances, self._readable)

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Within it, the model gives out what this predictor needs."""
        asked: Dict[str, Any] = {}
        if isinstance(self._model, LdnetTagger):
            asked = {
                "return_confidences": self._confidences,
                "return_marginals": self._marginals,
                "top_k": max(self._model.top_k, self._n_best),
                "autocast": self._autocast,
            }
        before = {name: getattr(self._model, name) for name in asked}
        try:
            for name, value in asked.items():
                setattr(self._model, name, value)
            yield
        finally:
            for name, value in before.items():
                setattr(self._model, name, value)

    def _readable(self, instance: Instance, found: JsonDict) -> JsonDict:
        # Some taggers (allennlp-models' `simple_tagger`) tag the padding, too.
        tags = found["tags"][: len(cast(TextField, instance["tokens"]))]
        words, columns = _words_and_columns(instance, len(tags))
        output: JsonDict = {"words": words, "tags": tags}
        if self._label_encoding is not None:
            confidences = found.get("confidences")
            output["spans"] = [
                {
                    "type": label,
                    "start": start,
                    "end": end + 1,
                    "text": " ".join(words[start : end + 1]),
                    **({} if confidences is None else {"confidence": confidences[number]}),
                }
                for number, (label, start, end) in enumerate(self._spans(tags))
            ]
        if self._n_best:
            output["n_best"] = found.pop("top_k_tags", [])[: self._n_best]
        for name in found:
            if name not in output and name not in _LEFT_OUT:
                output[name] = sanitize(found[name][: len(tags)] if name in _PADDED else found[name])
        if self._marginals:
            output.setdefault("marginals", [])
        if self._output == "conll" and columns is not None:
            output["columns"] = columns
        return output

    def _spans(self, tags: List[str]) -> List[Span]:
        if isinstance(self._model, LdnetTagger):
            return self._model.spans(tags)
        assert self._label_encoding is not None
        return spans_from_tags(tags, self._label_encoding)

    @overrides
    def predictions_to_labeled_instances(
        self, instance: Instance, outputs: Dict[str, numpy.ndarray]
    ) -> List[Instance]:
        """The instance with the predicted tags as its labels, which is what the interpreters explain."""
        labeled = instance.duplicate()
        # There may be an end step after the words, which has no tag.
        words = TextField(cast(TextField, labeled["tokens"]).tokens[: len(outputs["tags"])])
        namespace = getattr(self._model, "label_namespace", "labels")
        labels = SequenceLabelField(list(outputs["tags"]), words, namespace)
        labeled.add_field("tags", labels, vocab=self._model.vocab)
        return [labeled]


def _as_json(sentence: Union[str, Sequence[str], JsonDict]) -> JsonDict:
    if isinstance(sentence, dict):
        return sentence
    return {"sentence": sentence} if isinstance(sentence, str) else {"tokens": list(sentence)}


def _words_and_columns(instance: Instance, number: int) -> Any:
    """The words of a sentence, and all of their columns if its reader has put them into the metadata."""
    metadata: Dict[str, Any] = {}
    if isinstance(instance.fields.get("metadata"), MetadataField):
        metadata = cast(MetadataField, instance["metadata"]).metadata
    tokens = cast(TextField, instance["tokens"]).tokens[:number]
    return metadata.get("words", [token.text for token in tokens]), metadata.get("columns")
