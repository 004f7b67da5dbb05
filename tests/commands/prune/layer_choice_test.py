import itertools

import pytest
import torch
from allennlp.common.checks import ConfigurationError
from allennlp.data import Vocabulary

from ldnet_allennlp.commands.prune.layer_choice import choose_layers, cut_gates, shown_layers
from ldnet_allennlp.data.language_model_vocabulary import store_words
from ldnet_allennlp.modules.embedders.language_model_source import LanguageModelSource
from ldnet_allennlp.modules.embedders.ldnet_embedder import LdnetEmbedder
from ldnet_allennlp.modules.rnn.ld_rnn import LdRnn
from ldnet_allennlp.modules.rnn.stacked_rnn import StackedRnn
from tests.taggers import set_gates


def embedder(gates=(0.7, 0.0, 1.0, 0.2, 0.4), layers=(3, 2), other=None):
    """Forward and backward, with so many layers; gates of both together."""
    vocab = Vocabulary()
    store_words(vocab, "ldnet_words", ["@@PADDING@@", "@@UNKNOWN@@", "word"])
    encoders = [LdRnn(2, 2, count) for count in layers]
    sources = [LanguageModelSource(contextualizer=encoder, boundary="") for encoder in encoders]
    if other is not None:
        sources[1] = LanguageModelSource(contextualizer=other, boundary="")
    built = LdnetEmbedder(vocab, *sources, lambda_0=0.1)
    set_gates(built, gates)
    return built


@pytest.mark.parametrize("count", range(6))
def test_the_largest_gates(count):
    """No other choice of as many layers has a larger sum."""
    built = embedder()
    kept = choose_layers([built], [str(count)])[0]
    gates = built.gates().tolist()
    numbered = {
        ("forward", 0): 0,
        ("forward", 1): 1,
        ("forward", 2): 2,
        ("backward", 0): 3,
        ("backward", 1): 4,
    }
    chosen = [gates[numbered[name, number]] for name, numbers in kept.items() for number in numbers]
    best = max(sum(some) for some in itertools.combinations(gates, count))
    assert sum(chosen) == pytest.approx(best) and 0.0 not in chosen
    assert len(chosen) == min(count, 4)  # a gate is 0
    assert all(numbers == sorted(numbers) for numbers in kept.values())


@pytest.mark.parametrize(
    "count, kept",
    [(1, ([0], [])), (2, ([0], [0])), (3, ([0, 1], [0])), (4, ([0, 1], [0, 1])), (5, ([0, 1, 2], [0, 1]))],
)
def test_of_equal_gates_the_lower_layers(count, kept):
    found = choose_layers([embedder([1.0] * 5)], [str(count)])
    assert found == [dict(zip(("forward", "backward"), kept))]


def test_several_embedders_share_the_number():
    first, second = embedder(), embedder([0.1, 0.9, 0.0, 0.8, 0.0])
    kept = choose_layers([first, second], ["3"])
    assert kept == [{"forward": [2], "backward": []}, {"forward": [1], "backward": [0]}]
    with pytest.raises(ConfigurationError, match="for one ldnet token embedder only, but the model has 2"):
        choose_layers([first, second], ["forward:1"])


def test_layers_without_gates_stay():
    built = embedder([0.7, 0.0, 1.0], other=StackedRnn(2, 2, 2))
    assert choose_layers([built], ["1"]) == [{"forward": [2], "backward": [0, 1]}]


@pytest.mark.parametrize(
    "keep, kept",
    [
        (["forward:1,3", "backward:2"], ([0, 2], [1])),
        (["backward:2,1"], ([], [0, 1])),
        (["forward:2", "backward:"], ([1], [])),
        (["forward:"], ([], [])),
    ],
)
def test_named_layers(keep, kept):
    assert choose_layers([embedder()], keep) == [dict(zip(("forward", "backward"), kept))]


def test_after_pruning_layers_have_their_old_numbers():
    built = embedder()
    built.prune({"forward": [0, 2], "backward": [1]})
    assert choose_layers([built], ["forward:3"]) == [{"forward": [2], "backward": []}]
    assert choose_layers([built], ["1"]) == [{"forward": [2], "backward": []}]
    with pytest.raises(
        ConfigurationError, match="forward language model has the layers 1 3, but 2 was to be kept"
    ):
        choose_layers([built], ["forward:1,2"])


@pytest.mark.parametrize(
    "keep, message",
    [
        (["6"], "--keep 6: the model has only 5 layers with a gate"),
        (["forward:4"], "forward language model has the layers 1 2 3, but 4 was to be kept"),
        (["forward:0"], "has the layers 1 2 3, but 0 was to be kept"),
        (["sideways:1"], "expects forward and backward, each once at most, but found 'sideways:1'"),
        (["forward:1", "forward:2"], "each once at most, but found 'forward:2'"),
        (["forward:one"], "such as forward:1,3 backward:2, but found 'forward:one'"),
        (["1", "2"], "such as forward:1,3 backward:2, but found '1'"),
        (["out.tar.gz"], "but found 'out.tar.gz'"),
    ],
)
def test_errors(keep, message):
    with pytest.raises(ConfigurationError, match=message):
        choose_layers([embedder()], keep)


def test_cut_gates():
    built = embedder([0.7, 0.1, 1.0, 0.2, 0.4])
    cut_gates([built], [{"forward": [1], "backward": [1]}])
    assert torch.allclose(built.gates(), torch.tensor([0.0, 0.1, 0.0, 0.0, 0.4]))


def test_a_bidirectional_language_model():
    """Its two stacks have names of their own, and its gates stand in their order."""
    vocab = Vocabulary()
    store_words(vocab, "ldnet_words", ["@@PADDING@@", "@@UNKNOWN@@", "word"])
    source = LanguageModelSource(contextualizer=LdRnn(2, 2, [2, 3], bidirectional=True), boundary="")
    built = LdnetEmbedder(vocab, bidirectional=source, lambda_0=0.1)
    set_gates(built, [0.1, 0.9, 0.0, 0.8, 0.2])
    assert choose_layers([built], ["2"]) == [{"forward": [1], "backward": [1]}]
    kept = choose_layers([built], ["backward:2,3"])
    cut_gates([built], kept)
    assert built.gates().tolist() == pytest.approx([0.0, 0.0, 0.0, 0.8, 0.2])
    built.prune(kept[0])
    assert built.all_layers() == {"forward": [], "backward": [1, 2]}


def test_shown_layers():
    assert shown_layers({"forward": [0, 2], "backward": []}) == "forward 1 3, backward none"
