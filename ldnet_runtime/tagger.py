"""Tagger in ONNX Runtime."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy

from ldnet_runtime import batching, decoding
from ldnet_runtime.decoding import Floats, Integers
from ldnet_runtime.decoding.chunks import ChunkDecoder
from ldnet_runtime.encoding import SentenceEncoder
from ldnet_runtime.errors import InputError, ModelFileError
from ldnet_runtime.formats.words import Words, num_words, words_of
from ldnet_runtime.model_file import TaggerDescription, read_model_file
from ldnet_runtime.model_file.description import TIE_OR_BREAK
from ldnet_runtime.prediction import Decoded, Options, Prediction, prediction
from ldnet_runtime.sentence_decoder import SentenceDecoder

if TYPE_CHECKING:
    import onnxruntime

# ONNX Runtime's option for the folder of weights that it maps into memory.
_WEIGHTS_FOLDER = "session.model_external_initializers_file_folder_path"

Text = str | Sequence[str] | Mapping[str, Any] | Words


class Tagger:
    """
    Tags texts and lists of words. A tagger is immutable, so threads, forked processes and copies can share it, each
    with different options.

        tagger = Tagger("ner.onnx")
        for span in tagger("Ada Lovelace wrote to Charles Babbage from London."):
            print(span.text, span.label, span.start_char, span.end_char, span.confidence)

    # Parameters

    model : `str`, `PathLike` or `bytes`
        A file written by `allennlp ldnet-export`: its path, or its bytes. A file is memory-mapped, so you may replace
        it (as the export does), but not overwrite it while it is in use. Processes forked after that need a new tagger.
    threads : `int`, optional
        The maximum number of parallel batches, one thread each; by default the number of CPUs of this process.
    tokens_per_batch : `int`, optional (default = `512`)
        The maximum number of words per batch, padding included, unless one sentence has more. It determines the memory.

    Raises `ModelFileError` if the file is not an exported tagger, and `OSError` if it cannot be read.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | bytes,
        threads: int | None = None,
        tokens_per_batch: int = 512,
    ) -> None:
        if tokens_per_batch < 1 or (threads is not None and threads < 1):
            raise ValueError(
                f"threads is {threads}, tokens_per_batch {tokens_per_batch}; expected 1 or more."
            )
        self._source = model if isinstance(model, bytes) else os.path.abspath(os.fspath(model))
        self._threads = threads
        self.tokens_per_batch = tokens_per_batch
        self.description, self._fingerprint, self._mapped = read_model_file(self._source)
        self._encoder = SentenceEncoder(self.description)
        self.decoder = decoder_of(self.description)
        # One session per process, because a forked process cannot use its parent's session.
        self._sessions: dict[int, onnxruntime.InferenceSession] = {}
        try:
            self.decode([["a"]], Options())
        except ModelFileError:
            raise
        except Exception as error:
            raise ModelFileError(f"{self.name}: the graph gives no scores: {_first_line(error)}.") from error

    @property
    def name(self) -> str:
        """The file's path, for messages."""
        return "the model" if isinstance(self._source, bytes) else self._source

    @property
    def labels(self) -> list[str]:
        """All labels, in the order of their ids."""
        return self.decoder.labels

    @property
    def span_types(self) -> list[str]:
        """The span types of the tagger."""
        return self.decoder.span_types

    def __call__(
        self, text: Text, n_best: int = 0, marginals: bool = False, confidences: bool = True
    ) -> Prediction:
        """
        Tag one input.

        # Parameters

        text : `str`, `Sequence[str]` or `Mapping[str, Any]`
            A text of any length, the words of one sentence, or an object as in JSON lines.
        n_best, marginals, confidences
            See `Options`.

        # Returns

        `Prediction`

        Raises `InputError` for any other input, and `TextError` if the text cannot be split into words.
        """
        return self._tag([self.split(text)], Options(n_best, marginals, confidences))[0]

    def tag_many(
        self,
        texts: Iterable[Text],
        n_best: int = 0,
        marginals: bool = False,
        confidences: bool = True,
        window: int = 4096,
    ) -> Iterator[Prediction]:
        """
        Tag many inputs, in their order, with no more than a window of them in memory.

        # Parameters

        texts : `Iterable[Text]`
            See `__call__`.
        window : `int`, optional (default = `4096`)
            The number of inputs to sort by length at a time; fewer if they have 131,072 words.
        """
        if isinstance(texts, (str, Mapping)):
            raise InputError(
                f"the inputs are a {type(texts).__name__}; expected a list or another iterable of inputs."
            )
        options = Options(n_best, marginals, confidences)
        for group in batching.windows(map(self.split, texts), window, num_words):
            yield from self._tag(group, options)

    def split(self, text: Text) -> Words:
        """The words of an input, or an input's words unchanged, so that errors occur input by input."""
        return words_of(text, self.description.mode, self.description.language)

    def _tag(self, inputs: Sequence[Words], options: Options) -> list[Prediction]:
        return tag_words(inputs, self.decode, options, self.tokens_per_batch, self.threads)

    @property
    def threads(self) -> int:
        """The maximum number of parallel batches."""
        if self._threads is not None:
            return self._threads
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

    def emissions(self, sentences: Sequence[Sequence[str]]) -> tuple[Floats, Integers]:
        """
        The scores of the labels for each word, (B, T, N), and the lengths of the sentences, (B,). The score of an end
        step, if any, is added to the last word's. For the decoder "tie_or_break" they are those of `decoding.chunks`.

        # Parameters

        sentences : `Sequence[Sequence[str]]`
            One or more, each of one word or more.
        """
        session = self._session()
        try:
            arrays = self._encoder.encode(sentences)
            (emissions,) = session.run(None, arrays)
        except InputError:
            raise
        except Exception as error:  # usually, the memory does not suffice
            words = [word for sentence in sentences for word in sentence]
            raise InputError(
                f"ONNX Runtime failed for a batch (sentences: {len(sentences):,}, words: {len(words):,}, characters in "
                f"the longest word: {max(map(len, words)):,}): {_first_line(error)}."
            ) from error
        lengths = arrays["lengths"]
        expected = (len(sentences), int(lengths.max()), self.description.num_scores)
        if emissions.shape != expected or emissions.dtype != numpy.float32:
            raise ModelFileError(
                f"{self.name}: the graph gives {emissions.dtype} scores of the shape {emissions.shape}; expected "
                f"float32 and {expected}."
            )
        if not all(numpy.isfinite(scores[:length]).all() for scores, length in zip(emissions, lengths)):
            raise ModelFileError(f"{self.name}: the graph gives infinite or NaN scores.")
        if self.description.boundary_tags is not None:
            return decoding.without_end_step(emissions, lengths, self.description.boundary_tags[1])
        if self.description.end_token is not None:
            return emissions[:, :-1], lengths - 1
        return emissions, lengths

    def decode(self, sentences: Sequence[Sequence[str]], options: Options) -> list[Decoded]:
        """The tags of non-empty sentences, computed as one batch."""
        return self.decoder.decode(*self.emissions(sentences), options)

    def _session(self) -> "onnxruntime.InferenceSession":
        session = self._sessions.get(os.getpid())
        if session is None:
            session = self._sessions.setdefault(os.getpid(), self._new_session())
        return session

    def _new_session(self) -> "onnxruntime.InferenceSession":
        import onnxruntime

        if not isinstance(self._source, bytes):
            status = os.stat(self._source)
            if (status.st_size, status.st_mtime_ns) != self._fingerprint:
                raise ModelFileError(
                    f"{self.name}: the file has changed since it was checked; load the tagger again."
                )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # several batches at a time are faster than several threads a batch
        options.inter_op_num_threads = 1
        options.enable_mem_pattern = False  # each batch has another shape
        options.enable_cpu_mem_arena = False  # it would keep the memory of the largest batch; as fast without
        options.log_severity_level = 4  # errors are raised, so nobody needs them on the screen
        model: str | bytes = self._source
        if self._mapped is not None:
            options.add_session_config_entry(_WEIGHTS_FOLDER, os.path.dirname(os.path.realpath(self.name)))
            model = self._mapped
        try:
            return onnxruntime.InferenceSession(
                model, options, providers=["CPUExecutionProvider"], enable_fallback=0
            )
        except Exception as error:  # ONNX Runtime's own exceptions have no other base class
            message = _first_line(error)
        raise ModelFileError(f"{self.name}: ONNX Runtime cannot load the graph: {message}.")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._source, self._threads, self.tokens_per_batch)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Tagger":
        return self  # immutable

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"


def tag_words(
    inputs: Sequence[Words],
    decode: Callable[[Sequence[Sequence[str]], Options], Sequence[Decoded]],
    options: Options,
    tokens_per_batch: int,
    threads: int,
) -> list[Prediction]:
    """
    Tag inputs that are already split into words.

    # Parameters

    inputs : `Sequence[Words]`
    decode : `Callable[[Sequence[Sequence[str]], Options], Sequence[Decoded]]`
        Tags a batch of sentences; called from several threads.
    options, tokens_per_batch, threads
        See `Tagger`.
    """
    sentences = [sentence for one in inputs for sentence in one.sentences]

    def compute(numbers: list[int]) -> Sequence[Decoded]:
        return decode([sentences[number] for number in numbers], options)

    results = iter(batching.run(sentences, compute, tokens_per_batch, threads))
    nothing = Decoded([], [])
    predictions = []
    for one in inputs:
        decoded = [next(results) or nothing for _ in one.sentences]
        words = [word for sentence in one.sentences for word in sentence]
        predictions.append(prediction(words, decoded, one.text, one.offsets, options.n_best))
    return [
        replace(one, sentences=[pair for pair in one.sentences if pair[0] < pair[1]]) for one in predictions
    ]


def decoder_of(description: TaggerDescription) -> SentenceDecoder | ChunkDecoder:
    """The decoder of a model file."""
    if description.decoder == TIE_OR_BREAK:
        return ChunkDecoder(description.labels, description.label_encoding or "")
    boundaries = description.boundary_tags or ()
    return SentenceDecoder(
        description.labels,
        description.label_encoding,
        decoding.Scores(description.transitions, description.start, description.end),
        description.allowed,
        [description.labels[tag] for tag in boundaries],
    )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__).rstrip(".")[:300]
