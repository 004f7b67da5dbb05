"""Engines for a tagger's predictions: torch and ONNX Runtime."""

import threading
from collections.abc import Sequence
from typing import Any, Protocol, cast

import numpy
import torch
from allennlp.common.checks import ConfigurationError
from allennlp.data import Batch, DatasetReader, Instance, Token
from allennlp.models import Model
from allennlp.modules import ConditionalRandomField
from allennlp.nn.util import move_to_device
from allennlp_models.tagging.models.crf_tagger import CrfTagger

from ldnet_allennlp.common.precision import resolve_autocast
from ldnet_allennlp.models.ldnet_tagger import LdnetTagger
from ldnet_allennlp.models.tag_decoding import label_encoding_of
from ldnet_allennlp.models.tie_or_break_tagger import TieOrBreakTagger
from ldnet_runtime.decoding import Scores
from ldnet_runtime.decoding.chunks import ChunkDecoder
from ldnet_runtime.prediction import Decoded, Options
from ldnet_runtime.sentence_decoder import SentenceDecoder
from ldnet_runtime.tag_schemes import spans_from_tags

ENGINES = ("auto", "onnx", "torch")
TAGGERS = (LdnetTagger, TieOrBreakTagger)


class Engine(Protocol):
    """Tags batches of sentences, from any number of threads. Without a decoder, there are tags and spans only."""

    @property
    def decoder(self) -> SentenceDecoder | ChunkDecoder | None: ...

    def decode(self, sentences: Sequence[Sequence[str]], options: Options) -> Sequence[Decoded]:
        """The tags of sentences, each of one word or more."""


class TorchEngine:
    """
    Runs the torch model of a tagger, the networks in the precision `autocast`. For types other than "ldnet_tagger",
    "tie_or_break_tagger" and "crf_tagger", only the "tags" of its output are used: probabilities and n-best sequences
    require the scores of its labels.
    """

    def __init__(self, model: Model, reader: DatasetReader, autocast: torch.dtype | None = None) -> None:
        self._model = model
        self._reader = reader
        self._autocast = autocast
        self.decoder = sentence_decoder(model)

    @torch.no_grad()
    def decode(self, sentences: Sequence[Sequence[str]], options: Options) -> Sequence[Decoded]:
        instances = [instance_of_words(words, self._reader) for words in sentences]
        for instance in instances:
            self._reader.apply_token_indexers(instance)
        if self.decoder is None:
            return self._tags_of_output(instances, sentences)
        batch = Batch(instances)
        batch.index_instances(self._model.vocab)
        tensors = move_to_device(batch.as_tensor_dict(), self._model._get_prediction_device())
        lengths = numpy.array([len(words) for words in sentences])
        emissions = self._emissions(tensors)[:, : lengths.max()]
        return self.decoder.decode(emissions, lengths, options)

    def _emissions(self, tensors: dict[str, Any]) -> numpy.ndarray:
        model: Any = self._model
        if type(model) in TAGGERS:
            emissions, _ = model.score(tensors["tokens"], self._autocast)
        else:
            emissions = model(tensors["tokens"])["logits"]
        return cast(numpy.ndarray, emissions.cpu().numpy())

    def _tags_of_output(
        self, instances: list[Instance], sentences: Sequence[Sequence[str]]
    ) -> Sequence[Decoded]:
        """The tags in the model's output, without those of padding, which `simple_tagger` also returns."""
        outputs = self._model.forward_on_instances(instances)
        encoding = label_encoding_of(self._model)
        decoded = []
        for output, words in zip(outputs, sentences):
            tags = [str(tag) for tag in output["tags"][: len(words)]]
            spans = [] if encoding is None else spans_from_tags(tags, encoding)
            decoded.append(Decoded(tags, [(label, start, last + 1, None) for label, start, last in spans]))
        return decoded


class ChosenEngine:
    """
    The engine for "auto", "onnx" or "torch". "auto" is ONNX Runtime for an exportable model on a CPU, else torch. The
    model is exported again after its weights have changed. Raises `ConfigurationError` for any other name, and if
    autocast is not supported.
    """

    def __init__(
        self, name: str, model: Model, reader: DatasetReader, autocast: torch.dtype | None = None
    ) -> None:
        if name not in ENGINES:
            raise ConfigurationError(f"The engine is {name!r}; expected one of {', '.join(ENGINES)}.")
        if name == "onnx" and autocast is not None:
            raise ConfigurationError("autocast is for the engine 'torch', but the engine is 'onnx'.")
        self._name = name
        self._model = model
        self._reader = reader
        self._autocast = autocast
        self._chosen: tuple[Any, Engine] | None = None
        self._lock = threading.Lock()

    def current(self) -> Engine:
        """The engine for the current state of the model."""
        state = _state(self._model)
        chosen = self._chosen
        if chosen is None or chosen[0] != state:
            with self._lock:
                chosen = self._chosen
                if chosen is None or chosen[0] != state:
                    chosen = self._chosen = state, self._build()
        return chosen[1]

    def _build(self) -> Engine:
        if self._name != "torch" and self._autocast is None:
            from ldnet_allennlp.export import NotExportable, export_tagger
            from ldnet_runtime import Tagger

            on_cpu = all(parameter.device.type == "cpu" for parameter in self._model.parameters())
            if on_cpu or self._name == "onnx":
                try:
                    return Tagger(export_tagger(self._model, self._reader))
                except NotExportable as error:
                    if self._name == "onnx":
                        raise ConfigurationError(
                            f"The engine 'onnx' cannot run this model: {error}"
                        ) from error
        return TorchEngine(self._model, self._reader, self._autocast)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_lock", "_chosen")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=threading.Lock(), _chosen=None)


def check_autocast(name: str | None, model: Model) -> torch.dtype | None:
    """
    The precision of an `autocast` option, see `resolve_autocast`. Raises `ConfigurationError` also for models other
    than "ldnet_tagger" and "tie_or_break_tagger".
    """
    if name is None:
        return None
    if type(model) not in TAGGERS:
        raise ConfigurationError(
            f"autocast is for a model of the type 'ldnet_tagger' or 'tie_or_break_tagger', but it is {name!r} for a "
            f"{type(model).__name__}."
        )
    return resolve_autocast(name, next(model.parameters()).device, "the predictor")


def check_scored(model: Model, engine: Engine, options: Options) -> None:
    """Raise `ConfigurationError` if a model's engine has no scores for n best sequences or for marginals."""
    unknown = engine.decoder is None and (options.n_best > 0 or options.marginals)
    if unknown or (options.n_best > 0 and isinstance(engine.decoder, ChunkDecoder)):
        types = "a model of the type 'ldnet_tagger' or 'crf_tagger'"
        raise ConfigurationError(f"n_best and marginals need {types}, but it is {type(model).__name__}.")


def instance_of_words(words: Sequence[str], reader: DatasetReader) -> Instance:
    """
    A reader's instance for one or more words. Words that AllenNLP or UTF-8 cannot represent become the unknown token,
    and lone surrogates become "?".
    """
    return reader.text_to_instance([Token(_indexable(word)) for word in words])


def sentence_decoder(model: Model) -> SentenceDecoder | ChunkDecoder | None:
    """The decoder for the scores of a model; `None` for other types, subclasses included, which decode themselves."""
    if type(model) is TieOrBreakTagger:
        return model.decoder
    if type(model) is LdnetTagger:
        return SentenceDecoder(
            model.labels,
            model.label_encoding,
            _numpy(model.crf.scores()),
            model.crf.constraint_matrix().cpu().numpy(),
            sorted(model.never_spans),
        )
    crf = getattr(model, "crf", None)
    if type(model) is not CrfTagger or type(crf) is not ConditionalRandomField:
        return None
    tagger: Any = model
    labels = [
        model.vocab.get_token_from_index(number, tagger.label_namespace) for number in range(tagger.num_tags)
    ]
    ends = [torch.zeros(len(labels))] * 2
    if crf.include_start_end_transitions:
        ends = [crf.start_transitions, crf.end_transitions]
    allowed = crf._constraint_mask.cpu().numpy() > 0
    return SentenceDecoder(labels, tagger.label_encoding, _numpy((crf.transitions, *ends)), allowed)


def _numpy(scores: tuple[torch.Tensor, ...]) -> Scores:
    return Scores(*(part.detach().cpu().numpy() for part in scores))


def _indexable(word: str) -> str:
    if word == "@@PADDING@@":
        return "@@UNKNOWN@@"
    return word if word.isascii() else word.encode("utf-8", "replace").decode("utf-8")


def _state(model: Model) -> Any:
    """Changes whenever a weight does."""
    return [(id(tensor), tensor._version) for tensor in (*model.parameters(), *model.buffers())]
