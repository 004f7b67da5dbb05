"""Multiply-adds per word of each part of a model."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from allennlp.models.model import Model
from allennlp.modules import Seq2SeqEncoder, TextFieldEmbedder
from allennlp.modules.text_field_embedders import BasicTextFieldEmbedder
from allennlp_models.lm.models.language_model import LanguageModel
from allennlp_models.tagging.models.crf_tagger import CrfTagger

from ldnet_allennlp.models.tie_or_break_tagger import TieOrBreakTagger
from ldnet_allennlp.modules.characters.sentence_character_lstm import SentenceCharacterLstm
from ldnet_allennlp.modules.embedders.ldnet_embedder import LdnetEmbedder, stack_names
from ldnet_allennlp.modules.rnn.ld_rnn import LdRnn
from ldnet_allennlp.modules.selection.layer_selection import LayerSelection
from ldnet_allennlp.modules.selection.multiply_adds import Count, count_multiply_adds

Part = tuple[str, torch.nn.Module]


class Costs(NamedTuple):
    """The costs of a model's parts."""

    components: dict[str, float]
    """Multiply-adds per word, by the part's name."""

    not_counted: list[str]
    """What could not be counted, and why: a sentence each."""

    @property
    def total(self) -> float:
        """Multiply-adds per word of all counted parts."""
        return sum(self.components.values())


def component_costs(model: Model, characters_per_word: float) -> Costs:
    """
    Count the multiply-adds of the parts of a model that run once per word (see `count_multiply_adds`), for words of
    `characters_per_word` characters, without the space.

    The parts of a tagger (`TieOrBreakTagger`, allennlp-models' `CrfTagger` and subclasses) and of a language model are
    known. The language model's softmax is not counted, because its cost depends on the word. In other models, token
    embedders and `Seq2SeqEncoder`s are counted; other parts may run once per sentence or per pair of words, so they are
    listed as not counted. Sentence boundaries are free.
    """
    components: dict[str, float] = {}
    not_counted: list[str] = []
    for name, module in _parts(model, not_counted):
        counted = count_multiply_adds(module, characters_per_word, name)
        components[name] = components.get(name, 0.0) + counted.multiply_adds
        not_counted += counted.not_counted
    shown = {
        name: cost for name, cost in components.items() if cost > 0 or name.split(": ")[-1].startswith("LM ")
    }
    return Costs(shown, not_counted)


def _parts(model: Model, not_counted: list[str]) -> Iterator[Part]:
    if isinstance(model, LanguageModel):
        yield from _embedder_parts(model._text_field_embedder)
        direction = "bidirectional" if model._bidirectional else getattr(model, "direction", "forward")
        yield from _stacks(model._contextualizer, direction, "LM ")
        if getattr(model, "_projection", None) is not None:
            yield "LM projection", model._projection
        if model._softmax_loss is not None:
            kind = type(model._softmax_loss).__name__
            not_counted.append(f"softmax ({kind}): it is not used by taggers, and costs more for rare words")
    elif isinstance(model, (CrfTagger, TieOrBreakTagger)):
        yield from _embedder_parts(model.text_field_embedder)
        yield _encoder_name(model.encoder), model.encoder
        if model._feedforward is not None:
            yield "feedforward", model._feedforward
        yield "tag projection", model.tag_projection_layer
    else:
        for name, child in model.named_children():
            if isinstance(child, TextFieldEmbedder):
                yield from _embedder_parts(child)
            elif isinstance(child, Seq2SeqEncoder):
                yield _encoder_name(child), child
            elif count_multiply_adds(child, 1.0) != Count(0.0, []):
                not_counted.append(
                    f"{name} ({type(child).__name__}): the calls a word of a {type(model).__name__} are unknown"
                )


def _embedder_parts(embedder: TextFieldEmbedder) -> Iterator[Part]:
    if not isinstance(embedder, BasicTextFieldEmbedder):
        yield "embedder", embedder
        return
    embedders = embedder._token_embedders
    several = sum(isinstance(part, LdnetEmbedder) for part in embedders.values()) > 1
    for key, part in embedders.items():
        if isinstance(part, LdnetEmbedder):
            prefix = f"{key}: LM " if several else "LM "
            for model in part.language_models.values():
                yield from _stacks(model.selection.encoder, model.direction, prefix)
            if part.projection is not None:
                yield f"{prefix}projection", part.projection
        else:
            yield "characters" if isinstance(part, SentenceCharacterLstm) else f"embedder {key}", part


def _stacks(encoder: torch.nn.Module, direction: str, prefix: str) -> Iterator[Part]:
    if isinstance(encoder, LayerSelection):
        encoder = encoder.encoder
    if isinstance(encoder, LdRnn):
        for name, stack in zip(stack_names(direction), encoder.stacks):
            yield prefix + name, stack
    else:
        yield prefix + direction, encoder


def _encoder_name(encoder: torch.nn.Module) -> str:
    rnns: list[Any] = [module for module in encoder.modules() if isinstance(module, torch.nn.RNNBase)]
    is_plain = len(rnns) == 1 and rnns[0].mode == "LSTM" and rnns[0].bidirectional
    return "BiLSTM" if is_plain else "encoder"
