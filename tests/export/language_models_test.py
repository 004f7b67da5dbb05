import pytest

from ldnet_allennlp.convert.original_files import read_checkpoint, read_options
from ldnet_allennlp.convert.taggers import convert_tagger
from ldnet_allennlp.convert.weights import Converted
from tests.builders import WORDS, language_model_archive
from tests.convert.originals import CHECKPOINTS, TAGGERS, reader_of, sentences
from tests.export.comparing import build, largest_difference
from tests.taggers import build_language_models, build_tagger, ldnet_embedder, set_gates, tagger_params

GATES = [1.0, 0.0, 0.5, 0.0, 0.0, 1.0, 0.0, 0.25]
READER = {
    "type": "conll_columns",
    "token_indexers": {"ldnet": {"type": "ldnet"}},
}
INPUT_SIZE, HIDDEN_SIZE, LAYERS = 6, 5, 4


@pytest.fixture(scope="module")
def language_models(tmp_path_factory):
    return build_language_models(tmp_path_factory.mktemp("lm"))


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    folder = tmp_path_factory.mktemp("archives")
    return {
        "forward": language_model_archive(folder / "forward", "forward", seed=1),
        "backward": language_model_archive(folder / "backward", "backward", seed=2),
        "backward with other words": language_model_archive(
            folder / "other", "backward", seed=3, words=["<eos>", "Zork", "name", "of", "x"]
        ),
        "bidirectional": language_model_archive(folder / "both", "bidirectional", seed=4),
    }


def ldnet_tagger(sources, directions, **options):
    """A tagger that reads nothing but language models, given as archives."""
    embedder = {
        "type": "ldnet",
        **{name: {"pretrained_file": path} for name, path in sources.items()},
        **options,
    }
    size = options.get("projection_dim") or directions * (INPUT_SIZE + LAYERS * HIDDEN_SIZE)
    return build(
        {"type": "lstm", "input_size": size, "hidden_size": 5, "bidirectional": True},
        reader=READER,
        text_field_embedder={"token_embedders": {"ldnet": embedder}},
    )


@pytest.mark.parametrize("cell_type", ["lstm", "gru", "rnn"])
def test_all_layers(tmp_path, cell_type):
    archives = build_language_models(tmp_path, cell_type=cell_type)
    tagger = build_tagger(tagger_params(archives, "ner"))
    assert largest_difference(tagger.model, tagger.reader) < 1e-5


@pytest.mark.parametrize("gates", [GATES, [1.0] * 7 + [0.5], [0.0] * 8])
def test_gates(language_models, gates):
    tagger = build_tagger(tagger_params(language_models, "select"))
    set_gates(tagger.embedder, gates)
    assert largest_difference(tagger.model, tagger.reader) < 1e-5


def test_pruned_layers(language_models):
    tagger = build_tagger(tagger_params(language_models, "select"))
    set_gates(tagger.embedder, GATES)
    tagger.embedder.prune()
    assert largest_difference(tagger.model, tagger.reader) < 1e-5


@pytest.mark.parametrize("projection", [{}, {"projection_dim": 7, "activation": "tanh"}])
@pytest.mark.parametrize("backward", ["backward", "backward with other words"])
def test_two_language_models_with_one_vocabulary_or_two(archives, backward, projection):
    sources = {"forward": archives["forward"], "backward": archives[backward]}
    assert largest_difference(*ldnet_tagger(sources, 2, **projection)) < 1e-5


@pytest.mark.parametrize("gates", [[1.0] * 8, GATES])
@pytest.mark.parametrize("projection", [{}, {"projection_dim": 7}])
def test_a_bidirectional_language_model(archives, projection, gates):
    model, reader = ldnet_tagger({"bidirectional": archives["bidirectional"]}, 2, **projection)
    set_gates(ldnet_embedder(model), gates)
    assert largest_difference(model, reader) < 1e-5


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_one_language_model(archives, direction):
    assert largest_difference(*ldnet_tagger({direction: archives[direction]}, 1)) < 1e-5


@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_a_language_model_without_a_boundary(archives, direction):
    model, reader = ldnet_tagger({direction: archives[direction]}, 1 if direction == "forward" else 2)
    for part in ldnet_embedder(model).language_models.values():
        part.boundary_id = None
    assert largest_difference(model, reader) < 1e-5


def test_kept_words_are_read_as_before_and_others_as_unknown(archives):
    model, reader = ldnet_tagger({"forward": archives["forward"]}, 1)
    kept = WORDS[1:6]
    kept_sentences = [kept, kept[:1], [kept[3], "Zyxgloub-7"]]
    assert largest_difference(model, reader, kept_sentences, keep_words=kept) < 1e-5
    assert largest_difference(model, reader, [[*kept, WORDS[8]]], keep_words=kept) > 1e-3


@pytest.fixture(scope="module", params=sorted(TAGGERS))
def converted(request) -> Converted:
    path = str(CHECKPOINTS / f"{request.param}.th")
    tagger = convert_tagger(read_checkpoint(path), TAGGERS[request.param], read_options(path, None))
    tagger.model.float().eval()
    return tagger


def test_taggers_of_the_original(converted):
    words = [[word for word, _ in sentence] for sentence in sentences("test")]
    # Scores around 10.
    assert largest_difference(converted.model, reader_of(converted), words) < 5e-5
