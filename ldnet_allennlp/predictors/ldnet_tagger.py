"""Predictor for taggers: text, tokens or CoNLL columns in, spans out."""

import contextlib
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Optional, cast

import numpy
import torch
from allennlp.common.checks import ConfigurationError
from allennlp.common.util import JsonDict, lazy_groups_of
from allennlp.data import DatasetReader, Instance
from allennlp.data.fields import SequenceLabelField, TextField
from allennlp.models import Model
from allennlp.predictors import Predictor
from overrides import overrides

from ldnet_allennlp.common.lines import excerpt
from ldnet_allennlp.models.ldnet_tagger import LdnetTagger
from ldnet_allennlp.models.tag_decoding import label_encoding_of
from ldnet_allennlp.predictors.engines import (
    ChosenEngine,
    TorchEngine,
    check_autocast,
    check_scored,
    instance_of_words,
    sentence_decoder,
)
from ldnet_allennlp.predictors.prediction_reader import PredictionReader, prediction_instance
from ldnet_runtime.errors import InputError
from ldnet_runtime.formats import OUTPUTS, Writer
from ldnet_runtime.formats.files import refuse_to_replace, written_beside
from ldnet_runtime.formats.words import Words
from ldnet_runtime.formats.writing import encodable, text_of
from ldnet_runtime.prediction import Options
from ldnet_runtime.tag_schemes import OUTSIDE, canonical_encoding, spans_from_tags
from ldnet_runtime.tagger import tag_words


@Predictor.register("ldnet_tagger")
class LdnetTaggerPredictor(Predictor):
    """
    Predictor for "ldnet_tagger" and any other tagger whose reader accepts a list of tokens.

    Set the options with `allennlp predict --predictor-args '{"output": "inline", "n_best": 3}'` or
    `Predictor.from_path(archive, output="inline", n_best=3)`. Methods also accept `n_best`, `marginals` and
    `confidences` as arguments. The command's `--batch-size` is the window for sorting sentences by length. They are
    computed in batches of `tokens_per_batch` and returned in input order. Prediction changes no state, so threads,
    copies and forked processes can share a predictor.

    An output is `{"words", "tags", "spans"}`, with the "text" of an input that has one. "spans" is a list of `{"type",
    "start", "end", "start_char", "end_char", "text", "confidence"}`: words and characters [start, end) and the
    probability of the span, see `ldnet_runtime.decoding.span_probabilities`. Offsets refer to the text, or to the words
    joined by blanks. All probabilities are relative to the tag sequences that the model's constraints allow.

    Registered as a `Predictor` with name "ldnet_tagger".

    # Parameters

    model, dataset_reader, frozen : see `Predictor`
        The reader's `tokenizer`, if any, splits texts into sentences and words. Without one, texts are split at line
        ends and white space.
    input : `str`, optional (default = `"auto"`)
        "jsonl": JSON lines, or an array, of `{"sentence": text}`, `{"text": text}` or `{"tokens": words}`. "text": one
        text per line. "document": one text per file. "conll": files for the model's "conll_columns" reader, with or
        without tags. "auto" detects the format of each file. "document", "conll", arrays, folders and globs require
        `--use-dataset-reader`; without it, the command reads lines.
    output : `str`, optional (default = `"json"`)
        "json", "inline", "conll", "html", "standoff", "doccano" or "label_studio": see `ldnet_runtime.formats.Writer`.
        "standoff" and "label_studio" are for `tag_file` only.
    tag_encoding : `str`, optional
        The span encoding in "conll": one of `tag_schemes.ENCODINGS`, for example "BIO". By default the model's.
    n_best : `int`, optional (default = `0`)
        Number of tag sequences in `"n_best"`: `{"tags", "score", "probability"}`, best first.
    marginals : `bool`, optional (default = `False`)
        Whether to output `"marginals"`: for each word, a dictionary from tag to probability.
    confidences : `bool`, optional (default = `True`)
        Whether spans have a `"confidence"`. Like `n_best` and `marginals`, this requires a model with a CRF, or a
        "tie_or_break_tagger", which has no `n_best`.
    tokens_per_batch : `int`, optional (default = `512`)
        The maximum number of tokens per batch, padding included, unless one sentence has more.
    workers : `int`, optional
        The maximum number of batches that ONNX Runtime computes in parallel; by default the number of torch threads.
    autocast : `str`, optional
        "auto", "bfloat16" or "float16": torch's precision below the CRF, see `resolve_autocast`. "ldnet_tagger" only.
    engine : `str`, optional (default = `"auto"`)
        "onnx": ONNX Runtime, for exportable models. "torch". "auto": ONNX Runtime for exportable models on a CPU, else
        torch.

    Raises `ConfigurationError` for options that the model or the reader does not support, and `ValueError` for an input
    with neither text nor tokens.
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
        tokens_per_batch: int = 512,
        workers: Optional[int] = None,
        autocast: Optional[str] = None,
        engine: str = "auto",
    ) -> None:
        decoder = sentence_decoder(model)
        self._span_types = [] if decoder is None else decoder.span_types
        super().__init__(model, PredictionReader(dataset_reader, input, self._span_types), frozen)
        if output not in OUTPUTS:
            raise ConfigurationError(f"The output is {output!r}; expected one of {', '.join(OUTPUTS)}.")
        encoding = label_encoding_of(model)
        if (output not in ("json", "conll") or tag_encoding is not None) and encoding is None:
            what = f"The output '{output}' with the tag_encoding {tag_encoding!r}"
            raise ConfigurationError(f"{what} needs spans, but the model has no label_encoding.")
        if tokens_per_batch < 1 or (workers is not None and workers < 1) or n_best < 0:
            raise ConfigurationError(
                f"tokens_per_batch and workers are at least 1 and n_best at least 0, but they are {tokens_per_batch}, "
                f"{workers} and {n_best}."
            )
        self._output = output
        try:
            self._tag_encoding = None if tag_encoding is None else canonical_encoding(tag_encoding)
        except ValueError as error:
            raise ConfigurationError(f"tag_encoding: {error}") from error
        self._options = Options(n_best, marginals, confidences)
        self._tokens_per_batch, self._workers = tokens_per_batch, workers
        self._engine = ChosenEngine(engine, model, dataset_reader, check_autocast(autocast, model))
        # So errors come early, and the first prediction need not wait.
        check_scored(model, self._engine.current(), self._options)
        self._lines = self._writer()
        self._has_begun = False  # the page that `dump_line` writes

    def predict(self, sentence: str, **options: Any) -> JsonDict:
        """
        Tag a text of one or more sentences. The options `n_best`, `marginals` and `confidences` override the
        constructor's. For the output see the class.
        """
        return self.predict_json({"sentence": sentence}, **options)

    @overrides(check_signature=False)
    def predict_json(self, inputs: JsonDict, **options: Any) -> JsonDict:
        return self.predict_batch_json([inputs], **options)[0]

    @overrides(check_signature=False)
    def predict_batch_json(self, inputs: list[JsonDict], **options: Any) -> list[JsonDict]:
        """Like `predict_json`, for many inputs."""
        for one in inputs:
            if not isinstance(one, dict):
                raise InputError(f"the input is {excerpt(one)}; expected an object with a text or tokens.")
        return self._outputs([self._reader.split(one) for one in inputs], self._asked(options))

    @overrides
    def predict_instance(self, instance: Instance) -> JsonDict:
        return self.predict_batch_instance([instance])[0]

    @overrides(check_signature=False)
    def predict_batch_instance(self, instances: Sequence[Instance], **options: Any) -> list[JsonDict]:
        """Tag the words of instances, ignoring their labels."""
        inputs = [prediction_instance(instance) for instance in instances]
        outputs = self._outputs([one.words for one in inputs], self._asked(options))
        return [{**output, **one.beside} for output, one in zip(outputs, inputs)]

    def predict_sentences(
        self, sentences: Iterable[Any], window: int = 1024, **options: Any
    ) -> Iterator[JsonDict]:
        """
        Tag many inputs (texts, lists of words, or inputs as in JSON lines) in order, with one output per input. At most
        `window` of them are in memory and sorted by length. The options are those of `predict`.
        """
        asked = self._asked(options)
        for group in lazy_groups_of(iter(sentences), window):
            yield from self._outputs([self._reader.split(one) for one in group], asked)

    def tag_file(self, input_path: Any, output_path: str, window: int = 1024, **options: Any) -> int:
        """
        Tag files in the format `input` ("auto" detects it for each file), write `output`, and return the number of
        outputs.

        `input_path` is one or a list of files (plain or compressed), folders or globs. The output file, in UTF-8,
        appears only when complete. With the output "standoff", the annotated text is written next to it, with the
        suffix ".txt". `window` texts at a time are sorted by length. The options are those of `predict`.
        """
        number, writer, asked = 0, self._writer(), self._asked(options)
        annotated = [re.sub(r"\.ann$", "", str(output_path)) + ".txt"] if self._output == "standoff" else []
        targets = [str(output_path), *annotated]
        refuse_to_replace(self._reader.files(input_path), targets)
        with contextlib.ExitStack() as stack:
            file, *others = [stack.enter_context(written_beside(target)) for target in targets]
            file.write(writer.start().encode())
            for group in lazy_groups_of(iter(self._dataset_reader.read(input_path)), window):
                for output in self.predict_batch_instance(group, **vars(asked)):
                    file.write(writer.write(output).encode())
                    for texts in others:
                        texts.write(encodable(text_of(output) + "\n").encode())
                number += len(group)
            file.write(writer.end().encode())
        return number

    @overrides
    def load_line(self, line: str) -> JsonDict:
        return self._reader.parse_line(line)

    @overrides
    def dump_line(self, outputs: JsonDict) -> str:
        """One output as text. The first one also begins the page."""
        if self._output in ("standoff", "label_studio"):
            raise ConfigurationError(
                f"The output '{self._output}' cannot be written line by line. Use `tag_file` or the command ldnet-tag."
            )
        start = "" if self._has_begun else self._lines.start()
        self._has_begun = True
        return start + self._lines.write(outputs)

    @overrides
    def _json_to_instance(self, json_dict: JsonDict) -> Instance:
        words = [word for sentence in self._reader.split(json_dict).sentences for word in sentence]
        return instance_of_words(words, self._reader.reader)

    @overrides
    def predictions_to_labeled_instances(
        self, instance: Instance, outputs: dict[str, numpy.ndarray]
    ) -> list[Instance]:
        """
        One instance per predicted span, with the labels of the span and "O" elsewhere. Without a label encoding, one
        instance with all predicted tags. The instance may have an end step after the words, without a tag.
        """
        tags = [str(tag) for tag in outputs["tags"]]
        words = TextField(cast(TextField, instance["tokens"]).tokens[: len(tags)])
        model: Any = self._model
        encoding = label_encoding_of(model)
        targets = [tags]
        if encoding is not None:
            spans = model.spans(tags) if isinstance(model, LdnetTagger) else spans_from_tags(tags, encoding)
            targets = [
                [tag if start <= number <= end else OUTSIDE for number, tag in enumerate(tags)]
                for _, start, end in spans
            ]
        labeled = [instance.duplicate() for _ in targets]
        for copy, labels in zip(labeled, targets):
            field = SequenceLabelField(labels, words, getattr(model, "label_namespace", "labels"))
            copy.add_field("tags", field, vocab=model.vocab)
        return labeled

    @property
    def _reader(self) -> PredictionReader:
        return cast(PredictionReader, self._dataset_reader)

    def _asked(self, options: dict[str, Any]) -> Options:
        return Options(**{**vars(self._options), **options})

    def _outputs(self, words: Sequence[Words], options: Options) -> list[JsonDict]:
        workers = self._workers or torch.get_num_threads()
        engine = self._engine.current()
        check_scored(self._model, engine, options)
        threads = 1 if isinstance(engine, TorchEngine) else workers
        predictions = tag_words(words, engine.decode, options, self._tokens_per_batch, threads)
        return [prediction.to_json(options) for prediction in predictions]

    def _writer(self) -> Writer:
        return Writer(self._output, self._span_types, self._tag_encoding)
