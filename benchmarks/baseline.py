"""
Baseline of the speed benchmarks: the original LD-Net's computation with the weights of the same archive. Importing this
module registers its predictor, and one for allennlp-models' unchanged `crf_tagger`.

The computation (`model_seq/` of the original): one `nn.LSTM` per layer over the `torch.cat` of all layers below,
batches in the order of the file, all sentences padded to the longest one of their batch in words, and in characters for
the character networks, whose strings are built sentence by sentence; a Viterbi recursion over whole batches, step by
step, and a loop over the sentences for the result. One difference: the original's backward networks read padding first.
Here sentences are reversed within their length, as in the tagger, so predictions stay the same. Everything around the
network is AllenNLP's: instances, indexing, the predictor, JSON.
"""

from collections.abc import Iterator
from typing import Any

import torch
from allennlp.common.util import JsonDict
from allennlp.data import DatasetReader, Instance, TextFieldTensors
from allennlp.models import Model
from allennlp.nn.util import get_text_field_mask
from allennlp.predictors import Predictor
from overrides import overrides
from torch.nn.utils.rnn import pad_sequence

from ldnet_allennlp.data.conll.reader import ConllColumnsReader
from ldnet_allennlp.models.ldnet_tagger import LdnetTagger
from ldnet_allennlp.modules.characters.sentence_character_lstm import SentenceCharacterLstm
from ldnet_allennlp.modules.embedders.frozen_language_model import FrozenLanguageModel
from ldnet_allennlp.modules.embedders.ldnet_embedder import LdnetEmbedder
from ldnet_allennlp.modules.rnn.ld_rnn import reverse_sequences

SPACE, MARKER = 0, 1  # rows of `boundary_embeddings`


def one_direction(rnn: torch.nn.LSTM, reverse: bool) -> torch.nn.LSTM:
    """One direction of a one-layer LSTM as a separate LSTM, batch first, with the same parameters."""
    single = torch.nn.LSTM(rnn.input_size, rnn.hidden_size, batch_first=True)
    suffix = "_reverse" if reverse else ""
    single.load_state_dict({name: getattr(rnn, name + suffix) for name, _ in single.named_parameters()})
    return single


class BaselineCharacters(torch.nn.Module):
    """Both character networks over the padded strings of a batch."""

    def __init__(self, characters: SentenceCharacterLstm) -> None:
        super().__init__()
        assert characters.projection is not None and characters.highway is None
        self.vectors = torch.nn.Embedding.from_pretrained(
            torch.cat([characters.boundary_embeddings, characters.embedding.weight]).detach()
        )
        self.rnns = torch.nn.ModuleList(
            one_direction(rnn, False) for rnn in (characters.forward_rnn, characters.backward_rnn)
        )
        self.projection = characters.projection

    def forward(self, token_characters: torch.Tensor) -> torch.Tensor:
        """(B, T, C) to (B, T, D)."""
        strings: tuple[list[torch.Tensor], list[torch.Tensor]] = ([], [])
        reads: tuple[list[torch.Tensor], list[torch.Tensor]] = ([], [])
        for sentence in token_characters.tolist():
            words = [[code + 2 for code in word if code > 0] for word in sentence]
            forward: list[int] = []
            forward_reads: list[int] = []
            for word in filter(None, words):
                forward += [*word, SPACE]
                forward_reads.append(len(forward) - 1)
            # The marker first, then the string from its end: a word is read at its first character.
            starts = [0, *(end + 1 for end in forward_reads[:-1])]
            strings[0].append(torch.tensor([*forward, MARKER]))
            strings[1].append(torch.tensor([MARKER, *forward[::-1]]))
            reads[0].append(torch.tensor(forward_reads))
            reads[1].append(torch.tensor([len(forward) - start for start in starts]))
        states = []
        for rnn, codes, positions in zip(self.rnns, strings, reads):
            outputs, _ = rnn(
                self.vectors(pad_sequence(codes, batch_first=True).to(token_characters.device))
            )  # (B, S, H)
            index = pad_sequence(positions, batch_first=True).to(outputs.device).unsqueeze(2)  # (B, T, 1)
            states.append(outputs.gather(1, index.expand(-1, -1, outputs.size(2))))
        return self.projection(torch.cat(states, dim=2))


class BaselineLanguageModel(torch.nn.Module):
    """The densely connected layers of one direction: `torch.cat` before each, and once more for the output."""

    def __init__(self, layers: FrozenLanguageModel) -> None:
        super().__init__()
        self.backward_lm = layers.direction == "backward"
        self.boundary_id = layers.boundary_id
        self.embedding = layers.embedding
        self.rnns = layers.selection.encoder.stacks[0].layers
        self.register_buffer("gates", layers.selection.gates.detach())

    def forward(self, token_ids: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """(B, T) to (B, T, D + L * H)."""
        if self.backward_lm:
            token_ids = reverse_sequences(token_ids, lengths)
        boundary = torch.full_like(token_ids[:, :1], self.boundary_id)
        outputs = [self.embedding(torch.cat([boundary, token_ids], dim=1))]
        for rnn, gate in zip(self.rnns, self.gates):
            output, _ = rnn(torch.cat(outputs, dim=2))
            outputs.append(output * gate)
        read = torch.cat(outputs, dim=2)[:, 1:]
        return reverse_sequences(read, lengths) if self.backward_lm else read


class BaselineTagger(Model):
    """
    # Parameters

    tagger : `LdnetTagger`
        As `synthetic_taggers` builds them: its parameters are shared or copied.
    """

    def __init__(self, tagger: LdnetTagger) -> None:
        super().__init__(tagger.vocab)
        embedders = tagger.text_field_embedder._token_embedders
        self.words = embedders["tokens"]
        self.characters = BaselineCharacters(embedders["token_characters"])
        self.lm_embedder: LdnetEmbedder | None = embedders.get("ldnet")
        models = [] if self.lm_embedder is None else self.lm_embedder.language_models.values()
        self.language_models = torch.nn.ModuleList(map(BaselineLanguageModel, models))
        self.encoder = torch.nn.ModuleList(
            one_direction(tagger.encoder._module, reverse) for reverse in (False, True)
        )
        self.tag_projection = tagger.tag_projection_layer
        scores = tagger.crf.scores(constrained=True)
        self.transitions, self.start, self.end = (part.detach() for part in scores)

    @overrides(check_signature=False)
    def forward(self, tokens: TextFieldTensors, metadata: list[dict[str, Any]]) -> dict[str, Any]:  # type: ignore
        mask = get_text_field_mask(tokens)
        lengths = mask.sum(dim=1)
        # The order of the text field embedder: by name.
        parts = []
        if self.lm_embedder is not None:
            token_ids = tokens["ldnet"]["token_ids"]
            read = torch.cat([model(token_ids, lengths) for model in self.language_models], dim=2)
            parts.append(self.lm_embedder.activation(self.lm_embedder.projection(read)))
        parts.append(self.characters(tokens["token_characters"]["token_characters"]))
        parts.append(self.words(tokens["tokens"]["tokens"]))
        vectors = torch.cat(parts, dim=2)
        forward, _ = self.encoder[0](vectors)
        backward, _ = self.encoder[1](reverse_sequences(vectors, lengths))
        encoded = torch.cat([forward, reverse_sequences(backward, lengths)], dim=2)
        paths = self.decode(self.tag_projection(encoded), lengths)
        return {"tags": paths, "words": [sentence["words"] for sentence in metadata]}

    def decode(self, logits: torch.Tensor, lengths: torch.Tensor) -> list[list[str]]:
        """As the original's `CRFDecode`: the scores of all pairs of tags at all steps first, then step by step."""
        pairs = logits.unsqueeze(2) + self.transitions  # (B, T, from, to)
        best = logits[:, 0] + self.start  # (B, N)
        bests, pointers = [best], []
        for step in range(1, logits.size(1)):
            best, pointer = (best.unsqueeze(2) + pairs[:, step]).max(dim=1)
            bests.append(best)
            pointers.append(pointer)
        tags = []
        for row, length in enumerate(lengths.tolist()):
            tag = int((bests[length - 1][row] + self.end).argmax())
            path = [tag]
            for pointer in reversed(pointers[: length - 1]):
                tag = int(pointer[row, tag])
                path.append(tag)
            tags.append([self.vocab.get_token_from_index(tag, "labels") for tag in reversed(path)])
        return tags


class _WithoutTags(DatasetReader):
    """Reads what the tagger's reader reads, without the labels."""

    def __init__(self, reader: DatasetReader) -> None:
        super().__init__()
        self._reader = reader.for_prediction() if isinstance(reader, ConllColumnsReader) else reader

    @overrides
    def _read(self, file_path: Any) -> Iterator[Instance]:
        yield from self._reader.read(file_path)

    @overrides
    def apply_token_indexers(self, instance: Instance) -> None:
        self._reader.apply_token_indexers(instance)


@Predictor.register("baseline")
class BaselinePredictor(Predictor):
    """
    AllenNLP's `Predictor` as it is, on the baseline of an "ldnet_tagger". The command's `--batch-size` sentences
    are one batch, as they come.

    # Parameters

    output : `str`, optional (default = `"json"`)
        "json" or "conll".
    """

    def __init__(
        self, model: Model, dataset_reader: DatasetReader, frozen: bool = True, output: str = "json"
    ) -> None:
        assert isinstance(model, LdnetTagger)
        super().__init__(BaselineTagger(model), _WithoutTags(dataset_reader), frozen)
        self._output = output

    @overrides
    def dump_line(self, outputs: JsonDict) -> str:
        if self._output == "conll":
            rows = zip(outputs["words"], outputs["tags"])
            return "".join(f"{word} {tag}\n" for word, tag in rows) + "\n"
        return super().dump_line(outputs)


@Predictor.register("upstream_crf_tagger")
class UpstreamPredictor(Predictor):
    """
    AllenNLP's `Predictor` as it is, for allennlp-models' `crf_tagger`, whose own default predictor builds a spaCy
    tokenizer that files of words do not need.
    """
