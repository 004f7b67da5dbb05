import copy

import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.data import Vocabulary

from ldnet_allennlp.data.language_model_vocabulary import store_architecture, store_words
from ldnet_allennlp.modules.embedders.frozen_language_model import FrozenLanguageModel
from ldnet_allennlp.modules.embedders.language_model_source import LanguageModelSource
from ldnet_allennlp.modules.embedders.ldnet_embedder import LdnetEmbedder
from ldnet_allennlp.modules.rnn.ld_rnn import LdRnn
from tests.modules.embedders.ldnet_embedder_test import (  # noqa: F401 (a fixture)
    GATES,
    TINY,
    archives,
    build,
    ids_of,
    source,
)
from tests.taggers import set_gates

SOURCES = [("forward", "backward"), ("bidirectional",), ("forward", "other")]


def close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=0, atol=TINY)


def read(embedder, archives, names):  # noqa: F811
    ids = ids_of(archives[names[0]])
    return embedder(ids, ids_of(archives["other"])) if "other" in names else embedder(ids)


@pytest.mark.parametrize("names", SOURCES)
def test_the_projection_gives_the_same_as_before(archives, names):  # noqa: F811
    embedder = build(archives, names, projection_dim=3)
    before = read(embedder, archives, names)
    size = sum(parameter.numel() for parameter in embedder.parameters())
    embedder.prune()
    close(read(embedder, archives, names), before)
    assert embedder.all_layers() == {"forward": [0, 2, 3], "backward": [0, 1, 3]}
    assert sum(parameter.numel() for parameter in embedder.parameters()) < size
    assert embedder.projection.in_features == embedder.projection.weight.size(1) == embedder._layers_dim()


@pytest.mark.parametrize("names", SOURCES)
def test_without_projection_the_kept_columns_are_left(archives, names):  # noqa: F811
    embedder = build(archives, names)
    before = read(embedder, archives, names)
    sizes = [model.selection.encoder.hidden_size for model in embedder.language_models.values()]
    sizes = sizes * 2 if len(sizes) == 1 else sizes
    kept = []
    for size, gates in zip(sizes, (GATES[:4], GATES[4:])):
        kept += [True] * 6 + [gate > 0 for gate in gates for _ in range(size)]
    embedder.prune()
    assert embedder.get_output_dim() == sum(kept)
    close(read(embedder, archives, names), before[..., torch.tensor(kept)])


def test_layers_given_by_name(archives):  # noqa: F811
    """What a layer to be cut gave is not there any more, for later layers neither."""
    embedder = build(archives, projection_dim=3)
    ids = ids_of(archives["forward"])
    gates = [0.7, 0.0, 0.0, 0.0, 0.0, 0.4, 0.0, 0.9]
    twin = copy.deepcopy(embedder)
    set_gates(twin, gates)
    expected = twin(ids)
    embedder.prune({"backward": [3, 1], "forward": [0]})
    close(embedder(ids), expected)
    assert embedder.all_layers() == {"forward": [0], "backward": [1, 3]}


def test_a_direction_that_is_not_named_loses_all_layers(archives):  # noqa: F811
    embedder = build(archives)
    embedder.prune({"backward": [0, 1, 2, 3]})
    assert embedder.all_layers() == {"forward": [], "backward": [0, 1, 2, 3]}


def test_to_no_layers_at_all(archives):  # noqa: F811
    embedder = build(archives, gates=[0.0] * 8, projection_dim=3)
    ids = ids_of(archives["forward"])
    before = embedder(ids)
    embedder.prune()
    close(embedder(ids), before)
    assert embedder.all_layers() == {"forward": [], "backward": []}
    assert embedder.gates().numel() == 0 and embedder.kept_layers() == {"forward": [], "backward": []}
    embedder.prune()
    close(embedder(ids), before)


def test_twice(archives):  # noqa: F811
    """Layers keep the numbers that they had in the unpruned language model."""
    embedder = build(archives, projection_dim=3)
    ids = ids_of(archives["forward"])
    embedder.prune()
    set_gates(embedder, [0.7, 0.0, 0.3, 0.0, 0.4, 0.9])
    before = embedder(ids)
    assert embedder.kept_layers() == {"forward": [0, 3], "backward": [1, 3]}
    embedder.prune()
    close(embedder(ids), before)
    assert embedder.all_layers() == {"forward": [0, 3], "backward": [1, 3]}


@pytest.mark.parametrize("options", [{}, {"lambda_0": 0.1}, {"lambda_0": 0.1, "requires_grad": True}])
def test_what_is_trained_stays_the_same(archives, options):  # noqa: F811
    embedder = build(archives, projection_dim=3, **options)
    embedder.projection.weight.requires_grad_(False)
    before = {name: parameter.requires_grad for name, parameter in embedder.named_parameters()}
    embedder.train().prune()
    after = {name: parameter.requires_grad for name, parameter in embedder.named_parameters()}
    assert after and all(before[name] is trained for name, trained in after.items())
    assert all(module.training for module in embedder.modules())


@pytest.mark.parametrize(
    "keep, message",
    [
        (
            {"forward": [0, 4], "backward": []},
            r"forward language model has the layers \[0, 1, 2, 3\].*\[0, 4\]",
        ),
        ({"forward": [0], "backward": [-1]}, r"backward language model .* but \[-1\]"),
        ({"forward": [1, 1]}, r"each to be kept once or not at all, but \[1, 1\]"),
        ({"backwards": [0]}, "given for forward and backward, but 'backwards' was found"),
    ],
)
def test_layers_that_are_not_there(archives, keep, message):  # noqa: F811
    embedder = build(archives)
    ids = ids_of(archives["forward"])
    before = embedder(ids)
    with pytest.raises(ConfigurationError, match=message):
        embedder.prune(keep)
    close(embedder(ids), before)  # and nothing was cut
    assert embedder.all_layers() == {"forward": [0, 1, 2, 3], "backward": [0, 1, 2, 3]}


@pytest.mark.parametrize("names", SOURCES)
@pytest.mark.parametrize("pruned", [False, True])
def test_the_description_and_the_weights_make_the_same_again(archives, names, pruned):  # noqa: F811
    vocab = Vocabulary()
    embedder = build(archives, names, vocab=vocab, projection_dim=3)
    if pruned:
        embedder.prune()
    sources = Params(embedder.describe())
    again = LdnetEmbedder(
        vocab,
        **{name: LanguageModelSource.from_params(sources.pop(name)) for name in list(sources)},
        projection_dim=3,
    ).double()
    again.load_state_dict(embedder.state_dict())
    close(read(again.eval(), archives, names), read(embedder, archives, names))
    assert again.all_layers() == embedder.all_layers()


def test_the_vocabulary_describes_the_language_models(archives):  # noqa: F811
    vocab = Vocabulary()
    embedder = build(archives, vocab=vocab)
    again = LdnetEmbedder(vocab, forward=LanguageModelSource(), backward=LanguageModelSource()).double()
    again.load_state_dict(embedder.state_dict())
    ids = ids_of(archives["forward"])
    close(again(ids), embedder(ids))


def test_no_language_model_or_too_many(archives):  # noqa: F811
    with pytest.raises(ConfigurationError, match="or one bidirectional one, but it was given: none"):
        LdnetEmbedder(Vocabulary())
    both = {name: source(archives[name]) for name in ("forward", "bidirectional")}
    with pytest.raises(ConfigurationError, match="but it was given: forward, bidirectional"):
        LdnetEmbedder(Vocabulary(), **both)


@pytest.mark.parametrize("wanted, given", [("forward", "backward"), ("backward", "bidirectional")])
def test_the_wrong_direction(archives, wanted, given):  # noqa: F811
    message = f"A {wanted} language model was expected in '.*', .*|but it holds a {given} one"
    with pytest.raises(ConfigurationError, match=message) as caught:
        LdnetEmbedder(Vocabulary(), **{wanted: source(archives[given])})
    assert archives[given] in str(caught.value) and f"holds a {given} one" in str(caught.value)


def test_neither_an_archive_nor_a_description():
    with pytest.raises(
        ConfigurationError, match=r"forward language model .* has neither a pretrained_file nor"
    ):
        LdnetEmbedder(Vocabulary(), forward=LanguageModelSource())


def test_weights_that_never_came(archives):  # noqa: F811
    vocab = Vocabulary()
    build(archives, vocab=vocab)
    embedder = LdnetEmbedder(vocab, forward=LanguageModelSource(), backward=LanguageModelSource())
    with pytest.raises(
        ConfigurationError, match=r"forward language model .* has no weights\. Give its archive"
    ):
        embedder(ids_of(archives["forward"]))


def test_a_vocabulary_of_other_words(archives):  # noqa: F811
    vocab = Vocabulary()
    store_words(vocab, "ldnet_words", ["@@PADDING@@", "@@UNKNOWN@@", "counted", "by", "mistake"])
    with pytest.raises(ConfigurationError, match=r"'ldnet_words', expected the .* words of the"):
        build(archives, vocab=vocab)


def test_a_vocabulary_with_two_word_lists_and_language_models_with_one(archives):  # noqa: F811
    vocab = Vocabulary()
    build(archives, ("forward", "other"), vocab=vocab)
    with pytest.raises(ConfigurationError, match="'ldnet_backward_words', expected the"):
        build(archives, vocab=vocab)


def test_a_vocabulary_of_another_architecture(archives):  # noqa: F811
    vocab = Vocabulary()
    store_architecture(vocab, "ldnet", {"forward": {"contextualizer": {"num_layers": 9}, "boundary": None}})
    with pytest.raises(ConfigurationError, match="other language models in the vocabulary under 'ldnet'"):
        build(archives, vocab=vocab)


def test_a_boundary_that_is_no_word(archives):  # noqa: F811
    with pytest.raises(ConfigurationError, match=r"'<S>' of the forward language model .* 'ldnet_words'"):
        LdnetEmbedder(Vocabulary(), forward=source(archives["forward"], boundary="<S>"))


@pytest.mark.parametrize("options", [{"lambda_0": -0.1}, {"lambda_1": -1}])
def test_negative_penalties(archives, options):  # noqa: F811
    with pytest.raises(ConfigurationError, match="expected 0 or more"):
        LdnetEmbedder(Vocabulary(), forward=source(archives["forward"]), **options)


def test_numbers_of_other_layers_than_there_are():
    with pytest.raises(
        ConfigurationError, match=r"has \[3\] layers per direction, but the numbers of \[2\] layers"
    ):
        FrozenLanguageModel("forward", LdRnn(4, 3, 3), 9, None, None, [[0, 2]], False, False)


@pytest.mark.parametrize("names", SOURCES)
@pytest.mark.parametrize("prunes", [False, True])
def test_folded_gates_are_in_the_weights(archives, names, prunes):  # noqa: F811
    embedder = build(archives, names, projection_dim=3)
    before = read(embedder, archives, names)
    if prunes:
        embedder.prune()
    embedder.fold_gates()
    close(read(embedder, archives, names), before)
    assert embedder.gates().eq(1).all()


def test_gates_are_not_folded_without_a_projection(archives):  # noqa: F811
    embedder = build(archives)
    gates = embedder.gates()
    with pytest.raises(ConfigurationError, match=r"it has no projection \(projection_dim\)"):
        embedder.fold_gates()
    assert torch.equal(embedder.gates(), gates)


def test_how_many_layers_there_were_is_kept(archives):  # noqa: F811
    embedder = build(archives)
    assert "unpruned_layers" not in embedder.describe()["forward"]
    embedder.prune({"forward": [1], "backward": []})
    assert embedder.describe()["forward"]["unpruned_layers"] == [4]
    embedder.prune({"forward": [], "backward": []})
    assert embedder.describe()["forward"]["unpruned_layers"] == [4]


@pytest.mark.parametrize("unpruned, expected", [(None, [3]), ([7], [7]), ([2], None), ([3, 3], None)])
def test_how_many_layers_there_were_is_at_least_what_is_left(unpruned, expected):
    options = {
        "num_words": 3,
        "boundary_id": None,
        "boundary": None,
        "train_gates": False,
        "requires_grad": False,
    }

    def make():
        layers = [[0, 2]]
        return FrozenLanguageModel(
            "forward", LdRnn(2, 2, 2), layers=layers, unpruned_layers=unpruned, **options
        )

    if expected is None:
        with pytest.raises(ConfigurationError, match=r"at least \[3\] layers per direction before pruning"):
            make()
    else:
        assert make().unpruned_layers == expected
