import pytest
import torch
from allennlp.data import Vocabulary
from allennlp.models.archival import load_archive
from allennlp.nn import Activation

from ldnet_allennlp.data.language_model_vocabulary import read_architecture, words_of
from ldnet_allennlp.modules.embedders.language_model_source import LanguageModelSource
from ldnet_allennlp.modules.embedders.ldnet_embedder import LdnetEmbedder
from ldnet_allennlp.modules.rnn.ld_rnn import reverse_sequences
from tests.builders import WORDS, language_model_archive
from tests.taggers import set_gates

OTHER_WORDS = ["name", "zebra", "<eos>", *WORDS[1:9]]
SENTENCES = ["the list of a class", "python", "zebra is unknown name"]
GATES = [0.7, 0.0, 1.0, 0.3, 1.0, 0.4, 0.0, 0.9]
TINY = 1e-12  # in float64


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    folder = tmp_path_factory.mktemp("archives")
    names = ("forward", "backward", "bidirectional")
    paths = {
        name: language_model_archive(folder / name, name, seed=seed, hidden_size=4 + seed)
        for seed, name in enumerate(names)
    }
    paths["other"] = language_model_archive(folder / "other", "backward", words=OTHER_WORDS, seed=7)
    return paths


def source(path, **options):
    return LanguageModelSource(pretrained_file=path, **options)


def build(archives, names=("forward", "backward"), gates=GATES, vocab=None, **options):
    """An embedder in float64; `other` is a backward language model with words of its own."""
    torch.manual_seed(3)
    sources = {"backward" if name == "other" else name: source(archives[name]) for name in names}
    embedder = LdnetEmbedder(vocab or Vocabulary(), **sources, **options).double().eval()
    if gates is not None:
        set_gates(embedder, gates)
    return embedder


def ids_of(path, sentences=SENTENCES):
    """The ids in a language model's own vocabulary, (B, T)."""
    vocab = load_archive(path).model.vocab
    rows = [
        torch.tensor([vocab.get_token_index(word, "tokens") for word in sentence.split()])
        for sentence in sentences
    ]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)


def read_stack(layers, vectors, gates):
    """One direction over one sentence, layer by layer: (T, D) -> (T, D + L * H)."""
    known = vectors
    for layer, gate in zip(layers, gates):
        output, _ = layer(known.unsqueeze(0))
        known = torch.cat([known, gate * output.squeeze(0)], dim=-1)
    return known


def by_hand(path, ids, gates, boundary="<eos>"):
    """The language model's own layers over one sentence, one direction or both. (T,) -> (T, output size)"""
    model = load_archive(path).model.double().eval()
    vectors = model._text_field_embedder.token_embedder_tokens.weight[ids]
    if boundary:
        first = model._text_field_embedder.token_embedder_tokens.weight[
            model.vocab.get_token_index(boundary, "tokens")
        ].unsqueeze(0)
    else:
        first = vectors[:0]
    forward, backward = model._contextualizer.stacks[0], model._contextualizer.stacks[-1]
    outputs = []
    if model.direction != "backward":
        outputs.append(read_stack(forward.layers, torch.cat([first, vectors]), gates)[len(first) :])
        gates = gates[len(forward.layers) :]
    if model.direction != "forward":
        read = read_stack(backward.layers, torch.cat([first, vectors.flip(0)]), gates)[len(first) :]
        outputs.append(read.flip(0))
    return torch.cat(outputs, dim=-1).detach()


def check_against_hand(output, parts):
    """`parts`: path, ids (B, T) and gates of each language model, in the order of the output."""
    for row, sentence in enumerate(SENTENCES):
        length = len(sentence.split())
        expected = torch.cat([by_hand(path, ids[row, :length], gates) for path, ids, gates in parts], dim=-1)
        torch.testing.assert_close(output[row, :length], expected, rtol=0, atol=TINY)
        assert not output[row, length:].any()


@pytest.mark.parametrize("gates", [GATES, [1.0] * 8])
def test_forward_and_backward_by_hand(archives, gates):
    embedder, ids = build(archives, gates=gates), ids_of(archives["forward"])
    parts = [(archives["forward"], ids, gates[:4]), (archives["backward"], ids, gates[4:])]
    output = embedder(ids)
    assert output.size(-1) == embedder.get_output_dim() == (6 + 4 * 4) + (6 + 4 * 5)
    check_against_hand(output, parts)


def test_bidirectional_by_hand(archives):
    embedder, ids = build(archives, ["bidirectional"]), ids_of(archives["bidirectional"])
    output = embedder(ids)
    assert output.size(-1) == embedder.get_output_dim()
    check_against_hand(output, [(archives["bidirectional"], ids, GATES)])


@pytest.mark.parametrize("name", ["forward", "backward", "bidirectional"])
def test_one_source_alone_and_without_boundary(archives, name):
    gates = GATES if name == "bidirectional" else GATES[:4]
    vocab = Vocabulary()
    embedder = LdnetEmbedder(vocab, **{name: source(archives[name], boundary="")}).double().eval()
    set_gates(embedder, gates)
    ids = ids_of(archives[name])
    output = embedder(ids)
    for row, sentence in enumerate(SENTENCES):
        length = len(sentence.split())
        expected = by_hand(archives[name], ids[row, :length], gates, boundary=None)
        torch.testing.assert_close(output[row, :length], expected, rtol=0, atol=TINY)
    assert read_architecture(vocab, "ldnet")[name]["boundary"] == ""


def test_backward_is_forward_on_reversed_sentences(archives):
    """The weights of one language model, read in both directions."""
    embedder, ids = build(archives, gates=None), ids_of(archives["forward"])
    other = build(archives, ["forward"], gates=None)
    forward, backward = other.language_models["forward_lm"], embedder.language_models["backward_lm"]
    backward.selection.encoder = forward.selection.encoder
    backward.embedding = forward.embedding
    mask = ids != 0
    lengths = mask.sum(1)
    expected = reverse_sequences(forward(reverse_sequences(ids, lengths), mask), lengths)
    torch.testing.assert_close(backward(ids, mask), expected, rtol=0, atol=TINY)


@pytest.mark.parametrize("names", [("forward", "backward"), ("bidirectional",)])
def test_neither_padding_nor_neighbors_matter(archives, names):
    embedder, ids = build(archives, names), ids_of(archives["forward"])
    together = embedder(ids)
    padded = embedder(torch.nn.functional.pad(ids, (0, 4)))
    torch.testing.assert_close(padded[:, : ids.size(1)], together, rtol=0, atol=TINY)
    for row, sentence in enumerate(SENTENCES):
        length = len(sentence.split())
        alone = embedder(ids[row : row + 1, :length])
        torch.testing.assert_close(alone[0], together[row, :length], rtol=0, atol=TINY)
    empty = embedder(torch.cat([ids, torch.zeros_like(ids[:1])]))
    torch.testing.assert_close(empty[:-1], together, rtol=0, atol=TINY)
    assert not empty[-1].any()


def test_same_words_share_a_namespace(archives):
    vocab = Vocabulary()
    build(archives, vocab=vocab)
    assert words_of(vocab, "ldnet_words")[2:] == WORDS
    assert "ldnet_backward_words" not in vocab._token_to_index


def test_different_words_have_two_namespaces(archives):
    vocab = Vocabulary()
    embedder = build(archives, ("forward", "other"), vocab=vocab)
    assert words_of(vocab, "ldnet_words")[2:] == WORDS
    assert words_of(vocab, "ldnet_backward_words")[2:] == OTHER_WORDS
    ids, own = ids_of(archives["forward"]), ids_of(archives["other"])
    assert not torch.equal(ids, own)
    parts = [(archives["forward"], ids, GATES[:4]), (archives["other"], own, GATES[4:])]
    check_against_hand(embedder(ids, own), parts)


def test_unknown_words_have_one_vector(archives):
    embedder = build(archives)
    known, unknown, other = (
        embedder(ids_of(archives["forward"], [f"the {word}"])) for word in ("list", "Qwerty", "zebra")
    )
    assert torch.equal(unknown, other)
    assert not torch.allclose(known[:, 1], unknown[:, 1])


def test_projection_and_activation(archives):
    ids = ids_of(archives["forward"])
    layers = build(archives)(ids)
    for name, activation in (("relu", torch.relu), ("tanh", torch.tanh)):
        options = {} if name == "relu" else {"activation": Activation.by_name(name)()}
        embedder = build(archives, projection_dim=3, **options)
        expected = activation(layers @ embedder.projection.weight.t() + embedder.projection.bias)
        assert embedder.get_output_dim() == 3
        torch.testing.assert_close(embedder(ids), expected, rtol=0, atol=TINY)


def test_dropout_on_the_layers_before_the_projection(archives):
    ids = ids_of(archives["forward"])
    layers = build(archives)(ids)
    embedder = build(archives, dropout=0.5).train()
    dropped = embedder(ids)
    kept = dropped != 0
    torch.testing.assert_close(dropped[kept], 2 * layers[kept], rtol=0, atol=TINY)
    real = layers[layers != 0].numel()
    assert 0.3 * real < int(kept.sum()) < 0.7 * real
    # The language models themselves have no dropout left, though they were trained with it.
    assert torch.equal(build(archives).train()(ids), layers)


@pytest.mark.parametrize("lambda_0, requires_grad", [(None, False), (0.1, False), (0.1, True)])
def test_what_is_trained(archives, lambda_0, requires_grad):
    options = {"lambda_0": lambda_0, "requires_grad": requires_grad}
    embedder = build(archives, gates=[0.5] * 8, projection_dim=3, **options)
    embedder(ids_of(archives["forward"])).pow(2).sum().backward()
    for name, parameter in embedder.named_parameters():
        trained = (
            name.startswith("projection")
            or (name.endswith("gates") and lambda_0 is not None)
            or requires_grad
        )
        assert parameter.requires_grad is trained, name
        assert (parameter.grad is not None and bool(parameter.grad.any())) is trained, name


@pytest.mark.parametrize("lambda_1", [0, 5, 6])
def test_the_penalty_is_taken_over_both_directions_together(archives, lambda_1):
    embedder = build(archives, lambda_0=0.3, lambda_1=lambda_1)  # 6 of 8 gates are above 0
    drive = sum(gate * (1 - gate) for gate in GATES)
    over_budget = sum(GATES) if lambda_1 < 6 else 0.0
    assert embedder.penalty().item() == pytest.approx(0.3 * (drive + over_budget), abs=1e-12)
    embedder.penalty().backward()
    slopes = [0.3 * (1 - 2 * gate + (1 if gate > 0 and lambda_1 < 6 else 0)) for gate in GATES]
    gradients = torch.cat([model.selection.gates.grad for model in embedder.language_models.values()])
    assert gradients.tolist() == pytest.approx(slopes, abs=1e-12)


def test_no_penalty_without_trained_gates(archives):
    assert build(archives).penalty() is None


def test_kept_and_all_layers(archives):
    assert build(archives).kept_layers() == {"forward": [0, 2, 3], "backward": [0, 1, 3]}
    assert build(archives).all_layers() == {"forward": [0, 1, 2, 3], "backward": [0, 1, 2, 3]}
    assert build(archives, ["bidirectional"]).kept_layers() == build(archives).kept_layers()
    assert build(archives, ["backward"], gates=[0, 0, 1, 0]).kept_layers() == {"backward": [2]}
